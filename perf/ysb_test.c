/*
 * The Yahoo streaming benchmark's parts: the two cases of the parser against each other, what the general case refuses, windows
 * against a naive count with events out of order, and a reader beside the writer.
 */
#include "ysb.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define START_MS UINT64_C(1700000000000)
#define USER     "\"user_id\": \"192e4ef3-9f90-4f6f-9326-ae6d10cbfdd1\""
#define PAGE     "\"page_id\": \"efed3485-e7e5-46ad-82fa-48ace78acf71\""
#define AD       "\"ad_id\": \"55d83c04-7fcd-420c-bb79-5f03708d00db\""
#define TYPES    "\"ad_type\": \"mobile\", \"event_type\": \"view\""
#define TIME     "\"event_time\": \"1699999999976\""
#define IP       "\"ip_address\": \"1.2.3.4\""
#define TAIL     PAGE ", " AD ", " TYPES ", " TIME ", " IP "}"

static enum tp_reject parse(struct ysb_parser *parser, const char *text, size_t bytes, bool fast, struct ysb_tuple *tuple)
{
	/* on the heap and of the exact size, so that the address sanitizer sees a read too far */
	char *copy = malloc(bytes ? bytes : 1);
	assert_non_null(copy);
	memcpy(copy, text, bytes);
	const enum tp_reject reason = ysb_parse(parser, copy, bytes, fast, tuple);
	free(copy);
	return reason;
}

static void what_is_written_is_read(void **state)
{
	(void)state;
	struct ysb_parser *parser = ysb_parser_new();
	struct ysb_stream stream;
	assert_non_null(parser);
	ysb_stream_begin(&stream, 7, START_MS, 10000);
	for (int i = 0; i < 20000; i++) {
		char text[YSB_JSON_BYTES_MAX];
		struct ysb_tuple made, read;
		ysb_stream_next(&stream, &made);
		const uint32_t bytes = ysb_tuple_json(&made, text);
		for (int fast = 0; fast < 2; fast++) {
			assert_int_equal(parse(parser, text, bytes, fast, &read), TP_OK);
			assert_memory_equal(&read, &made, sizeof(made));
		}
	}
	ysb_parser_free(parser);
}

static void each_fault_has_its_reason(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum tp_reject reason;
	} row[] = {
		{"{" USER ", " TAIL, TP_OK},
		{"{" IP "," TIME "," TYPES "," AD "," PAGE "," USER "}", TP_OK},
		{" {" USER ", " TAIL, TP_MALFORMED},
		{"{\n\t" USER " ,\r\n" TAIL " \n", TP_OK},
		{"{" USER ", \"other\": [1, {\"a\": null}], " TAIL, TP_OK},
		{"{" USER ", \"other\": [1, {\"a\": nul}], " TAIL, TP_MALFORMED},
		{"{" USER ", \"other\": {\"a\": 1, \"\\u0061\": 2}, " TAIL, TP_DUPLICATE_KEY},
		{"{" USER ", \"o\": 1, \"o\": 2, " TAIL, TP_DUPLICATE_KEY},
		{"{" USER ", " USER ", " TAIL, TP_DUPLICATE_KEY},
		{"{\"\\u0075ser_id\": \"x\", " TAIL, TP_OK},
		{"{\"\\u0075ser_id\": \"x\", " USER ", " TAIL, TP_DUPLICATE_KEY},
		{"{\"user_id\": null, " TAIL, TP_MISSING_FIELD},
		{"{\"user_id\": nulL, " TAIL, TP_MALFORMED},
		{"{" TAIL, TP_MISSING_FIELD},
		{"{}", TP_MISSING_FIELD},
		{"{\"user_id\": 12, " TAIL, TP_BAD_TYPE},
		{"{\"user_id\": 012, " TAIL, TP_MALFORMED},
		{"{\"user_id\": \"\", " TAIL, TP_BAD_VALUE},
		{"{\"user_id\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", " TAIL, TP_TOO_LONG},
		{"{\"user_id\": \"\xff\", " TAIL, TP_BAD_UTF8},
		{"{\"user_id\": \"\\ud800\", " TAIL, TP_BAD_UTF8},
		{"{\"user_id\": \"\x01\", " TAIL, TP_MALFORMED},
		{"{\"user_id\": \"h\xc3\xa9\", " TAIL, TP_OK},
		{"{" USER ", " TAIL "}", TP_MALFORMED},
		{"{" USER ", " PAGE ", " AD ", " TYPES ", " TIME ", " IP ",}", TP_MALFORMED},
		{"{" USER ", " PAGE ", " AD ", " TYPES ", " TIME ", " IP, TP_MALFORMED},
		{"{" USER ", " PAGE ", " AD ", " TYPES ", " IP ", \"event_time\": \"12a\"}", TP_BAD_VALUE},
		{"{" USER ", " PAGE ", " AD ", " TYPES ", " IP ", \"event_time\": \"01\"}", TP_BAD_VALUE},
		{"{" USER ", " PAGE ", " AD ", " TYPES ", " IP ", \"event_time\": \"\"}", TP_BAD_VALUE},
		{"{" USER ", " PAGE ", " AD ", " TYPES ", " IP ", \"event_time\": 12}", TP_BAD_TYPE},
		{"{" USER ", " PAGE ", " AD ", " TYPES ", " TIME ", \"ip_address\": \"1.2.3\"}", TP_BAD_VALUE},
		{"{" USER ", " PAGE ", " AD ", " TIME ", " IP ", \"ad_type\": \"mail\", \"event_type\": \"views\"}", TP_BAD_VALUE},
		{"[]", TP_BAD_TYPE},
		{"", TP_MALFORMED},
		{"{", TP_MALFORMED},
	};
	struct ysb_parser *parser = ysb_parser_new();
	int differ = 0;
	for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++)
		for (int fast = 0; fast < 2; fast++) {
			struct ysb_tuple tuple;
			const enum tp_reject got = parse(parser, row[i].text, strlen(row[i].text), fast, &tuple);
			if (got != row[i].reason) {
				print_error("%s: got %s, wanted %s\n", row[i].text, tp_reject_name(got),
					    tp_reject_name(row[i].reason));
				differ++;
			}
		}
	assert_int_equal(differ, 0);
	ysb_parser_free(parser);
}

