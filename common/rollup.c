/*
 * Rollup tables: see turnpike/rollup.h for who reads, who writes and the order in which things are published.
 *
 *   header │ index: uint64 per slot  │ minutes: uint32 each  │ rows: 128 bytes each │ heap: five strings per row,
 *          │ 0, or tag << 32 | row+1 │ rows of that minute   │ in order of arrival  │ without terminators
 *
 * Minutes that lie MINUTES apart share a count of rows: then fewer are taken as they come, no more.
 *
 * The index is open addressing with linear probing, at most half full, and private to the writer. Its tag is the upper half of
 * the row's hash, so that a foreign row costs no cache miss of its own.
 *
 * Threads: one writer per table; readers use tp_rollup_read() and the accessors of the header only.
 *
 * Invariants: rows <= rows_max; heap_bytes <= heap_bytes_max; index_slots is a power of two and at least 2 * rows_max; a row's
 * first 28 bytes and its strings do not change while file_id stays.
 *
 * The sums follow the sequence lock pattern (H.-J. Boehm, "Can seqlocks get along with programming language memory models?",
 * MSPC 2012): all words are accessed with relaxed atomics, the two fences order them against the version.
 */
#include "turnpike/rollup.h"

#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { ROLLUP_ALIGN = 64, READ_TRIES_MAX = 1 << 16, MINUTES = 1024 };

/* The part of a row that a reader copies without care, and the words of the sums. */
enum { SUMS_AT_WORD = offsetof(struct tp_rollup_row, sums) / 8, SUMS_WORDS = sizeof(struct tp_sums) / 8 };

static_assert(sizeof(struct tp_sums) == 64, "one cache line of sums");
static_assert(TP_ID_BYTES_MAX <= UINT8_MAX, "string_bytes are bytes");

static uint64_t align_up(uint64_t n)
{
	return (n + ROLLUP_ALIGN - 1) & ~(uint64_t)(ROLLUP_ALIGN - 1);
}

static uint32_t slots_for(uint32_t rows_max)
{
	uint64_t slots = 16;
	while (slots < 2 * (uint64_t)rows_max)
		slots *= 2;
	assert(slots <= UINT32_MAX);
	return (uint32_t)slots;
}

uint64_t tp_rollup_bytes(uint32_t rows_max, uint32_t heap_bytes_max)
{
	return align_up(sizeof(struct tp_rollup)) + align_up(slots_for(rows_max) * sizeof(uint64_t)) + MINUTES * sizeof(uint32_t) +
	       (uint64_t)rows_max * sizeof(struct tp_rollup_row) + align_up(heap_bytes_max);
}

static uint64_t *index_of(struct tp_rollup *table)
{
	return (uint64_t *)(void *)((uint8_t *)table + table->index_at);
}

static uint32_t *minutes_of(struct tp_rollup *table)
{
	return (uint32_t *)(void *)((uint8_t *)table + table->minutes_at);
}

static struct tp_rollup_row *rows_of(struct tp_rollup *table)
{
	return (struct tp_rollup_row *)(void *)((uint8_t *)table + table->rows_at);
}

void tp_rollup_format(struct tp_rollup *at, uint32_t rows_max, uint32_t heap_bytes_max)
{
	assert(((uintptr_t)at & (ROLLUP_ALIGN - 1)) == 0);
	memset(at, 0, sizeof(*at));
	at->rows_max = rows_max;
	at->heap_bytes_max = heap_bytes_max;
	at->index_slots = slots_for(rows_max);
	at->index_at = align_up(sizeof(*at));
	at->minutes_at = at->index_at + align_up(at->index_slots * sizeof(uint64_t));
	at->rows_at = at->minutes_at + MINUTES * sizeof(uint32_t);
	at->heap_at = at->rows_at + (uint64_t)rows_max * sizeof(struct tp_rollup_row);
	atomic_store_explicit(&at->minute_min, UINT64_MAX, memory_order_relaxed);
	memset(index_of(at), 0, at->index_slots * sizeof(uint64_t));
	memset(minutes_of(at), 0, MINUTES * sizeof(uint32_t));
	/* nobody reads the table before file_id is set, and that store is a release */
}

