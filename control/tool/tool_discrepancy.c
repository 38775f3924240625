/*
 * turnpikectl discrepancy: explains the difference between a partner's count and ours. docs/reconciliation.md.
 *
 *   partner's rows ─► which campaigns, which time ─► raw rows of them, in slots of a quarter of an hour, by how they were judged
 *                 ─► the one way of counting that comes closest to the partner's: another time zone, the time of arrival in place of the
 *                    stamp (late events), tagged clicks too, conflicting copies too
 *                 ─► each row's difference in these parts; what is left may be duplicates and beacons that were refused, as far as
 *                    the node's counters reach, else it is unexplained
 *
 * One thread, memory in proportion to campaigns × time. It reads the data folder and writes nothing.
 */
#include "ctl_zone.h"
#include "tool.h"
#include "turnpike/counter.h"
#include "turnpike/follow.h"
#include "turnpike/reader.h"
#include "turnpike/scan.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SLOT_MINUTES = 15, /* zones have no finer offsets */
	SHIFT_SLOTS_MAX = 26 * 4,
	ROWS_MAX = 100000,
	CELLS_MAX = 4 << 20,
	LINE_BYTES = 4096,
	FIELDS_MAX = 32,
};
#define SLOT_MS   (SLOT_MINUTES * TP_MINUTE_MS)
#define HOUR_MS   (60 * TP_MINUTE_MS)
#define BEFORE_MS (SHIFT_SLOTS_MAX * SLOT_MS)

enum measure { CLICKS, IMPRESSIONS, MEASURES };
static const char *const measure_name[MEASURES] = {"clicks", "impressions"};

/* How rows were judged, each in the slot of its stamp; ARRIVED are the valid ones again, in the slot of their arrival. */
enum how { VALID, FLAGGED, CONFLICT, ARRIVED, HOWS };

struct cell {
	int32_t n[MEASURES][HOWS]; /* sums over all slots before this one, once counted */
};

struct row {
	uint32_t campaign;
	uint64_t from_ms, to_ms;
	int64_t partner[MEASURES]; /* -1: not told */
};

struct work {
	const struct ctl_tool *tool;
	const struct ctl_zone *zone;
	struct tp_str advertiser;
	struct row *row;
	uint32_t rows;
	char **name;     /* of each row, as read */
	char **campaign; /* each once, sorted */
	uint32_t campaigns;
	uint64_t from_ms;
	uint64_t slots;
	struct cell *cell; /* [campaigns][slots + 1] */
	struct sto_scan *scan;
	int64_t spare; /* duplicates, rejected and dropped events that the node counted since its start */
};

/* ---- the partner's file ---- */

static bool complain(uint32_t line, const char *what, const char *found)
{
	fprintf(stderr, "turnpikectl: line %u: expected %s, found \"%.64s\"\n", line, what, found);
	return false;
}

/* Splits a line of RFC 4180 in place; quoted fields hold no line breaks here. */
static uint32_t fields_split(char *line, char *field[FIELDS_MAX])
{
	uint32_t count = 0;
	char *to = line, *from = line;

	while (count < FIELDS_MAX) {
		const bool quoted = *from == '"';
		field[count++] = to;
		from += quoted;
		while (*from && (quoted || (*from != ',' && *from != '\r' && *from != '\n'))) {
			if (quoted && *from == '"' && *++from != '"')
				break;
			*to++ = *from++;
		}
		const char end = *from;
		*to++ = '\0';
		if (end != ',')
			break;
		from++;
	}
	return count;
}

static int campaign_compare(const void *one, const void *other)
{
	return strcmp(*(char *const *)one, *(char *const *)other);
}

static bool count_read(const char *text, int64_t *count)
{
	char *end;

	if (!text[0] || text[strspn(text, "0123456789")])
		return false;
	errno = 0;
	*count = strtoll(text, &end, 10);
	return !errno && *count < INT32_MAX;
}

