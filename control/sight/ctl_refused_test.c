/* Periods of refusal: what begins, ends and joins them, and what a restart makes of them. */
#include "ctl_refused.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static struct ctl_refused *refused;

/* "FROM-TO reason, …" of what touches a range; a period that lasts has no TO. */
static const char *told(uint64_t from_ms, uint64_t to_ms)
{
	static char text[32768];
	json_t *answer = ctl_refused_json(refused, from_ms, to_ms), *item;
	size_t i, used = 0;

	text[0] = '\0';
	json_array_foreach(json_object_get(answer, "items"), i, item)
	{
		json_t *end = json_object_get(item, "to_ms");
		char to[24] = "";
		if (!json_is_null(end))
			snprintf(to, sizeof(to), "%lld", (long long)json_integer_value(end));
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%lld-%s %s", i ? ", " : "",
					 (long long)json_integer_value(json_object_get(item, "from_ms")), to,
					 json_string_value(json_object_get(item, "reason")));
	}
	json_decref(answer);
	return text;
}

static void begin(uint64_t now_ms)
{
	assert_int_equal(ctl_refused_open(&refused, folder, now_ms), 0);
}

static void end(void)
{
	ctl_refused_close(refused);
	refused = NULL;
}

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "refused.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	char path[96];

	(void)state;
	if (refused)
		end();
	snprintf(path, sizeof(path), "%s/refused", folder);
	unlink(path);
	return rmdir(folder);
}

static void a_period_is_as_long_as_its_reason(void **state)
{
	(void)state;
	begin(1000);
	ctl_refused_note(refused, 1000, CTL_WHY_UNKNOWN);
	ctl_refused_note(refused, 2000, CTL_WHY_NONE);
	assert_string_equal(told(0, 90000), "");
	ctl_refused_note(refused, 3000, CTL_WHY_NO_SPACE);
	assert_string_equal(told(0, 90000), "3000- no_space");
	ctl_refused_note(refused, 4000, CTL_WHY_NO_SPACE);
	ctl_refused_note(refused, 5000, CTL_WHY_STOPPING);
	ctl_refused_note(refused, 6000, CTL_WHY_UNKNOWN);
	ctl_refused_note(refused, 7000, CTL_WHY_NONE);
	assert_string_equal(told(0, 90000), "3000-5000 no_space, 5000-7000 stopping");
	/* half-open ranges */
	assert_string_equal(told(5000, 90000), "5000-7000 stopping");
	assert_string_equal(told(0, 3000), "");
	assert_string_equal(told(4999, 5000), "3000-5000 no_space");
	/* again soon: the same period; again later: another */
	ctl_refused_note(refused, 11000, CTL_WHY_STOPPING);
	ctl_refused_note(refused, 12000, CTL_WHY_NONE);
	ctl_refused_note(refused, 18000, CTL_WHY_STOPPING);
	assert_string_equal(told(5000, 90000), "5000-12000 stopping, 18000- stopping");
}

static void a_restart_keeps_them_and_says_what_it_missed(void **state)
{
	(void)state;
	begin(1000);
	ctl_refused_note(refused, 1000, CTL_WHY_GONE);
	ctl_refused_note(refused, 2000, CTL_WHY_NONE);
	ctl_refused_note(refused, 9000, CTL_WHY_NO_SPACE);
	ctl_refused_note(refused, 10000, CTL_WHY_NO_SPACE);
	end();
	begin(12000); /* soon */
	assert_string_equal(told(0, 900000), "1000-2000 gone, 9000-10000 no_space");
	ctl_refused_note(refused, 12000, CTL_WHY_NO_SPACE);
	assert_string_equal(told(3000, 900000), "9000- no_space");
	end();
	begin(12000 + CTL_UNWATCHED_MS + 1);
	assert_string_equal(told(3000, 900000), "9000-12000 no_space, 12000-42001 unwatched");
}

static void a_clock_set_back_and_a_damaged_file_begin_anew(void **state)
{
	char path[96];

	(void)state;
	begin(900000);
	ctl_refused_note(refused, 900000, CTL_WHY_GONE);
	ctl_refused_note(refused, 100000, CTL_WHY_GONE);
	ctl_refused_note(refused, 101000, CTL_WHY_NONE);
	ctl_refused_note(refused, 102000, CTL_WHY_GONE);
	ctl_refused_note(refused, 103000, CTL_WHY_NONE);
	assert_string_equal(told(0, UINT64_MAX), "100000-103000 gone");
	end();
	begin(104000);
	ctl_refused_note(refused, 104000, CTL_WHY_STALLED);
	assert_string_equal(told(0, UINT64_MAX), "100000-103000 gone, 104000- stalled");
	end();
	snprintf(path, sizeof(path), "%s/refused", folder);
	FILE *file = fopen(path, "w");
	fputs("turnpike refused 1 5000\n1000 900 gone\n", file);
	fclose(file);
	begin(100000);
	assert_string_equal(told(0, UINT64_MAX), "");
}

static void the_oldest_go_when_there_are_many(void **state)
{
	(void)state;
	begin(1);
	for (uint64_t i = 1; i <= CTL_REFUSED_MAX + 10; i++) {
		ctl_refused_note(refused, i * 20000, CTL_WHY_SHED);
		ctl_refused_note(refused, i * 20000 + 1000, CTL_WHY_NONE);
	}
	json_t *answer = ctl_refused_json(refused, 0, UINT64_MAX), *items = json_object_get(answer, "items");
	assert_int_equal(json_array_size(items), CTL_REFUSED_MAX);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(items, 0), "from_ms")), 11 * 20000);
	json_decref(answer);
	end();
	begin((CTL_REFUSED_MAX + 10) * 20000 + 2000);
	assert_non_null(strstr(told(0, UINT64_MAX), "220000-221000 shed"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_period_is_as_long_as_its_reason, setup, teardown),
		cmocka_unit_test_setup_teardown(a_restart_keeps_them_and_says_what_it_missed, setup, teardown),
		cmocka_unit_test_setup_teardown(a_clock_set_back_and_a_damaged_file_begin_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(the_oldest_go_when_there_are_many, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
