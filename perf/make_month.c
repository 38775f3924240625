/*
 * A month of rollups for questions to be measured against: the sums of at least a billion events, straight through the storage's own
 * writers, without the events themselves (their raw segments would be some 50 GB).
 *
 *   make_month DATA_DIR [EVENTS [DAYS [ROWS_A_MINUTE]]]        default 1000000000 30 2000; the last day is today, up to this hour
 *   make_month --tsv [EVENTS [DAYS [ROWS_A_MINUTE]]]           the same rows as tab-separated text, for a peer
 *
 * Campaigns are as Zipf has them (exponent 1): 1000 of them, 4 ads each, of 100 advertisers; 200 publishers of which a campaign sees 8; 30
 * countries, 3 devices. One row is one combination in one minute, with the sums of about EVENTS / rows events. Each day becomes a file of
 * minutes, one of hours and one of days, as if its segments had been covered and retired; then the store merges as it always does.
 *
 * Prints events, clicks, rows and bytes, and the first and last minute.
 */
#include "rollup_file.h"
#include "store_state.h"
#include "turnpike/folder.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAMPAIGNS = 1000, ADS_EACH = 4, PUBLISHERS = 200, PUBLISHERS_EACH = 8, COUNTRIES = 30, DAY = 1440, SEGMENTS_A_DAY = 288 };
enum { CHUNK_ROWS = 1 << 16, STRINGS_BYTES = 64 };

static uint64_t random_state = 88172645463325252ULL;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* 0 … n-1, by the inverse of the harmonic sum. */
static uint32_t zipf(uint32_t n)
{
	double u = (double)(random_next() >> 11) / 9007199254740992.0;
	uint32_t k = (uint32_t)(exp(u * log((double)n + 1)) - 1);
	return k < n ? k : n - 1;
}

static void die(const char *what, int rc)
{
	fprintf(stderr, "make_month: %s: %s\n", what, strerror(-rc));
	exit(1);
}

struct month {
	uint64_t events, events_each; /* a row's, on average */
	uint64_t impressions, clicks, rows;
	uint32_t days, rows_a_minute;
	uint64_t from_minute, to_minute;
};

/* A row, and its strings into heap[0..STRINGS_BYTES). */
static void row_make(struct month *month, uint32_t minute, struct tp_rollup_row *row, char *heap, uint32_t at)
{
	uint32_t c = zipf(CAMPAIGNS), p = (c * 7 + zipf(PUBLISHERS_EACH) * 23) % PUBLISHERS;
	uint64_t n = 1 + random_next() % (2 * month->events_each - 1), clicks = 0;

	for (uint64_t i = n / 40 + (random_next() % 40 < n % 40); i > 0; i--)
		clicks++;
	*row = (struct tp_rollup_row){.minute = minute, .string_at = at, .device = (uint8_t)(random_next() % 3), .currency = "USD"};
	row->country[0] = (char)('A' + zipf(COUNTRIES) % 26);
	row->country[1] = 'X';
	int bytes[TP_DIMENSIONS];
	char *to = heap;
	to += bytes[TP_DIM_AD] = snprintf(to, 16, "ad_%u_%u", c, zipf(ADS_EACH));
	to += bytes[TP_DIM_CAMPAIGN] = snprintf(to, 16, "camp_%u", c);
	to += bytes[TP_DIM_ADVERTISER] = snprintf(to, 16, "adv_%u", c / 10);
	to += bytes[TP_DIM_PUBLISHER] = snprintf(to, 16, "pub_%u", p);
	bytes[TP_DIM_REGION] = 0;
	for (int i = 0; i < TP_DIMENSIONS; i++)
		row->string_bytes[i] = (uint8_t)bytes[i];
	row->sums.impressions = n - clicks;
	row->sums.clicks = clicks - clicks / 20;
	row->sums.flagged_clicks = clicks / 20;
	row->sums.spend_micros = (__int128)row->sums.clicks * (int64_t)(100000 + random_next() % 900000);
	month->events += n;
	month->impressions += row->sums.impressions;
	month->clicks += row->sums.clicks;
	month->rows++;
}

