/*
 * The node: everything that the data process is made of, put together. The main thread builds it and takes it down. Beside the cores
 * run the background threads (background.h) and the command thread: the command socket, the blocklist, heartbeat, free space, whether
 * beacons are taken.
 */
#ifndef TURNPIKE_NODE_H
#define TURNPIKE_NODE_H

#include "access.h"
#include "background.h"
#include "blocklist.h"
#include "core.h"
#include "memory_touch.h"
#include "turnpike/config.h"
#include "turnpike/rules.h"
#include "turnpike/sight.h"
#include "turnpike/store.h"

enum {
	DP_TABLES_PER_SHARD = 4,
	DP_TABLES_RECOVERED = 8, /* and as many more per shard for the log files that recovery leaves to be sealed */
	DP_TABLES_MAX = TP_SHARDS_MAX * (DP_TABLES_PER_SHARD + DP_TABLES_RECOVERED),
	DP_TABLE_ROWS = 262144,
	DP_TABLE_HEAP_BYTES = 24 << 20,
	DP_PENDING_FILES = 64
};

/* What the background threads know of one shard. */
struct dp_shard_keeping {
	/* seal's own */
	uint64_t pending[DP_PENDING_FILES]; /* finished log files, oldest first */
	uint32_t pending_count;
	_Atomic uint64_t sealed_file; /* seal writes, others read: newest file of this shard that is sealed */
	/* keep's own */
	uint64_t rotation_file; /* open when the generation that is now previous stopped taking ids; 0: nothing to wait for */
	uint64_t open_file;     /* and since when it has had rows */
	uint64_t open_since_ms;
};

/* Live tables that belong to no file and no shard. */
struct dp_table_pool {
	pthread_mutex_t lock;
	struct tp_rollup *table[DP_TABLES_MAX];
	uint32_t count;
	uint32_t touched[DP_TABLES_MAX]; /* spares' own, by number: so many parts of its memory are there */
};

/* A log file of an earlier run: read, in its live table, to be sealed. */
struct dp_recovered {
	uint64_t file_id;
	struct tp_rollup *table;
};

struct dp_node {
	struct tp_config config;
	struct sto_store *store;
	struct tp_live *live;
	int live_fd;
	struct tp_sight *sight; /* rings for trace and capture, one per rx core */
	int sight_fd;
	int sight_client; /* the command thread's own: whose session it is, -1: nobody's */
	struct dp_blocklist *blocklist;
	struct dp_access *access;
	struct agg_dedup *dedup;
	void *dedup_memory, *fraud_ip_memory;
	struct dp_touch touch;
	uint64_t dedup_bytes, log_file_bytes;
	uint32_t table_rows, table_heap_bytes; /* of a live table */
	uint32_t start_threads;         /* that may work beside each other then; 0 and 1: the main thread reads the log alone */
	struct tp_hop *hop;             /* [rx][shard] */
	struct tp_hop *dead;            /* [rx]: dead letters, to shard rx % shards */
	struct dp_late_ring *late_ring; /* [rx][shard] */
	struct dp_shard *shard;
	struct dp_shard_keeping *keeping;
	void **fraud_memory;
	struct agg_fraud_shard **fraud; /* [shard] */
	uint32_t fraud_entries;
	struct rul_rules *rules; /* what the shards have; main thread */
	struct sto_wal **wal;
	struct dp_core *core;
	uint32_t cores;
	struct dp_core **rx_cores, **shard_cores;
	const struct dp_shard_turns **turns; /* of all shards: each reads the others */
	bool dpdk;
	int command_listen_fd;
	pthread_t command_thread;
	bool command_runs, cores_run;
	struct dp_worker worker[DP_BACKGROUNDS];
	struct dp_fold_memory {
		void *at;
		uint64_t bytes;
	} fold_memory; /* of who seals */
	struct dp_table_pool tables;
	struct dp_recovered recovered[DP_TABLES_MAX]; /* main fills it; then seal's own, like the next two */
	uint32_t recovered_next;
	uint32_t seal_next;
	uint64_t rotated_ms, rotated_watermark_ms; /* keep's own, like the next four */
	uint64_t retained_ms, pause_until_ns;
	uint32_t pauses;
	bool pausing;
	uint64_t expired_ms; /* the command thread's own, like the next */
	uint32_t full_ticks;
	struct tp_counters counters; /* of the background threads; the command thread publishes */
	/* between threads */
	_Atomic uint32_t spares_lack_space; /* spares: a log file did not fit */
	_Atomic uint32_t seal_lacks_space;  /* seal: a segment did not fit */
	_Atomic uint32_t recovered_left;    /* seal: of recovered[] */
	_Atomic uint32_t low_space;         /* commands: the file system has too little left */
	_Atomic uint64_t attacker_ttl_ms;   /* main: how long an attacker's address stays on the blocklist */
	_Atomic uint32_t attacker_count_only;
	_Atomic uint32_t stopping;      /* main */
	_Atomic uint32_t access_reload; /* main: tokens and source keys are to be read again */
	/* main gives, commands takes: a reloaded configuration, whose blocklist files and packet rates it takes over */
	_Atomic(struct tp_config *) reloaded;
	_Atomic uint32_t stop_commands;
	_Atomic int failed; /* -errno of a disk failure: the process must end */
	_Atomic uint64_t segments_sealed, late_lookups;
};

