/*
 * Scans against a plain walk over all rows: the same rows for every filter, the same values by column, run and record; whole data
 * folders through a reader, also while segments are deleted; two scans of one segment in two threads.
 */
#include "segment_sample.h"
#include "turnpike/log.h"
#include "turnpike/scan.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MANY = 66000 };
#else
enum { MANY = 140000 };
#endif

static char folder[] = "/tmp/turnpike-scan-XXXXXX";
static char path[sizeof(folder) + 16];

static int setup(void **state)
{
	uint64_t bytes;
	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/1.seg", folder);
	uint8_t *file = rich_segment(MANY, NULL, 0, &bytes);
	FILE *to = fopen(path, "w");
	assert_non_null(to);
	assert_int_equal(fwrite(file, 1, bytes, to), bytes);
	assert_int_equal(fclose(to), 0);
	free(file);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	rmdir(folder);
	return 0;
}

struct found {
	uint64_t rows, time_sum, spend, fraud;
};

static bool text_is(const struct tp_event *event, enum tp_string which, struct tp_str wanted)
{
	struct tp_str text = tp_event_string(event, which);
	return !wanted.at || (text.bytes == wanted.bytes && !memcmp(text.at, wanted.at, text.bytes));
}

/* What the filter should find, from the events themselves. */
static struct found expected(const struct sto_scan_filter *filter)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct found found = {0};
	for (uint64_t n = 0; n < MANY; n++) {
		const struct tp_event *event = rich_event(room, n);
		if (event->timestamp_ms < filter->from_ms || (filter->to_ms && event->timestamp_ms >= filter->to_ms) ||
		    (filter->types && !(filter->types >> event->type & 1)) ||
		    (filter->verdicts && !(filter->verdicts >> event->verdict & 1)) ||
		    (filter->tagged && !event->fraud && event->verdict != TP_AMENDED) ||
		    !text_is(event, TP_ADVERTISER_ID, filter->advertiser) || !text_is(event, TP_CAMPAIGN_ID, filter->campaign) ||
		    !text_is(event, TP_AD_ID, filter->ad))
			continue;
		found.rows++;
		found.time_sum += event->timestamp_ms;
		found.spend += (uint64_t)event->bid_micros;
		found.fraud += event->fraud;
	}
	return found;
}

/* Half of the rows also as whole records, against the columns. */
static struct found scanned(const struct sto_scan_filter *filter)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	struct found found = {0};
	struct sto_scan *scan = NULL;
	int rc;
	assert_int_equal(sto_scan_open_file(&scan, path, filter), 0);
	while ((rc = sto_scan_next(scan)) == 1) {
		uint32_t count;
		const uint32_t *selected = sto_scan_selected(scan, &count);
		const uint64_t *time = sto_scan_values(scan, STO_COLUMN_TIME), *bid = sto_scan_values(scan, STO_COLUMN_BID);
		const uint64_t *fraud = sto_scan_values(scan, STO_COLUMN_FRAUD),
			       *city = sto_scan_values(scan, STO_COLUMN_TEXT + TP_CITY);
		assert_true(time && bid && fraud && city && count);
		assert_true(sto_scan_texts(scan, TP_CITY) > 0);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t row = selected ? selected[i] : i;
			found.rows++;
			found.time_sum += time[row];
			found.spend += bid[row];
			found.fraud += fraud[row];
			if (row % 64)
				continue;
			assert_int_equal(sto_scan_event(scan, row, event), 0);
			assert_int_equal(event->timestamp_ms, time[row]);
			assert_memory_equal(&sto_scan_ids(scan)[row], &event->id, sizeof(event->id));
			struct tp_str text = sto_scan_text(scan, TP_CITY, (uint32_t)city[row]),
				      same = tp_event_string(event, TP_CITY);
			assert_int_equal(text.bytes, same.bytes);
			assert_memory_equal(text.at, same.at, same.bytes);
		}
	}
	assert_int_equal(rc, 0);
	sto_scan_close(scan);
	return found;
}