/* Events broken at random: both cases say the same, to the last byte of the tuple. */
static void both_cases_agree(void **state)
{
	(void)state;
	static const char other[] = "\"\\{}[]:, 0az\n\xc3\xff";
	struct ysb_parser *parser = ysb_parser_new();
	struct ysb_stream stream;
	int fine = 0;
	ysb_stream_begin(&stream, 8, START_MS, 10000);
	for (int i = 0; i < 50000; i++) {
		char text[YSB_JSON_BYTES_MAX];
		struct ysb_tuple made, fast, general;
		ysb_stream_next(&stream, &made);
		uint32_t bytes = ysb_tuple_json(&made, text);
		for (uint64_t n = ysb_stream_draw(&stream) % 3; n > 0; n--)
			text[ysb_stream_draw(&stream) % bytes] = other[ysb_stream_draw(&stream) % (sizeof(other) - 1)];
		if (ysb_stream_draw(&stream) % 8 == 0)
			bytes = (uint32_t)(ysb_stream_draw(&stream) % bytes);
		const enum tp_reject a = parse(parser, text, bytes, true, &fast), b = parse(parser, text, bytes, false, &general);
		assert_int_equal(a, b);
		if (a == TP_OK)
			assert_memory_equal(&fast, &general, sizeof(fast));
		fine += a == TP_OK;
	}
	assert_in_range(fine, 10000, 40000);
	ysb_parser_free(parser);
}

struct naive {
	uint64_t wanted[512][YSB_CAMPAIGNS], found[512][YSB_CAMPAIGNS];
	uint64_t last;
};

static uint64_t row_of(uint64_t window)
{
	return window - (START_MS / YSB_WINDOW_MS - YSB_WINDOWS_OPEN);
}

static void keep(void *context, uint64_t window, const uint64_t count[YSB_CAMPAIGNS])
{
	struct naive *naive = context;
	assert_true(window > naive->last);
	assert_in_range(row_of(window), 0, 511);
	naive->last = window;
	memcpy(naive->found[row_of(window)], count, sizeof(naive->found[0]));
}

