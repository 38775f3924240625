/*
 * Rollup files against a plain model: whatever rows come, into however many files, merged in whatever order: every question has the
 * answer of the model, and files merged in another order hold the same rows. Then damage, and the policy of merging.
 */
#include "io_sim.h"
#include "rollup_file.h"
#include "sample.h"
#include "store_state.h"
#include "turnpike/log.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { ROWS_MAX = 6000, HEAP_MAX = 1 << 20, FILES_MAX = 24, MINUTES = 4000 };

static const uint8_t node_id[16] = "the node's own";

struct bench {
	struct sim_disk *disk;
	uint64_t random;
	/* all rows that were ever added: the model */
	struct tp_rollup_row *row;
	uint32_t rows;
	char *heap;
	uint32_t heap_bytes;
	/* the files of each class, in order of coverage */
	struct manifest_rollup file[MANIFEST_CLASSES][FILES_MAX];
	uint32_t files[MANIFEST_CLASSES];
	uint64_t next_sequence, next_segment;
};

static uint64_t bench_random(struct bench *bench, uint64_t below)
{
	return (bench->random = sample_mix(bench->random)) % below;
}

static void path_of(char *path, uint64_t sequence)
{
	snprintf(path, STORE_PATH_BYTES, "%016lx.rol", sequence);
}

static struct bench *bench_new(uint64_t seed)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	bench->disk = sim_disk_new(seed);
	bench->random = sample_mix(seed);
	bench->row = aligned_alloc(64, ROWS_MAX * sizeof(*bench->row));
	bench->heap = malloc(HEAP_MAX);
	bench->next_sequence = bench->next_segment = 1;
	return bench;
}

static void bench_free(struct bench *bench)
{
	sim_disk_free(bench->disk);
	free(bench->row);
	free(bench->heap);
	free(bench);
}

/* Some rows of a segment: of few strings, so that keys meet; some of them corrections. */
static uint32_t rows_make(struct bench *bench, uint32_t count)
{
	uint32_t first = bench->rows;
	uint32_t spread = bench_random(bench, 2) ? 4 : 200;
	for (uint32_t i = 0; i < count && bench->rows < ROWS_MAX; i++) {
		struct tp_rollup_row *row = &bench->row[bench->rows++];
		memset(row, 0, sizeof(*row));
		row->minute = 28333000 + (uint32_t)bench_random(bench, MINUTES);
		row->string_at = bench->heap_bytes;
		for (int d = 0; d < TP_DIMENSIONS; d++) {
			char text[TP_ID_BYTES_MAX + 1];
			uint64_t which = bench_random(bench, d == TP_DIM_AD ? 2 * spread : spread);
			int bytes = snprintf(text, sizeof(text), "%c%lu", "acvpr"[d], which);
			if (which == 3)
				bytes = d == TP_DIM_PUBLISHER || d == TP_DIM_REGION ? 0 : TP_ID_BYTES_MAX;
			for (int b = (int)strlen(text); b < bytes; b++)
				text[b] = (char)('0' + (b ^ d) % 70);
			memcpy(bench->heap + bench->heap_bytes, text, (size_t)bytes);
			row->string_bytes[d] = (uint8_t)bytes;
			bench->heap_bytes += (uint32_t)bytes;
		}
		row->device = (uint8_t)bench_random(bench, TP_DEVICE_TYPES);
		memcpy(row->country, bench_random(bench, 2) ? "DE" : "FR", bench_random(bench, 3) ? 2 : 0);
		memcpy(row->currency, bench_random(bench, 2) ? "USD" : "EUR", 3);
		row->sums.impressions = bench_random(bench, 1000);
		row->sums.clicks = bench_random(bench, 3);
		row->sums.conversions = bench_random(bench, 50) ? 0 : bench_random(bench, UINT64_MAX);
		row->sums.late = bench_random(bench, 9) == 0;
		row->sums.reserved = bench_random(bench, 30) == 0;
		row->sums.spend_micros = (__int128)bench_random(bench, 2000) * 1000;
		if (bench_random(bench, 20) == 0) { /* a click that is no fraud after all; its flag may be in another file */
			row->sums.flagged_clicks = UINT64_MAX;
			row->sums.clicks = 1;
		} else if (bench_random(bench, 100) == 0) {
			row->sums.spend_micros = -((__int128)bench_random(bench, UINT64_MAX) << 48);
		} else if (bench_random(bench, 400) == 0) {
			row->sums.spend_micros = (__int128)bench_random(bench, UINT64_MAX) << 48;
		}
	}
	return first;
}

