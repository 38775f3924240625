/*
 * Batches and acknowledgements as bytes, by docs/protocol.md. Pure; any thread.
 */
#ifndef TPC_ENCODE_H
#define TPC_ENCODE_H

#include "turnpike/client.h"

#include <stddef.h>
#include <stdint.h>

enum {
	TPC_HEADER_BYTES = 32,
	TPC_TAG_BYTES = 8,
	TPC_BATCH_BYTES_MIN = 64,
	TPC_BATCH_BYTES_MAX = 65507,
	TPC_ACK_BYTES = 48,
	TPC_REJECT_BYTES = 4,
};

/* An event that was checked and measured: what to write, worked out once. */
struct tpc_plan {
	const struct tpc_event *event;
	uint32_t bytes; /* of the encoded event */
	uint16_t flags;
	uint16_t length[11]; /* of the strings in wire order; length[0] is 0 for a UUID */
	uint8_t device;
	bool uuid;
	uint8_t id[16];
	uint8_t ip[16];
	uint8_t trace[25];
};

/* Checks `event` and works out its encoding. 0 or -EINVAL. */
int tpc_plan(struct tpc_plan *plan, const struct tpc_event *event);
/* Writes plan->bytes bytes to `to`. */
void tpc_encode(const struct tpc_plan *plan, uint8_t *to);

/* Where the first event of a batch goes. */
uint32_t tpc_batch_begin(const uint8_t *key);
/* Writes header, tag and checksum around the events that lie at tpc_batch_begin(). `bytes` is the whole datagram's length. */
void tpc_batch_seal(uint8_t *datagram, uint32_t bytes, uint64_t source, uint64_t number, uint32_t events, const uint8_t *key);
/* The checksum that a sealed batch carries. */
uint32_t tpc_batch_checksum(const uint8_t *datagram);

struct tpc_answer {
	uint64_t source;
	uint32_t batch_checksum;
	struct tpc_ack ack; /* latency_ns, sends and rejects are not set */
};

/* Reads an acknowledgement: 0, or -EINVAL if these bytes are none. The listed rejects lie at bytes + TPC_ACK_BYTES. */
int tpc_answer_read(const uint8_t *bytes, size_t count, struct tpc_answer *answer);
struct tpc_reject tpc_answer_reject(const uint8_t *bytes, uint32_t which);

#endif
