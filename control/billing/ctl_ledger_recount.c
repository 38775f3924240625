/*
 * What the ledger knows of segments and of the reconciliation. See ctl_ledger.h; any thread.
 *
 *   asked          ├──────────────────────────────────┤
 *   newest run                 ├───────────┤              decides for its part, alone
 *   the run before       ├───────────┤                    … for what is left of it
 *   an older one   ├───────────────────┤
 *   left over                               ├─────────┤   never counted again: no
 */
#include "ctl_ledger_report.h"
#include "ctl_ledger_sql.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR_MINUTES = 60 };

/* ---- segments ---- */

int ctl_ledger_segment_put(struct ctl_ledger *ledger, const struct ctl_ledger_segment *segment)
{
	sqlite3_stmt *put = ledger_statement(ledger, SQL_SEGMENT_PUT);

	ledger_bind_u64(put, 1, segment->sequence);
	ledger_bind_bytes(put, 2, segment->sha256, sizeof(segment->sha256));
	ledger_bind_u64(put, 3, segment->from_minute);
	ledger_bind_u64(put, 4, segment->to_minute);
	int rc = ledger_run(ledger, put);
	for (uint32_t i = 0; i < segment->hours && rc == 0; i++) {
		put = ledger_statement(ledger, SQL_TOUCH_PUT);
		ledger_bind_u64(put, 1, segment->hour[i]);
		ledger_bind_u64(put, 2, segment->sequence);
		rc = ledger_run(ledger, put);
	}
	return rc;
}

int ctl_ledger_segment_store(struct ctl_ledger *ledger, const struct ctl_ledger_segment *segment)
{
	int rc = ctl_ledger_hold(ledger);
	return rc ? rc : ctl_ledger_release(ledger, ctl_ledger_segment_put(ledger, segment));
}

int ctl_ledger_segment_last(struct ctl_ledger *ledger, uint64_t *sequence)
{
	ledger_lock(ledger);
	sqlite3_stmt *last = ledger_statement(ledger, SQL_SEGMENT_LAST);
	int rc = ledger_next(ledger, last);
	if (rc > 0)
		*sequence = ledger_column_u64(last, 0);
	if (last)
		sqlite3_reset(last);
	ledger_unlock(ledger);
	return rc < 0 ? rc : 0;
}

/* ---- runs ---- */

static int difference_put(struct ctl_ledger *ledger, int64_t recount, const struct ctl_ledger_difference *difference)
{
	sqlite3_stmt *put = ledger_statement(ledger, SQL_DIFFERENCE_PUT);

	ledger_bind_u64(put, 1, (uint64_t)recount);
	ledger_bind_u64(put, 2, difference->minute);
	ledger_bind_bytes(put, 3, difference->campaign, difference->campaign_bytes);
	ledger_bind_text(put, 4, difference->currency);
	ledger_bind_figures(put, 5, &difference->raw);
	ledger_bind_figures(put, 10, &difference->reported);
	return ledger_run(ledger, put);
}

int ctl_ledger_recount_store(struct ctl_ledger *ledger, struct ctl_ledger_recount *recount)
{
	uint32_t kept = recount->kept < CTL_LEDGER_DIFFERENCES_MAX ? recount->kept : CTL_LEDGER_DIFFERENCES_MAX;

	ledger_lock(ledger);
	int rc = ledger_begin(ledger);
	if (rc == 0) {
		sqlite3_stmt *put = ledger_statement(ledger, SQL_RECOUNT_PUT);
		ledger_bind_u64(put, 1, recount->from_minute);
		ledger_bind_u64(put, 2, recount->to_minute);
		ledger_bind_u64(put, 3, recount->at_ms);
		ledger_bind_u64(put, 4, recount->sequence);
		ledger_bind_u64(put, 5, recount->segments);
		ledger_bind_bytes(put, 6, recount->chain_sha256, sizeof(recount->chain_sha256));
		ledger_bind_u64(put, 7, recount->events);
		ledger_bind_u64(put, 8, recount->differences);
		ledger_bind_u64(put, 9, kept);
		rc = ledger_run(ledger, put);
		if (rc == 0)
			recount->id = sqlite3_last_insert_rowid(sqlite3_db_handle(put));
		for (uint32_t i = 0; i < kept && rc == 0; i++)
			rc = difference_put(ledger, recount->id, &recount->difference[i]);
		rc = ledger_end(ledger, rc);
	}
	ledger_unlock(ledger);
	return rc;
}

