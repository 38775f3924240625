/*
 * Long random lives of a data folder on the simulated disk: several shards, another number of them after each start, files that roll,
 * are sealed and recycled, disks that are slow, full for a while, or lose power at any operation. All from one seed, in one thread.
 *
 *   crash_sim [--seeds N] [--from SEED] [--verbose]
 *
 * After each end, by kill or by power failure, recovery must show
 *   acknowledged ⊆ recovered ⊆ appended, each event once;
 *   sums of the segments = those of a plain model over the recovered events;
 *   a second recovery the same as the first.
 * A seed that fails is printed, and replays exactly.
 */
#include "crash_rig.h"
#include "turnpike/log.h"
#include "turnpike/reader.h"

#include <inttypes.h>

enum { SHARDS_MAX = 4, LIVES_MAX = 6, STEPS_MAX = 700 };

struct sim {
	struct sim_disk *disk;
	struct ledger ledger;
	uint64_t seed, random;
	struct sto_store *store;
	uint32_t shards;
	struct {
		struct sto_wal *wal;
		uint64_t number[EVENTS_MAX]; /* of the n-th record appended in this life */
		uint64_t appended, told;
	} shard[SHARDS_MAX];
	uint64_t now_ns;
	uint64_t crashes, fulls, seals, merges, recycled;
	bool verbose;
};

static uint64_t dice(struct sim *sim, uint64_t sides)
{
	return (sim->random = sample_mix(sim->random)) % sides;
}

static int complain(const struct sim *sim, const char *what, uint64_t which)
{
	fprintf(stderr, "seed %" PRIu64 ": %s (%" PRIu64 ")\n", sim->seed, what, which);
	return -EPROTO;
}

/* ---- one life ---- */

static int completions(struct sim *sim, uint32_t s)
{
	struct sto_wal *wal = sim->shard[s].wal;
	int rc = sto_wal_poll(wal);
	if (rc < 0)
		return rc;
	uint64_t durable = sto_wal_durable(wal);
	if (durable > sto_wal_appended(wal))
		return complain(sim, "more is durable than was appended", durable);
	for (; sim->shard[s].told < durable; sim->shard[s].told++)
		sim->ledger.acknowledged[sim->shard[s].number[sim->shard[s].told]] = 1;
	return 0;
}

static int append(struct sim *sim, uint32_t s)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct sto_wal *wal = sim->shard[s].wal;
	if (sim->ledger.appended == EVENTS_MAX)
		return 0;
	if (sto_wal_must_roll(wal) || dice(sim, 60) == 0) {
		int rc = sto_wal_roll(wal);
		if (rc == -EAGAIN)
			return 0;
		if (rc < 0)
			return rc;
	}
	if (sto_wal_must_roll(wal))
		return 0;
	const struct tp_event *event = sample_event(room, sim->ledger.appended);
	void *at = sto_wal_reserve(wal, event->bytes);
	if (!at)
		return 0;
	memcpy(at, event, event->bytes);
	sto_wal_append(wal, event->bytes, sim->now_ns);
	sim->shard[s].number[sim->shard[s].appended++] = sim->ledger.appended++;
	return 0;
}

static int into_rollup(void *context, const struct tp_event *event)
{
	tp_rollup_add(context, event);
	return 0;
}

static int seal_one(struct sim *sim, uint64_t file_id)
{
	struct tp_rollup *rollup = sample_rollup(file_id);
	int rc = sto_log_read(sim->store, file_id, into_rollup, rollup, NULL);
	if (!rc)
		rc = sto_seal(sim->store, file_id, rollup, NULL);
	if (!rc)
		rc = sto_log_delete(sim->store, file_id);
	free(rollup);
	sim->seals += rc == 0;
	return rc;
}

/* What finished files wait for their seal: the store remembers. */
static int seal_some(struct sim *sim, uint32_t at_most)
{
	uint64_t *ids;
	uint32_t count;
	int rc = sto_store_unsealed(sim->store, &ids, &count);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < count && i < at_most && !rc; i++)
		rc = seal_one(sim, ids[i]);
	free(ids);
	if (rc == -ENOSPC)
		sto_store_space_release(sim->store);
	return rc == -ENOSPC ? 0 : rc;
}

static int spare(struct sim *sim, uint32_t s)
{
	uint32_t kept = sim->store->pool.count;
	int rc = sto_wal_spare_wanted(sim->shard[s].wal) ? sto_wal_spare_give(sim->shard[s].wal) : 0;
	sim->recycled += sim->store->pool.count < kept;
	return rc == -ENOSPC ? 0 : rc;
}

static int merge(struct sim *sim)
{
	const struct sto_merge_options now = {.now = true};
	int rc = sto_merge_step(sim->store, &now);
	sim->merges += rc > 0;
	return rc > 0 || rc == -ENOSPC ? 0 : rc;
}