/* A day of the zone, or the hour that begins there. */
static bool period_read(const struct work *work, const char *text, bool is_date, struct row *row)
{
	uint32_t year, month, day;
	int end = 0;

	if (is_date) {
		if (sscanf(text, "%4u-%2u-%2u%n", &year, &month, &day, &end) != 3 || text[end] || end != 10 ||
		    !ctl_zone_date(work->zone, year, month, day, &row->from_ms))
			return false;
		row->to_ms = ctl_zone_next(work->zone, CTL_ZONE_DAY, row->from_ms);
		return row->from_ms > BEFORE_MS;
	}
	if (tp_time_parse(text, strlen(text), &row->from_ms) != 0 || row->from_ms % SLOT_MS || row->from_ms > CTL_TIME_MS_MAX)
		return false;
	row->to_ms = row->from_ms + HOUR_MS;
	return row->from_ms > BEFORE_MS;
}

struct columns {
	int campaign, start, date, count[MEASURES];
};

static bool head_read(char *line, struct columns *columns)
{
	char *field[FIELDS_MAX];
	uint32_t fields = fields_split(line, field);

	*columns = (struct columns){-1, -1, -1, {-1, -1}};
	for (uint32_t i = 0; i < fields; i++) {
		int at = (int)i;
		if (!strcmp(field[i], "campaign_id"))
			columns->campaign = at;
		else if (!strcmp(field[i], "start"))
			columns->start = at;
		else if (!strcmp(field[i], "date"))
			columns->date = at;
		else if (!strcmp(field[i], "clicks"))
			columns->count[CLICKS] = at;
		else if (!strcmp(field[i], "impressions"))
			columns->count[IMPRESSIONS] = at;
	}
	return (columns->campaign >= 0 && (columns->start >= 0) != (columns->date >= 0) &&
		(columns->count[CLICKS] >= 0 || columns->count[IMPRESSIONS] >= 0)) ||
	       complain(1, "campaign_id, one of start and date, and clicks or impressions", line);
}

static bool row_read(struct work *work, const struct columns *columns, char *line, uint32_t number)
{
	char *field[FIELDS_MAX];
	const int when = columns->start >= 0 ? columns->start : columns->date;
	const int fields = (int)fields_split(line, field);
	struct row row = {0};

	if (columns->campaign >= fields || when >= fields || columns->count[0] >= fields || columns->count[1] >= fields)
		return complain(number, "as many fields as in the first line", line);
	if (!period_read(work, field[when], columns->date >= 0, &row))
		return complain(number, columns->date >= 0 ? "a date such as 2026-01-31" : "an hour such as 2026-01-31T10:00:00Z",
				field[when]);
	for (int m = 0; m < MEASURES; m++) {
		row.partner[m] = -1;
		if (columns->count[m] >= 0 && !count_read(field[columns->count[m]], &row.partner[m]))
			return complain(number, "a count", field[columns->count[m]]);
	}
	if (work->rows == ROWS_MAX)
		return complain(number, "at most 100000 rows", "more");
	work->name[work->rows] = strdup(field[columns->campaign]);
	if (!work->name[work->rows])
		return complain(number, "memory", "none");
	work->row[work->rows++] = row;
	return true;
}

/* Each name once, sorted; rows name them by number. */
static bool campaigns_number(struct work *work)
{
	char **sorted = malloc(work->rows * sizeof(*sorted));

	if (!sorted)
		return false;
	memcpy(sorted, work->name, work->rows * sizeof(*sorted));
	qsort(sorted, work->rows, sizeof(*sorted), campaign_compare);
	for (uint32_t i = 0; i < work->rows; i++)
		if (!work->campaigns || strcmp(sorted[work->campaigns - 1], sorted[i]) != 0)
			sorted[work->campaigns++] = sorted[i];
	work->campaign = sorted;
	for (uint32_t i = 0; i < work->rows; i++) {
		char **at = bsearch(&work->name[i], sorted, work->campaigns, sizeof(*sorted), campaign_compare);
		work->row[i].campaign = (uint32_t)(at - sorted);
	}
	return true;
}

