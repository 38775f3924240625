/*
 * Rows into columns: segment_build.h. Records come in bursts, and are taken apart a column at a time: each loop does one thing to one field
 * of the burst, and what a column of texts has to look at is on its way while the other rows are dealt with.
 *
 *   burst of records ─► texts, column by column ─► numbers, column by column ─► evidence, hashes, ids, totals, row by row
 *
 * Invariant: a row is there once `rows` counts it; what a failed burst left behind it is not looked at, and the build is of no more use.
 *
 * Threads: one at a time.
 */
#include "segment_build.h"

enum { ROWS_FIRST = 256, ROWS_MAX = 1 << 30, YIELD_ROWS = 1024 };
static_assert((int)ROWS_FIRST >= (int)SEGMENT_TAKE_BURST, "doubling makes room for a burst");

static const bool is_wide[SEGMENT_ROW_NUMBERS] = {
	[SEGMENT_TIME] = true,   [SEGMENT_LAG] = true,        [SEGMENT_BID] = true,       [SEGMENT_IP_HIGH] = true,
	[SEGMENT_IP_LOW] = true, [SEGMENT_TRACE_HIGH] = true, [SEGMENT_TRACE_LOW] = true, [SEGMENT_SPAN] = true,
};

static bool resize(void *array, uint64_t count, uint64_t each)
{
	void **at = array;
	void *larger = realloc(*at, count * each);
	if (larger)
		*at = larger;
	return larger;
}

int segment_build_reserve(struct segment_build *build, uint64_t max)
{
	if (max > ROWS_MAX)
		return -EOVERFLOW;
	if (max <= build->rows_max)
		return 0;
	bool good = resize(&build->id, max, sizeof(*build->id));
	for (int c = 0; c < SEGMENT_ROW_NUMBERS; c++) {
		if (build->wide[c])
			good &= resize(&build->wide[c], max, sizeof(*build->wide[c]));
		if (build->narrow[c])
			good &= resize(&build->narrow[c], max, sizeof(*build->narrow[c]));
	}
	for (int s = 0; s < TP_STRINGS; s++)
		good &= resize(&build->text[s], max, sizeof(*build->text[s]));
	if (build->evidence_at)
		good &= resize(&build->evidence_at, max, sizeof(*build->evidence_at));
	if (!good)
		return -ENOMEM;
	build->rows_max = (uint32_t)max;
	return 0;
}

/* ---- texts ---- */

static bool texts_put(struct segment_build *build, const struct tp_event *const *event, uint32_t count)
{
	const char *at[SEGMENT_TAKE_BURST];
	uint16_t bytes[SEGMENT_TAKE_BURST];
	for (uint32_t i = 0; i < count; i++)
		at[i] = (const char *)(event[i] + 1);
	for (int s = 0; s < TP_STRINGS; s++) {
		for (uint32_t i = 0; i < count; i++)
			bytes[i] = event[i]->string_bytes[s];
		if (!text_add_burst(&build->texts[s], at, bytes, count, build->text[s] + build->rows))
			return false;
		for (uint32_t i = 0; i < count; i++)
			at[i] += bytes[i];
	}
	return true;
}

/* ---- numbers ---- */

/* The column comes into being with its first value; all rows before had none. */
static bool column_put(struct segment_build *build, uint32_t column, const uint64_t *value, uint32_t count)
{
	const uint32_t row = build->rows;
	uint64_t any = 0;
	if (is_wide[column]) {
		uint64_t *to = build->wide[column];
		if (!to) {
			for (uint32_t i = 0; i < count; i++)
				any |= value[i];
			if (!any)
				return true;
			to = build->wide[column] = malloc(build->rows_max * sizeof(*to));
			if (!to)
				return false;
			memset(to, 0, row * sizeof(*to));
		}
		memcpy(to + row, value, count * sizeof(*to));
		return true;
	}
	uint32_t *to = build->narrow[column];
	if (!to) {
		for (uint32_t i = 0; i < count; i++)
			any |= value[i];
		if (!any)
			return true;
		to = build->narrow[column] = malloc(build->rows_max * sizeof(*to));
		if (!to)
			return false;
		memset(to, 0, row * sizeof(*to));
	}
	for (uint32_t i = 0; i < count; i++)
		to[row + i] = (uint32_t)value[i];
	return true;
}

