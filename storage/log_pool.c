/*
 * The pool of log files to be recycled. See log_pool.h.
 */
#include "log_pool.h"

#include "store_state.h"
#include "turnpike/log.h"

#include <inttypes.h>
#include <string.h>

bool log_pool_offer(struct sto_store *store, uint64_t file_id)
{
	struct log_pool *pool = &store->pool;
	pthread_mutex_lock(&pool->lock);
	bool taken = pool->count < pool->max && pool->count < LOG_POOL_MAX;
	if (taken)
		pool->file_id[pool->count++] = file_id;
	pthread_mutex_unlock(&pool->lock);
	return taken;
}

uint64_t log_pool_take(struct sto_store *store)
{
	struct log_pool *pool = &store->pool;
	pthread_mutex_lock(&pool->lock);
	uint64_t file_id = pool->count ? pool->file_id[--pool->count] : 0;
	pthread_mutex_unlock(&pool->lock);
	return file_id;
}

void log_pool_written(struct log_pool *pool, uint64_t file_id)
{
	pthread_mutex_lock(&pool->lock);
	pool->written[pool->written_next++ % LOG_POOL_MAX] = file_id;
	pthread_mutex_unlock(&pool->lock);
}

bool log_pool_is_written(struct log_pool *pool, uint64_t file_id)
{
	bool is = false;
	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = 0; i < LOG_POOL_MAX && !is; i++)
		is = pool->written[i] == file_id;
	pthread_mutex_unlock(&pool->lock);
	return is;
}

uint32_t log_pool_drop(struct sto_store *store)
{
	uint32_t dropped = 0;
	char path[STORE_PATH_BYTES];
	for (uint64_t id; (id = log_pool_take(store)) != 0; dropped++) {
		int rc = folder_log_path(path, store->data_dir, id);
		if (!rc)
			rc = store->io->unlink(store->io, path);
		if (rc)
			tp_logf(TP_WARN, "cannot remove a sealed log file", "file=%016" PRIx64 " error=\"%s\"", id, strerror(-rc));
	}
	return dropped;
}

uint32_t sto_store_space_release(struct sto_store *store)
{
	return log_pool_drop(store);
}
