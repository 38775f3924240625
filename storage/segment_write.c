/*
 * Sealing: a finished log file becomes a segment. One pass over the log copies the rows and collects the index; then index, rollup
 * and footer follow. Format: segment_format.h.
 *
 * The rollup comes from another way through the code than the rows (the shard's live table against the log), so their sums are
 * compared before anything is published: what a bill is made of and what proves the bill must agree to the micro.
 *
 * Threads: housekeeping. Memory: 40 bytes an event for the index while sealing.
 */
#include "log_read.h"
#include "segment.h"
#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { OUT_BYTES = 1 << 20 };

/* Buffered output with the two running checksums. */
struct out {
	const struct sto_io *io;
	int fd;
	uint8_t *buffer;
	uint64_t filled;
	uint64_t offset; /* of the buffer's start in the file */
	XXH3_state_t *file_hash, *section_hash;
	int failed; /* sticky -errno */
};

struct sealing {
	struct out out;
	struct segment_totals totals;
	struct segment_index_entry *index;
	uint64_t index_max;
	uint64_t rows_bytes;
};

static uint64_t out_at(const struct out *out)
{
	return out->offset + out->filled;
}

static void out_flush(struct out *out)
{
	if (out->failed || !out->filled)
		return;
	XXH3_64bits_update(out->file_hash, out->buffer, out->filled);
	out->failed = out->io->write(out->io, out->fd, out->buffer, out->filled, out->offset);
	out->offset += out->filled;
	out->filled = 0;
}

static void out_put(struct out *out, const void *from, uint64_t bytes)
{
	XXH3_64bits_update(out->section_hash, from, bytes);
	while (bytes && !out->failed) {
		uint64_t piece = OUT_BYTES - out->filled < bytes ? OUT_BYTES - out->filled : bytes;
		memcpy(out->buffer + out->filled, from, piece);
		out->filled += piece;
		from = (const uint8_t *)from + piece;
		bytes -= piece;
		if (out->filled == OUT_BYTES)
			out_flush(out);
	}
}

static void section_begin(struct out *out, struct segment_place *place)
{
	static const uint8_t zeros[SEGMENT_ALIGN];
	out_put(out, zeros, -out_at(out) % SEGMENT_ALIGN);
	place->offset = out_at(out);
	XXH3_64bits_reset(out->section_hash);
}

static void section_end(struct out *out, struct segment_place *place, uint64_t count)
{
	place->bytes = out_at(out) - place->offset;
	place->count = count;
	place->checksum = XXH3_64bits_digest(out->section_hash);
}

/* ---- totals ---- */

void segment_totals_init(struct segment_totals *totals)
{
	memset(totals, 0, sizeof(*totals)); /* the struct is written to disk as it is */
	totals->minute_min = UINT32_MAX;
}

void segment_totals_add(struct segment_totals *totals, const struct tp_event *event)
{
	totals->rows++;
	if (event->verdict == TP_CONFLICT) {
		totals->conflicts++;
		return;
	}
	uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
	if (!totals->to_ms || event->timestamp_ms < totals->from_ms)
		totals->from_ms = event->timestamp_ms;
	if (event->timestamp_ms >= totals->to_ms)
		totals->to_ms = event->timestamp_ms + 1;
	if (minute < totals->minute_min)
		totals->minute_min = minute;
	if (minute > totals->minute_max)
		totals->minute_max = minute;
	if (event->verdict == TP_AMENDED) {
		/* no event: a click whose last tag went, as tp_rollup_add() moves it */
		if (event->type == TP_CLICK && !event->fraud) {
			totals->flagged_clicks--;
			totals->clicks++;
			totals->late++;
			totals->spend_micros += event->bid_micros;
		}
		return;
	}
	totals->counted++;
	totals->late += event->verdict == TP_LATE;
	if (event->type == TP_IMPRESSION) {
		totals->impressions++;
	} else if (event->type == TP_CONVERSION) {
		totals->conversions++;
	} else if (event->fraud) {
		totals->flagged_clicks++;
	} else {
		totals->clicks++;
		totals->spend_micros += event->bid_micros;
	}
}

/* ---- rows and index ---- */

static int row_take(void *context, const struct tp_event *event)
{
	struct sealing *s = context;
	if (tp_verdict_counts(event->verdict)) {
		if (s->totals.counted == s->index_max) {
			uint64_t max = s->index_max ? 2 * s->index_max : 4096;
			struct segment_index_entry *larger = realloc(s->index, max * sizeof(*larger));
			if (!larger)
				return -ENOMEM;
			s->index = larger;
			s->index_max = max;
		}
		s->index[s->totals.counted] = (struct segment_index_entry){
			.id = event->id,
			.fingerprint = event->fingerprint,
			.minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS),
			.row_at = s->rows_bytes,
		};
	}
	segment_totals_add(&s->totals, event);
	s->rows_bytes += event->bytes;
	out_put(&s->out, event, event->bytes);
	return s->out.failed;
}

