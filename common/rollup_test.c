/* Rollup tables: sums against a brute-force model, room, reset, and a reader beside a writer. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "turnpike/rollup.h"

enum { ROWS = 512, HEAP = ROWS * 100 };

struct record {
	struct tp_event event;
	char strings[TP_EVENT_BYTES_MAX - TP_EVENT_FIXED_BYTES];
};

static void record_make(struct record *record, uint64_t minute, const char *ad, const char *publisher, const char *region)
{
	const char *text[TP_STRINGS] = {
		[TP_EVENT_ID] = "e-1",         [TP_AD_ID] = ad,       [TP_CAMPAIGN_ID] = "camp", [TP_ADVERTISER_ID] = "adv",
		[TP_PUBLISHER_ID] = publisher, [TP_USER_ID] = "user", [TP_REGION] = region,      [TP_CITY] = "city",
	};
	char *at = record->strings;

	memset(record, 0, sizeof(*record));
	for (int i = 0; i < TP_STRINGS; i++) {
		size_t bytes = text[i] ? strlen(text[i]) : 0;
		record->event.string_bytes[i] = (uint16_t)bytes;
		memcpy(at, text[i] ? text[i] : "", bytes);
		at += bytes;
	}
	record->event.timestamp_ms = minute * TP_MINUTE_MS + 17;
	record->event.verdict = TP_ACCEPTED;
	record->event.type = TP_CLICK;
	record->event.flags = TP_HAS_BID;
	memcpy(record->event.country, "DE", 2);
	memcpy(record->event.currency, "EUR", 3);
}

static struct tp_rollup *table_make(void)
{
	uint64_t bytes = tp_rollup_bytes(ROWS, HEAP);
	struct tp_rollup *table = aligned_alloc(64, bytes);
	assert_non_null(table);
	memset(table, 0xa5, bytes); /* format may not count on zeros */
	tp_rollup_format(table, ROWS, HEAP);
	return table;
}

static void assert_string(const struct tp_rollup *table, const struct tp_rollup_row *row, enum tp_dimension which, const char *text)
{
	struct tp_str str = tp_rollup_string(row, tp_rollup_heap(table), which);
	assert_int_equal(str.bytes, strlen(text));
	assert_memory_equal(str.at, text, str.bytes);
}

static void one_row_takes_each_kind(void **state)
{
	(void)state;
	struct tp_rollup *table = table_make();
	struct record record;
	struct tp_rollup_row row;

	tp_rollup_reset(table, 7);
	record_make(&record, 1000, "ad", "pub", "");
	record.event.bid_micros = 2500000;
	tp_rollup_add(table, &record.event);
	record.event.fraud = 1;
	tp_rollup_add(table, &record.event);
	record.event.fraud = 0;
	record.event.flags = 0; /* a price that was not sent is not spent */
	tp_rollup_add(table, &record.event);
	record.event.verdict = TP_LATE;
	record.event.type = TP_IMPRESSION;
	record.event.flags = TP_HAS_BID;
	tp_rollup_add(table, &record.event);
	record.event.type = TP_CONVERSION;
	tp_rollup_add(table, &record.event);
	static const enum tp_verdict none[] = {TP_UNDECIDED, TP_DUPLICATE, TP_CONFLICT, TP_REFUSED, TP_DEFERRED};
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		record.event.verdict = (uint8_t)none[i];
		tp_rollup_add(table, &record.event);
	}

	assert_int_equal(atomic_load(&table->file_id), 7);
	assert_int_equal(atomic_load(&table->rows), 1);
	assert_true(tp_rollup_read(table, 0, &row));
	assert_int_equal(row.minute, 1000);
	assert_int_equal(row.sums.clicks, 2);
	assert_int_equal(row.sums.flagged_clicks, 1);
	assert_int_equal(row.sums.impressions, 1);
	assert_int_equal(row.sums.conversions, 1);
	assert_int_equal(row.sums.late, 2);
	assert_true(row.sums.spend_micros == 2500000);
	assert_string(table, &row, TP_DIM_AD, "ad");
	assert_string(table, &row, TP_DIM_CAMPAIGN, "camp");
	assert_string(table, &row, TP_DIM_ADVERTISER, "adv");
	assert_string(table, &row, TP_DIM_PUBLISHER, "pub");
	assert_string(table, &row, TP_DIM_REGION, "");
	free(table);
}

