/*
 * The client with a server of version 2: what it was told is obeyed, its events go where they belong, and nobody without the key is believed.
 * One thread plays both sides.
 */
#include "client_state.h"
#include "client_testbed.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* ---- version 2: a server with a layout, a key, and little room ---- */

static const uint8_t wide_key[16] = "0123456789abcdef";

struct wide_server {
	int fd;
	bool keyed, full;
	uint16_t window, cores, shards;
	uint8_t shard_core[4];
	uint32_t batches, laters, hellos, version_1, held;
	struct sockaddr_in peer[64]; /* of batches that are kept waiting */
	uint8_t ack[64][72 + 4];
	uint32_t ack_bytes;
	uint32_t astray; /* batches that did not come to the core of their events */
};

/* Which receive core a source port lands on: here by its number, as a network card does by a hash of it. */
static uint16_t core_of(const struct wide_server *server, const struct sockaddr_in *peer)
{
	return (uint16_t)(ntohs(peer->sin_port) / 2 % server->cores);
}

static uint32_t wide_seal(uint8_t *to, const uint8_t *request, int kind, uint32_t body_bytes, bool keyed)
{
	uint32_t bytes = 32 + (keyed ? 16 : 0) + body_bytes;
	memcpy(to, request, 28);
	to[5] = (uint8_t)kind;
	put(to + 6, keyed, 2);
	put(to + 24, bytes, 2);
	put(to + 28, 0, 4);
	if (keyed) {
		uint8_t tag[16];
		memset(to + 32, 0, 16);
		tpc_siphash_wide(wide_key, to, bytes, tag);
		memcpy(to + 32, tag, 16);
	}
	put(to + 28, tpc_crc32c(0, to, bytes), 4);
	return bytes;
}

/* The core that the events of a batch of version 2 belong to; all of one batch belong to the same. */
static void batch_aim_check(struct wide_server *server, const uint8_t *batch, uint16_t core)
{
	uint32_t events = (uint32_t)get(batch + 26, 2), at = server->keyed ? 48 : 32;
	for (uint32_t i = 0; i < events; i++) {
		const uint8_t *event = batch + at;
		uint32_t device_bytes = event[24], strings = at + 28 + 4 + 8 + 2; /* address, bid, country */
		const uint8_t *device = batch + strings + event[18] + event[19] + event[20] + event[21] + event[22] + event[23];
		uint64_t hash = tpc_xxh3(device, device_bytes);
		uint32_t shard = (uint32_t)((unsigned __int128)hash * server->shards >> 64);
		server->astray += server->shard_core[shard] != core;
		at += (uint32_t)get(event, 2);
	}
}

static void wide_turn(struct wide_server *server)
{
	uint8_t in[65536], out[256] = {0};
	struct sockaddr_in peer;
	socklen_t peer_bytes = sizeof peer;
	uint32_t body_at = server->keyed ? 48 : 32;
	while (recvfrom(server->fd, in, sizeof in, 0, (struct sockaddr *)&peer, &peer_bytes) > 0) {
		uint32_t bytes;
		uint16_t core = core_of(server, &peer);
		if (in[4] == 1) {
			server->version_1++;
			continue; /* lost */
		}
		if (server->keyed) {
			uint8_t tag[16], was[20]; /* checksum and tag */
			memcpy(was, in + 28, 20);
			memset(in + 28, 0, 20);
			tpc_siphash_wide(wide_key, in, get(in + 24, 2), tag);
			assert_memory_equal(was + 4, tag, 16);
			memcpy(in + 28, was, 20);
		}
		memset(out, 0, sizeof out);
		if (in[5] == 4) {
			server->hellos++;
			put(out + body_at, server->shards, 2);
			put(out + body_at + 2, server->cores, 2);
			put(out + body_at + 4, core, 2);
			put(out + body_at + 6, server->window, 2);
			put(out + body_at + 8, 65507, 2);
			out[body_at + 10] = 1;
			memcpy(out + body_at + 16, server->shard_core, server->shards);
			bytes = wide_seal(out, in, 5, 16 + server->shards, server->keyed);
		} else if (server->full) {
			server->laters++;
			put(out + body_at + 4, server->window, 2);
			put(out + body_at + 6, 5, 2);
			out[body_at + 8] = 1;
			memcpy(out + body_at, in + 28, 4);
			bytes = wide_seal(out, in, 3, 16, server->keyed);
		} else {
			server->batches++;
			batch_aim_check(server, in, core);
			memcpy(out + body_at, in + 28, 4);
			put(out + body_at + 4, get(in + 26, 2), 2);
			put(out + body_at + 16, server->window, 2);
			bytes = wide_seal(out, in, 2, 24, server->keyed);
			assert_true(server->held < 64);
			memcpy(server->ack[server->held], out, bytes);
			server->ack_bytes = bytes;
			server->peer[server->held++] = peer;
			continue;
		}
		(void)!sendto(server->fd, out, bytes, 0, (struct sockaddr *)&peer, sizeof peer);
	}
}

