/*
 * The housekeeping thread: owns the store. It keeps each shard in spare files and tables, seals what is finished, looks late events up
 * in the segments, rotates the id table, and retires old segments. Low priority: nothing here is on the way of a beacon, except that a
 * shard which outruns it waits.
 */
#include "node.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	ROUND_NS = 5000000,
	PAUSE_NS_MAX = 1000000000,
	RETAIN_EVERY_MS = 60000,
	LANE_BURST = 256, /* look-ups before the other work gets its turn again */
};

static void nap(uint64_t ns)
{
	struct timespec time = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	nanosleep(&time, NULL);
}

static struct tp_rollup *table_of(struct dp_node *node, uint64_t file_id)
{
	for (uint32_t i = 0; i < node->live->rollup_count; i++) {
		struct tp_rollup *table =
			(struct tp_rollup *)(void *)((uint8_t *)node->live + node->live->rollup_at + i * node->live->rollup_bytes);
		if (atomic_load_explicit(&table->file_id, memory_order_acquire) == file_id)
			return table;
	}
	return NULL;
}

/* A table that belongs to no file and has not been promised to another shard. */
static struct tp_rollup *table_free(struct dp_node *node)
{
	for (uint32_t i = 0; i < node->live->rollup_count; i++) {
		struct tp_rollup *table =
			(struct tp_rollup *)(void *)((uint8_t *)node->live + node->live->rollup_at + i * node->live->rollup_bytes);
		/*
		 * In this order: a shard gives a table its file's id before it takes it out of `spare_table`, so whoever finds it
		 * promised no more (acquire) finds the id.
		 */
		bool promised = false;
		for (uint32_t s = 0; s < node->config.shard_count; s++)
			promised |= atomic_load_explicit(&node->shard[s].spare_table, memory_order_acquire) == table;
		if (!promised && !atomic_load_explicit(&table->file_id, memory_order_acquire))
			return table;
	}
	return NULL;
}

static uint32_t spares_give(struct dp_node *node)
{
	uint32_t done = 0;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_shard *shard = &node->shard[s];
		if (!atomic_load_explicit(&shard->spare_table, memory_order_acquire)) {
			struct tp_rollup *table = table_free(node);
			if (table) {
				/* release: the shard sees the table as we left it */
				atomic_store_explicit(&shard->spare_table, table, memory_order_release);
				done++;
			}
		}
		if (!sto_wal_spare_wanted(node->wal[s]))
			continue;
		int rc = sto_wal_spare_give(node->wal[s]);
		if (rc == -ENOSPC) {
			node->space_lacks = true;
		} else if (rc) {
			tp_logf(TP_ERROR, "cannot create a log file", "shard=%u error=\"%s\"", s, strerror(-rc));
			dp_node_fail(node, rc);
		} else {
			done++;
		}
	}
	return done;
}

/* Seals finished files, oldest first. A lack of space is waited out; anything else ends the process. */
static uint32_t files_seal(struct dp_node *node)
{
	uint32_t done = 0;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_shard_keeping *keeping = &node->keeping[s];
		uint64_t file_id;
		while (keeping->pending_count < DP_PENDING_FILES && (file_id = sto_wal_finished_take(node->wal[s])) != 0)
			keeping->pending[keeping->pending_count++] = file_id;
		if (!keeping->pending_count)
			continue;
		file_id = keeping->pending[0];
		struct tp_rollup *table = table_of(node, file_id);
		int rc = table ? sto_seal(node->store, file_id, table, NULL) : -EBADMSG;
		if (rc == -ENOSPC) {
			node->space_lacks = true;
			continue;
		}
		if (rc) {
			tp_logf(TP_ERROR, "cannot seal a log file", "file=%016" PRIx64 " error=\"%s\"", file_id, strerror(-rc));
			dp_node_fail(node, rc);
			return done;
		}
		/* The manifest has the file now: readers take the segment, and the table can go. */
		tp_rollup_reset(table, 0);
		rc = sto_log_delete(node->store, file_id);
		if (rc)
			tp_logf(TP_WARN, "cannot remove a sealed log file", "file=%016" PRIx64 " error=\"%s\"", file_id,
				strerror(-rc));
		keeping->sealed_file = file_id;
		memmove(keeping->pending, keeping->pending + 1, --keeping->pending_count * sizeof(keeping->pending[0]));
		atomic_fetch_add_explicit(&node->segments_sealed, 1, memory_order_relaxed);
		done++;
		spares_give(node);
	}
	return done;
}

