/*
 * One run of the data process, without its threads: the node's own memory, recovery, cores, workers; ports that are the network of
 * crowd.c; the simulated disk. Start, stop and the turn of each part follow dataplane/node.c step by step, in an order that the seed
 * chooses.
 */
#include "sim.h"

#include "../../dataplane/beacon/http_limits.h"

enum { HOP_BYTES = 32 << 10, LOG_FILE_BYTES = 256 << 10, STOP_ROUNDS = 4000 };

struct dp_port {
	struct world *world;
	uint32_t rx;
};

static struct dp_port ports[16];

static uint32_t port_poll(struct dp_port *port, uint64_t now_ns)
{
	(void)now_ns;
	return crowd_deliver(port->world, port->rx);
}

static uint32_t port_drain(struct dp_port *port, uint64_t now_ns)
{
	(void)port;
	(void)now_ns;
	return 0;
}

static const struct dp_port_driver port_driver = {.name = "sim", .poll = port_poll, .drain = port_drain};

/* ---- rules ---- */

void life_rules(struct world *w, bool first)
{
	static const uint32_t ip[] = {10, 3, 6}, device[] = {5, 2, 8}, soon[] = {500, 200, 1500};
	/* a restart brings other limits only where a reload may as well */
	uint32_t n = first || !(w->faults & FAULT_RELOAD) ? w->rule_kind : (uint32_t)dice(w, 3);
	w->rule_changes += n != w->rule_kind;
	w->rule_kind = n;
	struct agg_fraud_rules *rules = &w->rules[w->rule_version++ % 16];
	*rules = w->also;
	rules->version = w->rule_version;
	rules->clicks_per_ip_hour = ip[n];
	rules->clicks_per_device_hour = device[n];
	rules->min_ms_since_impression = soon[n];
	if (first) {
		w->ip_limit_min = w->ip_limit_max = ip[n];
		w->device_limit_min = w->device_limit_max = device[n];
		w->soon_min = w->soon_max = soon[n];
	}
#define WIDEN(low, high, value) (low = value < low ? value : low, high = value > high ? value : high)
	WIDEN(w->ip_limit_min, w->ip_limit_max, ip[n]);
	WIDEN(w->device_limit_min, w->device_limit_max, device[n]);
	WIDEN(w->soon_min, w->soon_max, soon[n]);
#undef WIDEN
	for (uint32_t s = 0; w->node.fraud && s < w->node.config.shard_count; s++)
		agg_fraud_rules_set(w->node.fraud[s], rules);
}

/* ---- start ---- */

static void config_make(struct world *w)
{
	static struct tp_prefix trusted;
	trusted = (struct tp_prefix){.addr = tp_addr_v4((const uint8_t[]){10, 0, 0, 0}), .bits = 8};
	w->ingest = (struct tp_config_ingest){.trusted = &trusted, .trusted_count = 1, .batch_window = 64};
	struct tp_config *config = &w->node.config;
	uint32_t rx = 1 + (uint32_t)dice(w, 2), shards = 1 + (uint32_t)dice(w, 4);
	for (uint32_t i = 0; i < 16; i++)
		w->cpu[i] = i;
	*config = (struct tp_config){
		.node_name = (char *)(uintptr_t) "sim",
		.data_dir = (char *)(uintptr_t) "var/data",
		.ingest = &w->ingest,
		.ingest_count = 1,
		.rx = w->cpu,
		.shard = w->cpu + (chance(w, 2) ? 0 : rx), /* shared CPUs, or own ones */
		.rx_count = rx,
		.shard_count = shards,
		.commit_interval_ns = 1000000,
		.preallocate = chance(w, 2),
		.lateness_ms = 60000,
		.horizon_ms = 900000,
		.max_future_ms = 60000,
		.session_gap_ms = 1800000,
		.retention_raw_ms = UINT64_C(86400000) * 30,
		.retention_minute_ms = UINT64_C(86400000) * 45,
		.retention_hour_ms = UINT64_C(86400000) * 400,
		.retention_day_ms = UINT64_C(86400000) * 3650,
		.memory_dedup_bytes = w->id_bytes,
		.memory_connections = 64,
		.memory_hop_bytes = HOP_BYTES,
		.memory_fraud_bytes = 16 << 20,
		.dlq_per_second = chance(w, 8) ? 1 : 1000,
		.dlq_bytes_per_second = 1 << 20,
		.log_file_bytes = LOG_FILE_BYTES,
		.seal_after_ms = chance(w, 2) ? 300000 : 5000,
	};
}

static int wals_open(struct world *w)
{
	struct dp_node *node = &w->node;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		const struct sto_wal_options options = {
			.shard = s,
			.commit_interval_ns = node->config.commit_interval_ns,
			.block_bytes_max = 4096 * (4 + (uint32_t)dice(w, 4)),
			.writes_in_flight = 1 + (uint32_t)dice(w, 6),
			.reserve_bytes = node->config.rx_count * node->config.memory_hop_bytes,
		};
		int rc = sto_wal_open(&node->wal[s], node->store, &options);
		if (rc)
			return rc;
		node->shard[s].wal = node->wal[s];
	}
	node->rotated_ms = wall_ms(w);
	node->rotated_watermark_ms = atomic_load(&node->live->watermark_ms);
	dp_spares_first(node);
	return atomic_load(&node->failed);
}

