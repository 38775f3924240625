/*
 * The simulated disk: what it models is said in io_sim.h. Tests only.
 *
 * Nodes (files and folders) are kept in one array; names are full paths. A name entry has a `now` and a `stable` node index; a folder's
 * sync makes the entries of its direct children stable. Numbers come from one splitmix generator.
 */
#include "io_sim.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

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

static uint64_t random_next(struct sim_disk *disk)
{
	uint64_t z = disk->random += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static struct sim_disk *disk_of(const struct sto_io *io)
{
	return io->context;
}

/* Counts an operation that changes something. 0, or the error that it meets. */
static int operation(struct sim_disk *disk)
{
	if (disk->crashed || disk->operations >= disk->crash_at) {
		disk->crashed = true;
		return -ESHUTDOWN;
	}
	return disk->operations++ == disk->fail_at ? disk->fail_error : 0;
}

/* ---- names ---- */

static void normal_path(char *to, const char *path)
{
	size_t at = 0;
	for (; *path && at < PATH_BYTES - 1; path++)
		if (*path != '/' || (at && to[at - 1] != '/'))
			to[at++] = *path;
	while (at && to[at - 1] == '/')
		at--;
	to[at] = 0;
}

static struct sim_entry *entry_find(struct sim_disk *disk, const char *path)
{
	char normal[PATH_BYTES];
	normal_path(normal, path);
	for (int i = 0; i < disk->entries; i++)
		if (!strcmp(disk->entry[i].path, normal))
			return &disk->entry[i];
	return NULL;
}

static struct sim_entry *entry_make(struct sim_disk *disk, const char *path)
{
	struct sim_entry *entry = entry_find(disk, path);
	if (entry)
		return entry;
	assert(disk->entries < ENTRIES);
	entry = &disk->entry[disk->entries++];
	normal_path(entry->path, path);
	entry->now = entry->stable = -1;
	return entry;
}

static void node_clear(struct sim_node *node)
{
	free(node->now.at);
	free(node->stable.at);
	free(node->dirty);
	*node = (struct sim_node){0};
}

/* Frees nodes that no name and no descriptor has, and names that lead nowhere. */
static void sweep(struct sim_disk *disk)
{
	bool kept[NODES] = {0};
	for (int i = 0; i < disk->entries; i++) {
		struct sim_entry *entry = &disk->entry[i];
		if (entry->now < 0 && entry->stable < 0) {
			*entry = disk->entry[--disk->entries];
			i--;
			continue;
		}
		if (entry->now >= 0)
			kept[entry->now] = true;
		if (entry->stable >= 0)
			kept[entry->stable] = true;
	}
	for (int i = 0; i < FDS; i++)
		if (disk->fd[i] >= 0)
			kept[disk->fd[i]] = true;
	for (struct sim_queue *q = disk->queues; q; q = q->next)
		for (uint32_t i = 0; i < q->count; i++)
			kept[q->flight[i].node] = true;
	for (int i = 0; i < NODES; i++)
		if (disk->node[i].used && !kept[i])
			node_clear(&disk->node[i]);
}

static int node_make(struct sim_disk *disk, bool folder)
{
	sweep(disk);
	for (int i = 0; i < NODES; i++) {
		if (disk->node[i].used)
			continue;
		disk->node[i] = (struct sim_node){.used = true, .folder = folder};
		return i;
	}
	assert(!"nodes");
	return -1;
}

static struct sim_node *node_of(struct sim_disk *disk, int fd)
{
	assert(fd >= 0 && fd < FDS && disk->fd[fd] >= 0);
	return &disk->node[disk->fd[fd]];
}

/* ---- bytes ---- */

static uint64_t sectors(uint64_t bytes)
{
	return (bytes + SECTOR - 1) / SECTOR;
}

static void image_resize(struct sim_image *image, uint64_t bytes)
{
	uint64_t room = sectors(bytes) * SECTOR + SECTOR;
	image->at = realloc(image->at, room);
	assert(image->at);
	if (bytes > image->bytes)
		memset(image->at + image->bytes, 0, room - image->bytes);
	else
		memset(image->at + bytes, 0, room - bytes);
	image->bytes = bytes;
}

static void now_resize(struct sim_node *node, uint64_t bytes)
{
	uint64_t before = sectors(node->now.bytes), after = sectors(bytes);
	image_resize(&node->now, bytes);
	for (uint64_t i = after; i < before; i++)
		node->dirty_sectors -= node->dirty[i];
	node->dirty = realloc(node->dirty, after + 1);
	assert(node->dirty);
	if (after > before)
		memset(node->dirty + before, 0, after - before);
}

static uint64_t space_used(const struct sim_disk *disk)
{
	uint64_t used = 0;
	for (int i = 0; i < NODES; i++)
		if (disk->node[i].used)
			used += disk->node[i].now.bytes;
	return used;
}

/* Writes to the image that programs see. */
static void now_write(struct sim_node *node, const void *from, uint64_t bytes, uint64_t offset)
{
	if (!bytes)
		return;
	if (offset + bytes > node->now.bytes)
		now_resize(node, offset + bytes);
	memcpy(node->now.at + offset, from, bytes);
	for (uint64_t s = offset / SECTOR; s <= (offset + bytes - 1) / SECTOR; s++) {
		node->dirty_sectors += !node->dirty[s];
		node->dirty[s] = 1;
	}
}

static void sector_settle(struct sim_node *node, uint64_t sector)
{
	if (sector * SECTOR < node->stable.bytes) {
		uint64_t bytes = node->stable.bytes - sector * SECTOR;
		memcpy(node->stable.at + sector * SECTOR, node->now.at + sector * SECTOR, bytes < SECTOR ? bytes : SECTOR);
	}
	node->dirty_sectors -= node->dirty[sector];
	node->dirty[sector] = 0;
}

/* Makes a range stable, and the size with it. */
static void settle(struct sim_node *node, uint64_t offset, uint64_t bytes)
{
	if (node->stable.bytes != node->now.bytes)
		image_resize(&node->stable, node->now.bytes);
	if (!bytes)
		return;
	for (uint64_t s = offset / SECTOR; s <= (offset + bytes - 1) / SECTOR && s < sectors(node->now.bytes); s++)
		sector_settle(node, s);
}

/* ---- the table ---- */

static int sim_open(const struct sto_io *io, const char *path, int flags, uint32_t mode)
{
	struct sim_disk *disk = disk_of(io);
	(void)mode;
	if (disk->crashed)
		return -ESHUTDOWN;
	struct sim_entry *entry = entry_find(disk, path);
	bool there = entry && entry->now >= 0;
	if (!there && !(flags & O_CREAT))
		return -ENOENT;
	if (there && (flags & O_EXCL))
		return -EEXIST;
	if (!there || (flags & O_TRUNC)) {
		int rc = operation(disk);
		if (rc)
			return rc;
	}
	if (!there) {
		int node = node_make(disk, false);
		entry = entry_make(disk, path);
		entry->now = node;
		now_resize(&disk->node[node], 0);
	} else if (flags & O_TRUNC) {
		now_resize(&disk->node[entry->now], 0);
	}
	for (int i = 0; i < FDS; i++) {
		if (disk->fd[i] >= 0)
			continue;
		disk->fd[i] = entry->now;
		return i;
	}
	return -EMFILE;
}

static void sim_close(const struct sto_io *io, int fd)
{
	struct sim_disk *disk = disk_of(io);
	node_of(disk, fd)->locked = false;
	disk->fd[fd] = -1;
}

static int64_t sim_read(const struct sto_io *io, int fd, void *to, uint64_t bytes, uint64_t offset)
{
	struct sim_disk *disk = disk_of(io);
	if (disk->crashed)
		return -ESHUTDOWN;
	const struct sim_node *node = node_of(disk, fd);
	if (offset >= node->now.bytes)
		return 0;
	if (bytes > node->now.bytes - offset)
		bytes = node->now.bytes - offset;
	memcpy(to, node->now.at + offset, bytes);
	return (int64_t)bytes;
}

static int sim_write(const struct sto_io *io, int fd, const void *from, uint64_t bytes, uint64_t offset)
{
	struct sim_disk *disk = disk_of(io);
	struct sim_node *node = node_of(disk, fd);
	int rc = operation(disk);
	uint64_t end = offset + bytes;
	if (!rc && end > node->now.bytes && space_used(disk) + end - node->now.bytes > disk->space)
		rc = -ENOSPC;
	if (rc == -ESHUTDOWN)
		return rc;
	/* What fails may have happened in part. */
	now_write(node, from, rc ? random_next(disk) % (bytes + 1) / 2 : bytes, offset);
	return rc;
}

static int sim_allocate(const struct sto_io *io, int fd, uint64_t bytes)
{
	struct sim_disk *disk = disk_of(io);
	struct sim_node *node = node_of(disk, fd);
	int rc = operation(disk);
	if (rc)
		return rc;
	if (bytes <= node->now.bytes)
		return 0;
	if (space_used(disk) + bytes - node->now.bytes > disk->space)
		return -ENOSPC;
	now_resize(node, bytes);
	return 0;
}

static int sim_truncate(const struct sto_io *io, int fd, uint64_t bytes)
{
	int rc = operation(disk_of(io));
	if (!rc)
		now_resize(node_of(disk_of(io), fd), bytes);
	return rc;
}

static int sim_sync(const struct sto_io *io, int fd)
{
	struct sim_node *node = node_of(disk_of(io), fd);
	int rc = operation(disk_of(io));
	if (!rc)
		settle(node, 0, node->now.bytes);
	return rc;
}

static int sim_size(const struct sto_io *io, int fd, uint64_t *bytes)
{
	*bytes = node_of(disk_of(io), fd)->now.bytes;
	return disk_of(io)->crashed ? -ESHUTDOWN : 0;
}

static int sim_identity(const struct sto_io *io, const char *path, int fd, uint64_t id[2])
{
	struct sim_disk *disk = disk_of(io);
	if (disk->crashed)
		return -ESHUTDOWN;
	id[0] = 1;
	if (!path) {
		id[1] = (uint64_t)disk->fd[fd];
		return 0;
	}
	const struct sim_entry *entry = entry_find(disk, path);
	if (!entry || entry->now < 0)
		return -ENOENT;
	id[1] = (uint64_t)entry->now;
	return 0;
}

static int sim_lock(const struct sto_io *io, int fd)
{
	struct sim_node *node = node_of(disk_of(io), fd);
	if (disk_of(io)->crashed)
		return -ESHUTDOWN;
	if (node->locked)
		return -EBUSY;
	node->locked = true;
	return 0;
}

static int sim_rename(const struct sto_io *io, const char *from, const char *to)
{
	struct sim_disk *disk = disk_of(io);
	int rc = operation(disk);
	if (rc)
		return rc;
	struct sim_entry *source = entry_find(disk, from);
	if (!source || source->now < 0)
		return -ENOENT;
	int node = source->now;
	source->now = -1;
	entry_make(disk, to)->now = node;
	return 0;
}

static int sim_unlink(const struct sto_io *io, const char *path)
{
	struct sim_disk *disk = disk_of(io);
	if (disk->crashed)
		return -ESHUTDOWN;
	struct sim_entry *entry = entry_find(disk, path);
	if (!entry || entry->now < 0)
		return -ENOENT;
	int rc = operation(disk);
	if (!rc)
		entry->now = -1;
	return rc;
}

static int sim_mkdir(const struct sto_io *io, const char *path, uint32_t mode)
{
	struct sim_disk *disk = disk_of(io);
	(void)mode;
	struct sim_entry *entry = entry_find(disk, path);
	if (disk->crashed)
		return -ESHUTDOWN;
	if (entry && entry->now >= 0)
		return disk->node[entry->now].folder ? 0 : -ENOTDIR;
	int rc = operation(disk);
	if (rc)
		return rc;
	int node = node_make(disk, true);
	entry_make(disk, path)->now = node;
	return 1;
}

/* Is `path` (normal) a direct child of `folder` (normal; "." holds names without a slash)? */
static bool child_of(const char *path, const char *folder)
{
	size_t length = strlen(folder);
	if (!strcmp(folder, "."))
		return !strchr(path, '/');
	return !strncmp(path, folder, length) && path[length] == '/' && !strchr(path + length + 1, '/');
}

static int sim_sync_folder(const struct sto_io *io, const char *path)
{
	struct sim_disk *disk = disk_of(io);
	char folder[PATH_BYTES];
	int rc = operation(disk);
	if (rc)
		return rc;
	normal_path(folder, path);
	for (int i = 0; i < disk->entries; i++)
		if (child_of(disk->entry[i].path, folder))
			disk->entry[i].stable = disk->entry[i].now;
	return 0;
}

static int sim_list(const struct sto_io *io, const char *path, sto_name_fn fn, void *context)
{
	struct sim_disk *disk = disk_of(io);
	char folder[PATH_BYTES];
	if (disk->crashed)
		return -ESHUTDOWN;
	normal_path(folder, path);
	for (int i = 0; i < disk->entries; i++) {
		if (disk->entry[i].now < 0 || !child_of(disk->entry[i].path, folder))
			continue;
		const char *slash = strrchr(disk->entry[i].path, '/');
		int rc = fn(context, slash ? slash + 1 : disk->entry[i].path);
		if (rc)
			return rc;
	}
	return 0;
}

static int sim_map(const struct sto_io *io, int fd, uint64_t bytes, const uint8_t **base)
{
	const struct sim_node *node = node_of(disk_of(io), fd);
	uint8_t *copy = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096 + 4096);
	assert(copy && bytes <= node->now.bytes);
	memcpy(copy, node->now.at, bytes);
	*base = copy;
	return 0;
}