static inline uint64_t load_native(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint64_t load_big_endian(const uint8_t *at)
{
	return __builtin_bswap64(load_native(at));
}

static inline uint64_t ip_low(const struct tp_event *event)
{
	uint64_t low = load_big_endian(event->ip + 8);
	return event->flags & TP_HAS_IP && !load_native(event->ip) ? low ^ 0xffff00000000 : low;
}

static inline uint64_t three_bytes(const void *from)
{
	const uint8_t *at = from;
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16;
}

static inline uint64_t zigzag32(int32_t value)
{
	return (uint32_t)column_zigzag((uint64_t)(int64_t)value);
}

static bool numbers_put(struct segment_build *build, const struct tp_event *const *event, uint32_t count)
{
	uint64_t value[SEGMENT_TAKE_BURST];
	bool good = true;
#define PUT(column, expression) \
	do { \
		for (uint32_t i = 0; i < count; i++) { \
			const struct tp_event *e = event[i]; \
			value[i] = (expression); \
		} \
		good &= column_put(build, column, value, count); \
	} while (0)
	PUT(SEGMENT_TIME, e->timestamp_ms);
	PUT(SEGMENT_LAG, column_zigzag(e->received_ms - e->timestamp_ms));
	PUT(SEGMENT_TYPE, e->type);
	PUT(SEGMENT_VERDICT, e->verdict);
	PUT(SEGMENT_FRAUD, e->fraud);
	PUT(SEGMENT_FLAGS, e->flags);
	PUT(SEGMENT_DEVICE, e->device);
	PUT(SEGMENT_COUNTRY, (uint8_t)e->country[0] | (uint32_t)(uint8_t)e->country[1] << 8);
	PUT(SEGMENT_CURRENCY, three_bytes(e->currency));
	PUT(SEGMENT_BID, (uint64_t)e->bid_micros);
	PUT(SEGMENT_POSITION, e->click_position);
	PUT(SEGMENT_TIMEZONE, zigzag32(e->timezone_offset_min));
	PUT(SEGMENT_MOUSE, zigzag32(e->mouse_moves));
	PUT(SEGMENT_IP_HIGH, load_big_endian(e->ip));
	PUT(SEGMENT_IP_LOW, ip_low(e));
	PUT(SEGMENT_TRACE_HIGH, load_native(e->trace_id));
	PUT(SEGMENT_TRACE_LOW, load_native(e->trace_id + 8));
	PUT(SEGMENT_SPAN, load_native(e->span_id));
	PUT(SEGMENT_TRACE_FLAGS, e->trace_flags);
	PUT(SEGMENT_RULE_VERSION, e->rule_version);
	PUT(SEGMENT_RESERVED, three_bytes(e->reserved));
	PUT(SEGMENT_EVIDENCE, e->evidence_count);
#undef PUT
	return good;
}

/* ---- what few rows have ---- */

static bool evidence_put(struct segment_build *build, const struct tp_event *event, uint32_t row)
{
	if (!build->evidence_at) {
		if (!event->evidence_count)
			return true;
		build->evidence_at = calloc(build->rows_max, sizeof(*build->evidence_at));
		if (!build->evidence_at)
			return false;
	}
	build->evidence_at[row] = (uint32_t)(build->evidence.bytes / sizeof(struct tp_evidence));
	if (event->evidence_count)
		buffer_put(&build->evidence, tp_event_evidence(event), event->evidence_count * sizeof(struct tp_evidence));
	return !build->evidence.failed;
}

static bool hashes_put(struct segment_build *build, const struct tp_event *event, uint32_t row)
{
	uint64_t fingerprint, shard_hash;
	tp_event_hashes(event, &fingerprint, &shard_hash);
	if (fingerprint == event->fingerprint && shard_hash == event->shard_hash)
		return true;
	if (build->hashes == build->hashes_max) {
		uint32_t max = build->hashes_max ? 2 * build->hashes_max : 64;
		if (!resize(&build->hash, max, sizeof(*build->hash)))
			return false;
		build->hashes_max = max;
	}
	build->hash[build->hashes++] =
		(struct build_hash){.row = row, .fingerprint = event->fingerprint, .shard_hash = event->shard_hash};
	return true;
}

/* ---- records ---- */

int segment_build_events(struct segment_build *build, const struct tp_event *const *event, uint32_t count)
{
	assert(count <= SEGMENT_TAKE_BURST);
	if (build->rows_max - build->rows < count) {
		int rc = segment_build_reserve(build, build->rows_max ? 2 * (uint64_t)build->rows_max : ROWS_FIRST);
		if (rc)
			return rc;
	}
	bool good = texts_put(build, event, count) && numbers_put(build, event, count);
	for (uint32_t i = 0; i < count && good; i++) {
		good = evidence_put(build, event[i], build->rows + i) && hashes_put(build, event[i], build->rows + i);
		build->id[build->rows + i] = event[i]->id;
		segment_totals_add(&build->totals, event[i]);
	}
	if (!good)
		return -ENOMEM;
	const uint32_t before = build->rows;
	build->rows += count;
	if (before / YIELD_ROWS != build->rows / YIELD_ROWS && build->yield.fn)
		build->yield.fn(build->yield.context);
	return 0;
}

int segment_build_event(struct segment_build *build, const struct tp_event *event)
{
	if (event->type < TP_EVENT_TYPES)
		return segment_build_events(build, &event, 1);
	buffer_put(&build->raw, event, event->bytes);
	build->raw_records++;
	return build->raw.failed ? -ENOMEM : 0;
}