/*
 * A little-used table is emptied slot by slot, because clearing a big index costs a shard core a millisecond. Each row is in its own
 * slot somewhere behind its hash, so the walk ends, whatever slots before it were emptied already.
 */
static void index_clear(struct tp_rollup *table, uint32_t rows)
{
	uint64_t *index = index_of(table);
	if (rows >= table->index_slots / 8) {
		memset(index, 0, table->index_slots * sizeof(uint64_t));
		return;
	}
	const struct tp_rollup_row *row = tp_rollup_rows(table);
	uint32_t mask = table->index_slots - 1;
	for (uint32_t i = 0; i < rows; i++) {
		uint32_t slot = (uint32_t)row[i].key_hash & mask;
		while ((uint32_t)index[slot] != i + 1)
			slot = (slot + 1) & mask;
		index[slot] = 0;
	}
}

void tp_rollup_reset(struct tp_rollup *table, uint64_t file_id)
{
	uint32_t rows = atomic_load_explicit(&table->rows, memory_order_relaxed);

	atomic_store_explicit(&table->file_id, 0, memory_order_relaxed);
	/* a reader that sees any later store of this table also sees that file_id went; pairs with its acquire fence */
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&table->rows, 0, memory_order_relaxed);
	atomic_store_explicit(&table->minute_min, UINT64_MAX, memory_order_relaxed);
	atomic_store_explicit(&table->minute_max, 0, memory_order_relaxed);
	index_clear(table, rows);
	memset(minutes_of(table), 0, MINUTES * sizeof(uint32_t));
	table->heap_bytes = 0;
	/* release: who sees the new id sees the table empty */
	atomic_store_explicit(&table->file_id, file_id, memory_order_release);
}

bool tp_rollup_has_room(const struct tp_rollup *table)
{
	return atomic_load_explicit(&table->rows, memory_order_relaxed) < table->rows_max &&
	       table->heap_bytes_max - table->heap_bytes >= TP_DIMENSIONS * TP_ID_BYTES_MAX;
}

/*
 * What makes a row: the minute, the twelve bytes from string_bytes[] on as they lie in the row, and the five strings. The ad, campaign,
 * advertiser and publisher lie side by side in the record, in the order of enum tp_dimension, so two runs of bytes are all of them.
 * Strings stay where the event has them; they are copied for a new row only.
 */
struct row_key {
	uint64_t hash;
	uint64_t lengths_device_country; /* of the row's bytes from string_bytes[] on */
	uint32_t currency;
	uint32_t minute;
	const char *four, *region;
	uint32_t four_bytes, region_bytes;
};

static_assert(TP_AD_ID + 1 == TP_CAMPAIGN_ID && TP_CAMPAIGN_ID + 1 == TP_ADVERTISER_ID && TP_ADVERTISER_ID + 1 == TP_PUBLISHER_ID,
	      "four dimensions lie side by side in the record");
static_assert(offsetof(struct tp_rollup_row, device) == offsetof(struct tp_rollup_row, string_bytes) + 5 &&
		      offsetof(struct tp_rollup_row, country) == offsetof(struct tp_rollup_row, string_bytes) + 6 &&
		      offsetof(struct tp_rollup_row, currency) == offsetof(struct tp_rollup_row, string_bytes) + 8 &&
		      offsetof(struct tp_rollup_row, string_bytes) % 8 == 0,
	      "a key's twelve bytes are read as they lie");

static inline uint64_t key_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static void key_fill(struct row_key *key, const struct tp_event *event)
{
	const uint16_t *bytes = event->string_bytes;
	const char *at = (const char *)event + sizeof(*event) + bytes[TP_EVENT_ID];
	uint32_t four = (uint32_t)bytes[TP_AD_ID] + bytes[TP_CAMPAIGN_ID] + bytes[TP_ADVERTISER_ID] + bytes[TP_PUBLISHER_ID];
	uint16_t country;

	assert(four <= 4 * TP_ID_BYTES_MAX && bytes[TP_REGION] <= TP_ID_BYTES_MAX);
	memcpy(&country, event->country, sizeof(country));
	key->minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
	key->lengths_device_country =
		(uint64_t)bytes[TP_AD_ID] << 8 * TP_DIM_AD | (uint64_t)bytes[TP_CAMPAIGN_ID] << 8 * TP_DIM_CAMPAIGN |
		(uint64_t)bytes[TP_ADVERTISER_ID] << 8 * TP_DIM_ADVERTISER |
		(uint64_t)bytes[TP_PUBLISHER_ID] << 8 * TP_DIM_PUBLISHER | (uint64_t)bytes[TP_REGION] << 8 * TP_DIM_REGION |
		(uint64_t)event->device << 40 | (uint64_t)country << 48;
	key->currency = 0;
	memcpy(&key->currency, event->currency, sizeof(event->currency));
	key->four = at;
	key->four_bytes = four;
	key->region = at + four + bytes[TP_USER_ID] + bytes[TP_DEVICE_ID];
	key->region_bytes = bytes[TP_REGION];
}

