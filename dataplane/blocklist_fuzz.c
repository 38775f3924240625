/*
 * The blocklist's sources from arbitrary bytes: a list file, and the operator's store. With the first bit set it is the store, whose last line is
 * put right, so that what lies behind its hash is reached. Any bytes give entries in order or a clean error; what the store reads it writes
 * and reads again.
 */
#include "blocklist_source.h"
#include "turnpike/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NOW_MS = 1000000 };

static char folder[64], path[96];

static void folder_remove(void)
{
	unlink(path);
	rmdir(folder);
}

static void folder_make(void)
{
	if (folder[0])
		return;
	snprintf(folder, sizeof(folder), "/tmp/blocklist_fuzz.XXXXXX");
	if (!mkdtemp(folder))
		abort();
	snprintf(path, sizeof(path), "%s/blocklist", folder);
	atexit(folder_remove);
}

static void file_put(const char *text, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, bytes) != (ssize_t)bytes)
		abort();
	close(fd);
}

static void list_use(const uint8_t *data, size_t size)
{
	struct dp_block_list list;
	file_put((const char *)data, size);
	if (dp_block_list_read(&list, path, false, NOW_MS) == 0)
		for (uint32_t i = 0; i < list.entries; i++) {
			const struct tp_prefix masked = dp_block_masked(&list.entry[i].prefix);
			assert(!i || dp_block_order(&list.entry[i - 1].prefix, &list.entry[i].prefix) < 0);
			assert(dp_block_order(&masked, &list.entry[i].prefix) == 0);
			assert(strlen(list.entry[i].reason) < DP_BLOCKLIST_REASON_BYTES);
		}
	else
		assert(list.entries == 0);
	dp_block_list_free(&list);
}

static void reasons_free(struct dp_block_entry *entry, uint32_t entries)
{
	for (uint32_t i = 0; i < entries; i++)
		free((void *)(uintptr_t)entry[i].reason);
}

static uint32_t store_read(struct dp_block_entry *entry)
{
	uint32_t entries = 0;
	int rc = dp_block_store_read(folder, NOW_MS, entry, &entries);
	assert(rc == 0 || rc == -EBADMSG);
	for (uint32_t i = 1; i < entries; i++)
		assert(dp_block_order(&entry[i - 1].prefix, &entry[i].prefix) < 0);
	if (rc == 0)
		return entries;
	reasons_free(entry, entries); /* those before the bad line */
	return 0;
}

static void store_use(const uint8_t *data, size_t size)
{
	static struct dp_block_entry entry[DP_BLOCKLIST_OWN_MAX];
	static const char header[] = "turnpike blocklist 1\n";
	uint32_t lines = 0;
	size_t bytes = sizeof(header) - 1 + size;
	char *text = malloc(bytes + 64);
	memcpy(text, header, sizeof(header) - 1);
	memcpy(text + sizeof(header) - 1, data, size);
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	bytes += (size_t)snprintf(text + bytes, 64, "end %" PRIu32 " %016" PRIx64 "\n", lines, (uint64_t)XXH3_64bits(text, bytes));
	file_put(text, bytes);
	free(text);
	uint32_t entries = store_read(entry);
	const struct dp_block_entry first = entry[0];
	if (entries) {
		assert(dp_block_store_write(folder, entry, entries) == 0);
		reasons_free(entry, entries);
		assert(store_read(entry) == entries && dp_block_order(&first.prefix, &entry[0].prefix) == 0);
	}
	reasons_free(entry, entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 1 << 16)
		return 0;
	tp_log_level_set(TP_ERROR + 1);
	folder_make();
	if (data[0] & 1)
		store_use(data + 1, size - 1);
	else
		list_use(data + 1, size - 1);
	return 0;
}