static void sim_unmap(const struct sto_io *io, const uint8_t *base, uint64_t bytes)
{
	(void)io;
	(void)bytes;
	free((void *)(uintptr_t)base);
}

static int sim_random(const struct sto_io *io, void *to, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i++)
		((uint8_t *)to)[i] = (uint8_t)random_next(disk_of(io));
	return 0;
}

static uint64_t sim_now_ms(const struct sto_io *io)
{
	return disk_of(io)->now_ms;
}

/* ---- the queue ---- */

static int sim_queue_write(struct sto_queue *queue, int fd, const void *from, uint32_t bytes, uint64_t offset, uint64_t tag)
{
	struct sim_queue *q = (struct sim_queue *)queue;
	struct sim_disk *disk = q->disk;
	assert(q->count < q->depth);
	int rc = operation(disk);
	if (rc == -ESHUTDOWN)
		return rc;
	struct sim_node *node = node_of(disk, fd);
	if (!rc && offset + bytes > node->now.bytes && space_used(disk) + offset + bytes - node->now.bytes > disk->space)
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
	while (q->count && count < max && random_next(disk) % 3) {
		int rc = operation(disk);
		if (rc == -ESHUTDOWN)
			return rc;
		uint32_t pick = (uint32_t)(random_next(disk) % q->count);
		struct sim_flight flight = q->flight[pick];
		q->flight[pick] = q->flight[--q->count];
		assert(!memcmp(flight.from, flight.copy, flight.bytes)); /* the buffer was left alone */
		struct sim_node *node = &disk->node[flight.node];
		rc = rc ? rc : flight.error;
		if (rc) {
			now_write(node, flight.copy, random_next(disk) % (flight.bytes / SECTOR) * SECTOR, flight.offset);
		} else {
			now_write(node, flight.copy, flight.bytes, flight.offset);
			settle(node, flight.offset, flight.bytes);
		}
		free(flight.copy);
		done[count++] = (struct sto_done){.tag = flight.tag, .result = rc ? rc : (int32_t)flight.bytes};
	}
	return (int)count;
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

static int sim_queue_open(const struct sto_io *io, void *buffers, uint64_t buffer_bytes, uint32_t depth, struct sto_queue **queue)
{
	static const struct sto_queue_ops ops = {
		.write = sim_queue_write, .reap = sim_queue_reap, .fd = sim_queue_fd, .close = sim_queue_close};
	(void)buffers;
	(void)buffer_bytes;
	struct sim_queue *q = calloc(1, sizeof(*q));
	assert(q && depth <= FLIGHT_MAX);
	q->queue.ops = &ops;
	q->disk = disk_of(io);
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
				if (random_next(disk) % 2)
					now_write(&disk->node[flight->node], flight->copy + at, SECTOR, flight->offset + at);
			free(flight->copy);
		}
		free(q);
	}
}

