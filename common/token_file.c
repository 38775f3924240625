/*
 * The file of tokens: reading it whole, and changing it under a lock. See token.h for its lines. Cold code, any process.
 *
 * Invariant: a reader sees the file as it was before a change or after it, never in between: it is written beside, synced, and renamed over
 * the old one. Two changers at once wait for each other at the lock file.
 */
#include "turnpike/token.h"

#include "turnpike/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, LINE_BYTES = 1024, FILE_BYTES_MAX = TP_TOKENS_MAX * LINE_BYTES };

static const char head[] = "turnpike-tokens 1\n";

void tp_tokens_path(const char *state_dir, char *to, size_t room)
{
	snprintf(to, room, "%s/tokens", state_dir);
}

bool tp_file_changed(const char *path, struct tp_file_seen *seen)
{
	struct stat now;
	struct tp_file_seen fresh = {.looked = true};
	if (stat(path, &now) == 0) {
		fresh.inode = now.st_ino;
		fresh.bytes = (uint64_t)now.st_size;
		fresh.changed_ns = (uint64_t)now.st_ctim.tv_sec * 1000000000 + (uint64_t)now.st_ctim.tv_nsec;
	}
	bool same =
		seen->looked && seen->inode == fresh.inode && seen->bytes == fresh.bytes && seen->changed_ns == fresh.changed_ns;
	*seen = fresh;
	return !same;
}

/* ---- text ---- */

static void escape(const char *text, char *to)
{
	if (text[0] == '\0' || strcmp(text, "-") == 0) {
		strcpy(to, text[0] == '\0' ? "-" : "%2d");
		return;
	}
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		if (c > ' ' && c < 0x7f && c != '%')
			*to++ = (char)c;
		else
			to += sprintf(to, "%%%02x", c);
	}
	*to = '\0';
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int unescape(const char *text, char *to, size_t bytes_max)
{
	size_t bytes = 0;
	if (strcmp(text, "-") == 0)
		text = "";
	for (; *text != '\0'; text++, bytes++) {
		if (bytes == bytes_max)
			return -EBADMSG;
		to[bytes] = *text;
		if (*text != '%')
			continue;
		int high = hex_value(text[1]), low = high < 0 ? -1 : hex_value(text[2]);
		if (low < 0 || high * 16 + low == 0)
			return -EBADMSG;
		to[bytes] = (char)(high * 16 + low);
		text += 2;
	}
	to[bytes] = '\0';
	return 0;
}

static bool is_hex(const char *text, size_t bytes)
{
	return strlen(text) == bytes && strspn(text, "0123456789abcdef") == bytes;
}

static int number_parse(const char *text, uint64_t *number)
{
	size_t bytes = strlen(text);
	if (bytes == 0 || bytes > 19 || strspn(text, "0123456789") != bytes)
		return -EBADMSG;
	*number = strtoull(text, NULL, 10);
	return 0;
}

/* `line` without its newline; it is cut up. */
static int token_parse(char *line, struct tp_token *token)
{
	char *word[6], *rest = line, scope[TP_TOKEN_SCOPE_BYTES];
	for (int i = 0; i < 6; i++) {
		word[i] = strsep(&rest, " ");
		if (!word[i])
			return -EBADMSG;
	}
	if (rest || !is_hex(word[0], TP_TOKEN_ID_BYTES) || !is_hex(word[1], 2 * TP_SHA256_BYTES))
		return -EBADMSG;
	memset(token, 0, sizeof *token);
	memcpy(token->id, word[0], TP_TOKEN_ID_BYTES + 1);
	for (int i = 0; i < TP_SHA256_BYTES; i++)
		token->hash[i] = (uint8_t)(hex_value(word[1][2 * i]) << 4 | hex_value(word[1][2 * i + 1]));
	if (unescape(word[2], scope, sizeof scope - 1) || tp_scope_parse(scope, token) ||
	    number_parse(word[3], &token->created_ms) || number_parse(word[4], &token->expires_ms) ||
	    unescape(word[5], token->name, TP_TOKEN_NAME_BYTES))
		return -EBADMSG;
	return 0;
}

/* ---- reading ---- */

