/*
 * New segments, and corrections. The issuer's thread; see ctl_billing_correct.h.
 *
 *   segments   … 17 │ 18  19  20  21 │                    17 is the last that the ledger has: a batch is 18 to 21
 *   bill A  (up to 17)   Δ       Δ      rows of A's period in 18 and 20: one correction, from {18, 20}
 *   bill B  (up to 19)          Δ       rows in 18 and 19 are in it already
 *   no bill although its period is over: is issued before the batch is stored, with everything up to the last segment
 *
 * A correction is the rows of those segments, added up: exact, whatever retention has taken of older ones. A batch is one transaction, with
 * the segments themselves, so that a kill at any moment neither loses nor repeats one; and it is stored only if no other issuer has written
 * since the batch looked (ctl_ledger_hold_if()): a bill that was issued meanwhile would lack these rows for ever.
 */
#include "ctl_billing_correct.h"

#include "ctl_billing_sum.h"
#include "ctl_billing_zone.h"
#include "ctl_ledger_report.h"
#include "ctl_store.h"
#include "turnpike/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	BATCH = 64,            /* segments: bits of a mask */
	BATCH_ROWS = 1 << 20,  /* more lines end a batch */
	REPORTS_AT = 12,       /* of one instant and advertiser: three periods, in the zones that it was ever billed in */
	CACHE = 1024,          /* a power of two */
	HOURS_MAX = 24 * 4000, /* more that one damaged segment may reach over are not told apart */
	HOUR = 60,
};

/* A bill that rows of this batch may change. */
struct slot {
	struct ctl_report report;
	uint64_t segments; /* bit i: segment i of the batch brought something */
};

/* Which slots an advertiser's minute is in. */
struct cached {
	bool used;
	uint32_t minute;
	char advertiser[TP_ID_BYTES_MAX];
	uint8_t advertiser_bytes;
	uint8_t slots;
	uint32_t slot[REPORTS_AT];
};

struct missing {
	enum ctl_billing_period period;
	const struct ctl_zone *zone;
	uint64_t start_ms;
};

struct batch {
	const struct ctl_issuing *issuing;
	uint64_t version; /* of the ledger, before anything was read there */
	struct ctl_ledger_segment segment[BATCH];
	uint32_t *hour[BATCH];
	uint32_t segments;
	struct slot *slot;
	uint32_t slots, slots_max;
	struct missing *missing;
	uint32_t missings, missings_max;
	struct ctl_billing_sum delta; /* a line's period is its slot */
	struct cached *cache;
	uint64_t issued_until_ms; /* no bill reaches beyond */
};

/* ---- bills that have to be issued first ---- */

