/*
 * The parts of net_script.h under the scripts: the port that the stack sends to, frames by hand, the books. Tests only.
 */
#include "net_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MTU4 = 1500, MTU6 = 1520, FRAMES = 256 };

const uint8_t script_our_mac[6] = {0x02, 0, 0, 0, 0, 0x01}, script_peer_mac[6] = {0x02, 0, 0, 0, 0, 0x55};
const uint8_t script_our4[4] = {10, 0, 0, 1}, script_peer4[4] = {10, 0, 0, 2}, script_far4[4] = {192, 0, 2, 9};
const uint8_t script_our6[16] = {0xfd, 0, [7] = 1, [15] = 1}, script_peer6[16] = {0xfd, 0, [7] = 1, [15] = 2};

static struct script_net *current;

void dp_datagram_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	(void)beacon;
	current->datagrams++;
	current->datagram_bytes = count;
	memcpy(current->datagram, bytes, count < sizeof(current->datagram) ? count : sizeof(current->datagram));
	current->path = *path;
	if (current->echo_datagrams)
		path->send(path, bytes, count);
}

/* ---- the port under the stack ---- */

static void *frame_open(void *context, size_t bytes)
{
	struct script_net *net = context;
	assert_true(bytes <= sizeof(net->frame[0]));
	if (!net->grant)
		return NULL;
	if (net->grant > 0)
		net->grant--;
	if (net->frames == FRAMES)
		fail_msg("the stack sent 256 frames that nobody expected");
	return net->frame[(net->frames_first + net->frames) % FRAMES];
}

static void frame_send(void *context, void *frame, size_t bytes)
{
	struct script_net *net = context;
	uint32_t at = (net->frames_first + net->frames) % FRAMES;
	assert_ptr_equal(frame, net->frame[at]);
	net->frame_bytes[at] = bytes;
	net->frames++;
}

static void conflict(void *context, const struct tp_addr *addr, const uint8_t mac[6])
{
	assert_true(addr->family == 4 || addr->family == 6);
	assert_memory_not_equal(mac, script_our_mac, 6);
	((struct script_net *)context)->conflicts++;
}

static bool blocked(void *context, const struct tp_addr *peer)
{
	(void)peer;
	return ((struct script_net *)context)->blocked;
}

void script_open(struct script_net *net, const struct script_options *options)
{
	memset(net, 0, sizeof(*net));
	net->grant = -1;
	net->now_ns = 10 * DP_SECOND;
	struct tp_prefix address[2] = {{.bits = 24}, {.bits = 64}};
	address[0].addr = dp_addr_from4(script_our4);
	address[1].addr = dp_addr_from6(script_our6);
	uint8_t gateway[4] = {10, 0, 0, 254};
	struct tp_addr gateways[1] = {dp_addr_from4(gateway)};
	struct dp_stack_options with = {
		.mtu = options->family == 6 ? MTU6 : MTU4,
		.address = address,
		.address_count = 2,
		.gateway = gateways,
		.gateway_count = 1,
		.http_port = SCRIPT_HTTP_PORT,
		.udp_port = SCRIPT_UDP_PORT,
		.ingest = 3,
		.connections_max = options->connections_max ? options->connections_max : 64,
		.reserve_max = options->reserve_max,
		.send_buffer_bytes = 32768,
		.secret = {0x1234, 0x5678},
		.counters = &net->counters,
		.frame_open = frame_open,
		.frame_send = frame_send,
		.context = net,
		.claim = options->claim,
		.conflict = conflict,
		.blocked = blocked,
		.blocked_context = net,
	};
	memcpy(with.mac, script_our_mac, 6);
	current = net;
	assert_int_equal(dp_stack_create(&net->stack, &with), 0);
	dp_stack_tick(net->stack, net->now_ns);
}

void script_close(struct script_net *net)
{
	net->frames = 0;
	dp_stack_destroy(net->stack);
	current = NULL;
}

void script_input(struct script_net *net, const uint8_t *frame, size_t bytes)
{
	/* An exact copy on the heap, so that the address sanitizer sees a read past the end. */
	uint8_t *copy = malloc(bytes ? bytes : 1);
	memcpy(copy, frame, bytes);
	dp_stack_input(net->stack, copy, bytes, net->now_ns);
	free(copy);
}

const uint8_t *script_next(struct script_net *net, size_t *bytes)
{
	if (!net->frames)
		return NULL;
	const uint8_t *frame = net->frame[net->frames_first];
	*bytes = net->frame_bytes[net->frames_first];
	net->frames_first = (net->frames_first + 1) % FRAMES;
	net->frames--;
	return frame;
}