static int step(struct sim *sim)
{
	uint32_t s = (uint32_t)dice(sim, sim->shards);
	sim->now_ns += dice(sim, 5) == 0 ? 30000000 : dice(sim, 2000);
	int rc = 0;
	switch (dice(sim, 16)) {
	case 0:
		rc = spare(sim, s);
		break;
	case 1:
		sto_wal_finished_take(sim->shard[s].wal);
		break;
	case 2:
		rc = seal_some(sim, 1);
		break;
	case 3:
		if (dice(sim, 12) == 0) {
			sim_space_set(sim->disk, dice(sim, 4) ? 1 << 30 : sim_space_used(sim->disk) + dice(sim, 40000));
			sim->fulls++;
		}
		break;
	case 4:
		rc = dice(sim, 8) ? 0 : merge(sim);
		break;
	default:
		rc = append(sim, s);
	}
	if (!rc)
		rc = sto_wal_flush(sim->shard[s].wal, sim->now_ns, SAMPLE_MS + sim->now_ns / 1000000, dice(sim, 6) == 0);
	return rc < 0 ? rc : completions(sim, s);
}

static int life_open(struct sim *sim)
{
	const struct sto_store_options options = {
		.data_dir = "var/data", .log_file_bytes = 4096 * (8 + dice(sim, 8)), .preallocate = dice(sim, 4) != 0};
	sim->shards = 1 + (uint32_t)dice(sim, SHARDS_MAX);
	int rc = store_open(&sim->store, &options, sim_disk_io(sim->disk));
	/* Some of what was left is sealed first, the rest while new events come. */
	if (!rc)
		rc = seal_some(sim, (uint32_t)dice(sim, 4));
	for (uint32_t s = 0; s < sim->shards && !rc; s++) {
		const struct sto_wal_options wal = {.shard = s,
						    .commit_interval_ns = 1000,
						    .block_bytes_max = 4096 * (1 + (uint32_t)dice(sim, 4)),
						    .writes_in_flight = 1 + (uint32_t)dice(sim, 5),
						    .reserve_bytes = 4096};
		sim->shard[s].appended = sim->shard[s].told = 0;
		rc = sto_wal_open(&sim->shard[s].wal, sim->store, &wal);
	}
	return rc;
}

static void life_close(struct sim *sim)
{
	for (uint32_t s = 0; s < SHARDS_MAX; s++) {
		if (sim->shard[s].wal)
			sto_wal_close(sim->shard[s].wal);
		sim->shard[s].wal = NULL;
	}
	sto_store_close(sim->store);
	sim->store = NULL;
}

static int life(struct sim *sim)
{
	uint64_t steps = dice(sim, STEPS_MAX);
	sim_speed_set(sim->disk, 10 + (uint32_t)dice(sim, 90));
	if (dice(sim, 4))
		sim_crash_at(sim->disk, sim_operations(sim->disk) + dice(sim, 1500));
	int rc = life_open(sim);
	for (uint64_t i = 0; i < steps && !rc; i++)
		rc = step(sim);
	/* A clean end, or none: the disk is as it is. */
	if (!rc && dice(sim, 2))
		sim_crash_at(sim->disk, sim_operations(sim->disk));
	bool crashed = sim_crashed(sim->disk);
	life_close(sim);
	if (rc && !crashed)
		return complain(sim, "an error out of nothing", (uint64_t)-rc);
	sim->crashes += sim_crashed(sim->disk);
	return 0;
}

/* ---- the oracle ---- */

struct model {
	uint64_t impressions, clicks, flagged, conversions, late;
	__int128 spend;
};

static void model_event(struct model *model, uint64_t n)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	const struct tp_event *event = sample_event(room, n);
	if (event->verdict == TP_CONFLICT)
		return;
	model->late += event->verdict == TP_LATE;
	switch (event->type) {
	case TP_IMPRESSION:
		model->impressions++;
		break;
	case TP_CLICK:
		model->flagged += event->fraud != 0;
		model->clicks += event->fraud == 0;
		model->spend += event->fraud ? 0 : event->bid_micros;
		break;
	default:
		model->conversions++;
	}
}

static bool row_add(void *context, const struct tp_rollup_row *row, const char *heap)
{
	struct model *sums = context;
	(void)heap;
	sums->impressions += row->sums.impressions;
	sums->clicks += row->sums.clicks;
	sums->flagged += row->sums.flagged_clicks;
	sums->conversions += row->sums.conversions;
	sums->late += row->sums.late;
	sums->spend += row->sums.spend_micros;
	return true;
}

