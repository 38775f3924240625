/*
 * Tokens and source keys in force: see access.h.
 *
 *   tokens file ──► struct tp_tokens ──┐ swapped whole, then `version` moves on, so that what rx cores keep of it is void
 *   source keys ──► dp_source_keys  ──┘ one set per ingest entry that names a file
 *
 * The old set is freed after every rx core has finished a round: none holds a pointer over rounds.
 */
#include "access.h"

#include "beacon/source_keys.h"
#include "turnpike/log.h"
#include "turnpike/token.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct source_file {
	const char *path; /* NULL: the entry names none */
	struct tp_file_seen seen;
	_Atomic(struct dp_source_keys *) keys; /* command thread writes, rx cores read */
};

struct dp_access {
	struct dp_access_hooks hooks;
	const char *state_dir;
	bool wants_tokens;
	char path[4096];
	struct tp_file_seen seen;
	_Atomic(struct tp_tokens *) tokens; /* command thread writes, rx cores read */
	_Atomic uint64_t version;           /* likewise */
	uint32_t entries;
	struct source_file file[];
};

static int keys_read(struct dp_access *access, struct source_file *file, uint32_t entry)
{
	char error[DP_SOURCE_KEYS_ERROR_BYTES];
	struct dp_source_keys *fresh;
	int rc = dp_source_keys_load(&fresh, file->path, error);
	if (rc) {
		tp_logf(TP_ERROR, "source keys not read", "ingest=%u path=\"%s\" error=\"%s\"", entry, file->path, error);
		return rc;
	}
	/* seq_cst: pairs with the fence of a core that wakes up, see core.h */
	struct dp_source_keys *old = atomic_exchange(&file->keys, fresh);
	if (old) {
		tp_logf(TP_INFO, "source keys read again", "ingest=%u path=\"%s\" keys=%u", entry, file->path, fresh->count);
		access->hooks.synchronize(access->hooks.context);
		dp_source_keys_free(old);
	}
	return 0;
}

static void tokens_read(struct dp_access *access)
{
	struct tp_tokens *fresh;
	uint32_t line;
	int rc = tp_tokens_load(access->state_dir, &fresh, &line);
	if (rc) {
		tp_logf(TP_ERROR, "tokens not read: those read last stay in force", "path=\"%s\" line=%u error=\"%s\"",
			access->path, line, strerror(-rc));
		return;
	}
	struct tp_tokens *old = atomic_exchange(&access->tokens, fresh);
	/* release: who sees the new version asks the new set; pairs with dp_permits_ask() */
	atomic_fetch_add_explicit(&access->version, 1, memory_order_release);
	if (old) {
		access->hooks.synchronize(access->hooks.context);
		free(old);
	}
}

void dp_access_refresh(struct dp_access *access, bool all)
{
	if (access->wants_tokens && (tp_file_changed(access->path, &access->seen) || all))
		tokens_read(access);
	for (uint32_t i = 0; i < access->entries; i++)
		if (access->file[i].path && (tp_file_changed(access->file[i].path, &access->file[i].seen) || all))
			keys_read(access, &access->file[i], i);
}

int dp_access_open(struct dp_access **out, const struct tp_config *config, const struct dp_access_hooks *hooks)
{
	struct dp_access *access = calloc(1, sizeof(*access) + config->ingest_count * sizeof(access->file[0]));
	if (!access)
		return -ENOMEM;
	access->hooks = *hooks;
	access->state_dir = config->control_state_dir;
	access->entries = config->ingest_count;
	tp_tokens_path(access->state_dir, access->path, sizeof(access->path));
	int rc = 0;
	for (uint32_t i = 0; i < access->entries && !rc; i++) {
		access->wants_tokens |= config->ingest[i].auth_tokens;
		access->file[i].path = config->ingest[i].source_keys;
		if (!access->file[i].path)
			continue;
		tp_file_changed(access->file[i].path,
				&access->file[i].seen); /* before the reading: a change during it shows later */
		rc = keys_read(access, &access->file[i], i);
	}
	if (rc) {
		dp_access_close(access);
		return rc;
	}
	dp_access_refresh(access, false);
	*out = access;
	return 0;
}

void dp_access_close(struct dp_access *access)
{
	if (!access)
		return;
	for (uint32_t i = 0; i < access->entries; i++)
		dp_source_keys_free(atomic_load(&access->file[i].keys));
	free(atomic_load(&access->tokens));
	free(access);
}

/* ---- rx cores ---- */

static bool token_ask(void *context, const char *text, size_t bytes, uint64_t now_ms, struct dp_permit *permit)
{
	struct dp_access *access = context;
	const struct tp_tokens *tokens = atomic_load_explicit(&access->tokens, memory_order_acquire);
	const struct tp_token *token = tokens ? tp_token_find(tokens, text, bytes, now_ms) : NULL;
	if (!token || (token->scope != TP_SCOPE_INGEST && token->scope != TP_SCOPE_ADMIN))
		return false;
	memcpy(&permit->who, token->hash, sizeof(permit->who));
	permit->until_ms = token->expires_ms ? token->expires_ms : UINT64_MAX;
	return true;
}

static const struct dp_source_keys *keys_ask(void *context, uint16_t ingest)
{
	struct dp_access *access = context;
	return atomic_load_explicit(&access->file[ingest].keys, memory_order_acquire);
}

void dp_access_options(struct dp_access *access, struct dp_beacon_options *options)
{
	options->permits = (struct dp_permit_source){.ask = token_ask, .context = access, .version = &access->version};
	options->source_keys = keys_ask;
	options->source_context = access;
}
