/*
 * The live view's memory: made by the data process, mapped read only by others. Layout and rules: turnpike/live.h.
 *
 *   memfd ─ struct tp_live ─ page ─ rollup 0 ─ page ─ rollup 1 ─ …        each table starts on a page; large ones on a huge page
 *
 * The memfd is sealed: it can neither shrink (no reader is ever hit by SIGBUS), nor grow, and whoever gets it cannot map it
 * writable (F_SEAL_FUTURE_WRITE leaves only the mapping that its creator already has).
 *
 * Cold code; the creator's start thread, or one thread of a reader.
 */
#include "turnpike/live.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { PAGE_BYTES = 4096, HUGE_BYTES = 2 << 20 };

static_assert(_Alignof(struct tp_live) <= PAGE_BYTES, "a mapping is aligned enough");

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/* A shared mapping that starts on a huge page, so that its parts can lie on such pages. */
static void *map_aligned(int fd, uint64_t bytes)
{
	uint8_t *room = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return MAP_FAILED;
	uint64_t before = round_up((uintptr_t)room, HUGE_BYTES) - (uintptr_t)room;
	void *at = mmap(room + before, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (at == MAP_FAILED)
		before = bytes + HUGE_BYTES;
	else
		munmap(room + before + bytes, HUGE_BYTES - before);
	if (before)
		munmap(room, before);
	return at;
}

const char *tp_refusing_name(enum tp_refusing state)
{
	switch (state) {
	case TP_TAKING:
		return "taking";
	case TP_STARTING:
		return "starting";
	case TP_NO_SPACE:
		return "no_space";
	case TP_STOPPING:
		return "stopping";
	}
	return "unknown";
}

int tp_live_create(struct tp_live **live, uint32_t rollup_count, uint32_t rollup_rows, uint32_t rollup_heap_bytes)
{
	uint64_t each = tp_rollup_bytes(rollup_rows, rollup_heap_bytes);
	const uint64_t page = each < HUGE_BYTES ? PAGE_BYTES : HUGE_BYTES;
	uint64_t at = round_up(sizeof(struct tp_live), page);
	each = round_up(each, page);
	uint64_t bytes = at + rollup_count * each;
	int error;

	int fd = memfd_create("turnpike-live", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) != 0)
		goto no_file;
	struct tp_live *made = map_aligned(fd, bytes);
	if (made == MAP_FAILED)
		goto no_file;
	/* FUTURE_WRITE came with Linux 5.1; without it readers are trusted to map read only */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
		goto no_map;
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) != 0)
		goto no_map;

	made->version = TP_LIVE_VERSION;
	made->header_bytes = sizeof(*made);
	made->bytes = bytes;
	made->rollup_at = at;
	made->rollup_bytes = each;
	made->rollup_count = rollup_count;
	made->pid = (uint32_t)getpid();
	atomic_store_explicit(&made->refusing, TP_STARTING, memory_order_relaxed);
	for (uint32_t i = 0; i < rollup_count; i++)
		tp_rollup_format((struct tp_rollup *)(void *)((uint8_t *)made + at + i * each), rollup_rows, rollup_heap_bytes);
	made->magic = TP_LIVE_MAGIC;
	*live = made;
	return fd;

no_map:
	error = errno;
	munmap(made, bytes);
	close(fd);
	return -error;
no_file:
	error = errno;
	close(fd);
	return -error;
}

bool tp_live_rollup_touch(struct tp_live *live, uint32_t index, uint32_t part)
{
	const uint64_t from = (uint64_t)part * HUGE_BYTES;
	if (live->rollup_bytes % HUGE_BYTES != 0 || from >= live->rollup_bytes)
		return false;
	/* Not MADV_COLLAPSE: huge pages would be better, but it waits for kernel threads on every CPU, on a crowded machine for seconds. */
	(void)madvise((uint8_t *)live + live->rollup_at + index * live->rollup_bytes + from, HUGE_BYTES, MADV_POPULATE_WRITE);
	return true;
}