/* Calls `take` with the rows of minutes [from, to), some at a time. */
static void rows_make(struct month *month, uint64_t from, uint64_t to,
		      void (*take)(void *context, const struct tp_rollup_row *row, uint32_t count, const char *heap), void *context)
{
	struct tp_rollup_row *row = calloc(CHUNK_ROWS, sizeof(*row));
	char *heap = malloc((size_t)CHUNK_ROWS * STRINGS_BYTES);
	uint32_t count = 0;

	if (!row || !heap)
		die("rows", -ENOMEM);
	for (uint64_t minute = from; minute < to; minute++)
		for (uint32_t i = 0; i < month->rows_a_minute; i++) {
			row_make(month, (uint32_t)minute, &row[count], heap + (size_t)count * STRINGS_BYTES, count * STRINGS_BYTES);
			if (++count < CHUNK_ROWS)
				continue;
			take(context, row, count, heap);
			count = 0;
		}
	take(context, row, count, heap);
	free(row);
	free(heap);
}

static void rows_collect(void *context, const struct tp_rollup_row *row, uint32_t count, const char *heap)
{
	int rc = rollup_collection_add(context, row, count, heap);
	if (rc)
		die("collect", rc);
}

static void rows_print(void *context, const struct tp_rollup_row *row, uint32_t count, const char *heap)
{
	(void)context;
	for (uint32_t i = 0; i < count; i++) {
		struct tp_str name[TP_DIMENSIONS];
		for (int d = 0; d < TP_DIMENSIONS; d++)
			name[d] = tp_rollup_string(&row[i], heap, (enum tp_dimension)d);
		printf("%" PRIu64 "\t%.*s\t%.*s\t%.*s\t%.*s\t%.2s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRId64 "\n",
		       (uint64_t)row[i].minute * 60, name[TP_DIM_CAMPAIGN].bytes, name[TP_DIM_CAMPAIGN].at, name[TP_DIM_AD].bytes,
		       name[TP_DIM_AD].at, name[TP_DIM_ADVERTISER].bytes, name[TP_DIM_ADVERTISER].at, name[TP_DIM_PUBLISHER].bytes,
		       name[TP_DIM_PUBLISHER].at, row[i].country, tp_device_name((enum tp_device_type)row[i].device),
		       row[i].sums.impressions, row[i].sums.clicks, row[i].sums.flagged_clicks, (int64_t)row[i].sums.spend_micros);
	}
}

/* A manifest that knows of the month's segments, all of them retired. */
static void manifest_begin(const char *data_dir, const struct month *month)
{
	const struct sto_io *io = sto_io_system();
	struct manifest manifest = {.version = MANIFEST_VERSION};
	const struct manifest_record state = {
		.kind = MANIFEST_STATE,
		.facts = {.watermark_ms = month->to_minute * TP_MINUTE_MS,
			  .file_id_max = (uint64_t)month->days * SEGMENTS_A_DAY,
			  .segment_max = (uint64_t)month->days * SEGMENTS_A_DAY},
	};
	char path[STORE_PATH_BYTES];
	uint8_t bytes[2 * MANIFEST_UNIT];
	uint64_t secret[2];

	int rc = tp_folder_make(data_dir, 0750);
	if (!rc)
		rc = node_file_load(io, data_dir, true, manifest.node_id, secret);
	static const char *const folders[] = {"log", "segments", "rollups"};
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]) && !rc; i++) {
		rc = folder_path(path, data_dir, folders[i]);
		if (!rc)
			rc = tp_folder_make(path, 0750);
	}
	if (!rc)
		rc = folder_path(path, data_dir, "manifest");
	if (rc)
		die(data_dir, rc);
	manifest_header_write(bytes, manifest.node_id);
	rc = manifest_feed(&manifest, bytes, MANIFEST_UNIT, NULL, NULL);
	if (rc < 0)
		die("manifest", rc);
	manifest_write(bytes + MANIFEST_UNIT, &manifest, &state, 1);
	FILE *file = fopen(path, "wx");
	if (!file || fwrite(bytes, sizeof(bytes), 1, file) != 1 || fclose(file) != 0)
		die(path, -errno);
	manifest_fini(&manifest);
}

