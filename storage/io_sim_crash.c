/*
 * The simulated disk: writes in flight, crashes and faults, and what tests reach for. What it models is said in io_sim.h. Tests
 * only.
 */
#include "io_sim_state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- the queue ---- */

static int sim_queue_attach(struct sto_queue *queue, int fd)
{
	(void)queue;
	return fd;
}

static void sim_queue_detach(struct sto_queue *queue, int handle)
{
	(void)queue;
	(void)handle;
}

static int sim_queue_write(struct sto_queue *queue, int fd, const void *from, uint32_t bytes, uint64_t offset, uint64_t tag)
{
	struct sim_queue *q = (struct sim_queue *)queue;
	struct sim_disk *disk = q->disk;
	assert(q->count < q->depth);
	int rc = sim_operation(disk);
	if (rc == -ESHUTDOWN)
		return rc;
	struct sim_node *node = &disk->node[disk->fd[fd]];
	if (!rc && offset + bytes > node->now.bytes && sim_space_used(disk) + offset + bytes - node->now.bytes > disk->space)
		rc = -ENOSPC;
	struct sim_flight *flight = &q->flight[q->count++];
	*flight = (struct sim_flight){.node = disk->fd[fd],
				      .from = from,
				      .copy = malloc(bytes),
				      .bytes = bytes,
				      .offset = offset,
				      .tag = tag,
				      .error = rc};
	assert(flight->copy);
	memcpy(flight->copy, from, bytes);
	return 0;
}

static int sim_queue_reap(struct sto_queue *queue, struct sto_done *done, uint32_t max)
{
	struct sim_queue *q = (struct sim_queue *)queue;
	struct sim_disk *disk = q->disk;
	uint32_t count = 0;
	while (q->count && count < max && sim_random_next(disk) % 100 < disk->speed) {
		int rc = sim_operation(disk);
		if (rc == -ESHUTDOWN)
			return rc;
		uint32_t pick = (uint32_t)(sim_random_next(disk) % q->count);
		struct sim_flight flight = q->flight[pick];
		q->flight[pick] = q->flight[--q->count];
		assert(!memcmp(flight.from, flight.copy, flight.bytes)); /* the buffer was left alone */
		struct sim_node *node = &disk->node[flight.node];
		rc = rc ? rc : flight.error;
		if (rc) {
			sim_now_write(node, flight.copy, sim_random_next(disk) % (flight.bytes / SECTOR) * SECTOR, flight.offset);
		} else {
			sim_write_or_lie(disk, node, flight.copy, flight.bytes, flight.offset);
			sim_settle(node, flight.offset, flight.bytes);
		}
		free(flight.copy);
		done[count++] = (struct sto_done){.tag = flight.tag, .result = rc ? rc : (int32_t)flight.bytes};
	}
	return (int)count;
}

static bool sim_queue_waiting(const struct sto_queue *queue)
{
	(void)queue;
	return false;
}

static int sim_queue_fd(const struct sto_queue *queue)
{
	(void)queue;
	return -1;
}

/* What is in flight stays in flight: sim_restart() decides what became of it. */
static void sim_queue_close(struct sto_queue *queue)
{
	(void)queue;
}

int sim_queue_open(const struct sto_io *io, void *buffers, uint64_t buffer_bytes, uint32_t depth, struct sto_queue **queue)
{
	static const struct sto_queue_ops ops = {.attach = sim_queue_attach,
						 .detach = sim_queue_detach,
						 .write = sim_queue_write,
						 .reap = sim_queue_reap,
						 .waiting = sim_queue_waiting,
						 .fd = sim_queue_fd,
						 .close = sim_queue_close};
	(void)buffers;
	(void)buffer_bytes;
	struct sim_queue *q = calloc(1, sizeof(*q));
	assert(q && depth <= FLIGHT_MAX);
	q->queue.ops = &ops;
	q->disk = ((struct sim_disk *)io->context);
	q->depth = depth;
	q->next = q->disk->queues;
	q->disk->queues = q;
	*queue = &q->queue;
	return 0;
}

/* ---- crashes ---- */

static void queues_end(struct sim_disk *disk, bool apply)
{
	while (disk->queues) {
		struct sim_queue *q = disk->queues;
		disk->queues = q->next;
		for (uint32_t i = 0; i < q->count; i++) {
			struct sim_flight *flight = &q->flight[i];
			for (uint32_t at = 0; apply && at < flight->bytes; at += SECTOR)
				if (sim_random_next(disk) % 2)
					sim_now_write(&disk->node[flight->node], flight->copy + at, SECTOR, flight->offset + at);
			free(flight->copy);
		}
		free(q);
	}
}