static void wide_answer(struct wide_server *server)
{
	while (server->held > 0) {
		server->held--;
		(void)!sendto(server->fd, server->ack[server->held], server->ack_bytes, 0,
			      (struct sockaddr *)&server->peer[server->held], sizeof server->peer[0]);
	}
}

static struct tpc_client *wide_open(struct wide_server *server, struct tpc_options options, struct heard *heard)
{
	struct server plain;
	server_open(&plain, 1);
	server->fd = plain.fd;
	options.host = "127.0.0.1";
	options.port = plain.port;
	return tpc_open(&options, on_ack, heard);
}

/* Turns until all sockets were told. */
static void wide_learn(struct wide_server *server, struct tpc_client *client)
{
	struct tpc_stats stats = {0};
	for (int i = 0; i < 2000 && (stats.version != 2 || server->hellos < client->flows); i++) {
		wide_turn(server);
		assert_true(tpc_poll(client, 1) >= 0);
		tpc_stats(client, &stats);
	}
	assert_true(tpc_poll(client, 1) >= 0);
	assert_int_equal(stats.version, 2);
}

static void test_window_of_the_server_is_obeyed(void **state)
{
	(void)state;
	struct wide_server server = {.window = 3, .cores = 1, .shards = 1};
	struct heard heard = {0};
	struct tpc_client *client = wide_open(&server, (struct tpc_options){.source_id = 1, .datagram_bytes = 150}, &heard);
	struct tpc_stats stats;
	wide_learn(&server, client);
	uint32_t added = 0, full = 0;
	for (int turn = 0; turn < 400 && heard.events < 60; turn++) {
		char id[32];
		snprintf(id, sizeof id, "event-%u", added);
		struct tpc_event event = click(id);
		event.device_id = "d";
		for (;;) {
			int fault = added < 60 ? tpc_add(client, &event) : -EAGAIN;
			if (fault) {
				assert_int_equal(fault, -EAGAIN);
				break;
			}
			snprintf(id, sizeof id, "event-%u", ++added);
		}
		if (added == 60)
			tpc_flush(client);
		tpc_stats(client, &stats);
		assert_int_equal(stats.window, server.window);
		assert_true(stats.in_flight <= 3);
		full += stats.in_flight == server.window;
		wide_turn(&server);
		server.window = turn % 3 + 1; /* it changes its mind */
		for (uint32_t i = 0; i < server.held; i++) {
			put(server.ack[i] + 48, server.window, 2);
			ack_seal(server.ack[i], server.ack_bytes);
		}
		if (server.held > 0) {
			wide_answer(&server);
			assert_true(tpc_poll(client, 1000) >= 0);
			while (tpc_poll(client, 1) > 0 && heard.events < added && server.held > 0)
				;
			tpc_stats(client, &stats);
			server.window = (uint16_t)stats.window;
		}
	}
	assert_int_equal(heard.events, 60);
	assert_true(full > 5);
	assert_int_equal(server.version_1, 0);
	tpc_close(client);
	close(server.fd);
}

static void test_later_is_no_loss(void **state)
{
	(void)state;
	struct wide_server server = {.window = 8, .cores = 1, .shards = 1, .full = true};
	struct heard heard = {0};
	struct tpc_client *client = wide_open(&server, (struct tpc_options){.source_id = 1, .retry_ms = 500, .version = 2}, &heard);
	struct tpc_stats stats;
	struct tpc_event event = click("a");
	event.device_id = "d";
	assert_int_equal(tpc_add(client, &event), 0);
	assert_int_equal(tpc_flush(client), 0);
	for (int i = 0; i < 2000 && server.laters < 5; i++) {
		wide_turn(&server);
		assert_int_equal(tpc_poll(client, 3), 1);
	}
	assert_int_equal(server.laters, 5); /* with the timeout alone, and doubled, it would take seconds */
	server.full = false;
	for (int i = 0; i < 2000 && heard.acks == 0; i++) {
		wide_turn(&server);
		wide_answer(&server);
		assert_true(tpc_poll(client, 3) >= 0);
	}
	assert_int_equal(heard.acks, 1);
	tpc_stats(client, &stats);
	assert_true(stats.laters >= 4 && stats.resent >= 5 && stats.in_flight == 0);
	assert_int_equal(client->timeout_ns, 500000000); /* no timeout was doubled */
	tpc_close(client);
	close(server.fd);
}

