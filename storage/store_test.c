/*
 * The store over its life: sums before and after merging and retention, the chain of segments, replaced files, a manifest written
 * anew under a reader, crashes in the middle of all of it, and a folder of version 1.
 */
#include "io_sim.h"
#include "reader_state.h"
#include "sample.h"
#include "turnpike/log.h"
#include "turnpike/wal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { LOG_FILE_BYTES = 1 << 20 };

static const struct sto_merge_options merge_now = {.now = true};

struct bench {
	struct sim_disk *disk;
	struct sto_store *store;
	struct sto_wal *wal;
};

static int bench_open(struct bench *bench)
{
	const struct sto_store_options options = {.data_dir = "data", .log_file_bytes = LOG_FILE_BYTES};
	const struct sto_wal_options wal_options = {.block_bytes_max = 65536};
	int rc = store_open(&bench->store, &options, sim_disk_io(bench->disk));
	return rc ? rc : sto_wal_open(&bench->wal, bench->store, &wal_options);
}

static void bench_close(struct bench *bench)
{
	if (bench->wal)
		sto_wal_close(bench->wal);
	sto_store_close(bench->store);
	bench->wal = NULL;
	bench->store = NULL;
}

static int setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	bench->disk = sim_disk_new(7);
	sim_clock_set(bench->disk, 1000);
	*state = bench;
	return bench_open(bench);
}

static int teardown(void **state)
{
	struct bench *bench = *state;
	bench_close(bench);
	sim_disk_free(bench->disk);
	free(bench);
	return 0;
}

/* One sealed segment of events [from, to), each moved by shift_ms. 0 or -errno (only when the disk crashed). */
static int seal_events(struct bench *bench, uint64_t from, uint64_t to, uint64_t shift_ms)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	uint64_t file_id = sto_wal_file_id(bench->wal);
	struct tp_rollup *rollup = sample_rollup(file_id);
	int rc = 0;
	for (uint64_t n = from; n < to && !rc; n++) {
		struct tp_event *event = sample_event(room, n);
		event->timestamp_ms += shift_ms;
		void *at;
		while (!(at = sto_wal_reserve(bench->wal, event->bytes)) && !rc) {
			rc = sto_wal_flush(bench->wal, 1, SAMPLE_MS, true);
			rc = rc < 0 ? rc : sto_wal_poll(bench->wal);
			rc = rc < 0 ? rc : 0;
		}
		if (rc)
			break;
		memcpy(at, event, event->bytes);
		sto_wal_append(bench->wal, event->bytes, 1);
		tp_rollup_add(rollup, event);
	}
	while (!rc && (sto_wal_durable(bench->wal) != sto_wal_appended(bench->wal) || sto_wal_busy(bench->wal))) {
		rc = sto_wal_flush(bench->wal, 1, SAMPLE_MS, true);
		rc = rc < 0 ? rc : sto_wal_poll(bench->wal);
		rc = rc < 0 ? rc : 0;
	}
	if (!rc)
		rc = sto_wal_spare_give(bench->wal);
	if (!rc)
		rc = sto_wal_roll(bench->wal);
	for (int i = 0; !rc && sto_wal_finished_take(bench->wal) == 0 && i < 100; i++) {
		rc = sto_wal_poll(bench->wal);
		rc = rc < 0 ? rc : 0;
	}
	if (!rc)
		rc = sto_seal(bench->store, file_id, rollup, NULL);
	if (!rc)
		rc = sto_log_delete(bench->store, file_id);
	free(rollup);
	return rc;
}

static void on_fault(void *context, const char *path, const char *what)
{
	(void)context;
	print_error("%s: %s\n", path, what);
}

static struct sto_reader *reader_new(struct bench *bench)
{
	struct sto_reader *reader;
	assert_int_equal(reader_open(&reader, "data", sim_disk_io(bench->disk)), 0);
	assert_int_equal(sto_reader_refresh(reader), 1);
	return reader;
}

static void merge_all(struct bench *bench)
{
	int rc;
	while ((rc = sto_merge_step(bench->store, &merge_now)) > 0)
		;
	assert_int_equal(rc, 0);
}

/* ---- sums of a model ---- */

struct asked {
	struct tp_sums sums;
	uint64_t rows;
};

