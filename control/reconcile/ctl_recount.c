/* The recount: windows, raw rows, reported rows, comparison. See ctl_recount.h. */
#include "ctl_recount.h"

#include "ctl_recount_table.h"
#include "ctl_store.h"
#include "turnpike/follow.h"
#include "turnpike/log.h"
#include "turnpike/scan.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	TRIES_MAX = 20,       /* a window whose files were sealed or deleted meanwhile is begun anew so often */
	WINDOW_FIRST = 60,    /* minutes of the first window; it then goes by what fits */
	PASSES_MAX = 1 << 12, /* of one minute */
	AHEAD = 16,           /* rows between the prefetch of an id's slot and its use */
	ASK_EVERY = 1 << 16,  /* rows between questions whether to go on */
	SETTLE_MS = 20,
};

#define WANTED_VERDICTS (1U << TP_ACCEPTED | 1U << TP_LATE | 1U << TP_AMENDED)

/* Codes of a segment's dictionary as numbers of names; made when they are met. */
struct naming {
	uint32_t *number; /* name + 1; 0: not met yet */
	uint32_t texts, texts_max;
};

struct recount {
	const struct ctl_recount_ask *ask;
	struct ctl_recount_facts *facts;
	struct ctl_store *store;
	struct sto_reader *reader; /* the store's */
	struct recount_table table;
	struct sto_scan *scan;
	struct naming advertiser, campaign;
	uint64_t *hash; /* of a block's rows */
	uint32_t hashes_max;
	uint64_t from_minute, to_minute; /* the window */
	uint32_t pass, passes;
	uint64_t rows, duplicates, until_ask;
	bool second; /* look at the reported figures */
	bool full, ended;
	struct recount_line *last; /* of the row before: rows come sorted */
};

/* One row as the recount sees it. */
struct row {
	struct tp_id id;
	uint32_t minute, advertiser, campaign;
	char currency[4];
	uint8_t type, verdict;
	uint32_t fraud;
	int64_t bid;
};

/* ---- one row ---- */

static void count_event(struct ctl_recount_sums *sums, const struct row *row, bool flagged)
{
	if (row->type == TP_IMPRESSION)
		sums->impressions++;
	else if (row->type == TP_CONVERSION)
		sums->conversions++;
	else if (row->type == TP_CLICK && flagged)
		sums->flagged_clicks++;
	else if (row->type == TP_CLICK)
		sums->clicks++, sums->spend_micros += row->bid;
	if (row->verdict == TP_LATE)
		sums->late++;
}

/* A counted click that was flagged is so no more. */
static void count_amended(struct ctl_recount_sums *sums, const struct row *row)
{
	sums->flagged_clicks--;
	sums->clicks++;
	sums->late++;
	sums->spend_micros += row->bid;
}

static bool row_take(struct recount *recount, const struct row *row, uint64_t hash)
{
	struct recount_line *line = recount->last;
	struct recount_id *entry = recount_id_find(&recount->table, row->id, row->minute, hash);

	if (entry && (!line || line->campaign != row->campaign || line->minute != row->minute ||
		      line->advertiser != row->advertiser || memcmp(line->currency, row->currency, 3) != 0))
		line = recount_line_find(&recount->table, row->advertiser, row->campaign, row->minute, row->currency);
	recount->last = line;
	recount->full = !entry || !line;
	if (recount->full)
		return false;
	if (row->verdict == TP_AMENDED) {
		if ((entry->state & (RECOUNT_FLAGGED | RECOUNT_AMENDED)) == RECOUNT_FLAGGED)
			count_amended(&line->raw, row);
		entry->state |= RECOUNT_AMENDED;
		return true;
	}
	if (entry->state & RECOUNT_COUNTED) {
		recount->duplicates++;
		return true;
	}
	const bool flagged = row->type == TP_CLICK && row->fraud != 0;
	recount->rows++;
	count_event(&line->raw, row, flagged);
	if (flagged && entry->state & RECOUNT_AMENDED)
		count_amended(&line->raw, row); /* the amendment was read first */
	entry->state |= RECOUNT_COUNTED | (flagged ? RECOUNT_FLAGGED : 0);
	return true;
}

