/*
 * The simulated disk: names, bytes and the io table. What it models is said in io_sim.h. Tests only.
 */
#include "io_sim_state.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

uint64_t sim_random_next(struct sim_disk *disk)
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

int sim_operation(struct sim_disk *disk)
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

struct sim_entry *sim_entry_find(struct sim_disk *disk, const char *path)
{
	char normal[PATH_BYTES];
	normal_path(normal, path);
	for (int i = 0; i < disk->entries; i++)
		if (!strcmp(disk->entry[i].path, normal))
			return &disk->entry[i];
	return NULL;
}

struct sim_entry *sim_entry_make(struct sim_disk *disk, const char *path)
{
	struct sim_entry *entry = sim_entry_find(disk, path);
	if (entry)
		return entry;
	assert(disk->entries < ENTRIES);
	entry = &disk->entry[disk->entries++];
	normal_path(entry->path, path);
	entry->now = entry->stable = -1;
	return entry;
}

void sim_node_clear(struct sim_node *node)
{
	free(node->now.at);
	free(node->stable.at);
	free(node->dirty);
	*node = (struct sim_node){0};
}

void sim_sweep(struct sim_disk *disk)
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
			sim_node_clear(&disk->node[i]);
}

int sim_node_make(struct sim_disk *disk, bool folder)
{
	sim_sweep(disk);
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

uint64_t sim_sectors(uint64_t bytes)
{
	return (bytes + SECTOR - 1) / SECTOR;
}

static void image_resize(struct sim_image *image, uint64_t bytes)
{
	uint64_t room = sim_sectors(bytes) * SECTOR + SECTOR;
	image->at = realloc(image->at, room);
	assert(image->at);
	if (bytes > image->bytes)
		memset(image->at + image->bytes, 0, room - image->bytes);
	else
		memset(image->at + bytes, 0, room - bytes);
	image->bytes = bytes;
}

void sim_now_resize(struct sim_node *node, uint64_t bytes)
{
	uint64_t before = sim_sectors(node->now.bytes), after = sim_sectors(bytes);
	image_resize(&node->now, bytes);
	for (uint64_t i = after; i < before; i++)
		node->dirty_sectors -= node->dirty[i];
	node->dirty = realloc(node->dirty, after + 1);
	assert(node->dirty);
	if (after > before)
		memset(node->dirty + before, 0, after - before);
}

uint64_t sim_space_used(const struct sim_disk *disk)
{
	uint64_t used = 0;
	for (int i = 0; i < NODES; i++)
		if (disk->node[i].used)
			used += disk->node[i].now.bytes;
	return used;
}

void sim_now_write(struct sim_node *node, const void *from, uint64_t bytes, uint64_t offset)
{
	if (!bytes)
		return;
	if (offset + bytes > node->now.bytes)
		sim_now_resize(node, offset + bytes);
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

void sim_settle(struct sim_node *node, uint64_t offset, uint64_t bytes)
{
	if (node->stable.bytes != node->now.bytes)
		image_resize(&node->stable, node->now.bytes);
	if (!bytes)
		return;
	for (uint64_t s = offset / SECTOR; s <= (offset + bytes - 1) / SECTOR && s < sim_sectors(node->now.bytes); s++)
		sector_settle(node, s);
}

/* ---- the table ---- */

static int sim_open(const struct sto_io *io, const char *path, int flags, uint32_t mode)
{
	struct sim_disk *disk = disk_of(io);
	(void)mode;
	if (disk->crashed)
		return -ESHUTDOWN;
	struct sim_entry *entry = sim_entry_find(disk, path);
	bool there = entry && entry->now >= 0;
	if (!there && !(flags & O_CREAT))
		return -ENOENT;
	if (there && (flags & O_EXCL))
		return -EEXIST;
	if (!there || (flags & O_TRUNC)) {
		int rc = sim_operation(disk);
		if (rc)
			return rc;
	}
	if (!there) {
		int node = sim_node_make(disk, false);
		entry = sim_entry_make(disk, path);
		entry->now = node;
		sim_now_resize(&disk->node[node], 0);
	} else if (flags & O_TRUNC) {
		sim_now_resize(&disk->node[entry->now], 0);
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
	int rc = sim_read_count(disk, to, bytes);
	return rc ? rc : (int64_t)bytes;
}

static int sim_write(const struct sto_io *io, int fd, const void *from, uint64_t bytes, uint64_t offset)
{
	struct sim_disk *disk = disk_of(io);
	struct sim_node *node = node_of(disk, fd);
	int rc = sim_operation(disk);
	uint64_t end = offset + bytes;
	if (!rc && end > node->now.bytes && sim_space_used(disk) + end - node->now.bytes > disk->space)
		rc = -ENOSPC;
	if (rc == -ESHUTDOWN)
		return rc;
	/* What fails may have happened in part. */
	if (rc)
		sim_now_write(node, from, sim_random_next(disk) % (bytes + 1) / 2, offset);
	else
		sim_write_or_lie(disk, node, from, bytes, offset);
	return rc;
}

static int sim_allocate(const struct sto_io *io, int fd, uint64_t bytes)
{
	struct sim_disk *disk = disk_of(io);
	struct sim_node *node = node_of(disk, fd);
	int rc = sim_operation(disk);
	if (rc)
		return rc;
	if (bytes <= node->now.bytes)
		return 0;
	if (sim_space_used(disk) + bytes - node->now.bytes > disk->space)
		return -ENOSPC;
	sim_now_resize(node, bytes);
	return 0;
}

static int sim_truncate(const struct sto_io *io, int fd, uint64_t bytes)
{
	int rc = sim_operation(disk_of(io));
	if (!rc)
		sim_now_resize(node_of(disk_of(io), fd), bytes);
	return rc;
}

static int sim_sync(const struct sto_io *io, int fd)
{
	struct sim_node *node = node_of(disk_of(io), fd);
	int rc = sim_operation(disk_of(io));
	if (!rc)
		sim_settle(node, 0, node->now.bytes);
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
	const struct sim_entry *entry = sim_entry_find(disk, path);
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
	int rc = sim_operation(disk);
	if (rc)
		return rc;
	struct sim_entry *source = sim_entry_find(disk, from);
	if (!source || source->now < 0)
		return -ENOENT;
	int node = source->now;
	source->now = -1;
	sim_entry_make(disk, to)->now = node;
	return 0;
}

static int sim_unlink(const struct sto_io *io, const char *path)
{
	struct sim_disk *disk = disk_of(io);
	if (disk->crashed)
		return -ESHUTDOWN;
	struct sim_entry *entry = sim_entry_find(disk, path);
	if (!entry || entry->now < 0)
		return -ENOENT;
	int rc = sim_operation(disk);
	if (!rc)
		entry->now = -1;
	return rc;
}

static int sim_mkdir(const struct sto_io *io, const char *path, uint32_t mode)
{
	struct sim_disk *disk = disk_of(io);
	(void)mode;
	struct sim_entry *entry = sim_entry_find(disk, path);
	if (disk->crashed)
		return -ESHUTDOWN;
	if (entry && entry->now >= 0)
		return disk->node[entry->now].folder ? 0 : -ENOTDIR;
	int rc = sim_operation(disk);
	if (rc)
		return rc;
	int node = sim_node_make(disk, true);
	sim_entry_make(disk, path)->now = node;
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
	int rc = sim_operation(disk);
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
	int rc = sim_read_count(disk_of(io), copy, bytes);
	if (rc) {
		free(copy);
		return rc;
	}
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
		((uint8_t *)to)[i] = (uint8_t)sim_random_next(disk_of(io));
	return 0;
}

static uint64_t sim_now_ms(const struct sto_io *io)
{
	return disk_of(io)->now_ms;
}

const struct sto_io sim_table = {
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
	.reads_open = sto_reads_plain_open,
};
