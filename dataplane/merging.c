/*
 * Merging: sums of new segments into rollup files, rollup files into larger ones, one unit a step. Background thread "merge".
 *
 * Nobody waits for it: a question finds the sums of what is not merged yet in the segments. So it is the first to stop when space
 * runs low, because sealing may need what is left.
 */
#include "node.h"

#include "turnpike/log.h"

#include <errno.h>
#include <string.h>

enum { MERGE_IDLE_NS = 500000000 };
#define MERGE_LATER_NS 30000000000ULL

uint64_t dp_merge_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns)
{
	(void)now_ms;
	(void)now_ns;
	if (atomic_load_explicit(&node->failed, memory_order_relaxed) ||
	    atomic_load_explicit(&node->low_space, memory_order_relaxed))
		return MERGE_IDLE_NS;
	const struct sto_merge_options options = {.yield = dp_worker_yield, .yield_context = &node->worker[DP_MERGE]};
	int rc = sto_merge_step(node->store, &options);
	if (rc >= 0)
		return rc ? 0 : MERGE_IDLE_NS;
	if (rc == -ENOSPC)
		return MERGE_LATER_NS;
	tp_logf(TP_ERROR, "cannot merge sums", "error=\"%s\"", strerror(-rc));
	/* A damaged file has been named by now. What is acknowledged is not in doubt, so the node goes on; questions that need it fail. */
	if (rc != -EBADMSG && rc != -ENOMEM)
		dp_node_fail(node, rc);
	return MERGE_LATER_NS;
}