static uint64_t key_hash(const struct row_key *key)
{
	uint64_t seed = key_mix(key->lengths_device_country ^ 0x9e3779b97f4a7c15,
				((uint64_t)key->currency << 32 | key->minute) ^ 0xc4ceb9fe1a85ec53);
	uint64_t hash = XXH3_64bits_withSeed(key->four, key->four_bytes, seed);
	return key->region_bytes ? XXH3_64bits_withSeed(key->region, key->region_bytes, hash) : hash;
}

uint64_t tp_rollup_hash(const struct tp_event *event)
{
	struct row_key key;
	key_fill(&key, event);
	return key_hash(&key);
}

static inline bool row_is(const struct tp_rollup *table, const struct tp_rollup_row *row, const struct row_key *key)
{
	uint64_t lengths_device_country;
	uint32_t currency;
	if (row->key_hash != key->hash || row->minute != key->minute)
		return false;
	memcpy(&lengths_device_country, row->string_bytes, sizeof(lengths_device_country));
	memcpy(&currency, row->currency, sizeof(currency)); /* with the padding behind it, which is zero */
	const char *strings = tp_rollup_heap(table) + row->string_at;
	return lengths_device_country == key->lengths_device_country && currency == key->currency &&
	       memcmp(strings, key->four, key->four_bytes) == 0 &&
	       memcmp(strings + key->four_bytes, key->region, key->region_bytes) == 0;
}

static struct tp_rollup_row *row_add(struct tp_rollup *table, const struct row_key *key, uint64_t *slot)
{
	uint32_t at = atomic_load_explicit(&table->rows, memory_order_relaxed);
	uint32_t strings = key->four_bytes + key->region_bytes;
	assert(at < table->rows_max && strings <= table->heap_bytes_max - table->heap_bytes);

	struct tp_rollup_row made = {.key_hash = key->hash, .minute = key->minute, .string_at = table->heap_bytes};
	memcpy(made.string_bytes, &key->lengths_device_country, sizeof(key->lengths_device_country));
	memcpy(made.currency, &key->currency, sizeof(made.currency));
	/* by words: a reader that still takes the row for one of the table's former file reads it now, and will see file_id change */
	uint64_t word[sizeof(made) / 8], *to = (uint64_t *)(void *)&rows_of(table)[at];
	memcpy(word, &made, sizeof(made));
	for (uint32_t i = 0; i < sizeof(made) / 8; i++)
		__atomic_store_n(&to[i], word[i], __ATOMIC_RELAXED);
	char *heap = (char *)table + table->heap_at + table->heap_bytes;
	memcpy(heap, key->four, key->four_bytes);
	memcpy(heap + key->four_bytes, key->region, key->region_bytes);
	table->heap_bytes += strings;
	*slot = (key->hash >> 32) << 32 | (at + 1);

	if (made.minute < atomic_load_explicit(&table->minute_min, memory_order_relaxed))
		atomic_store_explicit(&table->minute_min, made.minute, memory_order_relaxed);
	if (made.minute > atomic_load_explicit(&table->minute_max, memory_order_relaxed))
		atomic_store_explicit(&table->minute_max, made.minute, memory_order_relaxed);
	/* release: who sees the count sees key, strings and hints of the rows below it; pairs with the readers' acquire of rows */
	atomic_store_explicit(&table->rows, at + 1, memory_order_release);
	return &rows_of(table)[at];
}