/* The offsets that a reader will follow lie inside the table. The counts that grow are checked against these by rows_max. */
static bool rollup_fits(const struct tp_rollup *table, uint64_t bytes)
{
	uint64_t rows_bytes = (uint64_t)table->rows_max * sizeof(struct tp_rollup_row);
	return table->rows_at % _Alignof(struct tp_rollup_row) == 0 && table->rows_at >= sizeof(*table) &&
	       table->rows_at <= bytes && rows_bytes <= bytes - table->rows_at && table->heap_at >= sizeof(*table) &&
	       table->heap_at <= bytes && table->heap_bytes_max <= bytes - table->heap_at;
}

static bool live_fits(const struct tp_live *live, uint64_t bytes)
{
	if (live->bytes != bytes || live->cores > TP_CORES_MAX || live->shards > TP_SHARDS_MAX)
		return false;
	if (live->rollup_at < sizeof(*live) || live->rollup_at % PAGE_BYTES != 0 || live->rollup_bytes % PAGE_BYTES != 0)
		return false;
	if (live->rollup_count == 0)
		return live->rollup_at <= bytes;
	if (live->rollup_bytes < sizeof(struct tp_rollup) || live->rollup_at > bytes ||
	    (bytes - live->rollup_at) / live->rollup_bytes < live->rollup_count)
		return false;
	for (uint32_t i = 0; i < live->rollup_count; i++) {
		if (!rollup_fits(tp_live_rollup(live, i), live->rollup_bytes))
			return false;
	}
	return true;
}

int tp_live_map(int fd, const struct tp_live **live)
{
	struct stat stat;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || fstat(fd, &stat) != 0)
		return -errno;
	if ((seals & F_SEAL_SHRINK) == 0 || stat.st_size < (off_t)sizeof(struct tp_live))
		return -EPROTO;
	uint64_t bytes = (uint64_t)stat.st_size;
	const struct tp_live *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	if (map->magic != TP_LIVE_MAGIC || map->version != TP_LIVE_VERSION || map->header_bytes != sizeof(*map) ||
	    !live_fits(map, bytes)) {
		munmap((void *)(uintptr_t)map, bytes);
		return -EPROTO;
	}
	*live = map;
	return 0;
}

void tp_live_unmap(const struct tp_live *live)
{
	if (live)
		munmap((void *)(uintptr_t)live, live->bytes);
}

void tp_live_alert_add(struct tp_live *live, const struct tp_live_alert *alert)
{
	uint32_t alerts = atomic_load_explicit(&live->alerts, memory_order_relaxed);
	struct tp_live_alert *to = &live->alert[alerts % TP_LIVE_ALERTS];
	uint32_t version = atomic_load_explicit(&to->version, memory_order_relaxed);
	atomic_store_explicit(&to->version, version + 1, memory_order_relaxed);
	/* the odd version is seen before any new byte; pairs with the acquire fence of the reader */
	atomic_thread_fence(memory_order_release);
	const size_t from = offsetof(struct tp_live_alert, seen);
	memcpy((uint8_t *)to + from, (const uint8_t *)alert + from, sizeof(*to) - from);
	/* release: who sees the even version sees the alert, and who sees the count sees both */
	atomic_store_explicit(&to->version, version + 2, memory_order_release);
	atomic_store_explicit(&live->alerts, alerts + 1, memory_order_release);
}

bool tp_live_alert_read(const struct tp_live *live, uint32_t back, struct tp_live_alert *alert)
{
	uint32_t alerts = atomic_load_explicit(&live->alerts, memory_order_acquire);
	if (back >= alerts || back >= TP_LIVE_ALERTS)
		return false;
	const struct tp_live_alert *from = &live->alert[(alerts - 1 - back) % TP_LIVE_ALERTS];
	uint32_t version = atomic_load_explicit(&from->version, memory_order_acquire);
	memcpy(alert, from, sizeof(*alert));
	atomic_thread_fence(memory_order_acquire);
	alert->publisher[sizeof(alert->publisher) - 1] = 0;
	return version % 2 == 0 && version == atomic_load_explicit(&from->version, memory_order_relaxed);
}
