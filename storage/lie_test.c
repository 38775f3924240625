/*
 * A disk that lies: every write of a short life, in each of five ways, and every read of a recovery. What was acknowledged is found,
 * or the damage is reported; never is less, more or something else read in silence.
 */
#include "crash_rig.h"
#include "turnpike/log.h"
#include "turnpike/reader.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* With a sanitizer one seed takes as long as several without. */
#if defined(__SANITIZE_ADDRESS__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#ifdef SLOW
enum { SEEDS = 1 };
#else
enum { SEEDS = 4 };
#endif

static bool quietly_lost(struct sim_disk *disk, struct ledger *ledger, int *rc)
{
	*rc = rig_look(disk, ledger, true);
	if (ledger->broken)
		return true;
	return *rc == 0 && rig_lost(ledger) != UINT64_MAX;
}

/* False: the life ends before operation `at`. */
static bool lie_once(uint64_t at, enum sim_lie lie, uint64_t seed, uint64_t *reported)
{
	static struct ledger ledger;
	memset(&ledger, 0, sizeof(ledger));
	struct sim_disk *disk = sim_disk_new(seed);
	struct run run = {.disk = disk, .ledger = &ledger, .random = seed};
	sim_lie_at(disk, at, lie);
	/* It ends cleanly: without an end block the last write of all could lie and nobody could know. */
	int rc = rig_life(&run);
	rig_life_end(&run);
	bool reached = sim_operations(disk) > at, faulted = sim_faulted(disk);
	if (rc && !faulted)
		fail_msg("at %lu: error %d out of nothing", at, rc);
	sim_restart(disk, SIM_POWER, seed);
	int found;
	if (quietly_lost(disk, &ledger, &found))
		fail_msg("lie %d at %lu seed %lu: an event is lost or made up, and nobody says so", lie, at, seed);
	*reported += rc != 0 || found != 0;
	if (found && found != -EBADMSG)
		fail_msg("lie %d at %lu seed %lu: error %d", lie, at, seed, found);
	/* Nothing of it goes away by looking again. */
	int again;
	sim_restart(disk, SIM_POWER, seed + 1);
	if (quietly_lost(disk, &ledger, &again) || (found && !again))
		fail_msg("lie %d at %lu seed %lu: told once (%d), then forgotten", lie, at, seed, found);
	sim_disk_free(disk);
	return reached;
}

static void test_lies(void **state)
{
	(void)state;
	for (enum sim_lie lie = 0; lie < SIM_LIES; lie++) {
		uint64_t reported = 0;
		for (uint64_t seed = 1; seed <= SEEDS; seed++)
			for (uint64_t at = 0; lie_once(at, lie, seed, &reported); at++)
				;
		assert_true(reported > 5 * SEEDS);
	}
}

/* Every read of a recovery fails, or brings a flipped bit. */
static void test_reads(void **state)
{
	(void)state;
	static struct ledger ledger;
	uint64_t told = 0;
	for (int error = 0; error >= -EIO; error -= EIO) {
		for (uint64_t at = 0;; at++) {
			memset(&ledger, 0, sizeof(ledger));
			struct sim_disk *disk = sim_disk_new(3);
			struct run run = {.disk = disk, .ledger = &ledger, .random = 3};
			assert_int_equal(rig_life(&run), 0);
			sim_crash_at(disk, sim_operations(disk));
			rig_life_end(&run);
			sim_restart(disk, SIM_KILL, 3);
			sim_read_fault_at(disk, sim_reads(disk) + at, error);
			int rc;
			if (quietly_lost(disk, &ledger, &rc))
				fail_msg("read %lu, error %d: an event is lost or made up, and nobody says so", at, error);
			bool reached = sim_faulted(disk);
			told += rc != 0;
			sim_disk_free(disk);
			if (!reached)
				break;
		}
	}
	assert_true(told > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_lies), cmocka_unit_test(test_reads)};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