static int beacons_create(struct world *w)
{
	struct dp_node *node = &w->node;
	for (uint32_t q = 0; q < node->config.rx_count; q++) {
		struct dp_core *core = node->rx_cores[q];
		struct tp_hop *hop[TP_SHARDS_MAX];
		struct dp_late_ring *late[TP_SHARDS_MAX];
		for (uint32_t s = 0; s < node->config.shard_count; s++) {
			hop[s] = &node->hop[q * node->config.shard_count + s];
			late[s] = &node->late_ring[q * node->config.shard_count + s];
		}
		const struct dp_intake_options intake = {
			.hop = hop,
			.late = late,
			.shards = node->config.shard_count,
			.requests_max = 64,
			.refusing = &node->live->refusing,
			.counters = &core->counters,
			.ack_latency = core->live->ack_latency,
			.ack_ns_sum = &core->live->ack_ns_sum,
			.dead = &node->dead[q],
			.dead_shard = q % node->config.shard_count,
			.dead_second = node->config.dlq_per_second,
			.dead_bytes = node->config.dlq_bytes_per_second,
		};
		int rc = dp_intake_create(&core->intake, &intake);
		if (rc)
			return rc;
		dp_intake_clock(core->intake, wall_ms(w), w->now_ns);
		const struct dp_beacon_options beacon = {
			.config = &node->config,
			.intake = core->intake,
			.connections_max = LINKS + 1,
			.small_buffers = 4,
			.large_buffers = 2,
			.rx = (uint16_t)q,
			.rx_count = (uint16_t)node->config.rx_count,
			.shards = (uint16_t)node->config.shard_count,
		};
		rc = dp_beacon_create(&core->beacon, &beacon);
		if (rc)
			return rc;
		ports[q] = (struct dp_port){.world = w, .rx = q};
		core->port[core->ports++] = (struct dp_core_port){.driver = &port_driver, .port = &ports[q]};
	}
	return 0;
}

static int start(struct world *w)
{
	struct dp_node *node = &w->node;
	const struct sto_store_options options = {
		.data_dir = "var/data", .log_file_bytes = LOG_FILE_BYTES, .preallocate = node->config.preallocate};
	node->log_file_bytes = options.log_file_bytes;
	int rc = store_open(&node->store, &options, sim_disk_io(w->disk));
	if (!rc)
		rc = dp_node_memory_create(node);
	if (rc)
		return rc;
	life_rules(w, w->life == 0);
	rc = dp_recover(node, wall_ms(w));
	if (!rc)
		rc = wals_open(w);
	if (!rc)
		rc = beacons_create(w);
	if (rc)
		return rc;
	atomic_store(&node->live->refusing, dp_node_lacks_space(node) ? TP_NO_SPACE : TP_TAKING);
	atomic_store(&node->live->ready, 1);
	return 0;
}

static void take_down(struct world *w)
{
	struct dp_node *node = &w->node;
	crowd_node_gone(w);
	for (uint32_t q = 0; node->rx_cores && q < node->config.rx_count; q++) {
		struct dp_core *core = node->rx_cores[q];
		if (!core)
			continue;
		dp_beacon_destroy(core->beacon);
		dp_intake_destroy(core->intake);
	}
	for (uint32_t s = 0; node->wal && s < node->config.shard_count; s++)
		if (node->wal[s])
			sto_wal_close(node->wal[s]);
	if (node->store)
		sto_store_close(node->store);
	dp_node_memory_free(node);
	w->alive = false;
}

bool life_start(struct world *w)
{
	uint32_t shards = w->node.config.shard_count;
	memset(&w->node, 0, sizeof(w->node));
	w->node.live_fd = w->node.sight_fd = w->node.sight_client = w->node.command_listen_fd = -1;
	config_make(w);
	w->node.table_rows = w->table_rows;
	w->node.table_heap_bytes = w->table_rows * 64;
	w->tally_restarts_shards += w->life && shards != w->node.config.shard_count;
	const uint64_t now_ms = wall_ms(w);
	/* what was in time is in the log, so event time does not fall back behind it */
	w->sure_watermark_ms = w->high_ms && !w->clock_stepped_ever ? w->high_ms - w->node.config.lateness_ms : 0;
	w->clock_stepped = false;
	w->seen_all = 0;
	w->told_new = 0;
	int rc = start(w);
	if (rc) {
		bool crashed = sim_crashed(w->disk);
		take_down(w);
		if (!crashed && rc != -EIO)
			complain(w, "the node does not start: %s", strerror(-rc));
		return false;
	}
	if (w->life < 256)
		w->life_from_watermark_ms[w->life] = now_ms;
	agg_dedup_alone(w->node.dedup, w->node.config.shard_count == 1); /* as threads_start() of node.c */
	w->alive = true;
	w->life++;
	if (w->verbose)
		printf("  %8.3f s: life %u, %u rx, %u shards\n", (double)w->now_ns / 1e9, w->life, w->node.config.rx_count,
		       w->node.config.shard_count);
	return true;
}

