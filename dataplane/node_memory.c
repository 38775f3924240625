/*
 * The node's memory: everything that is fixed at start and is neither a file, a thread nor a port. Main thread; given back whole at the
 * end, however far the start had come.
 */
#include "node.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What the kernel could give without swapping, as it estimates itself; UINT64_MAX: it does not say. */
static uint64_t memory_available(void)
{
	unsigned long long kib = UINT64_MAX >> 10;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return (uint64_t)kib << 10;
}

/*
 * Memory that memory_touch.c gets at start: huge pages where the kernel gives them. Too little of it is an error here, not a kill at the
 * touch.
 */
static void *memory_map(uint64_t bytes)
{
	uint64_t available = memory_available();
	if (bytes > available) {
		tp_logf(TP_ERROR, "not enough memory", "wanted_bytes=%" PRIu64 " available_bytes=%" PRIu64, bytes, available);
		return NULL;
	}
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	madvise(at, bytes, MADV_HUGEPAGE);
	return at; /* zeroed: nobody has had it */
}

/* An array of structs with cache lines of their own, zeroed. */
static void *lines_make(uint32_t count, size_t bytes)
{
	void *at = aligned_alloc(64, count * bytes);
	return at ? memset(at, 0, count * bytes) : NULL;
}

static void core_add(struct dp_node *node, uint32_t cpu, int32_t rx, struct dp_shard *shard)
{
	struct dp_core *core = NULL;
	for (uint32_t i = 0; i < node->cores && !core; i++)
		if (node->core[i].cpu == cpu)
			core = &node->core[i];
	if (!core) {
		core = &node->core[node->cores];
		*core = (struct dp_core){.cpu = cpu, .rx = -1, .wake_fd = -1, .idle_sleep = node->config.idle_sleep};
		core->live = &node->live->core[node->cores++];
		core->live->cpu = cpu;
	}
	if (rx >= 0) {
		core->rx = rx;
		core->live->is_rx = 1;
		node->rx_cores[rx] = core;
	}
	if (shard) {
		core->shard = shard;
		core->live->is_shard = 1;
		core->live->shard = (uint8_t)shard->number;
		shard->counters = &core->counters;
		shard->meter = &core->meter;
		node->shard_cores[shard->number] = core;
	}
}