static bool row_add(void *context, const struct tp_rollup_row *row, const char *heap)
{
	struct asked *asked = context;
	(void)heap;
	assert_int_equal(rollup_sums_add(&asked->sums, &row->sums), 0);
	asked->rows++;
	return true;
}

static void event_count(struct tp_sums *sums, const struct tp_event *event)
{
	if (event->verdict != TP_ACCEPTED && event->verdict != TP_LATE)
		return;
	sums->late += event->verdict == TP_LATE;
	sums->impressions += event->type == TP_IMPRESSION;
	sums->conversions += event->type == TP_CONVERSION;
	sums->flagged_clicks += event->type == TP_CLICK && event->fraud;
	sums->clicks += event->type == TP_CLICK && !event->fraud;
	sums->spend_micros += event->type == TP_CLICK && !event->fraud ? event->bid_micros : 0;
}

enum { SEGMENTS = 30, EACH = 40 };

/* Stamps of segment s: each a quarter of a day behind the one before. */
static uint64_t shift_of(uint64_t segment)
{
	return segment * 6 * 3600000;
}

/* The model's answer for minutes [from, to) and campaign `id` (NULL: all), over the first `segments`. */
static struct tp_sums expected_of(uint64_t segments, uint64_t from, uint64_t to, const char *id)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_sums sums = {0};
	for (uint64_t s = 0; s < segments; s++)
		for (uint64_t n = s * EACH; n < (s + 1) * EACH; n++) {
			struct tp_event *event = sample_event(room, n);
			uint64_t minute = (event->timestamp_ms + shift_of(s)) / TP_MINUTE_MS;
			struct tp_str campaign = tp_event_string(event, TP_CAMPAIGN_ID);
			if (minute >= from && minute < to &&
			    (!id || (campaign.bytes == strlen(id) && !memcmp(campaign.at, id, campaign.bytes))))
				event_count(&sums, event);
		}
	return sums;
}

static struct asked ask(struct sto_reader *reader, uint64_t from, uint64_t to, enum sto_grain grain, const char *id)
{
	struct asked asked = {0};
	const struct sto_sums_query query = {.from_minute = from,
					     .to_minute = to,
					     .grain = grain,
					     .dimension = TP_DIM_CAMPAIGN,
					     .id = id,
					     .id_bytes = id ? strlen(id) : 0};
	assert_int_equal(sto_reader_sums(reader, &query, row_add, &asked, NULL), 0);
	return asked;
}

static void ask_all(struct sto_reader *reader, uint64_t segments, uint64_t seed)
{
	static const char *const ids[] = {NULL, "c0", "c1", "c2", "nobody"};
	uint64_t first = SAMPLE_MS / TP_MINUTE_MS - 100, span = 9 * 1440;
	for (int q = 0; q < 150; q++) {
		uint64_t from = first + (seed = sample_mix(seed)) % span, to = from + (seed = sample_mix(seed)) % span;
		const char *id = ids[(seed = sample_mix(seed)) % 5];
		enum sto_grain grain = (enum sto_grain)((seed = sample_mix(seed)) % 3);
		if (seed % 7 == 0)
			from -= from % 1440, to -= to % 60;
		struct asked asked = ask(reader, from, to, grain, id);
		struct tp_sums expected = expected_of(segments, from, to, id);
		if (memcmp(&asked.sums, &expected, sizeof(expected)) != 0)
			fail_msg("question %d: [%lu, %lu) grain %d id %s", q, from, to, grain, id ? id : "all");
	}
}

