/*
 * Builds the node and takes it down. Main thread. Each part's failure is logged where it happens; what was built is taken down in
 * reverse.
 */
#include "node.h"

#include "turnpike/drive.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	REQUESTS_MAX = 16384,
	SMALL_BUFFERS = 1024,
	LARGE_BUFFERS = 64,
	LOG_FILE_BYTES_MIN = 16 << 20,
	DRAIN_MS = 200,     /* how long what the kernel has queued may take to come in */
	OWED_MS_MAX = 5000, /* how long a client may take to finish its request at the end */
	SEAL_MS_MAX = 60000,
	START_THREADS_MAX = 8,
};

/* A small disk gets small log files: an eighth of what is free, so that a few of them and their segments fit. */
static uint64_t log_file_bytes(const struct tp_config *config)
{
	struct statvfs fs;
	uint64_t bytes = config->log_file_bytes;
	char path[4096];
	snprintf(path, sizeof(path), "%s", config->data_dir);
	while (statvfs(path, &fs)) { /* the folder may not be there yet: ask the one above */
		char *slash = strrchr(path, '/');
		if (!slash || slash == path)
			return bytes;
		*slash = 0;
	}
	uint64_t eighth = (uint64_t)fs.f_bavail * fs.f_frsize / 8 >> 20 << 20;
	if (eighth < LOG_FILE_BYTES_MIN)
		eighth = LOG_FILE_BYTES_MIN;
	if (eighth < bytes) {
		tp_logf(TP_WARN, "small disk: smaller log files", "configured_bytes=%" PRIu64 " used_bytes=%" PRIu64, bytes,
			eighth);
		bytes = eighth;
	}
	return bytes;
}

static int wals_open(struct dp_node *node)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct sto_wal_options options = {
			.shard = s,
			.commit_interval_ns = node->config.commit_interval_ns,
			.reserve_bytes = node->config.rx_count * node->config.memory_hop_bytes,
		};
		int rc = sto_wal_open(&node->wal[s], node->store, &options);
		if (rc) {
			tp_logf(TP_ERROR, "cannot open the log", "shard=%u error=\"%s\"", s, strerror(-rc));
			return rc;
		}
		node->shard[s].wal = node->wal[s];
	}
	node->rotated_ms = tp_now_ms();
	node->rotated_watermark_ms = atomic_load_explicit(&node->live->watermark_ms, memory_order_relaxed);
	/* The first spares, of files only where none could be made before. A full disk is no reason not to start: beacons are refused. */
	dp_spares_first(node);
	return atomic_load(&node->failed);
}

/* The rx core that runs on the CPU of a shard, or 0xff. */
static uint8_t core_of_shard(const struct dp_node *node, uint32_t shard)
{
	for (uint32_t q = 0; q < node->config.rx_count; q++)
		if (node->config.rx[q] == node->config.shard[shard])
			return (uint8_t)q;
	return 0xff;
}

static_assert(TP_SHARDS_MAX <= sizeof(((struct dp_beacon_options *)0)->shard_core), "a layout names every shard");

/* A first write to each page now, and not by the rx core. */
static struct tp_span_ring *spans_touch(struct tp_span_ring *spans)
{
	for (uint32_t i = 0; i < TP_SPANS; i++)
		atomic_store_explicit(&spans->slot[i].stamp, 0, memory_order_relaxed);
	return spans;
}

