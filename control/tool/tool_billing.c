/*
 * turnpikectl billing list|show|export|issue: bills as the API has them, of a running node or a stopped one, and without a token: who may
 * read the folders may read them.
 *
 * list, show and export put the question that the API would get to the very same handlers, so that both say the same. issue is a round of the
 * issuer (ctl_billing_issue.h); beside a control process that runs it is that one's next round, only sooner.
 */
#include "ctl.h"
#include "ctl_billing_issue.h"
#include "ctl_ledger.h"
#include "tool.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TARGET_BYTES = 4096, PATH_BYTES = 4096, LOOK_MS = 5000 };

/* ---- what the handlers need ---- */

/* The ledger is the control process's: it is opened, never made. */
static int ledger_take(const struct ctl_tool *tool, struct ctl_ledger **ledger)
{
	const char *folder = tool->config.control_state_dir;
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/ledger.db", folder);
	int rc = access(path, R_OK | W_OK) == 0 ? ctl_ledger_open(ledger, folder) : -errno;
	if (rc == -ENOENT)
		fprintf(stderr, "turnpikectl: there is no %s: turnpike-control makes it when it first starts\n", path);
	else if (rc)
		fprintf(stderr, "turnpikectl: %s: %s\n", path, strerror(-rc));
	return rc;
}

/* The views attach in a thread of their own: waits until they have, where there is a data process. */
static int views_take(const struct ctl_tool *tool, struct ctl_views **views)
{
	const struct timespec nap = {.tv_nsec = 2000000};
	int fd = tp_command_connect(tool->config.data_dir), rc = ctl_views_open(views, tool->config.data_dir);
	bool attached = fd < 0 || rc;

	for (uint64_t end_ns = tp_mono_ns() + LOOK_MS * UINT64_C(1000000); !attached && tp_mono_ns() < end_ns;) {
		struct ctl_look look;
		ctl_look_take(*views, &look);
		attached = look.figures;
		ctl_look_give(*views, &look);
		if (!attached)
			nanosleep(&nap, NULL);
	}
	if (fd >= 0)
		close(fd);
	if (!rc && !attached)
		fprintf(stderr, "turnpikectl: the data process does not answer: what is not sealed is left out\n");
	if (rc)
		fprintf(stderr, "turnpikectl: %s: %s\n", tool->config.data_dir, strerror(-rc));
	return rc;
}

static void parts_give(struct ctl *ctl)
{
	ctl_store_pool_close(ctl->stores);
	if (ctl->views)
		ctl_views_close(ctl->views);
	ctl_ledger_close(ctl->ledger);
}

/* 0, or it has been said. */
static int parts_take(const struct ctl_tool *tool, struct ctl *ctl)
{
	*ctl = (struct ctl){.config = tool->config};
	int rc = ledger_take(tool, &ctl->ledger);
	if (!rc)
		rc = views_take(tool, &ctl->views);
	if (!rc) {
		rc = ctl_store_pool_open(&ctl->stores, tool->config.data_dir, NULL);
		if (rc)
			fprintf(stderr, "turnpikectl: %s: %s\n", tool->config.data_dir, strerror(-rc));
	}
	if (rc)
		parts_give(ctl);
	return rc;
}

/* ---- asking ---- */

typedef void (*handler_fn)(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);

/* The answer's body, to be freed. NULL: said; *status is the tool's. */
static char *answer_take(const struct ctl_tool *tool, handler_fn handler, const char *text, size_t *bytes, int *status)
{
	struct ctl_target target = {0};
	struct ctl_reply reply = {0};
	struct ctl ctl;

	*status = 2;
	if (ctl_target_parse(text, &target)) {
		fprintf(stderr, "turnpikectl: the words are too long, or no text\n");
		return NULL;
	}
	*status = 1;
	if (!parts_take(tool, &ctl)) {
		handler(&ctl, &target, &reply);
		parts_give(&ctl);
	}
	ctl_target_free(&target);
	if (reply.status == 200) {
		*status = 0;
		*bytes = reply.body_bytes;
		return reply.body;
	}
	if (reply.status) {
		json_t *problem = json_loadb(reply.body, reply.body_bytes, 0, NULL);
		const char *detail = json_string_value(json_object_get(problem, "detail"));
		fprintf(stderr, "turnpikectl: %s\n", detail ? detail : "refused");
		*status = reply.status == 400 || reply.status == 422 ? 2 : 1;
		json_decref(problem);
	}
	free(reply.body);
	return NULL;
}