static int index_compare(const void *left, const void *right)
{
	const struct segment_index_entry *a = left, *b = right;
	if (a->id.hi != b->id.hi)
		return a->id.hi < b->id.hi ? -1 : 1;
	if (a->id.lo != b->id.lo)
		return a->id.lo < b->id.lo ? -1 : 1;
	return a->minute < b->minute ? -1 : a->minute > b->minute;
}

/* ---- rollup ---- */

static int rollup_compare(const void *left, const void *right, void *context)
{
	static const enum tp_dimension order[] = {TP_DIM_CAMPAIGN, TP_DIM_AD, TP_DIM_ADVERTISER, TP_DIM_PUBLISHER, TP_DIM_REGION};
	const struct tp_rollup_row *a = left, *b = right;
	const char *heap = context;
	if (a->minute != b->minute)
		return a->minute < b->minute ? -1 : 1;
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		struct tp_str x = tp_rollup_string(a, heap, order[i]), y = tp_rollup_string(b, heap, order[i]);
		int c = memcmp(x.at, y.at, x.bytes < y.bytes ? x.bytes : y.bytes);
		if (!c)
			c = (int)x.bytes - (int)y.bytes;
		if (c)
			return c;
	}
	int c = memcmp(a->country, b->country, sizeof(a->country));
	if (!c)
		c = (int)a->device - (int)b->device;
	return c ? c : memcmp(a->currency, b->currency, sizeof(a->currency));
}

static uint32_t row_strings_bytes(const struct tp_rollup_row *row)
{
	uint32_t bytes = 0;
	for (int d = 0; d < TP_DIMENSIONS; d++)
		bytes += row->string_bytes[d];
	return bytes;
}

/* Copies of the table's rows, sorted. string_at still points into the table's heap. */
static int rollup_copy(const struct tp_rollup *table, struct tp_rollup_row **rows, uint32_t *count)
{
	*count = atomic_load_explicit(&table->rows, memory_order_acquire);
	*rows = aligned_alloc(_Alignof(struct tp_rollup_row), ((uint64_t)*count + 1) * sizeof(**rows));
	if (!*rows)
		return -ENOMEM;
	for (uint32_t i = 0; i < *count; i++) {
		struct tp_rollup_row *row = *rows + i;
		if (!tp_rollup_read(table, i, row))
			return -EBADMSG;
		row->version = 0;
		row->pad = 0;
		memset(row->pad2, 0, sizeof(row->pad2));
		if ((uint64_t)row->string_at + row_strings_bytes(row) > table->heap_bytes_max)
			return -EBADMSG;
	}
	qsort_r(*rows, *count, sizeof(**rows), rollup_compare, (void *)(uintptr_t)tp_rollup_heap(table));
	return 0;
}

static bool sums_agree(const struct segment_totals *totals, const struct tp_rollup_row *rows, uint32_t count)
{
	struct tp_sums sum = {0};
	for (uint32_t i = 0; i < count; i++) {
		const struct tp_sums *one = &rows[i].sums;
		sum.impressions += one->impressions;
		sum.clicks += one->clicks;
		sum.flagged_clicks += one->flagged_clicks;
		sum.conversions += one->conversions;
		sum.late += one->late;
		sum.spend_micros += one->spend_micros;
		if (rows[i].minute < totals->minute_min || rows[i].minute > totals->minute_max)
			return false;
	}
	return sum.impressions == totals->impressions && sum.clicks == totals->clicks &&
	       sum.flagged_clicks == totals->flagged_clicks && sum.conversions == totals->conversions && sum.late == totals->late &&
	       sum.spend_micros == totals->spend_micros;
}

static void rollup_put(struct out *out, struct segment_footer *footer, struct tp_rollup_row *rows, uint32_t count, const char *heap)
{
	struct segment_place *place = &footer->section[SEGMENT_ROLLUP];
	section_begin(out, place);
	uint32_t heap_bytes = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct tp_rollup_row row = rows[i];
		row.string_at = heap_bytes;
		heap_bytes += row_strings_bytes(&row);
		out_put(out, &row, sizeof(row));
	}
	section_end(out, place, count);
	place = &footer->section[SEGMENT_HEAP];
	section_begin(out, place);
	for (uint32_t i = 0; i < count; i++)
		out_put(out, heap + rows[i].string_at, row_strings_bytes(&rows[i]));
	section_end(out, place, heap_bytes);
}

/* ---- the file ---- */

static int disagree(const struct segment_source *source, const char *what)
{
	tp_logf(TP_ERROR, "a log file and its sums do not agree, not sealing it", "file=%s found=\"%s\"", source->log_path, what);
	return -EBADMSG;
}