static int beacons_create(struct dp_node *node)
{
	for (uint32_t q = 0; q < node->config.rx_count; q++) {
		struct dp_core *core = node->rx_cores[q];
		struct tp_hop *hop[TP_SHARDS_MAX];
		struct dp_late_ring *late[TP_SHARDS_MAX];
		for (uint32_t s = 0; s < node->config.shard_count; s++) {
			hop[s] = &node->hop[q * node->config.shard_count + s];
			late[s] = &node->late_ring[q * node->config.shard_count + s];
		}
		struct dp_intake_options intake = {
			.hop = hop,
			.late = late,
			.shards = node->config.shard_count,
			.requests_max = REQUESTS_MAX,
			.refusing = &node->live->refusing,
			.counters = &core->counters,
			.meter = &core->meter,
			.ack_latency = core->live->ack_latency,
			.ack_ns_sum = &core->live->ack_ns_sum,
			.spans = node->config.tracing_collector ? spans_touch(&core->live->spans) : NULL,
			.cpu = (uint16_t)core->cpu,
			.dead = &node->dead[q],
			.dead_shard = q % node->config.shard_count,
			.dead_second = node->config.dlq_per_second,
			.dead_bytes = node->config.dlq_bytes_per_second,
		};
		int rc = dp_intake_create(&core->intake, &intake);
		if (rc)
			return rc;
		dp_intake_clock(core->intake, tp_now_ms(), tp_mono_ns());
		struct dp_beacon_options beacon = {
			.config = &node->config,
			.intake = core->intake,
			.connections_max = node->config.memory_connections,
			.small_buffers = SMALL_BUFFERS,
			.large_buffers = LARGE_BUFFERS,
			.blocked = dp_blocklist_blocked,
			.blocked_context = dp_blocklist_reader(node->blocklist, q),
			.rx = (uint16_t)q,
			.rx_count = (uint16_t)node->config.rx_count,
			.shards = (uint16_t)node->config.shard_count,
			.sight = node->sight,
			.way_events = core->live->way_events,
		};
		for (uint32_t s = 0; s < node->config.shard_count; s++)
			beacon.shard_core[s] = core_of_shard(node, s);
		dp_access_options(node->access, &beacon);
		rc = dp_beacon_create(&core->beacon, &beacon);
		if (rc)
			return rc;
	}
	return 0;
}

static void endpoint_append(char *list, size_t bytes, const struct tp_addr *addr, uint16_t port)
{
	char text[TP_ENDPOINT_TEXT_BYTES];
	struct tp_endpoint endpoint = {.addr = *addr, .port = port};
	size_t used = strlen(list);
	tp_endpoint_text(&endpoint, text);
	snprintf(list + used, bytes - used, "%s%s", used ? "," : "", text);
}

/* What stands for an ingest entry where it is shown: its device, or its first address. */
static void port_name(struct tp_live *live, uint32_t index, const struct tp_config_ingest *ingest, uint16_t http_port,
		      uint16_t udp_port)
{
	bool http = ingest->http.addr.family != 0;
	struct tp_endpoint endpoint = {.addr = http ? ingest->http.addr : ingest->udp.addr, .port = http ? http_port : udp_port};
	char text[TP_ENDPOINT_TEXT_BYTES];
	if (index >= TP_LIVE_PORTS)
		return;
	tp_endpoint_text(&endpoint, text);
	if (ingest->driver == TP_DRIVER_SOCKET)
		snprintf(live->port[index], sizeof(live->port[index]), "socket %.40s", text);
	else
		snprintf(live->port[index], sizeof(live->port[index]), "%.*s", (int)strcspn(ingest->device, ","), ingest->device);
	live->ports = index + 1;
}

/* dp_port_options.wake */
static void rx_core_wake(void *context, uint32_t rx_core)
{
	struct dp_node *node = context;
	/* full fence: see the head of core.h */
	atomic_thread_fence(memory_order_seq_cst);
	dp_core_wake(node->rx_cores[rx_core]);
}

