/*
 * The writer's side of a rollup table, for each event: find its row or make it, and add. Hot: see turnpike/rollup.h for what may be seen
 * by readers meanwhile, rollup.c for the layout.
 *
 *   tp_rollup_seek ─ key, hash
 *        │ prefetch_index ─────► slots of the index
 *        │ prefetch_row ───────► the row; or, where there is none and its minute is full, slots of the row it will fold into
 *        │ prefetch_last ──────► that row; or strings that are too long to lie in the row
 *        ▼
 *   tp_rollup_add_sought         decides, in the order of events; what was fetched before is a guess and changes nothing
 *
 * Every line of these is a cache miss, and a page's translation besides, in a table that many kinds of events share: so each step is made
 * for a whole burst. A row whose strings fit into its `head` is compared there, within the pair of lines that is touched anyway.
 *
 * Threads: the table's writer.
 */
#include "rollup_own.h"

#include <emmintrin.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { FOLD_REGION = 1, FOLD_PUBLISHER, FOLD_AD, PROBES_AHEAD = 4 };

static_assert(TP_AD_ID + 1 == TP_CAMPAIGN_ID && TP_CAMPAIGN_ID + 1 == TP_ADVERTISER_ID && TP_ADVERTISER_ID + 1 == TP_PUBLISHER_ID,
	      "four dimensions lie side by side in the record");
static_assert(offsetof(struct tp_rollup_row, device) == offsetof(struct tp_rollup_row, string_bytes) + 5 &&
		      offsetof(struct tp_rollup_row, country) == offsetof(struct tp_rollup_row, string_bytes) + 6 &&
		      offsetof(struct tp_rollup_row, currency) == offsetof(struct tp_rollup_row, string_bytes) + 8 &&
		      offsetof(struct tp_rollup_row, string_bytes) % 8 == 0,
	      "a key's twelve bytes are read as they lie");
static_assert(offsetof(struct tp_rollup_row, sums.late) == 64, "an impression touches its row's first line only");

static inline uint64_t key_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* No region and the one that stands for all differ by their lengths. */
static inline uint64_t key_hash(const struct tp_rollup_key *key)
{
	uint64_t seed = key_mix(key->lengths_device_country ^ 0x9e3779b97f4a7c15,
				((uint64_t)key->currency << 32 | key->minute) ^ 0xc4ceb9fe1a85ec53);
	uint64_t hash = XXH3_64bits_withSeed(key->four, key->four_bytes, seed);
	return key->region_bytes && key->region[0] ? XXH3_64bits_withSeed(key->region, key->region_bytes, hash) : hash;
}

void tp_rollup_seek(struct tp_rollup_seek *seek, const struct tp_event *event)
{
	struct tp_rollup_key *key = &seek->key;
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
	key->hash = key_hash(key);
	seek->level = 0;
	seek->click = event->type == TP_CLICK;
}

/* How many of its dimensions an event of this minute loses that has no row yet. */
static inline uint32_t fold_level(uint32_t rows)
{
	if (__builtin_expect(rows < TP_ROLLUP_MINUTE_ROWS, 1))
		return 0;
	return rows < TP_ROLLUP_MINUTE_ROWS + TP_ROLLUP_STEP_ROWS       ? FOLD_REGION
	       : rows < TP_ROLLUP_MINUTE_ROWS + 2 * TP_ROLLUP_STEP_ROWS ? FOLD_PUBLISHER
									: FOLD_AD;
}

static inline uint32_t minute_level(const struct tp_rollup *table, const struct tp_rollup_key *key)
{
	return fold_level(rollup_minutes(table)[key->minute % ROLLUP_MINUTES]);
}

