/*
 * Counters: one table row gives the enum, the layer, the kind, the Prometheus name and the text. The metrics page, turnpikectl
 * and docs/counters.md come from it.
 *
 * Each core owns a private `struct tp_counters` and bumps plain integers. A few hundred times a second it publishes a copy to
 * shared memory under a version stamp, so that a reader gets all of a core's counters of one moment, and the books balance in
 * every snapshot: each layer's received = accepted + duplicates + late + conflicts + rejected + dropped + in flight.
 *
 * Row: X(NAME, layer, kind, "label or name", "help")
 *   kind RECEIVED, ACCEPTED (label = where to, or ""), DUPLICATES, LATE, CONFLICTS, IN_FLIGHT (a gauge), REJECTED (label = reason), DROPPED (label =
 *   reason), OTHER (not part of the balance; label = metric name; one that ends in _seconds_total is held in nanoseconds).
 *   Layers: XDP (packets before AF_XDP ports), FRAMES (packets on DPDK ports), DATAGRAMS (UDP beacons' datagrams, any driver), REQUESTS (HTTP), BATCHES (UDP batch),
 *   EVENTS, DEAD_LETTERS (bytes of rejected events), CORE (loop and disk figures, not balanced).
 * Metric names are turnpike_<layer>_total{state="received|accepted|…",reason="…"}, and for OTHER turnpike_<label>.
 */
