/*
 * Sealing: a finished log file becomes a segment.
 *
 *   log file ─ log_scan ─► rows in columns (segment_build.c) ─ sort ─ encode (segment_encode.c) ─► file, written once, synced
 *
 * The rollup comes from another way through the code than the rows (the shard's live table against the log), so their sums are
 * compared before anything is published: what a bill is made of and what proves the bill must agree to the micro. Where each single
 * row of the table follows from the events, as it should, the table is not stored.
 *
 * Threads: a background thread, which options->yield lets give way.
 */
#include "log_read.h"
#include "segment.h"
#include "segment_build.h"
#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <openssl/evp.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 1 << 18 };

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

/* Copies of the table's rows. string_at still points into the table's heap. */
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
		uint64_t strings = 0;
		for (int d = 0; d < TP_DIMENSIONS; d++)
			strings += row->string_bytes[d];
		row->version = 0;
		row->pad = 0;
		memset(row->head, 0, sizeof(row->head));
		if (row->string_at + strings > table->heap_bytes_max)
			return -EBADMSG;
	}
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

/* ---- the file ---- */

int segment_file_write(const struct sto_io *io, const char *path, const struct buffer *file, const struct segment_yield *yield,
		       struct manifest_segment *facts)
{
	unsigned char sha256[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	XXH3_state_t *hash = XXH3_createState();
	int rc = digest && hash && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) ? 0 : -ENOMEM, fd = -1;
	if (!rc) {
		XXH3_64bits_reset(hash);
		rc = fd = io->open(io, path, O_RDWR | O_CREAT | O_TRUNC, 0640);
	}
	rc = rc > 0 ? 0 : rc;
	for (uint64_t at = 0; at < file->bytes && !rc; at += PIECE_BYTES) {
		uint64_t piece = file->bytes - at < PIECE_BYTES ? file->bytes - at : PIECE_BYTES;
		XXH3_64bits_update(hash, file->at + at, piece);
		if (!EVP_DigestUpdate(digest, file->at + at, piece))
			rc = -ENOMEM;
		if (!rc)
			rc = io->write(io, fd, file->at + at, piece, at);
		if (yield && yield->fn)
			yield->fn(yield->context);
	}
	if (!rc && !EVP_DigestFinal_ex(digest, sha256, NULL))
		rc = -ENOMEM;
	if (fd >= 0) {
		/* A sync that runs out of room leaves this file in doubt, but a later attempt writes another one. */
		if (!rc)
			rc = io->sync(io, fd);
		io->close(io, fd);
		if (rc)
			io->unlink(io, path);
	}
	if (!rc) {
		facts->bytes = file->bytes;
		facts->hash = XXH3_64bits_digest(hash);
		memcpy(facts->sha256, sha256, sizeof(facts->sha256));
	}
	EVP_MD_CTX_free(digest);
	XXH3_freeState(hash);
	return sto_io_full(rc) ? -ENOSPC : rc;
}

static int disagree(const struct segment_source *source, const char *what)
{
	tp_logf(TP_ERROR, "a log file and its sums do not agree, not sealing it", "file=%s found=\"%s\"", source->log_path, what);
	return -EBADMSG;
}

/* Events wait until there are enough for a burst, or their block goes away. */
struct taking {
	struct segment_build *build;
	const struct sto_seal_options *options; /* NULL: nobody else wants to see events */
	const struct tp_event *event[SEGMENT_TAKE_BURST];
	uint32_t events;
};
static_assert((int)SEGMENT_TAKE_BURST <= (int)STO_SHOW_MAX, "shown as they are taken");

static int burst_take(void *context)
{
	struct taking *taking = context;
	const uint32_t count = taking->events, row = taking->build->rows;
	taking->events = 0;
	if (!count)
		return 0;
	int rc = segment_build_events(taking->build, taking->event, count);
	if (rc || !taking->options)
		return rc;
	const uint32_t *string[TP_STRINGS];
	for (int s = 0; s < TP_STRINGS; s++)
		string[s] = taking->build->text[s] + row;
	taking->options->show(taking->options->show_context, taking->event, count, string);
	return 0;
}

static int event_take(void *context, const struct tp_event *event)
{
	struct taking *taking = context;
	taking->event[taking->events++] = event;
	return taking->events == SEGMENT_TAKE_BURST ? burst_take(taking) : 0;
}

static int other_take(void *context, const struct tp_event *event)
{
	struct taking *taking = context;
	return segment_build_event(taking->build, event);
}

static void facts_fill(struct manifest_segment *facts, const struct segment_source *source, const struct segment_totals *totals)
{
	facts->file_id = source->file_id;
	facts->rows = totals->rows;
	facts->late = totals->late;
	facts->from_ms = totals->from_ms;
	facts->to_ms = totals->to_ms;
	facts->minute_min = totals->minute_min;
	facts->minute_max = totals->minute_max;
	facts->watermark_ms = totals->watermark_ms;
	facts->sealed_ms = source->sealed_ms;
}

