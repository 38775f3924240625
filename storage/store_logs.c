/*
 * The log files that a start finds: those that hold nothing go, those that hold something wait to be recovered and sealed, and those
 * that ought to be there must be.
 *
 * Threads: the opening thread.
 */
#include "log_format.h"
#include "log_lost.h"
#include "log_read.h"
#include "store_state.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void lost_tell(void *context, uint64_t file_id, uint32_t shard, const char *found)
{
	const struct sto_store *store = context;
	tp_logf(TP_ERROR,
		"a log file may hold acknowledged events and is not there as it was made: put it back, or see: turnpikectl log "
		"show",
		"file=%s/log/%016" PRIx64 ".log shard=%u found=\"%s\"", store->data_dir, file_id, shard, found);
}

int store_logs_check(struct sto_store *store)
{
	int rc = log_lost_each(store->io, store->data_dir, &store->manifest, lost_tell, store);
	return rc > 0 ? -EBADMSG : rc;
}

/*
 * Makes a log file that holds nothing as small as it may be: its end block behind the first, and nothing else. On a full disk, where its
 * end cannot be put on record: until it can, it must not be missing.
 */
static int log_shrink(const struct sto_io *io, const char *path)
{
	int fd = io->open(io, path, O_RDWR, 0);
	if (fd < 0)
		return fd;
	struct log_block *first = aligned_alloc(LOG_UNIT, 2 * LOG_UNIT);
	int64_t got = first ? io->read(io, fd, first, LOG_UNIT, 0) : -ENOMEM;
	int rc = got < 0 ? (int)got : got < LOG_UNIT ? -EIO : 0;
	if (!rc) {
		struct log_block *end = (struct log_block *)(void *)((uint8_t *)first + LOG_UNIT);
		memset(end, 0, LOG_UNIT);
		*end = (struct log_block){.magic = LOG_MAGIC,
					  .version = LOG_VERSION,
					  .shard = first->shard,
					  .file_id = first->file_id,
					  .salt = first->salt,
					  .sequence = 1,
					  .previous = first->checksum,
					  .kind = LOG_END,
					  .block_bytes = LOG_UNIT,
					  .offset = LOG_UNIT};
		end->checksum = log_checksum(end);
		rc = io->write(io, fd, end, LOG_UNIT, LOG_UNIT);
	}
	/* The end block first: without it the file would be shorter than it was made. */
	if (!rc)
		rc = io->sync(io, fd);
	if (!rc)
		rc = io->truncate(io, fd, 2 * LOG_UNIT);
	if (!rc)
		rc = io->sync(io, fd);
	free(first);
	io->close(io, fd);
	return rc;
}

/* A log file that holds nothing: its end is put on record, then it goes. Without room for the record it stays, small, to be sealed. */
static int log_discard(struct sto_store *store, const char *path, uint64_t file_id, bool begun)
{
	struct manifest_record record = {.kind = MANIFEST_LOG_EMPTY, .file_id = file_id};
	int rc = store_commit(store, &record, 1);
	if (rc == -ENOSPC && !begun) {
		/* It was never finished, so it is on no record either. */
		rc = store->io->unlink(store->io, path);
		if (!rc)
			rc = store_commit(store, &record, 1); /* the file's own room may be enough */
		return rc == -ENOSPC ? 0 : rc;
	}
	if (rc == -ENOSPC) {
		rc = log_shrink(store->io, path);
		if (!rc)
			rc = store_commit(store, &record, 1);
		if (sto_io_full(rc))
			return store_unsealed_add(store, file_id, UINT64_MAX);
	}
	return rc ? rc : store->io->unlink(store->io, path);
}

/* A log file with something in it. What an older version made is on record from now on, too. */
static int log_keep(struct sto_store *store, const char *path, uint64_t file_id)
{
	struct manifest_record record = {.kind = MANIFEST_LOG_OPENED};
	if (!manifest_opened(&store->manifest, file_id)) {
		int rc = log_birth(store->io, path, file_id, &record.log);
		if (rc > 0)
			rc = store_commit(store, &record, 1);
		/* A damaged one stays without; whoever reads it next is told. */
		if (rc && rc != -ENOSPC)
			return rc;
	}
	return store_unsealed_add(store, file_id, UINT64_MAX);
}

int store_logs_clear(struct sto_store *store, const uint64_t *id, uint32_t count)
{
	const struct sto_io *io = store->io;
	char path[STORE_PATH_BYTES];
	for (uint32_t i = 0; i < count; i++) {
		int rc = folder_log_path(path, store->data_dir, id[i]);
		if (rc)
			return rc;
		if (manifest_sealed(&store->manifest, id[i])) {
			rc = io->unlink(io, path);
			if (rc)
				return rc;
			continue;
		}
		/* One that holds something is read once, by whoever recovers it. */
		struct sto_log_facts facts = {0};
		enum log_state state = LOG_OPEN;
		rc = log_begun(io, path, id[i]);
		bool begun = rc == 1;
		if (!rc)
			rc = log_scan(io, path, id[i], true, NULL, NULL, &facts, &state);
		if (rc < 0 && rc != -EBADMSG)
			return rc;
		/* A damaged one stays too: whoever reads it next is told. */
		bool nothing = !begun && !rc && (state == LOG_NOTHING || (!facts.blocks && !facts.tail_bytes_ignored));
		rc = nothing ? log_discard(store, path, id[i], state != LOG_NOTHING) : log_keep(store, path, id[i]);
		if (rc)
			return rc;
	}
	return 0;
}
