/*
 * The blocklist over its seam: hooks that stand for the XDP program, files in a folder of the test's own.
 */
#include "blocklist_source.h"

#include "turnpike/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* What a hook was last given, and what it says it has hit. */
struct outside {
	struct eb_block *block;
	uint32_t count, calls, synchronized;
	int fails;
	uint64_t hits[EB_SLOTS_MAX];
};

static char folder[] = "/tmp/blocklist_test.XXXXXX";
static struct outside outside;

static void synchronize(void *context)
{
	((struct outside *)context)->synchronized++;
}

static int enforce(void *context, const struct eb_block *list, uint32_t count)
{
	struct outside *to = context;

	free(to->block);
	to->block = malloc((count ? count : 1) * sizeof(*list));
	assert_non_null(to->block);
	memcpy(to->block, list, count * sizeof(*list));
	to->count = count;
	to->calls++;
	return to->fails;
}

static int hits(void *context, uint64_t *sum, uint32_t slots)
{
	const struct outside *from = context;

	for (uint32_t slot = 0; slot < slots; slot++)
		sum[slot] += from->hits[slot];
	return 0;
}

static struct tp_prefix prefix_of(const char *text)
{
	struct tp_prefix prefix;

	assert_int_equal(tp_prefix_parse(text, strlen(text), &prefix), 0);
	return prefix;
}

/* The slot that the hook was given for a prefix; UINT32_MAX: none. */
static uint32_t slot_of(const char *text)
{
	const struct tp_prefix prefix = prefix_of(text);

	for (uint32_t i = 0; i < outside.count; i++)
		if (dp_block_order(&outside.block[i].prefix, &prefix) == 0)
			return outside.block[i].slot;
	return UINT32_MAX;
}

static const char *path_of(const char *name)
{
	static char path[4][128];
	static int turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", folder, name);
	return path[turn];
}