/* Tags that were added, or an event that is no click: such an amendment moves no sum. */
static bool row_moves_nothing(uint64_t verdict, uint64_t type, uint64_t fraud)
{
	return verdict == TP_AMENDED && (type != TP_CLICK || fraud);
}

static bool row_is_mine(const struct recount *recount, uint64_t hash)
{
	return recount->passes == 1 || (uint32_t)(hash >> 32) % recount->passes == recount->pass;
}

/* False: the caller wants no more. */
static bool may_go_on(struct recount *recount, uint64_t rows)
{
	const struct ctl_recount_ask *ask = recount->ask;

	recount->facts->rows_read += rows;
	if (recount->until_ask > rows) {
		recount->until_ask -= rows;
		return true;
	}
	recount->until_ask = ASK_EVERY;
	recount->ended = ask->go_on && !ask->go_on(ask->context);
	return !recount->ended;
}

/* ---- raw rows: sealed segments ---- */

static int naming_begin(struct naming *naming, uint32_t texts)
{
	if (texts > naming->texts_max) {
		free(naming->number);
		naming->number = malloc((uint64_t)texts * sizeof(*naming->number));
		naming->texts_max = naming->number ? texts : 0;
	}
	if (texts && !naming->number)
		return -ENOMEM;
	naming->texts = texts;
	if (texts)
		memset(naming->number, 0, (uint64_t)texts * sizeof(*naming->number));
	return 0;
}

/* False: the table is full, or the code is none (*damaged). */
static bool naming_find(struct recount *recount, struct naming *naming, enum tp_string string, uint64_t code, uint32_t *number,
			bool *damaged)
{
	*damaged = code >= naming->texts;
	if (*damaged)
		return false;
	if (!naming->number[code]) {
		struct tp_str text = sto_scan_text(recount->scan, string, (uint32_t)code);
		if (!recount_name_find(&recount->table, text, number))
			return false;
		naming->number[code] = *number + 1;
	}
	*number = naming->number[code] - 1;
	return true;
}

struct columns {
	const uint64_t *time, *type, *verdict, *fraud, *currency, *bid, *advertiser, *campaign;
	const struct tp_id *id;
};

static bool columns_read(struct recount *recount, struct columns *columns)
{
	struct sto_scan *scan = recount->scan;

	*columns = (struct columns){
		.time = sto_scan_values(scan, STO_COLUMN_TIME),
		.type = sto_scan_values(scan, STO_COLUMN_TYPE),
		.verdict = sto_scan_values(scan, STO_COLUMN_VERDICT),
		.fraud = sto_scan_values(scan, STO_COLUMN_FRAUD),
		.currency = sto_scan_values(scan, STO_COLUMN_CURRENCY),
		.bid = sto_scan_values(scan, STO_COLUMN_BID),
		.advertiser = sto_scan_values(scan, STO_COLUMN_TEXT + TP_ADVERTISER_ID),
		.campaign = sto_scan_values(scan, STO_COLUMN_TEXT + TP_CAMPAIGN_ID),
		.id = sto_scan_ids(scan),
	};
	return columns->time && columns->type && columns->verdict && columns->fraud && columns->currency && columns->bid &&
	       columns->advertiser && columns->campaign && columns->id;
}

static int hashes_make(struct recount *recount, const struct columns *columns, const uint32_t *selected, uint32_t count)
{
	if (count > recount->hashes_max) {
		free(recount->hash);
		recount->hash = malloc((uint64_t)count * sizeof(*recount->hash));
		recount->hashes_max = recount->hash ? count : 0;
		if (!recount->hash)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = selected ? selected[i] : i;
		recount->hash[i] = recount_id_hash(&recount->table, columns->id[at], (uint32_t)(columns->time[at] / TP_MINUTE_MS));
	}
	return 0;
}

