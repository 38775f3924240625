/*
 * How fast events are parsed: dp_json_event() on one core, over more events than fit in the second-level cache.
 *
 *   bench_json [--seconds S] [--events N] [--seed N] [--variant NAME] [--profile | --print]
 *
 * Prints one line per mode: name, events/s, GB/s. The modes:
 *   fields   the parse alone: grammar, schema, every field typed and in place. The peer is bench_simdjson's `fields`.
 *   event    dp_json_event(): also the id, the address, the fingerprint. The peer is bench_simdjson's `event`.
 *   rest     the same on the elements of a long array, whose ends are not known beforehand
 * Each is the best of the rounds that fit in the time, in processor time: the noise of a shared machine only ever slows down.
 * `--print` writes the events instead, one a line, for a peer.
 */
#include "make_events.h"

#include "json_parse.h"
#include "turnpike/text.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum mode { FIELDS, EVENT, REST, MODES };
static const char *const mode_name[MODES] = {"fields", "event", "rest"};

static const struct dp_json_limits limits = {.now_ms = PERF_EVENTS_NOW_MS, .max_future_ms = 60000};

/* The time that this thread had a core: what others do to the machine shows less. */
static uint64_t cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t round_run(struct dp_json_scratch *scratch, const struct perf_events *events, enum mode mode)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < events->count; i++) {
		const char *text = events->text + events->start[i];
		size_t bytes = events->start[i + 1] - events->start[i] - 1;
		struct tp_parsed parsed;
		struct dp_json_result result;
		switch (mode) {
		case FIELDS:
			result = dp_json_fields_only(scratch, text, bytes, &limits, &parsed);
			break;
		case EVENT:
			result = dp_json_event(scratch, text, bytes, &limits, &parsed);
			break;
		default:
			result = dp_json_event(scratch, text, events->bytes - events->start[i], &limits, &parsed);
		}
		if (result.reason != TP_OK) {
			fprintf(stderr, "bench_json: event %u: %s %s\n", i, tp_reject_name(result.reason),
				tp_field_name(result.field));
			exit(1);
		}
		sum += parsed.fixed.timestamp_ms + (uint64_t)parsed.fixed.bid_micros + parsed.string[TP_USER_AGENT].bytes;
	}
	return sum;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"seconds", required_argument, NULL, 's'},
		{"events", required_argument, NULL, 'e'},
		{"seed", required_argument, NULL, 'r'},
		{"variant", required_argument, NULL, 'v'},
		{"profile", no_argument, NULL, 'p'},
		{"print", no_argument, NULL, 'w'},
		{0},
	};
	double seconds = 1;
	uint32_t count = 100000;
	uint64_t seed = 1;
	const char *variant = NULL;
	bool profile = false, print = false;
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 's':
			seconds = strtod(optarg, NULL);
			break;
		case 'e':
			count = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 'v':
			variant = optarg;
			break;
		case 'p':
			profile = true; /* one round of `fields`, for callgrind */
			break;
		case 'w':
			print = true;
			break;
		default:
			return 2;
		}
	}
	struct dp_json_scratch *scratch = dp_json_scratch_new();
	struct perf_events events;
	if (!scratch || count == 0 || perf_events_make(&events, seed, count) != 0) {
		fprintf(stderr, "bench_json: no memory for %u events\n", count);
		return 1;
	}
	if (print)
		return fwrite(events.text, 1, events.bytes, stdout) != events.bytes || fflush(stdout);
	for (const struct dp_json_variant *const *v = dp_json_variants(); variant && *v; v++)
		if (strcmp((*v)->name, variant) == 0)
			scratch->variant = *v;
	if (variant && strcmp(scratch->variant->name, variant) != 0) {
		fprintf(stderr, "bench_json: this processor has no variant %s\n", variant);
		return 2;
	}
	uint64_t sink = 0;
	for (int mode = 0; mode < (profile ? 1 : MODES); mode++) {
		uint64_t best = UINT64_MAX, end = tp_mono_ns() + (uint64_t)(seconds * 1e9);
		do {
			uint64_t began = cpu_ns();
			sink += round_run(scratch, &events, (enum mode)mode);
			uint64_t took = cpu_ns() - began;
			best = took < best ? took : best;
		} while (!profile && tp_mono_ns() < end);
		printf("%s %.0f events/s %.3f GB/s (%s, %.0f bytes)\n", mode_name[mode], count * 1e9 / (double)best,
		       (double)events.bytes / (double)best, scratch->variant->name, (double)events.bytes / count);
	}
	if (sink == 0) /* never; but then the work cannot be left out */
		return 1;
	perf_events_free(&events);
	dp_json_scratch_free(scratch);
	return 0;
}
