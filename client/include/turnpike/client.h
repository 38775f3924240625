/*
 * The C client of the UDP batch format (docs/protocol.md): sends batches, keeps each until it is acknowledged, sends it again when
 * an acknowledgement is overdue. Safe to retry for ever: the server counts an event once. Depends on libc only. One thread per client.
 */
#ifndef TURNPIKE_CLIENT_H
#define TURNPIKE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tpc_client;

enum { TPC_SOCKETS_MAX = 64 };

struct tpc_options {
	const char *host; /* numeric address */
	uint16_t port;
	uint64_t source_id;      /* 0: random */
	uint32_t window;         /* batches unacknowledged at once, open ones included; default 64. The server may ask for less */
	uint32_t datagram_bytes; /* largest datagram, 64 to 65507; default 1232, which every path takes. More is for jumbo frames */
	uint32_t retry_ms;       /* least time to the first retry, doubling to 1 s; default 50. It grows with a slow server */
	const uint8_t *key;      /* 16 bytes, copied: sign batches (SipHash-2-4); NULL: do not. A server without keys ignores it */
	/*
	 * The version of the format: 0 begins with 1 and goes on with 2 as soon as the server has shown that it speaks it (and, with a key, that
	 * it knows the key); 1 stays there, and is for servers before version 2; 2 from the start.
	 */
	int version;
	uint32_t
		sockets; /* source ports to spread the batches over, so that they reach several receive queues; default 1, at most 64 */
	bool shard_aware; /* collect events of one shard in one batch, and send it by a port that lands on the shard's core; needs version 2 */
};

/*
 * Absent optional fields: NULL strings (or length 0), has_… false. Text fields are bytes with lengths by strlen, in UTF-8: the
 * client checks lengths and ranges, the encoding is checked by the server, which rejects the event and says so.
 */
struct tpc_event {
	const char *event_id;
	int type; /* 0 impression, 1 click, 2 conversion */
	uint64_t timestamp_ms;
	const char *ad_id, *campaign_id, *advertiser_id, *publisher_id, *user_id, *device_id;
	const char *ip_address, *user_agent, *referer, *country, *region, *city, *device_type, *currency;
	bool has_bid, has_position, has_timezone, has_mouse;
	int64_t bid_micros;
	uint16_t click_position;
	int32_t timezone_offset_min, mouse_moves;
	const char *trace; /* W3C traceparent; left out when it is not valid, because no event is worth less for its trace */
};

/* Why the server rejected one event of a batch: the codes of docs/protocol.md. */
struct tpc_reject {
	uint16_t index;
	uint8_t reason;
	uint8_t field;
};

struct tpc_ack {
	uint64_t batch;
	uint32_t events, accepted, duplicates, late, conflicts, rejected;
	uint64_t latency_ns; /* from first send */
	uint32_t sends;
	uint32_t listed;                  /* of the rejected, how many are named */
	const struct tpc_reject *rejects; /* valid during the call */
};
/* Called from tpc_poll() for each acknowledged batch. It may call tpc_add() and tpc_flush(), not tpc_poll() or tpc_close(). */
typedef void (*tpc_ack_fn)(void *context, const struct tpc_ack *ack);

struct tpc_client *tpc_open(const struct tpc_options *options, tpc_ack_fn fn, void *context); /* NULL: errno */
/* Closes without waiting. What is not acknowledged may or may not have been counted: poll until tpc_poll() returns 0 first. */
void tpc_close(struct tpc_client *client);

/*
 * Adds an event to the open batch; sends the batch when the next event does not fit into it. -EAGAIN: the window is full, poll
 * first (what was open has been sent). -EMSGSIZE: the event alone is larger than a datagram. -EINVAL: a required field is missing, or a value is out of range.
 * The event's strings are copied.
 */
int tpc_add(struct tpc_client *client, const struct tpc_event *event);
/* The number of the batch that the last tpc_add() went into. */
uint64_t tpc_batch(const struct tpc_client *client);
/* How many events open batches hold: one batch, but for shard_aware, which keeps one open per socket. */
uint32_t tpc_pending(const struct tpc_client *client);
/* Sends what is open, full or not. 0, also when there is nothing to send. */
int tpc_flush(struct tpc_client *client);
/*
 * Receives acknowledgements, sends overdue batches again; waits up to timeout_ms for an acknowledgement. Returns how many batches
 * are sent and not acknowledged, or -errno. A server that is away is no error: the batches wait for it.
 */
int tpc_poll(struct tpc_client *client, int timeout_ms);
/* A descriptor for the caller's own event loop: when it is readable, or every retry_ms, call tpc_poll(client, 0). */
int tpc_fd(const struct tpc_client *client);

struct tpc_stats {
	uint64_t batches, acknowledged; /* sent, and of these acknowledged */
	uint64_t resent;                /* further copies, because an answer was overdue or said "later" */
	uint64_t laters;                /* times that the server was too busy to take a batch, and said so */
	uint64_t fragmented;            /* datagrams that were larger than the path takes, and were sent in fragments */
	uint64_t ignored;               /* datagrams that were no answer to us: damaged, forged, not signed, too late */
	uint64_t events, accepted, duplicates, late, conflicts, rejected; /* of acknowledged batches */
	uint64_t latency_ns_p50, latency_ns_p99, latency_ns_max; /* first send to acknowledgement; at most an eighth too high */
	uint64_t round_trip_ns;                                  /* smoothed; 0: not known */
	uint32_t in_flight, window;           /* batches; the window in force: the server's or ours, whichever is less */
	uint32_t server_cores, server_shards; /* 0: not told yet */
	uint32_t cores_reached;               /* different receive cores that our sockets land on, as far as told */
	uint32_t datagram_bytes;              /* largest datagram in use */
	int version;                          /* of new batches */
};
void tpc_stats(const struct tpc_client *client, struct tpc_stats *stats);

#endif