static uint32_t lanes_look(struct dp_node *node)
{
	uint32_t done = 0;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_late_lane *lane = &node->shard[s].lane;
		uint64_t looked = atomic_load_explicit(&lane->looked, memory_order_relaxed);
		/* acquire: the entries below given are whole */
		uint64_t given = atomic_load_explicit(&lane->given, memory_order_acquire);
		for (uint32_t n = 0; looked != given && n < LANE_BURST; n++) {
			struct dp_late_entry *entry = &lane->entry[looked % DP_LATE_LANE];
			const struct tp_event *event = (const struct tp_event *)(const void *)entry->event;
			entry->lookup = sto_segments_lookup(node->store, event->id, (uint32_t)(event->timestamp_ms / TP_MINUTE_MS),
							    event->fingerprint);
			if (entry->lookup < 0)
				tp_logf(TP_ERROR, "late look-up failed", "error=\"%s\"", strerror(-entry->lookup));
			/* release: the shard sees the result */
			atomic_store_explicit(&lane->looked, ++looked, memory_order_release);
			done++;
		}
		if (done) {
			atomic_thread_fence(memory_order_seq_cst);
			dp_core_wake(node->shard_cores[s]);
		}
	}
	atomic_fetch_add_explicit(&node->late_lookups, done, memory_order_relaxed);
	return done;
}

/* Asks shards whose open file has had events for seal_after to finish it. */
static void files_age(struct dp_node *node, uint64_t now_ms)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_shard_keeping *keeping = &node->keeping[s];
		uint64_t file_id = atomic_load_explicit(&node->live->shard[s].file_id, memory_order_acquire);
		struct tp_rollup *table = file_id ? table_of(node, file_id) : NULL;
		if (!table || !atomic_load_explicit(&table->rows, memory_order_acquire)) {
			keeping->open_file = 0;
		} else if (keeping->open_file != file_id) {
			keeping->open_file = file_id;
			keeping->open_since_ms = now_ms;
		} else if (now_ms - keeping->open_since_ms >= node->config.seal_after_ms) {
			atomic_store_explicit(&node->shard[s].roll_wanted, 1, memory_order_relaxed);
			dp_core_wake(node->shard_cores[s]);
		}
	}
}

/* Each pause has its own number: a shard that has not noticed yet that the one before is over must not be taken for paused. */
static bool shards_paused(const struct dp_node *node, uint32_t pause)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		if (atomic_load_explicit(&node->shard[s].paused, memory_order_acquire) != pause)
			return false;
	return true;
}

static void shards_pause(struct dp_node *node, uint32_t pause)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		/* release: a shard that goes on sees the rotated table */
		atomic_store_explicit(&node->shard[s].pause_wanted, pause, memory_order_release);
		atomic_thread_fence(memory_order_seq_cst);
		dp_core_wake(node->shard_cores[s]);
	}
}

/*
 * True when no id of the previous generation can lie inside the horizon any more. What a generation held when it stopped taking ids
 * was stamped at most lateness + max_future above the watermark of then; minutes are whole, and the shards' clocks of events lag.
 */
static bool ids_outlived(const struct dp_node *node, uint64_t now_ms, uint64_t watermark_ms)
{
	uint64_t span = node->config.horizon_ms + node->config.lateness_ms + node->config.max_future_ms + 2 * TP_MINUTE_MS;
	/* And not at every turn of an old log that is replayed faster than it was written: each rotation ends a log file. */
	return watermark_ms - node->rotated_watermark_ms >= span && now_ms - node->rotated_ms >= node->config.horizon_ms;
}

/*
 * The id table gets a new generation when the current one is nearly full, or when the previous one has outlived the horizon of event
 * time. The previous one may be forgotten only when every log file that held one of its ids is sealed, because from then on only the
 * segments know them.
 */