/* The key with TP_ROLLUP_OTHER in the place of the first `level` of region, publisher, ad. `four` has room for four strings. */
static void key_fold(struct tp_rollup_key *to, const struct tp_rollup_key *key, uint32_t level, char *four)
{
	static const char other[1] = {0};
	const uint64_t lengths = key->lengths_device_country;
	const uint32_t ad = level >= FOLD_AD ? (uint8_t)(lengths >> 8 * TP_DIM_AD) : 0;
	const uint32_t publisher = level >= FOLD_PUBLISHER ? (uint8_t)(lengths >> 8 * TP_DIM_PUBLISHER) : 0;
	const uint32_t kept = key->four_bytes - ad - publisher;
	uint64_t folded = lengths & ~(0xffULL << 8 * TP_DIM_REGION);

	*to = *key;
	folded |= sizeof(other) << 8 * TP_DIM_REGION;
	to->region = other;
	to->region_bytes = sizeof(other);
	if (level >= FOLD_PUBLISHER) {
		char *at = four;
		folded = (folded & ~(0xffULL << 8 * TP_DIM_PUBLISHER)) | sizeof(other) << 8 * TP_DIM_PUBLISHER;
		if (level >= FOLD_AD) {
			folded = (folded & ~(0xffULL << 8 * TP_DIM_AD)) | sizeof(other) << 8 * TP_DIM_AD;
			*at++ = other[0];
		}
		memcpy(at, key->four + ad, kept);
		at[kept] = other[0];
		to->four = four;
		to->four_bytes = (uint32_t)(at + kept + 1 - four);
	}
	to->lengths_device_country = folded;
}

/* A first and a last word, which overlap when there are fewer bytes than two words. */
#define ENDS_SAME(word, a, b, bytes) \
	__extension__({ \
		word first[2], last[2]; \
		memcpy(&first[0], (a), sizeof(word)), memcpy(&last[0], (a) + (bytes) - sizeof(word), sizeof(word)); \
		memcpy(&first[1], (b), sizeof(word)), memcpy(&last[1], (b) + (bytes) - sizeof(word), sizeof(word)); \
		((first[0] ^ first[1]) | (last[0] ^ last[1])) == 0; \
	})

static inline bool few_same(const char *a, const char *b, uint32_t bytes)
{
	if (bytes >= 8)
		return ENDS_SAME(uint64_t, a, b, bytes);
	if (bytes >= 4)
		return ENDS_SAME(uint32_t, a, b, bytes);
	if (bytes >= 2)
		return ENDS_SAME(uint16_t, a, b, bytes);
	return bytes == 0 || *a == *b;
}

static inline bool bytes_same(const char *a, const char *b, uint32_t bytes)
{
	if (bytes < 16)
		return few_same(a, b, bytes);
	__m128i differ = _mm_setzero_si128();
	for (uint32_t i = 0;; i += 16) {
		uint32_t at = i + 16 < bytes ? i : bytes - 16; /* the last sixteen, some of them again */
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)(a + at));
		__m128i y = _mm_loadu_si128((const __m128i *)(const void *)(b + at));
		differ = _mm_or_si128(differ, _mm_xor_si128(x, y));
		if (at != i || i + 16 == bytes)
			return _mm_movemask_epi8(_mm_cmpeq_epi8(differ, _mm_setzero_si128())) == 0xffff;
	}
}

static inline bool in_head(const struct tp_rollup_key *key)
{
	return key->four_bytes + key->region_bytes <= sizeof(((struct tp_rollup_row *)NULL)->head);
}

static inline bool row_is(const struct tp_rollup *table, const struct tp_rollup_row *row, const struct tp_rollup_key *key)
{
	uint64_t lengths_device_country;
	uint32_t currency;
	if (row->key_hash != key->hash || row->minute != key->minute)
		return false;
	memcpy(&lengths_device_country, row->string_bytes, sizeof(lengths_device_country));
	memcpy(&currency, row->currency, sizeof(currency)); /* with the padding behind it, which is zero */
	if (lengths_device_country != key->lengths_device_country || currency != key->currency)
		return false;
	const char *strings = in_head(key) ? row->head : tp_rollup_heap(table) + row->string_at;
	return bytes_same(strings, key->four, key->four_bytes) &&
	       bytes_same(strings + key->four_bytes, key->region, key->region_bytes);
}

