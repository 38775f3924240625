/*
 * Spares: each shard's next log file and next live table, ready before it needs them. Background thread "spares"; and the main thread
 * before any other runs.
 *
 * Tables go round: pool ─ dp_spares_step() ─► spare of a shard ─ roll ─► its table ─ file sealed ─► dp_table_give() ─► pool. Nobody
 * looks for a free table by its file id, so a table that is being emptied is nobody's yet.
 */
#include "node.h"

#include "turnpike/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { SPARES_IDLE_NS = 5000000, SPARES_FULL_NS = 100000000 };

struct tp_rollup *dp_table_at(struct dp_node *node, uint32_t index)
{
	return (struct tp_rollup *)(void *)((uint8_t *)node->live + node->live->rollup_at + index * node->live->rollup_bytes);
}

struct tp_rollup *dp_table_of(struct dp_node *node, uint64_t file_id)
{
	for (uint32_t i = 0; i < node->live->rollup_count; i++) {
		struct tp_rollup *table = dp_table_at(node, i);
		if (atomic_load_explicit(&table->file_id, memory_order_acquire) == file_id)
			return table;
	}
	return NULL;
}

struct tp_rollup *dp_table_take(struct dp_node *node)
{
	struct dp_table_pool *pool = &node->tables;
	pthread_mutex_lock(&pool->lock);
	struct tp_rollup *table = pool->count ? pool->table[--pool->count] : NULL;
	pthread_mutex_unlock(&pool->lock);
	return table;
}

void dp_table_give(struct dp_node *node, struct tp_rollup *table)
{
	struct dp_table_pool *pool = &node->tables;
	tp_rollup_reset(table, 0);
	pthread_mutex_lock(&pool->lock);
	pool->table[pool->count++] = table;
	pthread_mutex_unlock(&pool->lock);
}

/* Gets a part of the memory of a table that is not all there yet; false: it is. */
static bool table_touch(struct dp_node *node, const struct tp_rollup *table)
{
	if (!table)
		return false;
	uint64_t index = ((uintptr_t)table - (uintptr_t)dp_table_at(node, 0)) / node->live->rollup_bytes;
	if (!tp_live_rollup_touch(node->live, (uint32_t)index, node->tables.touched[index]))
		return false;
	node->tables.touched[index]++;
	return true;
}

/*
 * Of a table in use, which the first of a run is at once, and of one that will be next. Before anything that takes longer; but nobody waits
 * for it: a shard meets the faults of what is not there.
 */
static bool tables_touch(struct dp_node *node)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		const struct dp_shard *shard = &node->shard[s];
		uint64_t file_id = atomic_load_explicit(&node->live->shard[s].file_id, memory_order_acquire);
		if ((file_id && table_touch(node, dp_table_of(node, file_id))) ||
		    table_touch(node, atomic_load_explicit(&shard->spare_table, memory_order_relaxed)))
			return true;
	}
	return false;
}

static uint32_t tables_give(struct dp_node *node)
{
	uint32_t given = 0;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_shard *shard = &node->shard[s];
		struct tp_rollup *table = NULL;
		if (!atomic_load_explicit(&shard->spare_table, memory_order_acquire))
			table = dp_table_take(node);
		if (!table)
			continue;
		/* release: the shard sees the table as we left it */
		atomic_store_explicit(&shard->spare_table, table, memory_order_release);
		given++;
	}
	return given;
}

/* How many; -errno when the node has failed. `first`: only where a shard has no file at all. */
static int files_give(struct dp_node *node, bool first)
{
	bool lacks = false;
	int given = 0;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		if (!sto_wal_spare_wanted(node->wal[s]) || (first && sto_wal_file_id(node->wal[s])))
			continue;
		int rc = sto_wal_spare_give(node->wal[s]);
		if (rc == -ENOSPC) {
			lacks = true;
		} else if (rc) {
			tp_logf(TP_ERROR, "cannot create a log file", "shard=%u error=\"%s\"", s, strerror(-rc));
			dp_node_fail(node, rc);
			return rc;
		} else {
			given++;
		}
	}
	atomic_store_explicit(&node->spares_lack_space, lacks, memory_order_relaxed);
	return given;
}

/*
 * Nothing is made here that the first beacon does not wait for: filling a spare log file with zeros takes a disk up to a second, and the
 * file that a shard has got with its log serves until then.
 */
void dp_spares_first(struct dp_node *node)
{
	tables_give(node);
	files_give(node, true);
}

uint64_t dp_spares_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns)
{
	(void)now_ms;
	(void)now_ns;
	const uint32_t tables = tables_give(node);
	if (tables_touch(node))
		return 0;
	const int files = files_give(node, false);
	if (files < 0)
		return SPARES_FULL_NS;
	if (tables || files)
		return 0;
	return atomic_load_explicit(&node->spares_lack_space, memory_order_relaxed) ? SPARES_FULL_NS : SPARES_IDLE_NS;
}