static int ports_open(struct dp_node *node)
{
	for (uint32_t i = 0; i < node->config.ingest_count; i++) {
		const struct tp_config_ingest *ingest = &node->config.ingest[i];
		bool socket = ingest->driver == TP_DRIVER_SOCKET;
		const struct dp_port_driver *driver = socket ? &dp_port_socket : &dp_port_dpdk;
		uint16_t http_port = socket ? ingest->http.port : ingest->http_port;
		uint16_t udp_port = socket ? ingest->udp.port : ingest->udp_port;
		for (uint32_t q = 0; q < node->config.rx_count; q++) {
			struct dp_core *core = node->rx_cores[q];
			if (core->ports == DP_PORTS_MAX)
				return -E2BIG;
			struct dp_port_options options = {
				.config = &node->config,
				.ingest = ingest,
				.ingest_index = (uint16_t)i,
				.queue = (uint16_t)q,
				.queues = (uint16_t)node->config.rx_count,
				.beacon = core->beacon,
				.counters = &core->counters,
				.blocked = dp_blocklist_blocked,
				.blocked_context = dp_blocklist_reader(node->blocklist, q),
				.sight = node->sight,
				.wake = rx_core_wake,
				.wake_context = node,
				.http_port = &http_port,
				.udp_port = &udp_port,
			};
			struct dp_port *port;
			int rc = driver->open(&port, &options);
			if (rc) {
				tp_logf(TP_ERROR, "cannot open a port", "ingest=%u driver=%s error=\"%s\"", i, driver->name,
					strerror(-rc));
				return rc;
			}
			core->port[core->ports++] = (struct dp_core_port){.driver = driver, .port = port};
		}
		port_name(node->live, i, ingest, http_port, udp_port);
		if (socket) {
			if (ingest->http.addr.family)
				endpoint_append(node->live->http, sizeof(node->live->http), &ingest->http.addr, http_port);
			if (ingest->udp.addr.family)
				endpoint_append(node->live->udp, sizeof(node->live->udp), &ingest->udp.addr, udp_port);
		}
		for (uint32_t a = 0; !socket && a < ingest->address_count; a++) {
			if (http_port)
				endpoint_append(node->live->http, sizeof(node->live->http), &ingest->address[a].addr, http_port);
			if (udp_port)
				endpoint_append(node->live->udp, sizeof(node->live->udp), &ingest->address[a].addr, udp_port);
		}
	}
	snprintf(node->live->receive_path, sizeof(node->live->receive_path), "%s",
		 node->dpdk ? dp_dpdk_describe() : "kernel sockets (io_uring)");
	return 0;
}

static int blocklist_enforce(void *node, const struct eb_block *list, uint32_t count)
{
	return ((struct dp_node *)node)->dpdk ? dp_dpdk_blocklist(list, count) : 0;
}

static int blocklist_hits(void *node, uint64_t *hits, uint32_t slots)
{
	return ((struct dp_node *)node)->dpdk ? dp_dpdk_blocklist_hits(hits, slots) : 0;
}

static int blocklist_open(struct dp_node *node)
{
	const struct dp_blocklist_options options = {
		.data_dir = node->config.data_dir,
		.file = node->config.blocklist_file,
		.files = node->config.blocklist_files,
		.readers = node->config.rx_count,
		.hooks = {.synchronize = dp_cores_synchronize,
			  .enforce = blocklist_enforce,
			  .hits = blocklist_hits,
			  .context = node},
	};
	return dp_blocklist_open(&node->blocklist, &options);
}

static int threads_start(struct dp_node *node)
{
	/* recovery and its threads are through */
	agg_dedup_alone(node->dedup, node->config.shard_count == 1);
	for (uint32_t i = 0; i < node->cores; i++) {
		int rc = dp_core_start(&node->core[i]);
		if (rc) {
			tp_logf(TP_ERROR, "cannot start a core", "cpu=%u error=\"%s\"", node->core[i].cpu, strerror(-rc));
			for (uint32_t k = 0; k < i; k++)
				dp_core_join(&node->core[k]);
			return rc;
		}
	}
	node->cores_run = true;
	return dp_background_start(node);
}

