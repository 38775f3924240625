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
	TPC_TAG_BYTES = 8, /* of version 1 */
	TPC_WIDE_TAG_BYTES = 16,
	TPC_BATCH_BYTES_MIN = 64,
	TPC_BATCH_BYTES_MAX = 65507,
	TPC_ACK_BYTES = 48, /* of version 1 */
	TPC_WIDE_ACK_BODY_BYTES = 24,
	TPC_LATER_BODY_BYTES = 16,
	TPC_HELLO_BODY_BYTES = 128,
	TPC_HELLO_BYTES_MAX = TPC_HEADER_BYTES + TPC_WIDE_TAG_BYTES + TPC_HELLO_BODY_BYTES,
	TPC_LAYOUT_BODY_BYTES = 16,
	TPC_SHARDS_MAX = 64,
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
uint32_t tpc_batch_begin(int version, const uint8_t *key);
/* Writes header, tag and checksum around the events that lie at tpc_batch_begin(). `bytes` is the whole datagram's length. */
void tpc_batch_seal(uint8_t *datagram, int version, uint32_t bytes, uint64_t source, uint64_t number, uint32_t events,
		    const uint8_t *key);
/* The checksum that a sealed batch carries. */
uint32_t tpc_batch_checksum(const uint8_t *datagram);
/* Writes a hello; returns its length. */
uint32_t tpc_hello_make(uint8_t to[TPC_HELLO_BYTES_MAX], uint64_t source, uint64_t number, const uint8_t *key);

/*
 * The hash that the server chooses an event's shard by, if its fields alone decide that; false: they do not, and any shard may take it.
 */
bool tpc_shard_hash(const struct tpc_plan *plan, uint64_t *hash);

enum tpc_answer_kind { TPC_ANSWER_ACK = 2, TPC_ANSWER_LATER = 3, TPC_ANSWER_LAYOUT = 5 };

struct tpc_answer {
	enum tpc_answer_kind kind;
	int version;
	uint64_t source, number;
	uint32_t batch_checksum; /* of ACK and LATER */
	uint32_t window;         /* of all, 0: not told */
	struct tpc_ack ack;      /* of ACK; latency_ns, sends and rejects are not set */
	uint32_t rejects_at;     /* where the listed ones lie */
	uint32_t wait_ms;        /* of LATER */
	/* of LAYOUT */
	uint32_t shards, cores, core, datagram_bytes;
	bool hash_known;
	uint8_t shard_core[TPC_SHARDS_MAX];
};

/*
 * Reads an answer: 0, or -EINVAL if these bytes are none. With a key, one of version 2 must be signed with it; those of version 1 never are.
 */
int tpc_answer_read(const uint8_t *bytes, size_t count, const uint8_t *key, struct tpc_answer *answer);
struct tpc_reject tpc_answer_reject(const uint8_t *bytes, const struct tpc_answer *answer, uint32_t which);

#endif
