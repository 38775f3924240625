/*
 * sim: the whole way of a click under one seed, against a model. Usage:
 *
 *   sim [--seeds N] [--from SEED] [--stop]   N seeds; prints a line of totals; --stop: the first failure ends it
 *   sim --seed SEED [--verbose]          one, told step by step
 *   sim --twice …                            each seed a second time: log, segments and manifest have to come out byte for byte the same
 *       [--events N] [--faults MASK]     with fewer events or without some faults (enum fault), to find what a failure needs
 *
 * A seed first draws what it is like (how many events, which faults, how eager the clients, how large the tables), then moves one actor
 * after the other, in an order that it draws as well. When all has been sent it mends the network and the disk, lets the clients insist
 * until everything is acknowledged, stops the node cleanly, and compares every figure.
 *
 * Time is the simulator's: it moves a little with each turn, and in leaps when a seed wants silence.
 */
#include "sim.h"

#include "commit.h"
#include "turnpike/log.h"
#include "turnpike/rules.h"

#include <stdarg.h>
#include <time.h>

enum { START_TRIES = 40, TURNS_MAX = 4000000, FINAL_TURNS_MAX = 400000 };

static uint64_t mix(uint64_t z)
{
	z += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

uint64_t dice(struct world *w, uint64_t sides)
{
	w->random = mix(w->random);
	return sides ? w->random % sides : 0;
}

void complain(struct world *w, const char *format, ...)
{
	va_list list;
	if (w->broken && !w->verbose)
		return;
	w->broken = true;
	va_start(list, format);
	fprintf(stderr, "seed %" PRIu64 ", %.3f s, life %u: ", w->seed, (double)w->now_ns / 1e9, w->life);
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	va_end(list);
}

/* ---- what breaks ---- */

static void disk_plague(struct world *w)
{
	switch (dice(w, 6)) {
	case 0:
		if (w->faults & FAULT_CRASH)
			sim_crash_at(w->disk, sim_operations(w->disk) + dice(w, 80));
		break;
	case 1:
		if (w->faults & FAULT_DISK)
			sim_fail_at(w->disk, sim_operations(w->disk) + dice(w, 80), -EIO);
		break;
	case 2:
		if (w->faults & FAULT_SPACE) {
			sim_space_set(w->disk, sim_space_used(w->disk) + dice(w, 600000));
			w->tally_full++;
		}
		break;
	case 3:
		sim_speed_set(w->disk, w->faults & FAULT_DISK ? 2 + (uint32_t)dice(w, 98) : 66);
		break;
	default:
		sim_space_set(w->disk, UINT64_C(1) << 30);
	}
}

static void time_move(struct world *w)
{
	uint64_t kind = dice(w, 4000);
	w->tally_steps++;
	if (kind < 3000)
		w->now_ns += dice(w, 60000);
	else if (kind < 3990)
		w->now_ns += dice(w, 1500000);
	else if (kind < 3998)
		w->now_ns += dice(w, 200000000);
	else if (w->faults & FAULT_IDLE && !w->final)
		w->now_ns += dice(w, chance(w, 3) ? UINT64_C(1800000000000) : UINT64_C(60000000000));
	if (w->faults & FAULT_CLOCK && !w->final && chance(w, 8000)) {
		int64_t step = (int64_t)dice(w, 200000) - 100000;
		w->step_ms += step;
		w->clock_stepped |= step < 0;
		w->clock_stepped_ever |= step < 0;
		w->step_ms_ever = true;
		for (uint32_t i = 0; i < w->messages; i++)
			if (!w->message[i].done && w->message[i].wall_ms_low > wall_ms(w))
				w->message[i].wall_ms_low = wall_ms(w);
		if (w->verbose)
			printf("  %8.3f s: the clock is set by %" PRId64 " ms\n", (double)w->now_ns / 1e9, step);
	}
	if (wall_ms(w) > w->wall_ms_max)
		w->wall_ms_max = wall_ms(w);
}

/* ---- lives ---- */

static void mend(struct world *w)
{
	sim_crash_at(w->disk, UINT64_MAX);
	sim_fail_at(w->disk, UINT64_MAX, 0);
	sim_space_set(w->disk, UINT64_C(1) << 30);
	sim_speed_set(w->disk, 66);
}

static void life_next(struct world *w)
{
	for (int tries = 0; tries < START_TRIES && !w->broken; tries++) {
		mend(w);
		if (w->faults & FAULT_CRASH && !w->final && chance(w, 5))
			sim_crash_at(w->disk, sim_operations(w->disk) + dice(w, 40));
		if (life_start(w))
			return;
		sim_restart(w->disk, chance(w, 2) ? SIM_POWER : SIM_KILL, dice(w, UINT32_MAX));
		w->now_ns += dice(w, 2000000000);
	}
	complain(w, "the node does not start");
}

static void life_over(struct world *w)
{
	bool clean = !w->down_wanted && (w->final || chance(w, 2));
	if (clean)
		sim_crash_at(w->disk, w->faults & FAULT_CRASH && !w->final && chance(w, 4) ? sim_operations(w->disk) + dice(w, 60)
											   : UINT64_MAX);
	life_end(w, clean);
	sim_restart(w->disk, chance(w, 2) ? SIM_POWER : SIM_KILL, dice(w, UINT32_MAX));
	w->now_ns += dice(w, chance(w, 4) ? UINT64_C(120000000000) : UINT64_C(3000000000));
}

/* ---- a seed ---- */

static void turn(struct world *w)
{
	time_move(w);
	if (chance(w, 3))
		crowd_turn(w);
	life_turn(w);
	if (chance(w, 700))
		check_live(w);
	if (w->final)
		return;
	if (chance(w, 1500))
		disk_plague(w);
	if (w->faults & FAULT_RELOAD && chance(w, 6000)) {
		life_rules(w, false);
		w->tally_reloads++;
	}
	if (w->down_wanted || (w->faults & (FAULT_CRASH | FAULT_CLOCK) && chance(w, 9000))) {
		life_over(w);
		life_next(w);
	}
}

static bool listed(const void *context, const struct tp_addr *addr)
{
	(void)context;
	return addr->family == 4 && model_listed((uint32_t)addr->byte[14] << 8 | addr->byte[15]);
}

/* Another generator than the world's: what is drawn here moves nothing else, and a seed of before stays what it was. */
static bool also(const struct world *w, uint32_t rule)
{
	return mix(mix(w->seed + 2) + rule) % 2;
}

static void place_find(const void *context, const uint8_t ip[16], struct agg_place *place)
{
	const char *country = script_country(model_place((uint32_t)ip[14] << 8 | ip[15]));
	(void)context;
	place->has_country = country[0] != 0;
	memcpy(place->country, place->has_country ? country : "\0", 2);
	place->asn = model_system((uint32_t)ip[14] << 8 | ip[15]);
}

/* Lists, places and a model that judge a click by itself: their data made here, what must follow in model_fraud.c. */
static void lookups_draw(struct world *w)
{
	static const struct agg_model_node node[] = {
		{.value = 10, .left = 1, .feature = AGG_F_MOUSE_MOVES}, /* not known: right */
		{.value = 500000e-6f, .left = 3, .feature = AGG_F_BID}, /* not known: right */
		{.value = -4},
		{.value = 3},
		{.value = 1},
	};
	static const uint32_t root[] = {0};
	static const struct agg_model model = {.node = node, .root = root, .trees = 1, .nodes = 5};
	static const struct agg_places places = {.find = place_find};
	static const uint32_t asn[] = {MODEL_BOT_ASN};
	static const struct agg_asns asns = {.asn = asn, .count = 1};
	static const uint16_t list_of[] = {0, 1};
	static const char name[][8] = {"bots", "more"};
	static struct agg_ranges ranges;
	if (!ranges.set) {
		const struct tp_prefix prefix[] = {{.addr = tp_addr_v4((const uint8_t[]){198, 51, 0, 64}), .bits = 27},
						   {.addr = tp_addr_v4((const uint8_t[]){198, 51, 0, 2}), .bits = 32}};
		ranges = (struct agg_ranges){.set = tp_prefix_set_build(prefix, 2), .list_of = list_of, .name = name};
		if (!ranges.set)
			abort();
	}
	w->also.bot_addresses = also(w, 0) ? &ranges : NULL;
	w->also.places = also(w, 1) ? &places : NULL;
	w->also.bot_asns = also(w, 2) ? &asns : NULL;
	w->also.geo_mismatch = also(w, 3);
	w->also.model = also(w, 4) ? &model : NULL;
	w->also.model_threshold = 900000; /* 3 is a probability of 0.95, 1 of 0.73 */
}

/* Which rules are on beyond those of every seed. */
static void rules_draw(struct world *w)
{
	lookups_draw(w);
	static const char *const word[] = {"googlebot", "crawler"};
	static struct agg_words *words;
	if (!words && rul_words_build(word, 2, &words))
		abort();
	w->also.no_impression = chance(w, 2);
	w->also.impression_lookback_ms = 1800000;
	w->also.impression_wait_ms = 5000;
	w->also.blocklisted = chance(w, 2);
	w->also.listed = listed;
	w->also.no_mouse = chance(w, 2);
	w->also.device_mismatch = chance(w, 2);
	w->also.bot_user_agents = chance(w, 2) ? words : NULL;
	w->also.regular_timing_ms = chance(w, 3) ? 30 : 0;
	w->also.regular_timing_gaps = 4;
	w->also.addresses_per_device_hour = chance(w, 3) ? 3 : 0;
}

static void draw(struct world *w, uint64_t events, uint64_t faults)
{
	w->events_wanted = (uint32_t)(chance(w, 20) ? 3000 : 100 + dice(w, chance(w, 4) ? 1500 : 400));
	w->faults = chance(w, 8) ? 0 : (uint32_t)dice(w, FAULT_ALL + 1);
	w->rate = 1 + (uint32_t)dice(w, chance(w, 2) ? 10 : 200);
	w->table_rows = chance(w, 3) ? 32 + (uint32_t)dice(w, 200) : 4096;
	w->id_bytes = chance(w, 3) ? 32768 + dice(w, 65536) : 1 << 20;
	w->rule_kind = (uint32_t)dice(w, 3);
	rules_draw(w);
	if (events)
		w->events_wanted = (uint32_t)events;
	if (faults != UINT64_MAX)
		w->faults &= (uint32_t)faults;
}

/* Who waits for what: for a seed that does not end. */
static void stuck_tell(struct world *w)
{
	const struct dp_node *node = &w->node;
	for (uint32_t i = 0; i < w->messages; i++) {
		const struct message *m = &w->message[i];
		if (!m->done)
			printf("  message %u: way %u, %u parts, tries %u, busy %d, deliveries %u\n", i, m->way, m->parts, m->tries,
			       m->busy, m->deliveries);
	}
	for (uint32_t i = 0; i < LINKS; i++)
		if (w->link[i].open)
			printf("  link %u: rx %u, message %u, out %u of %u, in %u, paused %d, stalled %d, closing %d\n", i,
			       w->link[i].rx, w->link[i].message, w->link[i].out_at, w->link[i].out_bytes, w->link[i].in_bytes,
			       w->link[i].paused, w->link[i].stalled, w->link[i].closing);
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		const struct dp_shard *shard = &node->shard[s];
		printf("  shard %u: stalled %d, lane %" PRIu64 "/%" PRIu64 "/%" PRIu64 "/%" PRIu64
		       ", rotate_wanted %u, spare %d, file %" PRIx64 ", rows %u\n",
		       s, shard->stalled, atomic_load(&shard->lane.given), atomic_load(&shard->lane.looked), shard->lane.decided,
		       shard->lane.answered, atomic_load(&shard->rotate_wanted), atomic_load(&shard->spare_table) != NULL,
		       sto_wal_file_id(shard->wal), shard->table ? atomic_load(&shard->table->rows) : 0);
	}
	printf("  refusing %u, ids %" PRIu64 " of %" PRIu64 ", can rotate %d\n", atomic_load(&node->live->refusing),
	       agg_dedup_ids(node->dedup), agg_dedup_ids_max(node->dedup), agg_dedup_can_rotate(node->dedup));
}