static void take_down(struct dp_node *node)
{
	if (node->cores_run)
		for (uint32_t i = 0; i < node->cores; i++)
			dp_core_join(&node->core[i]);
	node->cores_run = false;
	dp_background_stop(node);
	atomic_store_explicit(&node->stop_commands, 1, memory_order_release);
	if (node->command_runs)
		pthread_join(node->command_thread, NULL);
	if (node->command_listen_fd >= 0) {
		char path[4096];
		snprintf(path, sizeof(path), "%s/turnpike.sock", node->config.data_dir);
		close(node->command_listen_fd);
		unlink(path);
	}
	for (uint32_t q = 0; node->rx_cores && q < node->config.rx_count; q++) {
		struct dp_core *core = node->rx_cores[q];
		if (!core)
			continue;
		for (uint32_t i = 0; i < core->ports; i++)
			core->port[i].driver->close(core->port[i].port);
		dp_beacon_destroy(core->beacon);
		dp_intake_destroy(core->intake);
	}
	if (node->dpdk)
		dp_dpdk_fini();
	for (uint32_t s = 0; node->wal && s < node->config.shard_count; s++)
		if (node->wal[s])
			sto_wal_close(node->wal[s]);
	dp_fraud_rules_free(node);
	dp_access_close(node->access);
	dp_blocklist_close(node->blocklist);
	struct tp_config *reloaded = atomic_exchange(&node->reloaded, NULL);
	if (reloaded)
		tp_config_free(reloaded);
	free(reloaded);
	if (node->store)
		sto_store_close(node->store);
	dp_node_memory_free(node);
}

/* Says once what "durable" rests on. */
static void drive_tell(const struct dp_node *node)
{
	struct sto_drive drive;
	int rc = sto_drive_look(node->config.data_dir, &drive);
	if (rc)
		return;
	if (drive.cache == STO_DRIVE_MEMORY)
		tp_logf(TP_WARN, "the data folder lies in memory: what is acknowledged is lost with the power", "data_dir=%s",
			node->config.data_dir);
	else if (drive.cache == STO_DRIVE_UNKNOWN)
		tp_logf(TP_WARN,
			"the data folder is not on one block device: whether a sync reaches a disk cannot be seen, make sure that "
			"it does",
			"data_dir=%s", node->config.data_dir);
	else
		tp_logf(TP_INFO, "drive", "device=%s cache=\"%s\"", drive.device, sto_drive_cache_name(drive.cache));
}

static int store_open(struct dp_node *node)
{
	node->log_file_bytes = node->config.log_file_bytes;
	struct sto_store_options options = {.data_dir = node->config.data_dir,
					    .log_file_bytes = log_file_bytes(&node->config),
					    .preallocate = node->config.preallocate};
	node->log_file_bytes = options.log_file_bytes;
	int rc = sto_store_open(&node->store, &options);
	if (rc && rc != -EBUSY) /* which the store has said */
		tp_logf(TP_ERROR, "cannot open the data folder", "data_dir=%s error=\"%s\"", node->config.data_dir, strerror(-rc));
	if (!rc)
		drive_tell(node);
	return rc;
}

