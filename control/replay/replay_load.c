/* Brings the events of a range into memory, in the order of receipt. */
#include "replay_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct loading {
	struct rpl_events *events;
	uint64_t from_ms, to_ms;
};

static int event_take(void *context, const struct tp_event *event)
{
	struct loading *loading = context;
	struct rpl_events *events = loading->events;
	if (event->verdict == TP_CONFLICT || event->timestamp_ms < loading->from_ms || event->timestamp_ms >= loading->to_ms)
		return 0;
	uint64_t need = sizeof(struct rpl_row) + event->bytes;
	if (events->bytes + need > events->bytes_max)
		return -ENOMEM;
	if (events->count == events->count_max) {
		uint64_t more = events->count_max ? 2 * events->count_max : 4096;
		struct rpl_row *larger = realloc(events->row, more * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		events->row = larger;
		events->count_max = more;
	}
	if (!events->chunk || events->chunk->used + event->bytes > RPL_CHUNK_BYTES) {
		struct rpl_chunk *chunk = malloc(sizeof(*chunk));
		if (!chunk)
			return -ENOMEM;
		*chunk = (struct rpl_chunk){.before = events->chunk};
		events->chunk = chunk;
	}
	struct tp_event *copy = (struct tp_event *)(void *)(events->chunk->byte + events->chunk->used);
	memcpy(copy, event, event->bytes);
	events->chunk->used += event->bytes;
	events->bytes += need;
	events->row[events->count] = (struct rpl_row){.event = copy, .order = events->count};
	events->count++;
	return 0;
}

static int by_receipt(const void *left, const void *right)
{
	const struct rpl_row *a = left, *b = right;
	if (a->event->received_ms != b->event->received_ms)
		return a->event->received_ms < b->event->received_ms ? -1 : 1;
	/* an amendment carries the receipt of its click: behind it */
	if ((a->event->verdict == TP_AMENDED) != (b->event->verdict == TP_AMENDED))
		return a->event->verdict == TP_AMENDED ? 1 : -1;
	return a->order < b->order ? -1 : a->order > b->order;
}

int rpl_load(struct rpl_events *events, const char *data_dir, uint64_t from_ms, uint64_t to_ms)
{
	struct loading loading = {.events = events, .from_ms = from_ms, .to_ms = to_ms};
	struct sto_reader *reader;
	int rc = sto_reader_open(&reader, data_dir);
	if (rc)
		return rc;
	rc = sto_reader_refresh(reader);
	for (uint32_t i = 0; rc >= 0 && i < sto_reader_segments(reader); i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		if (info->to_ms > from_ms && info->from_ms < to_ms)
			rc = sto_reader_events(reader, i, event_take, &loading);
	}
	sto_reader_close(reader);
	if (rc < 0)
		return rc;
	if (events->count)
		qsort(events->row, events->count, sizeof(events->row[0]), by_receipt);
	return 0;
}

void rpl_unload(struct rpl_events *events)
{
	for (struct rpl_chunk *chunk = events->chunk, *before; chunk; chunk = before) {
		before = chunk->before;
		free(chunk);
	}
	free(events->row);
	*events = (struct rpl_events){0};
}
