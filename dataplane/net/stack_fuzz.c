/*
 * Fuzzes the stack with sequences: the input is a program of frames (raw, or built with right checksums and numbers near the right
 * ones, so that they get deep), passing time and acts of the app. After each step the books must balance, chunks must be accounted
 * for, and the calls up must be in a legal order. libFuzzer.
 */
#include "tcp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PORTS = 6, CLIENT_PORT = 1000 };

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			__builtin_trap(); \
	} while (0)

struct input {
	const uint8_t *at;
	size_t left;
};

static uint32_t take(struct input *input, int bytes)
{
	uint32_t value = 0;
	while (bytes-- && input->left) {
		value = value << 8 | *input->at++;
		input->left--;
	}
	return value;
}

struct flow {
	struct dp_stream *stream;
	bool eof, closed_by_app;
	int32_t limit;                     /* bytes that the app takes per call, -1: all */
	uint8_t act_inside;                /* 1 send, 2 close, 3 abort, 4 resume, in the next call up */
	uint32_t client_next, server_next; /* as last seen on the wire */
};

static struct flow flows[2][PORTS]; /* by family */
static struct dp_stack *stack;
static struct tp_counters counters;
static uint64_t now_ns;
static uint8_t out[2048];
static bool out_open, no_frames, blocked;

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1}, ours4[4] = {10, 0, 0, 1}, peer4[4] = {10, 0, 0, 2};
static const uint8_t ours6[16] = {0xfd, [15] = 1}, peer6[16] = {0xfd, [15] = 2};

static struct flow *flow_of(const struct dp_stream *stream)
{
	return &flows[stream->peer.addr.family == 6][stream->peer.port % PORTS];
}

static void act(struct flow *flow)
{
	static const uint8_t bytes[3000];
	uint8_t what = flow->act_inside;
	flow->act_inside = 0;
	switch (what) {
	case 1:
		flow->stream->ops->send(flow->stream, bytes, 2500);
		break;
	case 2:
		flow->stream->ops->close(flow->stream);
		flow->closed_by_app = true;
		break;
	case 3:
		flow->stream->ops->abort(flow->stream);
		flow->closed_by_app = true;
		break;
	case 4:
		flow->stream->ops->resume(flow->stream);
		break;
	default:
		break;
	}
}

bool dp_stream_opened(struct dp_stream *stream)
{
	struct flow *flow = flow_of(stream);
	if (flow->stream)
		return false; /* two ports of one remainder, or an older one whose end is still to be told */
	flow->stream = stream;
	flow->eof = flow->closed_by_app = false;
	act(flow);
	return true;
}

size_t dp_stream_input(struct dp_stream *stream, const uint8_t *bytes, size_t count)
{
	struct flow *flow = flow_of(stream);
	CHECK(flow->stream == stream && !flow->eof && !flow->closed_by_app && count > 0);
	uint32_t sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += bytes[i];
	(void)*(volatile uint32_t *)&sum;
	act(flow);
	return flow->limit < 0 || (size_t)flow->limit > count ? count : (size_t)flow->limit;
}

void dp_stream_eof(struct dp_stream *stream)
{
	struct flow *flow = flow_of(stream);
	CHECK(flow->stream == stream && !flow->eof && !flow->closed_by_app);
	flow->eof = true;
	act(flow);
}

void dp_stream_writable(struct dp_stream *stream)
{
	struct flow *flow = flow_of(stream);
	CHECK(flow->stream == stream && !flow->closed_by_app);
	act(flow);
}

void dp_stream_closed(struct dp_stream *stream)
{
	struct flow *flow = flow_of(stream);
	CHECK(flow->stream == stream);
	act(flow); /* acts on a stream that is gone must do no harm */
	flow->stream = NULL;
}

void dp_datagram_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	(void)beacon;
	path->send(path, bytes, count);
}

static void *frame_open(void *context, size_t bytes)
{
	(void)context;
	CHECK(!out_open && bytes <= 1518);
	if (no_frames)
		return NULL;
	out_open = true;
	return out;
}

/* Learns the numbers, so that what comes next can be near them. */
static void frame_send(void *context, void *frame, size_t bytes)
{
	(void)context;
	CHECK(out_open && frame == out && bytes <= 1518);
	out_open = false;
	const uint8_t *at = out + 12;
	if (dp_get16(at) == 0x8100)
		at += 4;
	uint16_t type = dp_get16(at);
	bool six = type == 0x86dd;
	const uint8_t *ip = at + 2, *tcp = ip + (six ? 40 : 20);
	if ((type != 0x0800 && !six) || (six ? ip[6] : ip[9]) != 6)
		return;
	struct flow *flow = &flows[six][dp_get16(tcp + 2) % PORTS];
	uint32_t payload = (uint32_t)(out + bytes - tcp) - (uint32_t)(tcp[12] >> 4) * 4;
	flow->server_next = dp_get32(tcp + 4) + payload + (tcp[13] & (DP_SYN | DP_FIN) ? 1 : 0);
	if (tcp[13] & DP_ACK)
		flow->client_next = dp_get32(tcp + 8);
}

