/*
 * Where the blocklist's entries come from: list files (blocklist_file.c) and the operator's store (blocklist_store.c). Private to
 * blocklist*.c. Main thread at start, then the command thread.
 */
#ifndef TURNPIKE_BLOCKLIST_SOURCE_H
#define TURNPIKE_BLOCKLIST_SOURCE_H

#include "blocklist.h"

#include <sys/types.h>
#include <time.h>

struct dp_block_entry {
	struct tp_prefix prefix;       /* host bits clear */
	uint64_t added_ms, expires_ms; /* expires_ms 0: never */
	const char *reason;            /* owned by the source; "" where there is none */
	uint32_t line;                 /* in a file, else 0 */
	bool count_only;
};

/* By family, then address, then length: the order of every list of entries. */
int dp_block_order(const struct tp_prefix *a, const struct tp_prefix *b);
/* The prefix with its host bits cleared: how it is kept and shown. */
struct tp_prefix dp_block_masked(const struct tp_prefix *prefix);

/* ---- list files ---- */

/* What tells one state of a file from another. */
struct dp_block_stamp {
	struct timespec modified;
	off_t bytes;
	ino_t inode;
	dev_t device;
};

struct dp_block_list {
	char *path;
	bool count_only;
	struct dp_block_entry *entry; /* sorted, each prefix once: the first of the file */
	uint32_t entries;
	uint32_t bad_lines;
	char *text; /* the file; the reasons lie in it */
	uint64_t loaded_ms;
	struct dp_block_stamp stamp;   /* of what was read last, whether it could be used or not */
	struct dp_block_stamp waiting; /* seen once: taken when it stands still */
	int error;                     /* -errno of the last look; 0: what is in force is what is there */
};

bool dp_block_stamp_equal(const struct dp_block_stamp *a, const struct dp_block_stamp *b);
int dp_block_stamp_look(const char *path, struct dp_block_stamp *stamp); /* 0 or -errno */
/*
 * Reads a file. Lines that are no prefix are named in the log, counted and left out. 0; -E2BIG: more than DP_BLOCKLIST_MAX entries;
 * -EFBIG: more bytes than a list of that many can have; -EAGAIN: it changed meanwhile; other -errno. On error *list has no entries.
 */
int dp_block_list_read(struct dp_block_list *list, const char *path, bool count_only, uint64_t now_ms);
void dp_block_list_free(struct dp_block_list *list);

/* ---- the operator's store ---- */

/*
 * Reads <directory>/blocklist into entry[0..DP_BLOCKLIST_OWN_MAX), sorted, without the expired; reasons are malloc'ed. 0, none there
 * included; -EBADMSG: damaged, logged with the line.
 */
int dp_block_store_read(const char *directory, uint64_t now_ms, struct dp_block_entry *entry, uint32_t *entries);
/* Replaces it, synced; after 0 it is there after any crash, after an error the former is. */
int dp_block_store_write(const char *directory, const struct dp_block_entry *entry, uint32_t entries);

#endif
