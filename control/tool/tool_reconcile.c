/*
 * turnpikectl reconcile: counts again from the raw rows and says which keys differ from what is reported. Of a running node or a
 * stopped one; it reads the data folder and writes nothing. docs/reconciliation.md.
 */
#include "ctl_recount.h"
#include "tool.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LISTED_MAX = 10000 };

static bool time_of(const char *text, uint64_t *ms)
{
	if (tp_time_parse(text, strlen(text), ms) == 0)
		return true;
	fprintf(stderr, "turnpikectl: expected a time such as 2026-01-31T00:00:00Z, or milliseconds, found \"%s\"\n", text);
	return false;
}

/* Time on a core: the machine may be doing other things. */
static double core_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static json_t *text_json(struct tp_str text)
{
	json_t *string = json_stringn(text.at, text.bytes);
	return string ? string : json_string("?");
}

static json_t *sums_json(const struct ctl_recount_sums *sums)
{
	char money[64];

	tp_micros_text(sums->spend_micros, money);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:s}", "impressions", (json_int_t)sums->impressions, "clicks",
			 (json_int_t)sums->clicks, "flagged_clicks", (json_int_t)sums->flagged_clicks, "conversions",
			 (json_int_t)sums->conversions, "late", (json_int_t)sums->late, "spend", money);
}

struct listing {
	bool json;
	json_t *items;
	uint64_t listed;
};

static void sums_print(const char *who, const struct ctl_recount_sums *sums)
{
	char money[64];

	tp_micros_text(sums->spend_micros, money);
	printf("  %-9s impressions %" PRIu64 ", clicks %" PRIu64 ", flagged %" PRIu64 ", conversions %" PRIu64 ", late %" PRIu64
	       ", spend %s\n",
	       who, sums->impressions, sums->clicks, sums->flagged_clicks, sums->conversions, sums->late, money);
}

static void line_tell(void *context, const struct ctl_recount_line *line)
{
	struct listing *listing = context;
	char minute[32];

	if (!line->differs || listing->listed++ >= LISTED_MAX)
		return;
	tp_time_text((uint64_t)line->minute * TP_MINUTE_MS, minute);
	if (listing->json) {
		json_array_append_new(listing->items, json_pack("{s:s, s:o, s:o, s:s, s:o, s:o}", "minute", minute, "advertiser",
								text_json(line->advertiser), "campaign", text_json(line->campaign),
								"currency", line->currency, "raw", sums_json(&line->raw),
								"reported", sums_json(&line->reported)));
		return;
	}
	printf("differs: minute=%s advertiser=%.*s campaign=%.*s currency=%s\n", minute, (int)line->advertiser.bytes,
	       line->advertiser.at, (int)line->campaign.bytes, line->campaign.at, line->currency);
	sums_print("raw", &line->raw);
	sums_print("reported", &line->reported);
}

static void result_tell(const struct ctl_recount_ask *ask, const struct ctl_recount_facts *facts, struct listing *listing)
{
	char from[32], to[32];

	tp_time_text(ask->from_minute * TP_MINUTE_MS, from);
	tp_time_text(ask->to_minute * TP_MINUTE_MS, to);
	double seconds = (double)facts->elapsed_ns / 1e9;
	if (listing->json) {
		ctl_tool_print(json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o}", "from", from,
					 "to", to, "equal", facts->differing == 0, "keys", (json_int_t)facts->lines, "differing",
					 (json_int_t)facts->differing, "moving", (json_int_t)facts->moving, "events",
					 (json_int_t)facts->rows, "duplicates", (json_int_t)facts->duplicates, "segments",
					 (json_int_t)facts->segments, "unsealed_logs", (json_int_t)facts->logs, "rows_read",
					 (json_int_t)facts->rows_read, "seconds", seconds, "core_seconds", core_seconds(),
					 "differences", listing->items));
		return;
	}
	if (listing->listed > LISTED_MAX)
		printf("… and %" PRIu64 " more\n", listing->listed - LISTED_MAX);
	printf("%s … %s: %s; %" PRIu64 " events of %" PRIu64 " segments and %" PRIu64 " unsealed log files, %" PRIu64
	       " keys, %" PRIu64 " differ, %" PRIu64 " still moving, %" PRIu64 " rows twice; %.2f s\n",
	       from, to, facts->differing ? "DIFFERENT" : "equal", facts->rows, facts->segments, facts->logs, facts->lines,
	       facts->differing, facts->moving, facts->duplicates, seconds);
}

