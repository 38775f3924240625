/*
 * The client against a fake server on loopback that loses, repeats, delays and forges acknowledgements; and its encoder and checks
 * against published vectors. One thread plays both sides.
 */
#include "turnpike/client.h"

#include "checksum.h"
#include "client_testbed.h"
#include "encode.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* An acknowledgement: the first copy of a batch is accepted, further ones are duplicates. */
static void ack_make(const uint8_t *batch, bool again, uint8_t ack[TPC_ACK_BYTES])
{
	memset(ack, 0, TPC_ACK_BYTES);
	memcpy(ack, batch, 24);
	ack[5] = 2;
	put(ack + 6, 0, 2);
	memcpy(ack + 26, batch + 26, 2);
	memcpy(ack + 32, batch + 28, 4);
	memcpy(ack + (again ? 38 : 36), batch + 26, 2);
	ack_seal(ack, TPC_ACK_BYTES);
}

static void ack_send(struct server *server, const uint8_t *ack, size_t bytes)
{
	(void)!sendto(server->fd, ack, bytes, 0, (struct sockaddr *)&server->peer, sizeof server->peer);
}

/* Checks a datagram as it arrived and says whether this batch came before, with the same bytes. */
static bool batch_seen(struct server *server, const uint8_t *batch, size_t bytes)
{
	assert_true(bytes >= 64 && memcmp(batch, "\x9eTPB\x01\x01", 6) == 0);
	assert_int_equal(get(batch + 24, 2), bytes);
	uint8_t copy[65536];
	memcpy(copy, batch, bytes);
	put(copy + 28, 0, 4);
	assert_int_equal(tpc_crc32c(0, copy, bytes), get(batch + 28, 4));
	for (uint32_t i = 0; i < server->seen; i++) {
		if (server->number[i] == get(batch + 16, 8)) {
			assert_int_equal(server->checksum[i], get(batch + 28, 4));
			return true;
		}
	}
	assert_true(server->seen < BATCHES_MAX);
	server->checksum[server->seen] = (uint32_t)get(batch + 28, 4);
	server->number[server->seen++] = get(batch + 16, 8);
	return false;
}

/* Takes what has come and answers badly: half of all copies or their answers are lost, some answers come twice, late, or forged. */
static void server_turn(struct server *server, bool cruel)
{
	uint8_t batch[65536], ack[TPC_ACK_BYTES];
	for (;;) {
		socklen_t peer_bytes = sizeof server->peer;
		ssize_t bytes = recvfrom(server->fd, batch, sizeof batch, 0, (struct sockaddr *)&server->peer, &peer_bytes);
		if (bytes < 0)
			break;
		if (batch[4] == 2 && batch[5] == 4)
			continue; /* this server is of version 1 and knows no hello */
		server->datagrams++;
		if (cruel && draw(server, 4) == 0)
			continue; /* lost on the way here */
		bool again = batch_seen(server, batch, (size_t)bytes);
		ack_make(batch, again, ack);
		switch (cruel ? draw(server, 8) : 7) {
		case 0: /* lost on the way back */
			break;
		case 1:
			ack_send(server, ack, sizeof ack);
			ack_send(server, ack, sizeof ack);
			break;
		case 2: /* later, behind others */
		case 3:
			if (server->delayed < DELAYED_MAX)
				memcpy(server->delayed_ack[server->delayed++], ack, sizeof ack);
			break;
		case 4: /* damaged */
			ack[draw(server, sizeof ack)] ^= 0x40;
			ack_send(server, ack, sizeof ack);
			break;
		case 5: /* of a batch with the same number and other content */
			ack[32] ^= 1;
			ack_seal(ack, sizeof ack);
			ack_send(server, ack, sizeof ack);
			break;
		default:
			ack_send(server, ack, sizeof ack);
		}
	}
	while (server->delayed > 0 && draw(server, 3) == 0) {
		uint32_t which = draw(server, server->delayed);
		ack_send(server, server->delayed_ack[which], TPC_ACK_BYTES);
		memmove(server->delayed_ack[which], server->delayed_ack[--server->delayed], TPC_ACK_BYTES);
	}
}

