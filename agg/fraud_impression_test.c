/*
 * no_impression: absence as evidence, the impression that comes after its click, amendments on their way into the log, what a restart
 * finds; against full tables.
 */
#include "fraud_testbed.h"

enum { ENTRIES = 1 << 12, LOOKBACK = 1800000, WAIT = 5000 };

static struct bed *bed;

static int setup(void **state)
{
	(void)state;
	bed = bed_open(ENTRIES);
	bed->rules.no_impression = true;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bed_close(bed);
	return 0;
}

#define SHOW(...) bed_show(bed, (struct told){__VA_ARGS__})

/* The next amendment, taken as the shard takes it; NULL: none. */
static const struct tp_event *amended(void)
{
	_Alignas(8) static char copy[TP_EVENT_BYTES_MAX];
	const struct tp_event *event = bed->machine.ops->record(bed->machine.self);
	assert_true((event != NULL) == (bed->machine.ops->waiting(bed->machine.self) != 0));
	if (!event)
		return NULL;
	assert_true(tp_event_valid(event, event->bytes));
	assert_int_equal(event->verdict, TP_AMENDED);
	memcpy(copy, event, event->bytes);
	bed->machine.ops->recorded(bed->machine.self);
	return (const struct tp_event *)(const void *)copy;
}

static void a_click_without_its_impression(void **state)
{
	(void)state;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .user = "u"), BIT(NO_IMPRESSION));
	assert_int_equal(bed_evidence(bed, TP_FRAUD_NO_IMPRESSION).limit, LOOKBACK);
	SHOW(TP_IMPRESSION, HOUR_START, .user = "v", .device = "d");
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .user = "v"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .user = "v", .device = "other"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .user = "v", .ad = "another"), BIT(NO_IMPRESSION));
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .user = "w", .device = "e"), BIT(NO_IMPRESSION));
	/* nobody to look for: nothing can be said */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 7), 0);
	bed->rules.no_impression = false;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .user = "x"), 0);
}

static void the_look_back_is_exact(void **state)
{
	(void)state;
	SHOW(TP_IMPRESSION, HOUR_START, .user = "u");
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + LOOKBACK, .user = "u"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + LOOKBACK + 1, .user = "u"), BIT(NO_IMPRESSION));
	/* an impression stamped after the click, but shown before it: within five seconds it is its own, and later ones hide earlier */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START - WAIT, .user = "u"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START - WAIT - 1, .user = "u"), 0);
}

static void an_impression_within_five_seconds_saves_its_click(void **state)
{
	(void)state;
	struct tp_id id;
	SHOW(TP_CLICK, HOUR_START, .user = "u", .device = "d", .received_ms = 1000000);
	id = bed_event(bed)->id;
	assert_null(amended());
	SHOW(TP_IMPRESSION, HOUR_START - 800, .user = "u", .received_ms = 1000000 + WAIT);
	const struct tp_event *event = amended();
	assert_non_null(event);
	assert_memory_equal(&event->id, &id, sizeof(id));
	assert_int_equal(event->fraud, 0);
	assert_int_equal(event->evidence_count, 0);
	assert_int_equal(event->bid_micros, 500000);
	assert_int_equal(event->type, TP_CLICK);
	assert_int_equal(event->timestamp_ms, HOUR_START);
	assert_null(amended());
	/* once */
	SHOW(TP_IMPRESSION, HOUR_START - 800, .user = "u", .received_ms = 1000000 + WAIT);
	SHOW(TP_IMPRESSION, HOUR_START - 800, .device = "d", .received_ms = 1000000 + WAIT);
	assert_null(amended());
	assert_int_equal(bed->counters.v[TP_C_FRAUD_AMENDED], 1);
}

static void a_moment_too_late_saves_nothing(void **state)
{
	(void)state;
	SHOW(TP_CLICK, HOUR_START, .user = "u", .received_ms = 1000000);
	SHOW(TP_IMPRESSION, HOUR_START - 800, .user = "u", .received_ms = 1000000 + WAIT + 1);
	assert_null(amended());
	/* nor does another ad's, another user's, or one that is too old or of later */
	SHOW(TP_CLICK, HOUR_START, .user = "v", .received_ms = 2000000);
	SHOW(TP_IMPRESSION, HOUR_START, .user = "v", .ad = "another", .received_ms = 2000001);
	SHOW(TP_IMPRESSION, HOUR_START, .device = "v", .received_ms = 2000001);
	SHOW(TP_IMPRESSION, HOUR_START - LOOKBACK - 1, .user = "v", .received_ms = 2000001);
	SHOW(TP_IMPRESSION, HOUR_START + WAIT + 1, .user = "v", .received_ms = 2000001);
	assert_null(amended());
	SHOW(TP_IMPRESSION, HOUR_START - LOOKBACK, .user = "v", .received_ms = 2000001);
	assert_non_null(amended());
}

