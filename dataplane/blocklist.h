/*
 * The blocklist: prefixes with reason, expiry and a count-only mode; kept in <data_dir>/blocklist over restarts. The command thread
 * owns it; rx cores only ask dp_blocklist_blocked(), which reads an immutable view that is swapped whole.
 *
 * File: one line a prefix, "PREFIX ADDED_MS EXPIRES_MS COUNT_ONLY REASON…", expires 0 = never; replaced by rename, synced.
 */
#ifndef TURNPIKE_BLOCKLIST_H
#define TURNPIKE_BLOCKLIST_H

#include "turnpike/addr.h"

#include <jansson.h>
#include <stdint.h>

struct dp_blocklist;

enum { DP_BLOCKLIST_MAX = 65536, DP_BLOCKLIST_REASON_BYTES = 128 };

struct dp_blocklist_hooks {
	/* Returns once no rx core can still hold the view that was current before the call. */
	void (*synchronize)(void *context);
	/* Pushes the enforced prefixes to where packets come in (XDP maps). 0 or -errno. May be NULL. */
	int (*enforce)(void *context, const struct tp_prefix *list, uint32_t count);
	void *context;
};

/* Loads the file; expired lines are left out, broken ones are an error (-EBADMSG, logged with the line). Cold. */
int dp_blocklist_open(struct dp_blocklist **list, const char *data_dir, const struct dp_blocklist_hooks *hooks);
void dp_blocklist_close(struct dp_blocklist *list);

/* Adds or replaces. expires_ms 0: never. Stored and in force when it returns 0; -ENOSPC: the list is full; other -errno. */
int dp_blocklist_add(struct dp_blocklist *list, const struct tp_prefix *prefix, uint64_t now_ms, uint64_t expires_ms,
		     bool count_only, const char *reason);
int dp_blocklist_del(struct dp_blocklist *list, const struct tp_prefix *prefix); /* -ENOENT */
/* Drops what has expired. Returns how many. */
int dp_blocklist_expire(struct dp_blocklist *list, uint64_t now_ms);
/* Pushes the present list to the hooks once more: after ports have opened. */
int dp_blocklist_enforce(struct dp_blocklist *list);
json_t *dp_blocklist_json(const struct dp_blocklist *list); /* array; the caller's */
uint32_t dp_blocklist_entries(const struct dp_blocklist *list);

/* For rx cores: is this peer blocked now? Counts hits. context: struct dp_blocklist. */
bool dp_blocklist_blocked(void *context, const struct tp_addr *peer);

#endif
