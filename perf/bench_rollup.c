/*
 * Rollup files under a month of events: bytes a row and an event, speed of covering and merging, and how long one campaign's month
 * takes inside the reader.
 *
 *   bench_rollup [EVENTS_A_DAY [DAYS [FOLDER]]]       default 300000 30 bench_rollup.tmp
 *
 * Ads, campaigns and publishers are as Zipf has them (exponent 1): 2000 campaigns, 10,000 ads, 500 publishers, 30 countries, 3 devices.
 * Events come spread over the day, a segment each 5 minutes; the rollup rows of each are made and collected as the store does it,
 * without the log and the events themselves.
 */
#include "rollup_file.h"
#include "store_state.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	CAMPAIGNS = 2000,
	ADS_EACH = 5,
	PUBLISHERS = 500,
	COUNTRIES = 30,
	SEGMENTS_A_DAY = 288,
	FIRST_MINUTE = 28400 * 1000 / 1440 * 1440
};
enum { QUESTIONS = 2000, FILES_MAX = 4096 };

static const uint8_t node_id[16];
static uint64_t random_state = 1;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* 0 … n-1, the first n/e times as often as the k-th: the inverse of the harmonic sum. */
static uint32_t zipf(uint32_t n)
{
	double u = (double)(random_next() >> 11) / 9007199254740992.0;
	uint32_t k = (uint32_t)(exp(u * log((double)n + 1)) - 1);
	return k < n ? k : n - 1;
}

static const char *folder = "bench_rollup.tmp";
static const struct sto_io *io;
static struct manifest_rollup file[FILES_MAX];
static uint32_t files;
static uint64_t next_sequence = 1;
static uint64_t covered_rows, cover_ns, merged_rows, merge_ns;

static void path_of(char *path, uint64_t sequence)
{
	snprintf(path, STORE_PATH_BYTES, "%s/%016" PRIx64 ".rol", folder, sequence);
}

