/*
 * Encoding integer streams: column.h has the bytes. The cheapest encoding is found by counting bits, not by trying all of them: one
 * pass gives minimum, maximum, runs and the widths of the differences, a second one the widths above the minimum; only runs and
 * dictionaries that promise to win are tried.
 *
 * Threads: any, each with its own scratch.
 */
#include "column.h"

#include "column_widths.h"

enum { DISTINCT_MAX = 8192, DISTINCT_SLOTS = 4 * DISTINCT_MAX, HEAD_BITS = 8 * sizeof(struct column_head) };

/* Distinct values: open addressing. */
struct distinct {
	uint64_t slot_value[DISTINCT_SLOTS];
	uint16_t slot_code[DISTINCT_SLOTS]; /* 0: free, else code + 1 once they are sorted */
	uint64_t value[DISTINCT_MAX];
};

/* Grows with what is asked of it: most columns of small segments need next to nothing. */
struct column_scratch {
	uint32_t room; /* values in each of the four */
	uint64_t *delta, *value, *length, *patch;
	struct distinct *distinct; /* NULL: not needed yet */
	struct buffer tried;
};

struct column_scratch *column_scratch_new(void)
{
	return calloc(1, sizeof(struct column_scratch));
}

void column_scratch_free(struct column_scratch *scratch)
{
	if (!scratch)
		return;
	buffer_fini(&scratch->tried);
	free(scratch->delta);
	free(scratch->distinct);
	free(scratch);
}

static bool scratch_reserve(struct column_scratch *scratch, struct buffer *out, uint32_t count)
{
	if (count > scratch->room) {
		uint32_t room = count < 1024 ? 1024 : COLUMN_VALUES_MAX;
		free(scratch->delta);
		scratch->delta = malloc((4 * (uint64_t)room + 1) * sizeof(*scratch->delta));
		scratch->room = scratch->delta ? room : 0;
		scratch->value = scratch->delta + room;
		scratch->length = scratch->value + room;
		scratch->patch = scratch->length + room;
	}
	out->failed |= !scratch->delta;
	return scratch->delta;
}

/* ---- FRAME and PATCHED ---- */

struct plan {
	uint64_t bits;
	uint32_t width, width_patch, patches;
};

/* The cheapest width for the packed part, with patches for what is wider. */
static struct plan plan_make(const struct column_widths *widths, uint32_t count)
{
	uint32_t widest = 64;
	while (widest && !widths->count[widest])
		widest--;
	struct plan best = {.bits = (uint64_t)count * widest, .width = widest};
	uint32_t wider = 0;
	for (uint32_t width = widest; width-- > 0;) {
		wider += widths->count[width + 1];
		uint64_t bits = (uint64_t)count * width + (uint64_t)wider * (16 + widest - width);
		if (bits < best.bits)
			best = (struct plan){.bits = bits, .width = width, .width_patch = widest - width, .patches = wider};
	}
	return best;
}

static void pack(struct buffer *out, const uint64_t *values, uint64_t base, uint32_t shift, uint32_t width, uint32_t count)
{
	uint64_t bytes = column_packed_bytes(count, width);
	uint8_t *to = buffer_reserve(out, bytes + 8);
	if (!to)
		return;
	out->bytes += bytes;
	if (!width)
		return;
	uint64_t mask = width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1;
	unsigned __int128 held = 0;
	uint32_t bits = 0;
	for (uint32_t i = 0; i < count; i++) {
		held |= (unsigned __int128)((values[i] - base) >> shift & mask) << bits;
		bits += width;
		if (bits >= 64) {
			uint64_t word = (uint64_t)held;
			memcpy(to, &word, sizeof(word));
			to += sizeof(word);
			held >>= 64;
			bits -= 64;
		}
	}
	uint64_t word = (uint64_t)held;
	memcpy(to, &word, sizeof(word)); /* up to eight bytes, of which those that count were reserved */
}

static void plain_put(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint32_t count, uint64_t base,
		      const struct plan *plan)
{
	const struct column_head head = {.encoding = plan->patches ? COLUMN_PATCHED : COLUMN_FRAME,
					 .width = (uint8_t)plan->width,
					 .width_patch = (uint8_t)plan->width_patch,
					 .extra = plan->patches,
					 .base = base};
	buffer_put(out, &head, sizeof(head));
	pack(out, values, base, 0, plan->width, count);
	if (!plan->patches)
		return;
	uint8_t *to = buffer_reserve(out, ((uint64_t)plan->patches + 1) * sizeof(uint16_t)); /* one more, for what is no patch */
	if (!to)
		return;
	uint32_t patches = 0;
	for (uint32_t i = 0; i < count; i++) {
		const uint64_t above = values[i] - base;
		const uint16_t position = (uint16_t)i;
		memcpy(to + patches * sizeof(position), &position, sizeof(position));
		scratch->patch[patches] = above;
		patches += above >> plan->width != 0;
	}
	out->bytes += (uint64_t)patches * sizeof(uint16_t);
	pack(out, scratch->patch, 0, plan->width, plan->width_patch, patches);
}

