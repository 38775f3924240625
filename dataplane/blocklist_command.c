/*
 * The blocklist's commands on the command socket (docs/command-socket.md): "list", "add", "del". Command thread.
 */
#include "blocklist.h"

#include "turnpike/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_LIMIT = 1000, LIST_LIMIT_MAX = 10000 };

#define WANTED_PREFIX "expected an IPv4 or IPv6 prefix such as 192.0.2.0/24"

/* A century: beyond it the sum with the clock would not mean a time any more. */
#define TTL_MS_MAX (100ULL * 365 * 86400 * 1000)

static json_t *refused(const char *error)
{
	return json_pack("{s:b, s:s}", "ok", 0, "error", error);
}

/* With a word that programs may go by. */
static json_t *refused_for(const char *code, const char *error)
{
	return json_pack("{s:b, s:s, s:s}", "ok", 0, "error", error, "code", code);
}

static json_t *result(int rc)
{
	return rc ? refused_for("not_stored", strerror(-rc)) : json_pack("{s:b}", "ok", 1);
}

static bool number_parse(const char *text, uint64_t most, uint64_t *to)
{
	const size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > 19 || text[digits] != '\0')
		return false;
	*to = strtoull(text, NULL, 10);
	return *to <= most;
}

static json_t *list_answer(struct dp_blocklist *list, char *arguments)
{
	struct tp_prefix after;
	uint64_t limit = LIST_LIMIT;
	bool from_start = true;
	char *save = NULL;

	for (char *word = strtok_r(arguments, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		if (!strncmp(word, "after=", 6) && tp_prefix_parse(word + 6, strlen(word + 6), &after) == 0)
			from_start = false;
		else if (strncmp(word, "limit=", 6) != 0 || !number_parse(word + 6, LIST_LIMIT_MAX, &limit) || limit == 0)
			return refused("expected limit=N from 1 to 10000, or after=PREFIX");
	}
	json_t *answer = dp_blocklist_json(list, from_start ? NULL : &after, (uint32_t)limit);
	if (answer)
		json_object_set_new(answer, "ok", json_true());
	return answer;
}

static json_t *add_answer(struct dp_blocklist *list, char *arguments)
{
	char *save = NULL, *word = strtok_r(arguments, " ", &save);
	struct tp_prefix prefix;
	uint64_t ttl_ms = 0;
	bool count_only = false;
	const char *reason = "";

	if (!word || tp_prefix_parse(word, strlen(word), &prefix))
		return refused(WANTED_PREFIX);
	while (save && *save) {
		if (!strncmp(save, "reason=", 7)) {
			reason = save + 7;
			break;
		}
		word = strtok_r(NULL, " ", &save);
		if (!word)
			break;
		if (!strcmp(word, "count_only=1"))
			count_only = true;
		else if (strcmp(word, "count_only=0") != 0 &&
			 (strncmp(word, "ttl_ms=", 7) != 0 || !number_parse(word + 7, TTL_MS_MAX, &ttl_ms)))
			return refused("expected ttl_ms=N up to a hundred years, count_only=0|1 or reason=TEXT");
	}
	json_t *text = json_string(reason); /* which is UTF-8 or nothing */
	if (!text || strlen(reason) >= DP_BLOCKLIST_REASON_BYTES) {
		json_decref(text);
		return refused("expected a reason of at most 127 bytes of UTF-8");
	}
	json_decref(text);
	const uint64_t now_ms = tp_now_ms();
	const int rc = dp_blocklist_add(list, &prefix, now_ms, ttl_ms ? now_ms + ttl_ms : 0, count_only, reason);
	return rc == -ENOSPC ? refused_for("full", "the blocklist is full, or the disk is") : result(rc);
}

static json_t *del_answer(struct dp_blocklist *list, const char *text)
{
	struct tp_prefix prefix;

	if (tp_prefix_parse(text, strlen(text), &prefix))
		return refused(WANTED_PREFIX);
	const int rc = dp_blocklist_del(list, &prefix);
	if (rc == -EPERM)
		return refused_for("in_file", "this prefix comes from a list file: take it out there, or add it with count_only=1");
	return rc == -ENOENT ? refused_for("absent", "not on the blocklist") : result(rc);
}

json_t *dp_blocklist_command(struct dp_blocklist *list, char *command)
{
	if (!strcmp(command, "list") || !strncmp(command, "list ", 5))
		return list_answer(list, command + 4);
	if (!strncmp(command, "add ", 4))
		return add_answer(list, command + 4);
	if (!strncmp(command, "del ", 4))
		return del_answer(list, command + 4);
	return refused("expected blocklist list, add or del");
}
