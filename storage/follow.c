/*
 * Which log files of a folder are to be followed, from outside of the data process. The following itself is in log_read.c. Any thread
 * that owns the reader.
 */
#include "turnpike/follow.h"

#include "log_read.h"
#include "store_state.h"

#include <stdlib.h>
#include <string.h>

int sto_follow_open(struct sto_follow **follow, const char *data_dir, uint64_t file_id)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_log_path(path, data_dir, file_id);
	return rc ? rc : log_follow_open(follow, sto_io_system(), path, file_id);
}

struct found {
	const struct sto_reader *reader;
	uint64_t *file_id;
	uint32_t count, max;
};

/* "<16 hex digits>.log" to its number; 0: another kind of name. */
static uint64_t file_id_of(const char *name)
{
	if (strlen(name) != 20 || strspn(name, "0123456789abcdef") != 16 || strcmp(name + 16, ".log") != 0)
		return 0;
	return strtoull(name, NULL, 16);
}

static int found_add(void *context, const char *name)
{
	struct found *found = context;
	uint64_t file_id = file_id_of(name);
	if (!file_id || sto_reader_sealed(found->reader, file_id))
		return 0;
	if (found->count == found->max) {
		uint32_t max = found->max ? found->max * 2 : 16;
		uint64_t *larger = realloc(found->file_id, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		found->file_id = larger;
		found->max = max;
	}
	found->file_id[found->count++] = file_id;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;
	return first < second ? -1 : first > second;
}

int sto_follow_files(const struct sto_reader *reader, const char *data_dir, uint64_t **file_ids, uint32_t *count)
{
	struct found found = {.reader = reader};
	const struct sto_io *io = sto_io_system();
	char path[STORE_PATH_BYTES];
	int rc = folder_path(path, data_dir, "log");
	if (!rc)
		rc = io->list(io, path, found_add, &found);
	if (rc == -ENOENT)
		rc = 0;
	if (rc) {
		free(found.file_id);
		return rc;
	}
	if (found.count)
		qsort(found.file_id, found.count, sizeof(*found.file_id), by_number);
	*file_ids = found.file_id;
	*count = found.count;
	return 0;
}