/* 0; -EBADMSG; -ENOMEM; -ECANCELED: recount->full. */
static int block_take(struct recount *recount)
{
	uint32_t count;
	const uint32_t *selected = sto_scan_selected(recount->scan, &count);
	struct columns columns;
	struct row row = {0};
	uint64_t advertiser_code = UINT64_MAX, campaign_code = UINT64_MAX;
	bool damaged;

	if (!columns_read(recount, &columns))
		return -EBADMSG;
	int rc = hashes_make(recount, &columns, selected, count);
	for (uint32_t i = 0; i < count && !rc; i++) {
		const uint32_t at = selected ? selected[i] : i;
		if (i + AHEAD < count)
			recount_id_prefetch(&recount->table, recount->hash[i + AHEAD]);
		if (!row_is_mine(recount, recount->hash[i]) ||
		    row_moves_nothing(columns.verdict[at], columns.type[at], columns.fraud[at]))
			continue;
		if (columns.advertiser[at] != advertiser_code || columns.campaign[at] != campaign_code) {
			advertiser_code = columns.advertiser[at];
			campaign_code = columns.campaign[at];
			if (!naming_find(recount, &recount->advertiser, TP_ADVERTISER_ID, advertiser_code, &row.advertiser,
					 &damaged) ||
			    !naming_find(recount, &recount->campaign, TP_CAMPAIGN_ID, campaign_code, &row.campaign, &damaged)) {
				recount->full = !damaged;
				return damaged ? -EBADMSG : -ECANCELED;
			}
		}
		row.id = columns.id[at];
		row.minute = (uint32_t)(columns.time[at] / TP_MINUTE_MS);
		row.type = (uint8_t)columns.type[at];
		row.verdict = (uint8_t)columns.verdict[at];
		row.fraud = (uint32_t)columns.fraud[at];
		row.bid = (int64_t)columns.bid[at];
		memcpy(row.currency, &columns.currency[at], 3);
		if (!row_take(recount, &row, recount->hash[i]))
			return -ECANCELED;
	}
	return rc;
}

static int event_take(void *context, const struct tp_event *event)
{
	struct recount *recount = context;
	const struct ctl_recount_ask *ask = recount->ask;
	const uint64_t minute = event->timestamp_ms / TP_MINUTE_MS;
	const struct tp_str advertiser = tp_event_string(event, TP_ADVERTISER_ID);
	struct row row = {.id = event->id,
			  .minute = (uint32_t)minute,
			  .type = event->type,
			  .verdict = event->verdict,
			  .fraud = event->fraud,
			  .bid = event->flags & TP_HAS_BID ? event->bid_micros : 0};

	if (!may_go_on(recount, 1))
		return -ECANCELED;
	if (minute < recount->from_minute || minute >= recount->to_minute || !(WANTED_VERDICTS >> event->verdict & 1) ||
	    row_moves_nothing(event->verdict, event->type, event->fraud))
		return 0;
	if (ask->advertiser.at &&
	    (advertiser.bytes != ask->advertiser.bytes || memcmp(advertiser.at, ask->advertiser.at, advertiser.bytes) != 0))
		return 0;
	const uint64_t hash = recount_id_hash(&recount->table, row.id, row.minute);
	if (!row_is_mine(recount, hash))
		return 0;
	memcpy(row.currency, event->currency, 3);
	recount->full = !recount_name_find(&recount->table, advertiser, &row.advertiser) ||
			!recount_name_find(&recount->table, tp_event_string(event, TP_CAMPAIGN_ID), &row.campaign);
	return !recount->full && row_take(recount, &row, hash) ? 0 : -ECANCELED;
}

