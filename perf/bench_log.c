/*
 * How long an event waits for its acknowledgement in the log alone, at a given rate, beside the raw disk in the same run: from
 * sto_wal_append() until sto_wal_durable() passes it.
 *
 *   bench_log FOLDER EVENTS_PER_SECOND [SECONDS]
 *
 * The raw disk: O_DIRECT writes with RWF_DSYNC over a file full of zeros, one at a time, of 4 KiB, and of the log's mean block size.
 * Spares are made by a second thread; nothing is sealed, so the folder grows by what is written. The folder is removed by the caller.
 */
#include "turnpike/store.h"
#include "turnpike/text.h"
#include "turnpike/wal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { RECORDS = 4096, RING = 1 << 22, RAW_WRITES = 400, RAW_BYTES = 64 << 20, HISTOGRAM = 1 << 20 /* of 1 µs */ };

static uint32_t histogram[HISTOGRAM];
static uint64_t stamp[RING];
static _Alignas(8) uint8_t record[RECORDS][TP_EVENT_BYTES_MAX];
static struct sto_wal *wal;
static _Atomic bool stop;

static struct tp_str text(const char *at)
{
	return (struct tp_str){at, (uint16_t)strlen(at)};
}

/* Events as they come from the field: about 340 bytes in the log. */
static void records_make(void)
{
	for (uint32_t i = 0; i < RECORDS; i++) {
		char ad[24], device[40];
		struct tp_parsed parsed = {0};
		snprintf(ad, sizeof(ad), "ad-%u", i % 997);
		snprintf(device, sizeof(device), "device-%08x-%08x", i * 2654435761U, i);
		parsed.fixed = (struct tp_event){.type = TP_CLICK,
						 .id = {.hi = i * 0x9e3779b97f4a7c15ULL, .lo = i + 1},
						 .timestamp_ms = 1700000000000ULL + i,
						 .received_ms = 1700000000000ULL + i,
						 .bid_micros = 500000,
						 .flags = TP_HAS_BID};
		parsed.string[TP_AD_ID] = text(ad);
		parsed.string[TP_CAMPAIGN_ID] = text("campaign-42");
		parsed.string[TP_ADVERTISER_ID] = text("advertiser-7");
		parsed.string[TP_DEVICE_ID] = text(device);
		parsed.string[TP_USER_AGENT] = text("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like "
						    "Gecko) Chrome/119.0 Safari/537.36");
		tp_event_finish(&parsed);
		tp_event_encode(&parsed, (struct tp_event *)(void *)record[i]);
		((struct tp_event *)(void *)record[i])->verdict = TP_ACCEPTED;
	}
}

static void *spares(void *unused)
{
	(void)unused;
	while (!atomic_load(&stop)) {
		if (sto_wal_spare_wanted(wal) && sto_wal_spare_give(wal))
			abort();
		while (sto_wal_finished_take(wal))
			;
		usleep(1000);
	}
	return NULL;
}

static void take(uint64_t ns)
{
	uint64_t us = ns / 1000;
	histogram[us < HISTOGRAM ? us : HISTOGRAM - 1]++;
}

static uint64_t percentile(double part)
{
	uint64_t all = 0, sum = 0;
	for (uint32_t i = 0; i < HISTOGRAM; i++)
		all += histogram[i];
	for (uint32_t i = 0; i < HISTOGRAM; i++) {
		sum += histogram[i];
		if ((double)sum >= part * (double)all)
			return i;
	}
	return HISTOGRAM;
}

static void tell(const char *what)
{
	printf("%-22s p50 %6" PRIu64 " us  p99 %6" PRIu64 " us  p99.9 %6" PRIu64 " us  max %6" PRIu64 " us\n", what,
	       percentile(0.5), percentile(0.99), percentile(0.999), percentile(1));
	memset(histogram, 0, sizeof(histogram));
}

