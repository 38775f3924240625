/*
 * Scans against a plain walk over all rows: the same rows for every filter, the same values by column, run and record; whole data
 * folders through a reader, also while segments are deleted; two scans of one segment in two threads.
 */
#include "scan_state.h"
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

struct found {
	uint64_t rows, time_sum, spend, fraud;
};

/* ---- the events as a plain table ---- */

enum { TEXTS_MAX = 256 };
static const enum tp_string sum_by[] = {TP_CAMPAIGN_ID, TP_AD_ID, TP_ADVERTISER_ID, TP_PUBLISHER_ID, TP_CITY};
enum { SUM_BY = sizeof(sum_by) / sizeof(sum_by[0]) };

struct plain {
	uint64_t time_ms;
	int64_t bid;
	uint32_t fraud;
	uint8_t type, verdict;
	uint16_t text[SUM_BY]; /* in texts[] */
};
static struct plain plain[MANY];
static struct texts {
	uint32_t count;
	char at[TEXTS_MAX][TP_CITY_BYTES_MAX];
	uint16_t bytes[TEXTS_MAX];
} texts[SUM_BY];

static bool text_is(int by, uint32_t number, struct tp_str wanted)
{
	return texts[by].bytes[number] == wanted.bytes && !memcmp(texts[by].at[number], wanted.at, wanted.bytes);
}

static uint16_t text_number(int by, struct tp_str text)
{
	uint32_t number = 0;
	while (number < texts[by].count && !text_is(by, number, text))
		number++;
	assert_true(number < TEXTS_MAX);
	if (number == texts[by].count) {
		memcpy(texts[by].at[number], text.at, text.bytes);
		texts[by].bytes[number] = text.bytes;
		texts[by].count++;
	}
	return (uint16_t)number;
}

static void plain_make(void)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	for (uint64_t n = 0; n < MANY; n++) {
		const struct tp_event *event = rich_event(room, n);
		plain[n] = (struct plain){event->timestamp_ms, event->bid_micros, event->fraud, event->type, event->verdict, {0}};
		for (int by = 0; by < SUM_BY; by++)
			plain[n].text[by] = text_number(by, tp_event_string(event, sum_by[by]));
	}
}

static bool is_expected(const struct sto_scan_filter *filter, const struct plain *event)
{
	return event->time_ms >= filter->from_ms && (!filter->to_ms || event->time_ms < filter->to_ms) &&
	       (!filter->types || filter->types >> event->type & 1) &&
	       (!filter->verdicts || filter->verdicts >> event->verdict & 1) &&
	       (!filter->tagged || event->fraud || event->verdict == TP_AMENDED) && (!filter->untagged || !event->fraud) &&
	       (!filter->campaign.at || text_is(0, event->text[0], filter->campaign)) &&
	       (!filter->ad.at || text_is(1, event->text[1], filter->ad)) &&
	       (!filter->advertiser.at || text_is(2, event->text[2], filter->advertiser));
}

/* What the filter should find. */
static struct found expected(const struct sto_scan_filter *filter)
{
	struct found found = {0};
	for (uint64_t n = 0; n < MANY; n++) {
		if (!is_expected(filter, &plain[n]))
			continue;
		found.rows++;
		found.time_sum += plain[n].time_ms;
		found.spend += (uint64_t)plain[n].bid;
		found.fraud += plain[n].fraud;
	}
	return found;
}

/* ---- scanning ---- */

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
	plain_make();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	rmdir(folder);
	return 0;
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

/* The wanted rows' values alone, in both orders of asking: before and after all values. */
static void picked_check(struct sto_scan *scan)
{
	static const uint32_t columns[] = {STO_COLUMN_BID,     STO_COLUMN_TIME,    STO_COLUMN_TYPE,    STO_COLUMN_FRAUD,
					   STO_COLUMN_VERDICT, STO_COLUMN_LAG,     STO_COLUMN_COUNTRY, STO_COLUMN_DEVICE,
					   STO_COLUMN_FLAGS,   STO_COLUMN_CURRENCY};
	enum { NUMBERS = sizeof(columns) / sizeof(columns[0]) };
	for (uint32_t c = 0; c < NUMBERS + TP_STRINGS; c++) {
		uint32_t count, column = c < NUMBERS ? columns[c] : STO_COLUMN_TEXT + (c - NUMBERS);
		const uint32_t *selected = sto_scan_selected(scan, &count);
		const uint64_t *picked = sto_scan_picked(scan, column), *value = sto_scan_values(scan, column);
		assert_true(picked && value);
		assert_ptr_equal(picked, sto_scan_picked(scan, column));
		for (uint32_t i = 0; i < count; i++)
			if (picked[i] != value[selected ? selected[i] : i])
				fail_msg("column %u, wanted row %u of %u", column, i, count);
	}
}

