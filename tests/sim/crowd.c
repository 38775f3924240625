/*
 * Clients and the network. A message stays with its client until it is answered; the network may lose, double, delay and reorder what
 * goes either way, and break connections. A retry may take another path: another connection, another rx core, UDP instead of HTTP.
 *
 * What counts for the model is what the node said, whether or not the client ever hears it: an answer that left the node is a promise.
 */
#include "encode.h"
#include "sim.h"

enum { RETRY_NS = 300000000, GIVE_UP_TRIES = 6 };

static struct link *link_of(struct dp_stream *stream)
{
	return (struct link *)(void *)stream;
}

static void message_again(struct world *w, struct message *m)
{
	m->busy = false;
	m->tries++;
	m->due_ns = w->now_ns + RETRY_NS / 2 + dice(w, RETRY_NS);
	w->tally_retries++;
	if (m->way != WAY_HTTP || chance(w, 4)) {
		bool flawed = false;
		for (uint32_t i = 0; i < m->parts; i++)
			flawed |= w->fact[m->part[i]].flaw != FLAW_NONE;
		if (m->tries > 2)
			m->way = WAY_HTTP;
		else if (!flawed && m->way == WAY_HTTP) {
			m->way = WAY_BATCH;
			m->number = ++w->batches;
		}
	}
}

static void message_done(struct world *w, struct message *m)
{
	if (!m->done)
		w->messages_done++;
	m->done = true;
	m->busy = false;
}

/* ---- HTTP ---- */

static struct world *the_world; /* for callbacks that carry nothing else */

static size_t link_send(struct dp_stream *stream, const void *bytes, size_t count)
{
	struct link *link = link_of(stream);
	size_t room = sizeof(link->in) - 1 - link->in_bytes;
	if (the_world->faults & FAULT_LOSS && chance(the_world, 16) && !the_world->final) {
		room = dice(the_world, count + 1) < room ? dice(the_world, count + 1) : room;
	}
	size_t n = count < room ? count : room;
	link->stalled = n < count;
	memcpy(link->in + link->in_bytes, bytes, n);
	link->in_bytes += (uint32_t)n;
	link->in[link->in_bytes] = 0;
	return n;
}

static void link_close(struct dp_stream *stream)
{
	link_of(stream)->closing = true;
}

static void link_abort(struct dp_stream *stream)
{
	struct link *link = link_of(stream);
	link->gone = true;
	if (link->open) {
		link->open = false;
		dp_stream_closed(stream);
	}
}

static void link_resume(struct dp_stream *stream)
{
	link_of(stream)->resumed = true;
}

static const struct dp_stream_ops link_ops = {.send = link_send, .close = link_close, .abort = link_abort, .resume = link_resume};

/* The connection ends; its message is tried again by another. */
static void link_drop(struct world *w, struct link *link)
{
	if (link->open) {
		link->open = false;
		dp_stream_closed(&link->stream);
	}
	if (link->message != NONE)
		message_again(w, &w->message[link->message]);
	free(link->out);
	link->out = NULL;
	link->out_bytes = link->out_at = link->in_bytes = 0;
	link->message = NONE;
	link->closing = link->gone = link->paused = link->resumed = link->stalled = link->delivered = false;
}

static void link_request(struct world *w, struct link *link, uint32_t number)
{
	static char body[PARTS_MAX * 1024];
	struct message *m = &w->message[number];
	uint32_t bytes = script_body(w, m, body, sizeof(body));
	link->out = malloc(bytes + 512);
	int head;
	if (chance(w, 6)) {
		head = sprintf(link->out, "POST /api/v1/clicks%s HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
			       m->report ? "?report=1" : "", bytes);
		memcpy(link->out + head, body, bytes);
		memcpy(link->out + head + bytes, "\r\n0\r\n\r\n", 7);
		link->out_bytes = (uint32_t)head + bytes + 7;
	} else {
		head = sprintf(link->out, "POST /api/v1/clicks%s HTTP/1.1\r\nHost: sim\r\nContent-Length: %u\r\n\r\n",
			       m->report ? "?report=1" : "", bytes);
		memcpy(link->out + head, body, bytes);
		link->out_bytes = (uint32_t)head + bytes;
	}
	link->out_at = 0;
	link->in_bytes = 0;
	link->message = number;
	link->delivered = false;
	link->next_ns = w->now_ns + dice(w, 2000000);
	m->busy = true;
}

static uint64_t number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	return at ? strtoull(at + strlen(key), NULL, 10) : UINT64_MAX;
}

