/*
 * Sealing: finished log files become segments, one a step, oldest first: those that recovery left, then what the shards finish.
 * Background thread "seal".
 *
 *   finished file ─ dp_fold_seal() ─► published by the manifest ─► table back to the pool ─► log file recycled or removed
 *
 * In this order, because a reader takes the segment once the manifest has it, else the table.
 */
#include "node.h"

#include "turnpike/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { SEAL_IDLE_NS = 10000000, SEAL_FULL_NS = 200000000 };

/* 0; -EAGAIN: at once again; -ENOSPC: later; other -errno: the node fails. */
static int file_seal(struct dp_node *node, uint64_t file_id, struct tp_rollup *table)
{
	int rc = table ? dp_fold_seal(node, file_id, table) : -EBADMSG;
	if (rc == -ENOSPC)
		/* What is kept to be recycled makes room, perhaps enough. */
		return sto_store_space_release(node->store) ? -EAGAIN : rc;
	if (rc) {
		tp_logf(TP_ERROR, "cannot seal a log file", "file=%016" PRIx64 " error=\"%s\"", file_id, strerror(-rc));
		dp_node_fail(node, rc);
		return rc;
	}
	dp_table_give(node, table);
	rc = sto_log_delete(node->store, file_id);
	if (rc)
		tp_logf(TP_WARN, "cannot remove a sealed log file", "file=%016" PRIx64 " error=\"%s\"", file_id, strerror(-rc));
	atomic_fetch_add_explicit(&node->segments_sealed, 1, memory_order_relaxed);
	return 0;
}

/* What recovery left is older than anything of this run. */
static int recovered_seal(struct dp_node *node)
{
	struct dp_recovered *recovered = &node->recovered[node->recovered_next];
	int rc = file_seal(node, recovered->file_id, recovered->table);
	if (rc)
		return rc;
	node->recovered_next++;
	/* release: who sees none left sees them published */
	atomic_fetch_sub_explicit(&node->recovered_left, 1, memory_order_release);
	return 0;
}

uint64_t dp_seal_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns)
{
	bool lacks = false;
	uint32_t done = 0;
	(void)now_ms;
	(void)now_ns;
	if (atomic_load_explicit(&node->failed, memory_order_relaxed))
		return SEAL_FULL_NS;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_shard_keeping *keeping = &node->keeping[s];
		uint64_t file_id;
		while (keeping->pending_count < DP_PENDING_FILES && (file_id = sto_wal_finished_take(node->wal[s])) != 0)
			keeping->pending[keeping->pending_count++] = file_id;
	}
	if (atomic_load_explicit(&node->recovered_left, memory_order_relaxed)) {
		int rc = recovered_seal(node);
		lacks = rc == -ENOSPC;
		done = !lacks;
	}
	/* One shard a step, in turn: none waits behind another's files. */
	for (uint32_t i = 0; i < node->config.shard_count && !done && !lacks; i++) {
		struct dp_shard_keeping *keeping = &node->keeping[node->seal_next % node->config.shard_count];
		node->seal_next++;
		if (!keeping->pending_count)
			continue;
		uint64_t file_id = keeping->pending[0];
		int rc = file_seal(node, file_id, dp_table_of(node, file_id));
		lacks = rc == -ENOSPC;
		done = !lacks;
		if (rc)
			break;
		/* release: who sees the file sealed finds its segment */
		atomic_store_explicit(&keeping->sealed_file, file_id, memory_order_release);
		memmove(keeping->pending, keeping->pending + 1, --keeping->pending_count * sizeof(keeping->pending[0]));
	}
	atomic_store_explicit(&node->seal_lacks_space, lacks, memory_order_relaxed);
	if (done) { /* a table is free again, and a file to recycle */
		atomic_thread_fence(memory_order_seq_cst);
		dp_worker_wake(&node->worker[DP_SPARES]);
	}
	return done ? 0 : lacks ? SEAL_FULL_NS : SEAL_IDLE_NS;
}