static int segment_take(struct recount *recount, uint32_t index)
{
	const struct sto_scan_filter filter = {
		.from_ms = recount->from_minute * TP_MINUTE_MS,
		.to_ms = recount->to_minute * TP_MINUTE_MS,
		.advertiser = recount->ask->advertiser,
		.verdicts = WANTED_VERDICTS,
	};
	int rc = sto_scan_open(&recount->scan, recount->reader, index, &filter);

	if (rc == -ENOTSUP) { /* of the first generation: rows, not columns */
		rc = sto_reader_events(recount->reader, index, event_take, recount);
		sto_reader_release(recount->reader, index);
		return rc;
	}
	recount->last = NULL;
	bool named = false;
	while (!rc && (rc = sto_scan_next(recount->scan)) == 1) {
		rc = named ? 0 : naming_begin(&recount->advertiser, sto_scan_texts(recount->scan, TP_ADVERTISER_ID));
		if (!rc && !named)
			rc = naming_begin(&recount->campaign, sto_scan_texts(recount->scan, TP_CAMPAIGN_ID));
		named = true;
		if (!rc)
			rc = may_go_on(recount, sto_scan_rows(recount->scan)) ? block_take(recount) : -ECANCELED;
	}
	return rc;
}

static bool segment_matters(const struct recount *recount, const struct sto_segment_info *info)
{
	return info->rows && info->to_ms > recount->from_minute * TP_MINUTE_MS && info->from_ms < recount->to_minute * TP_MINUTE_MS;
}

static int segments_take(struct recount *recount)
{
	const uint32_t segments = sto_reader_segments(recount->reader);
	int rc = 0;

	for (uint32_t i = 0; i < segments && !rc; i++) {
		const struct sto_segment_info *info = sto_reader_segment(recount->reader, i);
		if (!segment_matters(recount, info))
			continue;
		rc = segment_take(recount, i);
		if (rc == -EBADMSG)
			recount->facts->damaged_sequence = info->sequence;
	}
	return rc;
}

/* ---- raw rows: log files that are not sealed ---- */

static int log_take(struct recount *recount, uint64_t file_id)
{
	struct sto_follow *follow = NULL;
	int rc = sto_follow_open(&follow, recount->ask->data_dir, file_id);

	if (!rc) {
		int64_t got = sto_follow_next(follow, event_take, recount);
		rc = got < 0 ? (int)got : 0;
	}
	sto_follow_close(follow);
	recount->facts->logs++;
	return rc == -ENOENT ? -EAGAIN : rc;
}

/* The files whose live tables were taken for the reported figures, and no others. */
static int logs_take(struct recount *recount)
{
	const struct tp_live *live = recount->ask->live;
	int rc = 0;

	recount->facts->logs = 0;
	for (uint32_t i = 0; live && i < live->rollup_count && !rc; i++) {
		const struct tp_rollup *table = tp_live_rollup(live, i);
		uint64_t file_id = atomic_load_explicit(&table->file_id, memory_order_acquire);
		if (!file_id || sto_reader_sealed(recount->reader, file_id) ||
		    atomic_load_explicit(&table->minute_min, memory_order_relaxed) >= recount->to_minute ||
		    atomic_load_explicit(&table->minute_max, memory_order_relaxed) < recount->from_minute)
			continue;
		rc = log_take(recount, file_id);
	}
	return rc;
}

/* ---- what was reported ---- */

static void reported_begin(void *context)
{
	struct recount *recount = context;

	for (uint32_t i = 0; i < recount->table.lines; i++)
		*(recount->second ? &recount->table.line[i].after : &recount->table.line[i].before) = (struct ctl_recount_sums){0};
}

static bool reported_row(void *context, const struct tp_rollup_row *row, const char *heap)
{
	struct recount *recount = context;
	const struct tp_str advertiser = tp_rollup_string(row, heap, TP_DIM_ADVERTISER), only = recount->ask->advertiser;
	uint32_t number[2];

	if (row->minute < recount->from_minute || row->minute >= recount->to_minute)
		return true;
	if (only.at && (only.bytes != advertiser.bytes || memcmp(only.at, advertiser.at, only.bytes) != 0))
		return true;
	struct recount_line *line = NULL;
	if (recount_name_find(&recount->table, advertiser, &number[0]) &&
	    recount_name_find(&recount->table, tp_rollup_string(row, heap, TP_DIM_CAMPAIGN), &number[1]))
		line = recount_line_find(&recount->table, number[0], number[1], row->minute, row->currency);
	recount->full = !line;
	if (!line)
		return false;
	struct ctl_recount_sums *sums = recount->second ? &line->after : &line->before;
	sums->impressions += row->sums.impressions;
	sums->clicks += row->sums.clicks;
	sums->flagged_clicks += row->sums.flagged_clicks;
	sums->conversions += row->sums.conversions;
	sums->late += row->sums.late;
	sums->spend_micros += row->sums.spend_micros;
	return true;
}