/* Every part of the key makes a row of its own; what moves bytes between neighbours does too. */
static void each_part_of_the_key_counts(void **state)
{
	(void)state;
	struct tp_rollup *table = table_make();
	struct record record;

	tp_rollup_reset(table, 1);
	for (int round = 0; round < 2; round++) {
		record_make(&record, 5, "ad", "pub", "BE");
		tp_rollup_add(table, &record.event);
		record.event.device = TP_MOBILE;
		tp_rollup_add(table, &record.event);
		memcpy(record.event.country, "FR", 2);
		tp_rollup_add(table, &record.event);
		memcpy(record.event.currency, "USD", 3);
		tp_rollup_add(table, &record.event);
		record_make(&record, 6, "ad", "pub", "BE");
		tp_rollup_add(table, &record.event);
		record_make(&record, 5, "adc", "pub", "BE");
		tp_rollup_add(table, &record.event);
		record_make(&record, 5, "ad", "pubB", "E");
		tp_rollup_add(table, &record.event);
		record_make(&record, 5, "ad", "pub", "BF");
		tp_rollup_add(table, &record.event);
	}
	assert_int_equal(atomic_load(&table->rows), 8);
	assert_int_equal(atomic_load(&table->minute_min), 5);
	assert_int_equal(atomic_load(&table->minute_max), 6);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(tp_rollup_rows(table)[i].sums.clicks, 2);
	free(table);
}

static void sums_match_a_model(void **state)
{
	(void)state;
	enum { ADS = 5, PUBLISHERS = 3, MINUTES = 12, EVENTS = 8000 };
	static uint64_t clicks[MINUTES][ADS][PUBLISHERS];
	static __int128 spend[MINUTES][ADS][PUBLISHERS];
	struct tp_rollup *table = table_make();
	struct record record;
	unsigned seed = 11;

	/* used several times, by few rows and by many, so that both ways to empty the index are seen */
	for (uint64_t file = 1; file <= 6; file++) {
		int ads = file % 2 ? 3 : ADS; /* 108 or 180 rows of 1024 slots */
		memset(clicks, 0, sizeof(clicks));
		memset(spend, 0, sizeof(spend));
		tp_rollup_reset(table, file);
		assert_int_equal(atomic_load(&table->rows), 0);
		for (int i = 0; i < EVENTS; i++) {
			int minute = rand_r(&seed) % MINUTES, ad = rand_r(&seed) % ads, publisher = rand_r(&seed) % PUBLISHERS;
			char ad_id[8] = {'a', (char)('0' + ad)}, publisher_id[8] = {'p', (char)('0' + publisher)};
			record_make(&record, (uint64_t)minute, ad_id, publisher_id, "r");
			record.event.bid_micros = TP_BID_MICROS_MAX - rand_r(&seed) % 1000;
			tp_rollup_add(table, &record.event);
			clicks[minute][ad][publisher]++;
			spend[minute][ad][publisher] += record.event.bid_micros;
		}
		assert_int_equal(atomic_load(&table->rows), MINUTES * ads * PUBLISHERS);
		for (uint32_t i = 0; i < atomic_load(&table->rows); i++) {
			struct tp_rollup_row row;
			assert_true(tp_rollup_read(table, i, &row));
			int ad = tp_rollup_string(&row, tp_rollup_heap(table), TP_DIM_AD).at[1] - '0';
			int publisher = tp_rollup_string(&row, tp_rollup_heap(table), TP_DIM_PUBLISHER).at[1] - '0';
			assert_int_equal(row.sums.clicks, clicks[row.minute][ad][publisher]);
			assert_true(row.sums.spend_micros == spend[row.minute][ad][publisher]);
		}
	}
	free(table);
}