/* Rows that stand for more than one combination, by the rule of turnpike/rollup.h. Folding starts with the region. */
static bool rows_folded(const struct tp_rollup_row *rows, uint32_t count, const char *heap)
{
	for (uint32_t i = 0; i < count; i++)
		if (tp_rollup_is_other(tp_rollup_string(&rows[i], heap, TP_DIM_REGION)))
			return true;
	return false;
}

/* Sorts the rows, holds them against the table, makes the file's bytes. */
static int file_make(struct segment_build *build, const struct segment_source *source, uint32_t shard, uint64_t sequence,
		     struct buffer *file)
{
	struct segment_build_options options = {.shard = shard,
						.sequence = sequence,
						.file_id = source->file_id,
						.sealed_ms = source->sealed_ms,
						.node_id = source->node_id,
						.zstd_level = SEGMENT_ZSTD_LEVEL};
	struct tp_rollup_row *rows = NULL;
	uint32_t count = 0;
	const char *heap = tp_rollup_heap(source->rollup);
	if (source->options) {
		options.extra = source->options->extra;
		options.extras = source->options->extras;
		if (source->options->sections)
			options.extras = source->options->sections(source->options->show_context, &options.extra);
		if (options.extras > STO_EXTRAS_MAX)
			return -EINVAL;
	}
	int rc = segment_build_sort(build);
	if (rc == -EEXIST)
		return disagree(source, "an id was counted twice in one minute");
	if (!rc)
		rc = rollup_copy(source->rollup, &rows, &count);
	if (!rc && (atomic_load_explicit(&source->rollup->file_id, memory_order_relaxed) != source->file_id ||
		    !sums_agree(&build->totals, rows, count)))
		rc = disagree(source, "the rollup table has other sums than the events");
	/* No event has the name of what was folded: what has it cannot follow from them. */
	const bool folded = !rc && rows_folded(rows, count, heap);
	if (!rc && !folded)
		rc = segment_build_follows(build, rows, count, heap);
	if (rc == 0 && rows) {
		tp_logf(folded ? TP_INFO : TP_WARN,
			folded ? "more combinations in a minute than a table takes: the segment has rows under (other)"
			       : "rollup rows do not follow from their events, though their sums do; keeping both",
			"file=%s rows=%u", source->log_path, count);
		qsort_r(rows, count, sizeof(*rows), rollup_compare, (void *)(uintptr_t)heap);
		options.with_rollup = true;
		options.rollup = rows;
		options.rollup_rows = count;
		options.heap = heap;
	}
	if (rc >= 0)
		rc = segment_build_file(build, &options, file);
	free(rows);
	return rc;
}

int segment_write(const struct sto_io *io, const char *path, const struct segment_source *source, struct manifest_segment *facts)
{
	struct sto_log_facts log;
	enum log_state state;
	struct manifest_log birth;
	struct segment_yield yield = {0};
	if (source->options)
		yield = (struct segment_yield){.fn = source->options->yield, .context = source->options->yield_context};
	int rc = log_birth(io, source->log_path, source->file_id, &birth);
	if (rc < 0)
		return rc;
	struct segment_build *build = segment_build_new(&yield);
	struct buffer file = {0};
	if (!build)
		return -ENOMEM;
	struct taking taking = {.build = build, .options = source->options && source->options->show ? source->options : NULL};
	const struct sto_record_fns fns = {.event = event_take, .other = other_take, .context = &taking, .gone = burst_take};
	/* Without this room there is some for fewer, and more when it is needed. */
	if (source->expected_records != UINT64_MAX)
		(void)segment_build_reserve(build, source->expected_records);
	rc = log_scan_records(io, source->log_path, source->file_id, true, &fns, &log, &state);
	if (!rc && source->expected_records != UINT64_MAX &&
	    (log.events + log.others != source->expected_records || state != LOG_ENDED))
		rc = disagree(source, "fewer records than were acknowledged");
	bool empty = !rc && log.events + log.others == 0;
	if (!rc) {
		build->totals.watermark_ms = log.watermark_ms;
		rc = file_make(build, source, birth.shard, facts->sequence, &file);
	}
	if (!rc && !empty && source->prev)
		rc = source->prev(source->prev_context, facts->prev_sha256);
	if (!rc && !empty) {
		segment_chain(&file, facts->prev_sha256);
		rc = segment_file_write(io, path, &file, &yield, facts);
	}
	if (!rc)
		facts_fill(facts, source, &build->totals);
	buffer_fini(&file);
	segment_build_free(build);
	return rc ? rc : !empty;
}
