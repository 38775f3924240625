/*
 * The simulated disk when it is broken: writes that lie, reads that fail or bring wrong bytes. Tests only.
 */
#include "io_sim_state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { PLACE = 4096 }; /* a misdirected write hits a whole block of something else, which is worse than half of one */

/* Another place in the file for a write; the same one when there is no other. */
static uint64_t elsewhere(struct sim_disk *disk, const struct sim_node *node, uint64_t bytes, uint64_t offset)
{
	if (node->now.bytes < bytes + PLACE)
		return offset;
	uint64_t places = (node->now.bytes - bytes) / PLACE + 1;
	uint64_t place = sim_random_next(disk) % places * PLACE;
	return place == offset ? (place + PLACE) % (places * PLACE) : place;
}

static void lie(struct sim_disk *disk, struct sim_node *node, const uint8_t *from, uint64_t bytes, uint64_t offset)
{
	uint64_t other = elsewhere(disk, node, bytes, offset);
	uint64_t skipped = sim_random_next(disk) % sim_sectors(bytes);
	switch (disk->lie) {
	case SIM_LOST:
	case SIM_LIES:
		break;
	case SIM_TORN:
		for (uint64_t s = 0; s < sim_sectors(bytes); s++) {
			uint64_t at = s * SECTOR, some = bytes - at < SECTOR ? bytes - at : SECTOR;
			if (s != skipped && sim_random_next(disk) % 2)
				sim_now_write(node, from + at, some, offset + at);
		}
		break;
	case SIM_DUPLICATED:
		sim_now_write(node, from, bytes, offset);
		sim_now_write(node, from, bytes, other);
		break;
	case SIM_MISDIRECTED:
		if (other != offset)
			sim_now_write(node, from, bytes, other);
		break;
	case SIM_FLIPPED:
		sim_now_write(node, from, bytes, offset);
		node->now.at[offset + sim_random_next(disk) % bytes] ^= (uint8_t)(1 << sim_random_next(disk) % 8);
		break;
	}
	/* Wherever it went, it is there for good. */
	sim_settle(node, 0, node->now.bytes);
}

void sim_write_or_lie(struct sim_disk *disk, struct sim_node *node, const void *from, uint64_t bytes, uint64_t offset)
{
	if (disk->operations != disk->lie_at + 1 || !bytes) {
		sim_now_write(node, from, bytes, offset);
		return;
	}
	disk->faulted = true;
	/* The file has the size that it believes to have. */
	if (offset + bytes > node->now.bytes)
		sim_now_resize(node, offset + bytes);
	lie(disk, node, from, bytes, offset);
}

int sim_read_count(struct sim_disk *disk, uint8_t *to, uint64_t bytes)
{
	if (disk->reads++ != disk->read_fault_at)
		return 0;
	disk->faulted = true;
	if (!disk->read_error && bytes)
		to[sim_random_next(disk) % bytes] ^= (uint8_t)(1 << sim_random_next(disk) % 8);
	return disk->read_error;
}

void sim_lie_at(struct sim_disk *disk, uint64_t operation, enum sim_lie lie)
{
	disk->lie_at = operation;
	disk->lie = lie;
}

void sim_read_fault_at(struct sim_disk *disk, uint64_t read, int error)
{
	disk->read_fault_at = read;
	disk->read_error = error;
}

uint64_t sim_reads(const struct sim_disk *disk)
{
	return disk->reads;
}

bool sim_faulted(const struct sim_disk *disk)
{
	return disk->faulted;
}

void sim_speed_set(struct sim_disk *disk, uint32_t percent)
{
	disk->speed = percent;
}