/* 0 or the exit status. */
static int file_read(struct work *work, const char *path)
{
	char line[LINE_BYTES];
	struct columns columns = {0};
	uint32_t number = 0;
	bool fine = true;
	FILE *from = fopen(path, "r");

	if (!from) {
		fprintf(stderr, "turnpikectl: %s: %s\n", path, strerror(errno));
		return 1;
	}
	work->row = malloc(ROWS_MAX * sizeof(*work->row));
	work->name = malloc(ROWS_MAX * sizeof(*work->name));
	fine = work->row && work->name;
	while (fine && fgets(line, sizeof(line), from)) {
		char *text = !number && !memcmp(line, "\xef\xbb\xbf", 3) ? line + 3 : line;
		if (strlen(line) == sizeof(line) - 1)
			fine = complain(number + 1, "a shorter line", line);
		else if (!number++)
			fine = head_read(text, &columns);
		else if (text[strspn(text, "\r\n")])
			fine = row_read(work, &columns, text, number);
	}
	fclose(from);
	if (fine && !work->rows)
		fine = complain(number, "rows", "none");
	return !fine ? 2 : campaigns_number(work) ? 0 : 1;
}

/* ---- our rows ---- */

static void add(struct work *work, uint32_t campaign, uint64_t ms, enum measure measure, enum how how, int32_t n)
{
	if (ms < work->from_ms || (ms - work->from_ms) / SLOT_MS >= work->slots)
		return;
	/* one behind its slot: added up, a cell then holds all slots before it */
	work->cell[campaign * (work->slots + 1) + (ms - work->from_ms) / SLOT_MS + 1].n[measure][how] += n;
}

static void row_add(struct work *work, uint32_t campaign, uint64_t ms, uint64_t received_ms, uint64_t type, uint64_t verdict,
		    uint64_t fraud)
{
	const enum measure measure = type == TP_CLICK ? CLICKS : IMPRESSIONS;

	if (type != TP_CLICK && type != TP_IMPRESSION)
		return;
	if (verdict == TP_CONFLICT) {
		add(work, campaign, ms, measure, CONFLICT, 1);
	} else if (verdict == TP_AMENDED) {
		if (fraud || type != TP_CLICK)
			return;
		add(work, campaign, ms, measure, FLAGGED, -1);
		add(work, campaign, ms, measure, VALID, 1);
		add(work, campaign, received_ms, measure, ARRIVED, 1);
	} else if (type == TP_CLICK && fraud) {
		add(work, campaign, ms, measure, FLAGGED, 1);
	} else {
		add(work, campaign, ms, measure, VALID, 1);
		add(work, campaign, received_ms, measure, ARRIVED, 1);
	}
}

/* The number of a campaign, -1: not of the file. */
static int32_t campaign_number(const struct work *work, struct tp_str name)
{
	char text[TP_ID_BYTES_MAX + 1], *key = text;

	if (name.bytes > TP_ID_BYTES_MAX)
		return -1;
	memcpy(text, name.at, name.bytes);
	text[name.bytes] = '\0';
	char **at = bsearch(&key, work->campaign, work->campaigns, sizeof(key), campaign_compare);
	return at ? (int32_t)(at - work->campaign) : -1;
}

