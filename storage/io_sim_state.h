/*
 * The inside of the simulated disk, shared by its two halves: io_sim.c (names, bytes, the io table) and io_sim_crash.c (writes in
 * flight, crashes, what tests reach for).
 *
 * Nodes (files and folders) are kept in one array; names are full paths. A name entry has a `now` and a `stable` node index; a
 * folder's sync makes the entries of its direct children stable. Random numbers come from one splitmix generator.
 */
#ifndef STORAGE_IO_SIM_STATE_H
#define STORAGE_IO_SIM_STATE_H

#include "io_sim.h"

enum { SECTOR = 512, PATH_BYTES = 256, ENTRIES = 512, NODES = 1024, FDS = 256, FLIGHT_MAX = 128 };

struct sim_image {
	uint8_t *at;
	uint64_t bytes;
};

struct sim_node {
	bool used, folder;
	struct sim_image now, stable;
	uint8_t *dirty; /* a byte per sector of now */
	uint64_t dirty_sectors;
	bool locked;
};

struct sim_entry {
	char path[PATH_BYTES];
	int now, stable; /* node, or -1 */
};

struct sim_disk {
	struct sto_io io;
	uint64_t random;
	uint64_t operations, crash_at, fail_at;
	int fail_error;
	uint64_t lie_at;
	enum sim_lie lie;
	uint64_t reads, read_fault_at;
	int read_error;
	bool faulted;
	uint32_t speed;
	bool crashed;
	uint64_t space, now_ms;
	struct sim_node node[NODES];
	struct sim_entry entry[ENTRIES];
	int entries;
	int fd[FDS]; /* node, or -1 */
	struct sim_queue *queues;
};

struct sim_flight {
	int node;
	const void *from;
	uint8_t *copy;
	uint32_t bytes;
	uint64_t offset, tag;
	int error;
};

struct sim_queue {
	struct sto_queue queue;
	struct sim_disk *disk;
	struct sim_queue *next;
	uint32_t depth, count;
	struct sim_flight flight[FLIGHT_MAX];
};

uint64_t sim_random_next(struct sim_disk *disk);
/* Counts an operation that changes something. 0, or the error that it meets. */
int sim_operation(struct sim_disk *disk);

struct sim_entry *sim_entry_find(struct sim_disk *disk, const char *path);
struct sim_entry *sim_entry_make(struct sim_disk *disk, const char *path);
int sim_node_make(struct sim_disk *disk, bool folder);
void sim_node_clear(struct sim_node *node);
/* Frees nodes that no name and no descriptor has, and names that lead nowhere. */
void sim_sweep(struct sim_disk *disk);

/* ---- bytes ---- */
uint64_t sim_sectors(uint64_t bytes);
void sim_now_resize(struct sim_node *node, uint64_t bytes);
/* Writes to the image that programs see. */
void sim_now_write(struct sim_node *node, const void *from, uint64_t bytes, uint64_t offset);
/* The write of the operation that was just counted: as it is, or as a lie. */
void sim_write_or_lie(struct sim_disk *disk, struct sim_node *node, const void *from, uint64_t bytes, uint64_t offset);
/* Counts a read of what lies in `to`. 0, or the error that it meets. */
int sim_read_count(struct sim_disk *disk, uint8_t *to, uint64_t bytes);
/* Makes a range stable, and the size with it. */
void sim_settle(struct sim_node *node, uint64_t offset, uint64_t bytes);

/* The io table, but for its context. */
extern const struct sto_io sim_table;

int sim_queue_open(const struct sto_io *io, void *buffers, uint64_t buffer_bytes, uint32_t depth, struct sto_queue **queue);

#endif
