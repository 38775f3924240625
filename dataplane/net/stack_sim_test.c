/*
 * The stack against clients of another kind over a bad link, all from one seed: frames are dropped, doubled, delayed past each
 * other and corrupted; clients shut their windows; the app takes bytes slowly and answers late. Every byte must come back in order,
 * every connection must end, and at the end nothing may be held.
 *
 *   clients (go-back-N, in-order only, own parser) ── link ── stack ── echo app
 *
 * STACK_SIM_SEED=n runs that one seed, with a line per connection.
 */
#include "tcp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
	CLIENTS = 24,
	FRAME_MAX = 1600,
	IN_FLIGHT_MAX = 8192,
	APP_BYTES = 6000,
	CLIENT_PORT = 20000,
	STEPS_MAX = 3000000,
	PATIENCE_MS = 200000
};

static uint64_t seed;

static uint32_t random32(void)
{
	seed += 0x9e3779b97f4a7c15ULL;
	uint64_t value = seed;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
	return (uint32_t)(value ^ value >> 31);
}

static uint32_t below(uint32_t limit)
{
	return limit ? (uint32_t)((uint64_t)random32() * limit >> 32) : 0;
}

static bool chance(uint32_t in_thousand)
{
	return below(1000) < in_thousand;
}

static uint32_t get(const uint8_t *at, int bytes)
{
	uint32_t value = 0;
	while (bytes--)
		value = value << 8 | *at++;
	return value;
}

static void put(uint8_t *at, uint32_t value, int bytes)
{
	while (bytes--) {
		at[bytes] = (uint8_t)value;
		value >>= 8;
	}
}