/* How many of its dimensions an event of this minute loses that has no row yet. */
static uint32_t fold_level(uint32_t rows)
{
	if (rows < TP_ROLLUP_MINUTE_ROWS)
		return 0;
	return rows < TP_ROLLUP_MINUTE_ROWS + TP_ROLLUP_STEP_ROWS       ? 1
	       : rows < TP_ROLLUP_MINUTE_ROWS + 2 * TP_ROLLUP_STEP_ROWS ? 2
									: 3;
}

/* Puts TP_ROLLUP_OTHER in the place of the first `level` of region, publisher, ad. `four` has room for four strings. */
__attribute__((cold, noinline)) static void key_fold(struct row_key *key, uint32_t level, char *four)
{
	static const uint8_t at_level[TP_DIMENSIONS] = {[TP_DIM_REGION] = 1, [TP_DIM_PUBLISHER] = 2, [TP_DIM_AD] = 3};
	const char *from = key->four;
	uint8_t length[8];

	memcpy(length, &key->lengths_device_country, sizeof(length));
	key->four = four;
	key->four_bytes = 0;
	for (uint32_t i = 0; i < TP_DIM_REGION; i++) {
		uint32_t bytes = length[i];
		bool other = at_level[i] && at_level[i] <= level;
		struct tp_str name = other ? TP_ROLLUP_OTHER : (struct tp_str){.at = from, .bytes = (uint16_t)bytes};
		length[i] = (uint8_t)name.bytes;
		memcpy(four + key->four_bytes, name.at, name.bytes);
		key->four_bytes += name.bytes;
		from += bytes;
	}
	if (at_level[TP_DIM_REGION] <= level) {
		key->region = TP_ROLLUP_OTHER.at;
		key->region_bytes = length[TP_DIM_REGION] = (uint8_t)TP_ROLLUP_OTHER.bytes;
	}
	memcpy(&key->lengths_device_country, length, sizeof(length));
	key->hash = key_hash(key);
}

/* The row of a key; NULL, with *at where it would go. */
static struct tp_rollup_row *row_seek(struct tp_rollup *table, const struct row_key *key, uint64_t **at)
{
	uint64_t *index = index_of(table);
	uint32_t mask = table->index_slots - 1;
	uint32_t slot = (uint32_t)key->hash & mask;
	for (; index[slot] != 0; slot = (slot + 1) & mask) {
		if (index[slot] >> 32 != key->hash >> 32)
			continue;
		struct tp_rollup_row *row = &rows_of(table)[(uint32_t)index[slot] - 1];
		if (row_is(table, row, key))
			return row;
	}
	*at = &index[slot];
	return NULL;
}

static struct tp_rollup_row *row_find(struct tp_rollup *table, struct row_key *key, bool *folded)
{
	char four[4 * TP_ID_BYTES_MAX];
	uint64_t *slot;
	struct tp_rollup_row *row = row_seek(table, key, &slot);
	if (row) {
		*folded = false;
		return row;
	}
	uint32_t *rows = &minutes_of(table)[key->minute % MINUTES], level = fold_level(*rows);
	*folded = level > 0;
	if (level) {
		key_fold(key, level, four);
		row = row_seek(table, key, &slot);
		if (row)
			return row;
	}
	++*rows;
	return row_add(table, key, slot);
}

static inline void bump(uint64_t *sum)
{
	__atomic_store_n(sum, *sum + 1, __ATOMIC_RELAXED);
}

/* A 16-byte sum as two words: readers check the version, so the words need not change together. */
static void spend_add(__int128 *sum, int64_t micros)
{
	__int128 next = *sum + micros;
	uint64_t word[2];
	memcpy(word, &next, sizeof(word));
	__atomic_store_n((uint64_t *)(void *)sum, word[0], __ATOMIC_RELAXED);
	__atomic_store_n((uint64_t *)(void *)sum + 1, word[1], __ATOMIC_RELAXED);
}

void tp_rollup_prefetch(const struct tp_rollup *table, uint64_t hash)
{
	const uint64_t *index = (const uint64_t *)(const void *)((const uint8_t *)table + table->index_at);
	__builtin_prefetch(&index[(uint32_t)hash & (table->index_slots - 1)]);
}

