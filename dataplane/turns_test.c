/*
 * Slices as the kernel has them afterwards. That a thread with a shorter one takes its turn at once is the kernel's business; that workers of
 * a ring do not inherit a core's slice is ours.
 */
#include "turns.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t slice_ns, deadline_ns, period_ns;
};

struct slices {
	struct attributes before, after, child;
	void (*set)(void);
};

static struct attributes attributes_get(void)
{
	struct attributes attributes = {0};
	assert_int_equal(syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0), 0);
	return attributes;
}

/* A thread of such a kernel has a slice from the beginning. */
static bool slices_known(void)
{
	return attributes_get().slice_ns != 0;
}

static void *child(void *context)
{
	*(struct attributes *)context = attributes_get();
	return NULL;
}

static void *thread(void *context)
{
	struct slices *slices = context;
	pthread_t of_it;
	slices->before = attributes_get();
	slices->set();
	slices->after = attributes_get();
	if (pthread_create(&of_it, NULL, child, &slices->child) == 0)
		pthread_join(of_it, NULL);
	return NULL;
}

/* In a thread of its own, as the others shall not be changed. */
static struct slices slices_of(void (*set)(void))
{
	struct slices slices = {.set = set};
	pthread_t of_it;
	assert_int_equal(pthread_create(&of_it, NULL, thread, &slices), 0);
	assert_int_equal(pthread_join(of_it, NULL), 0);
	if (slices.before.slice_ns == 0) {
		print_message("this kernel has no slices for each thread (Linux 6.12 has)\n");
		skip();
	}
	return slices;
}

static void nicer_awaited(void)
{
	setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 1);
	assert_true(dp_turns_background(true) || !slices_known());
}

static void leisure(void)
{
	assert_true(dp_turns_background(false) || !slices_known());
}

static void test_core(void **state)
{
	const struct slices core = slices_of(dp_turns_core);
	(void)state;
	assert_true(core.after.slice_ns > core.before.slice_ns);
	assert_int_equal(core.after.nice, core.before.nice);
	assert_int_equal(core.after.policy, SCHED_OTHER);
	assert_int_equal(core.child.slice_ns, core.before.slice_ns);
}

static void test_order(void **state)
{
	const struct slices core = slices_of(dp_turns_core), awaited = slices_of(nicer_awaited), last = slices_of(leisure);
	(void)state;
	assert_true(core.after.slice_ns < awaited.after.slice_ns);
	assert_true(awaited.after.slice_ns < last.after.slice_ns);
	assert_int_equal(awaited.after.policy, SCHED_OTHER);
	assert_int_equal(awaited.after.nice, awaited.before.nice + 1);
	assert_int_equal(last.after.policy, SCHED_BATCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_core), cmocka_unit_test(test_order)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