/* ---- looking at the values ---- */

struct look {
	uint64_t min, max;
	uint32_t runs;
	struct plan plain, delta; /* delta: the cheaper of zigzag … */
	bool zigzag;
	uint64_t delta_min; /* … and differences above the least one */
};

static void deltas_make(struct column_scratch *scratch, const uint64_t *values, uint32_t count, const struct look *look)
{
	scratch->delta[0] = look->zigzag ? 0 : look->delta_min;
	for (uint32_t i = 1; i < count; i++)
		scratch->delta[i] = look->zigzag ? column_zigzag(values[i] - values[i - 1]) : values[i] - values[i - 1];
}

/* What one pass without a branch tells; *delta_min: of the differences of neighbours. */
COLUMN_VECTORISED static struct look extremes(const uint64_t *values, uint32_t count, int64_t *delta_min)
{
	uint64_t min = values[0], max = values[0], runs = 1;
	int64_t least = INT64_MAX;
	for (uint32_t i = 1; i < count; i++) {
		const int64_t difference = (int64_t)(values[i] - values[i - 1]);
		least = difference < least ? difference : least;
		min = values[i] < min ? values[i] : min;
		max = values[i] > max ? values[i] : max;
		runs += difference != 0;
	}
	*delta_min = least;
	return (struct look){.min = min, .max = max, .runs = (uint32_t)runs};
}

static struct look look_at(const uint64_t *values, uint32_t count)
{
	int64_t delta_min;
	struct look look = extremes(values, count, &delta_min);
	if (look.min == look.max)
		return look;
	struct column_widths widths[COLUMN_WIDTHS];
	look.delta_min = (uint64_t)delta_min;
	column_widths(values, count, look.min, look.delta_min, widths);
	/* The first one is no difference. */
	widths[COLUMN_WIDTHS_ABOVE].count[column_width(values[0] - look.min)]++;
	widths[COLUMN_WIDTHS_RISE].count[0]++;
	widths[COLUMN_WIDTHS_ZIGZAG].count[0]++;
	look.plain = plan_make(&widths[COLUMN_WIDTHS_ABOVE], count);
	look.delta = plan_make(&widths[COLUMN_WIDTHS_RISE], count);
	const struct plan zigzag = plan_make(&widths[COLUMN_WIDTHS_ZIGZAG], count);
	look.zigzag = zigzag.bits < look.delta.bits;
	if (look.zigzag)
		look.delta = zigzag;
	look.delta.bits += HEAD_BITS;
	return look;
}

static void delta_put(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint32_t count,
		      const struct look *look)
{
	const struct column_head head = {.encoding = COLUMN_DELTA, .extra = look->zigzag, .base = values[0]};
	buffer_put(out, &head, sizeof(head));
	deltas_make(scratch, values, count, look);
	plain_put(scratch, out, scratch->delta, count, look->zigzag ? 0 : look->delta_min, &look->delta);
}

static void plainest_put(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint32_t count,
			 const struct look *look)
{
	if (look->delta.bits < look->plain.bits)
		delta_put(scratch, out, values, count, look);
	else
		plain_put(scratch, out, values, count, look->min, &look->plain);
}

void column_encode_plain(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint32_t count)
{
	if (!scratch_reserve(scratch, out, count))
		return;
	const struct look look = look_at(values, count);
	plainest_put(scratch, out, values, count, &look);
}

/* ---- RUNS and DICTIONARY ---- */

static void runs_put(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint32_t count, uint32_t runs)
{
	const struct column_head head = {.encoding = COLUMN_RUNS, .extra = runs};
	uint32_t run = 0;
	scratch->value[0] = values[0];
	scratch->length[0] = 0;
	for (uint32_t i = 1; i < count; i++) {
		if (values[i] == values[i - 1]) {
			scratch->length[run]++;
			continue;
		}
		scratch->value[++run] = values[i];
		scratch->length[run] = 0;
	}
	buffer_put(out, &head, sizeof(head));
	column_encode_plain(scratch, out, scratch->value, runs);
	column_encode_plain(scratch, out, scratch->length, runs);
}

static uint32_t slot_of(const struct distinct *distinct, uint64_t value)
{
	uint32_t slot = (uint32_t)((value * 0x9e3779b97f4a7c15ULL) >> 49) % DISTINCT_SLOTS;
	while (distinct->slot_code[slot] && distinct->slot_value[slot] != value)
		slot = (slot + 1) % DISTINCT_SLOTS;
	return slot;
}
static_assert(1 << 15 == DISTINCT_SLOTS, "the shift above gives a slot");

static int value_compare(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;
	return *a < *b ? -1 : *a > *b;
}