/* A file of each class from new rows. */
static void cover(struct bench *bench, uint32_t count)
{
	const struct sto_io *io = sim_disk_io(bench->disk);
	char path[MANIFEST_CLASSES][STORE_PATH_BYTES];
	const char *paths[MANIFEST_CLASSES];
	struct manifest_rollup facts[MANIFEST_CLASSES] = {0};
	struct rollup_collection *collection = rollup_collection_new();
	/* In two portions, as of two segments. */
	for (int i = 0; i < 2; i++) {
		uint32_t first = rows_make(bench, count / 2);
		assert_int_equal(rollup_collection_add(collection, &bench->row[first], bench->rows - first, bench->heap), 0);
	}
	for (int c = 0; c < MANIFEST_CLASSES; c++) {
		facts[c] = (struct manifest_rollup){.sequence = bench->next_sequence++,
						    .class = (uint8_t)c,
						    .from_segment = bench->next_segment,
						    .to_segment = bench->next_segment + 1};
		path_of(path[c], facts[c].sequence);
		paths[c] = path[c];
	}
	bench->next_segment += 2;
	assert_int_equal(rollup_collection_write(collection, io, paths, node_id, facts, NULL, NULL), 0);
	rollup_collection_free(collection);
	for (int c = 0; c < MANIFEST_CLASSES; c++)
		bench->file[c][bench->files[c]++] = facts[c];
}

static void file_open(struct bench *bench, struct rollup_file *file, const struct manifest_rollup *facts)
{
	char path[STORE_PATH_BYTES];
	path_of(path, facts->sequence);
	assert_int_equal(rollup_file_open(file, sim_disk_io(bench->disk), path, facts), 0);
}

/* Merges `count` adjacent files from `at` on. */
static void merge(struct bench *bench, int class, uint32_t at, uint32_t count)
{
	struct rollup_file source[FILES_MAX];
	struct manifest_rollup *first = &bench->file[class][at];
	struct manifest_rollup facts = {.sequence = bench->next_sequence++,
					.class = (uint8_t) class,
					.level = 1,
					.from_segment = first->from_segment,
					.to_segment = first[count - 1].to_segment};
	char path[STORE_PATH_BYTES];
	for (uint32_t i = 0; i < count; i++)
		file_open(bench, &source[i], &first[i]);
	path_of(path, facts.sequence);
	assert_int_equal(rollup_merge(sim_disk_io(bench->disk), source, count, path, node_id, &facts, NULL, NULL), 0);
	for (uint32_t i = 0; i < count; i++)
		rollup_file_close(&source[i]);
	*first = facts;
	memmove(first + 1, first + count, (bench->files[class] - at - count) * sizeof(*first));
	bench->files[class] -= count - 1;
}

/* ---- questions ---- */

/* The model's own adding. */
static void sums_plus(struct tp_sums *sums, const struct tp_sums *more)
{
	sums->impressions += more->impressions;
	sums->clicks += more->clicks;
	sums->flagged_clicks += more->flagged_clicks;
	sums->conversions += more->conversions;
	sums->late += more->late;
	sums->reserved += more->reserved;
	sums->spend_micros += more->spend_micros;
}