/* The same answers from segments, from rollup files, from both, from merged ones; each segment's sums move at once or not at all. */
static void test_sums(void **state)
{
	struct bench *bench = *state;
	for (uint64_t s = 0; s < SEGMENTS; s++) {
		sim_clock_set(bench->disk, 1000 + s * 21600000);
		assert_int_equal(seal_events(bench, s * EACH, (s + 1) * EACH, shift_of(s)), 0);
		if (s % 3 == 2)
			merge_all(bench);
		struct sto_reader *reader = reader_new(bench);
		ask_all(reader, s + 1, s);
		assert_true(sto_reader_covered(reader) == (s + 1) / 3 * 3);
		sto_reader_close(reader);
	}
	struct sto_reader *reader = reader_new(bench);
	uint64_t covered[MANIFEST_CLASSES] = {0};
	for (uint32_t i = 0; i < sto_reader_rollups(reader); i++) {
		const struct sto_rollup_info *info = sto_reader_rollup_info(reader, i);
		assert_int_equal(info->from_segment, covered[info->class - STO_RETAIN_MINUTE] + 1);
		covered[info->class - STO_RETAIN_MINUTE] = info->to_segment;
	}
	for (int c = 0; c < MANIFEST_CLASSES; c++)
		assert_int_equal(covered[c], SEGMENTS);
	assert_true(sto_reader_rollups(reader) < 3 * SEGMENTS / 3);
	/* Days are fewer rows than minutes. */
	assert_true(ask(reader, 0, UINT32_MAX, STO_DAYS, NULL).rows < ask(reader, 0, UINT32_MAX, STO_MINUTES, NULL).rows);
	sto_reader_close(reader);
	bench_close(bench);
	assert_int_equal(store_verify("data", on_fault, NULL, sim_disk_io(bench->disk)), 0);
	assert_int_equal(bench_open(bench), 0);
}

/* ---- retention ---- */

static void test_retention(void **state)
{
	struct bench *bench = *state;
	struct sto_retained retained;
	for (uint64_t s = 0; s < SEGMENTS; s++) {
		sim_clock_set(bench->disk, 1000 + s * 21600000);
		assert_int_equal(seal_events(bench, s * EACH, (s + 1) * EACH, shift_of(s)), 0);
		merge_all(bench);
	}
	struct sto_reader *reader = reader_new(bench), *held = reader_new(bench);
	struct asked days = ask(reader, 0, UINT32_MAX, STO_DAYS, NULL);
	const uint64_t day_ms = 86400000, now_ms = 1000 + SEGMENTS * 21600000;
	/* Nothing is due. */
	struct sto_retention keep = {
		.raw_ms = 10 * day_ms, .minute_ms = 20 * day_ms, .hour_ms = 30 * day_ms, .day_ms = 40 * day_ms};
	assert_int_equal(sto_retain(bench->store, &keep, now_ms, &retained), 0);
	for (int c = 0; c < STO_RETENTION_CLASSES; c++)
		assert_int_equal(retained.files[c], 0);
	/* Raw goes: all sums stay, to the minute. */
	keep.raw_ms = 2 * day_ms;
	assert_int_equal(sto_retain(bench->store, &keep, now_ms, &retained), 0);
	assert_int_equal(retained.files[STO_RETAIN_RAW], SEGMENTS - 7);
	assert_int_equal(retained.files[STO_RETAIN_MINUTE], 0);
	assert_int_equal(sto_reader_refresh(reader), 1);
	assert_int_equal(sto_reader_segments(reader), 7);
	ask_all(reader, SEGMENTS, 1);
	/* Minutes go: hours answer for them, as a whole where they start. */
	keep.minute_ms = 3 * day_ms;
	assert_int_equal(sto_retain(bench->store, &keep, now_ms, &retained), 0);
	assert_true(retained.files[STO_RETAIN_MINUTE] > 0 && !retained.files[STO_RETAIN_HOUR]);
	assert_int_equal(sto_reader_refresh(reader), 1);
	struct asked again = ask(reader, 0, UINT32_MAX, STO_DAYS, NULL);
	assert_memory_equal(&again.sums, &days.sums, sizeof(days.sums));
	again = ask(reader, 0, UINT32_MAX, STO_MINUTES, NULL);
	assert_memory_equal(&again.sums, &days.sums, sizeof(days.sums));
	uint64_t first = SAMPLE_MS / TP_MINUTE_MS, hour = first - first % 60;
	again = ask(reader, hour, hour + 60, STO_MINUTES, "c1");
	struct tp_sums expected = expected_of(SEGMENTS, hour, hour + 60, "c1");
	assert_memory_equal(&again.sums, &expected, sizeof(expected));
	again = ask(reader, hour + 1, hour + 60, STO_MINUTES, "c1"); /* the hour starts before */
	assert_int_equal(again.rows, 0);
	/* What is still there to the minute is so. */
	uint64_t late = first + shift_of(SEGMENTS - 2) / TP_MINUTE_MS;
	for (uint64_t m = late; m < late + 12; m++) {
		again = ask(reader, m, m + 1, STO_MINUTES, NULL);
		expected = expected_of(SEGMENTS, m, m + 1, NULL);
		assert_memory_equal(&again.sums, &expected, sizeof(expected));
	}
	for (uint64_t s = SEGMENTS - 11; s < SEGMENTS; s++)
		for (uint64_t m = first + shift_of(s) / TP_MINUTE_MS; m < first + shift_of(s) / TP_MINUTE_MS + 10; m++) {
			again = ask(reader, m, m + 1, STO_MINUTES, NULL);
			expected = expected_of(SEGMENTS, m, m + 1, NULL);
			assert_memory_equal(&again.sums, &expected, sizeof(expected));
		}
	/* Hours go, days go; and a class is never kept shorter than a finer one. */
	keep.hour_ms = keep.day_ms = 1;
	assert_int_equal(sto_retain(bench->store, &keep, now_ms, &retained), 0);
	assert_true(retained.files[STO_RETAIN_HOUR] > 0);
	uint64_t age_ms[STO_RETENTION_CLASSES];
	sto_retention_effective(&keep, age_ms);
	assert_int_equal(age_ms[STO_RETAIN_DAY], 3 * day_ms);
	keep = (struct sto_retention){0};
	assert_int_equal(sto_retain(bench->store, &keep, now_ms, &retained), 0);
	assert_int_equal(sto_reader_refresh(reader), 1);
	assert_int_equal(sto_reader_segments(reader), 0);
	assert_int_equal(sto_reader_rollups(reader), 0);
	assert_int_equal(ask(reader, 0, UINT32_MAX, STO_DAYS, NULL).rows, 0);
	/* Who did not refresh has all that the snapshot promised. */
	again = ask(held, 0, UINT32_MAX, STO_MINUTES, NULL);
	assert_memory_equal(&again.sums, &days.sums, sizeof(days.sums));
	sto_reader_close(reader);
	sto_reader_close(held);
	/* And the node starts on it, and goes on. */
	bench_close(bench);
	assert_int_equal(bench_open(bench), 0);
	assert_int_equal(seal_events(bench, 0, 40, 0), 0);
}

