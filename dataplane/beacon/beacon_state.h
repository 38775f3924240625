/*
 * Private to dataplane/beacon: what an rx core's HTTP and UDP beacons share. Everything is allocated in dp_beacon_create(); only
 * the owning rx core touches it after that.
 *
 *   dp_beacon ─┬─ json, rejects    scratch of one dp_body_stage() call: valid until the next one, whoever makes it
 *              ├─ small, large     buffers for requests that did not arrive whole
 *              ├─ rate             what each source and token sent lately; NULL without limits
 *              ├─ permits          bearer tokens that were found good
 *              ├─ http             connections, exchanges, timers   (http.c, owner of the details in http.h)
 *              └─ datagram         UDP text and batches             (datagram.c)
 */
#ifndef TURNPIKE_BEACON_STATE_H
#define TURNPIKE_BEACON_STATE_H

#include "beacon.h"
#include "body.h"
#include "buffer_pool.h"
#include "json_event.h"
#include "rate_limit.h"

struct dp_http;
struct dp_datagram_state;

struct dp_beacon {
	struct dp_beacon_options options;
	struct dp_intake *intake;     /* options.intake */
	struct tp_counters *counters; /* dp_intake_counters(intake) */
	struct tp_meter *meter;       /* dp_intake_meter(intake) */
	struct dp_json_scratch *json;
	struct dp_body_reject *rejects; /* DP_BODY_EVENTS_MAX entries */
	struct dp_pool small, large;
	struct dp_rate *rate;
	struct dp_permits *permits;
	struct dp_http *http;
	struct dp_datagram_state *datagram;
};

/* True if `peer` is on the blocklist now. */
static inline bool dp_beacon_blocked(const struct dp_beacon *beacon, const struct tp_addr *peer)
{
	return beacon->options.blocked != NULL && beacon->options.blocked(beacon->options.blocked_context, peer);
}

static inline struct dp_json_limits dp_beacon_json_limits(const struct dp_beacon *beacon)
{
	return (struct dp_json_limits){.now_ms = dp_intake_now_ms(beacon->intake),
				       .max_future_ms = beacon->options.config->max_future_ms};
}

static inline const struct tp_config_ingest *dp_beacon_ingest(const struct dp_beacon *beacon, uint16_t ingest)
{
	return &beacon->options.config->ingest[ingest];
}

/* True if `source` may send one more request or datagram now; then it is counted. */
static inline bool dp_beacon_rate_allows(const struct dp_beacon *beacon, uint16_t ingest, const struct tp_addr *source)
{
	return beacon->rate == NULL || dp_rate_allows(beacon->rate, ingest, source, dp_intake_now_ns(beacon->intake));
}

/* The same for who has shown a token, or signs his batches. */
static inline bool dp_beacon_who_allows(const struct dp_beacon *beacon, uint16_t ingest, uint64_t who)
{
	return beacon->rate == NULL || dp_rate_allows_who(beacon->rate, ingest, who, dp_intake_now_ns(beacon->intake));
}

/* True if the sender is a trusted source of the ingest entry (a proxy, a gateway): never taken for a user. */
static inline bool dp_beacon_trusted(const struct dp_beacon *beacon, uint16_t ingest, const struct tp_addr *peer)
{
	const struct tp_config_ingest *entry = dp_beacon_ingest(beacon, ingest);
	return tp_prefix_list_has(entry->trusted, entry->trusted_count, peer);
}

/* Events of a beacon that was taken or refused for good, under the ingest entry and the way by which it came. */
static inline void dp_beacon_count_way(const struct dp_beacon *beacon, uint16_t ingest, enum tp_way way, uint32_t events)
{
	if (beacon->options.way_events == NULL)
		return;
	_Atomic uint64_t *count = &beacon->options.way_events[ingest < TP_LIVE_PORTS ? ingest : TP_LIVE_PORTS - 1][way];
	/* this core is the only writer: a plain add under relaxed atomics */
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + events, memory_order_relaxed);
}

/* ---- HTTP's part: http.c ---- */
int dp_http_create(struct dp_beacon *beacon);
void dp_http_destroy(struct dp_beacon *beacon);        /* beacon->http may be NULL */
uint32_t dp_http_poll(struct dp_beacon *beacon);       /* once a loop round, after dp_intake_poll(); how much was done */
uint32_t dp_http_owed(const struct dp_beacon *beacon); /* connections with a request begun and not answered */

/* ---- UDP's part: datagram.c. Called by beacon.c after json, rejects and the pools are there. ---- */
int dp_datagram_create(struct dp_beacon *beacon);          /* sets beacon->datagram; 0 or -errno */
void dp_datagram_destroy(struct dp_beacon *beacon);        /* beacon->datagram may be NULL */
uint32_t dp_datagram_poll(struct dp_beacon *beacon);       /* once a loop round; how much was done */
uint32_t dp_datagram_owed(const struct dp_beacon *beacon); /* batches not acknowledged */

#endif