/* Everybody insists until all is acknowledged. */
static void insist(struct world *w)
{
	w->final = true;
	if (w->verbose)
		printf("  %8.3f s: everybody insists\n", (double)w->now_ns / 1e9);
	mend(w);
	if (w->down_wanted) {
		life_over(w);
		life_next(w);
	}
	for (uint32_t round = 0; round < 4 && !w->broken; round++) {
		for (uint32_t turns = 0; turns < FINAL_TURNS_MAX && !w->broken && !crowd_idle(w); turns++) {
			turn(w);
			if (w->down_wanted) {
				life_over(w);
				life_next(w);
			}
		}
		if (!crowd_idle(w) && w->verbose)
			stuck_tell(w);
		if (!crowd_idle(w))
			complain(w, "clients are not answered: %u of %u messages", w->messages - w->messages_done, w->messages);
		for (uint32_t id = 0; id < w->ids && w->messages < MESSAGES_MAX; id++)
			if (!w->identity[id].acked && !w->fact[w->identity[id].fact[0]].flaw)
				script_retry(w, id);
		if (w->messages == w->messages_done)
			return;
	}
}

static bool seed_run(struct world *w, uint64_t seed, uint64_t events, uint64_t faults)
{
	/* what is kept over seeds: the tallies at the end */
	const bool verbose = w->verbose;
	memset(w, 0, offsetof(struct world, tally_events));
	w->verbose = verbose;
	for (uint32_t i = 0; i < LINKS; i++)
		w->link[i].message = NONE;
	w->seed = seed;
	w->random = mix(seed);
	w->now_ns = 1000000000;
	w->wall_ms_max = wall_ms(w);
	draw(w, events, faults);
	w->disk = sim_disk_new(mix(seed + 1));
	sim_clock_set(w->disk, WORLD_MS);
	if (w->verbose)
		printf("seed %" PRIu64 ", commit %s: %u events, faults %#x, %u rows a table\n", seed, COMMIT, w->events_wanted,
		       w->faults, w->table_rows);
	life_next(w);
	for (uint32_t turns = 0; turns < TURNS_MAX && !w->broken; turns++) {
		if (w->facts < w->events_wanted && w->facts < FACTS_MAX - 2 * PARTS_MAX && w->messages < MESSAGES_MAX / 2 &&
		    chance(w, w->rate))
			script_message(w);
		if (w->facts >= w->events_wanted && (crowd_idle(w) || turns > 400000))
			break;
		sim_clock_set(w->disk, wall_ms(w));
		turn(w);
	}
	if (!w->broken)
		insist(w);
	if (!w->broken) {
		check_live(w);
		life_over(w);
		/* a failed write of before may have come to light only now */
		for (int tries = 0; tries < 3 && !w->ended_cleanly && !w->broken; tries++) {
			life_next(w);
			if (w->alive)
				life_over(w);
		}
		check_end(w);
	} else if (w->alive) {
		w->down_wanted = true;
		life_end(w, false);
	}
	w->tally_ns += w->now_ns;
	w->digest = sim_digest(w->disk);
	sim_disk_free(w->disk);
	return !w->broken;
}

