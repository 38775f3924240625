/*
 * Hugepages on loan, against a made-up sysfs: "nr" and "free" are one file, as on a machine where nobody uses a page.
 */
#include "hugepages.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64], sysfs[128], run[128];

static void number_set(const char *name, unsigned int value)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/hugepages-2048kB/%s", sysfs, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "%u\n", value);
	fclose(file);
}

static unsigned int pages(void)
{
	char path[256];
	unsigned int value;
	FILE *file;

	snprintf(path, sizeof(path), "%s/hugepages-2048kB/nr_hugepages", sysfs);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%u", &value), 1);
	fclose(file);
	return value;
}

static bool run_exists(void)
{
	return access(run, F_OK) == 0;
}

static struct dp_hugepages machine(void)
{
	struct dp_hugepages hugepages;

	dp_hugepages_init(&hugepages);
	hugepages.sysfs = sysfs;
	hugepages.run = run;
	hugepages.compact = NULL;
	return hugepages;
}

static int setup(void **state)
{
	char command[512];

	(void)state;
	snprintf(root, sizeof(root), "/tmp/hugepages_test.XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(sysfs, sizeof(sysfs), "%s/sys", root);
	snprintf(run, sizeof(run), "%s/run", root);
	snprintf(command, sizeof(command), "mkdir -p %s/hugepages-2048kB && ln -s nr_hugepages %s/hugepages-2048kB/free_hugepages",
		 sysfs, sysfs);
	assert_int_equal(system(command), 0);
	number_set("nr_hugepages", 0);
	number_set("resv_hugepages", 0);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static void what_is_there_is_used(void **state)
{
	struct dp_hugepages hugepages = machine();

	(void)state;
	number_set("nr_hugepages", 20);
	assert_int_equal(dp_hugepages_take(&hugepages, 40 << 20), 0);
	dp_hugepages_settle(&hugepages);
	assert_int_equal(pages(), 20);
	dp_hugepages_give(&hugepages);
	assert_int_equal(pages(), 20);
	assert_false(run_exists());
}

static void what_lacks_is_added_and_given_back(void **state)
{
	struct dp_hugepages hugepages = machine();

	(void)state;
	number_set("nr_hugepages", 5);
	number_set("resv_hugepages", 3);                              /* two are free for us */
	assert_int_equal(dp_hugepages_take(&hugepages, 33 << 20), 0); /* 17 pages */
	assert_int_equal(pages(), 20);
	dp_hugepages_settle(&hugepages);
	assert_true(run_exists());
	dp_hugepages_give(&hugepages);
	assert_int_equal(pages(), 5);
	assert_false(run_exists());
	dp_hugepages_give(&hugepages); /* again: nothing */
	assert_int_equal(pages(), 5);
}

static void two_nodes_give_back_their_own(void **state)
{
	struct dp_hugepages ours = machine(), theirs = machine();
	int ready[2], end[2];
	char byte;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(end), 0);
	child = fork();
	if (child == 0) {
		if (dp_hugepages_take(&theirs, 20 << 20) != 0)
			_exit(1);
		dp_hugepages_settle(&theirs);
		if (write(ready[1], "", 1) != 1 || read(end[0], &byte, 1) != 1)
			_exit(1);
		dp_hugepages_give(&theirs);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(pages(), 10);
	number_set("resv_hugepages", 10); /* theirs are in use */
	assert_int_equal(dp_hugepages_take(&ours, 8 << 20), 0);
	dp_hugepages_settle(&ours);
	assert_int_equal(pages(), 14);
	dp_hugepages_give(&ours);
	assert_int_equal(pages(), 10);
	assert_true(run_exists());
	assert_int_equal(write(end[1], "", 1), 1);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(pages(), 0);
	assert_false(run_exists());
}

static void a_killed_node_s_pages_are_given_back_at_the_next_start(void **state)
{
	struct dp_hugepages hugepages = machine();
	int ready[2];
	char byte;
	pid_t child;

	(void)state;
	number_set("nr_hugepages", 3);
	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		if (dp_hugepages_take(&hugepages, 20 << 20) == 0 && write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(pages(), 10);
	assert_int_equal(dp_hugepages_take(&hugepages, 2 << 20), 0);
	dp_hugepages_settle(&hugepages);
	assert_int_equal(pages(), 3);
	dp_hugepages_give(&hugepages);
	assert_int_equal(pages(), 3);
	assert_false(run_exists());
}

/* Pages that were given back while mapped are none of the machine's: they must not be made to stay. */
static void surplus_pages_are_not_counted(void **state)
{
	struct dp_hugepages hugepages = machine();

	(void)state;
	number_set("nr_hugepages", 10);
	number_set("resv_hugepages", 10);
	number_set("surplus_hugepages", 10);
	/* The made-up kernel keeps all pages claimed, so it ends in a refusal; seven were asked for in all, not seventeen. */
	assert_int_equal(dp_hugepages_take(&hugepages, 14 << 20), -ENOMEM);
	assert_int_equal(pages(), 7);
}

/* A record of a process that was killed before the kernel had given anything takes nobody's pages. */
static void an_unfinished_record_takes_no_more_than_was_added(void **state)
{
	struct dp_hugepages hugepages = machine();
	char path[256];
	FILE *file;

	(void)state;
	number_set("nr_hugepages", 12);
	assert_int_equal(mkdir(run, 0755), 0);
	snprintf(path, sizeof(path), "%s/hugepages.1", run);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "adding 8 10\n");
	fclose(file);
	snprintf(path, sizeof(path), "%s/hugepages.2", run);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "rubbish");
	fclose(file);
	assert_int_equal(dp_hugepages_take(&hugepages, 2 << 20), 0);
	dp_hugepages_settle(&hugepages);
	dp_hugepages_give(&hugepages);
	assert_int_equal(pages(), 10);
	assert_false(run_exists());
}

static void a_refusal_leaves_nothing(void **state)
{
	struct dp_hugepages hugepages = machine();
	char command[512];

	(void)state;
	/* A kernel that gives nothing: what is written to "nr" does not change what is read. */
	snprintf(command, sizeof(command), "rm %s/hugepages-2048kB/free_hugepages && echo 0 > %s/hugepages-2048kB/free_hugepages",
		 sysfs, sysfs);
	assert_int_equal(system(command), 0);
	number_set("nr_hugepages", 4);
	assert_int_equal(dp_hugepages_take(&hugepages, 8 << 20), -ENOMEM);
	assert_int_equal(pages(), 4);
	assert_false(run_exists());
	dp_hugepages_settle(&hugepages);
	dp_hugepages_give(&hugepages);
	assert_int_equal(pages(), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_there_is_used, setup, teardown),
		cmocka_unit_test_setup_teardown(what_lacks_is_added_and_given_back, setup, teardown),
		cmocka_unit_test_setup_teardown(two_nodes_give_back_their_own, setup, teardown),
		cmocka_unit_test_setup_teardown(a_killed_node_s_pages_are_given_back_at_the_next_start, setup, teardown),
		cmocka_unit_test_setup_teardown(surplus_pages_are_not_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(an_unfinished_record_takes_no_more_than_was_added, setup, teardown),
		cmocka_unit_test_setup_teardown(a_refusal_leaves_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