struct asked {
	struct bench *bench;
	int class;
	struct rollup_filter filter;
	uint64_t from, to;
	struct tp_sums sums;
	uint64_t rows;
};

static bool row_asked(void *context, const struct tp_rollup_row *row, const char *heap)
{
	struct asked *asked = context;
	assert_true(row->minute >= asked->from && row->minute < asked->to);
	assert_int_equal(row->minute % manifest_class_minutes((enum manifest_class)asked->class), 0);
	if (asked->filter.id) {
		struct tp_str string = tp_rollup_string(row, heap, asked->filter.dimension);
		assert_int_equal(string.bytes, asked->filter.id_bytes);
		assert_memory_equal(string.at, asked->filter.id, string.bytes);
	}
	sums_plus(&asked->sums, &row->sums);
	asked->rows++;
	return true;
}

static void question(struct bench *bench, int class)
{
	uint32_t unit = manifest_class_minutes((enum manifest_class) class);
	struct asked asked = {.bench = bench, .class = class, .to = UINT32_MAX};
	const struct tp_rollup_row *like = &bench->row[bench_random(bench, bench->rows)];
	if (bench_random(bench, 4)) {
		asked.from = 28333000 + bench_random(bench, MINUTES);
		asked.to = asked.from + bench_random(bench, 2000);
	}
	char nobody[] = "nobody";
	if (bench_random(bench, 5)) {
		asked.filter.dimension = (enum tp_dimension)bench_random(bench, TP_DIMENSIONS);
		struct tp_str string = tp_rollup_string(like, bench->heap, asked.filter.dimension);
		asked.filter.id = string.at;
		asked.filter.id_bytes = string.bytes;
		asked.filter.alone = bench_random(bench, 2);
		if (bench_random(bench, 20) == 0) {
			asked.filter.id = nobody;
			asked.filter.id_bytes = sizeof(nobody) - 1;
		}
	}
	for (uint32_t i = 0; i < bench->files[class]; i++) {
		struct rollup_file file;
		file_open(bench, &file, &bench->file[class][i]);
		assert_int_equal(rollup_file_scan(&file, &asked.filter, asked.from, asked.to, row_asked, &asked), 0);
		rollup_file_close(&file);
	}
	struct tp_sums expected = {0};
	for (uint32_t i = 0; i < bench->rows; i++) {
		const struct tp_rollup_row *row = &bench->row[i];
		uint64_t start = row->minute - row->minute % unit;
		struct tp_str string = tp_rollup_string(row, bench->heap, asked.filter.dimension);
		if (start < asked.from || start >= asked.to ||
		    (asked.filter.id &&
		     (string.bytes != asked.filter.id_bytes || memcmp(string.at, asked.filter.id, asked.filter.id_bytes) != 0)))
			continue;
		sums_plus(&expected, &row->sums);
	}
	assert_memory_equal(&asked.sums, &expected, sizeof(expected));
}

static void check_all(struct bench *bench)
{
	for (int c = 0; c < MANIFEST_CLASSES; c++) {
		for (uint32_t i = 0; i < bench->files[c]; i++) {
			struct rollup_file file;
			file_open(bench, &file, &bench->file[c][i]);
			assert_int_equal(rollup_file_verify(&file, &bench->file[c][i]), 0);
			rollup_file_close(&file);
		}
		for (int q = 0; q < 12; q++)
			question(bench, c);
	}
}

static void test_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct bench *bench = bench_new(seed);
		for (int step = 0; step < 14; step++) {
			if (bench->files[0] < 3 || bench_random(bench, 2))
				cover(bench, (uint32_t)bench_random(bench, seed % 4 ? 200 : 900));
			for (int c = 0; c < MANIFEST_CLASSES; c++) {
				uint32_t count = 2 + (uint32_t)bench_random(bench, 3);
				if (bench->files[c] < count || bench_random(bench, 2))
					continue;
				merge(bench, c, (uint32_t)bench_random(bench, bench->files[c] - count + 1), count);
			}
			if (bench->rows)
				check_all(bench);
		}
		bench_free(bench);
	}
}