static bool parameter_add(char target[TARGET_BYTES], const char *name, const char *value)
{
	size_t used = strlen(target);

	used += (size_t)snprintf(target + used, TARGET_BYTES - used, "%c%s=", strchr(target, '?') ? '&' : '?', name);
	for (; *value && used + 4 < TARGET_BYTES; value++)
		used += (size_t)snprintf(target + used, TARGET_BYTES - used, "%%%02X", (unsigned char)*value);
	return !*value;
}

/* ---- telling ---- */

static const char *text_in(const json_t *item, const char *key)
{
	const char *text = json_string_value(json_object_get(item, key));
	return text ? text : "-";
}

static long long number_in(const json_t *item, const char *key)
{
	return json_integer_value(json_object_get(item, key));
}

static const char *yes(const json_t *item, const char *key)
{
	return json_is_true(json_object_get(item, key)) ? "yes" : "no";
}

/* "1.500000 EUR"; several are parted by commas. */
static void spend_text(const json_t *line, char *to, size_t room)
{
	json_t *several = json_object_get(line, "spend_by_currency"), *spend;
	const char *currency = json_string_value(json_object_get(line, "currency")), *key;
	size_t used = 0;

	snprintf(to, room, "%s%s%s", text_in(line, "spend"), currency ? " " : "", currency ? currency : "");
	json_object_foreach(several, key, spend)
	{
		int bytes = snprintf(to + used, room - used, "%s%s %s", used ? ", " : "", json_string_value(spend), key);
		used += (size_t)bytes < room - used ? (size_t)bytes : room - used - 1;
	}
}

static void line_tell(const json_t *line)
{
	char spend[256];

	spend_text(line, spend, sizeof(spend));
	printf("%-24s  %12lld  %10lld  %8lld  %s", text_in(line, "campaign_id"), number_in(line, "impressions"),
	       number_in(line, "clicks"), number_in(line, "flagged_clicks"), spend);
}

static const char line_head[] = "campaign                   impressions      clicks   flagged  spend";

static void list_tell(const json_t *answer)
{
	const json_t *row;
	size_t i;

	printf("advertiser %s, %s, %s; the watermark is %s\n", text_in(answer, "advertiser"), text_in(answer, "period"),
	       text_in(answer, "tz"), text_in(answer, "watermark"));
	printf("%-25s  %-20s  final  reconciled  %s\n", "start", "report", line_head);
	json_array_foreach(json_object_get(answer, "items"), i, row)
	{
		printf("%-25s  %-20s  %-5s  %-10s  ", text_in(row, "start"), text_in(row, "report"), yes(row, "final"),
		       yes(row, "reconciled"));
		line_tell(row);
		putchar('\n');
	}
}

static void lines_tell(const json_t *lines)
{
	const json_t *line;
	size_t i;

	printf("  %s\n", line_head);
	json_array_foreach(lines, i, line)
	{
		fputs("  ", stdout);
		line_tell(line);
		putchar('\n');
	}
}

static void issue_tell(const char *what, const json_t *issue)
{
	printf("%s, revision %lld of %s, from %zu segments\n", what, number_in(issue, "revision"), text_in(issue, "issued"),
	       json_array_size(json_object_get(issue, "segments")));
	lines_tell(json_object_get(issue, "lines"));
}

static void bill_tell(const json_t *answer)
{
	const json_t *correction;
	size_t i;

	printf("bill %s: advertiser %s, %s from %s to %s (%s), %sreconciled\n", text_in(answer, "id"),
	       text_in(answer, "advertiser"), text_in(answer, "period"), text_in(answer, "start"), text_in(answer, "end"),
	       text_in(answer, "tz"), json_is_true(json_object_get(answer, "reconciled")) ? "" : "not ");
	issue_tell("report", json_object_get(answer, "report"));
	json_array_foreach(json_object_get(answer, "corrections"), i, correction) issue_tell("correction", correction);
	if (i) {
		puts("all together");
		lines_tell(json_object_get(answer, "items"));
	}
}

/* ---- the verbs ---- */