static void recount_of(sqlite3_stmt *list, struct ctl_ledger_recount *recount)
{
	*recount = (struct ctl_ledger_recount){
		.id = sqlite3_column_int64(list, 0),
		.from_minute = ledger_column_u64(list, 1),
		.to_minute = ledger_column_u64(list, 2),
		.at_ms = ledger_column_u64(list, 3),
		.sequence = ledger_column_u64(list, 4),
		.segments = ledger_column_u64(list, 5),
		.events = ledger_column_u64(list, 7),
		.differences = ledger_column_u64(list, 8),
		.kept = (uint32_t)ledger_column_u64(list, 9),
	};
	ledger_column_copy(list, 6, recount->chain_sha256, sizeof(recount->chain_sha256));
}

/* With the lock. */
static int recounts(struct ctl_ledger *ledger, uint64_t from, uint64_t to, uint32_t limit, ctl_ledger_recount_fn fn, void *context)
{
	sqlite3_stmt *list = ledger_statement(ledger, SQL_RECOUNT_LIST);
	struct ctl_ledger_recount recount;
	int rc;

	/* times beyond what SQLite can hold would turn negative */
	ledger_bind_u64(list, 1, from < INT64_MAX ? from : INT64_MAX);
	ledger_bind_u64(list, 2, to < INT64_MAX ? to : INT64_MAX);
	ledger_bind_u64(list, 3, limit);
	while ((rc = ledger_next(ledger, list)) > 0) {
		recount_of(list, &recount);
		if (!fn(context, &recount))
			break;
	}
	if (list)
		sqlite3_reset(list);
	return rc < 0 ? rc : 0;
}

int ctl_ledger_recounts(struct ctl_ledger *ledger, uint64_t from_minute, uint64_t to_minute, uint32_t limit,
			ctl_ledger_recount_fn fn, void *context)
{
	ledger_lock(ledger);
	int rc = recounts(ledger, from_minute, to_minute, limit, fn, context);
	ledger_unlock(ledger);
	return rc;
}

int ctl_ledger_differences(struct ctl_ledger *ledger, int64_t recount, ctl_ledger_difference_fn fn, void *context)
{
	int rc;

	ledger_lock(ledger);
	sqlite3_stmt *list = ledger_statement(ledger, SQL_DIFFERENCE_LIST);
	ledger_bind_u64(list, 1, (uint64_t)recount);
	while ((rc = ledger_next(ledger, list)) > 0) {
		struct ctl_ledger_difference difference = {
			.minute = ledger_column_u64(list, 0),
			.campaign = sqlite3_column_blob(list, 1),
			.campaign_bytes = (size_t)sqlite3_column_bytes(list, 1),
		};
		ledger_column_copy(list, 2, difference.currency, sizeof(difference.currency) - 1);
		ledger_column_figures(list, 3, &difference.raw);
		ledger_column_figures(list, 8, &difference.reported);
		if (!fn(context, &difference))
			break;
	}
	if (list)
		sqlite3_reset(list);
	ledger_unlock(ledger);
	return rc < 0 ? rc : 0;
}

/* ---- is it reconciled? ---- */

struct span {
	uint64_t from, to; /* minutes, half-open */
};

struct judging {
	struct ctl_ledger *ledger;
	const char *campaign; /* NULL: all */
	size_t campaign_bytes;
	struct span *left; /* what no run has decided yet, apart from each other */
	uint32_t lefts, lefts_max;
	bool stale, differs;
	int rc;
};