static int block_read(struct work *work, int32_t *number, uint32_t texts)
{
	struct sto_scan *scan = work->scan;
	uint32_t count;
	(void)sto_scan_selected(scan, &count);
	const uint64_t *time = sto_scan_picked(scan, STO_COLUMN_TIME), *lag = sto_scan_picked(scan, STO_COLUMN_LAG);
	const uint64_t *type = sto_scan_picked(scan, STO_COLUMN_TYPE), *verdict = sto_scan_picked(scan, STO_COLUMN_VERDICT);
	const uint64_t *fraud = sto_scan_picked(scan, STO_COLUMN_FRAUD);
	const uint64_t *campaign = sto_scan_picked(scan, STO_COLUMN_TEXT + TP_CAMPAIGN_ID);

	if (!time || !lag || !type || !verdict || !fraud || !campaign)
		return -EBADMSG;
	for (uint32_t i = 0; i < count; i++) {
		const uint64_t code = campaign[i];
		if (code >= texts)
			return -EBADMSG;
		if (number[code] == -2)
			number[code] = campaign_number(work, sto_scan_text(scan, TP_CAMPAIGN_ID, (uint32_t)code));
		if (number[code] < 0)
			continue;
		const uint64_t received_ms = time[i] + ((lag[i] >> 1) ^ (0 - (lag[i] & 1))); /* zigzag */
		row_add(work, (uint32_t)number[code], time[i], received_ms, type[i], verdict[i], fraud[i]);
	}
	return 0;
}

static int event_read(void *context, const struct tp_event *event)
{
	struct work *work = context;
	const struct tp_str advertiser = tp_event_string(event, TP_ADVERTISER_ID);
	const int32_t number = campaign_number(work, tp_event_string(event, TP_CAMPAIGN_ID));

	if (number >= 0 && (!work->advertiser.at || (advertiser.bytes == work->advertiser.bytes &&
						     !memcmp(advertiser.at, work->advertiser.at, advertiser.bytes))))
		row_add(work, (uint32_t)number, event->timestamp_ms, event->received_ms, event->type, event->verdict, event->fraud);
	return 0;
}

static int segment_read(struct work *work, struct sto_reader *reader, uint32_t index)
{
	const struct sto_scan_filter filter = {.advertiser = work->advertiser};
	int rc = sto_scan_open(&work->scan, reader, index, &filter);
	int32_t *number = NULL;
	uint32_t texts = 0;

	if (rc == -ENOTSUP)
		return sto_reader_events(reader, index, event_read, work);
	while (!rc && (rc = sto_scan_next(work->scan)) == 1) {
		if (!number) {
			texts = sto_scan_texts(work->scan, TP_CAMPAIGN_ID);
			number = malloc((texts + 1) * sizeof(*number));
			for (uint32_t i = 0; number && i < texts; i++)
				number[i] = -2; /* not looked up yet */
		}
		rc = number ? block_read(work, number, texts) : -ENOMEM;
	}
	free(number);
	return rc;
}

/* Segments with events of the time, and log files that are not sealed. -EAGAIN: the folder changed. */
static int ours_try(struct work *work, struct sto_reader *reader)
{
	const uint64_t to_ms = work->from_ms + work->slots * SLOT_MS;
	uint64_t *file_id = NULL;
	uint32_t files = 0;
	int rc = sto_reader_refresh(reader);

	memset(work->cell, 0, work->campaigns * (work->slots + 1) * sizeof(*work->cell));
	rc = rc < 0 ? rc : sto_follow_files(reader, work->tool->config.data_dir, &file_id, &files);
	for (uint32_t i = 0; i < files && !rc; i++) {
		struct sto_follow *follow = NULL;
		rc = sto_follow_open(&follow, work->tool->config.data_dir, file_id[i]);
		int64_t got = rc ? rc : sto_follow_next(follow, event_read, work);
		rc = got == -ENOENT ? -EAGAIN : got < 0 ? (int)got : 0;
		sto_follow_close(follow);
	}
	free(file_id);
	if (!rc && (rc = sto_reader_refresh(reader)) != 0)
		return rc < 0 ? rc : -EAGAIN;
	for (uint32_t i = 0; i < sto_reader_segments(reader) && !rc; i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		/* late events lie in later segments by arrival too: a segment of conflicts alone has no stamps */
		if (!info->to_ms || (info->to_ms > work->from_ms && info->from_ms < to_ms))
			rc = segment_read(work, reader, i);
		rc = rc == -ESTALE ? -EAGAIN : rc;
	}
	return rc;
}

