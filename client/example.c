/*
 * How a program sends clicks: open, add, poll now and then, flush, poll until nothing is owed.
 *
 *     turnpike-client-example 127.0.0.1 7771 1000 [SOURCE KEY]
 *
 * sends 1,000 clicks and prints what the server said about them. With the number of a source and its key, 32 hex digits, the batches are
 * signed, and only signed answers are taken.
 */
#include "turnpike/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct totals {
	unsigned long batches, accepted, other, resent;
};

static void on_ack(void *context, const struct tpc_ack *ack)
{
	struct totals *totals = context;
	totals->batches++;
	totals->accepted += ack->accepted;
	totals->other += ack->events - ack->accepted; /* duplicates, late, conflicts, rejected */
	totals->resent += ack->sends - 1;
	for (unsigned i = 0; i < ack->listed; i++)
		fprintf(stderr, "event %u of batch %llu was rejected: reason %u, field %u\n", ack->rejects[i].index,
			(unsigned long long)ack->batch, ack->rejects[i].reason, ack->rejects[i].field);
}

static bool key_read(const char *text, uint8_t key[16])
{
	bool good = strlen(text) == 32 && strspn(text, "0123456789abcdefABCDEF") == 32;
	for (int i = 0; good && i < 16; i++) {
		char pair[3] = {text[2 * i], text[2 * i + 1], 0};
		key[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return good;
}

int main(int argc, char **argv)
{
	uint8_t key[16];
	if ((argc != 4 && argc != 6) || (argc == 6 && !key_read(argv[5], key))) {
		fprintf(stderr, "usage: %s ADDRESS PORT CLICKS [SOURCE KEY]\n", argv[0]);
		return 2;
	}
	struct totals totals = {0};
	struct tpc_options options = {.host = argv[1], .port = (uint16_t)atoi(argv[2])};
	if (argc == 6) {
		options.source_id = strtoull(argv[4], NULL, 0);
		options.key = key;
		options.version = 2;
		options.sockets = 4;
		options.shard_aware = true;
	}
	struct tpc_client *client = tpc_open(&options, on_ack, &totals);
	if (!client) {
		fprintf(stderr, "cannot open a client for %s port %s: %s\n", argv[1], argv[2], strerror(errno));
		return 1;
	}

	unsigned long clicks = strtoul(argv[3], NULL, 10);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	for (unsigned long i = 0; i < clicks; i++) {
		/* any text of 1 to 64 bytes that no other event has; a canonical UUID takes least room */
		char id[65];
		snprintf(id, sizeof id, "example-%ld-%llu-%lu", (long)getpid(), (unsigned long long)now_ms, i);
		struct tpc_event click = {
			.event_id = id,
			.type = 1,
			.timestamp_ms = now_ms,
			.ad_id = "ad_123",
			.campaign_id = "camp_456",
			.advertiser_id = "adv_789",
			.publisher_id = "pub_001",
			.ip_address = "198.51.100.7",
			.user_agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
			.country = "US",
			.has_bid = true,
			.bid_micros = 500000, /* 0.50 */
		};
		int fault;
		while ((fault = tpc_add(client, &click)) == -EAGAIN)
			if (tpc_poll(client, 100) < 0) /* the window is full: make room */
				break;
		if (fault) {
			fprintf(stderr, "cannot add click %lu: %s\n", i, strerror(-fault));
			tpc_close(client);
			return 1;
		}
	}
	tpc_flush(client);
	while (tpc_poll(client, 1000) > 0)
		; /* for as long as it takes; a program may have its own limit here */

	printf("batches %lu, accepted %lu, other %lu, sent again %lu\n", totals.batches, totals.accepted, totals.other,
	       totals.resent);
	struct tpc_stats stats;
	tpc_stats(client, &stats);
	fprintf(stderr, "acknowledged after %.3f ms (p50), %.3f ms (p99)\n", (double)stats.latency_ns_p50 / 1e6,
		(double)stats.latency_ns_p99 / 1e6);
	tpc_close(client);
	return totals.accepted + totals.other == clicks ? 0 : 1;
}