static int start(struct dp_node *node)
{
	int rc = store_open(node);
	if (rc)
		return rc;
	rc = dp_node_memory_create(node);
	if (rc) {
		tp_logf(TP_ERROR, "cannot allocate memory", "error=\"%s\"", strerror(-rc));
		return rc;
	}
	dp_touch_start(&node->touch, node->start_threads);
	tp_logf(TP_INFO, "memory fixed",
		"dedup_bytes=%" PRIu64 " ids_per_generation=%" PRIu64 " hop_bytes=%" PRIu64 " live_bytes=%" PRIu64,
		node->dedup_bytes, agg_dedup_ids_max(node->dedup),
		node->config.memory_hop_bytes * node->config.rx_count * node->config.shard_count, node->live->bytes);
	rc = blocklist_open(node);
	if (rc)
		return rc;
	struct dp_access_hooks access_hooks = {.synchronize = dp_cores_synchronize, .context = node};
	rc = dp_access_open(&node->access, &node->config, &access_hooks);
	if (rc)
		return rc;
	node->command_listen_fd = tp_command_listen(node->config.data_dir);
	if (node->command_listen_fd < 0) {
		tp_logf(TP_ERROR, "cannot open the command socket", "error=\"%s\"", strerror(-node->command_listen_fd));
		return node->command_listen_fd;
	}
	rc = dp_fraud_rules_load(node);
	if (rc)
		return rc;
	/* From here on it answers how far the start has come; all else when `ready` is set. */
	rc = -pthread_create(&node->command_thread, NULL, dp_commands_main, node);
	if (rc) {
		tp_logf(TP_ERROR, "cannot start the command thread", "error=\"%s\"", strerror(-rc));
		return rc;
	}
	node->command_runs = true;
	rc = dp_recover(node, tp_now_ms());
	if (rc)
		return rc;
	rc = wals_open(node);
	if (rc) {
		tp_logf(TP_ERROR, "cannot prepare the log", "error=\"%s\"", strerror(-rc));
		return rc;
	}
	rc = beacons_create(node);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < node->config.ingest_count; i++)
		node->dpdk |= node->config.ingest[i].driver == TP_DRIVER_DPDK;
	if (node->dpdk) {
		rc = dp_dpdk_init(&node->config);
		if (rc) {
			node->dpdk = false;
			return rc;
		}
	}
	rc = ports_open(node);
	if (!rc)
		rc = dp_blocklist_enforce(node->blocklist);
	if (rc)
		return rc;
	dp_touch_wait(&node->touch);
	rc = threads_start(node);
	if (rc)
		return rc;
	/* In this order: the command thread does all its work from here on. */
	atomic_store(&node->live->refusing, dp_node_lacks_space(node) ? TP_NO_SPACE : TP_TAKING);
	atomic_store(&node->live->ready, 1);
	return 0;
}

static uint32_t cpus_usable(void)
{
	cpu_set_t set;
	int cpus = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
	return cpus < START_THREADS_MAX ? (uint32_t)cpus : START_THREADS_MAX;
}

int dp_node_start(struct dp_node *node)
{
	node->live_fd = node->sight_fd = node->sight_client = node->command_listen_fd = -1;
	node->start_threads = cpus_usable();
	node->table_rows = DP_TABLE_ROWS;
	node->table_heap_bytes = DP_TABLE_HEAP_BYTES;
	int rc = start(node);
	if (rc) {
		tp_logf(TP_ERROR, "cannot start", "error=\"%s\"", strerror(-rc));
		take_down(node);
	}
	return rc;
}

/* Waits up to limit_ms for `done`. */
static bool wait_for(struct dp_node *node, bool (*done)(struct dp_node *), uint64_t limit_ms)
{
	uint64_t until_ns = tp_mono_ns() + limit_ms * 1000000;
	while (!done(node)) {
		if (tp_mono_ns() > until_ns || atomic_load(&node->failed))
			return false;
		usleep(1000);
	}
	return true;
}

static bool nothing_owed(struct dp_node *node)
{
	for (uint32_t q = 0; q < node->config.rx_count; q++)
		if (atomic_load_explicit(&node->rx_cores[q]->owed, memory_order_acquire))
			return false;
	return true;
}

/* The ports have handed up what the kernel had queued when they were told to drain. */
static bool drained(struct dp_node *node)
{
	for (uint32_t q = 0; q < node->config.rx_count; q++)
		if (atomic_load_explicit(&node->rx_cores[q]->draining, memory_order_acquire))
			return false;
	return nothing_owed(node);
}

static bool all_rolled(struct dp_node *node)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		if (atomic_load_explicit(&node->shard[s].roll_wanted, memory_order_acquire))
			return false;
	return true;
}

