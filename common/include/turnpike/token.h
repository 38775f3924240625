/*
 * Bearer tokens: who may send beacons, read reports, administer. The tool makes and revokes them, the control process and the data
 * process check them; the file is all that they share.
 *
 * File: <control.state_dir>/tokens, mode 0600, replaced by rename and synced. Its first line is "turnpike-tokens 1"; then one line a token:
 *
 *   ID SHA256 SCOPE CREATED_MS EXPIRES_MS NAME
 *
 *   ID       12 hex digits, which name the token to people and are no secret
 *   SHA256   of the token's text, 64 hex digits: the token is 256 random bits, so nothing slower is needed against guessing
 *   SCOPE    ingest, read, read:advertiser:ID or admin
 *   EXPIRES  0: never
 *   NAME     "-": none. In SCOPE and NAME a space, a control character, '%' and what is no ASCII stand as %XX
 *
 * A token's text is "tpt_" and 43 letters of base64url; it is shown once, when it is made, and stored nowhere.
 */
#ifndef TURNPIKE_TOKEN_H
#define TURNPIKE_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tp_scope { TP_SCOPE_INGEST, TP_SCOPE_READ, TP_SCOPE_READ_ADVERTISER, TP_SCOPE_ADMIN };

enum {
	TP_TOKENS_MAX = 16384,
	TP_TOKEN_TEXT_BYTES = 47, /* exactly, without a NUL */
	TP_TOKEN_ID_BYTES = 12,
	TP_TOKEN_NAME_BYTES = 64,
	TP_TOKEN_SCOPE_BYTES = 96, /* of a scope as text, with its NUL */
};

struct tp_token {
	uint8_t hash[32];
	char id[TP_TOKEN_ID_BYTES + 1];
	char name[TP_TOKEN_NAME_BYTES + 1];
	char advertiser[TP_TOKEN_NAME_BYTES + 1]; /* of TP_SCOPE_READ_ADVERTISER, else "" */
	uint8_t scope;                            /* enum tp_scope */
	uint64_t created_ms, expires_ms;          /* expires_ms 0: never */
};

/* An immutable set; any number of threads may look into it. */
struct tp_tokens {
	uint32_t count;
	struct tp_token token[]; /* by hash */
};

/*
 * Reads the file of `state_dir`. No file: no tokens, which is no error. -EBADMSG: a damaged file; *line says where. Other -errno: it cannot
 * be read. Free with free().
 */
int tp_tokens_load(const char *state_dir, struct tp_tokens **tokens, uint32_t *line);

/* The token of this text if it is in the set and has not expired at now_ms, else NULL. No allocation. Any bytes may be given. */
const struct tp_token *tp_token_find(const struct tp_tokens *tokens, const char *text, size_t bytes, uint64_t now_ms);

/* ---- for the tool ---- */

/*
 * Makes a token and stores it. name may be NULL; ttl_ms 0: it never expires. `text` gets the token with its NUL. 0; -EINVAL: no such scope, or
 * too long a name; -ENOSPC: TP_TOKENS_MAX; other -errno, such as -EBADMSG.
 */
int tp_token_create(const char *state_dir, const char *scope, const char *name, uint64_t now_ms, uint64_t ttl_ms,
		    char text[TP_TOKEN_TEXT_BYTES + 1], struct tp_token *token);
/* 0, -ENOENT, or another -errno. */
int tp_token_revoke(const char *state_dir, const char *id);

/* ---- text of scopes ---- */

/* "read:advertiser:adv 1" and so on. 0 or -EINVAL. */
int tp_scope_parse(const char *text, struct tp_token *token);
/* Returns `to`. */
const char *tp_scope_text(const struct tp_token *token, char to[TP_TOKEN_SCOPE_BYTES]);

/*
 * A cheap look at whether the file has changed since the last look: true at the first look and whenever its inode, size or time is another
 * one. `seen` is the caller's, zero at first.
 */
struct tp_file_seen {
	uint64_t inode, bytes, changed_ns;
	bool looked;
};
bool tp_file_changed(const char *path, struct tp_file_seen *seen);
/* The path of the tokens' file; `to` has `room` bytes. */
void tp_tokens_path(const char *state_dir, char *to, size_t room);

#endif