/* An hour of which some minutes are deleted and others, sealed later, are not: it counts once. */
static void test_border_in_an_hour(void **state)
{
	struct bench *bench = *state;
	struct sto_retained retained;
	uint64_t hour = SAMPLE_MS / TP_MINUTE_MS / 60 * 60, all = 0;
	for (uint64_t s = 0; s < 2; s++) {
		sim_clock_set(bench->disk, 1000 + s * 5000);
		assert_int_equal(seal_events(bench, s * EACH, (s + 1) * EACH, s * 20 * TP_MINUTE_MS), 0);
		merge_all(bench);
	}
	struct sto_reader *reader = reader_new(bench);
	assert_true(ask(reader, 0, UINT32_MAX, STO_MINUTES, NULL).rows > 20);
	struct asked before = ask(reader, hour, hour + 120, STO_HOURS, NULL);
	const struct sto_retention keep = {.raw_ms = 100, .minute_ms = 1000, .hour_ms = UINT64_MAX};
	assert_int_equal(sto_retain(bench->store, &keep, 6050, &retained), 0);
	assert_int_equal(retained.files[STO_RETAIN_MINUTE], 1);
	assert_int_equal(sto_reader_refresh(reader), 1);
	struct asked after = ask(reader, hour, hour + 120, STO_MINUTES, NULL);
	assert_memory_equal(&after.sums, &before.sums, sizeof(before.sums));
	for (uint64_t m = hour; m < hour + 120; m++) {
		struct asked one = ask(reader, m, m + 1, STO_MINUTES, NULL);
		assert_true(one.rows == 0 || m % 60 == 0 || m >= hour + 60);
		all += one.sums.impressions;
	}
	assert_int_equal(all, before.sums.impressions);
	sto_reader_close(reader);
}

struct dues {
	uint64_t due[STO_RETENTION_CLASSES], waiting, files;
};

static void due_seen(void *context, enum sto_retention_class class, const char *name, uint64_t bytes, uint64_t due_ms)
{
	struct dues *dues = context;
	assert_true(bytes > 0 && strlen(name) > 10);
	dues->files++;
	if (due_ms == UINT64_MAX)
		dues->waiting++;
	else if (!dues->due[class])
		dues->due[class] = due_ms;
}

