/* A buffer that was given back once is there again without the kernel: no page of it is made a second time. */
#include "turnpike/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

/* Page faults of taking, touching and giving back buffers of several sizes. */
static long round_faults(void)
{
	static const size_t size[] = {300000, 5000000, 40 << 20};
	struct rusage before, after;
	getrusage(RUSAGE_THREAD, &before);
	for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		char *at = malloc(size[i]);
		assert_non_null(at);
		memset(at, 1, size[i]);
		__asm__ volatile("" : : "r"(at) : "memory"); /* it is needed, compiler */
		free(at);
	}
	getrusage(RUSAGE_THREAD, &after);
	return after.ru_minflt - before.ru_minflt;
}

static void test_kept(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip(); /* an allocator of their own */
#endif
	tp_heap_keep();
	assert_true(round_faults() > 10); /* huge pages may be at work */
	assert_true(round_faults() < 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_kept)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