static bool is_blocked(void *context, const struct tp_addr *peer)
{
	(void)context;
	(void)peer;
	return blocked;
}

static void check_books(void)
{
	uint64_t ended = 0;
	for (int i = TP_C_FRAMES_ACCEPTED; i <= TP_C_FRAMES_BLOCKLISTED; i++)
		ended += counters.v[i];
	CHECK(ended == counters.v[TP_C_FRAMES_RECEIVED]);
	const struct dp_tcp *tcp = stack->tcp;
	uint32_t held = 0, holders = 0, live = 0, ringed = 0;
	for (uint32_t i = 0; i < tcp->conns_max; i++) {
		const struct dp_conn *conn = &tcp->conn[i];
		held += conn->tx_chunks + conn->rx_chunks;
		holders += conn->tx_chunks > 0;
		ringed += conn->rings != 0;
		CHECK((conn->rings != 0) == (conn->tx_chunks || conn->rx_chunks));
		if (conn->state == DP_TCP_CLOSED)
			continue;
		live++;
		CHECK(dp_seq_le(conn->snd_una, conn->snd_nxt) && dp_seq_le(conn->snd_nxt, conn->snd_max));
		CHECK(dp_seq_le(conn->snd_max, conn->snd_end + 1) && conn->snd_end - conn->snd_una + 1 <= DP_SEND_MAX + 1);
		CHECK(dp_seq_le(conn->rcv_read, conn->rcv_nxt) && dp_seq_le(conn->rcv_nxt, conn->rcv_adv));
		CHECK(conn->rcv_adv - conn->rcv_read <= DP_WINDOW_SCALED);
		CHECK(conn->ranges <= DP_RANGES_MAX);
		for (uint32_t r = 0; r < conn->ranges; r++) {
			const struct dp_range *range = &tcp->rings[conn->rings - 1].range[r];
			CHECK(dp_seq_lt(conn->rcv_nxt, range->from) && dp_seq_lt(range->from, range->to) &&
			      dp_seq_le(range->to, conn->rcv_adv));
		}
		for (uint32_t r = 0; r < conn->sacked; r++) {
			const struct dp_range *sacked = &tcp->rings[conn->rings - 1].sacked[r];
			CHECK(dp_seq_lt(r ? sacked[-1].to : conn->snd_una, sacked->from) && dp_seq_lt(sacked->from, sacked->to) &&
			      dp_seq_le(sacked->to, conn->snd_max));
		}
		CHECK(!conn->sacked || conn->flags & DP_C_SACK);
		CHECK(conn->timer.link);
		CHECK(!conn->tx_chunks || dp_seq_lt(conn->snd_una, conn->snd_end));
		CHECK(!conn->brief_bytes || (dp_seq_lt(conn->snd_una, conn->brief_seq + conn->brief_bytes) &&
					     dp_seq_le(conn->brief_seq + conn->brief_bytes, conn->snd_end)));
		CHECK(!conn->rx_chunks || conn->ranges || conn->rcv_read != conn->rcv_nxt || conn->flags & DP_C_DISCARD);
	}
	CHECK(held + tcp->chunks_free == tcp->chunks && holders == tcp->tx_holders);
	CHECK(ringed + tcp->rings_left == tcp->rings_max);
	CHECK(live <= tcp->conns);
}

static void send_frame(const uint8_t *frame, size_t bytes)
{
	uint8_t *exact = malloc(bytes ? bytes : 1);
	memcpy(exact, frame, bytes);
	dp_stack_input(stack, exact, bytes, now_ns);
	free(exact);
}