static void test_crc32c_vectors(void **state)
{
	(void)state;
	uint8_t bytes[32];
	assert_int_equal(tpc_crc32c(0, "", 0), 0);
	assert_int_equal(tpc_crc32c(0, "123456789", 9), 0xe3069283);
	memset(bytes, 0, sizeof bytes);
	assert_int_equal(tpc_crc32c(0, bytes, 32), 0x8a9136aa);
	memset(bytes, 0xff, sizeof bytes);
	assert_int_equal(tpc_crc32c(0, bytes, 32), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(tpc_crc32c(0, bytes, 32), 0x46dd794e);
	assert_int_equal(tpc_crc32c(tpc_crc32c(0, bytes, 11), bytes + 11, 21), 0x46dd794e);
}

static void test_siphash_vectors(void **state)
{
	(void)state;
	uint8_t key[16], bytes[15];
	for (int i = 0; i < 16; i++)
		key[i] = (uint8_t)i;
	for (int i = 0; i < 15; i++)
		bytes[i] = (uint8_t)i;
	assert_true(tpc_siphash(key, bytes, 0) == 0x726fdb47dd0e0e31ULL);
	assert_true(tpc_siphash(key, bytes, 8) == 0x93f5f5799a932462ULL);
	assert_true(tpc_siphash(key, bytes, 15) == 0xa129ca6149be45e5ULL);
}

static void test_bad_events_are_refused(void **state)
{
	(void)state;
	char long_id[66];
	memset(long_id, 'x', 65);
	long_id[65] = 0;
	struct tpc_plan plan;
	struct tpc_event good = click("a"), bad;
	assert_int_equal(tpc_plan(&plan, &good), 0);
#define BAD(field, value) \
	do { \
		bad = good; \
		bad.field = value; \
		assert_int_equal(tpc_plan(&plan, &bad), -EINVAL); \
	} while (0)
	BAD(event_id, NULL);
	BAD(event_id, "");
	BAD(event_id, long_id);
	BAD(ad_id, NULL);
	BAD(campaign_id, "");
	BAD(advertiser_id, long_id);
	BAD(user_id, long_id);
	BAD(type, 3);
	BAD(type, -1);
	BAD(ip_address, "192.168.1");
	BAD(country, "USA");
	BAD(country, "U1");
	BAD(currency, "usd");
	BAD(bid_micros, -1);
	BAD(bid_micros, 1000000000001);
	long_id[64] = 0;
	bad = good;
	bad.event_id = bad.user_id = long_id;
	assert_int_equal(tpc_plan(&plan, &bad), 0);
	bad.trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01"; /* an invalid trace costs nothing */
	assert_int_equal(tpc_plan(&plan, &bad), 0);
}

static void test_open_checks_its_options(void **state)
{
	(void)state;
	assert_null(tpc_open(&(struct tpc_options){.host = "localhost", .port = 1}, NULL, NULL));
	assert_int_equal(errno, EINVAL);
	assert_null(tpc_open(&(struct tpc_options){.host = "127.0.0.1", .port = 1, .datagram_bytes = 65508}, NULL, NULL));
	struct tpc_client *client = tpc_open(&(struct tpc_options){.host = "::1", .port = 1}, NULL, NULL);
	if (client) /* else: no IPv6 here */
		assert_int_equal(tpc_poll(client, 0), 0);
	tpc_close(client);
}

static void test_event_larger_than_a_datagram(void **state)
{
	(void)state;
	struct tpc_client *client =
		tpc_open(&(struct tpc_options){.host = "127.0.0.1", .port = 9, .datagram_bytes = 128}, NULL, NULL);
	struct tpc_event event = click("a");
	assert_int_equal(tpc_add(client, &event), 0);
	event.user_agent = "0123456789012345678901234567890123456789";
	assert_int_equal(tpc_add(client, &event), -EMSGSIZE);
	assert_int_equal(tpc_pending(client), 1);
	tpc_close(client);
}

static void drain(struct tpc_client *client, struct server *server, bool cruel)
{
	for (int turn = 0; turn < 20000; turn++) {
		int owed = tpc_poll(client, 1);
		assert_true(owed >= 0);
		if (owed == 0)
			return;
		server_turn(server, cruel);
	}
	fail_msg("batches stay unacknowledged");
}

/* Every batch is acknowledged exactly once to the caller, however the network behaves, and retries carry the same bytes. */
static void test_cruel_network(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++) {
		struct server server;
		struct heard heard = {0};
		server_open(&server, seed);
		struct tpc_options options = {
			.host = "127.0.0.1", .port = server.port, .window = 16, .datagram_bytes = 400, .retry_ms = 2};
		struct tpc_client *client = tpc_open(&options, on_ack, &heard);
		uint32_t added = 0, full = 0;
		while (added < 200) {
			char id[32];
			snprintf(id, sizeof id, "event-%u", added);
			struct tpc_event event = click(id);
			int fault = tpc_add(client, &event);
			if (fault == -EAGAIN) {
				full++;
				server_turn(&server, true);
				assert_true(tpc_poll(client, 1) >= 0);
				continue;
			}
			assert_int_equal(fault, 0);
			added++;
		}
		assert_int_equal(tpc_flush(client), 0);
		drain(client, &server, true);
		assert_int_equal(heard.events, 200);
		assert_int_equal(heard.acks, server.seen);
		assert_int_equal(heard.accepted + heard.duplicates, 200);
		assert_true(full > 0 && heard.resent > 0 && heard.duplicates > 0);
		assert_true(server.datagrams > server.seen);
		tpc_close(client);
		close(server.fd);
	}
}