static bool all_sealed(struct dp_node *node)
{
	if (atomic_load_explicit(&node->recovered_left, memory_order_acquire))
		return false;
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		if (atomic_load_explicit(&node->keeping[s].sealed_file, memory_order_acquire) <
		    atomic_load_explicit(&node->shard[s].previous_file, memory_order_acquire))
			return false;
	return true;
}

static void rx_cores_wake(struct dp_node *node)
{
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t q = 0; q < node->config.rx_count; q++)
		dp_core_wake(node->rx_cores[q]);
}

int dp_node_stop(struct dp_node *node)
{
	tp_notify("STOPPING=1");
	/* No new connections; what the kernel has queued still comes in. */
	for (uint32_t q = 0; q < node->config.rx_count; q++) {
		/* until the core has counted */
		atomic_store_explicit(&node->rx_cores[q]->draining, 1, memory_order_relaxed);
		atomic_store_explicit(&node->rx_cores[q]->owed, 1, memory_order_relaxed);
		atomic_store_explicit(&node->rx_cores[q]->drain, 1, memory_order_release);
	}
	rx_cores_wake(node);
	wait_for(node, drained, DRAIN_MS);
	/* No new requests on the old ones. */
	atomic_store_explicit(&node->stopping, 1, memory_order_release);
	atomic_store_explicit(&node->live->refusing, TP_STOPPING, memory_order_relaxed);
	for (uint32_t q = 0; q < node->config.rx_count; q++)
		atomic_store_explicit(&node->rx_cores[q]->owed, 1, memory_order_relaxed);
	rx_cores_wake(node);
	if (!wait_for(node, nothing_owed, OWED_MS_MAX))
		tp_logf(TP_WARN, "some clients did not finish their requests", NULL);
	/* Everything is durable and told: finish the open files and seal them. */
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		atomic_store_explicit(&node->shard[s].roll_wanted, 1, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		dp_core_wake(node->shard_cores[s]);
	/* Without room for a segment the log file stays, and the next start seals it. */
	if (wait_for(node, all_rolled, OWED_MS_MAX) && !dp_node_lacks_space(node))
		wait_for(node, all_sealed, SEAL_MS_MAX);
	int failed = atomic_load(&node->failed);
	take_down(node);
	return failed;
}

/* The file as it is now. What is wrong with it goes to the log, a line each. */
static bool config_again(const struct dp_node *node, struct tp_config *fresh)
{
	char *said = NULL, *save = NULL;
	size_t bytes;
	FILE *to = open_memstream(&said, &bytes);
	int rc = to ? tp_config_load(node->config.file, fresh, to) : -ENOMEM;
	if (to)
		fclose(to);
	for (char *line = rc && said ? strtok_r(said, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
		tp_logf(TP_ERROR, line, NULL);
	free(said);
	return rc == 0;
}

void dp_node_reload(struct dp_node *node)
{
	struct tp_config fresh;
	if (!config_again(node, &fresh)) {
		tp_logf(TP_ERROR, "configuration not reloaded: the file is broken", "file=%s", node->config.file);
		return;
	}
	if (dp_fraud_rules_reload(node, &fresh.fraud))
		tp_logf(TP_ERROR, "fraud rules not reloaded: the former ones stay in force", "file=%s", node->config.file);
	else
		tp_logf(TP_INFO, "fraud rules, tokens, source keys, blocklist and packet rates reloaded; other keys need a restart",
			"file=%s", node->config.file);
	atomic_store_explicit(&node->access_reload, 1, memory_order_release);
	struct tp_config *given = malloc(sizeof(*given));
	if (!given) {
		tp_config_free(&fresh);
		return;
	}
	*given = fresh;
	/* release: the command thread sees it whole; one that it has not taken yet is older */
	given = atomic_exchange_explicit(&node->reloaded, given, memory_order_acq_rel);
	if (given)
		tp_config_free(given);
	free(given);
}