void tp_rollup_prefetch_row(const struct tp_rollup *table, uint64_t hash)
{
	const uint64_t *index = (const uint64_t *)(const void *)((const uint8_t *)table + table->index_at);
	uint64_t found = index[(uint32_t)hash & (table->index_slots - 1)];
	if (found >> 32 != hash >> 32)
		return; /* new, or behind others in its chain: seldom enough */
	const uint8_t *row = (const uint8_t *)&tp_rollup_rows(table)[(uint32_t)found - 1];
	__builtin_prefetch(row, 1);
	__builtin_prefetch(row + 64, 1);
}

bool tp_rollup_add(struct tp_rollup *table, const struct tp_event *event)
{
	return tp_rollup_add_hashed(table, event, tp_rollup_hash(event));
}

bool tp_rollup_add_hashed(struct tp_rollup *table, const struct tp_event *event, uint64_t hash)
{
	const bool amends = event->verdict == TP_AMENDED && event->type == TP_CLICK && event->fraud == 0;
	bool folded;
	if (!tp_verdict_counts(event->verdict) && !amends)
		return false;

	struct row_key key;
	key_fill(&key, event);
	key.hash = hash;
	struct tp_rollup_row *row = row_find(table, &key, &folded);
	struct tp_sums *sums = &row->sums;
	uint32_t version = atomic_load_explicit(&row->version, memory_order_relaxed);

	atomic_store_explicit(&row->version, version + 1, memory_order_relaxed);
	/* the odd version is seen before any new sum; pairs with the acquire fence in tp_rollup_read() */
	atomic_thread_fence(memory_order_release);
	switch (event->type) {
	case TP_IMPRESSION:
		bump(&sums->impressions);
		break;
	case TP_CLICK:
		if (event->fraud != 0) {
			bump(&sums->flagged_clicks);
			break;
		}
		if (amends) /* below zero, modulo 2^64, when the click lies in another file: the sum over files is right */
			__atomic_store_n(&sums->flagged_clicks, sums->flagged_clicks - 1, __ATOMIC_RELAXED);
		bump(&sums->clicks);
		if (event->flags & TP_HAS_BID)
			spend_add(&sums->spend_micros, event->bid_micros);
		break;
	case TP_CONVERSION:
		bump(&sums->conversions);
		break;
	default:
		assert(!"an event type that no parser makes");
	}
	if (event->verdict == TP_LATE || amends)
		bump(&sums->late);
	/* release: who sees the even version sees the sums */
	atomic_store_explicit(&row->version, version + 2, memory_order_release);
	return folded;
}

bool tp_rollup_read(const struct tp_rollup *table, uint32_t index, struct tp_rollup_row *row)
{
	const struct tp_rollup_row *from = &tp_rollup_rows(table)[index];
	const uint64_t *word = (const uint64_t *)(const void *)from;
	uint64_t copy[sizeof(*row) / 8] = {0};
	bool whole = false;

	for (uint32_t i = 0; i < SUMS_AT_WORD; i++)
		copy[i] = __atomic_load_n(&word[i], __ATOMIC_RELAXED);
	for (uint32_t tries = 0; tries < READ_TRIES_MAX && !whole; tries++) {
		/* acquire: sums read below are not older than this version */
		uint32_t before = atomic_load_explicit(&from->version, memory_order_acquire);
		for (uint32_t i = SUMS_AT_WORD; i < SUMS_AT_WORD + SUMS_WORDS; i++)
			copy[i] = __atomic_load_n(&word[i], __ATOMIC_RELAXED);
		/* a sum of a later update makes the version read below show that update; pairs with the writer's fence */
		atomic_thread_fence(memory_order_acquire);
		whole = before % 2 == 0 && before == atomic_load_explicit(&from->version, memory_order_relaxed);
		if (!whole)
			__builtin_ia32_pause();
	}
	memcpy(row, copy, sizeof(*row));
	return whole;
}

struct tp_str tp_rollup_string(const struct tp_rollup_row *row, const char *heap, enum tp_dimension which)
{
	const char *at = heap + row->string_at;
	for (uint32_t i = 0; i < (uint32_t)which; i++)
		at += row->string_bytes[i];
	return (struct tp_str){.at = at, .bytes = row->string_bytes[which]};
}
