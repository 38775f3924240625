/*
 * Tokens: made, found, expired, revoked; what the file holds; and files that are damaged in every way are refused as a whole.
 */
#include "turnpike/token.h"

#include "turnpike/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[128];

static int folder_make(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/token-test-XXXXXX");
	assert_non_null(mkdtemp(folder));
	tp_tokens_path(folder, path, sizeof path);
	return 0;
}

static int folder_remove(void **state)
{
	char lock[128];
	(void)state;
	snprintf(lock, sizeof lock, "%s/tokens.lock", folder);
	unlink(path);
	unlink(lock);
	return rmdir(folder);
}

static struct tp_tokens *load(void)
{
	struct tp_tokens *tokens;
	assert_int_equal(tp_tokens_load(folder, &tokens, NULL), 0);
	return tokens;
}

static void file_write(const char *text, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0 && write(fd, text, bytes) == (ssize_t)bytes);
	close(fd);
}

static size_t file_read(char *to, size_t room)
{
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	size_t bytes = fread(to, 1, room - 1, file);
	to[bytes] = 0;
	fclose(file);
	return bytes;
}

static void test_no_file_is_no_tokens(void **state)
{
	(void)state;
	struct tp_tokens *tokens = load();
	assert_int_equal(tokens->count, 0);
	assert_null(tp_token_find(tokens, "tpt_0123456789012345678901234567890123456789012", 47, 1));
	free(tokens);
	assert_int_equal(tp_token_revoke(folder, "000000000000"), -ENOENT);
}

static void test_life_of_a_token(void **state)
{
	(void)state;
	static const char *const scopes[] = {"ingest", "read", "admin", "read:advertiser:adv_1", "read:advertiser:a b%\xc3\xa9"};
	enum { N = sizeof scopes / sizeof *scopes };
	char text[N][TP_TOKEN_TEXT_BYTES + 1], scope[TP_TOKEN_SCOPE_BYTES];
	struct tp_token made[N];
	for (int i = 0; i < N; i++) {
		assert_int_equal(tp_token_create(folder, scopes[i],
						 i == 1   ? "the  second\n%"
						 : i == 2 ? "-"
							  : NULL,
						 1000, i == 3 ? 500 : 0, text[i], &made[i]),
				 0);
		assert_int_equal(strlen(text[i]), TP_TOKEN_TEXT_BYTES);
	}
	struct stat found;
	assert_int_equal(stat(path, &found), 0);
	assert_int_equal(found.st_mode & 07777, 0600);
	char file[8192];
	file_read(file, sizeof file);
	struct tp_tokens *tokens = load();
	assert_int_equal(tokens->count, N);
	for (int i = 0; i < N; i++) {
		assert_null(strstr(file, text[i] + 4)); /* the secret itself is nowhere */
		const struct tp_token *token = tp_token_find(tokens, text[i], TP_TOKEN_TEXT_BYTES, 1499);
		assert_non_null(token);
		assert_string_equal(tp_scope_text(token, scope), scopes[i]);
		assert_string_equal(token->id, made[i].id);
		assert_string_equal(token->name, i == 1 ? "the  second\n%" : i == 2 ? "-" : "");
		for (int at = 0; at < TP_TOKEN_TEXT_BYTES; at++) {
			char wrong[TP_TOKEN_TEXT_BYTES + 1];
			memcpy(wrong, text[i], sizeof wrong);
			wrong[at] ^= 1;
			assert_null(tp_token_find(tokens, wrong, TP_TOKEN_TEXT_BYTES, 1499));
		}
		assert_null(tp_token_find(tokens, text[i], TP_TOKEN_TEXT_BYTES - 1, 1499));
		assert_null(tp_token_find(tokens, text[i], 0, 1499));
	}
	assert_null(tp_token_find(tokens, text[3], TP_TOKEN_TEXT_BYTES, 1500)); /* expired */
	free(tokens);
	assert_int_equal(tp_token_revoke(folder, made[0].id), 0);
	assert_int_equal(tp_token_revoke(folder, made[0].id), -ENOENT);
	tokens = load();
	assert_int_equal(tokens->count, N - 1);
	assert_null(tp_token_find(tokens, text[0], TP_TOKEN_TEXT_BYTES, 1001));
	assert_non_null(tp_token_find(tokens, text[1], TP_TOKEN_TEXT_BYTES, 1001));
	free(tokens);
}

