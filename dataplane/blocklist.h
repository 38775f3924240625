/*
 * The blocklist: prefixes with reason, expiry and a count-only mode, from the list files of the configuration and from the operator
 * (tool, API), whose entries are kept in <data_dir>/blocklist over restarts. One list, enforced wherever a packet comes in: the XDP
 * program, a NIC's flow rules, the rx core. docs/blocklist.md says what the operator may rely on.
 *
 * The command thread owns it; dp_blocklist_open() and close() are the main thread's. Cores read one immutable view, which is swapped
 * whole: dp_blocklist_blocked() on rx cores, which counts the hit, dp_blocklist_listed() on any.
 *
 * Of prefixes that hold an address the longest decides alone. Of the same prefix from several places one stands: the operator's
 * before a file's, an earlier file's before a later one's.
 */
#ifndef TURNPIKE_BLOCKLIST_H
#define TURNPIKE_BLOCKLIST_H

#include "turnpike/addr.h"
#include "turnpike/config.h"
#include "turnpike/xdp.h"

#include <jansson.h>
#include <stdint.h>

struct dp_blocklist;
struct dp_blocklist_reader; /* one rx core's: the view, and hit counts that it alone writes */

enum {
	DP_BLOCKLIST_MAX = EB_PREFIXES_MAX, /* entries in force, of both families together */
	DP_BLOCKLIST_OWN_MAX = 65536,       /* of them the operator's */
	DP_BLOCKLIST_REASON_BYTES = 128,
};

struct dp_blocklist_hooks {
	/* Returns once no core can still hold the view that was current before the call. */
	void (*synchronize)(void *context);
	/* Pushes the entries in force to where packets come in (XDP maps, flow rules). 0 or -errno. May be NULL. */
	int (*enforce)(void *context, const struct eb_block *list, uint32_t count);
	/* Adds what those places have hit, by slot; each sum only ever grows. 0 or -errno. May be NULL. */
	int (*hits)(void *context, uint64_t *hits, uint32_t slots);
	void *context;
};

struct dp_blocklist_options {
	const char *data_dir;
	const struct tp_config_list_file *file;
	uint32_t files;
	uint32_t readers; /* rx cores */
	struct dp_blocklist_hooks hooks;
};

/*
 * Loads the operator's entries and the files. Expired entries are left out. A damaged store or a file that cannot be read is an error,
 * logged: the node shall not start half open. Cold.
 */
int dp_blocklist_open(struct dp_blocklist **list, const struct dp_blocklist_options *options);
void dp_blocklist_close(struct dp_blocklist *list);
struct dp_blocklist_reader *dp_blocklist_reader(struct dp_blocklist *list, uint32_t rx);

/* Adds or replaces. expires_ms 0: never. Stored and in force when it returns 0; -ENOSPC: the list is full; other -errno. */
int dp_blocklist_add(struct dp_blocklist *list, const struct tp_prefix *prefix, uint64_t now_ms, uint64_t expires_ms,
		     bool count_only, const char *reason);
/* Takes back the operator's entry; a file's that it stood before is in force again. -ENOENT; -EPERM: it is only in a file. */
int dp_blocklist_del(struct dp_blocklist *list, const struct tp_prefix *prefix);
/*
 * To be called twice a second: drops what has expired, and takes over list files that have changed and then stood still for one call.
 * A file that cannot be read leaves its former entries in force.
 */
void dp_blocklist_tick(struct dp_blocklist *list, uint64_t now_ms);
/* Takes over another set of files (a reload), reading each anew. 0, or -errno where one cannot be read: then nothing changes. */
int dp_blocklist_files(struct dp_blocklist *list, const struct tp_config_list_file *file, uint32_t files);
/* Pushes the present list to the hooks once more: after ports have opened. */
int dp_blocklist_enforce(struct dp_blocklist *list);

/*
 * {"items":[…],"next":"PREFIX"|null,"total":n,"files":[…]}: up to `limit` entries in order of address, those after `after` (NULL:
 * from the first). The caller's. NULL: no memory.
 */
json_t *dp_blocklist_json(struct dp_blocklist *list, const struct tp_prefix *after, uint32_t limit);
uint32_t dp_blocklist_entries(const struct dp_blocklist *list);
uint64_t dp_blocklist_bad_lines(const struct dp_blocklist *list); /* met in list files since the start */

/* Answers what follows "blocklist " on the command socket; cuts `command`. The caller's; NULL: no memory. */
json_t *dp_blocklist_command(struct dp_blocklist *list, char *command);

/* For the rx core of this reader: is this peer blocked now? Counts the hit. context: struct dp_blocklist_reader. */
bool dp_blocklist_blocked(void *context, const struct tp_addr *peer);
/* For any core: does an entry that drops hold this address now? Counts nothing. context: struct dp_blocklist. */
bool dp_blocklist_listed(const void *context, const struct tp_addr *addr);

#endif
