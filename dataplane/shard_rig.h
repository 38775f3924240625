/*
 * A shard between its neighbours, for tests: a real log on a real disk, real intakes, no ports. The test plays rx cores, housekeeping and,
 * unless it starts threads, the shard cores' loop. One rig at a time.
 */
#ifndef TURNPIKE_SHARD_RIG_H
#define TURNPIKE_SHARD_RIG_H

#include "shard.h"

#include "turnpike/fraud.h"
#include "turnpike/reader.h"
#include "turnpike/store.h"
#include "turnpike/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SHARDS_MAX = 2, RX_MAX = 2, DEDUP_BYTES = 8 << 20, FRAUD_ENTRIES = 1 << 12, TABLES = 8, HOP_BYTES = 1 << 20 };
enum { NOW_MS = 1700000000 }; /* times 1000 */

struct rig {
	char folder[64];
	struct sto_store *store;
	struct tp_live *live;
	int live_fd;
	uint32_t rx_count, shards;
	struct sto_wal *wal[SHARDS_MAX];
	struct tp_hop hop[RX_MAX][SHARDS_MAX];
	struct dp_late_ring late[RX_MAX][SHARDS_MAX];
	struct dp_shard shard[SHARDS_MAX];
	const struct dp_shard_turns *turns[SHARDS_MAX];
	struct tp_hop *shard_hop[SHARDS_MAX][RX_MAX];
	struct dp_late_ring *shard_late[SHARDS_MAX][RX_MAX];
	struct tp_counters counters[SHARDS_MAX], rx_counters[RX_MAX];
	struct dp_intake *intake[RX_MAX];
	_Atomic uint64_t latency[RX_MAX][TP_LATENCY_BUCKETS], latency_sum[RX_MAX];
	_Atomic uint32_t refusing;
	void *dedup_memory, *fraud_memory[SHARDS_MAX], *ip_memory;
	struct agg_fraud_shard *fraud[SHARDS_MAX];
	struct agg_dedup *dedup;
	uint64_t now_ms;
	uint32_t next_table;
	/* of the last request that was answered */
	struct dp_request answer;
	uint32_t answers;
};

/* The rig that was made last. */
extern struct rig *rig_now;

struct rig *rig_make(uint32_t rx_count, uint32_t shards, uint32_t table_rows);
void rig_free(struct rig *rig);
/* A spare file and table for each shard that lacks one: housekeeping's part. */
void rig_keep(struct rig *rig);
/* Finishes the open file and table of shard 0. */
void rig_roll(struct rig *rig);
void *rig_zeroed(uint64_t bytes);

/* A click. */
struct tp_parsed rig_event(const char *id, uint64_t timestamp_ms, int64_t micros);
/* What a request from rx core 0 is given as its done(): notes the answer in the rig. */
void rig_answered(struct dp_request *request);
/* Sends events as one request from rx core 0. */
void rig_send(struct rig *rig, const struct tp_parsed *events, uint32_t count);
/* Rounds until the next answer. On the way: an answer may come only when all that was appended is stable. */
const struct dp_request *rig_answer_wait(struct rig *rig);

#endif