static void test_no_two_are_alike(void **state)
{
	(void)state;
	char text[64][TP_TOKEN_TEXT_BYTES + 1];
	struct tp_token token;
	for (int i = 0; i < 64; i++) {
		assert_int_equal(tp_token_create(folder, "ingest", NULL, 1, 0, text[i], &token), 0);
		for (int k = 0; k < i; k++)
			assert_string_not_equal(text[i], text[k]);
	}
}

static void test_what_is_no_scope(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"",      "Ingest",          "ingest ",
		"read:", "read:advertiser", "read:advertiser:",
		"write", "admin:",          "read:advertiser:12345678901234567890123456789012345678901234567890123456789012345"};
	char text[TP_TOKEN_TEXT_BYTES + 1], name[TP_TOKEN_NAME_BYTES + 2];
	struct tp_token token;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_int_equal(tp_token_create(folder, wrong[i], NULL, 1, 0, text, &token), -EINVAL);
	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = 0;
	assert_int_equal(tp_token_create(folder, "read", name, 1, 0, text, &token), -EINVAL);
	name[sizeof name - 2] = 0;
	assert_int_equal(tp_token_create(folder, "read", name, 1, 0, text, &token), 0);
	assert_int_not_equal(access(path, F_OK), -1);
}

/* No damaged file is taken for a shorter one, nor changed by the tool. */
static void test_damage(void **state)
{
	(void)state;
	char text[TP_TOKEN_TEXT_BYTES + 1], good[4096], bad[4096], after[4096];
	struct tp_token token;
	struct tp_tokens *tokens = NULL;
	for (int i = 0; i < 3; i++)
		assert_int_equal(tp_token_create(folder, "read:advertiser:x", "n", 77, 0, text, &token), 0);
	size_t bytes = file_read(good, sizeof good);
	uint32_t line, refused = 0;
	size_t line_at = 0;
	for (size_t cut = 0; cut < bytes; cut++) {
		file_write(good, cut);
		int rc = tp_tokens_load(folder, &tokens, &line);
		if (cut > 17 && good[cut - 1] == '\n') { /* whole lines are a whole file: only renames may shorten it */
			assert_int_equal(rc, 0);
			free(tokens);
			line_at = cut;
			continue;
		}
		assert_int_equal(rc, -EBADMSG);
		refused++;
	}
	assert_true(refused > 300 && line_at > 0);
	static const char *const lines[] = {"x\n", "\n", "000000000000\n", "00000000000g"};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		size_t used = (size_t)snprintf(bad, sizeof bad, "%s%s", good, lines[i]);
		file_write(bad, used);
		assert_int_equal(tp_tokens_load(folder, &tokens, &line), -EBADMSG);
		assert_int_equal(tp_token_create(folder, "read", NULL, 1, 0, text, &token), -EBADMSG);
		assert_int_equal(tp_token_revoke(folder, token.id), -EBADMSG);
		assert_int_equal(file_read(after, sizeof after), used);
		assert_memory_equal(after, bad, used);
	}
	for (size_t at = 18; at < bytes; at++) { /* a NUL ends no line */
		memcpy(bad, good, bytes);
		bad[at] = '\0';
		file_write(bad, bytes);
		assert_int_equal(tp_tokens_load(folder, &tokens, &line), -EBADMSG);
	}
}

static void test_a_change_is_seen(void **state)
{
	(void)state;
	struct tp_file_seen seen = {0};
	char text[TP_TOKEN_TEXT_BYTES + 1];
	struct tp_token token;
	assert_true(tp_file_changed(path, &seen));
	assert_false(tp_file_changed(path, &seen));
	for (int i = 0; i < 20; i++) { /* however quick: each replaces the file, and so its inode or its time */
		assert_int_equal(tp_token_create(folder, "ingest", NULL, 1, 0, text, &token), 0);
		assert_true(tp_file_changed(path, &seen));
		assert_int_equal(tp_token_revoke(folder, token.id), 0);
		assert_true(tp_file_changed(path, &seen));
		assert_false(tp_file_changed(path, &seen));
	}
	unlink(path);
	assert_true(tp_file_changed(path, &seen));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_make, folder_remove)
	const struct CMUnitTest tests[] = {
		TEST(test_no_file_is_no_tokens), TEST(test_life_of_a_token), TEST(test_no_two_are_alike),
		TEST(test_what_is_no_scope),     TEST(test_damage),          TEST(test_a_change_is_seen),
	};
	return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