#ifndef TURNPIKE_COUNTER_H
#define TURNPIKE_COUNTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TP_COUNTER_TABLE(X) \
	/* frames as the XDP programs saw them; received is the sum, for the kernel shows no snapshot of all CPUs */ \
	X(XDP_RECEIVED, XDP, RECEIVED, "", "Frames that our XDP program judged") \
	X(XDP_REDIRECTED, XDP, ACCEPTED, "redirected", "Frames that it gave to the AF_XDP queue") \
	X(XDP_PASSED, XDP, ACCEPTED, "passed", "Frames that it passed to the kernel: their queue has no AF_XDP socket") \
	X(XDP_BLOCKLISTED, XDP, DROPPED, "blocklisted", "Frames from a blocklisted prefix") \
	X(XDP_RATE_LIMITED, XDP, DROPPED, "rate_limited", "Frames beyond the packet rate of their source") \
	X(XDP_TRUNCATED, XDP, DROPPED, "truncated", "Frames shorter than their Ethernet, IP, TCP or UDP header") \
	X(XDP_BAD_IPV4, XDP, DROPPED, "bad_ipv4", "IPv4 version, header length or total length wrong") \
	X(XDP_BAD_IPV6, XDP, DROPPED, "bad_ipv6", "IPv6 version or payload length wrong") \
	X(XDP_BAD_SOURCE, XDP, DROPPED, "bad_source", "Loopback, multicast, reserved or our own address as the source") \
	X(XDP_BAD_EXTENSIONS, XDP, DROPPED, "bad_extensions", "IPv6 extension headers cut off, out of order or too many") \
	X(XDP_BAD_TCP, XDP, DROPPED, "bad_tcp", "TCP header length wrong, or flags that no stack sends") \
	X(XDP_BAD_UDP, XDP, DROPPED, "bad_udp", "UDP length wrong") \
	/* frames on DPDK ports, after XDP */ \
	X(FRAMES_RECEIVED, FRAMES, RECEIVED, "", "Frames taken from DPDK ports") \
	X(FRAMES_ACCEPTED, FRAMES, ACCEPTED, "", "Frames that a protocol of ours took") \
	X(FRAMES_RUNT, FRAMES, DROPPED, "runt", "Frames shorter than their headers say") \
	X(FRAMES_BAD_VLAN, FRAMES, DROPPED, "bad_vlan", "Frames with more than one VLAN tag") \
	X(FRAMES_NOT_OURS, FRAMES, DROPPED, "not_ours", "Frames to another MAC or IP address") \
	X(FRAMES_BAD_ETHERTYPE, FRAMES, DROPPED, "unknown_ethertype", "Frames of an unknown EtherType") \
	X(FRAMES_BAD_IP, FRAMES, DROPPED, "bad_ip_header", "IP header malformed, wrong version, length or source") \
	X(FRAMES_BAD_IP_CHECKSUM, FRAMES, DROPPED, "bad_ip_checksum", "IPv4 header checksum wrong") \
	X(FRAMES_FRAGMENT, FRAMES, DROPPED, "fragment", "IP fragments, which are not reassembled") \
	X(FRAMES_BAD_PROTOCOL, FRAMES, DROPPED, "unknown_protocol", "IP protocols that we do not speak") \
	X(FRAMES_BAD_ARP, FRAMES, DROPPED, "bad_arp", "ARP messages malformed or spoofed") \
	X(FRAMES_BAD_ICMP, FRAMES, DROPPED, "bad_icmp", "ICMP and ND messages malformed, unknown or rate-limited") \
	X(FRAMES_BAD_UDP, FRAMES, DROPPED, "bad_udp", "UDP header malformed") \
	X(FRAMES_BAD_L4_CHECKSUM, FRAMES, DROPPED, "bad_l4_checksum", "TCP, UDP or ICMPv6 checksum wrong") \
	X(FRAMES_UNKNOWN_PORT, FRAMES, DROPPED, "unknown_port", "TCP or UDP to a port where nothing listens") \
	X(FRAMES_BAD_TCP, FRAMES, DROPPED, "bad_tcp", "TCP segments malformed or outside the window") \
	X(FRAMES_TCP_NO_MEMORY, FRAMES, DROPPED, "no_connection_memory", \
	  "TCP segments for which no connection or buffer was free") \
	X(FRAMES_SYN_SHED, FRAMES, DROPPED, "syn_shed", \
	  "SYNs not answered: half-open connections were many, and frames came faster than they could be answered") \
	X(FRAMES_BLOCKLISTED, FRAMES, DROPPED, "blocklisted", "Frames from a blocklisted prefix, dropped on the rx core") \
	X(FRAMES_TO_TAP, FRAMES, ACCEPTED, "to_tap", "Frames that are not for us, passed on to the kernel through the tap") \
	X(FRAMES_TAP_FULL, FRAMES, DROPPED, "tap_full", "Frames that are not for us, and the tap had no room for them") \
	X(FRAMES_SPREAD_FULL, FRAMES, DROPPED, "spread_full", \
	  "Frames whose rx core had no room in the ring from the core that polls the queue") \
	X(BLOCKLIST_BAD_LINES, CORE, OTHER, "blocklist_bad_lines_total", "Lines of list files that are no prefix, left out") \
	X(FRAMES_SENT, CORE, OTHER, "frames_sent_total", "Frames given to DPDK ports") \
	X(FRAMES_SEND_FULL, CORE, OTHER, "frames_send_dropped_total", \
	  "Frames that the port's send queue did not take; TCP sends them again") \
	X(FRAMES_SPREAD, CORE, OTHER, "frames_spread_total", "Frames handed to the rx core that owns their flow") \
	X(FRAMES_FROM_TAP, CORE, OTHER, "tap_frames_total", "Frames of the kernel, taken from the tap to the wire") \
	X(ADDRESS_CONFLICTS, CORE, OTHER, "address_conflicts_total", \
	  "ARP and ND messages of others that claim an address of ours") \
	/* connections */ \
	X(CONNECTIONS_OPENED, CORE, OTHER, "connections_opened_total", "TCP connections opened") \
	X(CONNECTIONS_CLOSED, CORE, OTHER, "connections_closed_total", "TCP connections gone") \
	X(CONNECTIONS_REFUSED, CORE, OTHER, "connections_refused_total", "TCP connections refused for lack of room") \
	X(CONNECTIONS_EVICTED, CORE, OTHER, "connections_evicted_total", \
	  "TCP connections ended to make room: idle ones, or readers that stalled while buffers were scarce") \
	X(CONNECTIONS_BLOCKLISTED, CORE, OTHER, "connections_blocklisted_total", \
	  "TCP connections refused or cut because the peer is blocklisted") \
	X(CONNECTIONS_SOURCE_FULL, CORE, OTHER, "connections_source_full_total", \
	  "HTTP connections refused because their source has connections_per_source of them") \
	X(RATE_LIMITED_SOURCE, CORE, OTHER, "rate_limited_sources_total", \
	  "HTTP requests answered 429 for the rate of their source") \
	X(RATE_LIMITED_TOKEN, CORE, OTHER, "rate_limited_tokens_total", "HTTP requests answered 429 for the rate of their token") \
	X(BATCH_LATERS, CORE, OTHER, "batch_laters_total", "Batches whose sender was told to come again later") \
	X(BATCH_HELLOS, CORE, OTHER, "batch_hellos_total", "Batch clients that asked for the node's layout, and were told") \
	X(BATCH_ANSWERS_LOST, CORE, OTHER, "batch_answers_lost_total", \
	  "Answers to UDP batches that could not leave: no way back known yet, or no room; a repeat is answered") \
	X(TCP_RETRANSMITS, CORE, OTHER, "tcp_retransmits_total", "TCP segments that our stack sent again") \
	/* datagrams to the UDP beacon port */ \
	X(DATAGRAMS_RECEIVED, DATAGRAMS, RECEIVED, "", "UDP datagrams to the beacon port") \
	X(DATAGRAMS_ACCEPTED, DATAGRAMS, ACCEPTED, "", "Datagrams whose events or batch went on") \
	X(DATAGRAMS_EMPTY, DATAGRAMS, REJECTED, "empty", "Datagrams without content") \
	X(DATAGRAMS_MALFORMED, DATAGRAMS, REJECTED, "malformed", "Binary datagrams that break the format") \
	X(DATAGRAMS_BAD_VERSION, DATAGRAMS, REJECTED, "bad_version", "Binary datagrams of an unknown version") \
	X(DATAGRAMS_BAD_CHECKSUM, DATAGRAMS, REJECTED, "bad_checksum", "Binary datagrams whose checksum is wrong") \
	X(DATAGRAMS_TRUNCATED, DATAGRAMS, REJECTED, "truncated", "Datagrams longer than the receive buffer") \
	X(DATAGRAMS_UNAUTHORISED, DATAGRAMS, REJECTED, "unauthorised", \
	  "Datagrams without room for a tag, to a port that asks for tokens or source keys") \
	X(DATAGRAMS_UNKNOWN_SOURCE, DATAGRAMS, REJECTED, "unknown_source", \
	  "Batches of a source without a key, or from elsewhere than its key allows") \
	X(DATAGRAMS_BAD_TAG, DATAGRAMS, REJECTED, "bad_tag", "Batches of a known source whose tag is wrong or missing") \
	X(DATAGRAMS_RATE_LIMITED, DATAGRAMS, REJECTED, "rate_limited", "Datagrams beyond what their source may send") \
	X(DATAGRAMS_BLOCKLISTED, DATAGRAMS, DROPPED, "blocklisted", "Datagrams from a blocklisted prefix on kernel sockets") \
	X(DATAGRAMS_RING_FULL, DATAGRAMS, DROPPED, "ring_full", "Datagrams dropped because a hop ring was full") \
	X(DATAGRAMS_NO_REQUEST, DATAGRAMS, DROPPED, "no_request_slot", "Datagrams dropped because the request table was full") \
	X(DATAGRAMS_WINDOW_FULL, DATAGRAMS, DROPPED, "window_full", \
	  "Batches of a source that has batch_window of them unacknowledged") \
	X(DATAGRAMS_REFUSING, DATAGRAMS, DROPPED, "no_space", \
	  "Datagrams dropped while the log had no space or the node was stopping") \
	X(DATAGRAMS_SOCKET_FULL, DATAGRAMS, DROPPED, "socket_full", \
	  "Datagrams that the kernel dropped at our socket, most often because its buffer was full") \
	/* HTTP requests */ \
	X(REQUESTS_RECEIVED, REQUESTS, RECEIVED, "", "HTTP requests begun") \
	X(REQUESTS_ACCEPTED, REQUESTS, ACCEPTED, "", "HTTP requests answered 2xx") \
	X(REQUESTS_400, REQUESTS, REJECTED, "400", "HTTP 400") \
	X(REQUESTS_401, REQUESTS, REJECTED, "401", "HTTP 401") \
	X(REQUESTS_404, REQUESTS, REJECTED, "404", "HTTP 404") \
	X(REQUESTS_405, REQUESTS, REJECTED, "405", "HTTP 405") \
	X(REQUESTS_408, REQUESTS, REJECTED, "408", "HTTP 408: the request did not arrive in time") \
	X(REQUESTS_411, REQUESTS, REJECTED, "411", "HTTP 411") \
	X(REQUESTS_413, REQUESTS, REJECTED, "413", "HTTP 413") \
	X(REQUESTS_414, REQUESTS, REJECTED, "414", "HTTP 414") \
	X(REQUESTS_415, REQUESTS, REJECTED, "415", "HTTP 415") \
	X(REQUESTS_417, REQUESTS, REJECTED, "417", "HTTP 417") \
	X(REQUESTS_429, REQUESTS, REJECTED, "429", "HTTP 429") \
	X(REQUESTS_431, REQUESTS, REJECTED, "431", "HTTP 431") \
	X(REQUESTS_501, REQUESTS, REJECTED, "501", "HTTP 501") \
	X(REQUESTS_503, REQUESTS, REJECTED, "503", "HTTP 503: could not be made durable now") \
	X(REQUESTS_505, REQUESTS, REJECTED, "505", "HTTP 505") \
	X(REQUESTS_ABANDONED, REQUESTS, DROPPED, "peer_gone", "HTTP requests whose connection ended before the answer") \
	X(REQUESTS_IN_FLIGHT, REQUESTS, IN_FLIGHT, "", "HTTP requests begun and not answered") \
	/* UDP batches */ \
	X(BATCHES_RECEIVED, BATCHES, RECEIVED, "", "UDP batches that parsed") \
	X(BATCHES_ACCEPTED, BATCHES, ACCEPTED, "", "UDP batches acknowledged") \
	X(BATCHES_REFUSED, BATCHES, DROPPED, "no_space", "UDP batches not acknowledged because events were refused") \
	X(BATCHES_IN_FLIGHT, BATCHES, IN_FLIGHT, "", "UDP batches waiting for durability") \
	/* events */ \
	X(EVENTS_RECEIVED, EVENTS, RECEIVED, "", "Events found in beacons") \
	X(EVENTS_ACCEPTED, EVENTS, ACCEPTED, "", "Events counted, first copies") \
	X(EVENTS_DUPLICATES, EVENTS, DUPLICATES, "", "Copies with the same payload") \
	X(EVENTS_LATE, EVENTS, LATE, "", "Events counted after their minute was closed") \
	X(EVENTS_CONFLICTS, EVENTS, CONFLICTS, "", "Copies of an id with another payload") \
	X(EVENTS_MALFORMED, EVENTS, REJECTED, "malformed", "Not JSON") \
	X(EVENTS_MISSING_FIELD, EVENTS, REJECTED, "missing_field", "A required field is not there") \
	X(EVENTS_BAD_TYPE, EVENTS, REJECTED, "bad_type", "A field has another JSON type, or the event is no object") \
	X(EVENTS_BAD_VALUE, EVENTS, REJECTED, "bad_value", "A field's value is out of range") \
	X(EVENTS_TOO_LONG, EVENTS, REJECTED, "too_long", "A string is too long") \
	X(EVENTS_DUPLICATE_KEY, EVENTS, REJECTED, "duplicate_key", "An object has a key twice") \
	X(EVENTS_BAD_UTF8, EVENTS, REJECTED, "bad_utf8", "Invalid UTF-8 or a lone surrogate") \
	X(EVENTS_FUTURE, EVENTS, REJECTED, "future", "Stamped further ahead than max_future") \
	X(EVENTS_TOO_LARGE, EVENTS, REJECTED, "too_large", "More than one beacon may hold") \
	X(EVENTS_RING_FULL, EVENTS, DROPPED, "ring_full", "Not taken: a hop ring was full (answered 503, or UDP silence)") \
	X(EVENTS_NO_SPACE, EVENTS, DROPPED, "no_space", "Not taken: cannot be made durable now (answered 503, or UDP silence)") \
	X(EVENTS_ROLLED_BACK, EVENTS, DROPPED, "body_refused", "Belonged to a body that was refused as a whole") \
	X(EVENTS_IN_FLIGHT, EVENTS, IN_FLIGHT, "", "Events on their way to the log") \
	X(EVENTS_BAD_TRACE, CORE, OTHER, "events_bad_trace_total", "Events whose trace field was ignored as invalid") \
	X(EVENTS_MINTED, CORE, OTHER, "events_minted_total", "Pixel events given an id or a stamp by us") \
	/* dead letters: bytes of rejected events, counted by the rx core that rejected them */ \
	X(DEAD_RECEIVED, DEAD_LETTERS, RECEIVED, "", "Rejected events, and bodies refused as a whole, whose bytes were at hand") \
	X(DEAD_KEPT, DEAD_LETTERS, ACCEPTED, "", "Those whose bytes are in the log, on stable storage") \
	X(DEAD_OVER_RATE, DEAD_LETTERS, DROPPED, "over_rate", "Bytes not kept: more dead letters a second than dlq.per_second") \
	X(DEAD_OVER_BYTES, DEAD_LETTERS, DROPPED, "over_bytes", "Bytes not kept: more of them a second than dlq.bytes_per_second") \
	X(DEAD_RING_FULL, DEAD_LETTERS, DROPPED, "ring_full", "Bytes not kept: the shard did not take those before yet") \
	X(DEAD_NO_SPACE, DEAD_LETTERS, DROPPED, "no_space", "Bytes not kept: what is left of the log belongs to events") \
	X(DEAD_IN_FLIGHT, DEAD_LETTERS, IN_FLIGHT, "", "Dead letters on their way to the log") \
	/* shards, log, core loop */ \
	X(SHARD_TAKEN, CORE, OTHER, "shard_events_total", "Events taken from hop rings by this core") \
	X(SHARD_FLAGGED, CORE, OTHER, "fraud_flagged_total", "Clicks that a fraud rule tagged") \
	/* in the order of enum tp_fraud_reason */ \
	X(FRAUD_IP_VELOCITY, CORE, OTHER, "fraud_ip_velocity_total", "Clicks tagged ip_velocity") \
	X(FRAUD_DEVICE_VELOCITY, CORE, OTHER, "fraud_device_velocity_total", "Clicks tagged device_velocity") \
	X(FRAUD_TOO_SOON, CORE, OTHER, "fraud_too_soon_total", "Clicks tagged too_soon") \
	X(FRAUD_NO_IMPRESSION, CORE, OTHER, "fraud_no_impression_total", "Clicks tagged no_impression") \
	X(FRAUD_BOT_USER_AGENT, CORE, OTHER, "fraud_bot_user_agent_total", "Clicks tagged bot_user_agent") \
	X(FRAUD_BOT_ADDRESS, CORE, OTHER, "fraud_bot_address_total", "Clicks tagged bot_address") \
	X(FRAUD_BLOCKLISTED, CORE, OTHER, "fraud_blocklisted_total", "Clicks tagged blocklisted") \
	X(FRAUD_NO_MOUSE, CORE, OTHER, "fraud_no_mouse_total", "Clicks tagged no_mouse") \
	X(FRAUD_REGULAR_TIMING, CORE, OTHER, "fraud_regular_timing_total", "Clicks tagged regular_timing") \
	X(FRAUD_DEVICE_SPREAD, CORE, OTHER, "fraud_device_spread_total", "Clicks tagged device_spread") \
	X(FRAUD_DEVICE_MISMATCH, CORE, OTHER, "fraud_device_mismatch_total", "Clicks tagged device_mismatch") \
	X(FRAUD_GEO_MISMATCH, CORE, OTHER, "fraud_geo_mismatch_total", "Clicks tagged geo_mismatch") \
	X(FRAUD_IMPOSSIBLE_TRAVEL, CORE, OTHER, "fraud_impossible_travel_total", "Clicks tagged impossible_travel") \
	X(FRAUD_MODEL, CORE, OTHER, "fraud_model_total", "Clicks tagged model") \
	X(ROLLUP_OVERFLOW, CORE, OTHER, "rollup_overflow_events_total", \
	  "Events counted under (other): their minute had too many ads, publishers or regions in one log file") \
	X(FRAUD_AMENDED, CORE, OTHER, "fraud_amended_total", \
	  "Clicks whose tag no_impression went when the impression came in time") \
	X(FRAUD_WAITING_FULL, CORE, OTHER, "fraud_waiting_full_total", \
	  "Clicks not tagged no_impression because no room was left to wait for the impression") \
	X(FRAUD_SIGNALS_LOST, CORE, OTHER, "fraud_signals_lost_total", \
	  "Attackers and alerts not told because their ring was full") \
	X(FRAUD_ATTACKERS, CORE, OTHER, "fraud_attackers_total", "Addresses given to the blocklist for staying over their limit") \
	X(FRAUD_ALERTS, CORE, OTHER, "fraud_publisher_alerts_total", "Publishers whose click-through rate left its history") \
	X(SHARD_STALLS, CORE, OTHER, "shard_stalls_total", "Times a shard waited for log buffers, a table or the late lane") \
	X(LATE_LOOKUPS, CORE, OTHER, "late_lookups_total", "Events that the late lane looked up in segments") \
	X(LOG_BLOCKS, CORE, OTHER, "log_blocks_total", "Log blocks written") \
	X(LOG_BYTES, CORE, OTHER, "log_bytes_total", "Log bytes written, padding included") \
	X(LOG_EVENT_BYTES, CORE, OTHER, "log_event_bytes_total", "Log bytes that are event records") \
	X(LOG_ROLLS, CORE, OTHER, "log_rolls_total", "Log files finished") \
	X(SEGMENTS_SEALED, CORE, OTHER, "segments_sealed_total", "Segments published") \
	X(CORE_BUSY_NS, CORE, OTHER, "core_busy_seconds_total", "Time in loop rounds that found work") \
	X(CORE_IDLE_NS, CORE, OTHER, "core_idle_seconds_total", "Time in loop rounds that found none, sleep included") \
	X(CORE_ROUNDS, CORE, OTHER, "core_rounds_total", "Loop rounds that found work") \
	/* where cycles go, of sampled rounds only: turnpike/meter.h; in the order of enum tp_stage */ \
	X(STAGE_RECEIVE_CYCLES, CORE, OTHER, "stage_receive_cycles_total", \
	  "Cycles of sampled rounds in the port's driver and our TCP, sending included") \
	X(STAGE_BEACON_CYCLES, CORE, OTHER, "stage_beacon_cycles_total", \
	  "Cycles of sampled rounds in HTTP, datagrams and batches") \
	X(STAGE_PARSE_CYCLES, CORE, OTHER, "stage_parse_cycles_total", "Cycles of sampled rounds from bytes to finished events") \
	X(STAGE_STAGE_CYCLES, CORE, OTHER, "stage_stage_cycles_total", \
	  "Cycles of sampled rounds in writing records into hop rings") \
	X(STAGE_ANSWER_CYCLES, CORE, OTHER, "stage_answer_cycles_total", \
	  "Cycles of sampled rounds in taking verdicts back and answering") \
	X(STAGE_DECIDE_CYCLES, CORE, OTHER, "stage_decide_cycles_total", \
	  "Cycles of sampled rounds in the shard's loop and the id table") \
	X(STAGE_MACHINES_CYCLES, CORE, OTHER, "stage_machines_cycles_total", \
	  "Cycles of sampled rounds in fraud rules and other machines") \
	X(STAGE_ROLLUP_CYCLES, CORE, OTHER, "stage_rollup_cycles_total", "Cycles of sampled rounds in the minutes' sums") \
	X(STAGE_LOG_CYCLES, CORE, OTHER, "stage_log_cycles_total", "Cycles of sampled rounds in the log") \
	X(STAGE_READ, CORE, OTHER, "stage_read_events_total", "Events received in sampled rounds") \
	X(STAGE_DECIDED, CORE, OTHER, "stage_decided_events_total", "Events decided in sampled rounds") \
	X(STAGE_ANSWERED, CORE, OTHER, "stage_answered_events_total", "Events whose verdicts came back in sampled rounds")