/* A whole answer lies in link->in? Then the model hears it, and perhaps the client. */
static void link_answer(struct world *w, struct link *link)
{
	char *end = link->in_bytes ? strstr(link->in, "\r\n\r\n") : NULL;
	if (!end || link->message == NONE)
		return;
	uint32_t status = (uint32_t)strtoul(link->in + 9, NULL, 10);
	const char *length = strstr(link->in, "Content-Length: ");
	uint32_t body = length && length < end ? (uint32_t)strtoul(length + 16, NULL, 10) : 0;
	if (link->in + link->in_bytes < end + 4 + body)
		return;
	struct message *m = &w->message[link->message];
	const char *text = end + 4;
	if (status == 204 || status == 200) {
		uint64_t verdict[5] = {0};
		if (status == 200) {
			verdict[0] = number_after(text, "\"accepted\":");
			verdict[1] = number_after(text, "\"duplicates\":");
			verdict[2] = number_after(text, "\"late\":");
			verdict[3] = number_after(text, "\"conflicts\":");
			for (const char *at = text; (at = strstr(at, "{\"index\":")) != NULL; at++)
				verdict[4]++;
		}
		model_answered(w, m, status == 200, verdict);
	} else if (status == 400) {
		model_rejected(w, m);
	} else if (status != 503 && status != 429 && status != 408) {
		complain(w, "unexpected answer: %.*s", (int)(end - link->in), link->in);
	}
	bool hears = w->final || !(w->faults & FAULT_LOSS) || dice(w, 12);
	if (!hears || status == 503 || status == 429 || status == 408)
		message_again(w, m);
	else
		message_done(w, m);
	link->message = NONE;
	link->in_bytes = 0;
	free(link->out);
	link->out = NULL;
	if (!hears || link->closing)
		link_drop(w, link);
}

/* Some of the request's bytes go up; the transport keeps to stream.h. */
static uint32_t link_input(struct world *w, struct link *link)
{
	if (!link->open || link->paused || link->out_at == link->out_bytes || link->message == NONE || w->now_ns < link->next_ns)
		return 0;
	uint32_t left = link->out_bytes - link->out_at, piece = chance(w, 3) ? 1 + (uint32_t)dice(w, left) : left;
	if (piece == left && !link->delivered) {
		/* from here on the node may have it */
		link->delivered = true;
		model_delivered(w, &w->message[link->message]);
	}
	uint8_t *exact = malloc(piece);
	memcpy(exact, link->out + link->out_at, piece);
	size_t taken = dp_stream_input(&link->stream, exact, piece);
	free(exact);
	if (!link->out)
		return 1;
	link->out_at += (uint32_t)taken;
	link->paused = taken < piece && link->open;
	link->next_ns = w->now_ns + dice(w, 1000000);
	return 1;
}

static uint32_t link_round(struct world *w, struct link *link)
{
	uint32_t done = 0;
	if (link->resumed) {
		link->resumed = link->paused = false;
		done++;
	}
	if (link->open && link->stalled && !link->closing && chance(w, 3)) {
		link->stalled = false;
		dp_stream_writable(&link->stream);
		done++;
	}
	done += link_input(w, link);
	link_answer(w, link);
	if (link->gone || (link->closing && link->open)) {
		link_drop(w, link);
		done++;
	} else if (link->open && !w->final && w->faults & FAULT_LOSS && link->message != NONE && chance(w, 400)) {
		link_drop(w, link);
		done++;
	}
	return done;
}

static void link_take(struct world *w, uint32_t number)
{
	struct link *link = &w->link[dice(w, LINKS)];
	if (link->message != NONE || !w->alive)
		return;
	if (!link->open) {
		*link = (struct link){.message = NONE, .rx = (uint32_t)dice(w, w->node.config.rx_count)};
		link->stream = (struct dp_stream){.ops = &link_ops, .beacon = w->node.rx_cores[link->rx]->beacon};
		link->stream.peer = (struct tp_endpoint){.addr = tp_addr_v4((const uint8_t[]){10, 0, 0, 1}), .port = 4711};
		dp_intake_clock(w->node.rx_cores[link->rx]->intake, wall_ms(w), w->now_ns);
		link->open = dp_stream_opened(&link->stream);
		if (!link->open)
			return;
	}
	link_request(w, link, number);
}

/* ---- UDP ---- */

static void datagram_answer(const struct dp_datagram_path *path, const void *bytes, size_t count)
{
	struct world *w = path->transport;
	struct tpc_answer answer;
	if (tpc_answer_read(bytes, count, NULL, &answer)) {
		complain(w, "a datagram that is no answer, %zu bytes", count);
		return;
	}
	if (answer.kind != TPC_ANSWER_ACK)
		return;
	for (uint32_t i = 0; i < w->messages; i++) {
		struct message *m = &w->message[i];
		if (m->way != WAY_BATCH || m->number != answer.number)
			continue;
		const uint64_t verdict[5] = {answer.ack.accepted, answer.ack.duplicates, answer.ack.late, answer.ack.conflicts,
					     answer.ack.rejected};
		model_answered(w, m, true, verdict);
		if (w->final || !(w->faults & FAULT_LOSS) || dice(w, 6))
			message_done(w, m);
		return;
	}
}