int main(int argc, char **argv)
{
	struct world *w = calloc(1, sizeof(*w));
	bool stop = false, twice = false;
	uint64_t seeds = 100, from = 1, events = 0, faults = UINT64_MAX, failed = 0;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seeds") && i + 1 < argc)
			seeds = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--from") && i + 1 < argc)
			from = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			from = strtoull(argv[++i], NULL, 0), seeds = 1;
		else if (!strcmp(argv[i], "--events") && i + 1 < argc)
			events = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--faults") && i + 1 < argc)
			faults = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--stop"))
			stop = true;
		else if (!strcmp(argv[i], "--twice"))
			twice = true;
		else if (!strcmp(argv[i], "--verbose"))
			w->verbose = true;
		else
			return fprintf(stderr,
				       "usage: sim [--seeds N] [--from SEED] [--seed SEED] [--events N] [--faults MASK] [--twice] "
				       "[--verbose]\n"),
			       2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	tp_log_level_set(w->verbose ? TP_INFO : TP_ERROR + 1);
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (uint64_t seed = from; seed < from + seeds; seed++) {
		bool fine = seed_run(w, seed, events, faults);
		const uint64_t digest = w->digest;
		if (fine && twice && (!seed_run(w, seed, events, faults) || w->digest != digest)) {
			fine = false;
			fprintf(stderr, "seed %" PRIu64 ": another run of it wrote other bytes\n", seed);
		}
		if (!fine) {
			failed++;
			seeds = stop ? seed - from + 1 : seeds;
			fprintf(stderr, "replay with: sim --seed %" PRIu64 " --verbose (commit %s)\n", seed, COMMIT);
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	double wall = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("seeds=%" PRIu64 " failed=%" PRIu64 " commit=%s events=%" PRIu64 " copies=%" PRIu64 " retries=%" PRIu64
	       " late=%" PRIu64 " conflicts=%" PRIu64 " flagged=%" PRIu64 " crashes=%" PRIu64 " stops=%" PRIu64
	       " other_shards=%" PRIu64 " segments=%" PRIu64 " lane=%" PRIu64 " rotations=%" PRIu64 " full=%" PRIu64
	       " reloads=%" PRIu64 " amended=%" PRIu64 " queries=%" PRIu64 " turns=%" PRIu64
	       " simulated_s=%.0f wall_s=%.1f faster=%.0f\n",
	       seeds, failed, COMMIT, w->tally_events, w->tally_copies, w->tally_retries, w->tally_late, w->tally_conflicts,
	       w->tally_flagged, w->tally_crashes, w->tally_stops, w->tally_restarts_shards, w->tally_segments, w->tally_lanes,
	       w->tally_rotations, w->tally_full, w->tally_reloads, w->tally_amended, w->tally_queries, w->tally_steps,
	       (double)w->tally_ns / 1e9, wall, (double)w->tally_ns / 1e9 / wall);
	for (int r = 0; r < TP_FRAUD_REASONS; r++)
		if (w->tally_reasons[r])
			printf("%s=%" PRIu64 " ", tp_fraud_reason_name((enum tp_fraud_reason)r), w->tally_reasons[r]);
	printf("\n");
	free(w);
	return failed != 0;
}