/* Collects the distinct values, sorted; 0 when there are more than `max`, or no memory to count them. */
static uint32_t distinct_find(struct column_scratch *scratch, const uint64_t *values, uint32_t count, uint32_t max)
{
	uint32_t found = 0;
	if (!scratch->distinct)
		scratch->distinct = malloc(sizeof(*scratch->distinct));
	struct distinct *distinct = scratch->distinct;
	if (!distinct)
		return 0;
	memset(distinct->slot_code, 0, sizeof(distinct->slot_code));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t slot = slot_of(distinct, values[i]);
		if (distinct->slot_code[slot])
			continue;
		if (found == max)
			return 0;
		distinct->slot_value[slot] = values[i];
		distinct->value[found++] = values[i];
		distinct->slot_code[slot] = 1;
	}
	qsort(distinct->value, found, sizeof(distinct->value[0]), value_compare);
	for (uint32_t code = 0; code < found; code++)
		distinct->slot_code[slot_of(distinct, distinct->value[code])] = (uint16_t)(code + 1);
	return found;
}

static void dictionary_put(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint32_t count,
			   uint32_t distinct)
{
	const struct column_head head = {.encoding = COLUMN_DICTIONARY, .extra = distinct};
	buffer_put(out, &head, sizeof(head));
	column_encode_plain(scratch, out, scratch->distinct->value, distinct);
	for (uint32_t i = 0; i < count; i++)
		scratch->value[i] = scratch->distinct->slot_code[slot_of(scratch->distinct, values[i])] - 1u;
	column_encode_plain(scratch, out, scratch->value, count);
}

void column_encode(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint32_t count)
{
	assert(count && count <= COLUMN_VALUES_MAX);
	if (!scratch_reserve(scratch, out, count))
		return;
	const struct look look = look_at(values, count);
	uint64_t best = look.delta.bits < look.plain.bits ? look.delta.bits : look.plain.bits;
	/* Long runs are worth some bytes: whoever scans them does not have to look at each value. */
	bool long_runs = look.runs <= count / 64 && count >= 1024;
	if (look.min == look.max || (best < 4 * HEAD_BITS && !long_runs)) {
		plainest_put(scratch, out, values, count, &look);
		return;
	}
	/* Both streams of the runs: at least a bit each, and what the widths of the values say. */
	scratch->tried.bytes = 0;
	if (long_runs || (look.runs < count / 2 && (uint64_t)look.runs * 2 + 3 * HEAD_BITS < best)) {
		runs_put(scratch, &scratch->tried, values, count, look.runs);
		if (8 * scratch->tried.bytes < best + (long_runs ? 4 : 1) * HEAD_BITS)
			best = 8 * scratch->tried.bytes - HEAD_BITS;
		else
			scratch->tried.bytes = 0;
	}
	uint32_t width = (uint32_t)(best / count);
	if (width > 2 && count > 64) {
		uint32_t max = width > 13 ? DISTINCT_MAX : 1u << (width - 1);
		max = max < count / 4 ? max : count / 4;
		uint32_t distinct = distinct_find(scratch, values, count, max);
		/* sorted values cost about the bits of the gap between two of them */
		uint64_t gap = distinct ? column_width((look.max - look.min) / distinct) + 3 : 0;
		uint64_t bits = distinct ? (uint64_t)count * column_width(distinct - 1) + distinct * gap + 2 * HEAD_BITS : 0;
		if (distinct && bits < best - best / 16) {
			scratch->tried.bytes = 0;
			dictionary_put(scratch, out, values, count, distinct);
			return;
		}
	}
	if (scratch->tried.bytes)
		buffer_put(out, scratch->tried.at, scratch->tried.bytes);
	else
		plainest_put(scratch, out, values, count, &look);
	out->failed |= scratch->tried.failed;
}

COLUMN_VECTORISED static void plane_put(uint8_t *to, const uint64_t *values, uint32_t count, uint64_t min, uint32_t shift)
{
	for (uint32_t i = 0; i < count; i++)
		to[i] = (uint8_t)((values[i] - min) >> shift);
}

COLUMN_VECTORISED void column_extremes(const uint64_t *values, uint32_t count, uint64_t *min_at, uint64_t *max_at)
{
	uint64_t min = values[0], max = values[0];
	for (uint32_t i = 1; i < count; i++) {
		min = values[i] < min ? values[i] : min;
		max = values[i] > max ? values[i] : max;
	}
	*min_at = min;
	*max_at = max;
}

void column_encode_planes(struct buffer *out, const uint64_t *values, uint32_t count)
{
	uint64_t min, max;
	column_extremes(values, count, &min, &max);
	const struct column_head head = {
		.encoding = COLUMN_PLANES, .width = (uint8_t)((column_width(max - min) + 7) / 8), .base = min};
	buffer_put(out, &head, sizeof(head));
	uint8_t *to = buffer_reserve(out, (uint64_t)head.width * count);
	if (!to)
		return;
	out->bytes += (uint64_t)head.width * count;
	for (uint32_t plane = 0; plane < head.width; plane++, to += count)
		plane_put(to, values, count, min, 8 * plane);
}

void column_encode_long(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint64_t count)
{
	for (uint64_t done = 0; done < count; done += COLUMN_VALUES_MAX)
		column_encode(scratch, out, values + done,
			      (uint32_t)(count - done < COLUMN_VALUES_MAX ? count - done : COLUMN_VALUES_MAX));
}