static void other_reasons_stay(void **state)
{
	(void)state;
	bed->rules.clicks_per_device_hour = 1;
	bed->rules.no_mouse = true;
	SHOW(TP_CLICK, HOUR_START, .device = "d");
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .has_mouse = true),
			 BIT(DEVICE_VELOCITY) | BIT(NO_IMPRESSION) | BIT(NO_MOUSE));
	SHOW(TP_IMPRESSION, HOUR_START, .device = "d");
	const struct tp_event *event = amended(); /* the newest first */
	assert_int_equal(event->fraud, BIT(DEVICE_VELOCITY) | BIT(NO_MOUSE));
	assert_int_equal(event->evidence_count, 2);
	assert_int_equal(tp_event_evidence(event)[0].reason, TP_FRAUD_DEVICE_VELOCITY);
	assert_int_equal(tp_event_evidence(event)[1].reason, TP_FRAUD_NO_MOUSE);
	assert_int_equal(amended()->fraud, 0);
	assert_null(amended());
}

static void many_wait_in_one_chain(void **state)
{
	(void)state;
	enum { MANY = 100 };
	for (uint32_t n = 0; n < MANY; n++) {
		SHOW(TP_CLICK, HOUR_START + n, .user = "u", .device = n % 2 ? "d" : "e", .received_ms = 1000000 + n);
		SHOW(TP_CLICK, HOUR_START + n, .user = "other", .received_ms = 1000000 + n);
	}
	SHOW(TP_IMPRESSION, HOUR_START, .device = "d", .received_ms = 1001000);
	uint32_t saved = 0;
	for (const struct tp_event *event; (event = amended()) != NULL; saved++)
		assert_int_equal(event->timestamp_ms % 2, 1);
	assert_int_equal(saved, MANY / 2);
	SHOW(TP_IMPRESSION, HOUR_START, .user = "u", .received_ms = 1001000);
	for (saved = 0; amended(); saved++)
		;
	assert_int_equal(saved, MANY / 2);
}

/* More clicks than can wait: those without a place are not tagged, and every tagged one can still be saved. */
static void without_room_to_wait_nobody_is_tagged(void **state)
{
	(void)state;
	enum { MANY = 5000 };
	static bool tagged[MANY];
	char user[16];
	uint32_t count = 0;
	for (int n = 0; n < MANY; n++) {
		snprintf(user, sizeof(user), "u%d", n);
		tagged[n] = SHOW(TP_CLICK, HOUR_START, .user = user, .received_ms = 1000000) != 0;
		count += tagged[n];
	}
	assert_in_range(count, 64, 1000);
	assert_int_equal(bed->counters.v[TP_C_FRAUD_WAITING_FULL], MANY - count);
	for (int n = 0; n < MANY; n++) {
		snprintf(user, sizeof(user), "u%d", n);
		SHOW(TP_IMPRESSION, HOUR_START, .user = user, .received_ms = 1000100);
		assert_int_equal(amended() != NULL, tagged[n]);
	}
	/* what has waited long enough makes room, and is as much; not for those whose set has forgotten somebody */
	uint32_t again = 0;
	for (int n = 0; n < MANY; n++) {
		snprintf(user, sizeof(user), "new%d", n);
		again += SHOW(TP_CLICK, HOUR_START, .user = user, .received_ms = 1000000 + WAIT) != 0;
	}
	assert_in_range(again, 64, 1000);
}

static void what_a_set_forgot_is_no_evidence(void **state)
{
	(void)state;
	bed_close(bed);
	bed = bed_open(64); /* eight sets of eight */
	bed->rules.no_impression = true;
	char user[16];
	for (int n = 0; n < 2000; n++) {
		snprintf(user, sizeof(user), "u%d", n);
		SHOW(TP_IMPRESSION, HOUR_START + (uint64_t)n, .user = user);
	}
	for (int n = 0; n < 2000; n++) {
		snprintf(user, sizeof(user), "u%d", n);
		assert_int_equal(SHOW(TP_CLICK, HOUR_START + 3000, .user = user), 0);
	}
	/* once all that was forgotten lies beyond the look-back, absence is evidence again */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 2000 + LOOKBACK + 1, .user = "nobody"), BIT(NO_IMPRESSION));
}

/* An impression older than all that its set holds is not kept: the set remembers that too. */
static void what_a_set_refused_is_no_evidence(void **state)
{
	(void)state;
	bed_close(bed);
	bed = bed_open(64);
	bed->rules.no_impression = true;
	char user[16];
	for (int n = 0; n < 64; n++) { /* 8 sets of 8: some are full, none of the newest has gone */
		snprintf(user, sizeof(user), "u%d", n);
		SHOW(TP_IMPRESSION, HOUR_START + LOOKBACK, .user = user);
	}
	for (int n = 0; n < 64; n++) {
		snprintf(user, sizeof(user), "old%d", n);
		SHOW(TP_IMPRESSION, HOUR_START, .user = user);
		assert_int_equal(SHOW(TP_CLICK, HOUR_START + 1000, .user = user), 0);
	}
}