/* What a dry run says is what happens, to the millisecond. */
static void test_retention_foretold(void **state)
{
	struct bench *bench = *state;
	struct sto_retained retained;
	const struct sto_retention keep = {.raw_ms = 500, .minute_ms = 600, .hour_ms = 700, .day_ms = 800};
	assert_int_equal(seal_events(bench, 0, 40, 0), 0);
	merge_all(bench);
	assert_int_equal(seal_events(bench, 40, 80, 0), 0);
	struct sto_reader *reader = reader_new(bench);
	struct dues dues = {0};
	sto_reader_retention(reader, &keep, due_seen, &dues);
	assert_int_equal(dues.files, 5);
	assert_int_equal(dues.waiting, 1);
	sto_reader_close(reader);
	for (int c = 0; c < STO_RETENTION_CLASSES; c++) {
		assert_int_equal(dues.due[c], 1500 + 100 * c);
		assert_int_equal(sto_retain(bench->store, &keep, dues.due[c] - 1, &retained), 0);
		assert_int_equal(retained.files[c], 0);
		assert_int_equal(sto_retain(bench->store, &keep, dues.due[c], &retained), 0);
		assert_int_equal(retained.files[c], 1);
	}
}

/* ---- the chain, and replaced files ---- */

static int file_copy(struct bench *bench, const char *from, const char *to)
{
	uint64_t bytes;
	const uint8_t *file = sim_file(bench->disk, from, &bytes);
	uint8_t *copy = malloc(bytes);
	memcpy(copy, file, bytes);
	int rc = sim_file_put(bench->disk, to, copy, bytes);
	free(copy);
	return rc;
}

static void chain_check(struct sto_reader *reader, const uint8_t begin[32])
{
	uint8_t previous[32];
	memcpy(previous, begin, sizeof(previous));
	for (uint32_t i = 0; i < sto_reader_segments(reader); i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		assert_true(info->hashed);
		assert_memory_equal(info->prev_sha256, previous, 32);
		memcpy(previous, info->chain_sha256, 32);
	}
}

/* A disk that looks, when files are mapped and unmapped, whether look-ups could go on. */
static struct {
	struct sto_io io;
	const struct sto_io *real;
	struct bench *bench;
	const struct tp_event *event;
	uint32_t maps, maps_beside, unmaps_beside;
} watch;

static bool lookups_go_on(void)
{
	if (!watch.bench || pthread_mutex_trylock(&watch.bench->store->map_lock))
		return false;
	pthread_mutex_unlock(&watch.bench->store->map_lock);
	assert_int_equal(sto_segments_lookup(watch.bench->store, watch.event->id,
					     (uint32_t)(watch.event->timestamp_ms / TP_MINUTE_MS), watch.event->fingerprint),
			 STO_SAME);
	return true;
}

static int watched_map(const struct sto_io *io, int fd, uint64_t bytes, const uint8_t **base)
{
	(void)io;
	watch.maps++;
	watch.maps_beside += lookups_go_on();
	return watch.real->map(watch.real, fd, bytes, base);
}

static void watched_unmap(const struct sto_io *io, const uint8_t *base, uint64_t bytes)
{
	(void)io;
	watch.unmaps_beside += lookups_go_on();
	watch.real->unmap(watch.real, base, bytes);
}

/* The table of a segment that is asked often is made while others ask: from a mapping of its own, with the lock free. */
static void test_table_beside_lookups(void **state)
{
	struct bench *bench = *state;
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	assert_int_equal(seal_events(bench, 0, EACH, 0), 0);
	watch.real = bench->store->io;
	watch.io = *watch.real;
	watch.io.map = watched_map;
	watch.io.unmap = watched_unmap;
	watch.bench = bench;
	watch.event = sample_event(room, 1);
	bench->store->io = &watch.io;
	uint32_t asked = 0;
	for (; asked < 100 && !bench->store->recalls.recall[0]; asked++)
		assert_int_equal(sto_segments_lookup(bench->store, watch.event->id,
						     (uint32_t)(watch.event->timestamp_ms / TP_MINUTE_MS),
						     watch.event->fingerprint),
				 STO_SAME);
	assert_in_range(asked, 2, 99);
	assert_int_equal(watch.maps, 2);
	assert_int_equal(watch.maps_beside, 1);
	assert_int_equal(watch.unmaps_beside, 1);
	assert_true(lookups_go_on()); /* and with the table the answer is the same */
	assert_int_equal(sto_segments_lookup(bench->store, watch.event->id, (uint32_t)(watch.event->timestamp_ms / TP_MINUTE_MS),
					     ~watch.event->fingerprint),
			 STO_OTHER);
	assert_int_equal(watch.maps, 2);
	watch.bench = NULL; /* the store goes away */
}