/* ---- the order of merging ---- */

static uint8_t *rows_of(struct bench *bench, const struct manifest_rollup *facts, uint64_t *bytes)
{
	/* Everything but the header, which has the name: the same rows give the same bytes. */
	char path[STORE_PATH_BYTES];
	path_of(path, facts->sequence);
	uint8_t *file = sim_file(bench->disk, path, bytes);
	*bytes -= sizeof(struct rollup_header);
	uint8_t *copy = malloc(*bytes);
	memcpy(copy, file + sizeof(struct rollup_header), *bytes);
	return copy;
}

static void test_merge_order(void **state)
{
	(void)state;
	for (int class = 0; class < MANIFEST_CLASSES; class ++) {
		uint8_t *first = NULL;
		uint64_t first_bytes = 0;
		for (uint64_t order = 0; order < 6; order++) {
			struct bench *bench = bench_new(77); /* the same rows each time … */
			for (int i = 0; i < 9; i++)
				cover(bench, 300);
			bench->random = order; /* … merged in another order */
			while (bench->files[class] > 1) {
				uint32_t most = bench->files[class] < 5 ? bench->files[class] : 5;
				uint32_t count = order == 0 ? bench->files[class] : 2 + (uint32_t)bench_random(bench, most - 1);
				merge(bench, class, (uint32_t)bench_random(bench, bench->files[class] - count + 1), count);
			}
			uint64_t bytes;
			uint8_t *rows = rows_of(bench, &bench->file[class][0], &bytes);
			if (first) {
				assert_int_equal(bytes, first_bytes);
				assert_memory_equal(rows, first, bytes);
				free(rows);
			} else {
				first = rows;
				first_bytes = bytes;
			}
			bench_free(bench);
		}
		free(first);
	}
}

static void test_empty(void **state)
{
	(void)state;
	struct bench *bench = bench_new(1);
	cover(bench, 0);
	cover(bench, 50);
	cover(bench, 0);
	check_all(bench);
	for (int c = 0; c < MANIFEST_CLASSES; c++) {
		assert_int_equal(bench->file[c][0].rows, 0);
		merge(bench, c, 0, 3);
	}
	check_all(bench);
	bench_free(bench);
}

/* ---- damage ---- */

static bool row_count(void *context, const struct tp_rollup_row *row, const char *heap)
{
	struct tp_sums *sums = context;
	(void)heap;
	(void)!rollup_sums_add(sums, &row->sums);
	return true;
}

/* Every byte spoiled: refused, or (a byte that nobody uses) the same answer; never another one. */
static void test_damage(void **state)
{
	(void)state;
	struct bench *bench = bench_new(5);
	cover(bench, 60);
	const struct manifest_rollup *facts = &bench->file[0][0];
	char path[STORE_PATH_BYTES];
	uint64_t bytes;
	path_of(path, facts->sequence);
	uint8_t *bytes_of = sim_file(bench->disk, path, &bytes);
	struct rollup_file file;
	struct tp_sums whole = {0};
	const struct rollup_filter all = {0};
	file_open(bench, &file, facts);
	assert_int_equal(rollup_file_scan(&file, &all, 0, UINT32_MAX, row_count, &whole), 0);
	rollup_file_close(&file);
	for (uint64_t at = 0; at < bytes; at++) {
		bytes_of[at] ^= 0x24;
		int rc = rollup_file_open(&file, sim_disk_io(bench->disk), path, facts);
		if (!rc) {
			struct tp_sums sums = {0};
			rc = rollup_file_scan(&file, &all, 0, UINT32_MAX, row_count, &sums);
			assert_true(rc == -EBADMSG || (rc == 0 && !memcmp(&sums, &whole, sizeof(sums))));
			if (!rc)
				assert_int_equal(rollup_file_verify(&file, facts), -EBADMSG);
			rollup_file_close(&file);
		} else {
			assert_int_equal(rc, -EBADMSG);
		}
		bytes_of[at] ^= 0x24;
	}
	for (uint64_t length = 0; length < bytes; length += 13) {
		uint8_t *kept = malloc(bytes);
		memcpy(kept, bytes_of, bytes);
		uint8_t *aligned = aligned_alloc(64, (length + 64) / 64 * 64);
		memcpy(aligned, kept, length);
		assert_int_equal(rollup_file_take(&file, aligned, length, facts->sequence), -EBADMSG);
		rollup_file_close(&file);
		free(aligned);
		free(kept);
	}
	bench_free(bench);
}

