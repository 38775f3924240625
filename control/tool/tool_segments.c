/*
 * turnpikectl segments: list, show, verify, dump, stats and archive read the data folder, seal asks the data process.
 */
#include "tool.h"
#include "tool_dump.h"

#include "turnpike/reader.h"
#include "turnpike/scan.h"
#include "turnpike/text.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A reader of the folder as it is now; NULL: said why not. */
static struct sto_reader *folder_read(const struct ctl_tool *tool)
{
	struct sto_reader *reader;
	int rc = sto_reader_open(&reader, tool->config.data_dir);
	if (!rc) {
		rc = sto_reader_refresh(reader);
		if (rc >= 0)
			return reader;
		sto_reader_close(reader);
	}
	fprintf(stderr, "turnpikectl: cannot read the segments of %s: %s\n", tool->config.data_dir, strerror(-rc));
	return NULL;
}

/* "17" to the index of that segment, or -1: said why not. */
static int64_t segment_find(struct sto_reader *reader, const char *word)
{
	char *end;
	errno = 0;
	uint64_t sequence = strtoull(word, &end, 10);
	if (*end || end == word || errno) {
		fprintf(stderr, "turnpikectl: expected the sequence number of a segment, found \"%s\"\n", word);
		return -1;
	}
	for (uint32_t i = 0; i < sto_reader_segments(reader); i++)
		if (sto_reader_segment(reader, i)->sequence == sequence)
			return i;
	fprintf(stderr, "turnpikectl: there is no segment %s; \"segments list\" shows them\n", word);
	return -1;
}

static int scan_failed(uint64_t sequence, int rc)
{
	fprintf(stderr, "turnpikectl: segment %" PRIu64 ": %s\n", sequence,
		rc == -EBADMSG   ? "damaged; \"segments verify\" says where"
		: rc == -ESTALE  ? "deleted or replaced this moment; try again"
		: rc == -ENOTSUP ? "of version 1, which has no columns; \"segments archive\" makes it version 3"
				 : strerror(-rc));
	return 1;
}

static void hex(const uint8_t sha256[32], char to[65])
{
	for (int i = 0; i < 32; i++)
		snprintf(to + 2 * i, 3, "%02x", sha256[i]);
}

/* ---- list ---- */

static int segments_list(struct ctl_tool *tool)
{
	struct sto_reader *reader = folder_read(tool);
	if (!reader)
		return 1;
	json_t *items = json_array();
	if (!tool->json)
		printf("%8s %12s %14s %7s  %-24s %-24s\n", "SEQUENCE", "ROWS", "BYTES", "B/ROW", "FROM", "TO");
	for (uint32_t i = 0; i < sto_reader_segments(reader); i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		char from[32], to[32], sha256[65], prev[65];
		tp_time_text(info->from_ms, from);
		tp_time_text(info->to_ms, to);
		hex(info->sha256, sha256);
		hex(info->prev_sha256, prev);
		if (tool->json)
			json_array_append_new(items, json_pack("{s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:s, s:s}", "sequence",
							       (json_int_t)info->sequence, "rows", (json_int_t)info->rows, "bytes",
							       (json_int_t)info->bytes, "from", from, "to", to, "late",
							       (json_int_t)info->late, "generation", (json_int_t)info->generation,
							       "sha256", sha256, "prev_sha256", prev));
		else
			printf("%8" PRIu64 " %12" PRIu64 " %14" PRIu64 " %7.1f  %-24s %-24s\n", info->sequence, info->rows,
			       info->bytes, info->rows ? (double)info->bytes / (double)info->rows : 0, from, to);
	}
	if (tool->json)
		ctl_tool_print(json_pack("{s:O}", "items", items));
	json_decref(items);
	sto_reader_close(reader);
	return 0;
}

/* ---- show ---- */

struct showing {
	json_t *campaigns;
	bool print;
};