static int by_hash(const void *left, const void *right)
{
	return memcmp(((const struct tp_token *)left)->hash, ((const struct tp_token *)right)->hash, TP_SHA256_BYTES);
}

/* All of the file, NUL-terminated, the caller's. No file: *text is NULL. */
static int file_read(const char *path, char **text, size_t *bytes)
{
	struct stat found;
	*text = NULL;
	*bytes = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	int rc = fstat(fd, &found) != 0 ? -errno : found.st_size > FILE_BYTES_MAX ? -EBADMSG : 0;
	char *made = rc ? NULL : malloc((size_t)found.st_size + 1);
	if (!rc && !made)
		rc = -ENOMEM;
	size_t used = 0;
	while (!rc && used < (size_t)found.st_size) {
		ssize_t got = read(fd, made + used, (size_t)found.st_size - used);
		if (got <= 0)
			rc = got < 0 ? -errno : -EBADMSG;
		else
			used += (size_t)got;
	}
	close(fd);
	if (rc) {
		free(made);
		return rc;
	}
	made[used] = '\0';
	*text = made;
	*bytes = used;
	return 0;
}

/* `room`: for so many more. */
static int tokens_read(const char *state_dir, uint32_t room, struct tp_tokens **out, uint32_t *line)
{
	char path[PATH_BYTES], *text;
	size_t bytes;
	tp_tokens_path(state_dir, path, sizeof path);
	*line = 0;
	int rc = file_read(path, &text, &bytes);
	if (rc)
		return rc;
	uint32_t lines = 0;
	for (size_t i = 0; i < bytes; i++)
		lines += text[i] == '\n';
	struct tp_tokens *tokens = calloc(1, sizeof *tokens + (lines + room) * sizeof tokens->token[0]);
	if (!tokens) {
		free(text);
		return -ENOMEM;
	}
	/* a NUL, or a last line without its end, is damage too */
	if (text && (strlen(text) != bytes || strncmp(text, head, sizeof head - 1) != 0 || text[bytes - 1] != '\n'))
		rc = -EBADMSG;
	char *rest = text && !rc ? text + sizeof head - 1 : NULL;
	*line = 1;
	while (!rc && rest && *rest != '\0') {
		char *one = strsep(&rest, "\n");
		++*line;
		if (tokens->count == TP_TOKENS_MAX)
			rc = -EBADMSG;
		else
			rc = token_parse(one, &tokens->token[tokens->count++]);
	}
	free(text);
	if (!rc)
		qsort(tokens->token, tokens->count, sizeof tokens->token[0], by_hash);
	if (rc) {
		free(tokens);
		return rc;
	}
	*out = tokens;
	return 0;
}

int tp_tokens_load(const char *state_dir, struct tp_tokens **tokens, uint32_t *line)
{
	uint32_t ignored;
	return tokens_read(state_dir, 0, tokens, line ? line : &ignored);
}

/* ---- changing ---- */