static void ids_rotate(struct dp_node *node, uint64_t now_ms)
{
	uint64_t ids = agg_dedup_ids(node->dedup), ids_max = agg_dedup_ids_max(node->dedup);
	uint64_t watermark_ms = atomic_load_explicit(&node->live->watermark_ms, memory_order_relaxed);
	bool wanted = ids > ids_max / 10 * 9 || (ids && ids_outlived(node, now_ms, watermark_ms));
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		wanted |= atomic_load_explicit(&node->shard[s].rotate_wanted, memory_order_relaxed) != 0;
	if (!wanted || !agg_dedup_can_rotate(node->dedup))
		return;
	bool sealed = true;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		const struct dp_shard_keeping *keeping = &node->keeping[s];
		if (keeping->sealed_file >= keeping->rotation_file)
			continue;
		sealed = false;
		if (atomic_load_explicit(&node->live->shard[s].file_id, memory_order_acquire) == keeping->rotation_file)
			atomic_store_explicit(&node->shard[s].roll_wanted, 1, memory_order_relaxed);
		dp_core_wake(node->shard_cores[s]);
	}
	if (!sealed)
		return;
	if (++node->pauses == 0)
		node->pauses = 1;
	shards_pause(node, node->pauses);
	uint64_t until_ns = tp_mono_ns() + PAUSE_NS_MAX;
	while (!shards_paused(node, node->pauses) && tp_mono_ns() < until_ns)
		nap(20000);
	if (shards_paused(node, node->pauses)) {
		for (uint32_t s = 0; s < node->config.shard_count; s++) {
			uint64_t file_id = atomic_load_explicit(&node->live->shard[s].file_id, memory_order_acquire);
			struct tp_rollup *table = file_id ? table_of(node, file_id) : NULL;
			bool empty = !table || !atomic_load_explicit(&table->rows, memory_order_acquire);
			struct dp_shard_keeping *keeping = &node->keeping[s];
			/* paused with release, so that what the shard last rolled from is seen */
			keeping->rotation_file =
				empty ? atomic_load_explicit(&node->shard[s].previous_file, memory_order_relaxed) : file_id;
			atomic_store_explicit(&node->shard[s].rotate_wanted, 0, memory_order_relaxed);
		}
		agg_dedup_rotate(node->dedup);
		node->rotated_ms = now_ms;
		node->rotated_watermark_ms = watermark_ms;
	}
	shards_pause(node, 0);
	agg_dedup_clear_spare(node->dedup);
}

static void retain(struct dp_node *node, uint64_t now_ms)
{
	if (now_ms <= node->config.retention_raw_ms)
		return;
	int removed = sto_retain(node->store, now_ms - node->config.retention_raw_ms);
	if (removed > 0)
		tp_logf(TP_INFO, "segments retired", "count=%d", removed);
	else if (removed < 0)
		tp_logf(TP_WARN, "cannot retire segments", "error=\"%s\"", strerror(-removed));
}

int dp_housekeeping_prime(struct dp_node *node)
{
	node->rotated_ms = tp_now_ms();
	node->rotated_watermark_ms = atomic_load_explicit(&node->live->watermark_ms, memory_order_relaxed);
	spares_give(node);
	/* A full disk is no reason not to start: beacons are refused until there is space. */
	atomic_store(&node->no_space, node->space_lacks);
	return atomic_load(&node->failed);
}

void *dp_housekeeping_main(void *context)
{
	struct dp_node *node = context;
	uint64_t retained_ms = 0;
	pthread_setname_np(pthread_self(), "housekeeping");
	/* This thread only (Linux keeps niceness per thread): the shard cores come first. */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
	while (!atomic_load_explicit(&node->stop_housekeeping, memory_order_acquire)) {
		uint64_t now_ms = tp_now_ms();
		node->space_lacks = false;
		uint32_t done = spares_give(node);
		done += lanes_look(node);
		done += files_seal(node);
		atomic_store_explicit(&node->no_space, node->space_lacks, memory_order_relaxed);
		files_age(node, now_ms);
		ids_rotate(node, now_ms);
		if (now_ms - retained_ms >= RETAIN_EVERY_MS) {
			retain(node, now_ms);
			retained_ms = now_ms;
		}
		if (!done)
			nap(ROUND_NS);
	}
	return NULL;
}