static void parcel_send(struct world *w, uint32_t number)
{
	static char body[PARTS_MAX * 1024];
	struct message *m = &w->message[number];
	m->busy = true;
	uint32_t copies = w->faults & FAULT_LOSS && !w->final ? (uint32_t)(chance(w, 6) ? 0 : chance(w, 6) ? 2 : 1) : 1;
	uint32_t first_rx = (uint32_t)dice(w, w->node.config.rx_count ? w->node.config.rx_count : 1);
	for (uint32_t i = 0; i < WIRE_MAX && copies; i++) {
		struct parcel *parcel = &w->parcel[i];
		if (parcel->used)
			continue;
		parcel->count = m->way == WAY_BATCH ? script_batch(w, m, parcel->bytes, sizeof(parcel->bytes))
						    : script_body(w, m, body, sizeof(body));
		if (m->way == WAY_TEXT)
			memcpy(parcel->bytes, body, parcel->count);
		parcel->used = true;
		parcel->rx = chance(w, 2) ? first_rx : (uint32_t)dice(w, 64);
		parcel->message = number;
		parcel->due_ns = w->now_ns + dice(w, chance(w, 8) ? 2000000000 : 3000000);
		copies--;
	}
	if (m->way == WAY_TEXT) /* nobody will ever say */
		message_done(w, m);
}

static uint32_t parcels_deliver(struct world *w, uint32_t rx)
{
	uint32_t done = 0;
	for (uint32_t i = 0; i < WIRE_MAX; i++) {
		struct parcel *parcel = &w->parcel[i];
		if (!parcel->used || parcel->due_ns > w->now_ns || parcel->rx % w->node.config.rx_count != rx)
			continue;
		parcel->used = false;
		const struct dp_datagram_path path = {
			.send = datagram_answer,
			.transport = w,
			.peer = {.addr = tp_addr_v4((const uint8_t[]){10, 0, 0, 1}), .port = 5000},
			.local = {.addr = tp_addr_v4((const uint8_t[]){10, 0, 0, 2}), .port = 7771},
		};
		model_delivered(w, &w->message[parcel->message]);
		uint8_t *exact = malloc(parcel->count);
		memcpy(exact, parcel->bytes, parcel->count);
		dp_datagram_input(w->node.rx_cores[rx]->beacon, &path, exact, parcel->count);
		free(exact);
		done++;
	}
	return done;
}

/* ---- all of them ---- */

uint32_t crowd_deliver(struct world *w, uint32_t rx)
{
	uint32_t done = parcels_deliver(w, rx);
	for (uint32_t i = 0; i < LINKS; i++)
		if (w->link[i].gone)
			link_drop(w, &w->link[i]);
		else if (w->link[i].open && w->link[i].rx == rx)
			done += link_round(w, &w->link[i]);
	return done;
}

void crowd_turn(struct world *w)
{
	the_world = w;
	if (!w->messages)
		return;
	/* an unanswered message: a recent one, or any */
	for (uint32_t tries = 0; tries < 4; tries++) {
		uint32_t back = (uint32_t)dice(w, w->messages < 64 || chance(w, 4) ? w->messages : 64);
		struct message *m = &w->message[w->messages - 1 - back];
		if (m->done)
			continue;
		/* a batch that nobody answers */
		if (m->busy && m->way == WAY_BATCH && w->now_ns > m->due_ns + RETRY_NS) {
			message_again(w, m);
			continue;
		}
		if (m->busy || m->due_ns > w->now_ns)
			continue;
		if (!w->final && m->tries > GIVE_UP_TRIES) {
			message_done(w, m);
			continue;
		}
		if (m->way == WAY_HTTP) {
			link_take(w, (uint32_t)(m - w->message));
		} else {
			m->due_ns = w->now_ns;
			parcel_send(w, (uint32_t)(m - w->message));
		}
		return;
	}
}

void crowd_node_gone(struct world *w)
{
	for (uint32_t i = 0; i < LINKS; i++) {
		w->link[i].open = false; /* the beacon is gone: nobody is told */
		link_drop(w, &w->link[i]);
	}
}

bool crowd_idle(const struct world *w)
{
	for (uint32_t i = 0; i < WIRE_MAX; i++)
		if (w->parcel[i].used)
			return false;
	return w->messages_done == w->messages;
}

void crowd_link_drop(struct world *w, uint32_t link)
{
	link_drop(w, &w->link[link]);
}