static void campaign_show(void *context, const struct sto_scan_campaign *one)
{
	struct showing *showing = context;
	char money[64];
	tp_micros_text(one->sums.spend_micros, money);
	if (showing->print)
		printf("  %-40.*s %12" PRIu64 " %12" PRIu64 " %10" PRIu64 " %10" PRIu64 " %18s %s\n", one->campaign.bytes,
		       one->campaign.at, one->sums.impressions, one->sums.clicks, one->sums.flagged_clicks, one->sums.conversions,
		       money, one->currency);
	else
		json_array_append_new(showing->campaigns,
				      json_pack("{s:s%, s:s, s:I, s:I, s:I, s:I, s:I, s:s}", "campaign", one->campaign.at,
						(size_t)one->campaign.bytes, "currency", one->currency, "impressions",
						(json_int_t)one->sums.impressions, "clicks", (json_int_t)one->sums.clicks,
						"flagged_clicks", (json_int_t)one->sums.flagged_clicks, "conversions",
						(json_int_t)one->sums.conversions, "late", (json_int_t)one->sums.late, "spend",
						money));
}

static int segments_show(struct ctl_tool *tool, const char *word)
{
	struct sto_reader *reader = folder_read(tool);
	int64_t index = reader ? segment_find(reader, word) : -1;
	if (index < 0) {
		sto_reader_close(reader);
		return 1;
	}
	const struct sto_segment_info *info = sto_reader_segment(reader, (uint32_t)index);
	struct sto_scan *scan = NULL;
	struct sto_scan_facts facts;
	int rc = sto_scan_open(&scan, reader, (uint32_t)index, NULL);
	if (rc) {
		rc = scan_failed(info->sequence, rc);
		sto_reader_close(reader);
		return rc;
	}
	struct showing showing = {.campaigns = json_array(), .print = !tool->json};
	char from[32], to[32], sealed[32], sha256[65], prev[65], money[64];
	sto_scan_facts(scan, &facts);
	tp_time_text(facts.from_ms, from);
	tp_time_text(facts.to_ms, to);
	tp_time_text(facts.sealed_ms, sealed);
	tp_micros_text(facts.spend_micros, money);
	hex(info->sha256, sha256);
	hex(facts.prev_sha256, prev);
	if (!tool->json) {
		printf("segment      %" PRIu64 ", version %u, log file %016" PRIx64 " of shard %u\n", facts.sequence, facts.version,
		       facts.file_id, facts.shard);
		printf("sealed       %s\nevents       %s to %s\n", sealed, from, to);
		printf("bytes        %" PRIu64 "\nsha256       %s\nprev_sha256  %s\n", facts.bytes, sha256, prev);
		printf("rows         %" PRIu64 ": counted %" PRIu64 ", late %" PRIu64 ", conflicts %" PRIu64
		       "; other records %" PRIu64 "\n",
		       facts.rows, facts.counted, facts.late, facts.conflicts, facts.raw_records);
		printf("campaigns\n  %-40s %12s %12s %10s %10s %18s\n", "", "IMPRESSIONS", "CLICKS", "FLAGGED", "CONVERS.",
		       "SPEND");
	}
	rc = sto_scan_campaigns(scan, campaign_show, &showing);
	if (rc)
		rc = scan_failed(facts.sequence, rc);
	else if (tool->json)
		rc = ctl_tool_print(json_pack(
			"{s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:O}",
			"sequence", (json_int_t)facts.sequence, "version", (json_int_t)facts.version, "shard",
			(json_int_t)facts.shard, "generation", (json_int_t)info->generation, "bytes", (json_int_t)facts.bytes,
			"sealed", sealed, "from", from, "to", to, "sha256", sha256, "prev_sha256", prev, "rows",
			(json_int_t)facts.rows, "counted", (json_int_t)facts.counted, "late", (json_int_t)facts.late, "conflicts",
			(json_int_t)facts.conflicts, "other_records", (json_int_t)facts.raw_records, "impressions",
			(json_int_t)facts.impressions, "clicks", (json_int_t)facts.clicks, "flagged_clicks",
			(json_int_t)facts.flagged_clicks, "conversions", (json_int_t)facts.conversions, "spend", money, "campaigns",
			showing.campaigns));
	json_decref(showing.campaigns);
	sto_scan_close(scan);
	sto_reader_close(reader);
	return rc;
}