static int failed(const struct ctl_recount_facts *facts, int rc)
{
	if (rc == -EBADMSG && facts->damaged_sequence)
		fprintf(stderr, "turnpikectl: %s %" PRIu64 " is damaged; turnpikectl segments verify tells more\n",
			facts->damaged_rollup ? "rollup file" : "segment", facts->damaged_sequence);
	else if (rc == -E2BIG)
		fprintf(stderr, "turnpikectl: a minute has more keys than the memory takes: give more with --memory\n");
	else
		fprintf(stderr, "turnpikectl: cannot count: %s\n", strerror(-rc));
	return 1;
}

/* The range: what was asked for, within what can be reconciled. */
static void range_take(uint64_t from_ms, uint64_t to_ms, bool from_given, bool to_given, struct ctl_recount_ask *ask)
{
	char first[32], last[32];

	tp_time_text(ask->from_minute * TP_MINUTE_MS, first);
	tp_time_text(ask->to_minute * TP_MINUTE_MS, last);
	if ((from_given && from_ms / TP_MINUTE_MS < ask->from_minute) ||
	    (to_given && (to_ms + TP_MINUTE_MS - 1) / TP_MINUTE_MS > ask->to_minute))
		fprintf(stderr, "turnpikectl: minutes that are final, with all their raw rows, are %s … %s: the rest is left out\n",
			first, last);
	if (from_given && from_ms / TP_MINUTE_MS > ask->from_minute)
		ask->from_minute = from_ms / TP_MINUTE_MS;
	if (to_given && (to_ms + TP_MINUTE_MS - 1) / TP_MINUTE_MS < ask->to_minute)
		ask->to_minute = (to_ms + TP_MINUTE_MS - 1) / TP_MINUTE_MS;
	if (ask->to_minute < ask->from_minute)
		ask->to_minute = ask->from_minute;
}

int ctl_tool_reconcile(struct ctl_tool *tool, int words, char **word)
{
	const struct tp_config *config = &tool->config;
	struct listing listing = {.json = tool->json};
	struct ctl_recount_ask ask = {.data_dir = config->data_dir,
				      .settle_ms = ctl_recount_settle_ms(config->commit_interval_ns),
				      .context = &listing,
				      .line = line_tell};
	struct ctl_recount_facts facts = {0};
	uint64_t from_ms = 0, to_ms = 0;
	bool from_given = false, to_given = false;
	int connection = -1;

	for (int i = 0; i < words; i += 2) {
		const char *value = i + 1 < words ? word[i + 1] : NULL;
		if (!value)
			return 2;
		if (!strcmp(word[i], "--from"))
			from_given = true;
		else if (!strcmp(word[i], "--to"))
			to_given = true;
		if (!strcmp(word[i], "--advertiser"))
			ask.advertiser = (struct tp_str){.at = value, .bytes = (uint16_t)strnlen(value, TP_ID_BYTES_MAX + 1)};
		else if (!strcmp(word[i], "--memory") ? tp_size_parse(value, strlen(value), &ask.memory_bytes) != 0
			 : !strcmp(word[i], "--from") ? !time_of(value, &from_ms)
			 : !strcmp(word[i], "--to")   ? !time_of(value, &to_ms)
						      : true)
			return 2;
	}
	if (from_given && to_given && to_ms <= from_ms) {
		fprintf(stderr, "turnpikectl: --to must be after --from\n");
		return 2;
	}
	(void)tp_live_attach(config->data_dir, &ask.live, &connection); /* a stopped node has none */
	struct ctl_recount_range range;
	int rc = ctl_recount_range(config->data_dir, ask.live, config->max_future_ms, &range);
	ask.from_minute = range.from_minute;
	ask.to_minute = range.to_minute;
	listing.items = json_array();
	if (!rc) {
		range_take(from_ms, to_ms, from_given, to_given, &ask);
		rc = ctl_recount_run(&ask, &facts);
	}
	if (!rc)
		result_tell(&ask, &facts, &listing);
	if (rc || !tool->json)
		json_decref(listing.items);
	if (ask.live)
		tp_live_unmap(ask.live);
	if (connection >= 0)
		close(connection);
	return rc ? failed(&facts, rc) : facts.differing ? 1 : 0;
}