void script_books(const struct script_net *net)
{
	uint64_t received = 0, ended = 0;
	static const uint8_t kind[TP_COUNTERS] = {
#define X(name, layer, kind, label, help) TP_LAYER_##layer == TP_LAYER_FRAMES ? 1 + TP_KIND_##kind : 0,
		TP_COUNTER_TABLE(X)
#undef X
	};
	for (int i = 0; i < TP_COUNTERS; i++) {
		if (kind[i] == 1 + TP_KIND_RECEIVED)
			received += net->counters.v[i];
		else if (kind[i])
			ended += net->counters.v[i];
	}
	assert_int_equal(received, ended);
	const struct dp_tcp *tcp = net->stack->tcp;
	uint32_t held = 0, holders = 0;
	for (uint32_t i = 0; i < tcp->conns_max; i++) {
		held += tcp->conn[i].tx_chunks + tcp->conn[i].rx_chunks;
		holders += tcp->conn[i].tx_chunks > 0;
		const struct dp_conn *conn = &tcp->conn[i];
		if (conn->state == DP_TCP_CLOSED)
			continue;
		/* chunks only while bytes wait */
		if (!dp_seq_lt(conn->snd_una, conn->snd_end))
			assert_int_equal(conn->tx_chunks + conn->brief_bytes, 0);
		/* and every byte that is out is kept somewhere */
		else if (!conn->tx_chunks)
			assert_int_equal(conn->brief_seq + conn->brief_bytes, conn->snd_end);
		if (conn->rcv_read == conn->rcv_nxt && !conn->ranges)
			assert_int_equal(conn->rx_chunks, 0);
	}
	assert_int_equal(held + tcp->chunks_free, tcp->chunks);
	assert_int_equal(holders, tcp->tx_holders);
	if (tcp->chunks_reserved == tcp->conns_max)
		assert_true(tcp->chunks_free >= tcp->conns_max - holders);
	/* rings only with chunks */
	uint32_t ringed = 0;
	for (uint32_t i = 0; i < tcp->conns_max; i++) {
		assert_int_equal(tcp->conn[i].rings != 0, tcp->conn[i].tx_chunks || tcp->conn[i].rx_chunks);
		ringed += tcp->conn[i].rings != 0;
	}
	assert_int_equal(ringed + tcp->rings_left, tcp->rings_max);
}

/* ---- frames, by hand ---- */

uint16_t script_sum(const void *bytes, size_t count, uint32_t sum)
{
	const uint8_t *at = bytes;
	for (size_t i = 0; i < count; i++)
		sum += i & 1 ? at[i] : (uint32_t)at[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint32_t script_pseudo(uint8_t family, const uint8_t *from, const uint8_t *to, uint8_t protocol, size_t bytes)
{
	uint32_t sum = protocol + (uint32_t)bytes;
	for (int i = 0; i < (family == 4 ? 4 : 16); i += 2)
		sum += (uint32_t)from[i] * 256 + from[i + 1] + (uint32_t)to[i] * 256 + to[i + 1];
	return sum;
}

uint8_t *script_put(uint8_t *at, uint64_t value, int bytes)
{
	for (int i = bytes; i-- > 0; value >>= 8)
		at[i] = (uint8_t)value;
	return at + bytes;
}

uint32_t script_get(const uint8_t *at, int bytes)
{
	uint32_t value = 0;
	for (int i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

size_t script_wrap(uint8_t *frame, uint8_t family, uint16_t vlan, const uint8_t *from, const uint8_t *to, uint8_t protocol,
		   uint8_t hop_limit, const uint8_t *l4, size_t l4_bytes)
{
	uint8_t *at = frame;
	memcpy(at, script_our_mac, 6);
	memcpy(at + 6, script_peer_mac, 6);
	at += 12;
	if (vlan != DP_UNTAGGED)
		at = script_put(at, 0x81000000U | vlan, 4);
	at = script_put(at, family == 4 ? 0x0800 : 0x86dd, 2);
	if (family == 4) {
		uint8_t *ip = at;
		at = script_put(at, 0x4500, 2);
		at = script_put(at, 20 + l4_bytes, 2);
		at = script_put(at, 0x12344000, 4);
		at = script_put(at, (uint32_t)hop_limit << 8 | protocol, 2);
		at = script_put(at, 0, 2);
		memcpy(at, from, 4);
		memcpy(at + 4, to, 4);
		script_put(ip + 10, script_sum(ip, 20, 0), 2);
		at += 8;
	} else {
		at = script_put(at, 0x60000000, 4);
		at = script_put(at, l4_bytes, 2);
		at = script_put(at, (uint32_t)protocol << 8 | hop_limit, 2);
		memcpy(at, from, 16);
		memcpy(at + 16, to, 16);
		at += 32;
	}
	memcpy(at, l4, l4_bytes);
	return (size_t)(at - frame) + l4_bytes;
}

void script_end(struct script_net *net, const uint8_t *frame, size_t bytes, enum tp_counter counter)
{
	uint64_t before = net->counters.v[counter];
	script_input(net, frame, bytes);
	script_books(net);
	if (net->counters.v[counter] != before + 1)
		for (int i = TP_C_FRAMES_RECEIVED + 1; i < TP_COUNTERS; i++)
			if (net->counters.v[i])
				print_message("counter %d is %llu\n", i, (unsigned long long)net->counters.v[i]);
	assert_int_equal(net->counters.v[counter], before + 1);
}
