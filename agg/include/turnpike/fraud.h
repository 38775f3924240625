/*
 * Fraud rules: which reasons a click is tagged with, and what was seen. One state machine per shard (turnpike/machine.h). Pure: no
 * system call, no clock; memory is the caller's; whatever a rule needs from outside (lists, places, a model) is compiled beforehand and
 * handed in as immutable data, struct agg_fraud_rules.
 *
 * Impressions feed the rules, clicks are judged. The hour is the clock hour of event time; with a limit N the (N+1)th click is tagged.
 * Every valid (new) event is shown once, in log order; the same events in the same order under the same rules get the same tags.
 *
 * The tables are fixed-size and set-associative; a full set forgets. Forgetting never tags anybody: a lost count is a smaller count,
 * and where absence is the evidence (no_impression) a set remembers until when it has forgotten. docs/fraud.md has each rule.
 *
 * Threads: agg_fraud_machine()'s functions on the shard core; agg_fraud_rules_set() on any one thread; agg_fraud_signal_take() on any
 * one thread. The address table is shared by all shards.
 */
#ifndef TURNPIKE_FRAUD_H
#define TURNPIKE_FRAUD_H

#include "turnpike/counter.h"
#include "turnpike/event.h"
#include "turnpike/fraud_data.h"
#include "turnpike/machine.h"

/* What holds now. Immutable once set; 0, false or NULL: the rule is off. */
struct agg_fraud_rules {
	uint32_t version; /* goes into each judged click as rule_version; not 0 */
	uint32_t clicks_per_ip_hour;
	uint32_t clicks_per_device_hour;
	uint32_t min_ms_since_impression;
	bool no_impression;
	uint32_t impression_lookback_ms; /* an impression this long before its click still counts as its impression */
	uint32_t impression_wait_ms;     /* one that arrives this long after its click saves it */
	bool blocklisted;
	bool no_mouse;
	bool device_mismatch;
	bool geo_mismatch;
	uint32_t regular_timing_ms;   /* deviation of the last gaps between clicks below this */
	uint32_t regular_timing_gaps; /* how many gaps: 3 to AGG_GAPS_MAX */
	uint32_t addresses_per_device_hour;
	uint32_t agents_per_device_hour;
	uint32_t travel_kmh;
	uint32_t ctr_deviations;       /* a publisher's click-through rate this many robust deviations off its median: a signal */
	uint32_t blocklist_over_times; /* an address beyond this multiple of clicks_per_ip_hour: a signal */
	uint32_t model_threshold;      /* millionths */
	const struct agg_words *bot_user_agents;
	const struct agg_ranges *bot_addresses;
	const struct agg_asns *bot_asns;
	const struct agg_places *places; /* NULL: no database */
	const struct agg_model *model;
	/* Is this address on the node's blocklist, and enforced? NULL: nobody knows. */
	bool (*listed)(const void *context, const struct tp_addr *addr);
	const void *listed_context;
};

enum { AGG_GAPS_MAX = 8, AGG_ADDRESSES_MAX = 15, AGG_AGENTS_MAX = 7 };

struct agg_fraud_ip;    /* shared by all shards: relaxed atomics */
struct agg_fraud_shard; /* one shard's own */

/* Memory each needs for `entries` (a power of two); zeroed, 64-byte aligned, given to the init functions. */
uint64_t agg_fraud_ip_bytes(uint32_t entries);
uint64_t agg_fraud_shard_bytes(uint32_t entries);
/* The largest power of two whose shard needs at most `bytes`; at least 64. */
uint32_t agg_fraud_entries_for(uint64_t bytes);
struct agg_fraud_ip *agg_fraud_ip_init(void *memory, uint32_t entries);
/* Without rules, until agg_fraud_rules_set(), nothing is judged. `counters`: the shard core's, or NULL. */
struct agg_fraud_shard *agg_fraud_shard_init(void *memory, uint32_t entries, struct agg_fraud_ip *shared,
					     struct tp_counters *counters);

/* From the next event on. The old rules may go once the shard core has finished the round in which this was called. */
void agg_fraud_rules_set(struct agg_fraud_shard *shard, const struct agg_fraud_rules *rules);
const struct agg_fraud_rules *agg_fraud_rules_get(const struct agg_fraud_shard *shard);

struct agg_machine agg_fraud_machine(struct agg_fraud_shard *shard);

/* What a click's evidence says, beside its reasons: entries at their reason, `reasons` says which are set. */
struct agg_findings {
	uint32_t reasons;
	struct tp_evidence entry[TP_FRAUD_REASONS];
};

/*
 * The judgement alone, without writing it anywhere: what show() does for a replay under other rules and for features. Returns the
 * TP_FRAUD_BIT()s. `feature` (AGG_FEATURES floats, or NULL) gets what the model would see of a click.
 */
uint32_t agg_fraud_judge(struct agg_fraud_shard *shard, const struct tp_event *event, struct agg_findings *findings,
			 float *feature);

/* ---- what the rules want somebody to know, beyond tags ---- */

enum agg_signal_kind {
	AGG_SIGNAL_ATTACKER,  /* an address far beyond its limit: `seen` clicks in the hour of `when_ms` */
	AGG_SIGNAL_PUBLISHER, /* a click-through rate outside its history: `seen` and `usual`, in millionths */
};

struct agg_signal {
	uint32_t kind;
	uint32_t limit;
	uint64_t when_ms; /* event time: start of the hour, or of the window */
	uint64_t seen, usual;
	uint8_t ip[16];
	uint8_t text_bytes;
	char text[TP_ID_BYTES_MAX];
};

/* The oldest signal; false: none. A full ring drops what comes, counted. */
bool agg_fraud_signal_take(struct agg_fraud_shard *shard, struct agg_signal *signal);

#endif
