/*
 * The log's write queue through io_uring, both ways in which a block becomes stable: io_uring.c.
 */
#include "io.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { DEPTH = 12, BLOCK = 4096, WAIT_MS = 30000 };

static uint8_t *arena;

static struct sto_queue *queue_make(enum sto_stable stable)
{
	struct sto_queue *queue;
	arena = mmap(NULL, DEPTH * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	assert_ptr_not_equal(arena, MAP_FAILED);
	assert_int_equal(sto_queue_uring_open(arena, DEPTH * BLOCK, DEPTH, stable, &queue), 0);
	return queue;
}

static void queue_end(struct sto_queue *queue)
{
	queue->ops->close(queue);
	munmap(arena, DEPTH * BLOCK);
}

static int file_make(char path[64])
{
	snprintf(path, 64, "/var/tmp/queue-test-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	return fd;
}

/* Reaps, `most` at a time, until `count` have come. */
static void reap_all(struct sto_queue *queue, struct sto_done *done, uint32_t count, uint32_t most)
{
	for (uint32_t got = 0; got < count;) {
		struct pollfd wait = {.fd = queue->ops->fd(queue), .events = POLLIN};
		if (!queue->ops->waiting(queue))
			assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
		int rc = queue->ops->reap(queue, done + got, most < count - got ? most : count - got);
		assert_true(rc >= 0);
		got += (uint32_t)rc;
	}
}

/* All blocks of two files, each told once, a few at a time; and the queue is empty then, and takes as many again. */
static void all_told_once(enum sto_stable stable)
{
	struct sto_queue *queue = queue_make(stable);
	char path[2][64];
	int fd[2] = {file_make(path[0]), file_make(path[1])}, handle[2];
	for (uint32_t i = 0; i < 2; i++)
		handle[i] = queue->ops->attach(queue, fd[i]);
	for (uint32_t round = 0; round < 20; round++) {
		struct sto_done done[DEPTH];
		uint32_t seen = 0;
		for (uint32_t i = 0; i < DEPTH; i++) {
			memset(arena + i * BLOCK, (int)(round * DEPTH + i), BLOCK);
			assert_int_equal(queue->ops->write(queue, handle[i % 2], arena + i * BLOCK, BLOCK, i / 2 * BLOCK, 100 + i),
					 0);
		}
		assert_int_equal(queue->ops->write(queue, handle[0], arena, BLOCK, 0, 99), -EBUSY);
		reap_all(queue, done, DEPTH, 1 + round % 5);
		for (uint32_t i = 0; i < DEPTH; i++) {
			assert_int_equal(done[i].result, BLOCK);
			seen |= 1U << (done[i].tag - 100);
		}
		assert_int_equal(seen, (1U << DEPTH) - 1);
		assert_int_equal(queue->ops->reap(queue, done, DEPTH), 0);
		assert_false(queue->ops->waiting(queue));
		for (uint32_t i = 0; i < DEPTH; i++) {
			uint8_t block[BLOCK];
			assert_int_equal(pread(fd[i % 2], block, BLOCK, i / 2 * BLOCK), BLOCK);
			assert_memory_equal(block, arena + i * BLOCK, BLOCK);
		}
	}
	for (uint32_t i = 0; i < 2; i++) {
		queue->ops->detach(queue, handle[i]);
		close(fd[i]);
		unlink(path[i]);
	}
	queue_end(queue);
}

static void test_each(void **state)
{
	(void)state;
	all_told_once(STO_STABLE_EACH);
}

static void test_together(void **state)
{
	(void)state;
	all_told_once(STO_STABLE_TOGETHER);
}

/* A pipe takes bytes and cannot be flushed: its blocks fail, and only its. */
static void test_flush_fails(void **state)
{
	(void)state;
	struct sto_queue *queue = queue_make(STO_STABLE_TOGETHER);
	char path[64];
	int ends[2], fd = file_make(path);
	assert_int_equal(pipe(ends), 0);
	const int handle = queue->ops->attach(queue, fd), broken = queue->ops->attach(queue, ends[1]);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(queue->ops->write(queue, i % 2 ? broken : handle, arena, BLOCK, 0, i), 0);
	struct sto_done done[6];
	reap_all(queue, done, 6, 6);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(done[i].result, done[i].tag % 2 ? -EINVAL : BLOCK);
	close(ends[0]);
	close(ends[1]);
	close(fd);
	unlink(path);
	queue_end(queue);
}

/* A block that cannot be written is told so, and nothing is flushed for it. */
static void test_write_fails(void **state)
{
	(void)state;
	struct sto_queue *queue = queue_make(STO_STABLE_TOGETHER);
	struct sto_done done[1];
	const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	const int handle = queue->ops->attach(queue, fd);
	assert_int_equal(queue->ops->write(queue, handle, arena, BLOCK, 0, 1), 0);
	reap_all(queue, done, 1, 1);
	assert_int_equal(done[0].result, -ENOSPC);
	close(fd);
	queue_end(queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each),
		cmocka_unit_test(test_together),
		cmocka_unit_test(test_flush_fails),
		cmocka_unit_test(test_write_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