enum tp_counter {
#define X(name, layer, kind, label, help) TP_C_##name,
	TP_COUNTER_TABLE(X)
#undef X
		TP_COUNTERS
};

enum tp_counter_layer {
	TP_LAYER_XDP,
	TP_LAYER_FRAMES,
	TP_LAYER_DATAGRAMS,
	TP_LAYER_REQUESTS,
	TP_LAYER_BATCHES,
	TP_LAYER_EVENTS,
	TP_LAYER_DEAD_LETTERS,
	TP_LAYER_CORE,
	TP_LAYERS
};

/* How many rows a frame on a port may end in, TP_C_FRAMES_RECEIVED first: the rows of a layer lie together. */
enum {
#define X(name, layer, kind, label, help) +(TP_LAYER_##layer == TP_LAYER_FRAMES)
	TP_FRAME_COUNTERS = 0 TP_COUNTER_TABLE(X)
#undef X
};

enum tp_counter_kind {
	TP_KIND_RECEIVED,
	TP_KIND_ACCEPTED,
	TP_KIND_DUPLICATES,
	TP_KIND_LATE,
	TP_KIND_CONFLICTS,
	TP_KIND_REJECTED,
	TP_KIND_DROPPED,
	TP_KIND_IN_FLIGHT,
	TP_KIND_OTHER,
	TP_KINDS
};