static int ours_read(struct work *work)
{
	struct sto_reader *reader;
	int rc = sto_reader_open(&reader, work->tool->config.data_dir);

	if (rc)
		return rc;
	do
		rc = ours_try(work, reader);
	while (rc == -EAGAIN);
	sto_reader_close(reader);
	sto_scan_close(work->scan);
	for (uint64_t c = 0; c < work->campaigns && !rc; c++) {
		struct cell *cell = &work->cell[c * (work->slots + 1)];
		for (uint64_t s = 1; s <= work->slots; s++)
			for (int m = 0; m < MEASURES; m++)
				for (int h = 0; h < HOWS; h++)
					cell[s].n[m][h] += cell[s - 1].n[m][h];
	}
	return rc;
}

static int64_t ours(const struct work *work, const struct row *row, int shift, enum measure measure, enum how how)
{
	const struct cell *cell = &work->cell[row->campaign * (work->slots + 1)];
	const uint64_t from = (row->from_ms - work->from_ms) / SLOT_MS + (uint64_t)(int64_t)shift;
	const uint64_t to = (row->to_ms - work->from_ms) / SLOT_MS + (uint64_t)(int64_t)shift;

	return cell[to].n[measure][how] - cell[from].n[measure][how];
}

/* ---- how the partner seems to count ---- */

struct guess {
	int shift; /* slots by which its days lie later than those of the asked zone */
	bool arrived, flagged, conflicts;
	uint64_t off; /* sum of what is left over all rows */
};

static uint64_t guess_off(const struct work *work, const struct guess *guess)
{
	uint64_t off = 0;

	for (uint32_t i = 0; i < work->rows; i++) {
		for (int m = 0; m < MEASURES; m++) {
			const struct row *row = &work->row[i];
			if (row->partner[m] < 0)
				continue;
			int64_t count = ours(work, row, guess->shift, m, guess->arrived ? ARRIVED : VALID);
			count += guess->flagged ? ours(work, row, guess->shift, m, FLAGGED) : 0;
			count += guess->conflicts ? ours(work, row, guess->shift, m, CONFLICT) : 0;
			off += (uint64_t)llabs(row->partner[m] - count);
		}
	}
	return off;
}

/* The simplest of the best: fewer ways to differ, then the smaller shift. */
static struct guess guess_make(const struct work *work)
{
	struct guess best = {0};

	best.off = guess_off(work, &best);
	for (int ways = 0; ways <= 4; ways++) {
		for (int far = 0; far <= 2 * SHIFT_SLOTS_MAX; far++) {
			const int shift = far % 2 ? (far + 1) / 2 : -far / 2;
			for (int bits = 0; bits < 8 && best.off; bits++) {
				struct guess guess = {
					.shift = shift, .arrived = bits & 1, .flagged = bits & 2, .conflicts = bits & 4};
				if (__builtin_popcount((unsigned)bits) + (shift != 0) != ways)
					continue;
				guess.off = guess_off(work, &guess);
				if (guess.off < best.off)
					best = guess;
			}
		}
	}
	return best;
}

/* ---- telling ---- */

struct parts {
	int64_t ours, difference, zone, late, fraud, conflicts, left;
};

static struct parts parts_of(const struct work *work, const struct guess *guess, const struct row *row, enum measure m)
{
	struct parts parts = {.ours = ours(work, row, 0, m, VALID)};
	const int64_t there = ours(work, row, guess->shift, m, VALID);

	parts.difference = row->partner[m] - parts.ours;
	parts.zone = there - parts.ours;
	parts.late = guess->arrived ? ours(work, row, guess->shift, m, ARRIVED) - there : 0;
	parts.fraud = guess->flagged ? ours(work, row, guess->shift, m, FLAGGED) : 0;
	parts.conflicts = guess->conflicts ? ours(work, row, guess->shift, m, CONFLICT) : 0;
	parts.left = parts.difference - parts.zone - parts.late - parts.fraud - parts.conflicts;
	return parts;
}