static void day_write(struct sto_store *store, struct month *month, uint32_t day)
{
	char path[MANIFEST_CLASSES][STORE_PATH_BYTES], name[STORE_PATH_BYTES];
	const char *paths[MANIFEST_CLASSES];
	struct manifest_rollup facts[MANIFEST_CLASSES];
	struct manifest_record record[MANIFEST_CLASSES];
	struct rollup_collection *collection = rollup_collection_new();
	uint64_t from = month->from_minute + (uint64_t)day * DAY, to = from + DAY;

	if (to > month->to_minute)
		to = month->to_minute;
	if (!collection)
		die("collection", -ENOMEM);
	rows_make(month, from, to, rows_collect, collection);
	for (int c = 0; c < MANIFEST_CLASSES; c++) {
		facts[c] = (struct manifest_rollup){.class = (uint8_t)c,
						    .sequence = 3ULL * day + (unsigned)c + 1,
						    .from_segment = (uint64_t)day * SEGMENTS_A_DAY + 1,
						    .to_segment = (uint64_t)(day + 1) * SEGMENTS_A_DAY,
						    .sealed_ms_min = from * TP_MINUTE_MS,
						    .sealed_ms_max = to * TP_MINUTE_MS};
		folder_rollup_path(path[c], store->data_dir, facts[c].sequence, false);
		paths[c] = path[c];
	}
	int rc = rollup_collection_write(collection, store->io, paths, store->node_id, facts, NULL, NULL);
	rollup_collection_free(collection);
	if (!rc)
		rc = folder_path(name, store->data_dir, "rollups");
	if (!rc)
		rc = store->io->sync_folder(store->io, name);
	for (int c = 0; c < MANIFEST_CLASSES; c++)
		record[c] = (struct manifest_record){.kind = MANIFEST_ROLLUP, .rollup = facts[c]};
	if (!rc)
		rc = store_commit(store, record, MANIFEST_CLASSES);
	if (rc)
		die("write", rc);
	store->next_rollup = 3ULL * (day + 1) + 1;
}

static void month_write(const char *data_dir, struct month *month)
{
	const struct sto_store_options options = {.data_dir = data_dir, .log_file_bytes = 64 << 20};
	const struct sto_merge_options now = {.now = true};
	struct sto_store *store;
	struct sto_reader *reader;
	uint64_t bytes = 0;

	manifest_begin(data_dir, month);
	int rc = sto_store_open(&store, &options);
	if (rc)
		die(data_dir, rc);
	for (uint32_t day = 0; day < month->days; day++)
		day_write(store, month, day);
	while ((rc = sto_merge_step(store, &now)) > 0)
		;
	if (rc)
		die("merge", rc);
	sto_store_close(store);
	if (sto_reader_open(&reader, data_dir) || sto_reader_refresh(reader) < 0)
		die("read", -EIO);
	for (uint32_t i = 0; i < sto_reader_rollups(reader); i++)
		bytes += sto_reader_rollup_info(reader, i)->bytes;
	printf("%" PRIu64 " events, %" PRIu64 " impressions, %" PRIu64 " clicks, %" PRIu64
	       " rows a minute class, %u files, %" PRIu64 " bytes, minutes %" PRIu64 " to %" PRIu64 "\n",
	       month->events, month->impressions, month->clicks, month->rows, sto_reader_rollups(reader), bytes, month->from_minute,
	       month->to_minute);
	sto_reader_close(reader);
}

int main(int count, char **word)
{
	bool tsv = count > 1 && strcmp(word[1], "--tsv") == 0;
	uint64_t wanted = count > 2 ? strtoull(word[2], NULL, 10) : 1000000000;
	struct month month = {.days = count > 3 ? (uint32_t)atoi(word[3]) : 30,
			      .rows_a_minute = count > 4 ? (uint32_t)atoi(word[4]) : 2000};

	if (count < 2 || !wanted || !month.days || !month.rows_a_minute) {
		fprintf(stderr, "usage: make_month DATA_DIR|--tsv [EVENTS [DAYS [ROWS_A_MINUTE]]]\n");
		return 2;
	}
	tp_log_level_set(TP_WARN);
	uint64_t now = tp_now_ms() / TP_MINUTE_MS;
	month.to_minute = now - now % 60;
	month.from_minute = now - now % DAY - (uint64_t)(month.days - 1) * DAY;
	uint64_t rows = (month.to_minute - month.from_minute) * month.rows_a_minute;
	month.events_each = wanted / rows + 1;
	if (tsv)
		rows_make(&month, month.from_minute, month.to_minute, rows_print, NULL);
	else
		month_write(word[1], &month);
	return 0;
}