static void test_chain(void **state)
{
	struct bench *bench = *state;
	static const uint8_t none[32];
	uint8_t sha256[32], first[32];
	for (uint64_t s = 0; s < 4; s++)
		assert_int_equal(seal_events(bench, s * EACH, (s + 1) * EACH, 0), 0);
	struct sto_reader *reader = reader_new(bench);
	chain_check(reader, none);
	assert_int_equal(file_sha256(sim_disk_io(bench->disk), "data/segments/0000000000000002.seg", sha256), 0);
	assert_memory_equal(sto_reader_segment(reader, 1)->sha256, sha256, 32);
	memcpy(first, sto_reader_segment(reader, 0)->chain_sha256, 32);

	/* The second one gets another file (here: the same bytes, which is as good). A look-up finds its ids before and after. */
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	const struct tp_event *event = sample_event(room, EACH + 1);
	uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
	assert_int_equal(sto_segments_lookup(bench->store, event->id, minute, event->fingerprint), STO_SAME);
	struct manifest_segment facts = store_view_find(bench->store->view, 2)->facts;
	struct store_view *view = store_view_take(bench->store);
	assert_int_equal(file_copy(bench, "data/segments/0000000000000002.seg", "data/segments/0000000000000002.tmp"), 0);
	facts.sha256[0] ^= 1; /* to tell it from the chain's */
	assert_int_equal(store_replace(bench->store, &facts), 0);
	uint64_t bytes;
	assert_null(sim_file(bench->disk, "data/segments/0000000000000002.seg", &bytes));
	assert_non_null(sim_file(bench->disk, "data/segments/0000000000000002.1.seg", &bytes));
	assert_int_equal(store_replace(bench->store, &facts), -EAGAIN);
	assert_int_equal(sto_segments_lookup(bench->store, event->id, minute, event->fingerprint), STO_SAME);
	/* Who took the list before, and never mapped the old file, is led to the new one. */
	store_view_give(bench->store, view);
	assert_int_equal(sto_reader_refresh(reader), 1);
	assert_int_equal(sto_reader_segment(reader, 1)->generation, 1);
	assert_memory_not_equal(sto_reader_segment(reader, 1)->sha256, sha256, 32);
	chain_check(reader, none);
	assert_int_equal(sto_reader_segments(reader), 4);

	/* Retired: what follows still says what was before it. And all of it over a restart. */
	merge_all(bench);
	struct sto_retained retained;
	sim_clock_set(bench->disk, 9000);
	assert_int_equal(seal_events(bench, 4 * EACH, 5 * EACH, 0), 0);
	const struct sto_retention keep = {.raw_ms = 8000};
	assert_int_equal(sto_retain(bench->store, &keep, 9000, &retained), 0);
	assert_int_equal(retained.files[STO_RETAIN_RAW], 4);
	bench_close(bench);
	assert_int_equal(bench_open(bench), 0);
	assert_int_equal(sto_reader_refresh(reader), 1);
	assert_int_equal(sto_reader_segments(reader), 1);
	assert_memory_not_equal(sto_reader_segment(reader, 0)->prev_sha256, none, 32);
	sto_reader_close(reader);
}