/* With the layout known, each batch comes to the core that owns all of its events, over whichever sockets land there. */
static void test_events_go_to_the_core_of_their_shard(void **state)
{
	(void)state;
	for (int keyed = 0; keyed < 2; keyed++) {
		struct wide_server server = {.window = 60, .cores = 2, .shards = 4, .shard_core = {0, 1, 1, 0}, .keyed = keyed};
		struct heard heard = {0};
		struct tpc_options options = {.source_id = 1, .sockets = 16, .shard_aware = true, .datagram_bytes = 400};
		options.key = keyed ? wide_key : NULL;
		struct tpc_client *client = wide_open(&server, options, &heard);
		struct tpc_stats stats;
		wide_learn(&server, client);
		for (int i = 0; i < 200; i++) {
			tpc_stats(client, &stats);
			if (server.hellos >= 16 && stats.cores_reached == 2)
				break;
			wide_turn(&server);
			assert_true(tpc_poll(client, 1) >= 0);
		}
		assert_int_equal(stats.server_shards, 4);
		if (stats.cores_reached == 2) { /* sixteen ports that all land on one core are possible, once in 32,768 times */
			for (uint32_t i = 0, turns = 0; i < 400;) {
				assert_true(turns++ < 5000);
				char id[32], device[32];
				snprintf(id, sizeof id, "event-%u", i);
				snprintf(device, sizeof device, "device-%u", i * 7);
				struct tpc_event event = click(id);
				event.device_id = device;
				int fault = tpc_add(client, &event);
				if (!fault) {
					i++;
					continue;
				}
				assert_int_equal(fault, -EAGAIN);
				wide_turn(&server);
				wide_answer(&server);
				assert_true(tpc_poll(client, 100) >= 0);
			}
			tpc_flush(client);
			for (int i = 0; i < 2000 && heard.events < 400; i++) {
				wide_turn(&server);
				wide_answer(&server);
				assert_true(tpc_poll(client, 1) >= 0);
			}
			assert_int_equal(heard.events, 400);
			assert_int_equal(server.astray, 0);
		}
		tpc_close(client);
		close(server.fd);
	}
}

/* A key that the server does not know: its layouts are not believed, and the client stays at version 1. */
static void test_unsigned_layout_is_not_believed(void **state)
{
	(void)state;
	struct wide_server server = {.window = 60, .cores = 1, .shards = 1};
	struct heard heard = {0};
	struct tpc_options options = {.source_id = 1, .key = wide_key};
	struct tpc_client *client = wide_open(&server, options, &heard);
	struct tpc_stats stats;
	for (int i = 0; i < 100 && server.hellos == 0; i++) {
		wide_turn(&server);
		assert_true(tpc_poll(client, 2) >= 0);
	}
	assert_true(server.hellos > 0);
	assert_true(tpc_poll(client, 20) >= 0);
	tpc_stats(client, &stats);
	assert_int_equal(stats.version, 1);
	assert_true(stats.ignored > 0 && stats.server_shards == 0);
	tpc_close(client);
	close(server.fd);
}

static void test_latency_figures(void **state)
{
	(void)state;
	struct latency latency;
	memset(&latency, 0, sizeof latency);
	assert_int_equal(tpc_latency_at(&latency, 500), 0);
	for (uint64_t ns = 1; ns <= 100000; ns++)
		tpc_latency_add(&latency, ns);
	assert_in_range(tpc_latency_at(&latency, 500), 50000, 50000 * 9 / 8);
	assert_in_range(tpc_latency_at(&latency, 990), 99000, 100000);
	assert_int_equal(tpc_latency_at(&latency, 1000), 100000);
	tpc_latency_add(&latency, UINT64_MAX);
	assert_true(tpc_latency_at(&latency, 1000) == UINT64_MAX);
	for (int bit = 0; bit < 64; bit++) {
		memset(&latency, 0, sizeof latency);
		tpc_latency_add(&latency, 1ULL << bit);
		tpc_latency_add(&latency, UINT64_MAX);
		uint64_t half = tpc_latency_at(&latency, 500), true_ns = 1ULL << bit;
		assert_true(half >= true_ns && half - true_ns <= true_ns / 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_window_of_the_server_is_obeyed),
		cmocka_unit_test(test_later_is_no_loss),
		cmocka_unit_test(test_events_go_to_the_core_of_their_shard),
		cmocka_unit_test(test_unsigned_layout_is_not_believed),
		cmocka_unit_test(test_latency_figures),
	};
	return cmocka_run_group_tests_name("client_wide", tests, NULL, NULL);
}