static int differences_in(const struct judging *judging, const struct ctl_ledger_recount *run, struct span part,
			  uint64_t *differences)
{
	sqlite3_stmt *count = ledger_statement(judging->ledger, judging->campaign ? SQL_DIFFERENCE_COUNT_OF : SQL_DIFFERENCE_COUNT);

	ledger_bind_u64(count, 1, (uint64_t)run->id);
	ledger_bind_u64(count, 2, part.from);
	ledger_bind_u64(count, 3, part.to);
	if (judging->campaign)
		ledger_bind_bytes(count, 4, judging->campaign, judging->campaign_bytes);
	int rc = ledger_next(judging->ledger, count);
	if (rc > 0)
		*differences = ledger_column_u64(count, 0);
	if (count)
		sqlite3_reset(count);
	return rc < 0 ? rc : 0;
}

static int touched_last(const struct judging *judging, struct span part, uint64_t *sequence)
{
	sqlite3_stmt *last = ledger_statement(judging->ledger, SQL_TOUCH_LAST);

	ledger_bind_u64(last, 1, part.from / HOUR_MINUTES);
	ledger_bind_u64(last, 2, (part.to - 1) / HOUR_MINUTES);
	int rc = ledger_next(judging->ledger, last);
	if (rc > 0)
		*sequence = ledger_column_u64(last, 0);
	if (last)
		sqlite3_reset(last);
	return rc < 0 ? rc : 0;
}

/* What a run says of a part that it is the newest over. */
static int part_judge(struct judging *judging, const struct ctl_ledger_recount *run, struct span part)
{
	uint64_t differences = 0, sequence = 0;

	int rc = touched_last(judging, part, &sequence);
	if (rc == 0 && run->differences)
		rc = differences_in(judging, run, part, &differences);
	/* where they were too many to be kept, any key may be among them */
	judging->differs = judging->differs || differences || run->differences > run->kept;
	judging->stale = judging->stale || sequence > run->sequence;
	return rc;
}

static int left_add(struct judging *judging, struct span part)
{
	if (part.from >= part.to)
		return 0;
	if (judging->lefts == judging->lefts_max) {
		uint32_t max = judging->lefts_max ? 2 * judging->lefts_max : 16;
		struct span *left = realloc(judging->left, max * sizeof(*left));
		if (!left)
			return -ENOMEM;
		judging->left = left;
		judging->lefts_max = max;
	}
	judging->left[judging->lefts++] = part;
	return 0;
}

static bool run_judge(void *context, const struct ctl_ledger_recount *run)
{
	struct judging *judging = context;
	uint32_t lefts = judging->lefts;

	for (uint32_t i = 0; i < lefts && judging->rc == 0;) {
		struct span left = judging->left[i];
		struct span part = {.from = left.from > run->from_minute ? left.from : run->from_minute,
				    .to = left.to < run->to_minute ? left.to : run->to_minute};
		if (part.from >= part.to) {
			i++;
			continue;
		}
		judging->rc = part_judge(judging, run, part);
		/* the last one takes its place; what remains of it on both sides goes to the end, behind those to be looked at */
		judging->left[i] = judging->left[--lefts];
		judging->left[lefts] = judging->left[--judging->lefts];
		if (judging->rc == 0)
			judging->rc = left_add(judging, (struct span){left.from, part.from});
		if (judging->rc == 0)
			judging->rc = left_add(judging, (struct span){part.to, left.to});
	}
	return judging->rc == 0 && judging->lefts > 0;
}

int ctl_ledger_reconciled(struct ctl_ledger *ledger, uint64_t from_minute, uint64_t to_minute, const char *campaign,
			  size_t campaign_bytes, enum ctl_reconciled *reconciled)
{
	struct judging judging = {.ledger = ledger, .campaign = campaign, .campaign_bytes = campaign_bytes};

	judging.rc = left_add(&judging, (struct span){from_minute, to_minute});
	ledger_lock(ledger);
	int rc = judging.lefts ? recounts(ledger, from_minute, to_minute, UINT32_MAX, run_judge, &judging) : 0;
	ledger_unlock(ledger);
	if (rc == 0)
		rc = judging.rc;
	*reconciled = judging.differs                  ? CTL_RECONCILED_DIFFERS
		      : judging.stale || judging.lefts ? CTL_RECONCILED_NO
						       : CTL_RECONCILED_YES;
	free(judging.left);
	return rc;
}
