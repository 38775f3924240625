/*
 * The live view: the shared memory through which the data process shows itself. The control process and turnpikectl map it read
 * only. It is a memfd, handed out over the command socket (<data_dir>/turnpike.sock, command "attach"), so a killed data process
 * leaves nothing behind, and a reader that holds it keeps the last state.
 *
 *   struct tp_live ─ header, health, watermarks, acknowledgement histogram, per-core counter pages ─┐
 *   rollup table 0 … rollup_count-1, each rollup_bytes long, from rollup_at                        ─┘
 *
 * Writers: each core its own page and watermark line; the housekeeping thread the rest. Readers never write.
 */
#ifndef TURNPIKE_LIVE_H
#define TURNPIKE_LIVE_H

#include "turnpike/counter.h"
#include "turnpike/rollup.h"
#include "turnpike/span.h"

#define TP_LIVE_MAGIC   0x3165766c6b707431ULL /* "1tpklve1" */
#define TP_LIVE_VERSION 6

enum { TP_CORES_MAX = 64, TP_SHARDS_MAX = 32, TP_LATENCY_BUCKETS = 40 };

/* tp_live.refusing: why beacons are not being taken. */
enum tp_refusing { TP_TAKING, TP_STARTING, TP_NO_SPACE, TP_STOPPING };
const char *tp_refusing_name(enum tp_refusing state); /* "taking", "starting", "no_space", "stopping" */

/* Ingest entries whose events are told by their way in (enum tp_way); those beyond the room share its last line. */
enum { TP_LIVE_PORTS = 16 };

struct tp_live_core {
	struct tp_counter_page counters;
	uint32_t cpu; /* which CPU it is pinned to */
	uint8_t is_rx, is_shard;
	uint8_t shard; /* its shard number, if it is one */
	uint8_t pad;
	/* Time from the first byte of a request or batch to its acknowledgement. Bucket b counts durations in [2^b, 2^(b+1)) ns. */
	_Atomic uint64_t ack_latency[TP_LATENCY_BUCKETS];
	_Atomic uint64_t ack_ns_sum;
	_Atomic uint64_t way_events[TP_LIVE_PORTS][TP_WAYS]; /* received, rejected ones too; this core the writer */
	struct tp_span_ring spans;                           /* of sampled events; an rx core writes */
};

struct tp_live_shard {
	_Alignas(64) _Atomic uint64_t high_ms;      /* highest event stamp seen */
	_Atomic uint64_t watermark_ms;              /* event time before which its windows are final */
	_Atomic uint64_t file_id;                   /* its open log file */
	_Atomic uint64_t log_appended, log_durable; /* records, this run */
	_Atomic uint64_t ids;                       /* ids in the dedup table (shard 0 only) */
	_Atomic uint64_t ids_max;
	_Atomic uint64_t ring_used_bytes,
		ring_bytes; /* of its fullest hop ring, looked at when log blocks come and go; and of each */
	/* Time from a burst's decisions until they are durable. Buckets as those of tp_live_core.ack_latency. */
	_Atomic uint64_t commit_latency[TP_LATENCY_BUCKETS];
	_Atomic uint64_t commit_ns_sum;
};

/* Counts one duration. The core that owns the histogram only: a plain add under relaxed atomics. */
static inline void tp_latency_count(_Atomic uint64_t bucket[TP_LATENCY_BUCKETS], _Atomic uint64_t *ns_sum, uint64_t ns)
{
	uint32_t b = 63 - (uint32_t)__builtin_clzll(ns | 1);
	_Atomic uint64_t *count = &bucket[b < TP_LATENCY_BUCKETS ? b : TP_LATENCY_BUCKETS - 1];
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_relaxed);
	atomic_store_explicit(ns_sum, atomic_load_explicit(ns_sum, memory_order_relaxed) + ns, memory_order_relaxed);
}

/* A publisher whose click-through rate left its history. Rates in millionths. */
struct tp_live_alert {
	_Atomic uint32_t version; /* odd while it is written */
	uint32_t seen, usual;
	uint32_t pad;
	uint64_t told_ms;   /* real-time clock; 0: none */
	uint64_t window_ms; /* event time */
	char publisher[TP_ID_BYTES_MAX + 8];
};

enum { TP_LIVE_ALERTS = 16 };