static struct tp_rollup_row *row_add(struct tp_rollup *table, const struct tp_rollup_key *key, uint32_t *slot)
{
	uint32_t at = atomic_load_explicit(&table->rows, memory_order_relaxed);
	uint32_t strings = key->four_bytes + key->region_bytes;
	assert(at < table->rows_max && strings <= table->heap_bytes_max - table->heap_bytes);

	struct tp_rollup_row made = {.key_hash = key->hash, .minute = key->minute, .string_at = table->heap_bytes};
	memcpy(made.string_bytes, &key->lengths_device_country, sizeof(key->lengths_device_country));
	memcpy(made.currency, &key->currency, sizeof(made.currency));
	if (in_head(key)) {
		memcpy(made.head, key->four, key->four_bytes);
		memcpy(made.head + key->four_bytes, key->region, key->region_bytes);
	}
	/* by words: a reader that still takes the row for one of the table's former file reads it now, and will see file_id change */
	uint64_t word[sizeof(made) / 8], *to = (uint64_t *)(void *)&rollup_rows(table)[at];
	memcpy(word, &made, sizeof(made));
	for (uint32_t i = 0; i < sizeof(made) / 8; i++)
		__atomic_store_n(&to[i], word[i], __ATOMIC_RELAXED);
	char *heap = (char *)table + table->heap_at + table->heap_bytes;
	memcpy(heap, key->four, key->four_bytes);
	memcpy(heap + key->four_bytes, key->region, key->region_bytes);
	table->heap_bytes += strings;
	*slot = ((uint32_t)(key->hash >> 32) & ~table->index_row_mask) | (at + 1);

	if (made.minute < atomic_load_explicit(&table->minute_min, memory_order_relaxed))
		atomic_store_explicit(&table->minute_min, made.minute, memory_order_relaxed);
	if (made.minute > atomic_load_explicit(&table->minute_max, memory_order_relaxed))
		atomic_store_explicit(&table->minute_max, made.minute, memory_order_relaxed);
	/* release: who sees the count sees key, strings and hints of the rows below it; pairs with the readers' acquire of rows */
	atomic_store_explicit(&table->rows, at + 1, memory_order_release);
	return &rollup_rows(table)[at];
}

/* The row of a key; NULL, with *at where it would go. */
static inline struct tp_rollup_row *row_seek(struct tp_rollup *table, const struct tp_rollup_key *key, uint32_t **at)
{
	uint32_t *index = rollup_index(table);
	const uint32_t mask = table->index_slots - 1, row_mask = table->index_row_mask;
	const uint32_t tag = (uint32_t)(key->hash >> 32);
	uint32_t slot = (uint32_t)key->hash & mask;
	for (; index[slot] != 0; slot = (slot + 1) & mask) {
		if (((index[slot] ^ tag) & ~row_mask) != 0)
			continue;
		struct tp_rollup_row *row = &rollup_rows(table)[(index[slot] & row_mask) - 1];
		if (row_is(table, row, key))
			return row;
	}
	*at = &index[slot];
	return NULL;
}

/* Out of line: few events fold as long as nobody makes keys up, and then these are what the time goes into. */
__attribute__((noinline)) static struct tp_rollup_row *row_find_folded(struct tp_rollup *table, const struct tp_rollup_seek *seek,
								       uint32_t level)
{
	char four[4 * TP_ID_BYTES_MAX];
	struct tp_rollup_key folded;
	uint32_t *slot;
	key_fold(&folded, &seek->key, level, four);
	folded.hash = level == seek->level ? seek->folded : key_hash(&folded);
	struct tp_rollup_row *row = row_seek(table, &folded, &slot);
	if (row)
		return row;
	++rollup_minutes(table)[folded.minute % ROLLUP_MINUTES];
	return row_add(table, &folded, slot);
}

static inline struct tp_rollup_row *row_find(struct tp_rollup *table, const struct tp_rollup_seek *seek, bool *folded)
{
	uint32_t *slot;
	struct tp_rollup_row *row = row_seek(table, &seek->key, &slot);
	*folded = false;
	if (row)
		return row;
	const uint32_t level = minute_level(table, &seek->key);
	if (level) {
		*folded = true;
		return row_find_folded(table, seek, level);
	}
	++rollup_minutes(table)[seek->key.minute % ROLLUP_MINUTES];
	return row_add(table, &seek->key, slot);
}

