/*
 * /api/v1/blocklist: the data process's blocklist, through its command socket. Connection threads; each asks on a connection of its
 * own and waits 5 s at most. docs/blocklist.md says what entries mean, docs/queries.md what is asked and answered here.
 *
 * A page elsewhere must not make a visitor's browser change the list: what changes it needs a content type, or a method, that a browser
 * asks about first (a CORS preflight, which nobody here answers), and an Origin, where there is one, that is our own. ctl_http.c.
 */
#include "ctl.h"
#include "turnpike/live.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_BYTES = 8 << 20, REASON_BYTES_MAX = 127 };

/* Asks the data process. NULL: the reply says why not. */
static json_t *command(struct ctl *ctl, const char *line, struct ctl_reply *reply)
{
	const int fd = tp_command_connect(ctl->config.data_dir);
	char *text = fd < 0 ? NULL : malloc(ANSWER_BYTES);
	const int rc = text ? tp_command_call(fd, line, text, ANSWER_BYTES, NULL) : fd < 0 ? fd : -ENOMEM;
	json_t *answer = rc ? NULL : json_loads(text, 0, NULL);

	free(text);
	if (fd >= 0)
		close(fd);
	if (!answer) {
		ctl_reply_problem(reply, 503, "data-process-away", NULL, "the data process does not answer: %s",
				  strerror(rc ? -rc : EPROTO));
		return NULL;
	}
	if (json_is_true(json_object_get(answer, "ok")))
		return answer;
	const char *code = json_string_value(json_object_get(answer, "code"));
	const char *error = json_string_value(json_object_get(answer, "error"));
	const bool absent = code && strcmp(code, "absent") == 0, full = code && strcmp(code, "full") == 0;
	const bool held = code && strcmp(code, "in_file") == 0;
	ctl_reply_problem(reply,
			  absent ? 404
			  : held ? 409
			  : full ? 507
			  : code ? 500
				 : 400,
			  absent ? "not-listed"
			  : held ? "in-list-file"
			  : full ? "blocklist-full"
			  : code ? "not-stored"
				 : "bad-entry",
			  NULL, "%s", error ? error : "refused");
	json_decref(answer);
	return NULL;
}

/* A prefix that is one, without blanks that would end it on the command line. */
static bool prefix_take(const char *text, size_t bytes, const char *parameter, char to[TP_PREFIX_TEXT_BYTES],
			struct ctl_reply *reply)
{
	struct tp_prefix prefix;

	if (text && tp_prefix_parse(text, bytes, &prefix) == 0) {
		tp_prefix_text(&prefix, to);
		return true;
	}
	ctl_reply_problem(reply, 400, "bad-parameter", parameter, "expected an IPv4 or IPv6 prefix such as 192.0.2.0/24");
	return false;
}

static void list(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	static const char *const names[] = {"after", "limit"};
	const struct ctl_text *after = ctl_target_param(target, "after"), *limit = ctl_target_param(target, "limit");
	char line[160] = "blocklist list", prefix[TP_PREFIX_TEXT_BYTES];

	if (!ctl_target_known(target, names, 2, reply))
		return;
	if (limit && (limit->bytes == 0 || limit->bytes > 5 || strspn(limit->at, "0123456789") != limit->bytes ||
		      atoi(limit->at) < 1 || atoi(limit->at) > 10000)) {
		ctl_reply_problem(reply, 400, "bad-parameter", "limit", "expected a number from 1 to 10000");
		return;
	}
	if (limit)
		sprintf(line + strlen(line), " limit=%d", atoi(limit->at));
	if (after) {
		if (!prefix_take(after->at, after->bytes, "after", prefix, reply))
			return;
		sprintf(line + strlen(line), " after=%s", prefix);
	}
	json_t *answer = command(ctl, line, reply);
	if (!answer)
		return;
	json_object_del(answer, "ok");
	ctl_reply_json(reply, answer);
}