/* ---- stats ---- */

enum { PARTS_MAX = 128 };

struct stats {
	struct {
		char name[32], encodings[256];
		uint64_t bytes, raw_bytes, dictionary_bytes, texts;
	} part[PARTS_MAX];
	uint32_t parts;
	uint64_t bytes, rows;
};

static void part_add(void *context, const struct sto_scan_part *part)
{
	struct stats *stats = context;
	uint32_t i = 0;
	while (i < stats->parts && strcmp(stats->part[i].name, part->name) != 0)
		i++;
	if (i == PARTS_MAX)
		return;
	if (i == stats->parts) {
		snprintf(stats->part[i].name, sizeof(stats->part[i].name), "%s", part->name);
		stats->parts++;
	}
	/* of several segments, the encodings of the last one */
	snprintf(stats->part[i].encodings, sizeof(stats->part[i].encodings), "%s", part->encodings);
	stats->part[i].bytes += part->bytes;
	stats->part[i].raw_bytes += part->raw_bytes;
	stats->part[i].dictionary_bytes += part->dictionary_bytes;
	stats->part[i].texts += part->texts;
	stats->bytes += part->bytes;
}

static int stats_print(const struct ctl_tool *tool, const struct stats *stats)
{
	double rows = stats->rows ? (double)stats->rows : 1;
	json_t *items = json_array();
	if (!tool->json)
		printf("%-24s %14s %10s %8s %14s %10s  %s\n", "PART", "BYTES", "B/ROW", "ZSTD", "DICTIONARY", "TEXTS", "BLOCKS");
	for (uint32_t i = 0; i < stats->parts; i++) {
		double ratio = stats->part[i].bytes ? (double)stats->part[i].raw_bytes / (double)stats->part[i].bytes : 1;
		if (tool->json)
			json_array_append_new(items,
					      json_pack("{s:s, s:I, s:f, s:f, s:I, s:I, s:s}", "part", stats->part[i].name, "bytes",
							(json_int_t)stats->part[i].bytes, "bytes_per_row",
							(double)stats->part[i].bytes / rows, "zstd_ratio", ratio,
							"dictionary_bytes", (json_int_t)stats->part[i].dictionary_bytes, "texts",
							(json_int_t)stats->part[i].texts, "blocks", stats->part[i].encodings));
		else
			printf("%-24s %14" PRIu64 " %10.3f %8.2f %14" PRIu64 " %10" PRIu64 "  %s\n", stats->part[i].name,
			       stats->part[i].bytes, (double)stats->part[i].bytes / rows, ratio, stats->part[i].dictionary_bytes,
			       stats->part[i].texts, stats->part[i].encodings);
	}
	if (tool->json)
		ctl_tool_print(json_pack("{s:I, s:I, s:f, s:O}", "rows", (json_int_t)stats->rows, "bytes", (json_int_t)stats->bytes,
					 "bytes_per_row", (double)stats->bytes / rows, "items", items));
	else
		printf("%-24s %14" PRIu64 " %10.3f          %" PRIu64 " rows\n", "all", stats->bytes, (double)stats->bytes / rows,
		       stats->rows);
	json_decref(items);
	return 0;
}

static int segments_stats(struct ctl_tool *tool, const char *word)
{
	struct sto_reader *reader = folder_read(tool);
	int64_t only = reader && word ? segment_find(reader, word) : -1;
	if (!reader || (word && only < 0)) {
		sto_reader_close(reader);
		return 1;
	}
	struct stats *stats = calloc(1, sizeof(*stats));
	int rc = stats ? 0 : 1;
	for (uint32_t i = 0; i < sto_reader_segments(reader) && !rc; i++) {
		struct sto_scan *scan = NULL;
		struct sto_scan_facts facts;
		if (word && i != only)
			continue;
		rc = sto_scan_open(&scan, reader, i, NULL);
		if (rc == -ENOTSUP && !word) { /* version 1 among others: it has no parts to speak of */
			rc = 0;
			continue;
		}
		if (!rc) {
			sto_scan_facts(scan, &facts);
			stats->rows += facts.rows;
			rc = sto_scan_parts(scan, part_add, stats);
			sto_scan_close(scan);
		}
		if (rc)
			rc = scan_failed(sto_reader_segment(reader, i)->sequence, rc);
	}
	if (!rc)
		rc = stats_print(tool, stats);
	free(stats);
	sto_reader_close(reader);
	return rc;
}