/* A server that is not there at first: the batches wait for it. */
static void test_server_comes_later(void **state)
{
	(void)state;
	struct server server;
	struct heard heard = {0};
	server_open(&server, 7);
	close(server.fd);
	struct tpc_client *client =
		tpc_open(&(struct tpc_options){.host = "127.0.0.1", .port = server.port, .retry_ms = 2}, on_ack, &heard);
	struct tpc_event event = click("a");
	assert_int_equal(tpc_add(client, &event), 0);
	assert_int_equal(tpc_flush(client), 0);
	assert_int_equal(tpc_flush(client), 0); /* nothing to send is fine */
	for (int i = 0; i < 5; i++)
		assert_int_equal(tpc_poll(client, 3), 1);

	server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(server.port)};
	if (bind(server.fd, (struct sockaddr *)&at, sizeof at) == 0) { /* else somebody took the port meanwhile */
		drain(client, &server, false);
		assert_int_equal(heard.acks, 1);
		assert_true(heard.resent > 0);
	}
	tpc_close(client);
	close(server.fd);
}

static void test_rejects_are_told(void **state)
{
	(void)state;
	struct server server;
	struct heard heard = {0};
	server_open(&server, 7);
	struct tpc_client *client = tpc_open(
		&(struct tpc_options){.host = "127.0.0.1", .port = server.port, .source_id = 42, .version = 1}, on_ack, &heard);
	struct tpc_event event = click("123e4567-e89b-12d3-a456-426614174000");
	assert_int_equal(tpc_add(client, &event), 0);
	assert_int_equal(tpc_add(client, &event), 0);
	assert_int_equal(tpc_pending(client), 2);
	uint64_t number = tpc_batch(client);
	assert_int_equal(tpc_flush(client), 0);
	uint8_t batch[2048], ack[TPC_ACK_BYTES + TPC_REJECT_BYTES];
	socklen_t peer_bytes = sizeof server.peer;
	poll(&(struct pollfd){.fd = server.fd, .events = POLLIN}, 1, 5000);
	assert_true(recvfrom(server.fd, batch, sizeof batch, 0, (struct sockaddr *)&server.peer, &peer_bytes) > 0);
	assert_int_equal(get(batch + 8, 8), 42);
	assert_int_equal(get(batch + 16, 8), number);
	ack_make(batch, false, ack);
	put(ack + 36, 1, 2); /* accepted */
	put(ack + 44, 1, 2); /* rejected */
	put(ack + 46, 1, 2); /* listed */
	put(ack + 48, 1, 2); /* index */
	ack[50] = 8;         /* future */
	ack[51] = 3;         /* timestamp */
	ack_seal(ack, sizeof ack);
	ack_send(&server, ack, sizeof ack);
	assert_int_equal(tpc_poll(client, 5000), 0);
	assert_int_equal(heard.accepted, 1);
	assert_int_equal(heard.rejected, 1);
	assert_int_equal(heard.rejects, 1);
	assert_int_equal(heard.reject[0].index, 1);
	assert_int_equal(heard.reject[0].reason, 8);
	assert_int_equal(heard.reject[0].field, 3);
	tpc_close(client);
	close(server.fd);
}