/* Recovers, allocates, opens ports, starts threads. 0 when beacons are being taken; else -errno, logged, and all taken down. */
int dp_node_start(struct dp_node *node);
/*
 * Ends in order: no new beacons, everything received durable and acknowledged, logs sealed, memory and ports given back. 0, or
 * -errno when the disk failed (then nothing more is acknowledged).
 */
int dp_node_stop(struct dp_node *node);
/* Reads the configuration again and takes over what can change while running; logs what cannot. */
void dp_node_reload(struct dp_node *node);

/* Ends the process' service at once: the disk failed, nothing may be acknowledged any more. Any thread. */
static inline void dp_node_fail(struct dp_node *node, int error)
{
	atomic_store_explicit(&node->failed, error, memory_order_release);
}

/* ---- node_memory.c: main thread ---- */
int dp_node_memory_create(struct dp_node *node); /* 0 or -errno; dp_node_memory_free() is due in any case */
void dp_node_memory_free(struct dp_node *node);

/* ---- fraud_rules.c: main thread, but for the signals ---- */
int dp_fraud_rules_load(struct dp_node *node);
/* Takes over the new rules, and gives the former configuration back in *fresh. 0, or -errno: the old ones stay. */
int dp_fraud_rules_reload(struct dp_node *node, struct tp_config_fraud *fresh);
void dp_fraud_rules_free(struct dp_node *node);
/* The command thread, a few times a second: what rules have to tell. */
void dp_fraud_signals(struct dp_node *node);

/* ---- recovery.c: main thread, before any core ---- */
/* Replays what the log has, loads the id table, the live tables and the fraud state; by node->start_threads. 0 or -errno. */
int dp_recover(struct dp_node *node, uint64_t now_ms);

/* ---- spares.c: any background thread; the main thread while none runs ---- */
struct tp_rollup *dp_table_at(struct dp_node *node, uint32_t index);
struct tp_rollup *dp_table_of(struct dp_node *node, uint64_t file_id); /* NULL: none has it */
struct tp_rollup *dp_table_take(struct dp_node *node);                 /* an empty one, or NULL */
/*
 * Seals a log file with what lies beside its rows: sessions, distinct users, sources. As sto_seal(). Whoever seals (folding.c).
 */
int dp_fold_seal(struct dp_node *node, uint64_t file_id, const struct tp_rollup *table);
void dp_fold_memory_free(struct dp_fold_memory *memory);
void dp_table_give(struct dp_node *node, struct tp_rollup *table); /* empties it; the caller was its only user */

/* A spare or a segment found no room on the disk. */
static inline bool dp_node_lacks_space(const struct dp_node *node)
{
	return atomic_load_explicit(&node->spares_lack_space, memory_order_relaxed) ||
	       atomic_load_explicit(&node->seal_lacks_space, memory_order_relaxed);
}

/* ---- sight.c: the command thread. Each returns an answer, the caller's ---- */
json_t *dp_ports_json(struct dp_node *node);
json_t *dp_connections_json(struct dp_node *node, char *arguments);
/* `client`: the connection that asks; the session ends with it. */
json_t *dp_sight_start(struct dp_node *node, int client, char *arguments, int *passed_fd);
void dp_sight_client_gone(struct dp_node *node, int client);

/* ---- taking.c: the command thread ---- */
/* The watermark of all shards, and whether beacons are taken. */
void dp_taking_update(struct dp_node *node);

/* ---- commands.c ---- */
void *dp_commands_main(void *node);
/* Waits until no core is in a round that began before the call. A blocklist hook. */
void dp_cores_synchronize(void *node);

#endif