/* ---- turns ---- */

static void core_turn(struct world *w, uint32_t c)
{
	struct dp_core *core = &w->node.core[c];
	dp_core_round(core, wall_ms(w), w->now_ns);
	if (atomic_load(&core->failed))
		w->down_wanted = true;
}

static void worker_turn(struct world *w, uint32_t kind)
{
	static const dp_step_fn step[DP_BACKGROUNDS] = {dp_spares_step, dp_late_step, dp_keep_step, dp_seal_step, dp_merge_step};
	step[kind](&w->node, wall_ms(w), w->now_ns);
}

void life_turn(struct world *w)
{
	struct dp_node *node = &w->node;
	uint64_t what = dice(w, 40);
	if (what < 24)
		core_turn(w, (uint32_t)dice(w, node->cores));
	else if (what < 39)
		worker_turn(w, (uint32_t)dice(w, DP_BACKGROUNDS));
	else
		dp_taking_update(node);
	/* merging everything at once, now and then, where the worker would wait for more */
	if (what == 25 && chance(w, 200)) {
		const struct sto_merge_options now = {.now = true};
		int rc = sto_merge_step(node->store, &now);
		if (rc == -EIO)
			dp_node_fail(node, rc);
		else if (rc < 0 && rc != -ENOSPC && !sim_crashed(w->disk))
			complain(w, "merging fails: %s", strerror(-rc));
	}
	if (atomic_load(&node->failed) || sim_crashed(w->disk))
		w->down_wanted = true;
}

/* ---- the end ---- */

static bool owed(struct world *w)
{
	for (uint32_t q = 0; q < w->node.config.rx_count; q++)
		if (atomic_load(&w->node.rx_cores[q]->owed))
			return true;
	return false;
}

static bool sealed(struct world *w)
{
	struct dp_node *node = &w->node;
	if (atomic_load(&node->recovered_left))
		return false;
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		if (atomic_load(&node->shard[s].roll_wanted) ||
		    atomic_load(&node->keeping[s].sealed_file) < atomic_load(&node->shard[s].previous_file))
			return false;
	return true;
}

static bool rounds(struct world *w, bool (*done)(struct world *))
{
	for (uint32_t i = 0; i < STOP_ROUNDS && !w->down_wanted; i++) {
		if (done(w))
			return true;
		w->now_ns += 1000000;
		for (uint32_t c = 0; c < w->node.cores; c++)
			core_turn(w, c);
		for (uint32_t kind = 0; kind < DP_BACKGROUNDS; kind++)
			worker_turn(w, kind);
		dp_taking_update(&w->node);
		if (atomic_load(&w->node.failed) || sim_crashed(w->disk))
			w->down_wanted = true;
	}
	return false;
}

static bool not_owed(struct world *w)
{
	return !owed(w);
}

/* As dp_node_stop() does. */
static void stop_cleanly(struct world *w)
{
	struct dp_node *node = &w->node;
	for (uint32_t q = 0; q < node->config.rx_count; q++) {
		atomic_store(&node->rx_cores[q]->owed, 1);
		atomic_store(&node->rx_cores[q]->drain, 1);
	}
	atomic_store(&node->stopping, 1);
	atomic_store(&node->live->refusing, TP_STOPPING);
	for (uint32_t i = 0; i < LINKS; i++)
		if (w->link[i].open && !w->link[i].delivered)
			crowd_link_drop(w, i);
	bool answered = rounds(w, not_owed);
	if (!answered && !w->down_wanted && w->final) /* a full disk may keep what it owes; the process then ends all the same */
		complain(w, "a clean stop: something is owed for ever");
	if (answered)
		check_books(w);
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		atomic_store(&node->shard[s].roll_wanted, 1);
	bool all = rounds(w, sealed);
	if (!all && !w->down_wanted && w->final)
		complain(w, "a clean stop: a log file is never sealed");
	w->tally_stops++;
}

void life_end(struct world *w, bool clean)
{
	if (clean && !w->down_wanted)
		stop_cleanly(w);
	const struct dp_node *node = &w->node;
	w->tally_rotations += agg_dedup_rotations(node->dedup);
	w->tally_segments += atomic_load(&node->segments_sealed);
	w->tally_lanes += atomic_load(&node->late_lookups);
	for (uint32_t c = 0; c < node->cores; c++)
		w->waiting_full += node->core[c].counters.v[TP_C_FRAUD_WAITING_FULL];
	w->tally_crashes += !clean || w->down_wanted;
	if (w->life < 256)
		w->crashed_apart[w->life] = (!clean || w->down_wanted) && node->config.shard_count > 1;
	if (w->verbose)
		printf("  %8.3f s: life %u ends%s\n", (double)w->now_ns / 1e9, w->life, clean && !w->down_wanted ? " cleanly" : "");
	take_down(w);
	w->ended_cleanly = clean && !w->down_wanted;
	w->down_wanted = false;
}
