/*
 * Sums of sealed events over a range of minutes: which class of rollup files answers for which part of it, and what retention will
 * take.
 *
 *   grain: days      │◄ hours ►│◄────────── days ──────────►│◄ hours ►│
 *   from ──┬─────────┬─────────┬────────────────────────────┬─────────┬─────────┬── to
 *          │◄minutes►│      whole day                   whole day     │◄minutes►│
 *
 * Every part is answered by one class, which covers the same segments as the others; the segments behind that are added by minutes.
 * Nothing is counted twice, because parts do not overlap and each bucket lies in one part.
 *
 * Where a class is not whole any more (minute_gone), the next coarser one answers; its buckets count where they start. The border is
 * moved up to a whole bucket of that class, so that no bucket is counted on both sides.
 */
#include "reader_state.h"

#include <errno.h>
#include <string.h>

enum { HOUR = 60, DAY = 1440 };

struct asking {
	struct sto_reader *reader;
	struct rollup_filter filter;
	sto_sums_fn fn;
	void *context;
	struct sto_damage *damage;
};

static int damaged(const struct asking *asking, int rc, bool rollup, uint64_t sequence)
{
	if (rc == -EBADMSG && asking->damage)
		*asking->damage = (struct sto_damage){.rollup = rollup, .sequence = sequence};
	return rc;
}

static uint64_t up(uint64_t minute, uint64_t unit)
{
	return (minute + unit - 1) / unit * unit;
}

/* Buckets of the class that start in [from, to). */
static int class_ask(const struct asking *asking, enum manifest_class class, uint64_t from, uint64_t to)
{
	struct sto_reader *reader = asking->reader;
	int rc = 0;
	if (from >= to)
		return 0;
	if (class != MANIFEST_DAY) {
		enum manifest_class coarser = (enum manifest_class)(class + 1);
		uint64_t whole = up(reader->manifest.facts.minute_gone[class], manifest_class_minutes(coarser));
		if (from < whole) {
			rc = class_ask(asking, coarser, from, to < whole ? to : whole);
			from = whole;
		}
	}
	for (uint32_t i = 0; i < reader->rollups && !rc && from < to; i++) {
		struct reader_rollup *rollup = &reader->rollup[i];
		if (rollup->facts.class != class)
			continue;
		if (rollup->file.base)
			rc = rollup_file_scan(&rollup->file, &asking->filter, from, to, asking->fn, asking->context);
		else
			rc = -EBADMSG;
		rc = damaged(asking, rc, true, rollup->facts.sequence);
	}
	return rc;
}

static int range_ask(const struct asking *asking, enum sto_grain grain, uint64_t from, uint64_t to)
{
	if (from >= to)
		return 0;
	if (grain == STO_MINUTES)
		return class_ask(asking, MANIFEST_MINUTE, from, to);
	uint64_t unit = grain == STO_DAYS ? DAY : HOUR;
	uint64_t first = up(from, unit), last = to - to % unit;
	if (first > last || first < from)
		return range_ask(asking, (enum sto_grain)(grain - 1), from, to);
	int rc = range_ask(asking, (enum sto_grain)(grain - 1), from, first);
	if (!rc)
		rc = class_ask(asking, grain == STO_DAYS ? MANIFEST_DAY : MANIFEST_HOUR, first, last);
	return rc ? rc : range_ask(asking, (enum sto_grain)(grain - 1), last, to);
}

/* The first row at or after the minute: rows of a segment are sorted by it. */
static uint32_t lower_bound(const struct tp_rollup_row *rows, uint32_t count, uint64_t minute)
{
	uint32_t low = 0, high = count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (rows[middle].minute < minute)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int segment_ask(const struct asking *asking, uint32_t index, uint64_t from, uint64_t to)
{
	struct reader_segment *segment = &asking->reader->segment[index];
	const struct tp_rollup_row *rows;
	const char *heap;
	uint32_t count;
	if (segment->facts.minute_min > segment->facts.minute_max || segment->facts.minute_max < from ||
	    segment->facts.minute_min >= to)
		return 0;
	int rc = sto_reader_rollup(asking->reader, index, &rows, &count, &heap);
	if (rc)
		return damaged(asking, rc, false, segment->facts.sequence);
	const struct rollup_filter *filter = &asking->filter;
	for (uint32_t at = lower_bound(rows, count, from); at < count && rows[at].minute < to; at++) {
		if (filter->id) {
			struct tp_str string = tp_rollup_string(&rows[at], heap, filter->dimension);
			if (string.bytes != filter->id_bytes || memcmp(string.at, filter->id, string.bytes) != 0)
				continue;
		}
		if (!asking->fn(asking->context, &rows[at], heap))
			return -ECANCELED;
	}
	return 0;
}

int sto_reader_sums(struct sto_reader *reader, const struct sto_sums_query *query, sto_sums_fn fn, void *context,
		    struct sto_damage *damage)
{
	const struct asking asking = {
		.reader = reader,
		.filter = {.dimension = query->dimension, .id = query->id, .id_bytes = query->id_bytes, .alone = query->alone},
		.fn = fn,
		.context = context,
		.damage = damage,
	};
	/* Minutes are 32 bits wide everywhere below. */
	uint64_t end = (uint64_t)UINT32_MAX + 1, to = query->to_minute < end ? query->to_minute : end;
	uint64_t covered = reader->manifest.facts.covered;
	int rc = range_ask(&asking, query->grain, query->from_minute, to);
	for (uint32_t i = reader->segments; i-- > 0 && !rc && reader->segment[i].facts.sequence > covered;)
		rc = segment_ask(&asking, i, query->from_minute, to);
	return rc;
}

/* ---- what retention will take ---- */

static uint64_t due(uint64_t sealed_ms, uint64_t age_ms)
{
	return sealed_ms > UINT64_MAX - 1 - age_ms ? UINT64_MAX - 1 : sealed_ms + age_ms;
}

void sto_reader_retention(const struct sto_reader *reader, const struct sto_retention *retention, sto_due_fn fn, void *context)
{
	uint64_t age_ms[STO_RETENTION_CLASSES], covered = reader->manifest.facts.covered;
	char name[FOLDER_NAME_BYTES];
	sto_retention_effective(retention, age_ms);
	for (uint32_t i = 0; i < reader->segments; i++) {
		const struct manifest_segment *facts = &reader->segment[i].facts;
		sto_reader_segment_name(reader, i, name);
		fn(context, STO_RETAIN_RAW, name, facts->bytes,
		   facts->sequence > covered ? UINT64_MAX : due(facts->sealed_ms, age_ms[STO_RETAIN_RAW]));
	}
	for (uint32_t i = 0; i < reader->rollups; i++) {
		const struct sto_rollup_info *info = &reader->rollup[i].info;
		sto_reader_rollup_name(reader, i, name);
		fn(context, info->class, name, info->bytes, due(info->sealed_ms_max, age_ms[info->class]));
	}
}
