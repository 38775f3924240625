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
	uint32_t window;         /* batches unacknowledged at once, default 64 */
	uint32_t datagram_bytes; /* largest datagram, default 1400 */
	uint32_t retry_ms;       /* first retry, doubling to 1 s; default 50 */
};

/* Absent optional fields: NULL strings (or length 0), has_… false. Text fields are bytes with lengths by strlen. */
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
};

struct tpc_ack {
	uint64_t batch;
	uint32_t events, accepted, duplicates, late, conflicts, rejected;
	uint64_t latency_ns; /* from first send */
	uint32_t sends;
};
/* Called from tpc_poll() for each acknowledged batch. */
typedef void (*tpc_ack_fn)(void *context, const struct tpc_ack *ack);

struct tpc_client *tpc_open(const struct tpc_options *options, tpc_ack_fn fn, void *context); /* NULL: errno */
void tpc_close(struct tpc_client *client);

/* Adds an event to the open batch; sends the batch when it is full. -EAGAIN: the window is full, poll first. -EMSGSIZE, -EINVAL. */
int tpc_add(struct tpc_client *client, const struct tpc_event *event);
/* The number of the batch that the last tpc_add() went into. */
uint64_t tpc_batch(const struct tpc_client *client);
/* Sends the open batch, full or not. */
int tpc_flush(struct tpc_client *client);
/* Receives acknowledgements, sends overdue batches again; waits up to timeout_ms for something. Unacknowledged batches, or -errno. */
int tpc_poll(struct tpc_client *client, int timeout_ms);

#endif
