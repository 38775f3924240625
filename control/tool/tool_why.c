/*
 * turnpikectl why EVENT_ID: all that the node knows of one event. Reads the data folder beside a running node, or of a stopped one.
 */
#include "tool.h"

#include "ctl_billing_why.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : "-";
}

static void reasons_print(const json_t *object)
{
	const json_t *reasons = json_object_get(object, "reasons"), *one;
	size_t i;
	json_array_foreach(reasons, i, one) printf("%s%s", i ? " " : "", json_string_value(one));
}

static void evidence_print(const json_t *fraud)
{
	const json_t *one;
	size_t i;
	json_array_foreach(json_object_get(fraud, "evidence"), i, one)
	{
		const json_t *seen = json_object_get(one, "seen"), *limit = json_object_get(one, "limit"),
			     *detail = json_object_get(one, "detail");
		printf("    %-18s seen ", text_of(one, "reason"));
		if (json_is_string(seen))
			printf("\"%s\"", json_string_value(seen));
		else
			printf("%" JSON_INTEGER_FORMAT, json_integer_value(seen));
		if (limit)
			printf(", limit %" JSON_INTEGER_FORMAT, json_integer_value(limit));
		if (detail)
			printf(", detail %" JSON_INTEGER_FORMAT, json_integer_value(detail));
		putchar('\n');
	}
}

static void place_print(const json_t *place)
{
	const json_t *segment = json_object_get(place, "segment"), *log = json_object_get(place, "log");
	if (segment)
		printf("  in        %s, row %" JSON_INTEGER_FORMAT ", sealed %s from log %s\n  sha256    %s\n",
		       text_of(segment, "file"), json_integer_value(json_object_get(segment, "row")), text_of(segment, "sealed"),
		       text_of(segment, "log_id"), text_of(segment, "sha256"));
	else
		printf("  in        log %s, block at %" JSON_INTEGER_FORMAT ", not sealed yet\n", text_of(log, "id"),
		       json_integer_value(json_object_get(log, "offset")));
}

static void record_print(const json_t *record)
{
	const json_t *event = json_object_get(record, "event"), *source = json_object_get(record, "source"),
		     *fraud = json_object_get(record, "fraud");
	printf("\n%s %s\n  received  %s\n  stamped   %s\n", text_of(record, "verdict"), text_of(event, "event_type"),
	       text_of(record, "received"), text_of(event, "timestamp"));
	printf("  from      %s (%s)", text_of(source, "ip_address"), text_of(source, "ip_from"));
	if (json_object_get(source, "trace_id"))
		printf(", trace %s", text_of(source, "trace_id"));
	printf("\n  about     advertiser %s, campaign %s, ad %s, publisher %s\n", text_of(event, "advertiser_id"),
	       text_of(event, "campaign_id"), text_of(event, "ad_id"), text_of(event, "publisher_id"));
	if (fraud) {
		printf("  rules     version %" JSON_INTEGER_FORMAT ", %s%s",
		       json_integer_value(json_object_get(fraud, "rule_version")),
		       json_object_get(fraud, "class") ? text_of(fraud, "class") : "no tag",
		       json_array_size(json_object_get(fraud, "reasons")) ? ": " : "");
		reasons_print(fraud);
		putchar('\n');
		evidence_print(fraud);
	}
	place_print(json_object_get(record, "place"));
}

static void counted_print(const json_t *counted)
{
	const json_t *line = json_object_get(counted, "line");
	printf("%s of %s: ", text_of(counted, "event_type"), text_of(counted, "timestamp"));
	if (json_is_true(json_object_get(counted, "billed")))
		printf("billed, %s %s", text_of(counted, "amount"), text_of(counted, "currency"));
	else
		printf("not billed (%s)", text_of(counted, "not_billed_because"));
	printf(": %s", text_of(counted, "explanation"));
	if (json_array_size(json_object_get(counted, "reasons"))) {
		printf(": ");
		reasons_print(counted);
	}
	printf("\n  report line: advertiser %s, campaign %s, hour %s, day %.10s, month %.7s (UTC)\n",
	       text_of(line, "advertiser_id"), text_of(line, "campaign_id"), text_of(line, "hour"), text_of(line, "day"),
	       text_of(line, "month"));
	const json_t *bill;
	size_t i;
	json_array_foreach(json_object_get(line, "reports"), i, bill)
		printf("  bill         %s: %s from %s, revision %" JSON_INTEGER_FORMAT "\n", text_of(bill, "id"),
		       text_of(bill, "period"), text_of(bill, "start"), json_integer_value(json_object_get(bill, "revision")));
}

static void answer_print(const json_t *answer)
{
	const json_t *one;
	size_t i;
	printf("event %s\n", text_of(answer, "event_id"));
	json_array_foreach(json_object_get(answer, "counted"), i, one) counted_print(one);
	if (!json_array_size(json_object_get(answer, "counted")))
		puts("counted nowhere: its only records are conflicts or amendments");
	json_array_foreach(json_object_get(answer, "records"), i, one) record_print(one);
	if (json_object_get(answer, "more"))
		puts("\nthere are more records than are shown");
}

static bool time_of(const char *text, uint64_t *ms)
{
	if (tp_time_parse(text, strlen(text), ms) == 0)
		return true;
	fprintf(stderr, "turnpikectl: expected a time such as 2026-01-31T00:00:00Z, or milliseconds, found \"%s\"\n", text);
	return false;
}

/* The control process's, if it has made one: without, nothing is said of bills. */
static struct ctl_ledger *ledger_take(const struct ctl_tool *tool)
{
	const char *folder = tool->config.control_state_dir;
	struct ctl_ledger *ledger = NULL;
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/ledger.db", folder);
	return access(path, R_OK | W_OK) == 0 && ctl_ledger_open(&ledger, folder) == 0 ? ledger : NULL;
}

int ctl_tool_why(struct ctl_tool *tool, int words, char **word)
{
	const char *id = NULL;
	uint64_t from_ms = 0, to_ms = 0;
	for (int i = 0; i < words; i++) {
		const bool from = !strcmp(word[i], "--from"), to = !strcmp(word[i], "--to");
		if ((from || to) && (i + 1 == words || !time_of(word[i + 1], from ? &from_ms : &to_ms)))
			return 2;
		if (from || to)
			i++;
		else if (id || strlen(word[i]) > TP_ID_BYTES_MAX || !word[i][0])
			return 2;
		else
			id = word[i];
	}
	if (!id)
		return 2;
	struct ctl_events *events;
	struct ctl_why why = {0};
	int rc = ctl_events_open(&events, tool->config.data_dir);
	if (!rc) {
		rc = ctl_why_find(events, id, strlen(id), from_ms, to_ms, &why);
		ctl_events_close(events);
	}
	struct ctl_ledger *ledger = rc ? NULL : ledger_take(tool);
	const struct ctl_why_report bills = {.line = ctl_billing_why, .context = ledger};
	json_t *answer = rc ? NULL : ctl_why_json(&why, NULL, &bills);
	ctl_ledger_close(ledger);
	if (rc)
		fprintf(stderr, "turnpikectl: cannot read %s: %s%s\n", tool->config.data_dir, strerror(-rc),
			why.facts.damaged_sequence ? ": a segment is damaged, see segments verify" : "");
	else if (!answer)
		fprintf(stderr,
			"turnpikectl: no record of \"%s\": it was never accepted here, or is beyond the retention of raw "
			"segments\n",
			id);
	ctl_why_free(&why);
	if (!answer)
		return 1;
	if (tool->json)
		return ctl_tool_print(answer);
	answer_print(answer);
	json_decref(answer);
	return 0;
}