static int reported_take(struct recount *recount, bool second)
{
	const struct ctl_recount_ask *ask = recount->ask;
	struct ctl_facts facts;
	const struct ctl_scan scan = {
		.context = recount,
		.from_minute = recount->from_minute,
		.to_minute = recount->to_minute,
		.grain = STO_MINUTES,
		.dimension = TP_DIM_ADVERTISER,
		.id = ask->advertiser.at,
		.id_bytes = ask->advertiser.bytes,
		.begin = reported_begin,
		.row = reported_row,
	};

	recount->second = second;
	int rc = ctl_store_scan(recount->store, ask->live, &scan, &facts);
	if (rc == -EBADMSG) {
		recount->facts->damaged_sequence = facts.damaged_sequence;
		recount->facts->damaged_rollup = facts.damaged_rollup;
	}
	return rc;
}

/* ---- a window ---- */

static void settle(const struct ctl_recount_ask *ask)
{
	const struct timespec time = {.tv_sec = (time_t)(ask->settle_ms / 1000),
				      .tv_nsec = (long)(ask->settle_ms % 1000) * 1000000};

	nanosleep(&time, NULL);
}

/*
 * Between the two looks at the reported figures the rows are read: what both looks agree on was there, and in the log, all the time.
 * 0; 1: the folder changed, begin anew; -ECANCELED: full or ended; -errno.
 */
static int window_try(struct recount *recount)
{
	const bool live = recount->ask->live != NULL;

	recount_table_clear(&recount->table);
	recount->rows = recount->duplicates = 0;
	recount->full = false;
	int rc = reported_take(recount, false);
	if (!rc && live)
		settle(recount->ask);
	for (recount->pass = 0; recount->pass < recount->passes && !rc; recount->pass++) {
		recount_table_clear_ids(&recount->table);
		recount->last = NULL;
		rc = segments_take(recount);
		recount->last = NULL;
		if (!rc)
			rc = logs_take(recount);
	}
	if (rc == -ESTALE || rc == -EAGAIN)
		return 1;
	if (rc || !live)
		return rc; /* without a node both sides were read from the one snapshot */
	rc = sto_reader_refresh(recount->reader);
	return rc ? rc : reported_take(recount, true);
}

bool ctl_recount_same(const struct ctl_recount_sums *one, const struct ctl_recount_sums *other)
{
	return one->impressions == other->impressions && one->clicks == other->clicks &&
	       one->flagged_clicks == other->flagged_clicks && one->conversions == other->conversions && one->late == other->late &&
	       one->spend_micros == other->spend_micros;
}

/* Impressions, conversions and all clicks never fall while a node runs: what was counted between the looks lies between them. */
static bool lies_between(const struct recount_line *line)
{
	const struct ctl_recount_sums *low = &line->before, *raw = &line->raw, *high = &line->after;

	return low->impressions <= raw->impressions && raw->impressions <= high->impressions &&
	       low->conversions <= raw->conversions && raw->conversions <= high->conversions &&
	       low->clicks + low->flagged_clicks <= raw->clicks + raw->flagged_clicks &&
	       raw->clicks + raw->flagged_clicks <= high->clicks + high->flagged_clicks && low->late <= raw->late &&
	       raw->late <= high->late && low->spend_micros <= raw->spend_micros && raw->spend_micros <= high->spend_micros;
}

static bool sums_zero(const struct ctl_recount_sums *sums)
{
	return ctl_recount_same(sums, &(struct ctl_recount_sums){0});
}

