/*
 * What is read out of sysfs, on a folder that looks like it.
 */
#include "turnpike/drive.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static void put(const char *name, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", root, name);
	for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(path, 0700);
		*slash = '/';
	}
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void point(const char *number, const char *to)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", root, number);
	assert_int_equal(symlink(to, path), 0);
}

static void test_caches(void **state)
{
	(void)state;
	static const struct {
		const char *device, *write_cache, *fua;
		enum sto_drive_cache expected;
	} cases[] = {
		{"nvme0n1", "write through\n", "0\n", STO_DRIVE_THROUGH}, {"nvme1n1", "write back\n", "1\n", STO_DRIVE_FUA},
		{"sda", "write back\n", "0\n", STO_DRIVE_BACK},           {"sdb", "write back\n", NULL, STO_DRIVE_BACK},
		{"zram0", "write back\n", "0\n", STO_DRIVE_MEMORY},       {"sdc", "write sideways\n", "1\n", STO_DRIVE_UNKNOWN},
	};
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char name[96], number[32], to[64];
		snprintf(name, sizeof(name), "block/%s/queue/write_cache", cases[i].device);
		put(name, cases[i].write_cache);
		snprintf(name, sizeof(name), "block/%s/queue/fua", cases[i].device);
		if (cases[i].fua)
			put(name, cases[i].fua);
		snprintf(name, sizeof(name), "block/%s/%sp1/partition", cases[i].device, cases[i].device);
		put(name, "1\n");
		snprintf(number, sizeof(number), "8:%u", 2 * i);
		snprintf(to, sizeof(to), "block/%s", cases[i].device);
		point(number, to);
		snprintf(number, sizeof(number), "8:%u", 2 * i + 1);
		snprintf(to, sizeof(to), "block/%s/%sp1", cases[i].device, cases[i].device);
		point(number, to);
		/* The disk, and a partition of it. */
		for (uint32_t minor = 2 * i; minor < 2 * i + 2; minor++) {
			struct sto_drive drive;
			sto_drive_read(root, 8, minor, &drive);
			assert_int_equal(drive.cache, cases[i].expected);
			assert_string_equal(drive.device, cases[i].device);
		}
	}
	struct sto_drive drive;
	sto_drive_read(root, 0, 99, &drive);
	assert_int_equal(drive.cache, STO_DRIVE_UNKNOWN);
	assert_string_equal(drive.device, "");
}

static int setup(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "drive_test.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_caches, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