static int told(const struct ctl_tool *tool, handler_fn handler, const char *target, bool csv, void (*tell)(const json_t *answer))
{
	size_t bytes = 0;
	int status;
	char *body = answer_take(tool, handler, target, &bytes, &status);

	if (!body)
		return status;
	json_t *answer = csv ? NULL : json_loadb(body, bytes, 0, NULL);
	if (csv)
		fwrite(body, 1, bytes, stdout);
	free(body);
	if (!csv && !answer) {
		fprintf(stderr, "turnpikectl: not enough memory for the answer\n");
		return 1;
	}
	if (answer && tool->json)
		return ctl_tool_print(answer);
	if (answer)
		tell(answer);
	json_decref(answer);
	return fflush(stdout) ? 1 : 0;
}

static int list(const struct ctl_tool *tool, int words, char **word, bool csv)
{
	static const char *const option[] = {"--advertiser", "--period", "--from", "--to", "--tz"};
	char target[TARGET_BYTES] = "/api/v1/billing/reports";

	for (int i = 0; i < words; i++) {
		size_t o = 0;
		if (!csv && !strcmp(word[i], "--csv")) {
			csv = true;
			continue;
		}
		while (o < sizeof(option) / sizeof(option[0]) && strcmp(word[i], option[o]))
			o++;
		if (o == sizeof(option) / sizeof(option[0]) || i + 1 == words || !parameter_add(target, option[o] + 2, word[++i]))
			return 2;
	}
	if ((csv && tool->json) || !parameter_add(target, "format", csv ? "csv" : "json"))
		return 2;
	return told(tool, ctl_billing_reports, target, csv, list_tell);
}

static int show(const struct ctl_tool *tool, int words, char **word)
{
	char target[TARGET_BYTES];
	const bool csv = words == 2 && !strcmp(word[1], "--csv");

	if ((words != 1 && !csv) || (csv && tool->json) || !word[0][0] || word[0][strspn(word[0], "0123456789abcdef")])
		return 2;
	snprintf(target, sizeof(target), "/api/v1/billing/reports/%.64s?format=%s", word[0], csv ? "csv" : "json");
	return told(tool, ctl_billing_report, target, csv, bill_tell);
}

static int issue(const struct ctl_tool *tool)
{
	struct ctl_issued issued = {0};
	struct ctl_issuing issuing = {.config = &tool->config, .now_ms = tp_now_ms(), .clock_ms = tp_now_ms, .issued = &issued};
	const struct tp_live *live = NULL;
	int connection = -1, rc = ledger_take(tool, &issuing.ledger);

	if (rc)
		return 1;
	rc = tp_live_attach(tool->config.data_dir, &live, &connection);
	if (rc)
		fprintf(stderr,
			"turnpikectl: no running data process for %s: corrections alone are issued, since nobody can say how "
			"far event time is\n",
			tool->config.data_dir);
	rc = ctl_store_open(&issuing.store, tool->config.data_dir);
	if (!rc) {
		rc = ctl_issuing_round(&issuing, live);
		ctl_store_close(issuing.store);
	}
	if (live)
		tp_live_unmap(live);
	if (connection >= 0)
		close(connection);
	ctl_ledger_close(issuing.ledger);
	if (rc) {
		fprintf(stderr, "turnpikectl: bills cannot be issued: %s\n", rc == -EIDRM ? CTL_LEDGER_GONE : strerror(-rc));
		return 1;
	}
	if (tool->json)
		return ctl_tool_print(
			json_pack("{s:I, s:I}", "bills", (json_int_t)issued.bills, "corrections", (json_int_t)issued.corrections));
	printf("%u bills were issued, %u corrected\n", issued.bills, issued.corrections);
	return fflush(stdout) ? 1 : 0;
}

int ctl_tool_billing(struct ctl_tool *tool, int words, char **word)
{
	if (!words)
		return 2;
	if (!strcmp(word[0], "list"))
		return list(tool, words - 1, word + 1, false);
	if (!strcmp(word[0], "export"))
		return list(tool, words - 1, word + 1, true);
	if (!strcmp(word[0], "show"))
		return show(tool, words - 1, word + 1);
	return words == 1 && !strcmp(word[0], "issue") ? issue(tool) : 2;
}