static void full_says_so(void **state)
{
	(void)state;
	struct tp_rollup *table = table_make();
	struct record record;
	uint32_t made = 0;

	tp_rollup_reset(table, 1);
	for (; tp_rollup_has_room(table); made++) {
		assert_true(made < ROWS);
		record_make(&record, made, "ad", "pub", "");
		tp_rollup_add(table, &record.event);
	}
	assert_int_equal(made, ROWS);
	tp_rollup_reset(table, 2);

	/* long strings fill the heap before the rows are gone */
	char ad[TP_ID_BYTES_MAX + 1], region[TP_ID_BYTES_MAX + 1];
	memset(ad, 'a', TP_ID_BYTES_MAX);
	memset(region, 'r', TP_ID_BYTES_MAX);
	ad[TP_ID_BYTES_MAX] = region[TP_ID_BYTES_MAX] = '\0';
	for (made = 0; tp_rollup_has_room(table); made++) {
		record_make(&record, made, ad, ad, region);
		tp_rollup_add(table, &record.event);
	}
	assert_true(made < ROWS);
	assert_true(table->heap_bytes <= HEAP);
	free(table);
}

/* ---- what a minute may hold ---- */

static struct tp_rollup *large_make(uint32_t rows)
{
	struct tp_rollup *made = aligned_alloc(64, (tp_rollup_bytes(rows, rows * 40) + 63) / 64 * 64);
	assert_non_null(made);
	tp_rollup_format(made, rows, rows * 40);
	tp_rollup_reset(made, 1);
	return made;
}

/* Event `number` of a bomb: ads for ever, few of all else. */
static void bomb_make(struct record *record, uint32_t number)
{
	char ad[16], publisher[16], region[16];
	snprintf(ad, sizeof(ad), "a%u", number);
	snprintf(publisher, sizeof(publisher), "p%u", number % 7);
	snprintf(region, sizeof(region), "r%u", number % 5);
	record_make(record, number % 16 ? 100 : 101, ad, publisher, region);
	record->event.bid_micros = 1 + number % 3;
}

/* Plainly: what a row's names are, from how many rows of its minute there were. */
static uint32_t expected_level(uint32_t rows)
{
	static const uint32_t from[] = {TP_ROLLUP_MINUTE_ROWS, TP_ROLLUP_MINUTE_ROWS + TP_ROLLUP_STEP_ROWS,
					TP_ROLLUP_MINUTE_ROWS + 2 * TP_ROLLUP_STEP_ROWS};
	uint32_t level = 0;
	while (level < 3 && rows >= from[level])
		level++;
	return level;
}

/* Names of all lengths around those of vectors and of a row's head; some differ in one byte only. */
static void names_make(struct record *record, uint32_t number)
{
	char text[3][TP_ID_BYTES_MAX + 1];
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t bytes = 1 + (number * (i + 3) + i) % 27, differs = number / 5 % bytes;
		memset(text[i], 'x', bytes);
		text[i][differs] = (char)('a' + number % 3);
		text[i][bytes] = '\0';
	}
	record_make(record, number % 8 ? 100 : 101, text[0], text[1], number % 4 ? text[2] : "");
	record->event.type = (uint8_t)(number % TP_EVENT_TYPES);
	record->event.bid_micros = number % 7;
}

/* The hash only finds rows; what a row is its key decides. Here all hashes are the same. */
static void keys_decide_and_not_hashes(void **state)
{
	(void)state;
	enum { LENGTHS = 40 };
	struct tp_rollup *table = table_make();
	struct tp_rollup_seek seek;
	struct record record;
	uint32_t expected = 0;

	tp_rollup_reset(table, 1);
	for (uint32_t bytes = 1; bytes <= LENGTHS; bytes += bytes < 17 ? 1 : 7) {
		/* as it is; each name with its first, its middle or its last byte another: from one row to ten at most */
		for (uint32_t other = 0; other < 10; other++) {
			char text[3][LENGTHS + 1] = {{0}};
			for (uint32_t i = 0; i < 3; i++)
				memset(text[i], 'x', bytes);
			uint32_t at = (other - 1) % 3 * (bytes - 1) / 2;
			if (other)
				text[(other - 1) / 3][at] = 'y';
			record_make(&record, 5, text[0], text[1], text[2]);
			const bool new = bytes >= 3 || other == 0 || (bytes == 2 ? (other - 1) % 3 != 1 : (other - 1) % 3 == 0);
			expected += new;
			for (int times = 0; times < 2; times++) {
				tp_rollup_seek(&seek, &record.event);
				seek.key.hash = 42;
				tp_rollup_add_sought(table, &record.event, &seek);
			}
			assert_int_equal(atomic_load(&table->rows), expected);
		}
	}
	free(table);
}

