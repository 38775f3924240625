/*
 * Tokens: their text, their scopes, and finding one. See token.h. Rx cores and the control process' threads enter tp_token_find().
 *
 * A look-up hashes the text first and compares hashes only, so how long it takes tells nothing of any token.
 */
#include "turnpike/token.h"

#include "turnpike/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const scope_name[] = {
	[TP_SCOPE_INGEST] = "ingest",
	[TP_SCOPE_READ] = "read",
	[TP_SCOPE_READ_ADVERTISER] = "read:advertiser:",
	[TP_SCOPE_ADMIN] = "admin",
};

int tp_scope_parse(const char *text, struct tp_token *token)
{
	static const int plain[] = {TP_SCOPE_INGEST, TP_SCOPE_READ, TP_SCOPE_ADMIN};
	token->advertiser[0] = '\0';
	for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
		if (strcmp(text, scope_name[plain[i]]) == 0) {
			token->scope = (uint8_t)plain[i];
			return 0;
		}
	}
	size_t bytes = strlen(scope_name[TP_SCOPE_READ_ADVERTISER]);
	if (strncmp(text, scope_name[TP_SCOPE_READ_ADVERTISER], bytes) != 0)
		return -EINVAL;
	size_t rest = strlen(text + bytes);
	if (rest == 0 || rest > TP_TOKEN_NAME_BYTES)
		return -EINVAL;
	memcpy(token->advertiser, text + bytes, rest + 1);
	token->scope = TP_SCOPE_READ_ADVERTISER;
	return 0;
}

const char *tp_scope_text(const struct tp_token *token, char to[TP_TOKEN_SCOPE_BYTES])
{
	snprintf(to, TP_TOKEN_SCOPE_BYTES, "%s%s", scope_name[token->scope], token->advertiser);
	return to;
}

const struct tp_token *tp_token_find(const struct tp_tokens *tokens, const char *text, size_t bytes, uint64_t now_ms)
{
	uint8_t hash[TP_SHA256_BYTES];
	if (bytes != TP_TOKEN_TEXT_BYTES || memcmp(text, "tpt_", 4) != 0)
		return NULL;
	tp_sha256(text, bytes, hash);
	uint32_t low = 0, high = tokens->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct tp_token *token = &tokens->token[middle];
		int order = memcmp(hash, token->hash, sizeof hash);
		if (order == 0)
			return token->expires_ms == 0 || now_ms < token->expires_ms ? token : NULL;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