static int missing_add(struct batch *batch, enum ctl_billing_period period, const struct ctl_zone *zone, uint64_t start_ms)
{
	for (uint32_t i = 0; i < batch->missings; i++)
		if (batch->missing[i].start_ms == start_ms && batch->missing[i].period == period && batch->missing[i].zone == zone)
			return 0;
	if (batch->missings == batch->missings_max) {
		uint32_t max = batch->missings_max ? 2 * batch->missings_max : 16;
		struct missing *larger = realloc(batch->missing, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		batch->missing = larger;
		batch->missings_max = max;
	}
	batch->missing[batch->missings++] = (struct missing){.period = period, .zone = zone, .start_ms = start_ms};
	return 0;
}

/* Notes the bills of this minute that the schedule says were issued, and that this advertiser gave no reason for until now. */
static int missing_find(struct batch *batch, const struct cached *cached, uint64_t ms, const struct ctl_report *found,
			uint32_t count)
{
	const struct ctl_issuing *issuing = batch->issuing;
	const struct ctl_zone *zone = ctl_billing_zone_of(issuing->config, cached->advertiser, cached->advertiser_bytes);

	for (enum ctl_billing_period period = 0; period < CTL_BILLING_PERIODS; period++) {
		uint64_t from, until, start = ctl_zone_floor(zone, ctl_billing_unit(period), ms);
		bool there = !ctl_issuing_wants(issuing, period);
		for (uint32_t i = 0; i < count; i++)
			there = there || (found[i].period == period && strcmp(found[i].zone, ctl_zone_name(zone)) == 0);
		if (there)
			continue;
		int rc = ctl_ledger_schedule(issuing->ledger, period, ctl_zone_name(zone), &from, &until);
		if (rc == 0 && start >= from && start < until)
			rc = missing_add(batch, period, zone, start);
		if (rc != 0 && rc != -ENOENT)
			return rc;
	}
	return 0;
}

/* They get all that is sealed now, this batch included. */
static int missing_issue(struct batch *batch)
{
	int rc = 0;

	for (uint32_t i = 0; i < batch->missings && rc == 0; i++)
		rc = ctl_issuing_period(batch->issuing, batch->version, batch->missing[i].period, batch->missing[i].zone,
					batch->missing[i].start_ms);
	return rc;
}

/* ---- rows ---- */

static int slot_of(struct batch *batch, const struct ctl_report *report, uint32_t *slot)
{
	for (*slot = 0; *slot < batch->slots; (*slot)++)
		if (strcmp(batch->slot[*slot].report.id, report->id) == 0)
			return 0;
	if (batch->slots == batch->slots_max) {
		uint32_t max = batch->slots_max ? 2 * batch->slots_max : 64;
		struct slot *larger = realloc(batch->slot, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		batch->slot = larger;
		batch->slots_max = max;
	}
	batch->slot[batch->slots++] = (struct slot){.report = *report};
	return 0;
}

static int cache_fill(struct batch *batch, struct cached *cached, struct tp_str advertiser, uint32_t minute)
{
	struct ctl_report found[REPORTS_AT];
	uint64_t ms = minute * TP_MINUTE_MS;
	uint32_t count;

	*cached = (struct cached){.minute = minute, .advertiser_bytes = (uint8_t)advertiser.bytes};
	memcpy(cached->advertiser, advertiser.at, advertiser.bytes);
	int rc = ctl_ledger_reports_at(batch->issuing->ledger, advertiser.at, advertiser.bytes, ms, found, REPORTS_AT, &count);
	if (rc == 0)
		rc = missing_find(batch, cached, ms, found, count);
	for (uint32_t i = 0; i < count && rc == 0; i++)
		rc = slot_of(batch, &found[i], &cached->slot[cached->slots++]);
	cached->used = rc == 0;
	return rc;
}

static int row_take(struct batch *batch, const struct tp_rollup_row *row, const char *heap)
{
	const struct tp_str none = {.at = "", .bytes = 0};
	struct tp_str advertiser = tp_rollup_string(row, heap, TP_DIM_ADVERTISER);
	uint32_t hash = row->minute * 2654435761u;

	if (row->minute * TP_MINUTE_MS >= batch->issued_until_ms || advertiser.bytes > TP_ID_BYTES_MAX)
		return 0;
	for (uint32_t i = 0; i < advertiser.bytes; i++)
		hash = (hash ^ (uint8_t)advertiser.at[i]) * 16777619u;
	struct cached *cached = &batch->cache[hash >> 7 & (CACHE - 1)];
	if (!cached->used || cached->minute != row->minute || cached->advertiser_bytes != advertiser.bytes ||
	    memcmp(cached->advertiser, advertiser.at, advertiser.bytes) != 0) {
		int rc = cache_fill(batch, cached, advertiser, row->minute);
		if (rc != 0)
			return rc;
	}
	uint64_t sequence = batch->segment[batch->segments].sequence;
	for (uint32_t i = 0; i < cached->slots; i++) {
		struct slot *slot = &batch->slot[cached->slot[i]];
		if (sequence <= slot->report.sequence)
			continue;
		struct ctl_billing_line *line =
			ctl_billing_line_find(&batch->delta, cached->slot[i], none, tp_rollup_string(row, heap, TP_DIM_CAMPAIGN));
		if (!line || !ctl_billing_line_add(&batch->delta, line, &row->sums, row->currency))
			return -ENOMEM;
		slot->segments |= 1ULL << batch->segments;
	}
	return 0;
}

/* ---- segments ---- */

static int hours_of_span(const struct sto_segment_info *info, uint32_t **hour, uint32_t *hours)
{
	uint64_t first = info->from_ms / TP_MINUTE_MS / HOUR,
		 count = info->to_ms ? (info->to_ms - 1) / TP_MINUTE_MS / HOUR - first + 1 : 0;

	if (count > HOURS_MAX)
		count = HOURS_MAX;
	*hour = malloc((count ? count : 1) * sizeof(**hour));
	if (!*hour)
		return -ENOMEM;
	for (*hours = 0; *hours < count; (*hours)++)
		(*hour)[*hours] = (uint32_t)first + *hours;
	return 0;
}

/* Rows are sorted by minute. */
static int hours_of_rows(const struct tp_rollup_row *rows, uint32_t count, uint32_t **hour, uint32_t *hours)
{
	uint32_t room = 0;

	*hours = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = rows[i].minute / HOUR;
		if (*hours && (*hour)[*hours - 1] == at)
			continue;
		if (*hours == room) {
			uint32_t *larger = realloc(*hour, (room = room ? 2 * room : 64) * sizeof(**hour));
			if (!larger)
				return -ENOMEM;
			*hour = larger;
		}
		(*hour)[(*hours)++] = at;
	}
	return 0;
}

static int segment_take(struct batch *batch, uint32_t index)
{
	struct sto_reader *reader = ctl_store_reader(batch->issuing->store);
	const struct sto_segment_info info = *sto_reader_segment(reader, index);
	struct ctl_ledger_segment *segment = &batch->segment[batch->segments];
	const struct tp_rollup_row *rows;
	const char *heap;
	uint32_t count;

	*segment = (struct ctl_ledger_segment){.sequence = info.sequence,
					       .from_minute = info.from_ms / TP_MINUTE_MS,
					       .to_minute = info.to_ms ? (info.to_ms - 1) / TP_MINUTE_MS + 1 : 0};
	memcpy(segment->sha256, info.chain_sha256, sizeof(segment->sha256));
	batch->hour[batch->segments] = NULL;
	int rc = sto_reader_rollup(reader, index, &rows, &count, &heap);
	if (rc == -ESTALE || rc == -EBADMSG) {
		/* deleted, or not to be read: its hash is kept, and nothing that it may reach over counts as reconciled */
		tp_logf(rc == -EBADMSG ? TP_ERROR : TP_WARN, "a segment cannot be read: bills miss what of it was late",
			"segment=%" PRIu64, info.sequence);
		rc = hours_of_span(&info, &batch->hour[batch->segments], &segment->hours);
		count = 0;
	} else if (rc == 0) {
		rc = hours_of_rows(rows, count, &batch->hour[batch->segments], &segment->hours);
	}
	for (uint32_t i = 0; i < count && rc == 0; i++)
		rc = row_take(batch, &rows[i], heap);
	sto_reader_release(reader, index);
	segment->hour = batch->hour[batch->segments++];
	return rc;
}

static int batch_store(struct batch *batch)
{
	const struct ctl_issuing *issuing = batch->issuing;
	uint64_t last = batch->segment[batch->segments - 1].sequence;

	ctl_billing_sum_sort(&batch->delta);
	int rc = ctl_ledger_hold_if(issuing->ledger, batch->version);
	if (rc != 0)
		return rc;
	for (uint32_t i = 0; i < batch->segments && rc == 0; i++)
		rc = ctl_ledger_segment_put(issuing->ledger, &batch->segment[i]);
	for (uint32_t first = 0, end; first < batch->delta.lines && rc == 0; first = end) {
		const struct slot *slot = &batch->slot[batch->delta.line[first].period];
		uint64_t from[BATCH];
		uint32_t count = 0;
		for (end = first; end < batch->delta.lines && batch->delta.line[end].period == batch->delta.line[first].period;
		     end++)
			;
		for (uint32_t i = 0; i < batch->segments; i++)
			if (slot->segments >> i & 1)
				from[count++] = batch->segment[i].sequence;
		rc = ctl_ledger_correction_put(issuing->ledger, &slot->report, ctl_issuing_date(issuing), last, &batch->delta,
					       first, end - first, from, count);
		if (rc == 0 && issuing->issued)
			issuing->issued->corrections++;
		if (rc == 0)
			tp_logf(TP_INFO, "a bill was corrected", "report=%s revision=%" PRIu64 " lines=%u", slot->report.id,
				slot->report.revision + 1, end - first);
	}
	return ctl_ledger_release(issuing->ledger, rc);
}

static int batch_run(const struct ctl_issuing *issuing, uint64_t version, uint32_t index, uint32_t count, struct cached *cache)
{
	struct sto_reader *reader = ctl_store_reader(issuing->store);
	struct batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return -ENOMEM;
	batch->issuing = issuing;
	batch->version = version;
	batch->cache = cache;
	batch->delta.lines_max = UINT32_MAX / 2;
	memset(cache, 0, CACHE * sizeof(*cache));
	int rc = ctl_ledger_schedule_last(issuing->ledger, &batch->issued_until_ms);
	for (uint32_t i = index; i < index + count && rc == 0 && i < sto_reader_segments(reader); i++) {
		if (batch->delta.lines > BATCH_ROWS)
			break;
		rc = segment_take(batch, i);
	}
	if (rc == 0)
		rc = missing_issue(batch);
	if (rc == 0 && issuing->stopping && issuing->stopping(issuing->context))
		rc = -EINTR;
	if (rc == 0)
		rc = batch_store(batch);
	for (uint32_t i = 0; i < batch->segments; i++)
		free(batch->hour[i]);
	ctl_billing_sum_fini(&batch->delta);
	free(batch->slot);
	free(batch->missing);
	free(batch);
	return rc;
}

int ctl_issuing_segments(const struct ctl_issuing *issuing)
{
	struct sto_reader *reader = ctl_store_reader(issuing->store);
	struct cached *cache = malloc(CACHE * sizeof(*cache));
	uint64_t last = 0, version;
	uint32_t tries = 0;
	int rc = cache ? 0 : -ENOMEM;

	while (rc == 0 && !(issuing->stopping && issuing->stopping(issuing->context))) {
		rc = ctl_ledger_version(issuing->ledger, &version);
		if (rc == 0)
			rc = ctl_ledger_segment_last(issuing->ledger, &last);
		/* the reader's list is by sequence; a bill that was issued on the way has refreshed it */
		uint32_t segments = sto_reader_segments(reader), index = segments;
		while (index > 0 && sto_reader_segment(reader, index - 1)->sequence > last)
			index--;
		if (rc != 0 || index == segments)
			break;
		if (last && index == 0 && sto_reader_segment(reader, 0)->sequence > last + 1)
			tp_logf(TP_WARN, "segments were deleted before they were seen: bills miss what of them was late",
				"from=%" PRIu64 " to=%" PRIu64, last + 1, sto_reader_segment(reader, 0)->sequence - 1);
		rc = batch_run(issuing, version, index, segments - index < BATCH ? segments - index : BATCH, cache);
		if (rc == -EALREADY && tries++ < CTL_ISSUING_TRIES)
			rc = 0;
	}
	free(cache);
	return rc;
}