/* ---- dump ---- */

static bool time_option(const char *name, const char *text, uint64_t *ms)
{
	if (!tp_time_parse(text, strlen(text), ms))
		return true;
	fprintf(stderr, "turnpikectl: --%s: expected RFC 3339 or milliseconds, found \"%s\"\n", name, text);
	return false;
}

static struct tp_str str(const char *text)
{
	return (struct tp_str){text, (uint16_t)(strlen(text) < UINT16_MAX ? strlen(text) : UINT16_MAX)};
}

/* dump [SEQ…] [--format json|csv] [--from T] [--to T] [--campaign ID] [--ad ID] [--advertiser ID] [--type NAME] */
static int dump_options(int words, char **word, struct sto_scan_filter *filter, bool *csv)
{
	static const struct option options[] = {
		{"format", required_argument, NULL, 'f'}, {"from", required_argument, NULL, 'a'},
		{"to", required_argument, NULL, 'b'},     {"campaign", required_argument, NULL, 'c'},
		{"ad", required_argument, NULL, 'd'},     {"advertiser", required_argument, NULL, 'v'},
		{"type", required_argument, NULL, 't'},   {0}};
	int option;
	optind = 0;
	while ((option = getopt_long(words, word, "", options, NULL)) >= 0) {
		switch (option) {
		case 'f':
			if (strcmp(optarg, "json") != 0 && strcmp(optarg, "csv") != 0)
				return -1;
			*csv = !strcmp(optarg, "csv");
			break;
		case 'a':
			if (!time_option("from", optarg, &filter->from_ms))
				return -1;
			break;
		case 'b':
			if (!time_option("to", optarg, &filter->to_ms))
				return -1;
			break;
		case 'c':
			filter->campaign = str(optarg);
			break;
		case 'd':
			filter->ad = str(optarg);
			break;
		case 'v':
			filter->advertiser = str(optarg);
			break;
		case 't':
			for (int type = 0; type < TP_EVENT_TYPES; type++)
				if (!strcmp(optarg, tp_event_type_name((enum tp_event_type)type)))
					filter->types |= 1u << type;
			if (!filter->types) {
				fprintf(stderr, "turnpikectl: --type: expected impression, click or conversion, found \"%s\"\n",
					optarg);
				return -1;
			}
			break;
		default:
			return -1;
		}
	}
	return optind;
}

static int segments_dump(struct ctl_tool *tool, int words, char **word)
{
	struct sto_scan_filter filter = {0};
	struct ctl_dump dump = {.filter = &filter, .to = stdout};
	int first = dump_options(words, word, &filter, &dump.csv);
	if (first < 0)
		return 2;
	struct sto_reader *reader = folder_read(tool);
	if (!reader)
		return 1;
	int rc = 0;
	uint32_t count = first < words ? (uint32_t)(words - first) : sto_reader_segments(reader);
	for (uint32_t i = 0; i < count && !rc; i++) {
		int64_t index = first < words ? segment_find(reader, word[first + (int)i]) : i;
		struct sto_scan *scan = NULL;
		if (index < 0) {
			rc = 1;
			break;
		}
		const struct sto_segment_info *info = sto_reader_segment(reader, (uint32_t)index);
		if (info->to_ms && (info->to_ms <= filter.from_ms || (filter.to_ms && info->from_ms >= filter.to_ms)))
			continue;
		rc = sto_scan_open(&scan, reader, (uint32_t)index, &filter);
		if (!rc) {
			rc = ctl_dump(&dump, scan);
			sto_scan_close(scan);
		} else if (rc == -ENOTSUP) { /* version 1 */
			rc = sto_reader_events(reader, (uint32_t)index, ctl_dump_event, &dump);
		}
		if (rc)
			rc = scan_failed(info->sequence, rc);
	}
	sto_reader_close(reader);
	return rc;
}