struct tp_counter_info {
	const char *label; /* reason for REJECTED and DROPPED, metric name for OTHER, else "" */
	const char *help;
	uint8_t layer; /* enum tp_counter_layer */
	uint8_t kind;  /* enum tp_counter_kind */
};

extern const struct tp_counter_info tp_counter_info[TP_COUNTERS];
const char *tp_layer_name(enum tp_counter_layer layer); /* "frames", "events", … */
const char *tp_kind_name(enum tp_counter_kind kind);    /* "received", … */

/* A core's own counters: plain integers, no sharing. */
struct tp_counters {
	uint64_t v[TP_COUNTERS];
};

/* Their published copy, in shared memory. One writer: the core. */
struct tp_counter_page {
	_Alignas(64) _Atomic uint64_t version; /* odd while being copied */
	_Atomic uint64_t v[TP_COUNTERS];
};

/* Publishes. The owning core only. */
void tp_counters_publish(struct tp_counter_page *page, const struct tp_counters *counters);

/* Reads one core's counters of one moment, adding them into *sum. False if the writer seems dead in mid-copy. Any process. */
bool tp_counters_add(const struct tp_counter_page *page, struct tp_counters *sum);

#define TP_COUNT(counters, name)        ((counters)->v[TP_C_##name]++)
#define TP_COUNT_ADD(counters, name, n) ((counters)->v[TP_C_##name] += (uint64_t)(n))

#endif
