/*
 * The worked example of docs/segment-format.md against the code: the two events make exactly these bytes, and the bytes make the events.
 * segment_example_test --print shows what the page should have.
 */
#include "sample.h"
#include "segment.h"
#include "turnpike/log.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define EXAMPLE_MS 1700000000000ULL

static struct tp_str text(const char *from)
{
	return (struct tp_str){from, (uint16_t)strlen(from)};
}

static struct tp_event *example_event(void *to, int n)
{
	struct tp_parsed parsed;
	int uuid;
	memset(&parsed, 0, sizeof(parsed));
	parsed.fixed.type = n ? TP_CLICK : TP_IMPRESSION;
	parsed.fixed.id =
		tp_id_from_text(n ? "123e4567-e89b-42d3-a456-426614174001" : "123e4567-e89b-42d3-a456-426614174000", 36, &uuid);
	parsed.fixed.timestamp_ms = EXAMPLE_MS + (n ? 1500 : 0);
	parsed.fixed.received_ms = parsed.fixed.timestamp_ms + 40;
	if (n) {
		parsed.fixed.flags = TP_HAS_BID;
		parsed.fixed.bid_micros = 250000;
	}
	parsed.string[TP_AD_ID] = text("ad-1");
	parsed.string[TP_CAMPAIGN_ID] = text("spring");
	parsed.string[TP_ADVERTISER_ID] = text("shoes");
	parsed.string[TP_USER_AGENT] = text("Mozilla/5.0 (X11; Linux x86_64)");
	tp_event_finish(&parsed);
	struct tp_event *event = to;
	tp_event_encode(&parsed, event);
	event->verdict = TP_ACCEPTED;
	return event;
}

static uint8_t *example_file(uint64_t *bytes)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	const struct segment_build_options options = {.sequence = 1,
						      .file_id = 7,
						      .sealed_ms = EXAMPLE_MS + 60000,
						      .node_id = (const uint8_t *)"node-of-example!",
						      .zstd_level = 3};
	struct segment_build *build = segment_build_new(NULL);
	struct buffer out = {0};
	for (int n = 0; n < 2; n++)
		assert_int_equal(segment_build_event(build, example_event(room, n)), 0);
	assert_int_equal(segment_build_sort(build), 0);
	assert_int_equal(segment_build_file(build, &options, &out), 0);
	segment_build_free(build);
	uint8_t *file = aligned_alloc(64, out.bytes);
	memcpy(file, out.at, *bytes = out.bytes);
	buffer_fini(&out);
	return file;
}

static bool line_make(const uint8_t *file, uint64_t at, char line[80])
{
	static const uint8_t zeros[16];
	if (!memcmp(file + at, zeros, 16))
		return false;
	int length = snprintf(line, 80, "%04lx ", at);
	for (int i = 0; i < 16; i++)
		length += snprintf(line + length, 80 - (size_t)length, " %02x", file[at + (uint64_t)i]);
	snprintf(line + length, 80 - (size_t)length, "\n");
	return true;
}

static void test_page(void **state)
{
	char found[256], expected[80], wanted[64];
	uint64_t bytes, at = 0;
	bool told = false;
	(void)state;
	uint8_t *file = example_file(&bytes);
	FILE *page = fopen(DOCS "/segment-format.md", "r");
	assert_non_null(page);
	snprintf(wanted, sizeof(wanted), "segment of %lu bytes", bytes);
	while (fgets(found, sizeof(found), page) && strcmp(found, "<!-- example -->\n") != 0)
		told |= strstr(found, wanted) != NULL;
	assert_true(told);
	assert_non_null(fgets(found, sizeof(found), page));
	for (; at < bytes; at += 16) {
		if (!line_make(file, at, expected))
			continue;
		assert_non_null(fgets(found, sizeof(found), page));
		if (strcmp(found, expected) != 0)
			fail_msg("the page has %s the code makes %s", found, expected);
	}
	assert_string_equal(fgets(found, sizeof(found), page), "```\n");
	fclose(page);
	free(file);
}

static int event_check(void *context, const struct tp_event *event)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	int *n = context;
	const struct tp_event *expected = example_event(room, (*n)++);
	assert_int_equal(event->bytes, expected->bytes);
	assert_memory_equal(event, expected, event->bytes);
	return 0;
}

static void test_events(void **state)
{
	uint64_t bytes;
	int n = 0;
	struct segment segment;
	(void)state;
	uint8_t *file = example_file(&bytes);
	assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
	assert_int_equal(segment_events(&segment, event_check, &n), 0);
	assert_int_equal(n, 2);
	segment_close(&segment);
	free(file);
}

int main(int arguments, char **argument)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_page), cmocka_unit_test(test_events)};
	if (arguments == 2 && !strcmp(argument[1], "--print")) {
		char line[80];
		uint64_t bytes;
		uint8_t *file = example_file(&bytes);
		for (uint64_t at = 0; at < bytes; at += 16)
			if (line_make(file, at, line))
				fputs(line, stdout);
		free(file);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