static json_t *parts_json(const struct work *work, const struct row *row, enum measure m, const struct parts *parts)
{
	char from[CTL_ZONE_TEXT_BYTES], to[CTL_ZONE_TEXT_BYTES];
	const char *campaign = work->campaign[row->campaign];
	json_t *name = json_string(campaign);

	ctl_zone_text(work->zone, row->from_ms, from);
	ctl_zone_text(work->zone, row->to_ms, to);
	return json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:I}, s:I}", "campaign_id",
			 name ? name : json_string("?"), "start", from, "end", to, "measure", measure_name[m], "partner",
			 (json_int_t)row->partner[m], "ours", (json_int_t)parts->ours, "difference", (json_int_t)parts->difference,
			 "explained", "time_zone", (json_int_t)parts->zone, "late", (json_int_t)parts->late, "fraud",
			 (json_int_t)parts->fraud, "conflicts", (json_int_t)parts->conflicts, "left", (json_int_t)parts->left);
}

static void parts_print(const struct work *work, const struct row *row, enum measure m, const struct parts *parts)
{
	char from[CTL_ZONE_TEXT_BYTES];

	ctl_zone_text(work->zone, row->from_ms, from);
	printf("%-24s %-25s %-11s %10" PRId64 " %10" PRId64 " %+10" PRId64 " %+9" PRId64 " %+9" PRId64 " %+9" PRId64 " %+9" PRId64
	       " %+9" PRId64 "\n",
	       work->campaign[row->campaign], from, measure_name[m], row->partner[m], parts->ours, parts->difference, parts->zone,
	       parts->late, parts->fraud, parts->conflicts, parts->left);
}

/* What is left may be repeated and refused beacons, which a partner counts and we do not: never less than ours. */
static int tell(const struct work *work, const struct guess *guess)
{
	int64_t over = 0, under = 0;
	json_t *items = json_array();

	if (!work->tool->json)
		printf("%-24s %-25s %-11s %10s %10s %10s %9s %9s %9s %9s %9s\n", "CAMPAIGN", "START", "MEASURE", "PARTNER", "OURS",
		       "DIFFERENCE", "ZONE", "LATE", "FRAUD", "CONFLICTS", "LEFT");
	for (uint32_t i = 0; i < work->rows; i++) {
		for (int m = 0; m < MEASURES; m++) {
			if (work->row[i].partner[m] < 0)
				continue;
			struct parts parts = parts_of(work, guess, &work->row[i], m);
			*(parts.left > 0 ? &over : &under) += llabs(parts.left);
			if (work->tool->json)
				json_array_append_new(items, parts_json(work, &work->row[i], m, &parts));
			else if (parts.difference)
				parts_print(work, &work->row[i], m, &parts);
		}
	}
	const int64_t possible = over < work->spare ? over : work->spare, unexplained = under + over - possible;
	const int minutes = guess->shift * SLOT_MINUTES;
	if (work->tool->json) {
		ctl_tool_print(json_pack("{s:b, s:I, s:I, s:{s:i, s:b, s:b, s:b}, s:o}", "explained", unexplained == 0,
					 "unexplained", (json_int_t)unexplained, "duplicates_or_drops", (json_int_t)possible,
					 "partner_seems_to", "shift_minutes", minutes, "count_by_arrival", guess->arrived,
					 "count_flagged", guess->flagged, "count_conflicts", guess->conflicts, "items", items));
		return unexplained ? 1 : 0;
	}
	json_decref(items);
	printf("\nthe partner seems to count%s%s%s%s\n", guess->arrived ? " by time of arrival," : "",
	       guess->flagged ? " clicks that fraud rules tagged," : "", guess->conflicts ? " conflicting copies," : "",
	       guess->arrived || guess->flagged || guess->conflicts ? " else as we do" : " as we do");
	if (minutes)
		printf("its periods begin %+d minutes from those of %s: another time zone\n", minutes, ctl_zone_name(work->zone));
	printf("%" PRId64 " more may be repeated or refused beacons (the node has counted %" PRId64 " since its start); %" PRId64
	       " unexplained\n",
	       possible, work->spare, unexplained);
	return unexplained ? 1 : 0;
}

