/*
 * Reads on their way: io_read.c, both ways; and that no buffer is given back while the kernel may still write into it.
 */
#include "io.h"

#include "log_ahead.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { READS = 8, BYTES = 1 << 20 };

static char path[64];
static uint8_t *buffers;

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(1 + offset / 4096 % 251);
}

/* A file that is not in the page cache, READS * BYTES long. */
static int file_make(void **state)
{
	(void)state;
	strcpy(path, "/var/tmp/reads-test-XXXXXX");
	int fd = mkstemp(path);
	buffers = aligned_alloc(4096, READS * BYTES);
	if (fd < 0 || !buffers)
		return -1;
	for (uint64_t i = 0; i < READS * BYTES; i++)
		buffers[i] = byte_at(i);
	bool written = write(fd, buffers, READS * BYTES) == READS * BYTES && fsync(fd) == 0;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	memset(buffers, 0, READS * BYTES);
	return written ? 0 : -1;
}

static int file_remove(void **state)
{
	(void)state;
	unlink(path);
	free(buffers);
	return 0;
}

static void all_start(struct sto_reads *reads)
{
	for (uint32_t i = 0; i < READS; i++)
		assert_int_equal(reads->ops->start(reads, buffers + (uint64_t)i * BYTES, BYTES, (uint64_t)i * BYTES, 100 + i), 0);
}

static void all_there(void)
{
	for (uint64_t i = 0; i < READS * BYTES; i += 512)
		if (buffers[i] != byte_at(i))
			fail_msg("byte %llu did not come", (unsigned long long)i);
}

static void each_is_told_once(struct sto_reads *reads)
{
	uint32_t seen = 0, tag;
	all_start(reads);
	for (uint32_t i = 0; i < READS; i++) {
		assert_int_equal(reads->ops->wait(reads, &tag), BYTES);
		seen |= 1U << (tag - 100);
	}
	assert_int_equal(seen, (1U << READS) - 1);
	all_there();
	assert_true(reads->ops->close(reads));
}

static void test_plain(void **state)
{
	(void)state;
	struct sto_reads *reads;
	assert_int_equal(sto_reads_plain_open(sto_io_system(), path, READS, &reads), 0);
	each_is_told_once(reads);
}

static void test_uring(void **state)
{
	(void)state;
	struct sto_reads *reads;
	assert_int_equal(sto_reads_uring_open(sto_io_system(), path, READS, &reads), 0);
	each_is_told_once(reads);
}

static void test_close_waits(void **state)
{
	(void)state;
	struct sto_reads *reads;
	assert_int_equal(sto_reads_uring_open(sto_io_system(), path, READS, &reads), 0);
	all_start(reads);
	assert_true(reads->ops->close(reads));
	all_there();
}

/* The only ring of this process; -1: io_uring is not to be had here. */
static int ring_fd(void)
{
	for (int fd = 3; fd < 64; fd++) {
		char name[64], to[64] = "";
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		if (readlink(name, to, sizeof(to) - 1) > 0 && !strcmp(to, "anon_inode:[io_uring]"))
			return fd;
	}
	return -1;
}

/* The kernel refuses to wait (its ring is not behind the descriptor any more): what was started comes all the same, and is waited for. */
static void test_close_waits_without_the_kernel(void **state)
{
	(void)state;
	struct sto_reads *reads;
	uint32_t tag;
	assert_int_equal(sto_reads_uring_open(sto_io_system(), path, READS, &reads), 0);
	const int ring = ring_fd(), null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (ring < 0)
		skip();
	all_start(reads);
	assert_int_equal(dup2(null, ring), ring);
	close(null);
	if (reads->ops->wait(reads, &tag) < 0) /* unless one was there already */
		assert_int_equal(tag, UINT32_MAX);
	assert_true(reads->ops->close(reads));
	all_there();
}

/* ---- who has started them ---- */

static uint8_t *fake_to;
static bool fake_answer;

static int fake_start(struct sto_reads *reads, void *to, uint64_t bytes, uint64_t offset, uint32_t tag)
{
	(void)reads, (void)bytes, (void)tag;
	if (!offset)
		fake_to = to;
	return 0;
}

static int64_t fake_wait(struct sto_reads *reads, uint32_t *tag)
{
	(void)reads;
	*tag = UINT32_MAX;
	return -EBADF;
}

static bool fake_close(struct sto_reads *reads)
{
	(void)reads;
	return fake_answer;
}

static int fake_open(const struct sto_io *io, const char *name, uint32_t depth, struct sto_reads **reads)
{
	static const struct sto_reads_ops ops = {.start = fake_start, .wait = fake_wait, .close = fake_close};
	static struct sto_reads fake = {.ops = &ops};
	(void)io, (void)name, (void)depth;
	*reads = &fake;
	return 0;
}

static void test_a_buffer_is_kept_for_what_may_still_come(void **state)
{
	(void)state;
	struct sto_io io = *sto_io_system();
	io.reads_open = fake_open;
	for (int i = 0; i < 2; i++) {
		struct log_ahead *ahead;
		int rc;
		fake_answer = i == 1;
		assert_int_equal(log_ahead_open(&ahead, &io, path, -1, 64 << 10), 0);
		assert_null(log_ahead_look(ahead, 0, 100, &rc));
		assert_int_equal(rc, -EBADF);
		log_ahead_close(ahead);
		if (fake_answer)
			continue;
		/* The kernel writes now. Freed memory would be somebody else's, and a sanitizer says so. */
		uint8_t *other = aligned_alloc(4096, 64 << 10);
		memset(fake_to, 7, 4096);
		assert_ptr_not_equal(other, fake_to);
		free(other);
		free(fake_to);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_plain, file_make, file_remove),
		cmocka_unit_test_setup_teardown(test_uring, file_make, file_remove),
		cmocka_unit_test_setup_teardown(test_close_waits, file_make, file_remove),
		cmocka_unit_test_setup_teardown(test_close_waits_without_the_kernel, file_make, file_remove),
		cmocka_unit_test(test_a_buffer_is_kept_for_what_may_still_come),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