static int lock_take(const char *state_dir)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof path, "%s/tokens.lock", state_dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX) != 0) {
		if (errno == EINTR)
			continue;
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

static int file_fill(int fd, const struct tp_tokens *tokens)
{
	FILE *file = fdopen(fd, "w");
	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	fputs(head, file);
	for (uint32_t i = 0; i < tokens->count; i++) {
		const struct tp_token *token = &tokens->token[i];
		char scope[TP_TOKEN_SCOPE_BYTES], scope_out[3 * TP_TOKEN_SCOPE_BYTES], name_out[3 * TP_TOKEN_NAME_BYTES + 2];
		escape(tp_scope_text(token, scope), scope_out);
		escape(token->name, name_out);
		fprintf(file, "%s ", token->id);
		for (int k = 0; k < TP_SHA256_BYTES; k++)
			fprintf(file, "%02x", token->hash[k]);
		fprintf(file, " %s %" PRIu64 " %" PRIu64 " %s\n", scope_out, token->created_ms, token->expires_ms, name_out);
	}
	int rc = fflush(file) != 0 || fsync(fileno(file)) != 0 ? -errno : 0;
	if (fclose(file) != 0 && !rc)
		rc = -errno;
	return rc;
}

static int tokens_write(const char *state_dir, const struct tp_tokens *tokens)
{
	struct stat owner;
	int folder = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return -errno;
	int rc = 0;
	int fd = openat(folder, "tokens.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		rc = -errno;
	/* root's tool leaves a file that the processes, which run as the folder's owner, may read */
	if (!rc && geteuid() == 0 && fstat(folder, &owner) == 0 && fchown(fd, owner.st_uid, owner.st_gid) != 0)
		rc = -errno;
	if (!rc)
		rc = file_fill(fd, tokens);
	else if (fd >= 0)
		close(fd);
	if (!rc && renameat(folder, "tokens.new", folder, "tokens") != 0)
		rc = -errno;
	if (!rc && fsync(folder) != 0)
		rc = -errno;
	if (rc)
		unlinkat(folder, "tokens.new", 0);
	close(folder);
	return rc;
}

static int random_fill(void *to, size_t bytes)
{
	for (;;) {
		ssize_t got = getrandom(to, bytes, 0);
		if (got == (ssize_t)bytes)
			return 0;
		if (got < 0 && errno != EINTR)
			return -errno;
	}
}

/* 32 random bytes as 43 letters of base64url (RFC 4648 section 5), and six as the id. */
static int secret_make(char text[TP_TOKEN_TEXT_BYTES + 1], struct tp_token *token)
{
	static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint8_t secret[33] = {0}, id[TP_TOKEN_ID_BYTES / 2];
	int rc = random_fill(secret, 32);
	if (!rc)
		rc = random_fill(id, sizeof id);
	if (rc)
		return rc;
	memcpy(text, "tpt_", 4);
	for (int i = 0; i < 43; i++) {
		int bit = 6 * i;
		uint32_t pair = (uint32_t)secret[bit / 8] << 8 | secret[bit / 8 + 1];
		text[4 + i] = letter[pair >> (10 - bit % 8) & 63];
	}
	text[TP_TOKEN_TEXT_BYTES] = '\0';
	for (size_t i = 0; i < sizeof id; i++)
		sprintf(token->id + 2 * i, "%02x", id[i]);
	tp_sha256(text, TP_TOKEN_TEXT_BYTES, token->hash);
	explicit_bzero(secret, sizeof secret);
	return 0;
}

int tp_token_create(const char *state_dir, const char *scope, const char *name, uint64_t now_ms, uint64_t ttl_ms,
		    char text[TP_TOKEN_TEXT_BYTES + 1], struct tp_token *token)
{
	struct tp_tokens *tokens;
	uint32_t line;
	memset(token, 0, sizeof *token);
	if (tp_scope_parse(scope, token) || (name && strlen(name) > TP_TOKEN_NAME_BYTES) || ttl_ms > UINT64_MAX / 2)
		return -EINVAL;
	strcpy(token->name, name ? name : "");
	token->created_ms = now_ms;
	token->expires_ms = ttl_ms ? now_ms + ttl_ms : 0;
	int rc = secret_make(text, token);
	if (rc)
		return rc;
	int lock = lock_take(state_dir);
	if (lock < 0)
		return lock;
	rc = tokens_read(state_dir, 1, &tokens, &line);
	if (!rc) {
		if (tokens->count == TP_TOKENS_MAX) {
			rc = -ENOSPC;
		} else {
			tokens->token[tokens->count++] = *token;
			rc = tokens_write(state_dir, tokens);
		}
		free(tokens);
	}
	close(lock);
	return rc;
}

int tp_token_revoke(const char *state_dir, const char *id)
{
	struct tp_tokens *tokens;
	uint32_t line;
	int lock = lock_take(state_dir);
	if (lock < 0)
		return lock;
	int rc = tokens_read(state_dir, 0, &tokens, &line);
	if (!rc) {
		uint32_t kept = 0;
		for (uint32_t i = 0; i < tokens->count; i++)
			if (strcmp(tokens->token[i].id, id) != 0)
				tokens->token[kept++] = tokens->token[i];
		rc = kept == tokens->count ? -ENOENT : 0;
		tokens->count = kept;
		if (!rc)
			rc = tokens_write(state_dir, tokens);
		free(tokens);
	}
	close(lock);
	return rc;
}
