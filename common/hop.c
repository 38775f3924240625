/*
 * The memory of a hop ring: one anonymous file mapped twice, end to end, so that a slot that runs over the end of the ring
 * goes on at its start and is still one run of bytes.
 *
 *   base            base + capacity    base + 2 * capacity
 *   ├─── the file ───┼─── the file ─────┤
 *
 * Start and stop only; no thread may use the ring meanwhile. Every page is touched here, since a first touch costs
 * microseconds and the cores must not meet one. Source: memfd_create(2), mmap(2).
 */
#include "turnpike/hop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* No slot of an event is smaller. Others may be; then the number of slots is the limit. */
enum { SLOT_BYTES_LEAST = 128 };
static_assert(SLOT_BYTES_LEAST <= TP_SLOT_HEADER_BYTES + TP_EVENT_FIXED_BYTES, "");

static int map_twice(int file, uint64_t capacity_bytes, uint8_t **base)
{
	/* reserve the whole run first, so that the two halves surely lie side by side */
	uint8_t *at = mmap(NULL, 2 * capacity_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return -errno;
	for (int half = 0; half < 2; half++) {
		void *to = at + (uint64_t)half * capacity_bytes;
		if (mmap(to, capacity_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0) ==
		    MAP_FAILED) {
			int status = -errno;
			munmap(at, 2 * capacity_bytes);
			return status;
		}
	}
	*base = at;
	return 0;
}

int tp_hop_init(struct tp_hop *hop, uint64_t capacity_bytes)
{
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	if (capacity_bytes & (capacity_bytes - 1) || capacity_bytes < page_bytes || capacity_bytes < TP_SLOT_BYTES_MAX ||
	    capacity_bytes > UINT64_C(1) << 40)
		return -EINVAL;
	memset(hop, 0, sizeof *hop);
	int file = memfd_create("turnpike-hop", MFD_CLOEXEC);
	if (file < 0)
		return -errno;
	/* fallocate and not only ftruncate: no memory is an error here, not a SIGBUS at the touch */
	int status = ftruncate(file, (off_t)capacity_bytes) || fallocate(file, 0, 0, (off_t)capacity_bytes) ? -errno : 0;
	if (!status)
		status = map_twice(file, capacity_bytes, &hop->base);
	close(file); /* the mappings keep the memory */
	if (status)
		return status;
	hop->capacity_bytes = capacity_bytes;
	hop->slots = capacity_bytes / SLOT_BYTES_LEAST;
	hop->ticket = aligned_alloc(64, hop->slots * sizeof(*hop->ticket));
	hop->verdict = aligned_alloc(64, (hop->slots + 63) / 64 * 64); /* which wants whole lines */
	if (!hop->ticket || !hop->verdict) {
		tp_hop_fini(hop);
		return -ENOMEM;
	}
	memset(hop->ticket, 0, hop->slots * sizeof(*hop->ticket));
	memset(hop->verdict, 0, hop->slots);
	for (uint64_t at = 0; at < 2 * capacity_bytes; at += page_bytes)
		*(volatile uint8_t *)(hop->base + at) = 0;
	return 0;
}

void tp_hop_fini(struct tp_hop *hop)
{
	if (hop->base)
		munmap(hop->base, 2 * hop->capacity_bytes);
	free(hop->ticket);
	free(hop->verdict);
	memset(hop, 0, sizeof *hop);
}
