/*
 * turnpikectl blocklist add|del|list: through the command socket.
 */
#include "tool.h"

#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 1024 };

static int add(struct ctl_tool *tool, int words, char **word)
{
	const char *prefix_text = NULL, *reason = "";
	uint64_t ttl_ns = 0;
	bool count_only = false;
	for (int i = 0; i < words; i++) {
		if (!strcmp(word[i], "--ttl") && i + 1 < words) {
			i++;
			if (tp_duration_parse(word[i], strlen(word[i]), &ttl_ns) || ttl_ns < 1000000) {
				fprintf(stderr, "turnpikectl: --ttl: expected a duration such as 1h, found \"%s\"\n", word[i]);
				return 2;
			}
		} else if (!strcmp(word[i], "--reason") && i + 1 < words) {
			reason = word[++i];
		} else if (!strcmp(word[i], "--count-only")) {
			count_only = true;
		} else if (!prefix_text && word[i][0] != '-') {
			prefix_text = word[i];
		} else {
			return 2;
		}
	}
	if (!prefix_text)
		return 2;
	struct tp_prefix prefix;
	if (tp_prefix_parse(prefix_text, strlen(prefix_text), &prefix)) {
		fprintf(stderr, "turnpikectl: expected an IPv4 or IPv6 prefix such as 192.0.2.0/24, found \"%s\"\n", prefix_text);
		return 2;
	}
	if (strpbrk(reason, "\n\r") || strlen(reason) > 127) {
		fprintf(stderr, "turnpikectl: --reason: expected one line of at most 127 bytes\n");
		return 2;
	}
	char line[LINE_BYTES];
	snprintf(line, sizeof(line), "blocklist add %s ttl_ms=%" PRIu64 " count_only=%d reason=%s", prefix_text, ttl_ns / 1000000,
		 count_only, reason);
	json_t *answer = ctl_tool_command(tool, line);
	if (!answer)
		return 1;
	if (tool->json)
		return ctl_tool_print(answer);
	json_decref(answer);
	return 0;
}

/* The whole list in one answer, page by page from the data process. NULL: said on stderr. */
static json_t *list_fetch(struct ctl_tool *tool)
{
	json_t *whole = NULL;
	char line[LINE_BYTES] = "blocklist list limit=10000";
	for (bool more = true; more;) {
		json_t *page = ctl_tool_command(tool, line);
		if (!page) {
			json_decref(whole);
			return NULL;
		}
		const char *next = json_string_value(json_object_get(page, "next"));
		more = next != NULL;
		if (more)
			snprintf(line, sizeof(line), "blocklist list limit=10000 after=%s", next);
		if (whole) {
			json_array_extend(json_object_get(whole, "items"), json_object_get(page, "items"));
			json_decref(page);
		} else {
			whole = page;
		}
	}
	json_object_del(whole, "ok");
	json_object_del(whole, "next");
	return whole;
}

static void files_print(const json_t *files)
{
	size_t i;
	json_t *file;
	json_array_foreach(files, i, file)
	{
		const char *error = json_string_value(json_object_get(file, "error"));
		printf("file %s: %lld entries, %lld bad lines%s%s%s\n", json_string_value(json_object_get(file, "file")),
		       (long long)json_integer_value(json_object_get(file, "entries")),
		       (long long)json_integer_value(json_object_get(file, "bad_lines")),
		       json_is_true(json_object_get(file, "count_only")) ? ", only counted" : "", error ? ", now: " : "",
		       error ? error : "");
	}
}

static int list(struct ctl_tool *tool)
{
	json_t *answer = list_fetch(tool);
	if (!answer)
		return 1;
	if (tool->json)
		return ctl_tool_print(answer);
	size_t i;
	json_t *item;
	printf("%-42s %-10s %-22s %10s  %s\n", "PREFIX", "MODE", "EXPIRES", "HITS", "REASON");
	json_array_foreach(json_object_get(answer, "items"), i, item)
	{
		char expires[32] = "never";
		json_t *expires_ms = json_object_get(item, "expires_ms");
		const char *file = json_string_value(json_object_get(item, "file"));
		if (json_is_integer(expires_ms))
			tp_time_text((uint64_t)json_integer_value(expires_ms), expires);
		printf("%-42s %-10s %-22s %10lld  %s%s%s%s\n", json_string_value(json_object_get(item, "prefix")),
		       json_is_true(json_object_get(item, "count_only")) ? "count-only" : "drop", expires,
		       (long long)json_integer_value(json_object_get(item, "hits")),
		       json_string_value(json_object_get(item, "reason")), file ? " (" : "", file ? file : "", file ? ")" : "");
	}
	files_print(json_object_get(answer, "files"));
	json_decref(answer);
	return 0;
}

int ctl_tool_blocklist(struct ctl_tool *tool, int words, char **word)
{
	if (words >= 2 && !strcmp(word[0], "add"))
		return add(tool, words - 1, word + 1);
	if (words == 1 && !strcmp(word[0], "list"))
		return list(tool);
	if (words != 2 || strcmp(word[0], "del"))
		return 2;
	struct tp_prefix prefix;
	if (tp_prefix_parse(word[1], strlen(word[1]), &prefix)) {
		fprintf(stderr, "turnpikectl: expected an IPv4 or IPv6 prefix such as 192.0.2.0/24, found \"%s\"\n", word[1]);
		return 2;
	}
	char line[LINE_BYTES];
	snprintf(line, sizeof(line), "blocklist del %s", word[1]);
	json_t *answer = ctl_tool_command(tool, line);
	if (!answer)
		return 1;
	if (tool->json)
		return ctl_tool_print(answer);
	json_decref(answer);
	return 0;
}