/* An answer counts only if it is whole and names this very batch: source, number, content and count of events. */
static void test_forged_acknowledgements(void **state)
{
	(void)state;
	struct server server;
	struct heard heard = {0};
	server_open(&server, 7);
	struct tpc_options options = {
		.host = "127.0.0.1", .port = server.port, .source_id = 42, .window = 4, .retry_ms = 1000, .version = 1};
	struct tpc_client *client = tpc_open(&options, on_ack, &heard);
	struct tpc_event event = click("a");
	assert_int_equal(tpc_add(client, &event), 0);
	assert_int_equal(tpc_flush(client), 0);
	assert_int_equal(tpc_add(client, &event), 0); /* a second batch stays open */
	uint8_t batch[2048], good[TPC_ACK_BYTES];
	socklen_t peer_bytes = sizeof server.peer;
	poll(&(struct pollfd){.fd = server.fd, .events = POLLIN}, 1, 5000);
	assert_true(recvfrom(server.fd, batch, sizeof batch, 0, (struct sockaddr *)&server.peer, &peer_bytes) > 0);
	ack_make(batch, false, good);
	static const struct {
		uint8_t at;
		uint8_t flip;
		bool seal;
	} forged[] = {
		{28, 1, false}, /* damaged on the way */
		{36, 3, false}, /* … in a count */
		{8, 1, true},   /* another source */
		{16, 1, true},  /* another number */
		{17, 1, true},  /* … whose place in the window is the same */
		{32, 1, true},  /* another content */
		{26, 3, true},  /* another count of events, so the sum is wrong */
		{0, 1, true},   {4, 3, true}, {5, 3, true}, {6, 1, true}, {46, 1, true},
	};
	for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
		uint8_t ack[TPC_ACK_BYTES];
		memcpy(ack, good, sizeof ack);
		ack[forged[i].at] ^= forged[i].flip;
		if (forged[i].seal)
			ack_seal(ack, sizeof ack);
		ack_send(&server, ack, sizeof ack);
	}
	uint8_t two[TPC_ACK_BYTES], longer[TPC_ACK_BYTES + 4] = {0};
	memcpy(two, good, sizeof two); /* another count of events, with a sum that fits */
	two[26] = two[36] = 2;
	ack_seal(two, sizeof two);
	ack_send(&server, two, sizeof two);
	memcpy(longer, good, sizeof good); /* more than it lists */
	ack_seal(longer, sizeof longer);
	ack_send(&server, longer, sizeof longer);
	uint8_t open[TPC_ACK_BYTES]; /* of the batch that was not sent yet */
	memcpy(open, good, sizeof open);
	put(open + 16, tpc_batch(client), 8);
	put(open + 32, 0, 4);
	ack_seal(open, sizeof open);
	ack_send(&server, open, sizeof open);
	ack_send(&server, good, TPC_ACK_BYTES - 1);
	assert_int_equal(tpc_poll(client, 30), 1);
	assert_int_equal(heard.acks, 0);
	ack_send(&server, good, sizeof good);
	assert_int_equal(tpc_poll(client, 5000), 0);
	assert_int_equal(heard.acks, 1);
	assert_int_equal(tpc_pending(client), 1);
	tpc_close(client);
	close(server.fd);
}

/* A server that answers all, but takes many times the least timeout: soon little is sent twice. */
static void test_slow_server_is_not_flooded(void **state)
{
	(void)state;
	enum { DELAY_TURNS = 20, ROUNDS = 40 };
	struct server server;
	struct heard heard = {0};
	server_open(&server, 7);
	struct tpc_client *client =
		tpc_open(&(struct tpc_options){.host = "127.0.0.1", .port = server.port, .retry_ms = 1}, on_ack, &heard);
	uint64_t half = 0;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		char id[32];
		snprintf(id, sizeof id, "event-%u", round);
		struct tpc_event event = click(id);
		assert_int_equal(tpc_add(client, &event), 0);
		assert_int_equal(tpc_flush(client), 0);
		for (int turn = 0; turn < DELAY_TURNS; turn++) /* about 20 ms in which nobody answers */
			assert_true(tpc_poll(client, 1) >= 0);
		server_turn(&server, false);
		assert_true(tpc_poll(client, 1000) >= 0);
		if (round == ROUNDS / 2)
			half = heard.resent;
	}
	drain(client, &server, false);
	assert_int_equal(heard.events, ROUNDS);
	/* with a fixed timeout of 1 ms each would be sent four times more; now they are sent once, but for a few */
	assert_true(heard.resent - half < ROUNDS / 4);
	tpc_close(client);
	close(server.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc32c_vectors),
		cmocka_unit_test(test_siphash_vectors),
		cmocka_unit_test(test_bad_events_are_refused),
		cmocka_unit_test(test_open_checks_its_options),
		cmocka_unit_test(test_event_larger_than_a_datagram),
		cmocka_unit_test(test_cruel_network),
		cmocka_unit_test(test_server_comes_later),
		cmocka_unit_test(test_rejects_are_told),
		cmocka_unit_test(test_forged_acknowledgements),
		cmocka_unit_test(test_slow_server_is_not_flooded),
	};
	return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
