/*
 * turnpikectl token create|list|revoke: bearer tokens of both processes. It writes the file in control.state_dir itself (common/token.h), so
 * it needs neither process to run; they take a change over within a second.
 */
#include "tool.h"

#include "turnpike/folder.h"
#include "turnpike/text.h"
#include "turnpike/token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STATE_MODE = 0750 };

static const char *state_dir(const struct ctl_tool *tool)
{
	return tool->config.control_state_dir;
}

/* Says what went wrong with the file. Returns the exit status. */
static int said(const struct ctl_tool *tool, int rc, uint32_t line)
{
	char path[4096];
	tp_tokens_path(state_dir(tool), path, sizeof path);
	if (rc == -EBADMSG && line)
		fprintf(stderr, "turnpikectl: %s:%u: expected a token's line, found damage; nothing was changed\n", path, line);
	else if (rc == -EBADMSG)
		fprintf(stderr, "turnpikectl: %s is damaged; nothing was changed\n", path);
	else if (rc == -ENOSPC)
		fprintf(stderr, "turnpikectl: there are %d tokens already, or no space for the file\n", TP_TOKENS_MAX);
	else
		fprintf(stderr, "turnpikectl: %s: %s\n", path, strerror(-rc));
	return 1;
}

static int create(struct ctl_tool *tool, int words, char **word)
{
	const char *scope = NULL, *name = NULL;
	uint64_t ttl_ns = 0;
	for (int i = 0; i < words; i++) {
		if (i + 1 == words)
			return 2;
		if (!strcmp(word[i], "--scope")) {
			scope = word[++i];
		} else if (!strcmp(word[i], "--name")) {
			name = word[++i];
		} else if (!strcmp(word[i], "--ttl")) {
			i++;
			if (tp_duration_parse(word[i], strlen(word[i]), &ttl_ns) || ttl_ns < 1000000) {
				fprintf(stderr, "turnpikectl: --ttl: expected a duration such as 30d, found \"%s\"\n", word[i]);
				return 2;
			}
		} else {
			return 2;
		}
	}
	struct tp_token token;
	if (!scope)
		return 2;
	if (tp_scope_parse(scope, &token)) {
		fprintf(stderr, "turnpikectl: --scope: expected ingest, read, read:advertiser:ID or admin, found \"%s\"\n", scope);
		return 2;
	}
	if (name && strlen(name) > TP_TOKEN_NAME_BYTES) {
		fprintf(stderr, "turnpikectl: --name: expected at most %d bytes\n", TP_TOKEN_NAME_BYTES);
		return 2;
	}
	char text[TP_TOKEN_TEXT_BYTES + 1];
	int rc = tp_folder_make(state_dir(tool), STATE_MODE);
	if (!rc)
		rc = tp_token_create(state_dir(tool), scope, name, tp_now_ms(), ttl_ns / 1000000, text, &token);
	if (rc)
		return said(tool, rc, 0);
	if (tool->json)
		return ctl_tool_print(json_pack("{s:s, s:s, s:s}", "id", token.id, "token", text, "scope", scope));
	printf("%s\n", text);
	fprintf(stderr, "turnpikectl: token %s with the scope %s; it is shown only now\n", token.id, scope);
	return fflush(stdout) ? 1 : 0;
}

static json_t *stamp(uint64_t ms)
{
	char text[32];
	if (!ms)
		return json_null();
	tp_time_text(ms, text);
	return json_string(text);
}

static int by_age(const void *left, const void *right)
{
	const struct tp_token *a = left, *b = right;
	if (a->created_ms != b->created_ms)
		return a->created_ms < b->created_ms ? -1 : 1;
	return strcmp(a->id, b->id);
}

static int list(struct ctl_tool *tool)
{
	struct tp_tokens *tokens;
	uint32_t line;
	int rc = tp_tokens_load(state_dir(tool), &tokens, &line);
	if (rc)
		return said(tool, rc, line);
	uint64_t now_ms = tp_now_ms();
	json_t *items = json_array();
	qsort(tokens->token, tokens->count, sizeof tokens->token[0], by_age);
	if (!tool->json)
		printf("%-12s  %-32s %-20s %-20s %s\n", "ID", "SCOPE", "CREATED", "EXPIRES", "NAME");
	for (uint32_t i = 0; i < tokens->count; i++) {
		const struct tp_token *token = &tokens->token[i];
		char scope[TP_TOKEN_SCOPE_BYTES], created[32], expires[48] = "never";
		tp_scope_text(token, scope);
		bool expired = token->expires_ms && token->expires_ms <= now_ms;
		if (tool->json) {
			json_array_append_new(items, json_pack("{s:s, s:s, s:s, s:o, s:o, s:b}", "id", token->id, "scope", scope,
							       "name", token->name, "created", stamp(token->created_ms), "expires",
							       stamp(token->expires_ms), "expired", expired));
			continue;
		}
		tp_time_text(token->created_ms / 1000 * 1000, created);
		if (token->expires_ms)
			tp_time_text(token->expires_ms / 1000 * 1000, expires);
		printf("%-12s  %-32s %-20s %-20s %s%s\n", token->id, scope, created, expires, token->name,
		       expired ? " (expired)" : "");
	}
	free(tokens);
	if (tool->json)
		return ctl_tool_print(json_pack("{s:o}", "items", items));
	json_decref(items);
	return fflush(stdout) ? 1 : 0;
}

int ctl_tool_token(struct ctl_tool *tool, int words, char **word)
{
	if (words >= 1 && !strcmp(word[0], "create"))
		return create(tool, words - 1, word + 1);
	if (words == 1 && !strcmp(word[0], "list"))
		return list(tool);
	if (words != 2 || strcmp(word[0], "revoke"))
		return 2;
	int rc = tp_token_revoke(state_dir(tool), word[1]);
	if (rc == -ENOENT) {
		fprintf(stderr, "turnpikectl: there is no token %s\n", word[1]);
		return 1;
	}
	return rc ? said(tool, rc, 0) : 0;
}