/* ---- what will be needed ---- */

static inline const uint32_t *home_slot(const struct tp_rollup *table, uint64_t hash)
{
	return &rollup_index(table)[(uint32_t)hash & (table->index_slots - 1)];
}

/* The row that the index has for a hash, as far as its first line of slots tells; NULL: none. */
static inline const struct tp_rollup_row *row_guess(const struct tp_rollup *table, uint64_t hash)
{
	const uint32_t *slot = home_slot(table, hash);
	const uint32_t row_mask = table->index_row_mask, tag = (uint32_t)(hash >> 32);
	for (uint32_t i = 0; slot[i] != 0; i++) {
		if (((slot[i] ^ tag) & ~row_mask) == 0)
			return &tp_rollup_rows(table)[(slot[i] & row_mask) - 1];
		if (i == PROBES_AHEAD || ((uintptr_t)&slot[i + 1] & 63) == 0)
			return NULL;
	}
	return NULL;
}

/* An impression of a row whose strings are elsewhere touches the first line only. */
static inline void row_prefetch(const struct tp_rollup_row *row, bool second)
{
	__builtin_prefetch(row, 1);
	if (second)
		__builtin_prefetch((const char *)row + 64, 1);
}

void tp_rollup_prefetch_index(const struct tp_rollup *table, const struct tp_rollup_seek *seek)
{
	__builtin_prefetch(home_slot(table, seek->key.hash), 1);
}

void tp_rollup_prefetch_row(const struct tp_rollup *table, struct tp_rollup_seek *seek)
{
	const struct tp_rollup_row *row = row_guess(table, seek->key.hash);
	if (row) {
		row_prefetch(row, seek->click || in_head(&seek->key));
		return;
	}
	const uint32_t level = minute_level(table, &seek->key);
	if (!level)
		return;
	char four[4 * TP_ID_BYTES_MAX];
	struct tp_rollup_key folded;
	key_fold(&folded, &seek->key, level, four);
	seek->level = level;
	seek->folded = key_hash(&folded);
	__builtin_prefetch(home_slot(table, seek->folded), 1);
}

void tp_rollup_prefetch_last(const struct tp_rollup *table, const struct tp_rollup_seek *seek)
{
	const struct tp_rollup_row *row = row_guess(table, seek->level ? seek->folded : seek->key.hash);
	if (!row)
		return;
	if (seek->level)
		row_prefetch(row, true);
	else if (!in_head(&seek->key)) {
		const char *strings = tp_rollup_heap(table) + row->string_at;
		__builtin_prefetch(strings);
		__builtin_prefetch(strings + seek->key.four_bytes + seek->key.region_bytes - 1);
	}
}

/* ---- adding ---- */

static inline void bump(uint64_t *sum)
{
	__atomic_store_n(sum, *sum + 1, __ATOMIC_RELAXED);
}

/* A 16-byte sum as two words: readers check the version, so the words need not change together. */
static inline void spend_add(__int128 *sum, int64_t micros)
{
	__int128 next = *sum + micros;
	uint64_t word[2];
	memcpy(word, &next, sizeof(word));
	__atomic_store_n((uint64_t *)(void *)sum, word[0], __ATOMIC_RELAXED);
	__atomic_store_n((uint64_t *)(void *)sum + 1, word[1], __ATOMIC_RELAXED);
}

bool tp_rollup_add(struct tp_rollup *table, const struct tp_event *event)
{
	struct tp_rollup_seek seek;
	tp_rollup_seek(&seek, event);
	return tp_rollup_add_sought(table, event, &seek);
}

bool tp_rollup_add_sought(struct tp_rollup *table, const struct tp_event *event, const struct tp_rollup_seek *seek)
{
	const bool amends = event->verdict == TP_AMENDED && event->type == TP_CLICK && event->fraud == 0;
	bool folded;
	if (!tp_verdict_counts(event->verdict) && !amends)
		return false;

	struct tp_rollup_row *row = row_find(table, seek, &folded);
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