static void test_filters(void **state)
{
	(void)state;
	static char name[TP_STRINGS][TP_TEXT_BYTES_MAX];
	const struct tp_str advertiser = rich_text(name[0], "a", 1, 3, 64), campaign = rich_text(name[1], "campaign", 7, 11, 64);
	const struct tp_str ad = rich_text(name[2], "ad", 31, 50, 64), nobody = {"nobody", 6};
	const struct sto_scan_filter filters[] = {
		{0},
		{.from_ms = SAMPLE_MS + 60000},
		{.to_ms = SAMPLE_MS + 60000},
		{.from_ms = SAMPLE_MS + 1000, .to_ms = SAMPLE_MS + 1001},
		{.from_ms = SAMPLE_MS + 10000000},
		{.to_ms = 1},
		{.types = 1 << TP_CLICK},
		{.types = 1 << TP_CLICK | 1 << TP_CONVERSION},
		{.types = 1u << 31},
		{.verdicts = 1 << TP_LATE},
		{.verdicts = 1 << TP_ACCEPTED | 1 << TP_LATE, .types = 1 << TP_CLICK},
		{.advertiser = advertiser},
		{.campaign = campaign},
		{.ad = ad},
		{.campaign = nobody},
		{.ad = nobody, .types = 1 << TP_CLICK},
		{.tagged = true},
		{.tagged = true, .types = 1 << TP_CLICK, .verdicts = 1 << TP_ACCEPTED | 1 << TP_LATE, .ad = ad},
		{.tagged = true, .types = 1 << TP_IMPRESSION},
		{.campaign = campaign, .from_ms = SAMPLE_MS + 30000, .to_ms = SAMPLE_MS + 90000, .types = 1 << TP_IMPRESSION},
	};
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		const struct found wanted = expected(&filters[i]), found = scanned(&filters[i]);
		if (memcmp(&wanted, &found, sizeof(found)) != 0)
			fail_msg("filter %zu: %lu rows, expected %lu", i, found.rows, wanted.rows);
	}
}

/* Every record by its id, and ids that are not there. */
static void test_find(void **state)
{
	_Alignas(8) uint8_t wanted_room[TP_EVENT_BYTES_MAX], room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	struct sto_scan *scan = NULL;
	uint64_t row[8];
	(void)state;
	assert_int_equal(sto_scan_open_file(&scan, path, NULL), 0);
	for (uint64_t n = 0; n < MANY; n += 1777) {
		const struct tp_event *wanted = rich_event(wanted_room, n);
		bool there = false;
		int64_t found = sto_scan_find(scan, wanted->id, row, 8);
		assert_true(found >= 1 && found <= 8);
		for (int64_t i = 0; i < found; i++) {
			assert_true(i == 0 || row[i] > row[i - 1]);
			assert_int_equal(sto_scan_record(scan, row[i], event), 0);
			assert_memory_equal(&event->id, &wanted->id, sizeof(event->id));
			there |= event->bytes == wanted->bytes && !memcmp(event, wanted, wanted->bytes);
		}
		assert_true(there);
		const struct tp_id other = {wanted->id.hi, wanted->id.lo ^ 1ULL << 63};
		assert_int_equal(sto_scan_find(scan, other, row, 8), 0);
	}
	assert_int_equal(sto_scan_record(scan, MANY, event), -EINVAL);
	assert_int_equal(sto_scan_record(scan, UINT64_MAX, event), -EINVAL);
	sto_scan_close(scan);
}