/* Old generations and unknown ones are removed at the start, the listed one is missed. */
static void test_replaced_leftovers(void **state)
{
	struct bench *bench = *state;
	uint64_t bytes;
	assert_int_equal(seal_events(bench, 0, EACH, 0), 0);
	assert_int_equal(file_copy(bench, "data/segments/0000000000000001.seg", "data/segments/0000000000000001.tmp"), 0);
	struct manifest_segment facts = bench->store->view->segment[0]->facts;
	assert_int_equal(store_replace(bench->store, &facts), 0);
	merge_all(bench);
	assert_int_equal(file_copy(bench, "data/segments/0000000000000001.1.seg", "data/segments/0000000000000001.seg"), 0);
	assert_int_equal(file_copy(bench, "data/segments/0000000000000001.1.seg", "data/segments/0000000000000001.2.seg"), 0);
	assert_int_equal(file_copy(bench, "data/rollups/0000000000000001.rol", "data/rollups/0000000000000009.rol"), 0);
	assert_int_equal(file_copy(bench, "data/rollups/0000000000000001.rol", "data/rollups/000000000000000a.tmp"), 0);
	bench_close(bench);
	assert_int_equal(bench_open(bench), 0);
	assert_null(sim_file(bench->disk, "data/segments/0000000000000001.seg", &bytes));
	assert_null(sim_file(bench->disk, "data/segments/0000000000000001.2.seg", &bytes));
	assert_null(sim_file(bench->disk, "data/rollups/0000000000000009.rol", &bytes));
	assert_null(sim_file(bench->disk, "data/rollups/000000000000000a.tmp", &bytes));
	assert_non_null(sim_file(bench->disk, "data/segments/0000000000000001.1.seg", &bytes));
	assert_non_null(sim_file(bench->disk, "data/rollups/0000000000000001.rol", &bytes));
	bench_close(bench);
	const struct sto_io *io = sim_disk_io(bench->disk);
	assert_int_equal(file_copy(bench, "data/rollups/0000000000000001.rol", "kept"), 0);
	assert_int_equal(io->unlink(io, "data/rollups/0000000000000001.rol"), 0);
	assert_int_equal(bench_open(bench), -EBADMSG);
	assert_int_equal(file_copy(bench, "kept", "data/rollups/0000000000000001.rol"), 0);
	assert_int_equal(bench_open(bench), 0);
}

/* ---- a manifest written anew ---- */

/* Many records that say nothing any more. */
static int chatter(struct bench *bench, uint32_t count)
{
	int rc = 0;
	for (uint32_t i = 0; i < count && !rc; i++) {
		struct manifest_record record = {.kind = MANIFEST_LOG_EMPTY, .file_id = store_file_id_take(bench->store)};
		rc = store_commit(bench->store, &record, 1);
	}
	return rc;
}

static void test_compaction(void **state)
{
	struct bench *bench = *state;
	for (uint64_t s = 0; s < 6; s++)
		assert_int_equal(seal_events(bench, s * EACH, (s + 1) * EACH, shift_of(s)), 0);
	merge_all(bench);
	assert_int_equal(seal_events(bench, 6 * EACH, 7 * EACH, shift_of(6)), 0);
	struct sto_reader *reader = reader_new(bench), *slow = reader_new(bench);
	uint64_t before, after;
	assert_int_equal(chatter(bench, 4200), 0);
	sim_file(bench->disk, "data/manifest", &before);
	const struct manifest_facts facts = bench->store->manifest.facts;
	assert_int_equal(store_manifest_compact(bench->store), 1);
	assert_int_equal(store_manifest_compact(bench->store), 0);
	assert_memory_equal(&facts, &bench->store->manifest.facts, sizeof(facts));
	sim_file(bench->disk, "data/manifest", &after);
	assert_true(before > 100 * after);
	/* The reader follows, and keeps what it has mapped; it may have missed several. */
	const uint8_t *mapped = reader->rollup[0].file.base;
	assert_int_equal(sto_reader_refresh(reader), 1);
	assert_ptr_equal(reader->rollup[0].file.base, mapped);
	ask_all(reader, 7, 3);
	assert_int_equal(sto_reader_refresh(reader), 0);
	assert_int_equal(seal_events(bench, 7 * EACH, 8 * EACH, shift_of(7)), 0);
	assert_int_equal(chatter(bench, 4200), 0);
	assert_int_equal(store_manifest_compact(bench->store), 1);
	assert_int_equal(seal_events(bench, 8 * EACH, 9 * EACH, shift_of(8)), 0);
	for (int i = 0; i < 2; i++) {
		struct sto_reader *one = i ? slow : reader;
		assert_int_equal(sto_reader_refresh(one), 1);
		ask_all(one, 9, 4);
		static const uint8_t none[32];
		chain_check(one, none);
		sto_reader_close(one);
	}
	bench_close(bench);
	assert_int_equal(store_verify("data", on_fault, NULL, sim_disk_io(bench->disk)), 0);
	assert_int_equal(bench_open(bench), 0);
	struct manifest_facts now = bench->store->manifest.facts;
	assert_true(now.file_id_max >= facts.file_id_max);
	assert_int_equal(now.segment_max, 9);
	assert_int_equal(now.covered, facts.covered);
}