/* Sums by several columns of texts: a block's must be those of its rows, all blocks' those of the events. */
static void sums_check(const struct sto_scan_filter *filter, size_t number)
{
	static __int128 sum[SUM_BY][TEXTS_MAX], wanted[SUM_BY][TEXTS_MAX];
	struct sto_scan *scan = NULL;
	bool any = false;
	int rc;
	memset(sum, 0, sizeof(sum));
	memset(wanted, 0, sizeof(wanted));
	assert_int_equal(sto_scan_open_file(&scan, path, filter), 0);
	while ((rc = sto_scan_next(scan)) == 1) {
		for (int by = 0; by < SUM_BY; by++) {
			assert_int_equal(sto_scan_texts(scan, sum_by[by]), texts[by].count);
			assert_int_equal(sto_scan_sum(scan, sum_by[by], STO_COLUMN_BID, sum[by]), 0);
		}
		picked_check(scan);
		any = true;
	}
	assert_int_equal(rc, 0);
	for (uint64_t n = 0; n < MANY; n++)
		for (int by = 0; by < SUM_BY && is_expected(filter, &plain[n]); by++)
			wanted[by][plain[n].text[by]] += plain[n].bid;
	for (int by = 0; by < SUM_BY; by++)
		for (uint32_t code = 0; code < texts[by].count; code++) {
			/* without a block that was looked at there may be no dictionary, and is nothing to find */
			const __int128 right = wanted[by][any ? text_number(by, sto_scan_text(scan, sum_by[by], code)) : code];
			if (sum[by][code] != right)
				fail_msg("filter %zu, by %d, text %u: %ld, expected %ld", number, by, code, (long)sum[by][code],
					 (long)right);
		}
	sto_scan_close(scan);
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
		{.from_ms = SAMPLE_MS + 60000, .to_ms = SAMPLE_MS + 30000},
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
		{.untagged = true},
		{.untagged = true, .types = 1 << TP_CLICK, .verdicts = 1 << TP_ACCEPTED | 1 << TP_LATE},
		{.untagged = true, .tagged = true},
		{.tagged = true},
		{.tagged = true, .types = 1 << TP_CLICK, .verdicts = 1 << TP_ACCEPTED | 1 << TP_LATE, .ad = ad},
		{.tagged = true, .types = 1 << TP_IMPRESSION},
		{.campaign = campaign, .from_ms = SAMPLE_MS + 30000, .to_ms = SAMPLE_MS + 90000, .types = 1 << TP_IMPRESSION},
	};
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		const struct found wanted = expected(&filters[i]), found = scanned(&filters[i]);
		if (memcmp(&wanted, &found, sizeof(found)) != 0)
			fail_msg("filter %zu: %lu rows, expected %lu", i, found.rows, wanted.rows);
		sums_check(&filters[i], i);
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

struct campaign_model {
	uint32_t count;
	struct campaign_one {
		char campaign[TP_ID_BYTES_MAX + 1], currency[4];
		struct tp_sums sums;
		bool found;
	} one[64];
};

static struct tp_sums *model_of(struct campaign_model *model, struct tp_str campaign, const char *currency, bool finding)
{
	uint32_t i = 0;
	while (i < model->count &&
	       (strlen(model->one[i].campaign) != campaign.bytes || memcmp(model->one[i].campaign, campaign.at, campaign.bytes) ||
		strncmp(model->one[i].currency, currency, 3)))
		i++;
	struct campaign_one *one = &model->one[i];
	if (i == model->count) {
		assert_true(!finding && ++model->count < 64);
		memcpy(one->campaign, campaign.at, campaign.bytes);
		memcpy(one->currency, currency, 3);
	}
	assert_false(one->found);
	one->found |= finding;
	return &one->sums;
}

static void model_hold(void *context, const struct sto_scan_campaign *campaign)
{
	const struct tp_sums *sums = model_of(context, campaign->campaign, campaign->currency, true);
	assert_memory_equal(sums, &campaign->sums, sizeof(*sums));
}

