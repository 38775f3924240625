/*
 * See crash_rig.h.
 */
#include "crash_rig.h"

#include "log_read.h"
#include "turnpike/reader.h"

#include <assert.h>

uint64_t rig_random(struct run *run)
{
	return run->random = sample_mix(run->random);
}

static int into_rollup(void *context, const struct tp_event *event)
{
	tp_rollup_add(context, event);
	return 0;
}

static int seal_one(struct sto_store *store, uint64_t file_id)
{
	struct tp_rollup *rollup = sample_rollup(file_id);
	int rc = sto_log_read(store, file_id, into_rollup, rollup, NULL);
	if (!rc)
		rc = sto_seal(store, file_id, rollup, NULL);
	if (!rc)
		rc = sto_log_delete(store, file_id);
	free(rollup);
	return rc;
}

int rig_seal_unsealed(struct sto_store *store)
{
	uint64_t *ids;
	uint32_t count;
	int rc = sto_store_unsealed(store, &ids, &count);
	for (uint32_t i = 0; i < count && !rc; i++)
		rc = seal_one(store, ids[i]);
	free(ids);
	return rc;
}

/* The shard's poll: what is durable is acknowledged to the client. */
int rig_completions(struct run *run)
{
	int rc = sto_wal_poll(run->wal);
	if (rc < 0)
		return rc;
	uint64_t durable = sto_wal_durable(run->wal);
	assert(durable <= sto_wal_appended(run->wal));
	for (; run->told < durable; run->told++)
		run->ledger->acknowledged[run->base + run->told] = 1;
	return 0;
}

int rig_housekeep(struct run *run)
{
	int rc = 0;
	if (sto_wal_spare_wanted(run->wal)) {
		rc = sto_wal_spare_give(run->wal);
		if (rc == -ENOSPC)
			rc = 0;
	}
	for (uint64_t id; !rc && (id = sto_wal_finished_take(run->wal));)
		rc = seal_one(run->store, id);
	return rc;
}

int rig_append(struct run *run)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct ledger *ledger = run->ledger;
	int rc = 0;
	for (int tries = 0; tries < 200 && !rc; tries++) {
		rc = rig_completions(run);
		if (rc)
			break;
		if (sto_wal_must_roll(run->wal) || rig_random(run) % 40 == 0) {
			rc = sto_wal_roll(run->wal);
			if (rc == -EAGAIN)
				rc = rig_housekeep(run);
			if (sto_wal_must_roll(run->wal))
				continue;
		}
		const struct tp_event *event = sample_event(room, ledger->appended);
		void *at = rc ? NULL : sto_wal_reserve(run->wal, event->bytes);
		if (!at)
			continue;
		memcpy(at, event, event->bytes);
		sto_wal_append(run->wal, event->bytes, run->now_ns);
		ledger->appended++;
		return 0;
	}
	return rc ? rc : -EAGAIN;
}

int rig_life(struct run *run)
{
	const struct sto_store_options options = {
		.data_dir = "var/data", .log_file_bytes = RIG_LOG_FILE_BYTES, .preallocate = run->random & 1};
	const struct sto_wal_options wal_options = {
		.shard = 1, .commit_interval_ns = 1000, .block_bytes_max = 8192, .writes_in_flight = 3, .reserve_bytes = 4096};
	run->base = run->ledger->appended;
	int rc = store_open(&run->store, &options, sim_disk_io(run->disk));
	if (!rc)
		rc = rig_seal_unsealed(run->store);
	if (!rc)
		rc = sto_wal_open(&run->wal, run->store, &wal_options);
	for (int i = 0; i < RIG_LIFE_EVENTS && !rc; i++) {
		run->now_ns += rig_random(run) % 700;
		rc = rig_append(run);
		if (!rc)
			rc = sto_wal_flush(run->wal, run->now_ns, SAMPLE_MS + run->now_ns, rig_random(run) % 8 == 0);
		if (rc >= 0 && rig_random(run) % 16 == 0)
			rc = rig_housekeep(run);
		rc = rc < 0 ? rc : 0;
	}
	for (int i = 0; i < 100 && !rc && sto_wal_durable(run->wal) != sto_wal_appended(run->wal); i++) {
		rc = sto_wal_flush(run->wal, run->now_ns += 1000000000, 0, true);
		rc = rc < 0 ? rc : rig_completions(run);
	}
	const struct sto_merge_options now = {.now = true};
	const struct sto_retention keep = {.raw_ms = UINT64_MAX};
	struct sto_retained retained;
	while (!rc && (rc = sto_merge_step(run->store, &now)) > 0)
		rc = 0;
	if (!rc)
		rc = sto_retain(run->store, &keep, SAMPLE_MS, &retained);
	return rc < 0 ? rc : 0;
}

/* Closing does what it can on a disk that may be gone; what becomes durable on the way counts as told. */
void rig_life_end(struct run *run)
{
	if (run->wal)
		sto_wal_close(run->wal);
	sto_store_close(run->store);
	run->wal = NULL;
	run->store = NULL;
}

int rig_event_found(void *context, const struct tp_event *event)
{
	struct ledger *ledger = context;
	uint64_t n = sample_number(event);
	if (n >= ledger->appended || ledger->found[n] || n < ledger->last) {
		ledger->broken = true;
		return -EPROTO;
	}
	ledger->last = n + 1;
	ledger->found[n] = 1;
	return 0;
}

/* Everything that a restarted node has: logs and segments. May be cut short by a crash again. */
int rig_look(struct sim_disk *disk, struct ledger *ledger, bool seal)
{
	const struct sto_store_options options = {
		.data_dir = "var/data", .log_file_bytes = RIG_LOG_FILE_BYTES, .preallocate = true};
	struct sto_store *store = NULL;
	memset(ledger->found, 0, sizeof(ledger->found));
	int rc = store_open(&store, &options, sim_disk_io(disk));
	if (!rc && seal)
		rc = rig_seal_unsealed(store);
	for (uint32_t i = 0; !rc && i < store->view->segments; i++) {
		ledger->last = 0; /* a log that found no room to be sealed comes after later ones */
		rc = store_segment_use(store, store->view, store->view->segment[i]);
		if (!rc)
			rc = segment_events(&store->view->segment[i]->file, rig_event_found, ledger);
	}
	uint64_t *ids = NULL;
	uint32_t count = 0;
	if (!rc)
		rc = sto_store_unsealed(store, &ids, &count);
	for (uint32_t i = 0; i < count && !rc; i++) {
		ledger->last = 0;
		rc = sto_log_read(store, ids[i], rig_event_found, ledger, NULL);
	}
	free(ids);
	sto_store_close(store);
	return rc;
}

uint64_t rig_lost(const struct ledger *ledger)
{
	for (uint64_t n = 0; n < ledger->appended; n++)
		if (ledger->acknowledged[n] && !ledger->found[n])
			return n;
	return UINT64_MAX;
}