/* Ethernet and IP around l4 at frame + headers; the l4 checksum at `field` of it is made right. */
static void wrap_and_send(uint8_t *frame, bool six, uint16_t tci, uint8_t protocol, uint8_t *l4, size_t l4_bytes, int field,
			  const uint8_t *group)
{
	uint8_t *at = frame;
	memcpy(at, our_mac, 6);
	memcpy(at + 6, "\2\0\0\0\0\x55", 6);
	at += 12;
	if (tci) {
		dp_put16(at, 0x8100);
		dp_put16(at + 2, tci);
		at += 4;
	}
	dp_put16(at, six ? 0x86dd : 0x0800);
	at += 2;
	struct tp_addr from = six ? dp_addr_from6(peer6) : dp_addr_from4(peer4),
		       to = six ? dp_addr_from6(ours6) : dp_addr_from4(ours4);
	if (group)
		to = dp_addr_from6(group);
	if (field >= 0) {
		bool pseudo = protocol != 1;
		dp_put16(l4 + field, 0);
		dp_put_sum(l4 + field, dp_sum(l4, l4_bytes, pseudo ? dp_ip_pseudo(&from, &to, protocol, l4_bytes) : 0));
	}
	if (six) {
		dp_put32(at, 0x60000000);
		dp_put16(at + 4, (uint16_t)l4_bytes);
		at[6] = protocol;
		at[7] = 255;
		memcpy(at + 8, from.byte, 16);
		memcpy(at + 24, to.byte, 16);
		at += 40;
	} else {
		memset(at, 0, 20);
		at[0] = 0x45;
		dp_put16(at + 2, (uint16_t)(20 + l4_bytes));
		at[8] = 64;
		at[9] = protocol;
		memcpy(at + 12, peer4, 4);
		memcpy(at + 16, ours4, 4);
		dp_put_sum(at + 10, dp_sum(at, 20, 0));
		at += 20;
	}
	memcpy(at, l4, l4_bytes);
	send_frame(frame, (size_t)(at - frame) + l4_bytes);
}

static void do_tcp(struct input *input, bool sack)
{
	uint8_t frame[4000], l4[3000] = {0};
	uint32_t head = take(input, 1), shape = take(input, 1);
	bool six = head & 1;
	uint32_t port = CLIENT_PORT + (head >> 1 & 7);
	struct flow *flow = &flows[six][port % PORTS];
	static const uint8_t flags[8] = {DP_ACK, DP_SYN, DP_ACK | DP_PSH, DP_ACK | DP_FIN, DP_RST, DP_ACK, DP_ACK | DP_PSH, DP_ACK};
	uint8_t flag = head & 0x80 ? (uint8_t)take(input, 1) : flags[head >> 4 & 7];
	/* small displacements, where the comparisons are */
	uint32_t seq = flow->client_next, ack = flow->server_next;
	if (shape & 1)
		seq += (uint32_t)(int32_t)(int16_t)take(input, 2);
	if (shape & 2)
		ack += (uint32_t)(int32_t)(int8_t)take(input, 1);
	if (shape & 4)
		seq += take(input, 4);
	if (shape & 8)
		ack += (uint32_t)(int32_t)(int16_t)take(input, 2);
	uint32_t window = shape & 16 ? take(input, 2) : 60000;
	uint8_t *option = l4 + 20;
	if (flag & DP_SYN && !(shape & 32)) {
		dp_put32(option, 0x020405b4);
		dp_put32(option + 4, 0x01010402);
		dp_put32(option + 8, 0x01030302);
		option += 12;
	}
	if (shape & 64) {
		dp_put32(option, 0x0101080a);
		dp_put32(option + 4, (uint32_t)(now_ns >> 20) + (uint32_t)(int32_t)(int8_t)take(input, 1));
		option += 12;
	}
	if (shape & 32) { /* options as they come */
		uint32_t bytes = take(input, 1) & 12;
		for (uint32_t i = 0; i < bytes; i++)
			*option++ = (uint8_t)take(input, 1);
	}
	if (sack) { /* blocks near what is in flight */
		uint32_t blocks = 1 + take(input, 1) % 2;
		dp_put32(option, 0x01010502 + blocks * 8);
		option += 4;
		for (uint32_t i = 0; i < blocks; i++, option += 8) {
			uint32_t from = ack + take(input, 2) % 4096;
			dp_put32(option, from);
			dp_put32(option + 4, from + take(input, 2) % 2048);
		}
	}
	uint32_t bytes = shape & 128 ? take(input, 2) % 1500 : 0, header_bytes = (uint32_t)(option - l4);
	dp_put16(l4, (uint16_t)port);
	dp_put16(l4 + 2, 80);
	dp_put32(l4 + 4, seq);
	dp_put32(l4 + 8, ack);
	l4[12] = (uint8_t)(header_bytes << 2);
	l4[13] = flag;
	dp_put16(l4 + 14, (uint16_t)window);
	wrap_and_send(frame, six, port & 1 ? 0x2005 : 0, 6, l4, header_bytes + bytes, 16, NULL);
}

