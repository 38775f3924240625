/* What verbs ask the node with: the live view, and the command socket. See tool.h. */
#include "tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ctl_tool_attach(const struct ctl_tool *tool, const struct tp_live **live, int *connection)
{
	int rc = tp_live_attach(tool->config.data_dir, live, connection);
	if (rc)
		fprintf(stderr, "turnpikectl: no running data process for %s: %s\n", tool->config.data_dir, strerror(-rc));
	return rc;
}

int ctl_tool_refusal(const json_t *answer)
{
	const char *code = json_string_value(json_object_get(answer, "code"));
	return code && !strcmp(code, "bad_argument") ? 2 : 1;
}

json_t *ctl_tool_ask(const struct ctl_tool *tool, const char *line, int *status)
{
	enum { ANSWER_BYTES = 16 << 20, SEAL_MS = 90000 /* the data process gives up before */ };
	*status = 1;
	int fd = tp_command_connect(tool->config.data_dir);
	if (fd < 0) {
		fprintf(stderr, "turnpikectl: no running data process for %s: %s\n", tool->config.data_dir, strerror(-fd));
		return NULL;
	}
	char *text = malloc(ANSWER_BYTES);
	int rc = -ENOMEM;
	if (text)
		rc = strcmp(line, "seal") ? tp_command_call(fd, line, text, ANSWER_BYTES, NULL)
					  : tp_command_call_long(fd, line, text, ANSWER_BYTES, SEAL_MS);
	close(fd);
	json_t *answer = rc ? NULL : json_loads(text, 0, NULL);
	free(text);
	if (!answer) {
		fprintf(stderr, "turnpikectl: the data process did not answer: %s\n", strerror(rc ? -rc : EPROTO));
		return NULL;
	}
	if (!json_is_true(json_object_get(answer, "ok"))) {
		const char *error = json_string_value(json_object_get(answer, "error"));
		fprintf(stderr, "turnpikectl: %s\n", error ? error : "refused");
		*status = ctl_tool_refusal(answer);
		json_decref(answer);
		return NULL;
	}
	*status = 0;
	return answer;
}

json_t *ctl_tool_command(const struct ctl_tool *tool, const char *line)
{
	int status;
	return ctl_tool_ask(tool, line, &status);
}

int ctl_tool_print(json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER);
	puts(text ? text : "null");
	free(text);
	json_decref(value);
	return fflush(stdout) ? 1 : 0;
}

void ctl_tool_counters(const struct tp_live *live, struct tp_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (uint32_t i = 0; i < live->cores; i++)
		tp_counters_add(&live->core[i].counters, sum);
	tp_counters_add(&live->housekeeping, sum);
}
