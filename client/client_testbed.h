/*
 * What the client's tests share: a fake server on loopback that one thread plays beside the client, and an event.
 */
#ifndef TPC_CLIENT_TESTBED_H
#define TPC_CLIENT_TESTBED_H

#include "turnpike/client.h"

#include "checksum.h"
#include "encode.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { BATCHES_MAX = 4096, DELAYED_MAX = 64 };

struct server {
	int fd;
	uint16_t port;
	struct sockaddr_in peer;
	uint64_t rng;
	uint32_t seen; /* different batches */
	uint64_t number[BATCHES_MAX];
	uint32_t checksum[BATCHES_MAX];
	uint32_t delayed;
	uint8_t delayed_ack[DELAYED_MAX][TPC_ACK_BYTES];
	uint64_t datagrams;
};

static inline uint32_t draw(struct server *server, uint32_t below)
{
	server->rng = server->rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((server->rng >> 33) % below);
}

static inline void server_open(struct server *server, uint64_t seed)
{
	memset(server, 0, sizeof *server);
	server->rng = seed;
	server->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(server->fd, (struct sockaddr *)&at, sizeof at), 0);
	socklen_t bytes = sizeof at;
	assert_int_equal(getsockname(server->fd, (struct sockaddr *)&at, &bytes), 0);
	server->port = ntohs(at.sin_port);
}

static inline void put(uint8_t *at, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

static inline uint64_t get(const uint8_t *at, int bytes)
{
	uint64_t v = 0;
	for (int i = 0; i < bytes; i++)
		v |= (uint64_t)at[i] << 8 * i;
	return v;
}

static inline void ack_seal(uint8_t *ack, size_t bytes)
{
	put(ack + 24, bytes, 2);
	put(ack + 28, 0, 4);
	put(ack + 28, tpc_crc32c(0, ack, bytes), 4);
}

struct heard {
	uint32_t acks, events, accepted, duplicates, rejected, resent;
	uint64_t number[BATCHES_MAX];
	struct tpc_reject reject[8];
	uint32_t rejects;
};

static inline void on_ack(void *context, const struct tpc_ack *ack)
{
	struct heard *heard = context;
	for (uint32_t i = 0; i < heard->acks; i++)
		assert_true(heard->number[i] != ack->batch); /* never told twice */
	heard->number[heard->acks++] = ack->batch;
	heard->events += ack->events;
	heard->accepted += ack->accepted;
	heard->duplicates += ack->duplicates;
	heard->rejected += ack->rejected;
	heard->resent += ack->sends - 1;
	assert_true(ack->sends > 0);
	for (uint32_t i = 0; i < ack->listed && heard->rejects < 8; i++)
		heard->reject[heard->rejects++] = ack->rejects[i];
}

static inline struct tpc_event click(const char *id)
{
	return (struct tpc_event){.event_id = id,
				  .type = 1,
				  .timestamp_ms = 1640000000000,
				  .ad_id = "ad_123",
				  .campaign_id = "camp_456",
				  .advertiser_id = "adv_789",
				  .ip_address = "192.168.1.1",
				  .country = "us",
				  .has_bid = true,
				  .bid_micros = 500000};
}

#endif