/* ---- the whole ---- */

static void spare_read(struct work *work)
{
	const struct tp_live *live = NULL;
	struct tp_counters *sum = calloc(1, sizeof(*sum));
	int connection = -1;

	if (sum && tp_live_attach(work->tool->config.data_dir, &live, &connection) == 0) {
		ctl_tool_counters(live, sum);
		for (int c = 0; c < TP_COUNTERS; c++) {
			const struct tp_counter_info *info = &tp_counter_info[c];
			if (info->layer == TP_LAYER_EVENTS &&
			    (info->kind == TP_KIND_DUPLICATES || info->kind == TP_KIND_REJECTED || info->kind == TP_KIND_DROPPED))
				work->spare += (int64_t)sum->v[c];
		}
		tp_live_unmap(live);
		close(connection);
	}
	free(sum);
}

static int cells_make(struct work *work)
{
	uint64_t to_ms = 0;

	work->from_ms = UINT64_MAX;
	for (uint32_t i = 0; i < work->rows; i++) {
		work->from_ms = work->row[i].from_ms < work->from_ms ? work->row[i].from_ms : work->from_ms;
		to_ms = work->row[i].to_ms > to_ms ? work->row[i].to_ms : to_ms;
	}
	/* room for shifts on either side */
	work->from_ms -= work->from_ms % SLOT_MS;
	work->from_ms -= BEFORE_MS;
	work->slots = (to_ms + SLOT_MS - 1 - work->from_ms) / SLOT_MS + SHIFT_SLOTS_MAX;
	if (work->slots >= CELLS_MAX || (work->slots + 1) * work->campaigns > CELLS_MAX) {
		fprintf(stderr,
			"turnpikectl: %u campaigns over %" PRIu64 " days are too much at once: give fewer, or a shorter time\n",
			work->campaigns, work->slots * SLOT_MINUTES / 1440);
		return 2;
	}
	work->cell = malloc((work->slots + 1) * work->campaigns * sizeof(*work->cell));
	return work->cell ? 0 : 1;
}

int ctl_tool_discrepancy(struct ctl_tool *tool, int words, char **word)
{
	struct work work = {.tool = tool, .zone = ctl_zone_utc()};
	const char *path = NULL;

	for (int i = 0; i + 1 < words; i += 2) {
		const char *value = word[i + 1];
		if (!strcmp(word[i], "--partner")) {
			path = value;
		} else if (!strcmp(word[i], "--advertiser")) {
			work.advertiser = (struct tp_str){.at = value, .bytes = (uint16_t)strnlen(value, TP_ID_BYTES_MAX + 1)};
		} else if (!strcmp(word[i], "--tz")) {
			work.zone = ctl_zone_find(value, strlen(value));
			if (!work.zone) {
				fprintf(stderr, "turnpikectl: expected a time zone such as Europe/Berlin, found \"%s\"\n", value);
				return 2;
			}
		} else {
			return 2;
		}
	}
	if (!path || words % 2)
		return 2;
	int status = file_read(&work, path);
	if (!status)
		status = cells_make(&work);
	if (!status) {
		int rc = ours_read(&work);
		spare_read(&work);
		if (rc)
			fprintf(stderr, "turnpikectl: cannot read the data folder: %s\n", strerror(-rc));
		struct guess guess = {0};
		if (!rc)
			guess = guess_make(&work);
		status = rc ? 1 : tell(&work, &guess);
	}
	for (uint32_t i = 0; i < work.rows; i++)
		free(work.name[i]);
	free(work.name);
	free(work.campaign);
	free(work.cell);
	free(work.row);
	return status;
}
