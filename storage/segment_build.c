/*
 * Columns in memory, and the order of their rows: segment_build.h. How rows come in: segment_take.c.
 *
 * The sort is by advertiser, campaign, ad, time and, because each pass of a radix sort leaves equals as they were, place in the log:
 * records of one id and stamp keep their order.
 *
 * Threads: one at a time.
 */
#include "segment_build.h"

#include "segment_column.h"

#include <sys/random.h>

enum { YIELD_ROWS = 1 << 14 };

struct segment_build *segment_build_new(const struct segment_yield *yield)
{
	struct segment_build *build = calloc(1, sizeof(*build));
	if (!build)
		return NULL;
	if (yield)
		build->yield = *yield;
	segment_totals_init(&build->totals);
	if (getrandom(&build->seed, sizeof(build->seed), GRND_NONBLOCK) < 0)
		build->seed = (uint64_t)(uintptr_t)build; /* very early at boot */
	for (int s = 0; s < TP_STRINGS; s++)
		build->texts[s].seed = build->seed;
	return build;
}

void segment_build_free(struct segment_build *build)
{
	if (!build)
		return;
	free(build->id);
	for (int c = 0; c < SEGMENT_ROW_NUMBERS; c++) {
		free(build->wide[c]);
		free(build->narrow[c]);
	}
	for (int s = 0; s < TP_STRINGS; s++) {
		free(build->text[s]);
		text_collection_fini(&build->texts[s]);
	}
	free(build->evidence_at);
	buffer_fini(&build->evidence);
	free(build->hash);
	buffer_fini(&build->raw);
	free(build->place);
	for (uint32_t c = 0; c < SEGMENT_COLUMNS; c++)
		free(build->arrived[c]);
	free(build->sorted);
	free(build);
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

/* ---- order ---- */

static void give_way(const struct segment_build *build, uint32_t i)
{
	if (i % YIELD_ROWS == YIELD_ROWS - 1 && build->yield.fn)
		build->yield.fn(build->yield.context);
}

static struct tp_radix_yield yield_of(const struct segment_build *build)
{
	return (struct tp_radix_yield){.fn = build->yield.fn, .context = build->yield.context};
}

static enum text_order order_of(const struct text_collection *texts, int string, uint32_t rows)
{
	if (string == TP_AD_ID || string == TP_CAMPAIGN_ID || string == TP_ADVERTISER_ID)
		return TEXT_BY_BYTES;
	return texts->count > rows / 10 * 9 ? TEXT_BY_ARRIVAL : TEXT_BY_FREQUENCY;
}

/* Arrival means: as the sorted rows come; UUIDs behind the other texts. */
static void arrival_order(const struct segment_build *build, int string, uint32_t *code)
{
	const struct text_collection *texts = &build->texts[string];
	uint32_t text = 0, uuid = 0;
	for (uint32_t i = 0; i < texts->count; i++) {
		uuid += !texts->entry[i].uuid;
		code[i] = UINT32_MAX;
	}
	for (uint32_t p = 0; p < build->rows; p++) {
		uint32_t index = build->text[string][build->place[p]];
		if (code[index] == UINT32_MAX)
			code[index] = texts->entry[index].uuid ? uuid++ : text++;
		give_way(build, p);
	}
}

/* Codes instead of indexes, once the rows have their places. */
static int codes_make(struct segment_build *build, int string)
{
	struct text_collection *texts = &build->texts[string];
	const struct tp_radix_yield yield = yield_of(build);
	uint32_t *code = malloc(((uint64_t)texts->count + 1) * sizeof(*code));
	if (!code)
		return -ENOMEM;
	int rc = 0;
	if (build->order[string] == TEXT_BY_ARRIVAL)
		arrival_order(build, string, code);
	else
		rc = text_order(texts, build->order[string], code, &yield);
	for (uint32_t row = 0; row < build->rows && !rc; row++) {
		build->text[string][row] = code[build->text[string][row]];
		give_way(build, row);
	}
	if (!rc) {
		/* Entries and slots follow: entry c is code c from here on. */
		struct text_entry *sorted = malloc(((uint64_t)texts->max + 1) * sizeof(*sorted));
		if (sorted) {
			for (uint32_t i = 0; i < texts->count; i++) {
				sorted[code[i]] = texts->entry[i];
				give_way(build, i);
			}
			free(texts->entry);
			texts->entry = sorted;
			for (uint32_t i = 0; i < texts->slots; i++) {
				if (texts->slot[i])
					texts->slot[i] =
						text_slot((uint32_t)(texts->slot[i] >> 32), code[text_slot_index(texts->slot[i])]);
				give_way(build, i);
			}
		} else {
			rc = -ENOMEM;
		}
	}
	free(code);
	return rc;
}

/* All bits up to the highest one. */
static uint64_t bits_below(uint64_t highest)
{
	return highest ? UINT64_MAX >> __builtin_clzll(highest) : 0;
}

static int places_make(struct segment_build *build)
{
	uint32_t rows = build->rows;
	uint64_t *key = malloc(((uint64_t)rows + 1) * sizeof(*key)), highest = 0;
	uint32_t *spare = malloc(((uint64_t)rows + 1) * sizeof(*spare));
	build->place = malloc(((uint64_t)rows + 1) * sizeof(*build->place));
	int rc = key && spare && build->place ? 0 : -ENOMEM;
	const struct tp_radix_yield yield = yield_of(build);
	static const int order[] = {TP_AD_ID, TP_CAMPAIGN_ID, TP_ADVERTISER_ID};
	if (!rc) {
		uint64_t first = UINT64_MAX, last = 0;
		for (uint32_t i = 0; i < rows; i++) {
			uint64_t time = build_value(build, SEGMENT_TIME, i);
			build->place[i] = i;
			first = time < first ? time : first;
			last = time > last ? time : last;
		}
		for (uint32_t i = 0; i < rows; i++)
			key[i] = build_value(build, SEGMENT_TIME, i) - first;
		highest = rows ? last - first : 0;
		tp_radix_sort(&build->place, &spare, rows, key, bits_below(highest), &yield);
		for (int k = 0; k < 3; k++) {
			for (uint32_t i = 0; i < rows; i++)
				key[i] = build->text[order[k]][i];
			tp_radix_sort(&build->place, &spare, rows, key, bits_below(build->texts[order[k]].count), &yield);
		}
	}
	free(key);
	free(spare);
	return rc;
}

static int minute_compare(const void *left, const void *right)
{
	const uint32_t *a = left, *b = right;
	return *a < *b ? -1 : *a > *b;
}

/* The minutes in which rows [from, from + count) of the sorted ids, which are all of one, were counted: all different? 1, 0 or -ENOMEM. */
static int minutes_differ(const struct segment_build *build, uint32_t from, uint32_t count)
{
	uint32_t few[16], counted = 0;
	uint32_t *minute = count <= 16 ? few : malloc(count * sizeof(*minute));
	if (!minute)
		return -ENOMEM;
	for (uint32_t i = from; i < from + count; i++) {
		uint32_t row = build->place[build->sorted[i].row];
		uint64_t verdict = build_value(build, SEGMENT_VERDICT, row);
		if (verdict == TP_ACCEPTED || verdict == TP_LATE)
			minute[counted++] = (uint32_t)(build_value(build, SEGMENT_TIME, row) / TP_MINUTE_MS);
	}
	qsort(minute, counted, sizeof(*minute), minute_compare);
	bool differ = true;
	for (uint32_t i = 1; i < counted; i++)
		differ &= minute[i] != minute[i - 1];
	if (minute != few)
		free(minute);
	return differ;
}

static bool id_same(struct tp_id a, struct tp_id b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

/* Sorts the ids. An id that was counted twice in one minute must never be sealed. */
static int ids_sort(struct segment_build *build)
{
	struct tp_id *id = malloc(((uint64_t)build->rows + 1) * sizeof(*id));
	if (!id)
		return -ENOMEM;
	for (uint32_t p = 0; p < build->rows; p++) {
		id[p] = build->id[build->place[p]];
		give_way(build, p);
	}
	const struct tp_radix_yield yield = yield_of(build);
	build->sorted = id_index_sort(id, build->rows, &yield);
	free(id);
	if (!build->sorted)
		return -ENOMEM;
	int differ = 1;
	for (uint32_t from = 0, to = 1; from < build->rows && differ == 1; from = to++) {
		while (to < build->rows && id_same(build->sorted[to].id, build->sorted[from].id))
			to++;
		if (to - from > 1)
			differ = minutes_differ(build, from, to - from);
		give_way(build, from);
	}
	return differ == 1 ? 0 : differ ? differ : -EEXIST;
}

/* ---- columns to their places ---- */

COLUMN_VECTORISED static void narrow_move(const uint32_t *from, const uint32_t *place, uint32_t count, uint32_t *to)
{
	for (uint32_t i = 0; i < count; i++)
		to[i] = from[place[i]];
}

COLUMN_VECTORISED static void wide_move(const uint64_t *from, const uint32_t *place, uint32_t count, uint64_t *to)
{
	for (uint32_t i = 0; i < count; i++)
		to[i] = from[place[i]];
}

/* Rows are looked up once here, at random, so that whoever goes through a column later goes straight on. */
static int column_move(struct segment_build *build, uint32_t column)
{
	void **at = column >= SEGMENT_TEXT ? (void **)&build->text[column - SEGMENT_TEXT]
		    : build->wide[column]  ? (void **)&build->wide[column]
					   : (void **)&build->narrow[column];
	const bool wide = column < SEGMENT_TEXT && build->wide[column];
	if (!*at)
		return 0;
	void *moved = malloc(((uint64_t)build->rows + 1) * (wide ? sizeof(uint64_t) : sizeof(uint32_t)));
	if (!moved)
		return -ENOMEM;
	for (uint32_t from = 0; from < build->rows; from += YIELD_ROWS) {
		const uint32_t count = build->rows - from < YIELD_ROWS ? build->rows - from : YIELD_ROWS;
		if (wide)
			wide_move(*at, build->place + from, count, (uint64_t *)moved + from);
		else
			narrow_move(*at, build->place + from, count, (uint32_t *)moved + from);
		give_way(build, from + count - 1);
	}
	if (segment_column_follows(column))
		build->arrived[column] = *at;
	else
		free(*at);
	*at = moved;
	return 0;
}

int segment_build_sort(struct segment_build *build)
{
	int rc = 0;
	/* The order of the rows needs the codes of three columns; the codes of others may need the order of the rows. */
	for (int s = TP_AD_ID; s <= TP_ADVERTISER_ID && !rc; s++)
		rc = codes_make(build, s);
	if (!rc)
		rc = places_make(build);
	if (!rc)
		rc = ids_sort(build);
	for (int s = 0; s < TP_STRINGS && !rc; s++) {
		build->order[s] = order_of(&build->texts[s], s, build->rows);
		if (s < TP_AD_ID || s > TP_ADVERTISER_ID)
			rc = codes_make(build, s);
		if (build->yield.fn)
			build->yield.fn(build->yield.context);
	}
	for (uint32_t c = 0; c < SEGMENT_COLUMNS && !rc; c++)
		if (c < SEGMENT_ROW_NUMBERS || c >= SEGMENT_TEXT)
			rc = column_move(build, c);
	return rc;
}

COLUMN_VECTORISED static void widen(const uint32_t *from, uint32_t count, uint64_t *to)
{
	for (uint32_t i = 0; i < count; i++)
		to[i] = from[i];
}

void segment_build_gather(const struct segment_build *build, uint32_t column, uint32_t from, uint32_t count, uint64_t *to)
{
	if (column >= SEGMENT_TEXT)
		widen(build->text[column - SEGMENT_TEXT] + from, count, to);
	else if (build->wide[column])
		memcpy(to, build->wide[column] + from, count * sizeof(*to));
	else if (build->narrow[column])
		widen(build->narrow[column] + from, count, to);
	else
		memset(to, 0, count * sizeof(*to));
}