/* Runs and constants say what the values say. */
static void test_runs(void **state)
{
	static const uint32_t columns[] = {STO_COLUMN_TEXT + TP_ADVERTISER_ID, STO_COLUMN_TEXT + TP_CAMPAIGN_ID,
					   STO_COLUMN_TEXT + TP_AD_ID, STO_COLUMN_TYPE, STO_COLUMN_LAG};
	struct sto_scan *scan = NULL;
	uint32_t with_runs = 0;
	(void)state;
	assert_int_equal(sto_scan_open_file(&scan, path, NULL), 0);
	while (sto_scan_next(scan) == 1)
		for (size_t c = 0; c < sizeof(columns) / sizeof(columns[0]); c++) {
			const uint64_t *value, *length, *values = sto_scan_values(scan, columns[c]);
			uint64_t constant;
			uint32_t at = 0, runs = sto_scan_runs(scan, columns[c], &value, &length);
			with_runs += runs > 0;
			for (uint32_t r = 0; r < runs; r++)
				for (uint64_t i = 0; i < length[r]; i++)
					assert_int_equal(values[at++], value[r]);
			assert_true(!runs || at == sto_scan_rows(scan));
			if (sto_scan_constant(scan, columns[c], &constant))
				for (uint32_t i = 0; i < sto_scan_rows(scan); i++)
					assert_int_equal(values[i], constant);
		}
	assert_true(with_runs >= 3 * (MANY / 65536)); /* the last block may be too short for any */
	sto_scan_close(scan);
}

static void campaign_add(void *context, const struct sto_scan_campaign *campaign)
{
	struct tp_sums *sum = context;
	assert_true(campaign->campaign.bytes > 0 && strlen(campaign->currency) == 3);
	sum->impressions += campaign->sums.impressions;
	sum->clicks += campaign->sums.clicks;
	sum->spend_micros += campaign->sums.spend_micros;
}

static void part_add(void *context, const struct sto_scan_part *part)
{
	uint64_t *bytes = context;
	*bytes += part->bytes;
}

static void test_facts(void **state)
{
	struct sto_scan *scan = NULL;
	struct sto_scan_facts facts;
	struct tp_sums sum = {0};
	uint64_t bytes = 0;
	(void)state;
	assert_int_equal(sto_scan_open_file(&scan, path, NULL), 0);
	sto_scan_facts(scan, &facts);
	assert_int_equal(facts.rows, MANY);
	assert_int_equal(sto_scan_campaigns(scan, campaign_add, &sum), 0);
	assert_int_equal(sum.impressions, facts.impressions);
	assert_int_equal(sum.clicks, facts.clicks);
	assert_true(sum.spend_micros == facts.spend_micros);
	assert_int_equal(sto_scan_parts(scan, part_add, &bytes), 0);
	assert_int_equal(bytes, facts.bytes); /* every byte is somebody's */
	sto_scan_close(scan);
	scan = NULL;
	assert_int_equal(sto_scan_open_file(&scan, "/nowhere/1.seg", NULL), -ENOENT);
	assert_int_equal(sto_scan_open_file(&scan, "/dev/null", NULL), -EBADMSG);
	/* A used scan for the next segment: the same answers. And it is gone after an error. */
	for (int again = 0; again < 3; again++) {
		assert_int_equal(sto_scan_open_file(&scan, path, NULL), 0);
		struct tp_sums same = {0};
		assert_int_equal(sto_scan_next(scan), 1);
		assert_non_null(sto_scan_values(scan, STO_COLUMN_TIME));
		assert_int_equal(sto_scan_campaigns(scan, campaign_add, &same), 0);
		assert_memory_equal(&same, &sum, sizeof(sum));
	}
	assert_int_equal(sto_scan_open_file(&scan, "/nowhere/1.seg", NULL), -ENOENT);
	assert_null(scan);
}

static void *scan_thread(void *context)
{
	const struct sto_scan_filter all = {0};
	*(struct found *)context = scanned(&all);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t thread[2];
	struct found found[2];
	(void)state;
	for (int t = 0; t < 2; t++)
		assert_int_equal(pthread_create(&thread[t], NULL, scan_thread, &found[t]), 0);
	for (int t = 0; t < 2; t++)
		pthread_join(thread[t], NULL);
	assert_memory_equal(&found[0], &found[1], sizeof(found[0]));
	assert_int_equal(found[0].rows, MANY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_filters), cmocka_unit_test(test_find), cmocka_unit_test(test_runs),
					   cmocka_unit_test(test_facts), cmocka_unit_test(test_threads)};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, setup, teardown);
}