/* All that is recovered is sealed by now; some of it merged into rollup files. */
static int sums_check(struct sim *sim)
{
	struct model wanted = {0}, got = {0};
	for (uint64_t n = 0; n < sim->ledger.appended; n++)
		if (sim->ledger.found[n])
			model_event(&wanted, n);
	struct sto_reader *reader;
	int rc = reader_open(&reader, "var/data", sim_disk_io(sim->disk));
	if (!rc)
		rc = sto_reader_refresh(reader);
	const struct sto_sums_query all = {.to_minute = UINT32_MAX, .grain = STO_MINUTES};
	if (rc >= 0)
		rc = sto_reader_sums(reader, &all, row_add, &got, NULL);
	sto_reader_close(reader);
	if (rc < 0)
		return complain(sim, "the reader fails", (uint64_t)-rc);
	if (got.impressions != wanted.impressions || got.clicks != wanted.clicks || got.flagged != wanted.flagged ||
	    got.conversions != wanted.conversions || got.late != wanted.late || got.spend != wanted.spend)
		return complain(sim, "the sums are not those of the events", got.clicks);
	return 0;
}

static int look(struct sim *sim, bool seal, const char *when)
{
	int rc = rig_look(sim->disk, &sim->ledger, seal);
	if (sim->ledger.broken)
		return complain(sim, when, UINT64_MAX);
	if (rc)
		return complain(sim, when, (uint64_t)-rc);
	uint64_t lost = rig_lost(&sim->ledger);
	return lost == UINT64_MAX ? 0 : complain(sim, "an acknowledged event is lost", lost);
}

static int recover(struct sim *sim)
{
	static uint8_t first[EVENTS_MAX];
	enum sim_end end = dice(sim, 2) ? SIM_POWER : SIM_KILL;
	sim_restart(sim->disk, end, dice(sim, UINT32_MAX));
	sim_space_set(sim->disk, 1 << 30);
	/* Sometimes the next life recovers by itself, with whatever this one left. */
	if (dice(sim, 3) == 0)
		return 0;
	int rc = look(sim, false, "recovery fails");
	if (rc)
		return rc;
	memcpy(first, sim->ledger.found, sizeof(first));
	if (dice(sim, 2)) {
		sim_crash_at(sim->disk, sim_operations(sim->disk) + dice(sim, 60));
		rig_look(sim->disk, &sim->ledger, true);
		sim_restart(sim->disk, SIM_POWER, dice(sim, UINT32_MAX));
	}
	rc = look(sim, true, "the second recovery fails");
	if (!rc && memcmp(first, sim->ledger.found, sizeof(first)) != 0)
		rc = complain(sim, "recovering twice is not recovering once", 0);
	/* What was recovered once must stay. */
	memcpy(sim->ledger.acknowledged, sim->ledger.found, sizeof(first));
	return rc ? rc : sums_check(sim);
}

static int run_seed(struct sim *sim, uint64_t seed)
{
	memset(&sim->ledger, 0, sizeof(sim->ledger));
	sim->seed = seed;
	sim->random = sample_mix(seed);
	sim->disk = sim_disk_new(seed);
	sim->now_ns = 1000000000;
	int rc = 0;
	for (uint64_t lives = 1 + dice(sim, LIVES_MAX); lives > 0 && !rc; lives--) {
		rc = life(sim);
		if (!rc)
			rc = recover(sim);
	}
	if (!rc)
		rc = look(sim, true, "the last recovery fails");
	if (!rc)
		rc = sums_check(sim);
	if (sim->verbose)
		printf("seed %" PRIu64 ": %" PRIu64 " events, %" PRIu64 " operations\n", seed, sim->ledger.appended,
		       sim_operations(sim->disk));
	sim_disk_free(sim->disk);
	return rc;
}

int main(int argc, char **argv)
{
	static struct sim sim;
	uint64_t seeds = 1000, from = 1, failed = 0, events = 0;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seeds") && i + 1 < argc)
			seeds = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--from") && i + 1 < argc)
			from = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--verbose"))
			sim.verbose = true;
		else
			return fprintf(stderr, "usage: crash_sim [--seeds N] [--from SEED] [--verbose]\n"), 2;
	}
	tp_log_level_set(sim.verbose ? TP_INFO : TP_ERROR + 1);
	for (uint64_t seed = from; seed < from + seeds; seed++) {
		failed += run_seed(&sim, seed) != 0;
		events += sim.ledger.appended;
	}
	printf("seeds=%" PRIu64 " events=%" PRIu64 " crashes=%" PRIu64 " seals=%" PRIu64 " merges=%" PRIu64 " recycled=%" PRIu64
	       " full=%" PRIu64 " failed=%" PRIu64 "\n",
	       seeds, events, sim.crashes, sim.seals, sim.merges, sim.recycled, sim.fulls, failed);
	return failed != 0;
}