/* Crashes at each operation of merging, replacing, retention and compaction: the sums are the model's after every one. */
static int busy_life(struct bench *bench)
{
	struct sto_retained retained;
	const struct sto_retention keep = {.raw_ms = 21600000 * 4ULL, .minute_ms = UINT64_MAX};
	int rc = bench_open(bench);
	if (!rc)
		bench->store->compact_records_min = 40;
	for (uint64_t s = 0; s < 10 && !rc; s++) {
		sim_clock_set(bench->disk, 1000 + s * 21600000);
		rc = seal_events(bench, s * EACH, (s + 1) * EACH, shift_of(s));
		if (!rc && s == 4) {
			struct manifest_segment facts = store_view_find(bench->store->view, 3)->facts;
			rc = file_copy(bench, "data/segments/0000000000000003.seg", "data/segments/0000000000000003.tmp");
			rc = rc ? rc : store_replace(bench->store, &facts);
		}
		if (!rc && s == 6)
			rc = chatter(bench, 30);
		while (!rc && (rc = sto_merge_step(bench->store, &merge_now)) > 0)
			rc = 0;
		if (!rc)
			rc = sto_retain(bench->store, &keep, 1000 + s * 21600000, &retained);
	}
	return rc;
}

/* With the address sanitizer one way to end takes as long as two without. */
#if defined(__SANITIZE_ADDRESS__)
enum { ENDS = 1 };
#else
enum { ENDS = 2 };
#endif

static void test_crashes(void **state)
{
	(void)state;
	uint64_t points = 0;
	for (uint64_t round = 0;; round++) {
		uint64_t at = round / ENDS;
		struct bench bench = {.disk = sim_disk_new(at)};
		sim_clock_set(bench.disk, 1000);
		sim_crash_at(bench.disk, at);
		int rc = busy_life(&bench);
		bool crashed = sim_crashed(bench.disk);
		uint64_t sealed = bench.store ? bench.store->manifest.facts.segment_max : 0;
		if (rc && !crashed)
			fail_msg("at %lu: error %d", at, rc);
		bench_close(&bench);
		sim_restart(bench.disk, round % 2 ? SIM_POWER : SIM_KILL, at);
		if (bench_open(&bench))
			fail_msg("at %lu: does not open", at);
		uint64_t found = bench.store->manifest.facts.segment_max;
		/* The log of a segment that was not published is sealed by recovery, not here. */
		assert_true(found >= sealed && found <= sealed + 1);
		struct sto_reader *reader;
		assert_int_equal(reader_open(&reader, "data", sim_disk_io(bench.disk)), 0);
		assert_true(sto_reader_refresh(reader) >= 0);
		struct tp_sums expected = expected_of(found, 0, UINT32_MAX, NULL);
		for (enum sto_grain grain = STO_MINUTES; grain <= STO_DAYS; grain++) {
			struct asked asked = ask(reader, 0, UINT32_MAX, grain, NULL);
			if (memcmp(&asked.sums, &expected, sizeof(expected)) != 0)
				fail_msg("at %lu: other sums by grain %d", at, grain);
		}
		merge_all(&bench);
		assert_true(sto_reader_refresh(reader) >= 0);
		struct asked asked = ask(reader, 0, UINT32_MAX, STO_HOURS, NULL);
		assert_memory_equal(&asked.sums, &expected, sizeof(expected));
		sto_reader_close(reader);
		bench_close(&bench);
		if (store_verify("data", on_fault, NULL, sim_disk_io(bench.disk)))
			fail_msg("at %lu: damage", at);
		sim_disk_free(bench.disk);
		if (!crashed)
			break;
		points++;
	}
	assert_true(points > 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sums, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retention, setup, teardown),
		cmocka_unit_test_setup_teardown(test_border_in_an_hour, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retention_foretold, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_table_beside_lookups, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced_leftovers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compaction, setup, teardown),
		cmocka_unit_test(test_crashes),
	};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