/* ---- the policy ---- */

/* Years of a node that seals every five minutes, or every two seconds: how many files stay, and how long they wait for retention. */
static void policy(uint64_t step_ms, uint64_t steps, uint32_t files_max)
{
	static const uint64_t age_ms[MANIFEST_CLASSES] = {45 * 86400000ULL, 400 * 86400000ULL, 3650 * 86400000ULL};
	static const uint64_t bound_ms[MANIFEST_CLASSES] = {2 * 86400000ULL, 16 * 86400000ULL, 182 * 86400000ULL};
	enum { MAX = 4096 };
	struct manifest_rollup *list = calloc(MAX, sizeof(*list));
	uint32_t count = 0, most = 0;
	uint64_t merges = 0;
	for (uint64_t n = 0; n < steps; n++) {
		uint64_t now_ms = n * step_ms;
		for (int c = 0; c < MANIFEST_CLASSES; c++) {
			uint32_t at = 0;
			while (at < count && list[at].class <= c)
				at++;
			memmove(&list[at + 1], &list[at], (count++ - at) * sizeof(*list));
			list[at] = (struct manifest_rollup){.class = (uint8_t)c,
							    .from_segment = n + 1,
							    .to_segment = n + 1,
							    .sealed_ms_min = now_ms,
							    .sealed_ms_max = now_ms};
		}
		for (uint32_t first, take; (take = store_merge_choose(list, count, &first)) != 0; merges++) {
			assert_true(take >= 2 && take < MANIFEST_PARTS_MAX && first + take <= count);
			struct manifest_rollup *made = &list[first];
			for (uint32_t i = 1; i < take; i++) {
				assert_int_equal(made[i].class, made->class);
				assert_int_equal(made[i].from_segment, made[i - 1].to_segment + 1);
			}
			made->to_segment = made[take - 1].to_segment;
			made->sealed_ms_max = made[take - 1].sealed_ms_max;
			made->level++;
			assert_true(made->sealed_ms_max - made->sealed_ms_min <= bound_ms[made->class]);
			memmove(made + 1, made + take, (count - first - take) * sizeof(*made));
			count -= take - 1;
		}
		for (uint32_t i = 0; i < count;) {
			if (now_ms - list[i].sealed_ms_max >= age_ms[list[i].class])
				memmove(&list[i], &list[i + 1], (--count - i) * sizeof(*list));
			else
				i++;
		}
		most = count > most ? count : most;
		assert_true(count < MAX - 8);
	}
	free(list);
	/* Each level's merge takes two files or more. */
	assert_true(merges < steps * MANIFEST_CLASSES);
	if (most > files_max)
		fail_msg("%u files of all classes at once", most);
}

static void test_policy(void **state)
{
	(void)state;
	policy(60000, 100000, 260);         /* 70 days, a file a minute */
	policy(3600000, 90000, 340);        /* ten years, one an hour */
	policy(86400000, 4000, 460);        /* eleven years, one a day */
	policy(30 * 86400000ULL, 200, 200); /* a node that is hardly ever used */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),  cmocka_unit_test(test_merge_order), cmocka_unit_test(test_empty),
		cmocka_unit_test(test_damage), cmocka_unit_test(test_policy),
	};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