/* Bursts of any size, a leap in time, a view of an unknown ad, and one whose window has closed. */
static void windows_are_the_naive_count(void **state)
{
	(void)state;
	static struct naive naive;
	struct ysb_stream stream;
	ysb_stream_begin(&stream, 9, START_MS, 10000);
	struct ysb_counter *counter = ysb_counter_new(stream.ad, START_MS, keep, &naive);
	assert_non_null(counter);
	uint64_t shift_ms = 0;
	for (int burst = 0; burst < 4000; burst++) {
		struct ysb_tuple tuple[YSB_BURST];
		const uint32_t count = (uint32_t)(ysb_stream_draw(&stream) % (YSB_BURST + 1));
		if (burst == 2000)
			shift_ms = 37 * YSB_WINDOW_MS;
		for (uint32_t i = 0; i < count; i++) {
			const uint32_t campaign = ysb_stream_next(&stream, &tuple[i]);
			if (burst >= 100 && burst < 200 && i == 0)
				tuple[i].time_ms -= (burst - 100) * 600; /* up to the last minute */
			if (tuple[i].event_type == YSB_VIEW)
				naive.wanted[row_of((tuple[i].time_ms + shift_ms) / YSB_WINDOW_MS)][campaign]++;
		}
		ysb_count(counter, tuple, count, shift_ms);
	}
	struct ysb_tuple odd = {.ad = stream.ad[0], .time_ms = START_MS, .event_type = YSB_VIEW};
	ysb_count(counter, &odd, 1, 0);
	/* one half of a known id each, so many that some begin their search at that id's own slot */
	for (uint64_t i = 1; i <= 8192; i++) {
		odd.ad = (struct tp_id){.hi = stream.ad[0].hi, .lo = stream.ad[0].lo ^ i};
		ysb_count(counter, &odd, 1, 0);
		odd.ad = (struct tp_id){.hi = stream.ad[0].hi ^ i, .lo = stream.ad[0].lo};
		ysb_count(counter, &odd, 1, 0);
	}
	odd.event_type = YSB_CLICK;
	ysb_count(counter, &odd, 1, 0);
	ysb_counter_flush(counter);
	assert_int_equal(ysb_counter_late(counter), 1);
	assert_int_equal(ysb_counter_unknown(counter), 2 * 8192);
	assert_memory_equal(naive.found, naive.wanted, sizeof(naive.wanted));
	ysb_counter_free(counter);
}

struct watched {
	const struct ysb_counter *counter;
	_Atomic uint64_t newest;
	_Atomic bool stop;
	_Atomic uint64_t reads;
	uint64_t torn;
};

/* One view for each campaign in turn, so all counts of a window are equal, or those up to one place are one more. */
static void *watch(void *argument)
{
	struct watched *watched = argument;
	while (!atomic_load(&watched->stop)) {
		uint64_t count[YSB_CAMPAIGNS];
		/* the oldest that may be open: the one that closes next */
		if (!ysb_counter_read(watched->counter, atomic_load(&watched->newest) - (YSB_WINDOWS_OPEN - 1), count))
			continue;
		watched->reads++;
		for (int i = 1; i < YSB_CAMPAIGNS; i++)
			watched->torn += count[i] != count[0];
	}
	return NULL;
}

static void nothing(void *context, uint64_t window, const uint64_t count[YSB_CAMPAIGNS])
{
	(void)context, (void)window;
	for (int i = 1; i < YSB_CAMPAIGNS; i++)
		assert_int_equal(count[i], count[0]);
}

static void a_reader_sees_a_window_whole(void **state)
{
	(void)state;
	struct ysb_stream stream;
	ysb_stream_begin(&stream, 10, START_MS, 10000);
	struct ysb_counter *counter = ysb_counter_new(stream.ad, START_MS, nothing, NULL);
	struct watched watched = {.counter = counter, .newest = START_MS / YSB_WINDOW_MS};
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, watch, &watched), 0);
	for (uint64_t w = 0; w < 200000 || (watched.reads < 300000 && w < 20000000); w++) {
		struct ysb_tuple tuple[YSB_CAMPAIGNS];
		for (int i = 0; i < YSB_CAMPAIGNS; i++)
			tuple[i] = (struct ysb_tuple){
				.ad = stream.ad[i * YSB_ADS_EACH], .time_ms = START_MS + w * YSB_WINDOW_MS, .event_type = YSB_VIEW};
		ysb_count(counter, tuple, YSB_BURST, 0);
		ysb_count(counter, tuple + YSB_BURST, YSB_CAMPAIGNS - YSB_BURST, 0);
		atomic_store(&watched.newest, START_MS / YSB_WINDOW_MS + w);
	}
	atomic_store(&watched.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(watched.torn, 0);
	assert_true(watched.reads > 0);
	ysb_counter_free(counter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(each_fault_has_its_reason),
		cmocka_unit_test(both_cases_agree),
		cmocka_unit_test(windows_are_the_naive_count),
		cmocka_unit_test(a_reader_sees_a_window_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