/* Each campaign once a currency, with what its events come to when they are added up one by one. */
static void test_campaigns(void **state)
{
	static struct campaign_model model;
	struct sto_scan *scan = NULL;
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	(void)state;
	for (uint64_t n = 0; n < MANY; n++) {
		const struct tp_event *event = rich_event(room, n);
		const bool amends = event->verdict == TP_AMENDED && event->type == TP_CLICK && !event->fraud;
		if (event->verdict != TP_ACCEPTED && event->verdict != TP_LATE && !amends)
			continue;
		struct tp_sums *sums = model_of(&model, tp_event_string(event, TP_CAMPAIGN_ID), event->currency, false);
		sums->late += event->verdict == TP_LATE || amends;
		sums->impressions += event->type == TP_IMPRESSION;
		sums->conversions += event->type == TP_CONVERSION;
		sums->flagged_clicks += event->type == TP_CLICK && event->fraud;
		sums->flagged_clicks -= amends;
		if (event->type == TP_CLICK && !event->fraud) {
			sums->clicks++;
			sums->spend_micros += event->bid_micros;
		}
	}
	assert_true(model.count > 20);
	assert_int_equal(sto_scan_open_file(&scan, path, NULL), 0);
	assert_int_equal(sto_scan_campaigns(scan, model_hold, &model), 0);
	for (uint32_t i = 0; i < model.count; i++)
		assert_true(model.one[i].found);
	sto_scan_close(scan);
}

/* Bytes of a good file turned, one at a time: refused, or without a part in the answer. */
static void test_damage(void **state)
{
	static const struct sto_scan_filter filters[] = {{0},
							 {.types = 1 << TP_CLICK,
							  .verdicts = 1 << TP_ACCEPTED | 1 << TP_LATE,
							  .untagged = true,
							  .from_ms = SAMPLE_MS + 60000}};
	char other[sizeof(path) + 8];
	uint64_t bytes, refused = 0, same = 0;
	uint8_t *file = rich_segment(5000, NULL, 0, &bytes);
	__int128 sum[64], right[2][64] = {{0}};
	(void)state;
	snprintf(other, sizeof(other), "%s/2.seg", folder);
	for (uint64_t turn = 0; turn < 600; turn++) {
		const uint64_t at = sample_mix(turn) % bytes;
		file[at] ^= (uint8_t)(turn ? 1 + sample_mix(at) % 255 : 0);
		FILE *to = fopen(other, "w");
		assert_int_equal(fwrite(file, 1, bytes, to), bytes);
		assert_int_equal(fclose(to), 0);
		for (int f = 0; f < 2; f++) {
			struct sto_scan *scan = NULL;
			memset(sum, 0, sizeof(sum));
			int rc = sto_scan_open_file(&scan, other, &filters[f]);
			while (!rc && (rc = sto_scan_next(scan)) == 1)
				rc = sto_scan_texts(scan, TP_CAMPAIGN_ID) <= 64
					     ? sto_scan_sum(scan, TP_CAMPAIGN_ID, STO_COLUMN_BID, sum)
					     : -EBADMSG;
			if (!turn)
				memcpy(right[f], sum, sizeof(sum));
			assert_true(rc == 0 || (turn && (rc == -EBADMSG || rc == -ENOTSUP)));
			if (!rc)
				assert_memory_equal(sum, right[f], sizeof(sum));
			refused += rc != 0;
			same += !rc;
			sto_scan_close(scan);
		}
		file[at] ^= (uint8_t)(turn ? 1 + sample_mix(at) % 255 : 0);
	}
	assert_true(refused > 0 && same > 2);
	unlink(other);
	free(file);
}

