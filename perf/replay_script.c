/* What the clients of a replay port send, written ahead. Main thread. See replay.h. */
#include "replay.h"

#include "../client/encode.h"
#include "../dataplane/net/checksum.h"
#include "blast_synth.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BODY_BYTES_MAX = 1 << 20, EVENT_BYTES_MAX = 800 };

#define SOURCE UINT64_C(0x7265706c00000000) /* of the first client of the first port */

struct writer {
	struct rp_script *script;
	const struct rp_options *options;
	struct blast_synth *synth;
	uint64_t room, now_ms, number;
	uint32_t requests_max;
	uint8_t *body; /* of the request that is being written */
	uint32_t body_bytes;
};

static uint64_t room_of(uint64_t payload)
{
	return (sizeof(struct rp_piece) + payload + 63) & ~UINT64_C(63);
}

/* Cuts the body into pieces of at most `most` bytes. */
static void request_put(struct writer *writer, uint32_t most, uint32_t events)
{
	struct rp_script *script = writer->script;
	struct rp_request *request = &script->request[script->requests++];

	*request = (struct rp_request){.at = script->bytes, .bytes = writer->body_bytes, .events = events};
	for (uint32_t at = 0; at < writer->body_bytes; at += most, request->pieces++) {
		struct rp_piece *piece = (struct rp_piece *)(void *)(script->memory + script->bytes);
		piece->bytes = writer->body_bytes - at < most ? writer->body_bytes - at : most;
		memcpy(piece->payload, writer->body + at, piece->bytes);
		piece->sum = dp_sum(piece->payload, piece->bytes, 0);
		script->bytes += room_of(piece->bytes);
	}
	script->events += events;
}

static void event_next(struct writer *writer, struct blast_event *event)
{
	bool copy;
	blast_synth_next(writer->synth, writer->now_ms, event, &copy);
	writer->script->copies += copy;
}

/* An event as JSON, as long as asked. Returns its bytes. */
static uint32_t json_write(const struct rp_options *options, const struct blast_event *event, char *to)
{
	static const char key[] = ",\"padding\":\"";
	uint32_t bytes = blast_event_json(&options->synth, event, to);

	if (bytes + sizeof(key) + 1 > options->event_bytes)
		return bytes;
	char *at = to + bytes - 1; /* its last brace */
	memcpy(at, key, sizeof(key) - 1);
	memset(at + sizeof(key) - 1, 'x', options->event_bytes - bytes - sizeof(key));
	memcpy(to + options->event_bytes - 2, "\"}", 2);
	return options->event_bytes;
}

static void http_write(struct writer *writer, uint32_t events)
{
	static char json[BODY_BYTES_MAX];
	uint32_t bytes = 0;

	if (events > 1)
		json[bytes++] = '[';
	for (uint32_t i = 0; i < events; i++) {
		struct blast_event event;
		event_next(writer, &event);
		if (i)
			json[bytes++] = ',';
		bytes += json_write(writer->options, &event, json + bytes);
	}
	if (events > 1)
		json[bytes++] = ']';
	int head = snprintf((char *)writer->body, 256,
			    "POST /api/v1/clicks HTTP/1.1\r\nHost: 10.77.0.1\r\nContent-Type: application/json\r\n"
			    "Content-Length: %u\r\n%s\r\n",
			    bytes, writer->options->load == RP_HTTP_CLOSE ? "Connection: close\r\n" : "");
	memcpy(writer->body + head, json, bytes);
	writer->body_bytes = (uint32_t)head + bytes;
	request_put(writer, RP_MSS, events);
}

static void text_write(struct writer *writer)
{
	struct blast_event event;
	event_next(writer, &event);
	writer->body_bytes = json_write(writer->options, &event, (char *)writer->body);
	request_put(writer, BODY_BYTES_MAX, 1);
}

/* As many events as the datagram takes. */
static void batch_write(struct writer *writer, uint64_t source, uint64_t events_left)
{
	uint32_t at = tpc_batch_begin(2, NULL), events = 0;
	while (events < events_left && at + EVENT_BYTES_MAX / 2 <= writer->options->datagram_bytes) {
		struct blast_event event;
		struct blast_event_text text;
		struct tpc_event fields;
		struct tpc_plan plan;
		event_next(writer, &event);
		blast_event_fields(&writer->options->synth, &event, &text, &fields);
		if (tpc_plan(&plan, &fields))
			abort();
		tpc_encode(&plan, writer->body + at);
		at += plan.bytes;
		events++;
	}
	tpc_batch_seal(writer->body, 2, at, source, ++writer->number, events, NULL);
	writer->body_bytes = at;
	request_put(writer, BODY_BYTES_MAX, events);
}

int rp_script_make(struct rp_script *script, const struct rp_options *options, uint32_t port)
{
	const uint64_t events = options->events / options->ports;
	const uint64_t each = options->load == RP_HTTP_BATCH ? options->batch : 1;
	struct writer writer = {.script = script,
				.options = options,
				.now_ms = tp_now_ms(),
				.room = events * (960 + options->event_bytes) + (64 << 20)};

	*script = (struct rp_script){0};
	writer.requests_max = (uint32_t)(events / each + 2);
	writer.synth = blast_synth_open(&options->synth, port);
	writer.body = malloc(BODY_BYTES_MAX + 1024);
	script->request = calloc(writer.requests_max, sizeof(*script->request));
	script->memory = mmap(NULL, writer.room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int rc = writer.synth && writer.body && script->request && script->memory != MAP_FAILED ? 0 : -ENOMEM;
	if (rc == 0)
		madvise(script->memory, writer.room, MADV_HUGEPAGE);
	while (rc == 0 && script->events < events) {
		if (script->bytes + (1 << 20) > writer.room)
			rc = -ENOMEM;
		else if (options->load == RP_UDP_TEXT)
			text_write(&writer);
		else if (options->load == RP_UDP_BATCH)
			batch_write(&writer, SOURCE + ((uint64_t)port << 32) + script->requests % options->clients,
				    events - script->events);
		else
			http_write(&writer, (uint32_t)(events - script->events < each ? events - script->events : each));
	}
	blast_synth_close(writer.synth);
	free(writer.body);
	return rc;
}

void rp_script_free(struct rp_script *script)
{
	free(script->request);
	script->request = NULL; /* the memory goes with the process */
}