static void do_raw(struct input *input, bool addressed)
{
	uint8_t frame[2000];
	uint32_t bytes = take(input, 2) % 1600;
	for (uint32_t i = 0; i < bytes; i++)
		frame[i] = (uint8_t)take(input, 1);
	if (addressed && bytes >= 14) {
		memcpy(frame, our_mac, 6);
		static const uint16_t types[4] = {0x0800, 0x0806, 0x86dd, 0x8100};
		dp_put16(frame + 12, types[frame[12] & 3]);
	}
	send_frame(frame, bytes);
}

/* A protocol's bytes as they come, inside headers that are right. */
static void do_l4(struct input *input)
{
	static const uint8_t group[16] = {0xff, 2, [11] = 1, [12] = 0xff, [15] = 1};
	uint8_t frame[2000], l4[600];
	uint32_t kind = take(input, 1), bytes = 8 + take(input, 1);
	bool six = kind & 1;
	for (uint32_t i = 0; i < bytes; i++)
		l4[i] = (uint8_t)take(input, 1);
	switch (kind >> 1 & 3) {
	case 0:
		dp_put16(l4 + 2, kind & 16 ? 7771 : 9);
		if (kind & 32)
			dp_put16(l4 + 4, (uint16_t)bytes);
		wrap_and_send(frame, six, 0, 17, l4, bytes, 6, NULL);
		break;
	case 1:
		if (six) {
			l4[0] = (uint8_t)(kind & 16 ? 128 + (l4[0] & 15) : 2);
			if (kind & 32 && bytes >= 24)
				memcpy(l4 + 8, ours6, 16);
		} else {
			l4[0] = kind & 16 ? 8 : 3;
		}
		wrap_and_send(frame, six, 0, six ? 58 : 1, l4, bytes, 2, six && kind & 64 ? group : NULL);
		break;
	default: /* extension headers, odd protocols */
		wrap_and_send(frame, six, 0, (uint8_t)take(input, 1), l4, bytes, -1, NULL);
		break;
	}
}

static void do_app(struct input *input)
{
	uint32_t what = take(input, 1);
	struct flow *flow = &flows[what & 1][(what >> 1 & 7) % PORTS];
	uint8_t verb = what >> 4 & 7;
	if (verb == 5) {
		flow->limit = (int32_t)take(input, 2) - 1;
	} else if (what & 128) {
		flow->act_inside = verb;
	} else if (flow->stream && verb) {
		flow->act_inside = verb;
		act(flow);
	}
}

static void step(struct input *input)
{
	uint32_t op = take(input, 1);
	switch (op & 15) {
	case 0:
		do_raw(input, false);
		break;
	case 1:
		do_raw(input, true);
		break;
	case 2:
		do_l4(input);
		break;
	case 3:
	case 4:
		do_app(input);
		break;
	case 5:
		now_ns += (uint64_t)take(input, 1) << 22;
		dp_stack_tick(stack, now_ns);
		break;
	case 6:
		now_ns += (uint64_t)take(input, 2) << 24;
		dp_stack_tick(stack, now_ns);
		break;
	case 7:
		no_frames = op & 16;
		blocked = op & 32;
		if ((op & 0xf0) == 0xf0)
			dp_stack_drain(stack, now_ns);
		break;
	case 8:
		dp_stack_flush(stack, now_ns);
		break;
	default:
		do_tcp(input, op & 32);
		if (op & 16)
			dp_stack_flush(stack, now_ns);
		break;
	}
	check_books();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tp_prefix address[2] = {{.bits = 24}, {.bits = 64}};
	address[0].addr = dp_addr_from4(ours4);
	address[1].addr = dp_addr_from6(ours6);
	struct dp_stack_options options = {
		.mtu = 1500,
		.address = address,
		.address_count = 2,
		.http_port = 80,
		.udp_port = 7771,
		.connections_max = 6,
		.reserve_max = size & 1 ? 1 : 0,
		.claim = size & 4,
		.send_buffer_bytes = size & 2 ? 8192 : 63488,
		.secret = {1, 2},
		.counters = &counters,
		.frame_open = frame_open,
		.frame_send = frame_send,
		.blocked = is_blocked,
	};
	memcpy(options.mac, our_mac, 6);
	memset(flows, 0, sizeof(flows));
	for (int i = 0; i < 2 * PORTS; i++)
		flows[i / PORTS][i % PORTS].limit = -1;
	memset(&counters, 0, sizeof(counters));
	no_frames = blocked = out_open = false;
	now_ns = 1000000000;
	CHECK(dp_stack_create(&stack, &options) == 0);
	struct input input = {data, size};
	while (input.left)
		step(&input);
	dp_stack_destroy(stack);
	for (int i = 0; i < 2 * PORTS; i++)
		CHECK(!flows[i / PORTS][i % PORTS].stream);
	return 0;
}