static uint16_t sum16(const uint8_t *at, size_t count, uint32_t sum)
{
	for (size_t i = 0; i < count; i++)
		sum += i & 1 ? at[i] : (uint32_t)at[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* ---- the link ---- */

struct weather {
	uint32_t drop, twice, late, corrupt; /* of a thousand */
	uint32_t delay_ms, late_ms;
};

struct flying {
	uint64_t at_ms;
	bool to_stack;
	uint32_t bytes;
	uint8_t frame[FRAME_MAX];
};

static struct {
	struct dp_stack *stack;
	struct tp_counters counters;
	struct weather weather;
	uint64_t now_ms;
	struct flying flying[IN_FLIGHT_MAX];
	uint32_t in_flight;
	uint32_t no_frames; /* of a thousand: the port has no buffer */
	uint8_t open[FRAME_MAX];
} world;

static void link_put(bool to_stack, const uint8_t *frame, size_t bytes)
{
	const struct weather *w = &world.weather;
	if (chance(w->drop))
		return;
	int copies = chance(w->twice) ? 2 : 1;
	while (copies--) {
		if (world.in_flight == IN_FLIGHT_MAX)
			return;
		struct flying *flying = &world.flying[world.in_flight++];
		flying->at_ms = world.now_ms + 1 + below(w->delay_ms) + (chance(w->late) ? below(w->late_ms) : 0);
		flying->to_stack = to_stack;
		flying->bytes = (uint32_t)bytes;
		memcpy(flying->frame, frame, bytes);
		if (chance(w->corrupt)) {
			/* not the source MAC: only Ethernet's own check covers it, and it would turn the flow away for good */
			uint32_t bit = (chance(50) ? 0 : 12) * 8 + below(48);
			if (bit >= 96)
				bit = 96 + below((uint32_t)bytes * 8 - 96);
			flying->frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

static void *frame_open(void *context, size_t bytes)
{
	(void)context;
	assert_true(bytes <= 1514);
	return chance(world.no_frames) ? NULL : world.open;
}

static void frame_send(void *context, void *frame, size_t bytes)
{
	(void)context;
	link_put(false, frame, bytes);
}

/* ---- the app: echo through a small buffer ---- */

struct app {
	struct dp_stream *stream;
	uint8_t buffer[APP_BYTES];
	uint32_t held, answer_at_ms;
	bool paused, eof, closed, late;
};

static struct app apps[CLIENTS];

static struct app *app_of(const struct dp_stream *stream)
{
	return &apps[stream->peer.port - CLIENT_PORT];
}

static void app_answer(struct app *app)
{
	if (app->held) {
		size_t sent = app->stream->ops->send(app->stream, app->buffer, app->held);
		app->held -= (uint32_t)sent;
		memmove(app->buffer, app->buffer + sent, app->held);
	}
	if (app->paused && app->held < APP_BYTES / 2) {
		app->paused = false;
		app->stream->ops->resume(app->stream);
	}
	if (app->eof && !app->held && !app->closed) {
		app->closed = true;
		app->stream->ops->close(app->stream);
	}
}

bool dp_stream_opened(struct dp_stream *stream)
{
	struct app *app = app_of(stream);
	assert_null(app->stream);
	*app = (struct app){.stream = stream, .late = chance(300)};
	return true;
}

size_t dp_stream_input(struct dp_stream *stream, const uint8_t *bytes, size_t count)
{
	struct app *app = app_of(stream);
	assert_false(app->eof || app->closed);
	uint32_t room = APP_BYTES - app->held, taken = count < room ? (uint32_t)count : room;
	if (chance(100))
		taken = below(taken + 1);
	memcpy(app->buffer + app->held, bytes, taken);
	app->held += taken;
	app->paused = taken < count;
	if (!app->late)
		app_answer(app);
	return taken;
}

void dp_stream_eof(struct dp_stream *stream)
{
	struct app *app = app_of(stream);
	assert_false(app->eof);
	app->eof = true;
	if (!app->late)
		app_answer(app);
}

void dp_stream_writable(struct dp_stream *stream)
{
	app_answer(app_of(stream));
}

void dp_stream_closed(struct dp_stream *stream)
{
	struct app *app = app_of(stream);
	assert_ptr_equal(app->stream, stream);
	app->stream = NULL;
}

void dp_datagram_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	(void)beacon;
	(void)path;
	(void)bytes;
	(void)count;
}

/* ---- the client: a TCP of another make ---- */

enum client_state { IDLE, SYN_SENT, OPEN, DONE, BROKEN };

struct client {
	enum client_state state;
	uint32_t index;
	uint64_t start_ms, timer_ms, shut_until_ms, heard_ms;
	uint32_t backoff;
	/* numbers relative to the initial ones */
	uint32_t iss, irs, una, nxt, got, total, window, mss;
	bool timestamps, fin_acked, fin_got, open_window_owed;
	uint8_t shift;
	uint32_t ts_echo;
};

static struct client clients[CLIENTS];
static const uint8_t stack_mac[6] = {2, 0, 0, 0, 0, 1};

static uint8_t stream_byte(const struct client *c, uint32_t at)
{
	return (uint8_t)((at ^ at >> 8) * 31 + c->index * 7);
}

/* Flags as in TCP. Data from stream position `from`. */
static void client_send(struct client *c, uint8_t flags, uint32_t from, uint32_t bytes)
{
	uint8_t frame[FRAME_MAX] = {0};
	memcpy(frame, stack_mac, 6);
	frame[6] = 2;
	frame[11] = (uint8_t)(0x80 + c->index);
	frame[12] = 8;
	uint8_t *ip = frame + 14, *tcp = ip + 20, *option = tcp + 20;
	if (flags & DP_SYN) {
		put(option, 0x02040000 | c->mss, 4);
		option += 4;
		put(option, 0x01010402, 4);
		option += 4;
		put(option, 0x01030300U | c->shift, 4);
		option += 4;
	}
	if (c->timestamps) {
		put(option, 0x0101080a, 4);
		put(option + 4, (uint32_t)world.now_ms, 4);
		put(option + 8, c->ts_echo, 4);
		option += 12;
	}
	for (uint32_t i = 0; i < bytes; i++)
		option[i] = stream_byte(c, from + i);
	uint32_t tcp_bytes = (uint32_t)(option - tcp) + bytes;
	put(tcp, CLIENT_PORT + c->index, 2);
	put(tcp + 2, 80, 2);
	put(tcp + 4, c->iss + (flags & DP_SYN ? 0 : 1 + from), 4);
	if (flags & DP_ACK)
		put(tcp + 8, c->irs + 1 + c->got + c->fin_got, 4);
	tcp[12] = (uint8_t)((option - tcp) << 2);
	tcp[13] = flags;
	bool shut = world.now_ms < c->shut_until_ms;
	put(tcp + 14, shut ? 0 : 20000, 2);
	put(ip, 0x45000000 | (20 + tcp_bytes), 4);
	put(ip + 4, 0x4000, 4);
	put(ip + 8, 0x40060000, 4);
	put(ip + 12, 0x0a000002, 4);
	put(ip + 16, 0x0a000001, 4);
	put(ip + 10, sum16(ip, 20, 0), 2);
	put(tcp + 16, sum16(tcp, tcp_bytes, 0x0a00 + 2 + 0x0a00 + 1 + 6 + tcp_bytes), 2);
	link_put(true, frame, 34 + tcp_bytes);
}

static void client_ack(struct client *c)
{
	client_send(c, DP_ACK, c->nxt < c->total ? c->nxt : c->nxt, 0);
}

/* Sends what the stack's window and eight segments allow. The FIN has stream position `total`. */
static void client_push(struct client *c)
{
	uint32_t limit = c->una + dp_min32(c->window, 8 * c->mss);
	while (c->nxt < c->total && c->nxt < limit) {
		uint32_t bytes = dp_min32(dp_min32(c->total - c->nxt, limit - c->nxt), 1 + below(c->mss - 12));
		client_send(c, DP_ACK | DP_PSH, c->nxt, bytes);
		c->nxt += bytes;
	}
	if (c->nxt == c->total && !c->fin_acked) {
		client_send(c, DP_ACK | DP_FIN, c->total, 0);
		c->nxt++;
	}
	if (!c->timer_ms && c->una < c->total + 1)
		c->timer_ms = world.now_ms + (300ULL << c->backoff);
}

static void client_timer(struct client *c)
{
	if (c->backoff < 6)
		c->backoff++;
	c->timer_ms = 0;
	if (c->state == SYN_SENT) {
		client_send(c, DP_SYN, 0, 0);
		c->timer_ms = world.now_ms + (500ULL << c->backoff);
		return;
	}
	c->nxt = c->una;
	if (!c->window && c->una < c->total) { /* probe */
		client_send(c, DP_ACK, c->una, 1);
		c->nxt = c->una + 1;
	}
	client_push(c);
	if (!c->timer_ms)
		c->timer_ms = world.now_ms + (300ULL << c->backoff);
}

static void client_acked(struct client *c, uint32_t ack)
{
	if ((int32_t)(ack - c->una) <= 0 || ack > c->total + 1)
		return;
	c->una = ack;
	if (c->nxt < ack)
		c->nxt = ack;
	if (ack == c->total + 1)
		c->fin_acked = true;
	c->backoff = 0;
	c->timer_ms = c->fin_acked ? 0 : world.now_ms + 300;
}

static void client_input(const uint8_t *frame, uint32_t bytes)
{
	if (bytes < 54 || get(frame + 12, 2) != 0x0800 || sum16(frame + 14, 20, 0))
		return;
	const uint8_t *ip = frame + 14, *tcp = ip + 20;
	uint32_t tcp_bytes = get(ip + 2, 2) - 20;
	if (tcp_bytes + 34 > bytes || sum16(tcp, tcp_bytes, 0x0a00 + 2 + 0x0a00 + 1 + 6 + tcp_bytes))
		return;
	uint32_t index = get(tcp + 2, 2) - CLIENT_PORT;
	if (index >= CLIENTS || frame[11] == 0 || frame[5] != 0x80 + index || memcmp(frame, "\2\0\0\0\0", 5))
		return; /* corrupted on the way to another MAC */
	struct client *c = &clients[index];
	uint8_t flags = tcp[13], header = (uint8_t)(tcp[12] >> 4 << 2);
	uint32_t seq = get(tcp + 4, 4), ack = get(tcp + 8, 4) - c->iss - 1;
	if (c->state == IDLE)
		return;
	c->heard_ms = world.now_ms;
	if (flags & DP_RST) {
		if (c->state != DONE)
			c->state = BROKEN;
		return;
	}
	if (c->timestamps && header >= 32)
		for (const uint8_t *o = tcp + 20; o < tcp + header && *o; o += *o == 1 ? 1 : o[1])
			if (*o == 8)
				c->ts_echo = get(o + 2, 4);
	if (c->state == SYN_SENT) {
		if (!(flags & DP_SYN) || ack != 0)
			return;
		c->irs = seq;
		c->state = OPEN;
		c->window = get(tcp + 14, 2);
		c->timer_ms = 0;
		c->backoff = 0;
		client_ack(c);
		client_push(c);
		return;
	}
	if (c->state == DONE) { /* our last ACK was lost */
		client_ack(c);
		return;
	}
	if (flags & DP_SYN) {
		client_ack(c);
		return;
	}
	if (flags & DP_ACK) {
		client_acked(c, ack);
		c->window = get(tcp + 14, 2);
	}
	uint32_t at = seq - c->irs - 1, count = tcp_bytes - header;
	const uint8_t *data = tcp + header;
	bool shut = world.now_ms < c->shut_until_ms;
	if (count && !shut && (int32_t)(at - c->got) <= 0 && at + count > c->got && !c->fin_got) {
		data += c->got - at;
		uint32_t fresh = at + count - c->got;
		for (uint32_t i = 0; i < fresh; i++)
			assert_int_equal(data[i], stream_byte(c, c->got + i));
		c->got += fresh;
		if (chance(20))
			c->shut_until_ms = world.now_ms + below(3000);
	}
	if (flags & DP_FIN && at + count == c->got && !c->fin_got && !shut) {
		assert_int_equal(c->got, c->total); /* the echo is complete before the end */
		c->fin_got = true;
	}
	if (count || flags & DP_FIN)
		client_ack(c);
	if (c->fin_got && c->fin_acked)
		c->state = DONE;
	else
		client_push(c);
}

static void client_step(struct client *c)
{
	if (c->state == IDLE && world.now_ms >= c->start_ms) {
		c->state = SYN_SENT;
		c->heard_ms = world.now_ms;
		client_send(c, DP_SYN, 0, 0);
		c->timer_ms = world.now_ms + 500;
		return;
	}
	if (c->state != SYN_SENT && c->state != OPEN)
		return;
	if (world.now_ms - c->heard_ms > PATIENCE_MS) { /* even the RST was lost */
		c->state = BROKEN;
		return;
	}
	if (c->timer_ms && world.now_ms >= c->timer_ms)
		client_timer(c);
	if (c->shut_until_ms && world.now_ms >= c->shut_until_ms) {
		c->shut_until_ms = 0;
		client_ack(c); /* the window update; when it is lost, the stack must probe */
	}
}

/* ---- running ---- */

static void world_open(const struct weather *weather)
{
	memset(&world, 0, sizeof(world));
	memset(apps, 0, sizeof(apps));
	memset(clients, 0, sizeof(clients));
	world.weather = *weather;
	world.now_ms = 1000;
	static const uint8_t ours[4] = {10, 0, 0, 1};
	struct tp_prefix address = {.addr = dp_addr_from4(ours), .bits = 24};
	struct dp_stack_options options = {
		.mtu = 1500,
		.address = &address,
		.address_count = 1,
		.http_port = 80,
		.connections_max = CLIENTS,
		.send_buffer_bytes = 16384,
		.secret = {seed, ~seed},
		.counters = &world.counters,
		.frame_open = frame_open,
		.frame_send = frame_send,
	};
	memcpy(options.mac, stack_mac, 6);
	assert_int_equal(dp_stack_create(&world.stack, &options), 0);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct client *c = &clients[i];
		c->index = i;
		c->start_ms = world.now_ms + below(500);
		c->iss = random32();
		c->total = chance(200) ? below(10) : below(60000);
		c->mss = 100 + below(1361);
		c->timestamps = chance(500);
		c->shift = (uint8_t)below(3);
	}
}

static void deliver(void)
{
	for (uint32_t i = 0; i < world.in_flight;) {
		struct flying *flying = &world.flying[i];
		if (flying->at_ms > world.now_ms) {
			i++;
			continue;
		}
		static struct flying arrived;
		arrived = *flying;
		*flying = world.flying[--world.in_flight]; /* whoever flies last takes the place: more reordering */
		if (arrived.to_stack)
			dp_stack_input(world.stack, arrived.frame, arrived.bytes, world.now_ms * DP_MS);
		else
			client_input(arrived.frame, arrived.bytes);
	}
}

static bool step(void)
{
	world.now_ms++;
	deliver();
	for (uint32_t i = 0; i < CLIENTS; i++)
		if (apps[i].stream && apps[i].late && chance(50))
			app_answer(&apps[i]);
	dp_stack_flush(world.stack, world.now_ms * DP_MS);
	dp_stack_tick(world.stack, world.now_ms * DP_MS);
	bool busy = false;
	for (uint32_t i = 0; i < CLIENTS; i++) {
		client_step(&clients[i]);
		busy |= clients[i].state == IDLE || clients[i].state == SYN_SENT || clients[i].state == OPEN;
	}
	return busy;
}

/* Returns how many connections were cut. */
static uint32_t run(uint64_t with_seed, const struct weather *weather, uint32_t no_frames, bool loud)
{
	seed = with_seed;
	world_open(weather);
	world.no_frames = no_frames;
	uint32_t steps = 0;
	while (step() && steps < STEPS_MAX)
		steps++;
	uint32_t broken = 0;
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct client *c = &clients[i];
		if (loud)
			print_message("client %u: state %d, %u of %u bytes back, acknowledged %u\n", i, c->state, c->got, c->total,
				      c->una);
		assert_true(c->state == DONE || c->state == BROKEN);
		broken += c->state == BROKEN;
	}
	if (loud)
		print_message("%u ms, %llu retransmissions\n", steps, (unsigned long long)world.counters.v[TP_C_TCP_RETRANSMITS]);
	/* Let all timers run out: nothing may be left. */
	world.weather = (struct weather){.delay_ms = 1};
	world.no_frames = 0;
	for (int i = 0; i < 200000; i += 5) {
		world.now_ms += 4;
		step();
	}
	const struct dp_tcp *tcp = world.stack->tcp;
	assert_int_equal(tcp->conns, 0);
	assert_int_equal(tcp->halves, 0);
	assert_int_equal(tcp->waits, 0);
	assert_int_equal(tcp->chunks_free, tcp->chunks);
	assert_int_equal(tcp->tx_holders, 0);
	for (uint32_t i = 0; i < CLIENTS; i++)
		assert_null(apps[i].stream);
	assert_int_equal(world.counters.v[TP_C_CONNECTIONS_OPENED], world.counters.v[TP_C_CONNECTIONS_CLOSED]);
	dp_stack_destroy(world.stack);
	return broken;
}

static const struct {
	const char *name;
	struct weather weather;
	uint32_t no_frames;
	bool may_break; /* give-up is honest there */
} skies[] = {
	{"fair", {.delay_ms = 2}, 0, false},
	{"loss", {.drop = 30, .delay_ms = 10}, 0, false},
	{"reordering", {.late = 300, .late_ms = 40, .delay_ms = 20}, 0, false},
	{"doubling", {.twice = 300, .delay_ms = 10}, 0, false},
	{"corruption", {.corrupt = 30, .delay_ms = 10}, 0, false},
	{"no frames", {.delay_ms = 5}, 200, false},
	{"everything", {.drop = 50, .twice = 50, .late = 100, .late_ms = 500, .corrupt = 20, .delay_ms = 20}, 20, false},
	{"storm", {.drop = 200, .twice = 100, .late = 200, .late_ms = 3000, .corrupt = 50, .delay_ms = 50}, 50, true},
};

static void test_skies(void **state)
{
	(void)state;
	const char *one = getenv("STACK_SIM_SEED");
	for (size_t i = 0; i < sizeof(skies) / sizeof(skies[0]); i++) {
		for (uint64_t n = 1; n <= 10; n++) {
			uint64_t with_seed = one ? strtoull(one, NULL, 10) : n * 1000 + i;
			if (one)
				print_message("sky: %s\n", skies[i].name);
			uint32_t broken = run(with_seed, &skies[i].weather, skies[i].no_frames, one != NULL);
			if (broken && !skies[i].may_break)
				fail_msg("%s: seed %llu: %u connections were cut", skies[i].name, (unsigned long long)with_seed,
					 broken);
			if (one)
				break;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_skies)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