/* The live view, the hops, the shards' own memory, the cores: all but files, threads and ports. */
int dp_node_memory_create(struct dp_node *node)
{
	const struct tp_config *config = &node->config;
	uint32_t rx = config->rx_count, shards = config->shard_count;
	node->live_fd = tp_live_create(&node->live, shards * (DP_TABLES_PER_SHARD + DP_TABLES_RECOVERED), node->table_rows,
				       node->table_heap_bytes);
	if (node->live_fd < 0)
		return node->live_fd;
	pthread_mutex_init(&node->tables.lock, NULL);
	for (uint32_t i = node->live->rollup_count; i-- > 0;)
		dp_table_give(node, dp_table_at(node, i));
	node->sight_fd = tp_sight_create(&node->sight, rx);
	if (node->sight_fd < 0)
		return node->sight_fd;
	node->live->shards = shards;
	node->live->started_ms = tp_now_ms();
	snprintf(node->live->node, sizeof(node->live->node), "%s", config->node_name);
	atomic_store(&node->live->refusing, TP_STARTING);

	node->core = lines_make(rx + shards, sizeof(*node->core));
	node->hop = lines_make(rx * shards, sizeof(*node->hop));
	node->dead = lines_make(rx, sizeof(*node->dead));
	node->late_ring = lines_make(rx * shards, sizeof(*node->late_ring));
	node->shard = lines_make(shards, sizeof(*node->shard));
	node->keeping = calloc(shards, sizeof(*node->keeping));
	node->fraud_memory = calloc(shards, sizeof(*node->fraud_memory));
	node->fraud = calloc(shards, sizeof(struct agg_fraud_shard *));
	node->wal = calloc(shards, sizeof(struct sto_wal *));
	node->rx_cores = calloc(rx, sizeof(struct dp_core *));
	node->shard_cores = calloc(shards, sizeof(struct dp_core *));
	node->turns = calloc(shards, sizeof(*node->turns));
	node->dedup_bytes = config->memory_dedup_bytes;
	node->dedup_memory = memory_map(node->dedup_bytes);
	node->fraud_entries = agg_fraud_entries_for(config->memory_fraud_bytes);
	node->fraud_ip_memory = memory_map(agg_fraud_ip_bytes(node->fraud_entries));
	if (!node->core || !node->hop || !node->dead || !node->late_ring || !node->shard || !node->keeping || !node->fraud_memory ||
	    !node->fraud || !node->wal || !node->rx_cores || !node->shard_cores || !node->turns || !node->dedup_memory ||
	    !node->fraud_ip_memory)
		return -ENOMEM;
	node->dedup = agg_dedup_create(node->dedup_memory, node->dedup_bytes);
	/* What the first rotation brings into use comes last: the generations behind the current one. */
	const uint64_t now_bytes = agg_dedup_current_bytes(node->dedup);
	dp_touch_add(&node->touch, node->dedup_memory, now_bytes, false);
	dp_touch_add(&node->touch, node->fraud_ip_memory, agg_fraud_ip_bytes(node->fraud_entries), false);
	struct agg_fraud_ip *fraud_ip = agg_fraud_ip_init(node->fraud_ip_memory, node->fraud_entries);

	for (uint32_t i = 0; i < rx * shards; i++) {
		int rc = tp_hop_init(&node->hop[i], config->memory_hop_bytes);
		if (rc)
			return rc;
	}
	for (uint32_t q = 0; q < rx; q++) {
		int rc = tp_hop_init(&node->dead[q], DP_DEAD_RING_BYTES);
		if (rc)
			return rc;
	}
	for (uint32_t s = 0; s < shards; s++) {
		struct dp_shard *shard = &node->shard[s];
		node->fraud_memory[s] = memory_map(agg_fraud_shard_bytes(node->fraud_entries));
		shard->hop = calloc(rx, sizeof(struct tp_hop *));
		shard->late_ring = calloc(rx, sizeof(struct dp_late_ring *));
		shard->dead = calloc(rx, sizeof(*shard->dead));
		if (!node->fraud_memory[s] || !shard->hop || !shard->late_ring || !shard->dead)
			return -ENOMEM;
		dp_touch_add(&node->touch, node->fraud_memory[s], agg_fraud_shard_bytes(node->fraud_entries), false);
		for (uint32_t q = s; q < rx; q += shards)
			shard->dead[shard->deads++] = (struct dp_shard_dead){.ring = &node->dead[q], .rx = q};
		for (uint32_t q = 0; q < rx; q++) {
			shard->hop[q] = &node->hop[q * shards + s];
			shard->late_ring[q] = &node->late_ring[q * shards + s];
		}
		shard->number = s;
		shard->shards = shards;
		shard->rx_count = rx;
		shard->dedup = node->dedup;
		shard->turns = node->turns;
		node->turns[s] = &shard->own_turns;
		shard->horizon_ms = config->horizon_ms;
		shard->live = node->live;
		shard->traces = config->tracing_collector != NULL;
		atomic_store_explicit(&node->live->shard[s].ring_bytes, config->memory_hop_bytes, memory_order_relaxed);
		int rc = dp_shard_init(shard);
		if (rc)
			return rc;
	}
	for (uint32_t q = 0; q < rx; q++)
		core_add(node, config->rx[q], (int32_t)q, NULL);
	for (uint32_t s = 0; s < shards; s++)
		core_add(node, config->shard[s], -1, &node->shard[s]);
	/* now that each shard has a core, and with it counters */
	for (uint32_t s = 0; s < shards; s++) {
		struct dp_shard *shard = &node->shard[s];
		node->fraud[s] = agg_fraud_shard_init(node->fraud_memory[s], node->fraud_entries, fraud_ip, shard->counters);
		shard->machine[shard->machines++] = agg_fraud_machine(node->fraud[s]);
	}
	dp_touch_add(&node->touch, (uint8_t *)node->dedup_memory + now_bytes, node->dedup_bytes - now_bytes, true);
	node->live->cores = node->cores;
	for (uint32_t i = 0; i < node->cores; i++) {
		node->core[i].rx_cores = node->rx_cores;
		node->core[i].shard_cores = node->shard_cores;
		if (node->core[i].rx >= 0)
			node->core[i].dead = &node->dead[node->core[i].rx];
		node->core[i].late_worker = &node->worker[DP_LATE];
		node->core[i].rx_count = rx;
		node->core[i].shard_count = shards;
	}
	return 0;
}

void dp_node_memory_free(struct dp_node *node)
{
	uint32_t rx = node->config.rx_count, shards = node->config.shard_count;
	dp_touch_end(&node->touch);
	dp_fold_memory_free(&node->fold_memory);
	for (uint32_t i = 0; node->hop && i < rx * shards; i++)
		tp_hop_fini(&node->hop[i]);
	for (uint32_t q = 0; node->dead && q < rx; q++)
		tp_hop_fini(&node->dead[q]);
	for (uint32_t s = 0; node->shard && s < shards; s++) {
		dp_shard_fini(&node->shard[s]);
		free(node->shard[s].hop);
		free(node->shard[s].late_ring);
		free(node->shard[s].dead);
		if (node->fraud_memory && node->fraud_memory[s])
			munmap(node->fraud_memory[s], agg_fraud_shard_bytes(node->fraud_entries));
	}
	if (node->dedup_memory)
		munmap(node->dedup_memory, node->dedup_bytes);
	if (node->fraud_ip_memory)
		munmap(node->fraud_ip_memory, agg_fraud_ip_bytes(node->fraud_entries));
	free(node->core);
	free(node->hop);
	free(node->dead);
	free(node->late_ring);
	free(node->shard);
	free(node->keeping);
	free(node->fraud_memory);
	free(node->fraud);
	free(node->wal);
	free(node->rx_cores);
	free(node->shard_cores);
	free(node->turns);
	if (node->live)
		tp_live_unmap(node->live);
	if (node->live_fd >= 0)
		close(node->live_fd);
	if (node->sight)
		tp_sight_unmap(node->sight);
	if (node->sight_fd >= 0)
		close(node->sight_fd);
}