static int log_run(uint64_t rate, uint64_t seconds)
{
	uint64_t began = tp_mono_ns(), end = began + seconds * 1000000000, sent = 0, told = 0, stalls = 0;
	for (uint64_t now = began; now < end || told < sent; now = tp_mono_ns()) {
		int completed = sto_wal_poll(wal);
		if (completed < 0)
			return completed;
		/* Judged by when it was due, not by when it was let in: waiting for room counts. */
		for (uint64_t durable = sto_wal_durable(wal); told < durable; told++)
			take(now - stamp[told % RING]);
		uint64_t due = now < end ? (uint64_t)((__int128)(now - began) * rate / 1000000000) : sent;
		uint32_t burst = 0;
		for (; sent < due && sent - told < RING && burst < 64; burst++) {
			const struct tp_event *event = (const struct tp_event *)(const void *)record[sent % RECORDS];
			if (sto_wal_must_roll(wal) && sto_wal_roll(wal))
				break;
			void *at = sto_wal_reserve(wal, event->bytes);
			if (!at)
				break;
			memcpy(at, event, event->bytes);
			stamp[sent % RING] = began + (uint64_t)((__int128)sent * 1000000000 / rate);
			sto_wal_append(wal, event->bytes, now);
			sent++;
		}
		stalls += sent < due && !burst;
		int rc = sto_wal_flush(wal, now, now / 1000000, !burst && !sto_wal_busy(wal));
		if (rc < 0)
			return rc;
	}
	struct sto_wal_stats stats;
	sto_wal_stats(wal, &stats);
	printf("%" PRIu64 " events/s asked, %.0f events/s done, %.1f KiB a block, %" PRIu64 " stalled rounds\n", rate,
	       (double)sent / ((double)(tp_mono_ns() - began) / 1e9), (double)stats.bytes / (double)stats.blocks / 1024, stalls);
	return (int)((stats.bytes / stats.blocks + 4095) / 4096 * 4096);
}

static int raw_run(const char *folder, uint32_t bytes, const char *what)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/raw", folder);
	int fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	uint8_t *block = aligned_alloc(4096, 1 << 20);
	if (fd < 0 || !block)
		return 1;
	memset(block, 0, 1 << 20);
	for (uint64_t at = 0; at < RAW_BYTES; at += 1 << 20)
		if (pwrite(fd, block, 1 << 20, (off_t)at) != 1 << 20)
			return 1;
	fsync(fd);
	struct iovec piece = {.iov_base = block, .iov_len = bytes};
	for (int i = 0; i < RAW_WRITES; i++) {
		uint64_t began = tp_mono_ns();
		if (pwritev2(fd, &piece, 1, (off_t)((uint64_t)i * bytes % (RAW_BYTES - bytes) / 4096 * 4096), RWF_DSYNC) !=
		    (ssize_t)bytes)
			return 1;
		take(tp_mono_ns() - began);
	}
	close(fd);
	unlink(path);
	free(block);
	tell(what);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return fprintf(stderr, "usage: bench_log FOLDER EVENTS_PER_SECOND [SECONDS]\n"), 2;
	uint64_t rate = strtoull(argv[2], NULL, 10), seconds = argc > 3 ? strtoull(argv[3], NULL, 10) : 3;
	const struct sto_store_options store_options = {.data_dir = argv[1], .log_file_bytes = 64 << 20, .preallocate = true};
	const struct sto_wal_options options = {.commit_interval_ns = 1000000, .reserve_bytes = 8 << 20};
	struct sto_store *store;
	pthread_t thread;
	if (sto_store_open(&store, &store_options) || sto_wal_open(&wal, store, &options) || sto_wal_spare_give(wal))
		return 1;
	records_make();
	memset(stamp, 0, sizeof(stamp));
	if (raw_run(argv[1], 4096, "raw disk, 4 KiB"))
		return 1;
	pthread_create(&thread, NULL, spares, NULL);
	int block = log_run(rate, seconds);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	if (block < 0)
		return 1;
	tell("acknowledgement");
	if (raw_run(argv[1], (uint32_t)block, "raw disk, same size"))
		return 1;
	sto_wal_close(wal);
	sto_store_close(store);
	return 0;
}
