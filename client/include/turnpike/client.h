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

struct tpc_options {
	const char *host; /* numeric address */
	uint16_t port;
	uint64_t source_id;      /* 0: random */
	uint32_t window;         /* batches unacknowledged at once, the open one included; default 64 */
	uint32_t datagram_bytes; /* largest datagram, 64 to 65507; default 1400. Only kernel sockets take fragmented ones */
	uint32_t retry_ms;       /* least time to the first retry, doubling to 1 s; default 50. It grows with a slow server */
	const uint8_t *key;      /* 16 bytes, copied: sign batches (SipHash-2-4); NULL: do not. A server without keys ignores it */
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
 * first. -EMSGSIZE: the event alone is larger than a datagram. -EINVAL: a required field is missing, or a value is out of range.
 * The event's strings are copied.
 */
int tpc_add(struct tpc_client *client, const struct tpc_event *event);
/* The number of the batch that the last tpc_add() went into. */
uint64_t tpc_batch(const struct tpc_client *client);
/* How many events the open batch holds. */
uint32_t tpc_pending(const struct tpc_client *client);
/* Sends the open batch, full or not. 0, also when there is nothing to send. */
int tpc_flush(struct tpc_client *client);
/*
 * Receives acknowledgements, sends overdue batches again; waits up to timeout_ms for an acknowledgement. Returns how many batches
 * are sent and not acknowledged, or -errno. A server that is away is no error: the batches wait for it.
 */
int tpc_poll(struct tpc_client *client, int timeout_ms);
/* The socket, for the caller's own event loop: when it is readable, or every retry_ms, call tpc_poll(client, 0). */
int tpc_fd(const struct tpc_client *client);

#endif
