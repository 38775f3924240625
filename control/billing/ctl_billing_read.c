/*
 * Reads the sums of bills: see ctl_billing_read.h. Whoever has the store.
 *
 *   Kolkata's day   18:30 ├─┼────┼────┼─ … ─┼────┼─┤ 18:30     minutes to 19:00, hours, minutes from 18:00
 *   Berlin's month  22:00 ├──┼────────┼─ … ────────┼──┤ 23:00  hours to midnight, days, hours
 */
#include "ctl_billing_read.h"

#include "turnpike/live.h"
#include "turnpike/text.h"

enum { HOUR = 60, DAY = 1440 };

struct reading {
	struct ctl_billing_sum *sum;
	struct ctl_billing_mark mark;
	uint64_t from, to;
};

static void begin(void *context)
{
	struct reading *reading = context;
	ctl_billing_sum_reset(reading->sum, reading->mark);
}

static bool row(void *context, const struct tp_rollup_row *one, const char *heap)
{
	struct reading *reading = context;
	/* rows outside may come too, and would be of another period */
	return one->minute < reading->from || one->minute >= reading->to || ctl_billing_sum_add(reading->sum, one, heap);
}

/* Whether all periods begin on whole units of UTC. */
static bool all_whole(const struct ctl_billing_sum *sum, uint32_t unit)
{
	for (uint32_t i = 0; i <= sum->periods; i++)
		if (sum->bound[i] % unit)
			return false;
	return true;
}

/* The periods [first, end). */
static int part_read(struct ctl_store *store, const struct tp_live *live, struct ctl_billing_sum *sum, uint32_t first, uint32_t end,
		     enum sto_grain grain, struct ctl_facts *facts)
{
	struct reading reading = {.sum = sum, .mark = ctl_billing_sum_mark(sum), .from = sum->bound[first], .to = sum->bound[end]};
	const struct ctl_scan scan = {
		.context = &reading,
		.from_minute = reading.from,
		.to_minute = reading.to,
		.grain = grain,
		.dimension = TP_DIM_ADVERTISER,
		.id = sum->advertiser,
		.id_bytes = sum->advertiser_bytes,
		.begin = begin,
		.row = row,
	};

	return ctl_store_scan(store, live, &scan, facts);
}

int ctl_billing_read(struct ctl_store *store, const struct tp_live *live, struct ctl_billing_sum *sum, struct ctl_facts *facts)
{
	uint32_t count = sum->periods;
	uint64_t length = count ? (sum->bound[count] - sum->bound[0]) / count : 0; /* of a period, on the average */

	/* one reading, of the largest rollups that lie in one period each */
	if (all_whole(sum, DAY))
		return part_read(store, live, sum, 0, count, STO_DAYS, facts);
	if (all_whole(sum, HOUR) && length <= 2 * DAY)
		return part_read(store, live, sum, 0, count, STO_HOURS, facts);
	if (length <= HOUR)
		return part_read(store, live, sum, 0, count, STO_MINUTES, facts);
	for (uint32_t i = 0; i < count; i++) {
		struct ctl_facts each;
		int rc = part_read(store, live, sum, i, i + 1, STO_DAYS, &each);
		/* the earliest watermark: what it calls final was in every snapshot */
		if (rc != 0 || i == 0 || each.watermark_ms < facts->watermark_ms)
			*facts = each;
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* ---- what is not sealed yet ---- */

/* Marks the periods that the minutes [from, to] touch. */
static void mark(const uint64_t *bound, uint32_t periods, uint64_t from, uint64_t to, bool *fresh)
{
	for (uint32_t i = 0; i < periods && bound[i] <= to; i++)
		fresh[i] = fresh[i] || bound[i + 1] > from;
}

void ctl_billing_fresh(struct ctl_store *store, const struct tp_live *live, uint64_t sequence, const uint64_t *bound,
		       uint32_t periods, bool *fresh)
{
	struct sto_reader *reader = ctl_store_reader(store);

	for (uint32_t i = 0; live && i < live->rollup_count; i++) {
		const struct tp_rollup *table = tp_live_rollup(live, i);
		/* acquire: as in ctl_store_scan() */
		uint64_t file_id = atomic_load_explicit(&table->file_id, memory_order_acquire);
		if (file_id == 0 || sto_reader_sealed(reader, file_id) ||
		    atomic_load_explicit(&table->rows, memory_order_acquire) == 0)
			continue;
		mark(bound, periods, atomic_load_explicit(&table->minute_min, memory_order_relaxed),
		     atomic_load_explicit(&table->minute_max, memory_order_relaxed), fresh);
	}
	for (uint32_t i = sto_reader_segments(reader); i-- > 0;) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		if (info->sequence <= sequence)
			break;
		/* 0,0 is a segment of conflicts only */
		if (info->to_ms)
			mark(bound, periods, info->from_ms / TP_MINUTE_MS, (info->to_ms - 1) / TP_MINUTE_MS, fresh);
	}
}
