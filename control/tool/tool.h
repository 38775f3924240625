/*
 * turnpikectl's parts. Each verb is one function: it gets the words after its name, prints, and returns the exit status:
 * 0 fine, 1 failed (or, for audit, the books do not balance), 2 bad usage.
 */
#ifndef TURNPIKE_TOOL_H
#define TURNPIKE_TOOL_H

#include "turnpike/config.h"
#include "turnpike/live.h"

#include <jansson.h>

struct ctl_tool {
	struct tp_config config;
	bool json;
};

int ctl_tool_status(struct ctl_tool *tool, int words, char **word);
int ctl_tool_top(struct ctl_tool *tool, int words, char **word);
int ctl_tool_audit(struct ctl_tool *tool, int words, char **word);
int ctl_tool_audit_log(struct ctl_tool *tool, int words, char **word);
int ctl_tool_billing(struct ctl_tool *tool, int words, char **word);
int ctl_tool_blocklist(struct ctl_tool *tool, int words, char **word);
int ctl_tool_dlq(struct ctl_tool *tool, int words, char **word);
int ctl_tool_log(struct ctl_tool *tool, int words, char **word);
int ctl_tool_fraud(struct ctl_tool *tool, int words, char **word);
int ctl_tool_segments(struct ctl_tool *tool, int words, char **word);
int ctl_tool_backup(struct ctl_tool *tool, int words, char **word);
int ctl_tool_restore(struct ctl_tool *tool, int words, char **word);
int ctl_tool_discrepancy(struct ctl_tool *tool, int words, char **word);
int ctl_tool_reconcile(struct ctl_tool *tool, int words, char **word);
int ctl_tool_retention(struct ctl_tool *tool, int words, char **word);
int ctl_tool_doctor(struct ctl_tool *tool, int words, char **word);
int ctl_tool_token(struct ctl_tool *tool, int words, char **word);

int ctl_tool_why(struct ctl_tool *tool, int words, char **word);

int ctl_tool_perf(struct ctl_tool *tool, int words, char **word);
int ctl_tool_ports(struct ctl_tool *tool, int words, char **word);
int ctl_tool_connections(struct ctl_tool *tool, int words, char **word);
int ctl_tool_trace(struct ctl_tool *tool, int words, char **word);
int ctl_tool_capture(struct ctl_tool *tool, int words, char **word);

/* Attaches to the running data process, or says that there is none and returns non-zero. */
int ctl_tool_attach(const struct ctl_tool *tool, const struct tp_live **live, int *connection);

/* Sends one command line; the answer is the caller's. NULL: said on stderr (no data process, or "ok":false). */
json_t *ctl_tool_command(const struct ctl_tool *tool, const char *line);
/* The same; *status is what the tool then exits with: 0, 1, or 2 when the data process found the words wrong. */
json_t *ctl_tool_ask(const struct ctl_tool *tool, const char *line, int *status);
/* The exit status of an answer that says no. */
int ctl_tool_refusal(const json_t *answer);

/* Prints and releases a JSON value: one line. Returns 0. */
int ctl_tool_print(json_t *value);

/* Sums of all cores' and the background threads' counters. */
void ctl_tool_counters(const struct tp_live *live, struct tp_counters *sum);

#endif