/*
 * In bursts and one by one: what was guessed ahead of a burst must not show, though it changes within the burst: rows appear, and so does
 * the level at which new ones fold.
 */
static void steps_for_a_burst_come_to_the_same(void **state)
{
	(void)state;
	enum { EVENTS = 140000, BURST = 64 };
	static struct record record[BURST];
	struct tp_rollup_seek seek[BURST];
	struct tp_rollup *one = large_make(200000), *burst = large_make(200000);
	uint32_t folded = 0;

	for (uint32_t at = 0; at < EVENTS; at += BURST) {
		for (uint32_t i = 0; i < BURST; i++) {
			if (i % 3)
				bomb_make(&record[i], (at + i) / (1 + i % 2));
			else
				names_make(&record[i], at + i);
			tp_rollup_seek(&seek[i], &record[i].event);
			tp_rollup_prefetch_index(burst, &seek[i]);
		}
		for (uint32_t i = 0; i < BURST; i++)
			tp_rollup_prefetch_row(burst, &seek[i]);
		for (uint32_t i = 0; i < BURST; i++)
			tp_rollup_prefetch_last(burst, &seek[i]);
		for (uint32_t i = 0; i < BURST; i++) {
			struct record copy = record[i];
			bool here = tp_rollup_add(one, &record[i].event);
			assert_int_equal(here, tp_rollup_add_sought(burst, &copy.event, &seek[i]));
			folded += here;
		}
	}
	assert_true(folded > 0);
	uint32_t rows = atomic_load(&one->rows);
	assert_int_equal(rows, atomic_load(&burst->rows));
	assert_memory_equal(tp_rollup_rows(one), tp_rollup_rows(burst), rows * sizeof(struct tp_rollup_row));
	assert_int_equal(one->heap_bytes, burst->heap_bytes);
	assert_memory_equal(tp_rollup_heap(one), tp_rollup_heap(burst), one->heap_bytes);
	free(one);
	free(burst);
}

static void a_bomb_folds_region_then_publisher_then_ad(void **state)
{
	(void)state;
	enum { EVENTS = 140000 };
	struct tp_rollup *one = large_make(200000), *other = large_make(400000);
	uint32_t folded = 0, before = 0;
	struct record record;

	for (uint32_t i = 0; i < EVENTS; i++) {
		bomb_make(&record, i);
		/* how large a table is does not matter: recovery has larger ones */
		bool here = tp_rollup_add(one, &record.event);
		assert_int_equal(here, tp_rollup_add(other, &record.event));
		folded += here;
		/* every ad is new, so until ads fold each event is a row; both minutes are counted apart */
		if (i % 16)
			assert_int_equal(here, before >= TP_ROLLUP_MINUTE_ROWS);
		else
			assert_false(here);
		before += i % 16 != 0;
	}
	/* an ad that has its row keeps it */
	bomb_make(&record, 1);
	assert_false(tp_rollup_add(one, &record.event));
	assert_false(tp_rollup_add(other, &record.event));
	assert_true(folded > 0);

	uint32_t rows = atomic_load(&one->rows), of_minute = 0, at_level[4] = {0};
	assert_int_equal(rows, atomic_load(&other->rows));
	uint64_t clicks = 0;
	__int128 spend = 0, expected = 1 + 1 % 3;
	for (uint32_t i = 0; i < EVENTS; i++)
		expected += 1 + i % 3;
	for (uint32_t i = 0; i < rows; i++) {
		struct tp_rollup_row row, twin;
		const char *heap = tp_rollup_heap(one);
		assert_true(tp_rollup_read(one, i, &row));
		assert_true(tp_rollup_read(other, i, &twin));
		assert_int_equal(row.key_hash, twin.key_hash);
		assert_memory_equal(&row.sums, &twin.sums, sizeof(row.sums));
		clicks += row.sums.clicks;
		spend += row.sums.spend_micros;
		uint32_t level = expected_level(row.minute == 100 ? of_minute++ : 0);
		at_level[level]++;
		assert_int_equal(tp_rollup_is_other(tp_rollup_string(&row, heap, TP_DIM_REGION)), level >= 1);
		assert_int_equal(tp_rollup_is_other(tp_rollup_string(&row, heap, TP_DIM_PUBLISHER)), level >= 2);
		assert_int_equal(tp_rollup_is_other(tp_rollup_string(&row, heap, TP_DIM_AD)), level >= 3);
		assert_memory_equal(tp_rollup_string(&row, heap, TP_DIM_CAMPAIGN).at, "camp", 4);
		assert_memory_equal(tp_rollup_string(&row, heap, TP_DIM_ADVERTISER).at, "adv", 3);
	}
	assert_int_equal(clicks, EVENTS + 1);
	assert_true(spend == expected);
	assert_int_equal(at_level[1], TP_ROLLUP_STEP_ROWS);
	assert_int_equal(at_level[2], TP_ROLLUP_STEP_ROWS);
	assert_int_equal(at_level[3], 1);

	/* the next file begins anew */
	tp_rollup_reset(one, 2);
	bomb_make(&record, EVENTS + 1);
	assert_false(tp_rollup_add(one, &record.event));
	free(one);
	free(other);
}