/* The first block being good says nothing of the second. */
static void test_second_block(void **state)
{
	static const uint32_t columns[] = {STO_COLUMN_TYPE, STO_COLUMN_BID, STO_COLUMN_TEXT + TP_CAMPAIGN_ID};
	static const struct sto_scan_filter clicks = {.types = 1 << TP_CLICK};
	static __int128 sum[TEXTS_MAX];
	char other[sizeof(path) + 8];
	struct segment segment;
	FILE *from = fopen(path, "r");
	(void)state;
	assert_non_null(from);
	assert_int_equal(fseek(from, 0, SEEK_END), 0);
	const uint64_t bytes = (uint64_t)ftell(from);
	uint8_t *file = aligned_alloc(64, bytes);
	rewind(from);
	assert_int_equal(fread(file, 1, bytes, from), bytes);
	fclose(from);
	snprintf(other, sizeof(other), "%s/3.seg", folder);
	assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
	for (size_t c = 0; c < sizeof(columns) / sizeof(columns[0]); c++)
		for (int bit = 0; bit < 8; bit++) {
			uint32_t at = 0;
			while (segment.column[at].column != columns[c])
				at++;
			const struct segment_block *block = &segment.block[segment.column[at].block + 1];
			file[block->offset + block->bytes - 1] ^= (uint8_t)(1 << bit);
			FILE *to = fopen(other, "w");
			assert_int_equal(fwrite(file, 1, bytes, to), bytes);
			assert_int_equal(fclose(to), 0);
			file[block->offset + block->bytes - 1] ^= (uint8_t)(1 << bit);
			struct sto_scan *scan = NULL;
			assert_int_equal(sto_scan_open_file(&scan, other, &clicks), 0);
			assert_int_equal(sto_scan_next(scan), 1);
			assert_int_equal(sto_scan_sum(scan, TP_CAMPAIGN_ID, STO_COLUMN_BID, sum), 0);
			int rc = sto_scan_next(scan);
			if (rc == 1)
				rc = sto_scan_sum(scan, TP_CAMPAIGN_ID, STO_COLUMN_BID, sum);
			assert_int_equal(rc, -EBADMSG);
			sto_scan_close(scan);
		}
	segment.io = NULL; /* nothing is mapped */
	segment_close(&segment);
	unlink(other);
	free(file);
}

/* ---- what is asked for ahead ---- */

static struct {
	uint64_t from, to;
} asked[64];
static uint32_t asks;

static void ask_note(const struct sto_io *io, const uint8_t *at, uint64_t bytes)
{
	const struct sto_scan *scan = io->context;
	assert_true(asks < 64);
	asked[asks].from = (uint64_t)(at - scan->segment.base);
	asked[asks++].to = (uint64_t)(at - scan->segment.base) + bytes;
}

static bool is_asked(const struct segment_block *block)
{
	for (uint32_t i = 0; i < asks; i++)
		if (asked[i].from <= block->offset && block->offset + block->bytes <= asked[i].to)
			return true;
	return false;
}

/* How many blocks of the column were asked for. */
static uint32_t column_asked(const struct sto_scan *scan, uint32_t column)
{
	uint32_t count = 0;
	for (uint32_t b = 0; b < scan->rows.blocks; b++)
		count += is_asked(segment_rows_zone(&scan->rows, column, b));
	return count;
}

/* A scan asks for what it read of the segment before, and only where the zones leave something to be wanted. */
static void test_fetch(void **state)
{
	(void)state;
	struct sto_scan *scan = NULL;
	struct sto_io io = *sto_io_system();
	for (int turn = 0; turn < 4; turn++) {
		const struct sto_scan_filter filter = {.types = turn == 3 ? 1u << 30 : 1u << TP_CLICK};
		assert_int_equal(sto_scan_open_file(&scan, path, &filter), 0);
		io.context = scan;
		io.fetch = turn == 2 ? NULL : ask_note;
		scan->segment.io = &io;
		asks = 0;
		bool any = false;
		while (sto_scan_next(scan) == 1) {
			any = true;
			assert_non_null(sto_scan_values(scan, STO_COLUMN_BID));
		}
		assert_int_equal(any, turn != 3);
		if (turn != 1) { /* nothing is known yet; nothing can be asked; nothing is wanted */
			assert_int_equal(asks, 0);
			continue;
		}
		assert_true(asks > 0);
		assert_int_equal(column_asked(scan, SEGMENT_BID), scan->rows.blocks);
		assert_int_equal(column_asked(scan, SEGMENT_TYPE), scan->rows.blocks);
		assert_int_equal(column_asked(scan, SEGMENT_TEXT + TP_USER_AGENT), 0);
	}
	sto_scan_close(scan);
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
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filters),      cmocka_unit_test(test_find),      cmocka_unit_test(test_runs),
		cmocka_unit_test(test_facts),        cmocka_unit_test(test_campaigns), cmocka_unit_test(test_damage),
		cmocka_unit_test(test_second_block), cmocka_unit_test(test_fetch),     cmocka_unit_test(test_threads),
	};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, setup, teardown);
}
