/*
 * What the operator's tool writes into the audit log (ctl_audit_log.h), and turnpikectl audit-log, which reads it.
 *
 * Who may run the tool may write the log's file too; so a log that cannot be written is told loudly, and the act goes on: a full disk must not
 * keep an operator from blocking an attacker. Requests over HTTP are refused then (ctl_login.c).
 */
#include "tool_acts.h"

#include "ctl_audit_log.h"
#include "turnpike/folder.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATE_MODE = 0750, DEFAULT_ITEMS = 100 };

/* The verbs that change something, and so are administrative acts. "": whatever follows. */
static const char *const act[][2] = {
	{"blocklist", "add"}, {"blocklist", "del"}, {"token", "create"},  {"token", "revoke"},
	{"segments", "seal"}, {"dlq", "replay"},    {"billing", "issue"},
};

bool ctl_tool_is_act(int words, char **word)
{
	for (size_t i = 0; words >= 2 && i < sizeof(act) / sizeof(act[0]); i++)
		if (strcmp(word[0], act[i][0]) == 0 && strcmp(word[1], act[i][1]) == 0)
			return true;
	return false;
}

void ctl_tool_act(const struct ctl_tool *tool, int words, char **word, int status)
{
	static const char *const results[] = {"done", "failed", "bad usage"};
	const char *result = status < 0 ? "begun" : results[status < 2 ? status : 2];
	/* where nothing was ever administered a slip of the pen makes no folder */
	const bool is_place = access(tool->config.control_state_dir, F_OK) == 0;
	if (!is_place && (status < 0 || status == 2))
		return;

	char who[128], name[64], detail[CTL_AUDIT_DETAIL_BYTES + 1] = "";
	const struct passwd *user = getpwuid(getuid());
	size_t used = 0;

	snprintf(who, sizeof(who), "user %u%s%.64s", getuid(), user ? " " : "", user ? user->pw_name : "");
	snprintf(name, sizeof(name), "%s %s", word[0], word[1]);
	for (int i = 2; i < words && used + 1 < sizeof(detail); i++) {
		size_t room = sizeof(detail) - used;
		int bytes = snprintf(detail + used, room, "%s%s", used ? " " : "", word[i]);
		used += (size_t)bytes < room ? (size_t)bytes : room - 1;
	}
	const struct ctl_act line = {
		.who = who, .from = "turnpikectl", .act = name, .result = result, .detail = detail, .detail_bytes = used};
	int rc = status < 0 ? 0 : tp_folder_make(tool->config.control_state_dir, STATE_MODE);
	if (rc == 0)
		rc = ctl_audit_log_add(tool->config.control_state_dir, &line);
	if (rc != 0)
		fprintf(stderr, "turnpikectl: the audit log %s/audit.log cannot be written: %s\n", tool->config.control_state_dir,
			strerror(-rc));
}

static const char *text_in(const json_t *item, const char *key)
{
	const char *text = json_string_value(json_object_get(item, key));
	return text ? text : "";
}

int ctl_tool_audit_log(struct ctl_tool *tool, int words, char **word)
{
	long limit = DEFAULT_ITEMS;
	char *end;
	int error;

	if (words == 2 && strcmp(word[0], "--limit") == 0) {
		limit = strtol(word[1], &end, 10);
		if (*end || end == word[1] || limit < 1 || limit > CTL_AUDIT_ITEMS_MAX) {
			fprintf(stderr, "turnpikectl: --limit: expected a number from 1 to %d, found \"%s\"\n", CTL_AUDIT_ITEMS_MAX,
				word[1]);
			return 2;
		}
	} else if (words) {
		return 2;
	}
	json_t *page = ctl_audit_log_read(tool->config.control_state_dir, UINT64_MAX, (uint32_t)limit, &error);
	if (!page) {
		fprintf(stderr, "turnpikectl: %s/audit.log: %s\n", tool->config.control_state_dir, strerror(error));
		return 1;
	}
	if (tool->json)
		return ctl_tool_print(page);
	const json_t *items = json_object_get(page, "items");
	for (size_t i = json_array_size(items); i-- > 0;) { /* the newest last, as in the file */
		const json_t *item = json_array_get(items, i);
		if (json_object_get(item, "damaged"))
			printf("damaged: %s\n", text_in(item, "damaged"));
		else
			printf("%-24s  %-24s  %-15s  %-28s  %-8s  %s\n", text_in(item, "time"), text_in(item, "who"),
			       text_in(item, "from"), text_in(item, "act"), text_in(item, "result"), text_in(item, "detail"));
	}
	json_decref(page);
	return fflush(stdout) ? 1 : 0;
}