/* ---- one writer, one reader ---- */

struct pair {
	struct tp_rollup *table;
	_Atomic bool done;
	uint64_t torn;
	uint64_t reads;
};

static void *reader_run(void *argument)
{
	struct pair *pair = argument;
	uint64_t last = 0, last_file = 0;

	while (!atomic_load(&pair->done)) {
		uint64_t file = atomic_load_explicit(&pair->table->file_id, memory_order_acquire);
		uint32_t rows = atomic_load_explicit(&pair->table->rows, memory_order_acquire);
		struct tp_rollup_row row;
		if (file == 0 || rows == 0 || !tp_rollup_read(pair->table, 0, &row))
			continue;
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&pair->table->file_id, memory_order_relaxed) != file)
			continue;
		if (file != last_file)
			last = 0;
		/* the writer keeps spend at exactly 2^62 micros a click: a carry between the two words every fourth */
		if (row.sums.spend_micros != (__int128)row.sums.clicks << 62 || row.sums.clicks < last || row.minute != file)
			pair->torn++;
		last = row.sums.clicks;
		last_file = file;
		pair->reads++;
	}
	return NULL;
}

static void a_reader_sees_whole_rows(void **state)
{
	(void)state;
	struct pair pair = {.table = table_make()};
	struct record record;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, reader_run, &pair), 0);
	for (uint64_t file = 1; file <= 40; file++) {
		tp_rollup_reset(pair.table, file);
		record_make(&record, file, "ad", "pub", "");
		record.event.bid_micros = 1LL << 62;
		for (int i = 0; i < 20000; i++)
			tp_rollup_add(pair.table, &record.event);
	}
	atomic_store(&pair.done, true);
	pthread_join(thread, NULL);
	assert_int_equal(pair.torn, 0);
	free(pair.table);
}

static void a_dead_writer_does_not_hang_a_reader(void **state)
{
	(void)state;
	struct tp_rollup *table = table_make();
	struct record record;
	struct tp_rollup_row row;

	tp_rollup_reset(table, 1);
	record_make(&record, 1, "ad", "pub", "");
	tp_rollup_add(table, &record.event);
	atomic_fetch_add(&((struct tp_rollup_row *)(uintptr_t)tp_rollup_rows(table))->version, 1);
	assert_false(tp_rollup_read(table, 0, &row));
	assert_int_equal(row.sums.clicks, 1);
	free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_row_takes_each_kind),
		cmocka_unit_test(each_part_of_the_key_counts),
		cmocka_unit_test(sums_match_a_model),
		cmocka_unit_test(full_says_so),
		cmocka_unit_test(keys_decide_and_not_hashes),
		cmocka_unit_test(steps_for_a_burst_come_to_the_same),
		cmocka_unit_test(a_bomb_folds_region_then_publisher_then_ad),
		cmocka_unit_test(a_reader_sees_whole_rows),
		cmocka_unit_test(a_dead_writer_does_not_hang_a_reader),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