/* Everything behind the rows. */
static int rest_put(struct sealing *s, const struct segment_source *source, struct segment_footer *footer,
		    struct tp_rollup_row *rows, uint32_t count)
{
	struct out *out = &s->out;
	uint64_t counted = s->totals.counted;
	if (counted) {
		qsort(s->index, counted, sizeof(*s->index), index_compare);
		footer->id_first = s->index[0].id.hi;
		footer->id_last = s->index[counted - 1].id.hi;
	}
	for (uint64_t i = 1; i < counted; i++)
		if (!index_compare(&s->index[i - 1], &s->index[i]))
			return disagree(source, "an id was counted twice in one minute");
	section_begin(out, &footer->section[SEGMENT_INDEX]);
	if (counted)
		out_put(out, s->index, counted * sizeof(*s->index));
	section_end(out, &footer->section[SEGMENT_INDEX], counted);
	rollup_put(out, footer, rows, count, tp_rollup_heap(source->rollup));

	struct segment_place rest;
	section_begin(out, &rest);
	footer->totals = s->totals;
	footer->bytes = sizeof(*footer);
	footer->version = SEGMENT_VERSION;
	footer->magic = SEGMENT_MAGIC_END;
	footer->checksum = XXH3_64bits(footer, offsetof(struct segment_footer, checksum));
	out_put(out, footer, sizeof(*footer));
	out_flush(out);
	return out->failed;
}

static int file_fill(struct sealing *s, const struct segment_source *source, struct manifest_segment *facts)
{
	struct segment_footer footer;
	memset(&footer, 0, sizeof(footer));
	struct segment_header header = {.magic = SEGMENT_MAGIC,
					.version = SEGMENT_VERSION,
					.sequence = facts->sequence,
					.file_id = source->file_id,
					.sealed_ms = source->sealed_ms};
	memcpy(header.node_id, source->node_id, sizeof(header.node_id));
	struct sto_log_facts log;
	enum log_state state;
	int rc = log_shard(s->out.io, source->log_path, source->file_id, &header.shard);
	if (rc)
		return rc;
	header.checksum = XXH3_64bits(&header, offsetof(struct segment_header, checksum));
	out_put(&s->out, &header, sizeof(header));
	section_begin(&s->out, &footer.section[SEGMENT_ROWS]);
	rc = log_scan(s->out.io, source->log_path, source->file_id, true, row_take, s, &log, &state);
	section_end(&s->out, &footer.section[SEGMENT_ROWS], s->totals.rows);
	if (rc)
		return rc;
	uint64_t events = log.events;
	if (source->expected_records != UINT64_MAX && (events != source->expected_records || state != LOG_ENDED))
		return disagree(source, "fewer records than were acknowledged");
	s->totals.watermark_ms = log.watermark_ms;

	struct tp_rollup_row *rows = NULL;
	uint32_t count = 0;
	rc = rollup_copy(source->rollup, &rows, &count);
	if (!rc && (atomic_load_explicit(&source->rollup->file_id, memory_order_relaxed) != source->file_id ||
		    !sums_agree(&s->totals, rows, count)))
		rc = disagree(source, "the rollup table has other sums than the events");
	if (!rc && events)
		rc = rest_put(s, source, &footer, rows, count);
	free(rows);
	if (rc)
		return rc;
	facts->file_id = source->file_id;
	facts->rows = s->totals.rows;
	facts->late = s->totals.late;
	facts->from_ms = s->totals.from_ms;
	facts->to_ms = s->totals.to_ms;
	facts->minute_min = s->totals.minute_min;
	facts->minute_max = s->totals.minute_max;
	facts->watermark_ms = s->totals.watermark_ms;
	facts->sealed_ms = source->sealed_ms;
	facts->bytes = s->out.offset;
	facts->hash = XXH3_64bits_digest(s->out.file_hash);
	return events ? 1 : 0;
}

int segment_write(const struct sto_io *io, const char *path, const struct segment_source *source, struct manifest_segment *facts)
{
	struct sealing s = {.out = {.io = io, .fd = -1}};
	if (source->options && source->options->extras)
		return -ENOTSUP; /* version 1 has no place for them */
	segment_totals_init(&s.totals);
	s.out.buffer = malloc(OUT_BYTES);
	s.out.file_hash = XXH3_createState();
	s.out.section_hash = XXH3_createState();
	int rc = -ENOMEM;
	if (s.out.buffer && s.out.file_hash && s.out.section_hash) {
		XXH3_64bits_reset(s.out.file_hash);
		XXH3_64bits_reset(s.out.section_hash);
		rc = s.out.fd = io->open(io, path, O_RDWR | O_CREAT | O_TRUNC, 0640);
	}
	if (s.out.fd >= 0) {
		rc = file_fill(&s, source, facts);
		/* A sync that runs out of room leaves this file in doubt, but a later attempt writes another one. */
		int synced = rc == 1 ? io->sync(io, s.out.fd) : 0;
		rc = synced < 0 ? synced : rc;
		io->close(io, s.out.fd);
		if (rc != 1)
			io->unlink(io, path);
	}
	XXH3_freeState(s.out.file_hash);
	XXH3_freeState(s.out.section_hash);
	free(s.out.buffer);
	free(s.index);
	return sto_io_full(rc) ? -ENOSPC : rc;
}