static void power_off(struct sim_disk *disk)
{
	for (int i = 0; i < disk->entries; i++) {
		struct sim_entry *entry = &disk->entry[i];
		if (entry->now != entry->stable && sim_random_next(disk) % 2)
			entry->now = entry->stable;
	}
	for (int i = 0; i < NODES; i++) {
		struct sim_node *node = &disk->node[i];
		if (!node->used || node->folder)
			continue;
		uint64_t all = sim_sectors(node->now.bytes);
		/* Sectors that did not make it are as they were stable; then the size may not have made it either. */
		for (uint64_t s = 0; s < all && node->dirty_sectors; s++) {
			if (!node->dirty[s])
				continue;
			if (sim_random_next(disk) % 2) {
				uint64_t at = s * SECTOR;
				uint64_t old = at < node->stable.bytes ? node->stable.bytes - at : 0;
				memset(node->now.at + at, 0, SECTOR);
				if (old)
					memcpy(node->now.at + at, node->stable.at + at, old < SECTOR ? old : SECTOR);
			}
			node->dirty_sectors--;
			node->dirty[s] = 0;
		}
		if (node->now.bytes != node->stable.bytes && sim_random_next(disk) % 2) {
			uint64_t before = node->now.bytes;
			sim_now_resize(node, node->stable.bytes);
			if (before < node->stable.bytes)
				memcpy(node->now.at + before, node->stable.at + before, node->stable.bytes - before);
		}
	}
}

/* What is there now is all there is. */
static void all_settle(struct sim_disk *disk)
{
	for (int i = 0; i < disk->entries; i++)
		disk->entry[i].stable = disk->entry[i].now;
	for (int i = 0; i < NODES; i++)
		if (disk->node[i].used && !disk->node[i].folder)
			sim_settle(&disk->node[i], 0, disk->node[i].now.bytes);
}

void sim_restart(struct sim_disk *disk, enum sim_end end, uint64_t seed)
{
	disk->random ^= seed * 0x9e3779b97f4a7c15ULL;
	for (int i = 0; i < FDS; i++)
		disk->fd[i] = -1;
	queues_end(disk, true);
	if (end == SIM_POWER) {
		power_off(disk);
		all_settle(disk);
	}
	for (int i = 0; i < NODES; i++)
		disk->node[i].locked = false;
	sim_sweep(disk);
	disk->crashed = false;
	disk->crash_at = disk->fail_at = disk->read_fault_at = UINT64_MAX;
	disk->lie_at = UINT64_MAX - 1;
}

/* ---- for tests ---- */

struct sim_disk *sim_disk_new(uint64_t seed)
{
	struct sim_disk *disk = calloc(1, sizeof(*disk));
	assert(disk);
	disk->random = seed;
	disk->crash_at = disk->fail_at = disk->read_fault_at = UINT64_MAX;
	disk->lie_at = UINT64_MAX - 1;
	disk->speed = 66;
	disk->space = UINT64_MAX / 2;
	disk->now_ms = 1700000000000ULL;
	for (int i = 0; i < FDS; i++)
		disk->fd[i] = -1;
	disk->io = sim_table;
	disk->io.context = disk;
	return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
	queues_end(disk, false);
	for (int i = 0; i < NODES; i++)
		sim_node_clear(&disk->node[i]);
	free(disk);
}

const struct sto_io *sim_disk_io(struct sim_disk *disk)
{
	return &disk->io;
}

uint64_t sim_operations(const struct sim_disk *disk)
{
	return disk->operations;
}

void sim_crash_at(struct sim_disk *disk, uint64_t at)
{
	disk->crash_at = at;
}

bool sim_crashed(const struct sim_disk *disk)
{
	return disk->crashed;
}

void sim_fail_at(struct sim_disk *disk, uint64_t at, int error)
{
	disk->fail_at = at;
	disk->fail_error = error;
}

void sim_space_set(struct sim_disk *disk, uint64_t bytes)
{
	disk->space = bytes;
}

void sim_clock_set(struct sim_disk *disk, uint64_t now_ms)
{
	disk->now_ms = now_ms;
}

uint8_t *sim_file(struct sim_disk *disk, const char *path, uint64_t *bytes)
{
	const struct sim_entry *entry = sim_entry_find(disk, path);
	if (!entry || entry->now < 0)
		return NULL;
	*bytes = disk->node[entry->now].now.bytes;
	return disk->node[entry->now].now.at;
}

uint64_t sim_digest(const struct sim_disk *disk)
{
	uint64_t digest = 0;
	for (int i = 0; i < disk->entries; i++) {
		const struct sim_entry *entry = &disk->entry[i];
		if (entry->now < 0)
			continue;
		const struct sim_node *node = &disk->node[entry->now];
		uint64_t one = XXH3_64bits(entry->path, strlen(entry->path));
		if (!node->folder)
			one = XXH3_64bits_withSeed(node->now.at, node->now.bytes, one);
		digest += one * (one | 1); /* whatever the order of names */
	}
	return digest;
}

int sim_file_put(struct sim_disk *disk, const char *path, const void *from, uint64_t bytes)
{
	struct sim_entry *entry = sim_entry_find(disk, path);
	if (!entry || entry->now < 0) {
		int node = sim_node_make(disk, false);
		entry = sim_entry_make(disk, path);
		entry->now = entry->stable = node;
	}
	struct sim_node *node = &disk->node[entry->now];
	sim_now_resize(node, 0);
	sim_now_resize(node, bytes);
	sim_now_write(node, from, bytes, 0);
	sim_settle(node, 0, bytes);
	return 0;
}
