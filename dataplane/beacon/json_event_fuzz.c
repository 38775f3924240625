/*
 * libFuzzer: any bytes into the event parser. Every variant must give what the scalar one gives, an accepted event must make a
 * valid record, the one that it makes when it is finished without a scratch, and nothing may be read or written out of bounds (run it with the address sanitizer).
 */
#include "json_parse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(bool good)
{
	if (!good)
		abort();
}

/* The event as its record; 0 if there is none. */
static uint32_t record(const struct dp_json_result *result, const struct tp_parsed *parsed, struct tp_event *to)
{
	if (result->reason != TP_OK)
		return 0;
	uint32_t bytes = tp_event_encoded_bytes(parsed);
	check(bytes <= TP_EVENT_BYTES_MAX);
	tp_event_encode(parsed, to);
	check(tp_event_valid(to, bytes));
	static _Alignas(8) char plain_record[TP_EVENT_BYTES_MAX];
	struct tp_parsed plain = *parsed;
	plain.lie = TP_STRINGS_APART;
	tp_event_finish(&plain);
	tp_event_encode(&plain, (struct tp_event *)plain_record);
	check(memcmp(plain_record, to, bytes) == 0);
	return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct dp_json_scratch *scratch;
	static _Alignas(8) char expected_record[TP_EVENT_BYTES_MAX], found_record[TP_EVENT_BYTES_MAX];
	static const struct dp_json_limits limits = {.now_ms = 1700000000000, .max_future_ms = 60000};
	if (!scratch)
		scratch = dp_json_scratch_new();
	check(scratch);
	struct tp_parsed parsed;
	scratch->variant = &dp_json_scalar;
	struct dp_json_result expected = dp_json_event(scratch, (const char *)data, bytes, &limits, &parsed);
	check(expected.used <= bytes && (expected.reason != TP_OK || !expected.syntax) && expected.reason < TP_REJECTS);
	uint32_t faults = scratch->faults;
	uint32_t record_bytes = record(&expected, &parsed, (struct tp_event *)expected_record);
	for (const struct dp_json_variant *const *v = dp_json_variants(); *v; v++) {
		scratch->variant = *v;
		struct dp_json_result found = dp_json_event(scratch, (const char *)data, bytes, &limits, &parsed);
		check(found.reason == expected.reason && found.field == expected.field && found.syntax == expected.syntax &&
		      found.used == expected.used && found.bad_trace == expected.bad_trace);
		check(found.syntax || scratch->faults == faults);
		check(record(&found, &parsed, (struct tp_event *)found_record) == record_bytes);
		check(memcmp(expected_record, found_record, record_bytes) == 0);
	}
	return 0;
}
