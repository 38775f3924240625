/*
 * A data folder as a node leaves it that was killed before it could seal: log files full of events of this minute, for measuring recovery.
 *
 *   make_tail FOLDER SHARDS BYTES LOG_FILE_BYTES     BYTES over all shards
 *
 * Written with the log's own writer, through the page cache's back (O_DIRECT), so the files are cold for whoever reads them. The last file
 * of each shard is open: nobody ended it.
 */
#include "make_events.h"
#include "turnpike/log.h"
#include "turnpike/store.h"
#include "turnpike/text.h"
#include "turnpike/wal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHARDS_MAX = 16, SHAPES = 4096, TEXT_BYTES = 128 };

static uint64_t mix(uint64_t z)
{
	z += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static struct tp_str text(char to[TEXT_BYTES], const char *format, uint64_t number)
{
	return (struct tp_str){to, (uint16_t)snprintf(to, TEXT_BYTES, format, number)};
}

/* Event n: random ids, some hundred ads, devices that come again, a user agent. `to`: TP_EVENT_BYTES_MAX. */
static const struct tp_event *event_make(void *to, uint64_t n, uint64_t now_ms)
{
	char ad[TEXT_BYTES], campaign[TEXT_BYTES], device[TEXT_BYTES], agent[TEXT_BYTES];
	struct tp_parsed parsed = {0};
	uint64_t r = mix(n);
	parsed.fixed = (struct tp_event){.type = n % 8 ? TP_IMPRESSION : TP_CLICK,
					 .id = {.hi = r, .lo = mix(~n)},
					 .timestamp_ms = now_ms - r % 30000,
					 .received_ms = now_ms,
					 .bid_micros = (int64_t)(r % 900000),
					 .flags = TP_HAS_BID};
	parsed.string[TP_AD_ID] = text(ad, "ad_%" PRIu64, r % 500);
	parsed.string[TP_CAMPAIGN_ID] = text(campaign, "camp_%" PRIu64, r % 50);
	parsed.string[TP_ADVERTISER_ID] = (struct tp_str){"adv_1", 5};
	parsed.string[TP_DEVICE_ID] = text(device, "device-%016" PRIx64, mix(r % 1000000));
	parsed.string[TP_USER_AGENT] =
		text(agent, "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/%" PRIu64 ".0 Safari/537.36", r % 40);
	tp_event_finish(&parsed);
	tp_event_encode(&parsed, to);
	((struct tp_event *)to)->verdict = TP_ACCEPTED;
	return to;
}

/* One shard's files. Returns events written. */
static uint64_t shard_write(struct sto_store *store, uint32_t shard, uint64_t bytes, uint64_t first)
{
	const struct sto_wal_options options = {.shard = shard, .commit_interval_ns = 1000000};
	static _Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct sto_wal *wal;
	struct sto_wal_stats stats = {0};
	uint64_t n = first, now_ms = tp_now_ms();
	if (sto_wal_open(&wal, store, &options))
		return 0;
	while (stats.bytes < bytes) {
		const struct tp_event *event = event_make(room, n, now_ms);
		if (sto_wal_must_roll(wal) && (sto_wal_spare_give(wal) || sto_wal_roll(wal)) && sto_wal_poll(wal) < 0)
			return 0;
		void *at = sto_wal_must_roll(wal) ? NULL : sto_wal_reserve(wal, event->bytes);
		if (at) {
			memcpy(at, event, event->bytes);
			sto_wal_append(wal, event->bytes, tp_mono_ns());
			n++;
		}
		if (sto_wal_flush(wal, tp_mono_ns(), now_ms - 60000, false) < 0 || sto_wal_poll(wal) < 0)
			return 0;
		sto_wal_stats(wal, &stats);
		while (sto_wal_finished_take(wal))
			;
	}
	while (sto_wal_durable(wal) != sto_wal_appended(wal))
		if (sto_wal_flush(wal, tp_mono_ns(), now_ms - 60000, true) < 0 || sto_wal_poll(wal) < 0)
			return 0;
	return n - first;
}

int main(int arguments, char **argument)
{
	struct sto_store *store;
	if (arguments != 5) {
		fprintf(stderr, "usage: make_tail FOLDER SHARDS BYTES LOG_FILE_BYTES\n");
		return 2;
	}
	uint32_t shards = (uint32_t)atoi(argument[2]);
	uint64_t bytes = strtoull(argument[3], NULL, 10), events = 0;
	const struct sto_store_options options = {
		.data_dir = argument[1], .log_file_bytes = strtoull(argument[4], NULL, 10), .preallocate = true};
	if (!shards || shards > SHARDS_MAX || sto_store_open(&store, &options)) {
		fprintf(stderr, "make_tail: cannot use %s\n", argument[1]);
		return 1;
	}
	for (uint32_t s = 0; s < shards; s++) {
		uint64_t wrote = shard_write(store, s, bytes / shards, events);
		if (!wrote) {
			fprintf(stderr, "make_tail: the log cannot be written\n");
			return 1;
		}
		events += wrote;
	}
	printf("%" PRIu64 " events\n", events);
	fflush(stdout);
	_exit(0); /* as a kill would: nothing is ended or tidied up */
}
