/* The live view's memory: both sides, and what a reader refuses. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "turnpike/live.h"

enum { TABLES = 3, ROWS = 100, HEAP = 4096 };

static void unmap(struct tp_live *live, int fd)
{
	tp_live_unmap(live);
	close(fd);
}

static void a_reader_sees_what_is_written(void **state)
{
	(void)state;
	struct tp_live *live;
	const struct tp_live *view;
	int fd = tp_live_create(&live, TABLES, ROWS, HEAP);

	assert_true(fd >= 0);
	assert_int_equal(tp_live_map(fd, &view), 0);
	assert_ptr_not_equal(view, live);
	assert_int_equal(view->pid, getpid());
	assert_int_equal(view->rollup_count, TABLES);
	assert_int_equal(atomic_load(&view->refusing), TP_STARTING);
	atomic_store(&live->watermark_ms, 42);
	assert_int_equal(atomic_load(&view->watermark_ms), 42);
	for (uint32_t i = 0; i < TABLES; i++) {
		const struct tp_rollup *mine = tp_live_rollup(live, i), *seen = tp_live_rollup(view, i);
		assert_int_equal(atomic_load(&seen->file_id), 0);
		assert_int_equal(seen->rows_max, ROWS);
		tp_rollup_reset((struct tp_rollup *)(uintptr_t)mine, 100 + i);
		assert_int_equal(atomic_load(&seen->file_id), 100 + i);
	}
	tp_live_unmap(view);
	unmap(live, fd);
}

static void a_large_table_keeps_what_it_has_when_its_memory_comes(void **state)
{
	(void)state;
	enum { LARGE = 20000, HUGE = 2 << 20 };
	struct tp_live *live;
	const struct tp_live *view;
	int fd = tp_live_create(&live, 2, LARGE, 1 << 20);

	assert_true(fd >= 0);
	assert_int_equal(live->rollup_at % HUGE, 0);
	assert_int_equal(live->rollup_bytes % HUGE, 0);
	assert_int_equal((uintptr_t)live % HUGE, 0);
	assert_int_equal(tp_live_map(fd, &view), 0);
	struct tp_rollup *table = (struct tp_rollup *)(uintptr_t)tp_live_rollup(live, 1);
	tp_rollup_reset(table, 7);
	char *heap = (char *)(uintptr_t)tp_rollup_heap(table);
	heap[0] = 'a';
	heap[table->heap_bytes_max - 1] = 'z';
	uint32_t parts = 0;
	while (tp_live_rollup_touch(live, 1, parts))
		parts++;
	assert_int_equal(parts, live->rollup_bytes / HUGE);
	heap[1] = 'b';
	assert_memory_equal(tp_rollup_heap(tp_live_rollup(view, 1)), "ab", 2);
	assert_int_equal(tp_rollup_heap(tp_live_rollup(view, 1))[table->heap_bytes_max - 1], 'z');
	assert_int_equal(atomic_load(&tp_live_rollup(view, 1)->file_id), 7);
	unsigned char there[16];
	assert_int_equal(mincore(heap - (uintptr_t)heap % 4096, sizeof(there) * 4096UL, there), 0);
	for (size_t i = 0; i < sizeof(there); i++)
		assert_true(there[i] & 1);
	tp_live_unmap(view);
	unmap(live, fd);
}

static void the_memory_is_sealed(void **state)
{
	(void)state;
	struct tp_live *live;
	int fd = tp_live_create(&live, 1, ROWS, HEAP);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(ftruncate(fd, (off_t)live->bytes * 2), -1);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	unmap(live, fd);
}

static void foreign_memory_is_refused(void **state)
{
	(void)state;
	const struct tp_live *view = NULL;
	struct tp_live *live;

	int fd = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(tp_live_map(fd, &view), -EPROTO); /* could shrink under us */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(tp_live_map(fd, &view), -EPROTO); /* too short */
	assert_int_equal(ftruncate(fd, (off_t)sizeof(struct tp_live)), 0);
	assert_int_equal(tp_live_map(fd, &view), -EPROTO); /* zeros */
	close(fd);
	assert_true(tp_live_map(-1, &view) < 0);

	fd = tp_live_create(&live, 1, ROWS, HEAP);
	assert_true(fd >= 0);
	struct tp_rollup *table = (struct tp_rollup *)(uintptr_t)tp_live_rollup(live, 0);
#define REFUSED(field, value) \
	do { \
		__typeof__(field) was = (field); \
		(field) = (value); \
		assert_int_equal(tp_live_map(fd, &view), -EPROTO); \
		(field) = was; \
	} while (0)
	REFUSED(live->magic, 1);
	REFUSED(live->version, TP_LIVE_VERSION + 1);
	REFUSED(live->header_bytes, 64);
	REFUSED(live->bytes, live->bytes + 1);
	REFUSED(live->rollup_count, 1000);
	REFUSED(live->rollup_bytes, UINT64_MAX & ~4095ULL);
	REFUSED(live->rollup_bytes, 0);
	REFUSED(live->cores, TP_CORES_MAX + 1);
	REFUSED(live->shards, TP_SHARDS_MAX + 1);
	REFUSED(table->rows_max, UINT32_MAX);
	REFUSED(table->rows_at, UINT64_MAX & ~63ULL);
	REFUSED(table->rows_at, 8);
	REFUSED(table->heap_at, UINT64_MAX);
	REFUSED(table->heap_bytes_max, UINT32_MAX);
#undef REFUSED
	assert_int_equal(tp_live_map(fd, &view), 0);
	tp_live_unmap(view);
	unmap(live, fd);
}

static void each_state_has_a_name(void **state)
{
	(void)state;
	assert_string_equal(tp_refusing_name(TP_TAKING), "taking");
	assert_string_equal(tp_refusing_name(TP_STARTING), "starting");
	assert_string_equal(tp_refusing_name(TP_NO_SPACE), "no_space");
	assert_string_equal(tp_refusing_name(TP_STOPPING), "stopping");
	assert_string_equal(tp_refusing_name((enum tp_refusing)99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reader_sees_what_is_written),
		cmocka_unit_test(a_large_table_keeps_what_it_has_when_its_memory_comes),
		cmocka_unit_test(the_memory_is_sealed),
		cmocka_unit_test(foreign_memory_is_refused),
		cmocka_unit_test(each_state_has_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