/* ---- verify, archive, seal ---- */

struct faults {
	json_t *items;
	bool print;
};

static void fault(void *context, const char *path, const char *what)
{
	struct faults *faults = context;
	if (faults->print)
		printf("%s: %s\n", path, what);
	json_array_append_new(faults->items, json_pack("{s:s, s:s}", "file", path, "fault", what));
}

static int segments_verify(struct ctl_tool *tool)
{
	struct faults faults = {.items = json_array(), .print = !tool->json};
	int count = sto_verify(tool->config.data_dir, fault, &faults);
	if (count < 0)
		fprintf(stderr, "turnpikectl: cannot verify %s: %s\n", tool->config.data_dir,
			count == -EBUSY ? "a data process is using it; stop it first" : strerror(-count));
	else if (tool->json)
		ctl_tool_print(json_pack("{s:b, s:O}", "ok", count == 0, "items", faults.items));
	else if (!count)
		printf("no damage found\n");
	json_decref(faults.items);
	return count ? 1 : 0;
}

/* archive [SEQ…]: all segments that were not archived yet, or those */
static int segments_archive(struct ctl_tool *tool, int words, char **word)
{
	struct sto_reader *reader = folder_read(tool);
	if (!reader)
		return 1;
	const struct sto_store_options options = {.data_dir = tool->config.data_dir, .log_file_bytes = tool->config.log_file_bytes};
	struct sto_store *store;
	int rc = sto_store_open(&store, &options);
	if (rc) {
		fprintf(stderr, "turnpikectl: cannot archive in %s: %s\n", tool->config.data_dir,
			rc == -EBUSY ? "a data process is using it; stop it first" : strerror(-rc));
		sto_reader_close(reader);
		return 1;
	}
	uint64_t before = 0, after = 0, files = 0;
	uint32_t count = words > 1 ? (uint32_t)words - 1 : sto_reader_segments(reader);
	for (uint32_t i = 0; i < count && !rc; i++) {
		int64_t index = words > 1 ? segment_find(reader, word[1 + i]) : i;
		if (index < 0) {
			rc = 1;
			break;
		}
		const struct sto_segment_info *info = sto_reader_segment(reader, (uint32_t)index);
		if (words == 1 && info->generation)
			continue;
		uint64_t bytes = 0;
		int done = sto_archive(store, info->sequence, NULL, &bytes);
		if (done == 1) {
			before += info->bytes;
			after += bytes;
			files++;
		}
		rc = done < 0 ? scan_failed(info->sequence, done) : 0;
	}
	sto_store_close(store);
	sto_reader_close(reader);
	if (tool->json)
		ctl_tool_print(json_pack("{s:I, s:I, s:I}", "files", (json_int_t)files, "bytes_before", (json_int_t)before,
					 "bytes_after", (json_int_t)after));
	else
		printf("%" PRIu64 " files archived, %" PRIu64 " bytes to %" PRIu64 "\n", files, before, after);
	return rc;
}

int ctl_tool_segments(struct ctl_tool *tool, int words, char **word)
{
	if (words == 1 && !strcmp(word[0], "list"))
		return segments_list(tool);
	if (words == 2 && !strcmp(word[0], "show"))
		return segments_show(tool, word[1]);
	if (words == 1 && !strcmp(word[0], "verify"))
		return segments_verify(tool);
	if (words >= 1 && words <= 2 && !strcmp(word[0], "stats"))
		return segments_stats(tool, words == 2 ? word[1] : NULL);
	if (words >= 1 && !strcmp(word[0], "dump"))
		return segments_dump(tool, words, word);
	if (words >= 1 && !strcmp(word[0], "archive"))
		return segments_archive(tool, words, word);
	if (words != 1 || strcmp(word[0], "seal"))
		return 2;
	json_t *answer = ctl_tool_command(tool, "seal");
	if (!answer)
		return 1;
	if (tool->json)
		return ctl_tool_print(answer);
	json_decref(answer);
	return 0;
}