static void file_write(const char *name, const char *text)
{
	FILE *file = fopen(path_of(name), "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
	(void)state;
	free(outside.block);
	memset(&outside, 0, sizeof(outside));
	for (const char *const *name = (const char *const[]){"blocklist", "blocklist.new", "one", "two", NULL}; *name; name++)
		unlink(path_of(*name));
	return 0;
}

static int list_open(struct dp_blocklist **list, const char *one, const char *two)
{
	const struct tp_config_list_file file[2] = {{.path = one ? (char *)(uintptr_t)path_of(one) : NULL},
						    {.path = two ? (char *)(uintptr_t)path_of(two) : NULL, .count_only = true}};
	const struct dp_blocklist_options options = {
		.data_dir = folder,
		.file = file,
		.files = one ? two ? 2 : 1 : 0,
		.readers = 2,
		.hooks = {.synchronize = synchronize, .enforce = enforce, .hits = hits, .context = &outside},
	};
	return dp_blocklist_open(list, &options);
}

static struct dp_blocklist *opened(const char *one, const char *two)
{
	struct dp_blocklist *list = NULL;

	assert_int_equal(list_open(&list, one, two), 0);
	return list;
}

static int add(struct dp_blocklist *list, const char *text, uint64_t expires_ms, bool count_only)
{
	const struct tp_prefix prefix = prefix_of(text);

	return dp_blocklist_add(list, &prefix, 1000, expires_ms, count_only, "because");
}

static int del(struct dp_blocklist *list, const char *text)
{
	const struct tp_prefix prefix = prefix_of(text);

	return dp_blocklist_del(list, &prefix);
}

static bool blocked(struct dp_blocklist *list, uint32_t rx, const char *text)
{
	const struct tp_addr addr = prefix_of(text).addr;

	return dp_blocklist_blocked(dp_blocklist_reader(list, rx), &addr);
}

static bool listed(struct dp_blocklist *list, const char *text)
{
	const struct tp_addr addr = prefix_of(text).addr;

	return dp_blocklist_listed(list, &addr);
}

/* A member of the item of this prefix; the caller's copy. */
static json_t *item(struct dp_blocklist *list, const char *text, const char *key)
{
	json_t *answer = dp_blocklist_json(list, NULL, UINT32_MAX), *one, *found = NULL;
	size_t i;

	assert_non_null(answer);
	json_array_foreach(json_object_get(answer, "items"), i, one)
	{
		if (strcmp(json_string_value(json_object_get(one, "prefix")), text) == 0)
			found = json_deep_copy(json_object_get(one, key));
	}
	json_decref(answer);
	return found;
}

static int64_t hits_of(struct dp_blocklist *list, const char *text)
{
	json_t *value = item(list, text, "hits");
	const int64_t number = value ? json_integer_value(value) : -1;

	json_decref(value);
	return number;
}

static void text_is(struct dp_blocklist *list, const char *prefix, const char *key, const char *expected)
{
	json_t *value = item(list, prefix, key);

	assert_non_null(value);
	if (expected)
		assert_string_equal(json_string_value(value), expected);
	else
		assert_true(json_is_null(value));
	json_decref(value);
}

/* ---- what is blocked ---- */

static void the_longest_prefix_decides(void **state)
{
	struct dp_blocklist *list = opened(NULL, NULL);

	(void)state;
	assert_false(blocked(list, 0, "192.0.2.1"));
	assert_int_equal(add(list, "192.0.2.0/24", 0, false), 0);
	assert_int_equal(add(list, "192.0.2.9", 0, true), 0); /* an exception */
	assert_int_equal(add(list, "2001:db8::/32", 0, true), 0);
	assert_int_equal(add(list, "2001:db8:0:1::/64", 0, false), 0);
	for (uint32_t rx = 0; rx < 2; rx++) {
		assert_true(blocked(list, rx, "192.0.2.1"));
		assert_false(blocked(list, rx, "192.0.2.9"));
		assert_false(blocked(list, rx, "192.0.3.1"));
		assert_false(blocked(list, rx, "2001:db8::1"));
		assert_true(blocked(list, rx, "2001:db8:0:1::1"));
	}
	assert_true(listed(list, "192.0.2.1"));
	assert_false(listed(list, "192.0.2.9"));
	assert_false(listed(list, "2001:db8::1"));
	assert_true(listed(list, "2001:db8:0:1::1"));
	/* both rx cores', and none for the look-up by an event's address */
	assert_int_equal(hits_of(list, "192.0.2.0/24"), 2);
	assert_int_equal(hits_of(list, "192.0.2.9/32"), 2);
	assert_int_equal(hits_of(list, "2001:db8::/32"), 2);
	assert_int_equal(outside.count, 4);
	dp_blocklist_close(list);
}

static void a_change_is_in_force_everywhere_at_once(void **state)
{
	struct dp_blocklist *list = opened(NULL, NULL);

	(void)state;
	assert_int_equal(add(list, "192.0.2.77/24", 0, false), 0); /* host bits are cleared */
	assert_int_equal(outside.count, 1);
	assert_int_equal(outside.block[0].prefix.bits, 24);
	assert_int_equal(outside.block[0].prefix.addr.byte[15], 0);
	assert_false(outside.block[0].count_only);
	const uint32_t synchronized = outside.synchronized, slot = slot_of("192.0.2.0/24");
	assert_int_equal(add(list, "192.0.2.0/24", 0, true), 0);
	assert_true(outside.synchronized > synchronized);
	assert_int_equal(outside.count, 1);
	assert_true(outside.block[0].count_only);
	assert_int_equal(outside.block[0].slot, slot); /* and its hits go on */
	assert_false(blocked(list, 0, "192.0.2.1"));
	assert_int_equal(del(list, "192.0.2.0/25"), -ENOENT);
	assert_int_equal(del(list, "192.0.2.0/24"), 0);
	assert_int_equal(outside.count, 0);
	assert_int_equal(dp_blocklist_entries(list), 0);
	/* What the outside cannot take stays in force on the rx cores. */
	outside.fails = -ENOMEM;
	assert_int_equal(add(list, "198.51.100.0/24", 0, false), 0);
	assert_true(blocked(list, 0, "198.51.100.1"));
	dp_blocklist_close(list);
}

static void hits_are_summed_and_outlive_changes(void **state)
{
	struct dp_blocklist *list = opened(NULL, NULL);

	(void)state;
	assert_int_equal(add(list, "192.0.2.0/24", 0, false), 0);
	assert_int_equal(add(list, "198.51.100.0/24", 0, false), 0);
	blocked(list, 0, "192.0.2.1");
	blocked(list, 1, "192.0.2.1");
	outside.hits[slot_of("192.0.2.0/24")] = 40;
	outside.hits[slot_of("198.51.100.0/24")] = 7;
	assert_int_equal(hits_of(list, "192.0.2.0/24"), 42);
	assert_int_equal(hits_of(list, "198.51.100.0/24"), 7);
	assert_int_equal(add(list, "10.0.0.0/8", 0, false), 0); /* sorts before both */
	blocked(list, 1, "192.0.2.1");
	assert_int_equal(hits_of(list, "192.0.2.0/24"), 43);
	assert_int_equal(hits_of(list, "198.51.100.0/24"), 7);
	assert_int_equal(hits_of(list, "10.0.0.0/8"), 0);
	/* Whoever gets a used slot starts at zero, however often slots change hands. */
	for (int round = 0; round < 5; round++) {
		assert_int_equal(del(list, "192.0.2.0/24"), 0);
		assert_int_equal(add(list, "203.0.113.0/24", 0, false), 0);
		assert_int_equal(hits_of(list, "203.0.113.0/24"), 0);
		outside.hits[slot_of("203.0.113.0/24")] += 5;
		blocked(list, 0, "203.0.113.1");
		assert_int_equal(hits_of(list, "203.0.113.0/24"), 6);
		assert_int_equal(del(list, "203.0.113.0/24"), 0);
		assert_int_equal(add(list, "192.0.2.0/24", 0, false), 0);
		assert_int_equal(hits_of(list, "192.0.2.0/24"), 0);
		outside.hits[slot_of("192.0.2.0/24")] += 3;
		assert_int_equal(hits_of(list, "192.0.2.0/24"), 3);
	}
	assert_int_equal(hits_of(list, "198.51.100.0/24"), 7);
	dp_blocklist_close(list);
}

static void entries_expire(void **state)
{
	struct dp_blocklist *list = opened(NULL, NULL);
	const uint64_t far = UINT64_MAX / 2;

	(void)state;
	assert_int_equal(add(list, "192.0.2.0/24", far, false), 0);
	assert_int_equal(add(list, "198.51.100.0/24", far + 1, false), 0);
	assert_int_equal(add(list, "203.0.113.0/24", 0, false), 0);
	dp_blocklist_tick(list, far - 1);
	assert_int_equal(dp_blocklist_entries(list), 3);
	dp_blocklist_tick(list, far);
	assert_int_equal(dp_blocklist_entries(list), 2);
	assert_int_equal(outside.count, 2);
	assert_false(blocked(list, 0, "192.0.2.1"));
	assert_true(blocked(list, 0, "198.51.100.1"));
	dp_blocklist_close(list);
	/* and do not come back */
	list = opened(NULL, NULL);
	assert_int_equal(dp_blocklist_entries(list), 2);
	dp_blocklist_tick(list, far + 1);
	assert_int_equal(dp_blocklist_entries(list), 1);
	assert_true(blocked(list, 0, "203.0.113.1"));
	dp_blocklist_close(list);
}

/* ---- the store ---- */

static void entries_are_kept(void **state)
{
	struct dp_blocklist *list = opened(NULL, NULL);
	const struct tp_prefix odd = prefix_of("2001:db8::/32");

	(void)state;
	assert_int_equal(add(list, "192.0.2.0/24", 0, false), 0);
	assert_int_equal(dp_blocklist_add(list, &odd, 5, UINT64_MAX / 2, true, "  two words\nand a line\t"), 0);
	dp_blocklist_close(list);
	list = opened(NULL, NULL);
	assert_int_equal(dp_blocklist_entries(list), 2);
	text_is(list, "192.0.2.0/24", "reason", "because");
	text_is(list, "192.0.2.0/24", "expires_ms", NULL);
	text_is(list, "2001:db8::/32", "reason", "  two words and a line ");
	assert_true(blocked(list, 0, "192.0.2.1"));
	assert_false(blocked(list, 0, "2001:db8::1"));
	dp_blocklist_close(list);
}

/* Each byte changed, each length cut to: the node says so, and never starts with another list. */
static void a_damaged_store_is_refused(void **state)
{
	struct dp_blocklist *list = opened(NULL, NULL);
	char text[512];

	(void)state;
	assert_int_equal(add(list, "192.0.2.0/24", 0, false), 0);
	assert_int_equal(add(list, "2001:db8::/32", 0, true), 0);
	dp_blocklist_close(list);
	FILE *file = fopen(path_of("blocklist"), "r");
	assert_non_null(file);
	const size_t bytes = fread(text, 1, sizeof(text), file);
	fclose(file);
	assert_in_range(bytes, 50, sizeof(text) - 1);
	for (size_t at = 0; at < bytes; at++) {
		for (int cut = 0; cut < 2; cut++) {
			file = fopen(path_of("blocklist"), "w");
			assert_non_null(file);
			const char kept = text[at];
			text[at] ^= cut ? 0 : 1;
			assert_int_equal(fwrite(text, 1, cut ? at : bytes, file), cut ? at : bytes);
			text[at] = kept;
			fclose(file);
			if (list_open(&list, NULL, NULL) != -EBADMSG)
				fail_msg("byte %zu %s was not noticed", at, cut ? "and all behind it gone" : "changed");
		}
	}
	/* an unfinished successor does not matter */
	file = fopen(path_of("blocklist"), "w");
	fwrite(text, 1, bytes, file);
	fclose(file);
	file_write("blocklist.new", "turnpike block");
	list = opened(NULL, NULL);
	assert_int_equal(dp_blocklist_entries(list), 2);
	dp_blocklist_close(list);
}

static void what_cannot_be_stored_is_not_in_force(void **state)
{
	struct dp_blocklist *list = opened(NULL, NULL);

	(void)state;
	assert_int_equal(add(list, "192.0.2.0/24", 0, false), 0);
	assert_int_equal(mkdir(path_of("blocklist.new"), 0700), 0); /* where the successor would be written */
	const uint32_t calls = outside.calls;
	assert_int_equal(add(list, "198.51.100.0/24", 0, false), -EISDIR);
	assert_int_equal(add(list, "192.0.2.0/24", 0, true), -EISDIR);
	assert_int_equal(del(list, "192.0.2.0/24"), -EISDIR);
	assert_int_equal(outside.calls, calls);
	assert_int_equal(dp_blocklist_entries(list), 1);
	assert_true(blocked(list, 0, "192.0.2.1"));
	assert_false(blocked(list, 0, "198.51.100.1"));
	assert_int_equal(rmdir(path_of("blocklist.new")), 0);
	assert_int_equal(add(list, "198.51.100.0/24", 0, false), 0);
	assert_int_equal(dp_blocklist_entries(list), 2);
	dp_blocklist_close(list);
}

/* ---- list files ---- */

static void files_are_read_as_published_lists_write_them(void **state)
{
	(void)state;
	file_write("one", "# comment\n"
			  "; another\n"
			  "\n"
			  "  \t\n"
			  "192.0.2.0/24\n"
			  "\t198.51.100.7   scraper of images  \r\n"
			  "203.0.113.99/24 ; SBL1\n"
			  "2001:db8::/32 # text\n"
			  "198.51.100.7 twice\n"
			  "10.0.0.0/33\n"
			  "nonsense\n"
			  "fe80::1%eth0\n"
			  "192.0.2.0-192.0.2.9\n"
			  "2001:db8:1::/48,with a comma\n"
			  "192.0.2.200"); /* no newline at the end */
	struct dp_blocklist *list = opened("one", NULL);
	assert_int_equal(dp_blocklist_entries(list), 6);
	assert_int_equal(dp_blocklist_bad_lines(list), 4);
	text_is(list, "192.0.2.0/24", "reason", "");
	text_is(list, "192.0.2.0/24", "file", path_of("one"));
	text_is(list, "198.51.100.7/32", "reason", "scraper of images"); /* the first line stands */
	text_is(list, "203.0.113.0/24", "reason", "SBL1");
	text_is(list, "2001:db8::/32", "reason", "text");
	text_is(list, "2001:db8:1::/48", "reason", "with a comma");
	text_is(list, "192.0.2.200/32", "reason", "");
	assert_true(blocked(list, 0, "203.0.113.1"));
	assert_int_equal(del(list, "203.0.113.0/24"), -EPERM);
	dp_blocklist_close(list);
}

static void the_first_source_of_a_prefix_stands(void **state)
{
	(void)state;
	file_write("one", "192.0.2.0/24 one\n198.51.100.0/24 one\n");
	file_write("two", "192.0.2.0/24 two\n203.0.113.0/24 two\n");
	struct dp_blocklist *list = opened("one", "two");
	assert_int_equal(dp_blocklist_entries(list), 3);
	assert_true(blocked(list, 0, "192.0.2.1"));
	assert_false(blocked(list, 0, "203.0.113.1")); /* two only counts */
	assert_int_equal(hits_of(list, "203.0.113.0/24"), 1);
	/* The operator lets through what a file drops, and takes that back. */
	assert_int_equal(add(list, "192.0.2.0/24", 0, true), 0);
	assert_int_equal(dp_blocklist_entries(list), 3);
	text_is(list, "192.0.2.0/24", "file", NULL);
	assert_false(blocked(list, 0, "192.0.2.1"));
	assert_int_equal(del(list, "192.0.2.0/24"), 0);
	text_is(list, "192.0.2.0/24", "reason", "one");
	assert_true(blocked(list, 0, "192.0.2.1"));
	assert_int_equal(hits_of(list, "192.0.2.0/24"), 3);
	dp_blocklist_close(list);
}

static void file_replace(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s", path_of(name));
	file_write("next", text);
	assert_int_equal(rename(path_of("next"), path), 0);
}

static void a_changed_file_is_taken_over(void **state)
{
	(void)state;
	file_write("one", "192.0.2.0/24\n198.51.100.0/24\n");
	struct dp_blocklist *list = opened("one", NULL);
	assert_int_equal(add(list, "10.0.0.0/8", 0, false), 0);
	blocked(list, 0, "192.0.2.1");
	const uint32_t calls = outside.calls, slot = slot_of("192.0.2.0/24");
	dp_blocklist_tick(list, 2000);
	assert_int_equal(outside.calls, calls); /* nothing has changed */
	file_replace("one", "192.0.2.0/24\n203.0.113.0/24\n");
	dp_blocklist_tick(list, 2500); /* seen */
	assert_int_equal(outside.calls, calls);
	dp_blocklist_tick(list, 3000); /* stands still */
	assert_int_equal(outside.calls, calls + 1);
	assert_int_equal(outside.count, 3);
	assert_int_equal(slot_of("192.0.2.0/24"), slot);
	assert_int_equal(hits_of(list, "192.0.2.0/24"), 1);
	assert_true(blocked(list, 0, "203.0.113.1"));
	assert_false(blocked(list, 0, "198.51.100.1"));
	assert_true(blocked(list, 0, "10.1.2.3"));
	/* Gone: what it said stays. */
	assert_int_equal(unlink(path_of("one")), 0);
	for (int i = 0; i < 3; i++)
		dp_blocklist_tick(list, 4000);
	assert_true(blocked(list, 0, "203.0.113.1"));
	json_t *answer = dp_blocklist_json(list, NULL, 1);
	json_t *file = json_array_get(json_object_get(answer, "files"), 0);
	assert_true(json_is_string(json_object_get(file, "error")));
	json_decref(answer);
	/* Back, and empty: that is what it says. */
	file_write("one", "# nobody\n");
	for (int i = 0; i < 2; i++)
		dp_blocklist_tick(list, 5000);
	assert_int_equal(dp_blocklist_entries(list), 1);
	answer = dp_blocklist_json(list, NULL, 1);
	file = json_array_get(json_object_get(answer, "files"), 0);
	assert_true(json_is_null(json_object_get(file, "error")));
	json_decref(answer);
	dp_blocklist_close(list);
}

static void a_file_that_cannot_be_read_changes_nothing(void **state)
{
	struct dp_blocklist *list = NULL;
	const struct tp_config_list_file none[] = {{.path = (char *)(uintptr_t)path_of("one")}, {.path = folder}};

	(void)state;
	assert_int_equal(list_open(&list, "one", NULL), -ENOENT); /* a start is refused */
	file_write("one", "192.0.2.0/24\n");
	list = opened("one", NULL);
	const uint32_t calls = outside.calls;
	assert_int_equal(dp_blocklist_files(list, none, 2), -EINVAL); /* the second is a folder */
	assert_int_equal(outside.calls, calls);
	assert_true(blocked(list, 0, "192.0.2.1"));
	assert_int_equal(dp_blocklist_files(list, none, 0), 0); /* a reload without files */
	assert_int_equal(dp_blocklist_entries(list), 0);
	dp_blocklist_close(list);
}

/* ---- many ---- */

static void file_write_many(const char *name, uint32_t first, uint32_t count)
{
	FILE *file = fopen(path_of(name), "w");

	assert_non_null(file);
	for (uint32_t i = first; i < first + count; i++)
		fprintf(file, "%u.%u.%u.%u/32 list\n", 11 + (i >> 24), i >> 16 & 255, i >> 8 & 255, i & 255);
	assert_int_equal(fclose(file), 0);
}

static void a_full_list_replaces_a_full_list(void **state)
{
	(void)state;
	file_write_many("one", 0, DP_BLOCKLIST_MAX);
	struct dp_blocklist *list = opened("one", NULL);
	assert_int_equal(dp_blocklist_entries(list), DP_BLOCKLIST_MAX);
	assert_true(blocked(list, 0, "11.0.0.0"));
	assert_false(blocked(list, 0, "11.2.0.0"));
	assert_int_equal(add(list, "192.0.2.1", 0, false), -ENOSPC);
	assert_false(blocked(list, 0, "192.0.2.1"));
	for (uint32_t round = 1; round <= 4; round++) {
		file_write_many("one", round * DP_BLOCKLIST_MAX, DP_BLOCKLIST_MAX);
		dp_blocklist_tick(list, 1);
		dp_blocklist_tick(list, 2);
		assert_int_equal(dp_blocklist_entries(list), DP_BLOCKLIST_MAX);
		char text[32];
		snprintf(text, sizeof(text), "11.%u.0.0", round * 2);
		assert_true(blocked(list, 0, text));
		assert_int_equal(outside.count, DP_BLOCKLIST_MAX);
		for (uint32_t i = 0; i < outside.count; i++)
			if (outside.block[i].slot >= EB_SLOTS_MAX)
				fail_msg("slot %u", outside.block[i].slot);
	}
	/* One more is refused, and what was in force is. */
	file_write_many("one", 0, DP_BLOCKLIST_MAX + 1);
	dp_blocklist_tick(list, 1);
	dp_blocklist_tick(list, 2);
	assert_true(blocked(list, 0, "11.8.0.0"));
	assert_false(blocked(list, 0, "11.0.0.0"));
	dp_blocklist_close(list);
}

/* ---- commands ---- */

static json_t *command(struct dp_blocklist *list, const char *text)
{
	char line[512];

	snprintf(line, sizeof(line), "%s", text);
	return dp_blocklist_command(list, line);
}

static void commands_say_what_they_expected(void **state)
{
	struct dp_blocklist *list = opened(NULL, NULL);
	static const struct {
		const char *line;
		bool ok;
	} row[] = {
		{"add 192.0.2.0/24 ttl_ms=0 count_only=0 reason=a b  c", true},
		{"add 192.0.2.0/24", true},
		{"add 192.0.2.1", true},
		{"add 2001:db8::/32 ttl_ms=60000 count_only=1 reason=", true},
		{"list", true},
		{"list limit=2", true},
		{"list limit=2 after=192.0.2.0/24", true},
		{"del 2001:db8::/32", true},
		{"del 2001:db8::/32", false},
		{"add", false},
		{"add ", false},
		{"add nonsense", false},
		{"add 192.0.2.0/33", false},
		{"add 192.0.2.0/24 ttl_ms=x", false},
		{"add 192.0.2.0/24 ttl_ms=-1", false},
		{"add 192.0.2.0/24 ttl_ms=99999999999999999999", false},
		{"add 192.0.2.0/24 ttl_ms=4000000000000", false},
		{"add 192.0.2.0/24 count_only=2", false},
		{"add 192.0.2.0/24 colour=red", false},
		{"add 192.0.2.0/24 reason=\xff\xfe", false},
		{"del ", false},
		{"del nonsense", false},
		{"list limit=0", false},
		{"list limit=10001", false},
		{"list after=nonsense", false},
		{"lists", false},
		{"", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		json_t *answer = command(list, row[i].line);
		assert_non_null(answer);
		if (json_is_true(json_object_get(answer, "ok")) != row[i].ok)
			fail_msg("%s", row[i].line);
		assert_int_equal(json_is_string(json_object_get(answer, "error")), !row[i].ok);
		json_decref(answer);
	}
	assert_int_equal(dp_blocklist_entries(list), 2);
	text_is(list, "192.0.2.0/24", "reason", "");
	dp_blocklist_close(list);
}

static void a_long_list_comes_in_pages(void **state)
{
	(void)state;
	file_write_many("one", 0, 2500);
	struct dp_blocklist *list = opened("one", NULL);
	uint32_t seen = 0, pages = 0;
	char line[128] = "list limit=1000";
	for (bool more = true; more; pages++) {
		json_t *answer = command(list, line);
		const char *next = json_string_value(json_object_get(answer, "next"));
		assert_int_equal(json_integer_value(json_object_get(answer, "total")), 2500);
		seen += (uint32_t)json_array_size(json_object_get(answer, "items"));
		more = next != NULL;
		snprintf(line, sizeof(line), "list limit=1000 after=%s", next ? next : "");
		json_decref(answer);
	}
	assert_int_equal(seen, 2500);
	assert_int_equal(pages, 3);
	dp_blocklist_close(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_longest_prefix_decides, setup),
		cmocka_unit_test_setup(a_change_is_in_force_everywhere_at_once, setup),
		cmocka_unit_test_setup(hits_are_summed_and_outlive_changes, setup),
		cmocka_unit_test_setup(entries_expire, setup),
		cmocka_unit_test_setup(entries_are_kept, setup),
		cmocka_unit_test_setup(a_damaged_store_is_refused, setup),
		cmocka_unit_test_setup(what_cannot_be_stored_is_not_in_force, setup),
		cmocka_unit_test_setup(files_are_read_as_published_lists_write_them, setup),
		cmocka_unit_test_setup(the_first_source_of_a_prefix_stands, setup),
		cmocka_unit_test_setup(a_changed_file_is_taken_over, setup),
		cmocka_unit_test_setup(a_file_that_cannot_be_read_changes_nothing, setup),
		cmocka_unit_test_setup(a_full_list_replaces_a_full_list, setup),
		cmocka_unit_test_setup(commands_say_what_they_expected, setup),
		cmocka_unit_test_setup(a_long_list_comes_in_pages, setup),
	};

	if (!mkdtemp(folder))
		return 1;
	const int failed = cmocka_run_group_tests(tests, NULL, NULL);
	setup(NULL);
	rmdir(folder);
	free(outside.block);
	return failed;
}