static void die(const char *what, int rc)
{
	fprintf(stderr, "bench_rollup: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static void event_into(struct tp_rollup *table, uint64_t minute)
{
	_Alignas(8) uint8_t record[TP_EVENT_BYTES_MAX];
	struct tp_parsed parsed;
	char campaign[16], ad[24], advertiser[16], publisher[16];
	memset(&parsed, 0, sizeof(parsed));
	uint32_t c = zipf(CAMPAIGNS), a = zipf(ADS_EACH), p = zipf(PUBLISHERS);
	parsed.fixed.type = random_next() % 40 ? TP_IMPRESSION : TP_CLICK;
	parsed.fixed.device = (uint8_t)(random_next() % 3);
	parsed.fixed.flags = TP_HAS_BID;
	parsed.fixed.bid_micros = (int64_t)(random_next() % 2000) * 1000;
	parsed.fixed.timestamp_ms = minute * TP_MINUTE_MS;
	parsed.fixed.country[0] = (char)('A' + zipf(COUNTRIES) % 26);
	parsed.fixed.country[1] = 'X';
	memcpy(parsed.fixed.currency, "USD", 3);
	parsed.string[TP_CAMPAIGN_ID] = (struct tp_str){campaign, (uint16_t)snprintf(campaign, 16, "camp_%u", c)};
	parsed.string[TP_AD_ID] = (struct tp_str){ad, (uint16_t)snprintf(ad, 24, "ad_%u_%u", c, a)};
	parsed.string[TP_ADVERTISER_ID] = (struct tp_str){advertiser, (uint16_t)snprintf(advertiser, 16, "adv_%u", c / 10)};
	parsed.string[TP_PUBLISHER_ID] = (struct tp_str){publisher, (uint16_t)snprintf(publisher, 16, "pub_%u", p)};
	tp_event_finish(&parsed);
	tp_event_encode(&parsed, (struct tp_event *)(void *)record);
	((struct tp_event *)(void *)record)->verdict = TP_ACCEPTED;
	tp_rollup_add(table, (struct tp_event *)(void *)record);
}

static void file_add(const struct manifest_rollup *facts)
{
	uint32_t at = 0;
	while (at < files &&
	       (file[at].class < facts->class || (file[at].class == facts->class && file[at].from_segment < facts->from_segment)))
		at++;
	memmove(&file[at + 1], &file[at], (files++ - at) * sizeof(file[0]));
	file[at] = *facts;
}

static void merge(uint32_t first, uint32_t count)
{
	char path[STORE_PATH_BYTES];
	struct rollup_file source[MANIFEST_PARTS_MAX];
	struct manifest_rollup facts = file[first];
	facts.sequence = next_sequence++;
	facts.level++;
	facts.to_segment = file[first + count - 1].to_segment;
	facts.sealed_ms_max = file[first + count - 1].sealed_ms_max;
	uint64_t began = tp_mono_ns();
	for (uint32_t i = 0; i < count; i++) {
		path_of(path, file[first + i].sequence);
		int rc = rollup_file_open(&source[i], io, path, &file[first + i]);
		if (rc)
			die(path, rc);
		merged_rows += file[first + i].rows;
	}
	path_of(path, facts.sequence);
	int rc = rollup_merge(io, source, count, path, node_id, &facts, NULL, NULL);
	if (rc)
		die("merge", rc);
	merge_ns += tp_mono_ns() - began;
	for (uint32_t i = 0; i < count; i++) {
		rollup_file_close(&source[i]);
		path_of(path, file[first + i].sequence);
		unlink(path);
	}
	memmove(&file[first], &file[first + count], (files - first - count) * sizeof(file[0]));
	files -= count;
	file_add(&facts);
}

static void cover(const struct tp_rollup *table, uint64_t segment)
{
	char path[MANIFEST_CLASSES][STORE_PATH_BYTES];
	const char *paths[MANIFEST_CLASSES];
	struct manifest_rollup facts[MANIFEST_CLASSES];
	uint64_t began = tp_mono_ns();
	struct rollup_collection *collection = rollup_collection_new();
	int rc = rollup_collection_add(collection, tp_rollup_rows(table), table->rows, tp_rollup_heap(table));
	for (int c = 0; c < MANIFEST_CLASSES; c++) {
		facts[c] = (struct manifest_rollup){.sequence = next_sequence++,
						    .class = (uint8_t)c,
						    .from_segment = segment,
						    .to_segment = segment,
						    .sealed_ms_min = segment * 300000,
						    .sealed_ms_max = segment * 300000};
		path_of(path[c], facts[c].sequence);
		paths[c] = path[c];
	}
	if (!rc)
		rc = rollup_collection_write(collection, io, paths, node_id, facts, NULL, NULL);
	if (rc)
		die("cover", rc);
	rollup_collection_free(collection);
	covered_rows += table->rows;
	cover_ns += tp_mono_ns() - began;
	for (int c = 0; c < MANIFEST_CLASSES; c++)
		file_add(&facts[c]);
	for (uint32_t first, count; (count = store_merge_choose(file, files, &first)) != 0;)
		merge(first, count);
}

/* ---- the questions ---- */

struct sum {
	struct tp_sums sums;
	uint64_t rows;
};

static bool row_add(void *context, const struct tp_rollup_row *row, const char *heap)
{
	struct sum *sum = context;
	(void)heap;
	sum->sums.clicks += row->sums.clicks;
	sum->sums.spend_micros += row->sums.spend_micros;
	sum->rows++;
	return true;
}

static int compare(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;
	return *a < *b ? -1 : *a > *b;
}

static void ask(struct rollup_file *open, int class, const char *name, bool alone, bool cold)
{
	static uint64_t took[QUESTIONS];
	uint64_t rows = 0;
	for (uint32_t q = 0; q < QUESTIONS; q++) {
		char id[16];
		/* The busy ones are asked for as often as they are busy. */
		const struct rollup_filter filter = {.dimension = TP_DIM_CAMPAIGN,
						     .id = id,
						     .alone = alone,
						     .id_bytes = (size_t)snprintf(id, sizeof(id), "camp_%u", zipf(CAMPAIGNS))};
		struct sum sum = {0};
		if (cold)
			for (uint32_t i = 0; i < files; i++)
				for (int set = 0; set < ROLLUP_SETS; set++)
					memset(open[i].set[set].checked, 0, open[i].set[set].blocks);
		uint64_t began = tp_mono_ns();
		for (uint32_t i = 0; i < files; i++)
			if (file[i].class == class && rollup_file_scan(&open[i], &filter, 0, UINT32_MAX, row_add, &sum))
				die("question", -EBADMSG);
		took[q] = tp_mono_ns() - began;
		rows += sum.rows;
	}
	qsort(took, QUESTIONS, sizeof(took[0]), compare);
	printf("one campaign's month %-28s p50 %8.1f us  p99 %8.1f us  max %8.1f us  %" PRIu64 " rows each\n", name,
	       (double)took[QUESTIONS / 2] / 1e3, (double)took[QUESTIONS * 99 / 100] / 1e3, (double)took[QUESTIONS - 1] / 1e3,
	       rows / QUESTIONS);
}

int main(int argc, char **argv)
{
	uint64_t a_day = argc > 1 ? strtoull(argv[1], NULL, 10) : 300000, days = argc > 2 ? strtoull(argv[2], NULL, 10) : 30;
	folder = argc > 3 ? argv[3] : folder;
	io = sto_io_system();
	mkdir(folder, 0700);
	uint32_t rows_max = (uint32_t)(2 * a_day / SEGMENTS_A_DAY + 1024);
	struct tp_rollup *table = aligned_alloc(64, (tp_rollup_bytes(rows_max, rows_max * 64) + 63) / 64 * 64);
	tp_rollup_format(table, rows_max, rows_max * 64);
	for (uint64_t segment = 1; segment <= days * SEGMENTS_A_DAY; segment++) {
		tp_rollup_reset(table, segment);
		for (uint64_t n = 0; n < a_day / SEGMENTS_A_DAY; n++)
			event_into(table, FIRST_MINUTE + segment * 5 - random_next() % 5);
		cover(table, segment);
	}
	uint64_t events = days * SEGMENTS_A_DAY * (a_day / SEGMENTS_A_DAY);
	struct rollup_file *open = calloc(files, sizeof(*open));
	for (int c = 0; c < MANIFEST_CLASSES; c++) {
		uint64_t bytes = 0, rows = 0;
		uint32_t count = 0;
		for (uint32_t i = 0; i < files; i++) {
			char path[STORE_PATH_BYTES];
			if (file[i].class != c)
				continue;
			path_of(path, file[i].sequence);
			int rc = rollup_file_open(&open[i], io, path, &file[i]);
			if (rc)
				die(path, rc);
			bytes += file[i].bytes;
			rows += file[i].rows;
			count++;
		}
		printf("%-7s %4u files %12" PRIu64 " rows %12" PRIu64 " bytes  %6.2f bytes a row  %6.2f an event\n",
		       manifest_class_name((enum manifest_class)c), count, rows, bytes, (double)bytes / (double)rows,
		       (double)bytes / (double)events);
	}
	printf("covering %.2f M rows/s (into three files, with syncs), merging %.2f M rows/s\n",
	       (double)covered_rows * 1e3 / (double)cover_ns, (double)merged_rows * 1e3 / (double)(merge_ns ? merge_ns : 1));
	ask(open, MANIFEST_DAY, "by days", true, false);
	ask(open, MANIFEST_HOUR, "by hours", true, false);
	ask(open, MANIFEST_HOUR, "by hours, blocks unchecked", true, true);
	ask(open, MANIFEST_DAY, "by days and groups", false, false);
	ask(open, MANIFEST_HOUR, "by hours and groups", false, false);
	ask(open, MANIFEST_MINUTE, "by minutes", true, false);
	for (uint32_t i = 0; i < files; i++) {
		char path[STORE_PATH_BYTES];
		rollup_file_close(&open[i]);
		path_of(path, file[i].sequence);
		unlink(path);
	}
	rmdir(folder);
	free(open);
	free(table);
	return 0;
}