static void what_was_not_noted_is_no_evidence(void **state)
{
	(void)state;
	bed->rules.no_impression = false;
	SHOW(TP_IMPRESSION, HOUR_START, .user = "u");
	bed->rules.no_impression = true;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 1000, .user = "u"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + LOOKBACK, .user = "u"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + LOOKBACK + 1, .user = "u"), BIT(NO_IMPRESSION));
}

/* ---- restarts: `order` of the records that a log holds ---- */

struct kept {
	_Alignas(8) char record[TP_EVENT_BYTES_MAX];
};

static void keep(struct kept *kept)
{
	memcpy(kept->record, bed->record, sizeof(kept->record));
}

static void restart(const struct kept *kept, const int *order, int count)
{
	bed_close(bed);
	bed = bed_open(ENTRIES);
	bed->rules.no_impression = true;
	for (int i = 0; i < count; i++)
		bed->machine.ops->again(bed->machine.self, (const struct tp_event *)(const void *)kept[order[i]].record);
	bed->machine.ops->again_end(bed->machine.self);
}

static void a_restart_waits_on(void **state)
{
	(void)state;
	struct kept kept[4];
	const struct tp_event *event;
	SHOW(TP_CLICK, HOUR_START, .user = "u", .received_ms = 1000000);
	keep(&kept[0]);
	SHOW(TP_CONVERSION, HOUR_START, .user = "u", .received_ms = 1000000);
	keep(&kept[1]);
	restart(kept, (const int[]){0, 1}, 2);
	assert_null(amended());
	SHOW(TP_IMPRESSION, HOUR_START, .user = "u", .received_ms = 1000000 + WAIT);
	keep(&kept[2]);
	assert_non_null(event = amended());
	memcpy(kept[3].record, event, event->bytes);
	/* the crash cut the amendment off: made up for, whatever order the records come in */
	static const int cut[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}};
	for (int i = 0; i < 3; i++) {
		restart(kept, cut[i], 3);
		assert_non_null(event = amended());
		assert_int_equal(event->fraud, 0);
		assert_null(amended());
	}
	/* it is there: nothing to do, whatever order */
	static const int whole[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}, {0, 3, 2, 1}, {3, 0, 2, 1}};
	for (int i = 0; i < 5; i++) {
		restart(kept, whole[i], 4);
		assert_null(amended());
		SHOW(TP_IMPRESSION, HOUR_START, .user = "u", .received_ms = 1000000 + WAIT);
		assert_null(amended());
	}
}

static void a_restart_keeps_tags_and_counts(void **state)
{
	(void)state;
	struct kept kept[6];
	static const int order[] = {4, 2, 0, 1, 3};
	bed->rules.no_impression = false;
	bed->rules.clicks_per_device_hour = 5;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d"), 0);
		keep(&kept[i]);
	}
	bed_close(bed);
	bed = bed_open(ENTRIES);
	bed->rules.clicks_per_device_hour = 5;
	for (int i = 0; i < 5; i++)
		bed->machine.ops->again(bed->machine.self, (const struct tp_event *)(const void *)kept[order[i]].record);
	bed->machine.ops->again_end(bed->machine.self);
	assert_int_equal(bed->counters.v[TP_C_SHARD_FLAGGED], 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d"), BIT(DEVICE_VELOCITY));
}

/* Nothing is known of what lies before the two hours that were shown again. */
static void before_the_restart_there_was_more(void **state)
{
	(void)state;
	struct kept kept[1];
	SHOW(TP_IMPRESSION, HOUR_START, .user = "somebody");
	keep(&kept[0]);
	restart(kept, (const int[]){0}, 1);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START - 2 * HOUR + LOOKBACK, .user = "u"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START - 2 * HOUR + LOOKBACK + 1, .user = "u"), BIT(NO_IMPRESSION));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_click_without_its_impression),
		TEST(the_look_back_is_exact),
		TEST(an_impression_within_five_seconds_saves_its_click),
		TEST(a_moment_too_late_saves_nothing),
		TEST(other_reasons_stay),
		TEST(many_wait_in_one_chain),
		TEST(without_room_to_wait_nobody_is_tagged),
		TEST(what_a_set_forgot_is_no_evidence),
		TEST(what_a_set_refused_is_no_evidence),
		TEST(what_was_not_noted_is_no_evidence),
		TEST(a_restart_waits_on),
		TEST(a_restart_keeps_tags_and_counts),
		TEST(before_the_restart_there_was_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