/* The time that an entry shall live, in ms; 0: for ever. */
static bool ttl_take(const json_t *value, uint64_t *ms, struct ctl_reply *reply)
{
	uint64_t ns = 0;
	const char *text = json_string_value(value);

	*ms = 0;
	if (!value || json_is_null(value))
		return true;
	if (text && tp_duration_parse(text, strlen(text), &ns) == 0 && ns >= 1000000) {
		*ms = ns / 1000000;
		return true;
	}
	ctl_reply_problem(reply, 400, "bad-parameter", "ttl",
			  "expected a duration such as \"1h\", or null for an entry without end");
	return false;
}

static void add(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	static const char *const known[] = {"prefix", "ttl", "reason", "count_only", NULL};
	json_t *body = json_loadb(target->body, target->body_bytes, JSON_REJECT_DUPLICATES, NULL), *answer = NULL;
	const json_t *count_only = json_object_get(body, "count_only"), *reason = json_object_get(body, "reason");
	const char *prefix_text = json_string_value(json_object_get(body, "prefix")), *key;
	const char *reason_text = reason ? json_string_value(reason) : "";
	char line[512], prefix[TP_PREFIX_TEXT_BYTES];
	uint64_t ttl_ms = 0;
	json_t *value;
	bool good = json_is_object(body);

	if (!good)
		ctl_reply_problem(reply, 400, "bad-body", NULL,
				  "expected a JSON object with prefix, and perhaps ttl, reason and count_only");
	json_object_foreach(body, key, value)
	{
		bool is = false;
		for (const char *const *name = known; *name; name++)
			is = is || strcmp(key, *name) == 0;
		if (good && !is)
			ctl_reply_problem(reply, 400, "bad-parameter", key, "expected prefix, ttl, reason or count_only");
		good = good && is;
	}
	if (good && count_only && !json_is_boolean(count_only)) {
		good = false;
		ctl_reply_problem(reply, 400, "bad-parameter", "count_only", "expected true or false");
	}
	if (good && (!reason_text || strlen(reason_text) > REASON_BYTES_MAX || strpbrk(reason_text, "\r\n"))) {
		good = false;
		ctl_reply_problem(reply, 400, "bad-parameter", "reason", "expected one line of at most 127 bytes");
	}
	good = good && ttl_take(json_object_get(body, "ttl"), &ttl_ms, reply);
	good = good && prefix_take(prefix_text, prefix_text ? strlen(prefix_text) : 0, "prefix", prefix, reply);
	if (good) {
		snprintf(line, sizeof(line), "blocklist add %s ttl_ms=%" PRIu64 " count_only=%d reason=%s", prefix, ttl_ms,
			 json_is_true(count_only), reason_text);
		answer = command(ctl, line, reply);
	}
	if (answer)
		reply->status = 204;
	json_decref(answer);
	json_decref(body);
}

static void del(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	/* …/blocklist/192.0.2.0%2F24, or …/blocklist?prefix=192.0.2.0/24 */
	const struct ctl_text *text = target->segments == 4 ? &target->segment[3] : ctl_target_param(target, "prefix");
	static const char *const names[] = {"prefix"};
	char line[128], prefix[TP_PREFIX_TEXT_BYTES];

	if (!ctl_target_known(target, names, target->segments != 4, reply))
		return;
	if (!prefix_take(text ? text->at : NULL, text ? text->bytes : 0, "prefix", prefix, reply))
		return;
	snprintf(line, sizeof(line), "blocklist del %s", prefix);
	json_t *answer = command(ctl, line, reply);
	if (answer)
		reply->status = 204;
	json_decref(answer);
}

void ctl_blocklist(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	if (target->method == CTL_POST)
		add(ctl, target, reply);
	else if (target->method == CTL_DELETE)
		del(ctl, target, reply);
	else if (target->segments == 4)
		ctl_reply_problem(reply, 404, "not-found", NULL,
				  "an entry has no page of its own: GET /api/v1/blocklist lists them");
	else
		list(ctl, target, reply);
}