struct tp_live {
	uint64_t magic;
	uint32_t version;
	uint32_t header_bytes; /* sizeof(struct tp_live): a check that both sides agree */
	uint64_t bytes;        /* of the whole mapping */
	uint64_t rollup_at, rollup_bytes;
	uint32_t rollup_count;
	uint32_t cores, shards;
	uint32_t pid;
	uint64_t started_ms;
	char node[64];
	char http[128], udp[128];                   /* as in the ready line: comma separated addresses */
	uint32_t ports;                             /* lines of port[] and of way_events[]; set before ready */
	char port[TP_LIVE_PORTS][48];               /* "socket 127.0.0.1:8080", "net_af_xdp0", … for people */
	char receive_path[128];                     /* "socket", "dpdk net_af_xdp0 (XDP: native)", … for people */
	_Alignas(64) _Atomic uint64_t heartbeat_ms; /* real-time clock, a few times a second */
	_Atomic uint32_t refusing;                  /* enum tp_refusing */
	_Atomic uint32_t ready;                     /* 1 once beacons are taken */
	_Atomic uint64_t watermark_ms;              /* of the node: min over shards; survives restarts by the log */
	_Atomic uint64_t free_bytes, total_bytes;   /* of the data folder's file system */
	_Atomic uint32_t space_low;                 /* 1: soon too little of it; TP_NO_SPACE tells when beacons are refused */
	_Atomic uint64_t recovered_events;          /* replayed at start */
	_Atomic uint64_t recovery_bytes;            /* of the log files that an earlier run left: read so far */
	uint64_t recovery_bytes_all;                /* and to be read; set before the first is */
	_Atomic uint64_t blocklist_entries;
	_Atomic uint32_t rule_version; /* of the fraud rules in force */
	_Atomic uint32_t alerts;       /* told since start; the last ones lie in the ring */
	struct tp_live_alert alert[TP_LIVE_ALERTS];
	struct tp_live_shard shard[TP_SHARDS_MAX];
	struct tp_live_core core[TP_CORES_MAX];
	struct tp_counter_page housekeeping; /* counters of the background threads */
};

/* Creates the memory with `rollup_count` tables and lays it out. Returns the memfd (>= 0) or -errno; *live is mapped writable. */
int tp_live_create(struct tp_live **live, uint32_t rollup_count, uint32_t rollup_rows, uint32_t rollup_heap_bytes);

/*
 * Gives a part of a large table, two megabytes, its memory, so that its writer meets no fault. Part after part until it says false: there
 * is no such part. Each takes a millisecond; the creator, any thread, beside a writer too.
 */
bool tp_live_rollup_touch(struct tp_live *live, uint32_t index, uint32_t part);

/* Maps a received fd read only and checks magic, version and sizes. 0 or -errno. */
int tp_live_map(int fd, const struct tp_live **live);
void tp_live_unmap(const struct tp_live *live);

/* Into the ring, over the oldest. One writer: the command thread. */
void tp_live_alert_add(struct tp_live *live, const struct tp_live_alert *alert);
/* The alert `back` steps ago (0: the newest). False: there is none, or it is being written over. Any process. */
bool tp_live_alert_read(const struct tp_live *live, uint32_t back, struct tp_live_alert *alert);

static inline const struct tp_rollup *tp_live_rollup(const struct tp_live *live, uint32_t index)
{
	return (const struct tp_rollup *)(const void *)((const uint8_t *)live + live->rollup_at + index * live->rollup_bytes);
}

/*
 * The command socket, client side. Connects to <data_dir>/turnpike.sock (any path length), sends one line, receives one line of
 * JSON, and with it possibly a file descriptor. Commands and answers: docs/command-socket.md. Blocking, 5 s limit.
 */
int tp_command_connect(const char *data_dir); /* fd or -errno */
int tp_command_listen(const char *data_dir);  /* fd or -errno; replaces a stale socket; mode 0660 */
/* 0 or -errno; `answer` is NUL-terminated; *passed_fd = -1 when none came (may be NULL if none is expected). */
int tp_command_call(int fd, const char *line, char *answer, size_t answer_bytes, int *passed_fd);
/* The same, for a command that takes its time ("seal"): the answer is waited for as long. */
int tp_command_call_long(int fd, const char *line, char *answer, size_t answer_bytes, uint32_t wait_ms);
/*
 * Server side, on an accepted connection. A line comes in one send, so tp_command_receive() never waits: it takes the next line
 * (without its newline, NUL-terminated) and returns its length, or -EAGAIN: nothing has come; -ECONNRESET: the peer has gone;
 * -EPROTO: half a line, or bytes that are no text; -EMSGSIZE: the line is longer than bytes - 1. After the last three: close.
 * tp_command_answer() sends `json` as one line, with passed_fd unless that is -1. 0 or -errno; waits up to 5 s for a slow peer.
 */
enum { TP_COMMAND_BYTES_MAX = 4096 };
int tp_command_receive(int fd, char *line, size_t bytes);
int tp_command_answer(int fd, const char *json, int passed_fd);
/* connect + call "attach" + map. *connection stays open: when it reads EOF, the data process is gone. 0 or -errno. */
int tp_live_attach(const char *data_dir, const struct tp_live **live, int *connection);

#endif
