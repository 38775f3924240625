/* See stand_in.h. */
#include "stand_in.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { LOG_FILE_BYTES = 4 << 20, BLOCK_BYTES = 65536, TABLE_ROWS = 4096, TABLE_HEAP_BYTES = 1 << 20, FIRST_PID = 1000 };

/* ---- the command socket: answers attach and an empty blocklist, and hangs up when shut down ---- */

static void *serve(void *context)
{
	struct stand_in *stand_in = context;
	struct pollfd poller[16] = {{.fd = stand_in->listener, .events = POLLIN}, {.fd = stand_in->stopped, .events = POLLIN}};
	nfds_t count = 2;

	for (;;) {
		poll(poller, count, -1);
		if (poller[1].revents)
			break;
		if (poller[0].revents && count < 16) {
			int fd = accept4(stand_in->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
			if (fd >= 0)
				poller[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
		}
		for (nfds_t i = 2; i < count; i++) {
			char line[TP_COMMAND_BYTES_MAX], answer[64];
			if (!poller[i].revents)
				continue;
			int n = tp_command_receive(poller[i].fd, line, sizeof(line));
			if (n == -EAGAIN)
				continue;
			if (n > 0 && strcmp(line, "attach") == 0) {
				snprintf(answer, sizeof(answer), "{\"ok\":true,\"pid\":%u}", stand_in->pid);
				tp_command_answer(poller[i].fd, answer, stand_in->live_fd);
				continue;
			}
			if (n > 0 && strncmp(line, "blocklist list", 14) == 0) {
				tp_command_answer(poller[i].fd, "{\"ok\":true,\"items\":[],\"next\":null,\"total\":0,\"files\":[]}",
						  -1);
				continue;
			}
			close(poller[i].fd);
			poller[i--] = poller[--count];
		}
	}
	for (nfds_t i = 2; i < count; i++)
		close(poller[i].fd);
	return NULL;
}

/* ---- tables and files ---- */

static struct tp_rollup *table_at(struct stand_in *stand_in, uint32_t index)
{
	return (struct tp_rollup *)(uintptr_t)tp_live_rollup(stand_in->live, index);
}

static struct tp_rollup *table_take(struct stand_in *stand_in, uint64_t file_id)
{
	for (uint32_t i = 0; i < STAND_IN_TABLES; i++) {
		struct tp_rollup *table = table_at(stand_in, i);
		if (atomic_load(&table->file_id) != 0)
			continue;
		tp_rollup_reset(table, file_id);
		return table;
	}
	fail_msg("no table is free");
	return NULL;
}

static void spare_give(struct stand_in *stand_in)
{
	if (sto_wal_spare_wanted(stand_in->wal))
		assert_int_equal(sto_wal_spare_give(stand_in->wal), 0);
}

static int row_recover(void *context, const struct tp_event *event)
{
	tp_rollup_add(context, event);
	return 0;
}

/* What a killed run left: each log file is read, summed and sealed. */
static void recover(struct stand_in *stand_in)
{
	uint64_t *file_id = NULL;
	uint32_t count = 0;

	assert_int_equal(sto_store_unsealed(stand_in->store, &file_id, &count), 0);
	for (uint32_t i = 0; i < count; i++) {
		struct sto_log_facts facts;
		struct tp_rollup *table = table_take(stand_in, file_id[i]);
		assert_int_equal(sto_log_read(stand_in->store, file_id[i], row_recover, table, &facts), 0);
		assert_int_equal(sto_seal(stand_in->store, file_id[i], table, NULL), 0);
		tp_rollup_reset(table, 0);
		assert_int_equal(sto_log_delete(stand_in->store, file_id[i]), 0);
	}
	free(file_id);
}

void stand_in_start(struct stand_in *stand_in)
{
	const struct sto_store_options options = {
		.data_dir = stand_in->data_dir, .log_file_bytes = LOG_FILE_BYTES, .preallocate = true};
	const struct sto_wal_options wal_options = {
		.commit_interval_ns = 1000000, .block_bytes_max = BLOCK_BYTES, .writes_in_flight = 4, .reserve_bytes = BLOCK_BYTES};

	assert_int_equal(sto_store_open(&stand_in->store, &options), 0);
	stand_in->live_fd = tp_live_create(&stand_in->live, STAND_IN_TABLES, TABLE_ROWS, TABLE_HEAP_BYTES);
	assert_true(stand_in->live_fd >= 0);
	struct tp_live *live = stand_in->live;
	live->cores = 1;
	live->shards = 1;
	live->pid = stand_in->pid = stand_in->pid ? stand_in->pid + 1 : FIRST_PID;
	live->started_ms = tp_now_ms();
	live->core[0].is_rx = live->core[0].is_shard = 1;
	snprintf(live->node, sizeof(live->node), "stand-in");
	snprintf(live->receive_path, sizeof(live->receive_path), "none");
	atomic_store(&live->heartbeat_ms, tp_now_ms() + 86400000); /* nobody beats it on, however long a test takes */

	stand_in->listener = tp_command_listen(stand_in->data_dir);
	assert_true(stand_in->listener >= 0);
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	stand_in->stop = pair[0];
	stand_in->stopped = pair[1];
	assert_int_equal(pthread_create(&stand_in->thread, NULL, serve, stand_in), 0);

	recover(stand_in);
	assert_int_equal(sto_wal_open(&stand_in->wal, stand_in->store, &wal_options), 0);
	spare_give(stand_in);
	stand_in->table = table_take(stand_in, sto_wal_file_id(stand_in->wal));
	spare_give(stand_in);
	atomic_store(&live->refusing, TP_TAKING);
	atomic_store(&live->ready, 1);
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *where)
{
	(void)stat;
	(void)type;
	(void)where;
	return remove(path);
}

static char base[32]; /* the folders of all */

/* At the end, after a test that failed too. */
static void base_remove(void)
{
	nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void stand_in_open(struct stand_in *stand_in)
{
	static uint32_t number;
	*stand_in = (struct stand_in){0};
	if (!number) {
		snprintf(base, sizeof(base), "stand_in.XXXXXX");
		assert_non_null(mkdtemp(base));
		assert_int_equal(atexit(base_remove), 0);
	}
	snprintf(stand_in->folder, sizeof(stand_in->folder), "%s/%u", base, ++number);
	assert_int_equal(mkdir(stand_in->folder, 0700), 0);
	snprintf(stand_in->data_dir, sizeof(stand_in->data_dir), "%s/data", stand_in->folder);
	stand_in_start(stand_in);
}

void stand_in_stop(struct stand_in *stand_in)
{
	close(stand_in->stop);
	pthread_join(stand_in->thread, NULL);
	close(stand_in->stopped);
	close(stand_in->listener);
	sto_wal_close(stand_in->wal);
	sto_store_close(stand_in->store);
	tp_live_unmap(stand_in->live);
	close(stand_in->live_fd);
}

void stand_in_close(struct stand_in *stand_in)
{
	stand_in_stop(stand_in);
	assert_int_equal(nftw(stand_in->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* ---- events ---- */

struct stand_in_event stand_in_click(void)
{
	return (struct stand_in_event){
		.timestamp_ms = tp_now_ms(),
		.type = TP_CLICK,
		.verdict = TP_ACCEPTED,
		.ad = "ad-1",
		.campaign = "camp-1",
		.advertiser = "adv-1",
		.publisher = "pub-1",
		.region = "",
		.country = "",
		.currency = "USD",
		.bid_micros = 1000000,
	};
}

static struct tp_str str(const char *text)
{
	return (struct tp_str){.at = text, .bytes = (uint16_t)strlen(text)};
}

static void encode(const struct stand_in_event *from, uint64_t number, void *to)
{
	struct tp_parsed parsed = {.fixed = {.type = (uint8_t)from->type,
					     .device = (uint8_t)from->device,
					     .flags = TP_DEVICE_SENT | TP_HAS_BID | TP_HAS_IP,
					     .ip = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = (uint8_t)(number % 5)},
					     .id = {.hi = 1, .lo = number + 1},
					     .timestamp_ms = from->timestamp_ms,
					     .received_ms = from->timestamp_ms,
					     .bid_micros = from->bid_micros}};
	struct tp_event *event = to;

	memcpy(parsed.fixed.country, from->country, strnlen(from->country, 2));
	memcpy(parsed.fixed.currency, from->currency, 3);
	parsed.string[TP_AD_ID] = str(from->ad);
	parsed.string[TP_CAMPAIGN_ID] = str(from->campaign);
	parsed.string[TP_ADVERTISER_ID] = str(from->advertiser);
	parsed.string[TP_PUBLISHER_ID] = str(from->publisher);
	parsed.string[TP_REGION] = str(from->region);
	if (from->user)
		parsed.string[TP_USER_ID] = str(from->user);
	tp_event_finish(&parsed);
	tp_event_encode(&parsed, event);
	event->verdict = (uint8_t)from->verdict;
	event->fraud = from->flagged;
}

void stand_in_add(struct stand_in *stand_in, const struct stand_in_event *from)
{
	_Alignas(8) uint8_t record[TP_EVENT_BYTES_MAX];

	encode(from, atomic_fetch_add(&stand_in->next, 1), record);
	stand_in_add_record(stand_in, (const struct tp_event *)(const void *)record);
}

void stand_in_add_record(struct stand_in *stand_in, const struct tp_event *event)
{
	void *at;

	while (!(at = sto_wal_reserve(stand_in->wal, event->bytes))) {
		assert_true(sto_wal_flush(stand_in->wal, tp_mono_ns(), 0, true) >= 0);
		assert_true(sto_wal_poll(stand_in->wal) >= 0);
	}
	memcpy(at, event, event->bytes);
	sto_wal_append(stand_in->wal, event->bytes, tp_mono_ns());
	assert_true(tp_rollup_has_room(stand_in->table));
	tp_rollup_add(stand_in->table, event);
}

void stand_in_commit(struct stand_in *stand_in)
{
	struct sto_wal *wal = stand_in->wal;

	while (sto_wal_durable(wal) != sto_wal_appended(wal) || sto_wal_busy(wal)) {
		assert_true(sto_wal_flush(wal, tp_mono_ns(), atomic_load(&stand_in->live->watermark_ms), true) >= 0);
		assert_true(sto_wal_poll(wal) >= 0);
	}
}

void stand_in_seal(struct stand_in *stand_in)
{
	struct tp_rollup *finished = stand_in->table;
	uint64_t file_id = atomic_load(&finished->file_id);

	stand_in_commit(stand_in);
	if (!sto_wal_file_records(stand_in->wal))
		return; /* an empty file does not end */
	assert_int_equal(sto_wal_roll(stand_in->wal), 0);
	uint64_t taken;
	while ((taken = sto_wal_finished_take(stand_in->wal)) == 0) {
		stand_in_commit(stand_in);
		assert_true(sto_wal_poll(stand_in->wal) >= 0);
	}
	assert_int_equal(taken, file_id);
	stand_in->table = table_take(stand_in, sto_wal_file_id(stand_in->wal));
	assert_int_equal(sto_seal(stand_in->store, file_id, finished, NULL), 0);
	tp_rollup_reset(finished, 0);
	assert_int_equal(sto_log_delete(stand_in->store, file_id), 0);
	spare_give(stand_in);
	/* every other time the sums move on into rollup files, so that answers come from both */
	const struct sto_merge_options now = {.now = true};
	if (++stand_in->seals % 2 == 0)
		while (sto_merge_step(stand_in->store, &now) > 0)
			;
}