static void window_tell(struct recount *recount)
{
	const struct ctl_recount_ask *ask = recount->ask;
	struct ctl_recount_facts *facts = recount->facts;

	recount_table_sort(&recount->table);
	for (uint32_t i = 0; i < recount->table.lines; i++) {
		struct recount_line *from = &recount->table.line[i];
		if (!ask->live)
			from->after = from->before;
		struct ctl_recount_line line = {
			.advertiser = recount_name_text(&recount->table, from->advertiser),
			.campaign = recount_name_text(&recount->table, from->campaign),
			.minute = from->minute,
			.raw = from->raw,
			.reported = from->after,
			.moving = !ctl_recount_same(&from->before, &from->after),
		};
		memcpy(line.currency, from->currency, sizeof(line.currency));
		line.differs = line.moving ? !lies_between(from) : !ctl_recount_same(&line.raw, &line.reported);
		if (sums_zero(&line.raw) && sums_zero(&line.reported))
			continue;
		facts->lines++;
		facts->moving += line.moving;
		facts->differing += line.differs;
		if (ask->line)
			ask->line(ask->context, &line);
	}
	facts->rows += recount->rows;
	facts->duplicates += recount->duplicates;
}

/* One window, narrowed until it fits. 0; -E2BIG; -ECANCELED; -errno. */
static int window_run(struct recount *recount)
{
	int rc = 1;

	recount->passes = 1;
	for (int tries = 0; rc == 1; tries++) {
		if (tries == TRIES_MAX)
			return -EAGAIN;
		rc = window_try(recount);
		if (rc != -ECANCELED || recount->ended || !recount->full)
			continue;
		tries = -1; /* it is another window now */
		rc = 1;
		const bool ids_full = recount->table.ids == recount->table.ids_max;
		if (recount->to_minute - recount->from_minute > 1)
			recount->to_minute = recount->from_minute + (recount->to_minute - recount->from_minute) / 2;
		else if (ids_full && recount->passes < PASSES_MAX)
			recount->passes *= 2;
		else
			rc = -E2BIG;
	}
	return rc;
}

static int windows_run(struct recount *recount)
{
	const struct ctl_recount_ask *ask = recount->ask;
	uint64_t width = WINDOW_FIRST, at = ask->from_minute;
	int rc = 0;

	while (at < ask->to_minute && !rc) {
		recount->from_minute = at;
		recount->to_minute = ask->to_minute - at < width ? ask->to_minute : at + width;
		rc = window_run(recount);
		if (rc)
			break;
		window_tell(recount);
		at = recount->to_minute;
		width = recount->to_minute - recount->from_minute;
		/* room for four times as much: twice as wide is safe */
		if (recount->passes == 1 && recount->table.ids < recount->table.ids_max / 4 &&
		    recount->table.lines < recount->table.lines_max / 4)
			width *= 2;
	}
	return rc;
}

/* ---- the whole ---- */

static int limit_check(struct recount *recount)
{
	const struct ctl_recount_ask *ask = recount->ask;
	uint64_t rows = 0;

	recount->from_minute = ask->from_minute;
	recount->to_minute = ask->to_minute;
	for (uint32_t i = 0; i < sto_reader_segments(recount->reader); i++) {
		const struct sto_segment_info *info = sto_reader_segment(recount->reader, i);
		if (segment_matters(recount, info)) {
			rows += info->rows;
			recount->facts->segments++;
		}
		recount->facts->segment_last = info->sequence;
		memcpy(recount->facts->chain_sha256, info->chain_sha256, sizeof(info->chain_sha256));
	}
	return ask->rows_max && rows > ask->rows_max ? -EFBIG : 0;
}

int ctl_recount_run(const struct ctl_recount_ask *ask, struct ctl_recount_facts *facts)
{
	struct recount recount = {.ask = ask, .facts = facts, .until_ask = ASK_EVERY};
	const uint64_t begun_ns = tp_mono_ns();

	*facts = (struct ctl_recount_facts){0};
	int rc = ctl_store_open(&recount.store, ask->data_dir);
	if (rc)
		return rc;
	recount.reader = ctl_store_reader(recount.store);
	rc = sto_reader_refresh(recount.reader);
	rc = rc < 0 ? rc : limit_check(&recount);
	if (!rc)
		rc = recount_table_open(&recount.table, ask->memory_bytes ? ask->memory_bytes : CTL_RECOUNT_BYTES);
	if (!rc)
		rc = windows_run(&recount);
	recount_table_close(&recount.table);
	sto_scan_close(recount.scan);
	free(recount.advertiser.number);
	free(recount.campaign.number);
	free(recount.hash);
	ctl_store_close(recount.store);
	facts->elapsed_ns = tp_mono_ns() - begun_ns;
	return rc;
}

