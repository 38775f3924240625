/* Money, times, durations and sizes from arbitrary bytes: within their ranges, and back from their own text to the same value. */
#include "turnpike/event.h"
#include "turnpike/text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int true_one)
{
	if (!true_one)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	char out[64];
	int64_t micros, micros_back;
	if (tp_micros_parse(text, size, &micros) == 0) {
		require(micros >= 0 && micros <= TP_BID_MICROS_MAX);
		size_t bytes = tp_micros_text(micros, out);
		require(tp_micros_parse(out, bytes, &micros_back) == 0 && micros_back == micros);
	}
	uint64_t ms, ms_back, value;
	if (tp_time_parse(text, size, &ms) == 0 && ms < UINT64_C(253402300800000)) { /* a year of four digits */
		size_t bytes = tp_time_text(ms, out);
		require(bytes < 32 && tp_time_parse(out, bytes, &ms_back) == 0 && ms_back == ms);
	}
	tp_duration_parse(text, size, &value);
	tp_size_parse(text, size, &value);
	return 0;
}
