/*
 * Fraud rules that need only the shard's own state and the shared per-address table: clicks per address and hour, clicks per device
 * and hour, too soon after the impression. Later rules join here. Pure: no system call, no clock; memory is the caller's.
 *
 * The hour is the clock hour of event time. With a limit N the (N+1)th click is tagged. Every valid (new) event is shown exactly
 * once, in log order; replay shows the same events and gets the same state, but keeps the verdict that the log recorded.
 *
 * Tables are fixed-size, set-associative, keyed by 64-bit hashes with the hour; when a set is full its oldest hour goes first. A
 * lost entry forgets counts (tags fewer), it never tags an innocent click by itself.
 */
#ifndef TURNPIKE_FRAUD_H
#define TURNPIKE_FRAUD_H

#include "turnpike/event.h"

struct agg_fraud_limits {
	uint32_t clicks_per_ip_hour;      /* 0: off */
	uint32_t clicks_per_device_hour;  /* 0: off */
	uint32_t min_ms_since_impression; /* 0: off */
};

struct agg_fraud_ip;    /* shared by all shards: relaxed atomics */
struct agg_fraud_shard; /* one shard's own */

/* Memory each needs for `entries` (a power of two); zeroed, 64-byte aligned, given to the init functions. */
uint64_t agg_fraud_ip_bytes(uint32_t entries);
uint64_t agg_fraud_shard_bytes(uint32_t entries);
struct agg_fraud_ip *agg_fraud_ip_init(void *memory, uint32_t entries);
struct agg_fraud_shard *agg_fraud_shard_init(void *memory, uint32_t entries, struct agg_fraud_ip *shared);

/*
 * Shows a new event (impressions feed the too-soon rule: same user or device, same ad; clicks are judged). Returns TP_FRAUD_BIT()s
 * for clicks, 0 for the rest. "too soon": 0 <= click stamp - last impression stamp < min_ms.
 */
uint32_t agg_fraud_judge(struct agg_fraud_shard *shard, const struct agg_fraud_limits *limits, const struct tp_event *event);

#endif