uint64_t ctl_recount_settle_ms(uint64_t commit_interval_ns)
{
	return SETTLE_MS + commit_interval_ns / 500000;
}

/* Whether a segment is missing before this one; `before` is the one that is listed before it, or NULL. */
static bool segment_gap(const struct sto_segment_info *info, const struct sto_segment_info *before)
{
	static const uint8_t none[32];

	if (info->hashed && (!before || before->hashed))
		return memcmp(info->prev_sha256, before ? before->chain_sha256 : none, sizeof(none)) != 0;
	return info->sequence != (before ? before->sequence + 1 : 1);
}

static uint64_t whole_minute(const struct sto_reader *reader, uint64_t max_future_ms)
{
	const struct sto_segment_info *before = NULL;
	uint64_t sealed_ms = 0;

	for (uint32_t i = 0; i < sto_reader_segments(reader); i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		if (segment_gap(info, before))
			sealed_ms = info->sealed_ms;
		before = info;
	}
	return sealed_ms ? (sealed_ms + max_future_ms) / TP_MINUTE_MS + 1 : 0;
}

/* The first minute of any event in a segment, or in a table of a file that is not sealed. */
static uint64_t first_minute(const struct sto_reader *reader, uint64_t unsealed_minute)
{
	uint64_t first = unsealed_minute;

	for (uint32_t i = 0; i < sto_reader_segments(reader); i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		if (info->to_ms && info->from_ms / TP_MINUTE_MS < first)
			first = info->from_ms / TP_MINUTE_MS;
	}
	return first;
}

static uint64_t unsealed_minute(const struct sto_reader *reader, const struct tp_live *live)
{
	uint64_t first = UINT64_MAX;

	for (uint32_t i = 0; live && i < live->rollup_count; i++) {
		const struct tp_rollup *table = tp_live_rollup(live, i);
		uint64_t file_id = atomic_load_explicit(&table->file_id, memory_order_acquire);
		uint64_t minute = atomic_load_explicit(&table->minute_min, memory_order_relaxed);
		if (file_id && !sto_reader_sealed(reader, file_id) && atomic_load_explicit(&table->rows, memory_order_acquire) &&
		    minute < first)
			first = minute;
	}
	return first;
}

int ctl_recount_range(const char *data_dir, const struct tp_live *live, uint64_t max_future_ms, struct ctl_recount_range *range)
{
	struct sto_reader *reader;
	int rc = sto_reader_open(&reader, data_dir);

	*range = (struct ctl_recount_range){0};
	if (rc)
		return rc;
	/* before the manifest: what this calls final is in files that the refresh, or the tables, know */
	const uint64_t watermark_ms = live ? atomic_load_explicit(&live->watermark_ms, memory_order_acquire) : 0;
	rc = sto_reader_refresh(reader);
	if (rc >= 0) {
		const uint64_t unsealed = unsealed_minute(reader, live), first = first_minute(reader, unsealed);
		range->to_minute = (watermark_ms ? watermark_ms : sto_reader_watermark(reader)) / TP_MINUTE_MS;
		range->whole_minute = whole_minute(reader, max_future_ms);
		range->from_minute = first > range->whole_minute ? first : range->whole_minute;
		if (range->from_minute > range->to_minute)
			range->from_minute = range->to_minute;
		range->sealed_minute = unsealed < range->to_minute ? unsealed : range->to_minute;
		if (range->sealed_minute < range->from_minute)
			range->sealed_minute = range->from_minute;
	}
	sto_reader_close(reader);
	return rc < 0 ? rc : 0;
}
