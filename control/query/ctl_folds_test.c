/* Folds and sections while files are sealed beside the questions: each event once, whenever it is asked for. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl_folds.h"
#include "stand_in.h"
#include "turnpike/session.h"

enum { SEALS = 120, EVENTS = 4, LOG_BYTES = 64 << 20, GAP_MS = 1800000, ASKERS = 3 };

struct counting {
	uint64_t clicks;
};

static void begin(void *context)
{
	((struct counting *)context)->clicks = 0;
}

static bool one(void *context, const struct agg_session *session)
{
	((struct counting *)context)->clicks += session->clicks;
	return true;
}

static bool fold(void *context, struct agg_fold *made)
{
	return agg_fold_user(made, "user", 4, one, context);
}

static bool section(void *context, const void *bytes)
{
	(void)context, (void)bytes;
	fail_msg("the stand-in makes no sections");
	return false;
}

struct sealing {
	struct stand_in stand_in;
	struct ctl_folds *folds;
	_Atomic uint64_t durable, begun, wrong;
	_Atomic bool done;
};

static void *seal(void *context)
{
	struct sealing *sealing = context;
	for (int i = 0; i < SEALS; i++) {
		struct stand_in_event event = stand_in_click();
		event.user = "user";
		atomic_fetch_add(&sealing->begun, EVENTS);
		for (int k = 0; k < EVENTS; k++)
			stand_in_add(&sealing->stand_in, &event);
		stand_in_commit(&sealing->stand_in);
		atomic_fetch_add(&sealing->durable, EVENTS);
		stand_in_seal(&sealing->stand_in);
	}
	atomic_store(&sealing->done, true);
	return NULL;
}

/* Until all is sealed: never less than what was durable before, nor more than what was begun. */
static void *asker(void *context)
{
	struct sealing *sealing = context;
	struct counting counting;
	struct ctl_store *store;
	struct ctl_facts facts;
	const struct ctl_folds_ask ask = {
		.context = &counting,
		.to_ms = UINT64_MAX,
		.kind = STO_SECTION_SESSIONS,
		.begin = begin,
		.section = section,
		.fold = fold,
	};

	assert_int_equal(ctl_store_open(&store, sealing->stand_in.data_dir), 0);
	while (!atomic_load(&sealing->done)) {
		uint64_t least = atomic_load(&sealing->durable);
		assert_int_equal(ctl_folds_ask(sealing->folds, store, NULL, &ask, &facts), 0);
		uint64_t most = atomic_load(&sealing->begun);
		if (counting.clicks < least || counting.clicks > most)
			atomic_fetch_add(&sealing->wrong, 1);
	}
	assert_int_equal(ctl_folds_ask(sealing->folds, store, NULL, &ask, &facts), 0);
	if (counting.clicks != SEALS * EVENTS)
		atomic_fetch_add(&sealing->wrong, 1);
	ctl_store_close(store);
	return NULL;
}

/* Several ask at the same time: one shows folds while another follows files and drops those that were sealed. */
static void nothing_is_missed_or_shown_twice(void **state)
{
	(void)state;
	static struct sealing sealing;
	pthread_t sealer, asking[ASKERS];

	stand_in_open(&sealing.stand_in);
	assert_int_equal(ctl_folds_open(&sealing.folds, sealing.stand_in.data_dir, LOG_BYTES, GAP_MS), 0);
	assert_int_equal(pthread_create(&sealer, NULL, seal, &sealing), 0);
	for (int i = 0; i < ASKERS; i++)
		assert_int_equal(pthread_create(&asking[i], NULL, asker, &sealing), 0);
	pthread_join(sealer, NULL);
	for (int i = 0; i < ASKERS; i++)
		pthread_join(asking[i], NULL);
	assert_int_equal(atomic_load(&sealing.wrong), 0);
	ctl_folds_close(sealing.folds);
	stand_in_close(&sealing.stand_in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_missed_or_shown_twice)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
