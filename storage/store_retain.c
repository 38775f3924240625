/*
 * Retention: what is older than its class is kept for is deleted, whole files only, by one manifest append each, then unlink.
 *
 * Age counts from the sealing (of a rollup file: of the newest segment in it), not from the events' stamps, so an old log that is
 * replayed is kept like a new one. Order: raw, then minutes, hours, days, each oldest first: the finest and largest goes first, and what
 * is summed in a coarser class is still there when the finer one goes.
 *
 * A segment whose sums are not in rollup files yet is never deleted: its figures would go with it. A class is kept at least as long as
 * the finer ones, whatever the configuration says: else a question for old minutes would be answered, one for the day of them not.
 * Nothing is ever deleted before its time to make room: the node refuses beacons instead, and says so.
 *
 * Threads: any. A rollup file that may be in a merge stays for the next time.
 */
#include "store_state.h"
#include "turnpike/log.h"

#include <inttypes.h>
#include <string.h>

void sto_retention_effective(const struct sto_retention *wanted, uint64_t age_ms[STO_RETENTION_CLASSES])
{
	age_ms[STO_RETAIN_RAW] = wanted->raw_ms;
	age_ms[STO_RETAIN_MINUTE] = wanted->minute_ms > age_ms[STO_RETAIN_RAW] ? wanted->minute_ms : age_ms[STO_RETAIN_RAW];
	age_ms[STO_RETAIN_HOUR] = wanted->hour_ms > age_ms[STO_RETAIN_MINUTE] ? wanted->hour_ms : age_ms[STO_RETAIN_MINUTE];
	age_ms[STO_RETAIN_DAY] = wanted->day_ms > age_ms[STO_RETAIN_HOUR] ? wanted->day_ms : age_ms[STO_RETAIN_HOUR];
}

static bool expired(uint64_t sealed_ms, uint64_t age_ms, uint64_t now_ms)
{
	return now_ms >= sealed_ms && now_ms - sealed_ms >= age_ms;
}

static void file_remove(struct sto_store *store, const char *path)
{
	/* Retired is retired: a file that stays is taken away at the next start. */
	int rc = store->io->unlink(store->io, path);
	if (rc)
		tp_logf(TP_WARN, "a file beyond its retention cannot be removed", "file=%s error=\"%s\"", path, strerror(-rc));
}

static int segments_retain(struct sto_store *store, uint64_t age_ms, uint64_t now_ms, struct sto_retained *retained)
{
	int rc = 0;
	uint64_t covered = sto_covered(store);
	struct store_view *view = store_view_take(store);
	for (uint32_t i = 0; i < view->segments && !rc; i++) {
		const struct manifest_segment *facts = &view->segment[i]->facts;
		if (facts->sequence > covered || !expired(facts->sealed_ms, age_ms, now_ms))
			continue;
		char path[STORE_PATH_BYTES];
		struct manifest_record record = {.kind = MANIFEST_RETIRED, .segment.sequence = facts->sequence};
		rc = folder_segment_path(path, store->data_dir, facts->sequence, facts->generation);
		if (!rc)
			rc = store_commit(store, &record, 1);
		if (rc)
			break;
		retained->files[STO_RETAIN_RAW]++;
		retained->bytes[STO_RETAIN_RAW] += facts->bytes;
		file_remove(store, path);
	}
	store_view_give(store, view);
	return rc;
}

/* One rollup file of the class that is due. 1: removed; 0: none. */
static int rollup_retain(struct sto_store *store, enum manifest_class class, uint64_t age_ms, uint64_t now_ms, uint64_t *bytes)
{
	struct manifest_record record = {.kind = MANIFEST_ROLLUP_GONE};
	bool found = false;
	pthread_mutex_lock(&store->lock);
	for (uint32_t i = 0; i < store->rollups && !found; i++) {
		found = store->rollup[i].class == class && expired(store->rollup[i].sealed_ms_max, age_ms, now_ms);
		if (found)
			record.rollup = store->rollup[i];
	}
	pthread_mutex_unlock(&store->lock);
	if (!found)
		return 0;
	char path[STORE_PATH_BYTES];
	record.rollup.reason = MANIFEST_EXPIRED;
	int rc = folder_rollup_path(path, store->data_dir, record.rollup.sequence, false);
	if (!rc)
		rc = store_commit(store, &record, 1);
	if (rc)
		return rc;
	*bytes += record.rollup.bytes;
	file_remove(store, path);
	return 1;
}

int sto_retain(struct sto_store *store, const struct sto_retention *retention, uint64_t now_ms, struct sto_retained *retained)
{
	uint64_t age_ms[STO_RETENTION_CLASSES];
	memset(retained, 0, sizeof(*retained));
	sto_retention_effective(retention, age_ms);
	int rc = segments_retain(store, age_ms[STO_RETAIN_RAW], now_ms, retained);
	if (rc || pthread_mutex_trylock(&store->merge_lock))
		return rc;
	for (int c = 0; c < MANIFEST_CLASSES && rc >= 0; c++)
		while ((rc = rollup_retain(store, (enum manifest_class)c, age_ms[STO_RETAIN_MINUTE + c], now_ms,
					   &retained->bytes[STO_RETAIN_MINUTE + c])) > 0)
			retained->files[STO_RETAIN_MINUTE + c]++;
	pthread_mutex_unlock(&store->merge_lock);
	return rc;
}