static void power_off(struct sim_disk *disk)
{
	for (int i = 0; i < disk->entries; i++) {
		struct sim_entry *entry = &disk->entry[i];
		if (entry->now != entry->stable && random_next(disk) % 2)
			entry->now = entry->stable;
	}
	for (int i = 0; i < NODES; i++) {
		struct sim_node *node = &disk->node[i];
		if (!node->used || node->folder)
			continue;
		uint64_t all = sectors(node->now.bytes);
		/* Sectors that did not make it are as they were stable; then the size may not have made it either. */
		for (uint64_t s = 0; s < all && node->dirty_sectors; s++) {
			if (!node->dirty[s])
				continue;
			if (random_next(disk) % 2) {
				uint64_t at = s * SECTOR;
				uint64_t old = at < node->stable.bytes ? node->stable.bytes - at : 0;
				memset(node->now.at + at, 0, SECTOR);
				if (old)
					memcpy(node->now.at + at, node->stable.at + at, old < SECTOR ? old : SECTOR);
			}
			node->dirty_sectors--;
			node->dirty[s] = 0;
		}
		if (node->now.bytes != node->stable.bytes && random_next(disk) % 2) {
			uint64_t before = node->now.bytes;
			now_resize(node, node->stable.bytes);
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
			settle(&disk->node[i], 0, disk->node[i].now.bytes);
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
	sweep(disk);
	disk->crashed = false;
	disk->crash_at = disk->fail_at = UINT64_MAX;
}

/* ---- for tests ---- */

struct sim_disk *sim_disk_new(uint64_t seed)
{
	struct sim_disk *disk = calloc(1, sizeof(*disk));
	assert(disk);
	disk->random = seed;
	disk->crash_at = disk->fail_at = UINT64_MAX;
	disk->space = UINT64_MAX / 2;
	disk->now_ms = 1700000000000ULL;
	for (int i = 0; i < FDS; i++)
		disk->fd[i] = -1;
	disk->io = (struct sto_io){
		.context = disk,
		.open = sim_open,
		.close = sim_close,
		.read = sim_read,
		.write = sim_write,
		.allocate = sim_allocate,
		.truncate = sim_truncate,
		.sync = sim_sync,
		.size = sim_size,
		.identity = sim_identity,
		.lock = sim_lock,
		.rename = sim_rename,
		.unlink = sim_unlink,
		.mkdir = sim_mkdir,
		.sync_folder = sim_sync_folder,
		.list = sim_list,
		.map = sim_map,
		.unmap = sim_unmap,
		.random = sim_random,
		.now_ms = sim_now_ms,
		.queue_open = sim_queue_open,
	};
	return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
	queues_end(disk, false);
	for (int i = 0; i < NODES; i++)
		node_clear(&disk->node[i]);
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

uint64_t sim_space_used(const struct sim_disk *disk)
{
	return space_used(disk);
}

void sim_clock_set(struct sim_disk *disk, uint64_t now_ms)
{
	disk->now_ms = now_ms;
}

uint8_t *sim_file(struct sim_disk *disk, const char *path, uint64_t *bytes)
{
	const struct sim_entry *entry = entry_find(disk, path);
	if (!entry || entry->now < 0)
		return NULL;
	*bytes = disk->node[entry->now].now.bytes;
	return disk->node[entry->now].now.at;
}

int sim_file_put(struct sim_disk *disk, const char *path, const void *from, uint64_t bytes)
{
	struct sim_entry *entry = entry_find(disk, path);
	if (!entry || entry->now < 0) {
		int node = node_make(disk, false);
		entry = entry_make(disk, path);
		entry->now = entry->stable = node;
	}
	struct sim_node *node = &disk->node[entry->now];
	now_resize(node, 0);
	now_resize(node, bytes);
	now_write(node, from, bytes, 0);
	settle(node, 0, bytes);
	return 0;
}
