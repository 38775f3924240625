/*
 * The Yahoo streaming benchmark on one core, in three of its four modes (ysb.h: the query, and what of it is production code):
 *
 *   bench_ysb cache [--million N] [--buffer KIB]   A: tuples of a small buffer again and again, from cache, as published records do it
 *   bench_ysb memory [--million N]                 B: tuples once each, of at least four times the last-level cache
 *   bench_ysb json [--million N] [--buffer MIB]    C: the original's JSON bytes, as many, validated in full, then as above
 *   bench_ysb beacons [--million N] [--step-us N]  D's events, as lines on standard output; perf/ysb_node sends them to a node
 *   … [--seed N] [--rounds N]
 *
 * Prints events per second (all events, not only views) of this thread's processor time, the median of the rounds, and the bytes that were
 * gone through. Every round's windows are compared with a naive count, made when the events were drawn, from what was drawn and not
 * from the tuples: one that differs ends the run with status 1.
 *
 * In A each lap is later than the one before by its length in event time, which is a whole number of windows; so windows go on closing.
 */
#include "ysb.h"

#include "turnpike/text.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum mode { CACHE, MEMORY, JSON, BEACONS, MODES };
static const char *const mode_name[MODES] = {"cache", "memory", "json", "beacons"};

enum { EVENTS_A_WINDOW = YSB_WINDOW_MS / YSB_STEP_MS, ROUNDS_MAX = 99, JSON_BYTES_LEAST = 240, JSON_BYTES_MOST = 272 };
static_assert(YSB_WINDOW_MS % YSB_STEP_MS == 0, "a lap is whole windows");

/* Offsets in the text are of 32 bits. */
#define TEXT_BYTES_MAX (UINT64_C(3) << 30)

#define START_MS UINT64_C(1700000000000)
static_assert(START_MS % YSB_WINDOW_MS == 0, "the first lap begins with a window");

/* Counts by window and campaign, from YSB_WINDOWS_OPEN windows before the start on. */
struct counts {
	uint32_t (*row)[YSB_CAMPAIGNS];
	uint64_t rows;
	bool beyond; /* a window closed that has no row */
};

struct run {
	enum mode mode;
	struct ysb_stream stream;
	struct ysb_tuple *tuple;
	uint64_t tuples, laps; /* events are tuples × laps */
	char *text;            /* C: in place of tuples */
	uint32_t *start;       /* … where each event begins; one more than there are */
	struct counts wanted, found;
};

static uint64_t cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Of the largest cache that CPU 0 sees, in bytes; 0: the system does not tell. */
static uint64_t last_level_cache_bytes(void)
{
	uint64_t most = 0;
	for (int i = 0; i < 8; i++) {
		char path[96];
		uint64_t kib = 0;
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
		FILE *from = fopen(path, "re");
		if (!from)
			break;
		if (fscanf(from, "%" SCNu64 "K", &kib) == 1 && kib * 1024 > most)
			most = kib * 1024;
		fclose(from);
	}
	return most;
}

/* Touched here, so that no round pays for page faults. */
static void *memory_new(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED) {
		fprintf(stderr, "bench_ysb: no memory for %" PRIu64 " MiB\n", bytes >> 20);
		exit(1);
	}
	madvise(at, bytes, MADV_HUGEPAGE);
	memset(at, 0, bytes);
	return at;
}

static void counts_init(struct counts *counts, uint64_t events)
{
	counts->rows = events / EVENTS_A_WINDOW + 2 * YSB_WINDOWS_OPEN;
	counts->row = memory_new(counts->rows * sizeof(*counts->row));
}

static uint64_t row_of(uint64_t window)
{
	return window - (START_MS / YSB_WINDOW_MS - YSB_WINDOWS_OPEN);
}

static void closed(void *context, uint64_t window, const uint64_t count[YSB_CAMPAIGNS])
{
	struct counts *counts = context;
	const uint64_t row = row_of(window);
	if (row >= counts->rows) {
		for (uint32_t i = 0; i < YSB_CAMPAIGNS; i++)
			counts->beyond |= count[i] != 0;
		return;
	}
	for (uint32_t i = 0; i < YSB_CAMPAIGNS; i++)
		counts->row[row][i] = (uint32_t)count[i];
}

/* Draws the events and counts them naively, each in all laps. */
static void events_make(struct run *run, uint64_t seed)
{
	const uint64_t lap_windows = run->tuples / EVENTS_A_WINDOW;
	char *to = run->text;

	ysb_stream_begin(&run->stream, seed, START_MS, YSB_STEP_MS * 1000);
	for (uint64_t i = 0; i < run->tuples; i++) {
		struct ysb_tuple one, *tuple = run->text ? &one : &run->tuple[i];
		const uint32_t campaign = ysb_stream_next(&run->stream, tuple);
		if (run->text) {
			run->start[i] = (uint32_t)(to - run->text);
			const uint32_t bytes = ysb_tuple_json(tuple, to);
			if (bytes >= JSON_BYTES_MOST)
				abort();
			to += bytes;
			*to++ = '\n';
		}
		for (uint64_t lap = 0; tuple->event_type == YSB_VIEW && lap < run->laps; lap++)
			run->wanted.row[row_of(tuple->time_ms / YSB_WINDOW_MS) + lap * lap_windows][campaign]++;
	}
	if (run->text)
		run->start[run->tuples] = (uint32_t)(to - run->text);
}

static void tuples_count(struct run *run, struct ysb_counter *counter)
{
	for (uint64_t lap = 0; lap < run->laps; lap++) {
		const uint64_t shift_ms = lap * run->tuples * YSB_STEP_MS;
		for (uint64_t i = 0; i < run->tuples; i += YSB_BURST)
			ysb_count(counter, run->tuple + i, run->tuples - i < YSB_BURST ? (uint32_t)(run->tuples - i) : YSB_BURST,
				  shift_ms);
	}
}

/* Every lap parses anew. */
static void text_count(struct run *run, struct ysb_counter *counter, struct ysb_parser *parser)
{
	struct ysb_tuple tuple[YSB_BURST];
	for (uint64_t lap = 0; lap < run->laps; lap++) {
		const uint64_t shift_ms = lap * run->tuples * YSB_STEP_MS;
		for (uint64_t i = 0; i < run->tuples;) {
			uint32_t count = 0;
			for (; count < YSB_BURST && i < run->tuples; count++, i++) {
				const enum tp_reject reason = ysb_parse(parser, run->text + run->start[i],
									run->start[i + 1] - run->start[i] - 1, true, &tuple[count]);
				if (reason != TP_OK) {
					fprintf(stderr, "bench_ysb: event %" PRIu64 ": %s\n", i, tp_reject_name(reason));
					exit(1);
				}
			}
			ysb_count(counter, tuple, count, shift_ms);
		}
	}
}

/* Processor time of one round over all events. */
static uint64_t round_run(struct run *run, struct ysb_parser *parser)
{
	struct ysb_counter *counter = ysb_counter_new(run->stream.ad, START_MS, closed, &run->found);
	if (!counter)
		exit(1);
	memset(run->found.row, 0, run->found.rows * sizeof(*run->found.row));
	const uint64_t began_ns = cpu_ns();
	if (run->text)
		text_count(run, counter, parser);
	else
		tuples_count(run, counter);
	const uint64_t took_ns = cpu_ns() - began_ns;
	ysb_counter_flush(counter);
	if (ysb_counter_late(counter) || ysb_counter_unknown(counter) || run->found.beyond ||
	    memcmp(run->found.row, run->wanted.row, run->wanted.rows * sizeof(*run->wanted.row)) != 0) {
		fprintf(stderr, "bench_ysb: the windows are not those of the naive count (late %" PRIu64 ", unknown %" PRIu64 ")\n",
			ysb_counter_late(counter), ysb_counter_unknown(counter));
		exit(1);
	}
	ysb_counter_free(counter);
	return took_ns;
}

static int by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* How much goes through memory, and how often. `million` and `buffer` 0: the mode's own. */
static void size_set(struct run *run, uint64_t million, uint64_t buffer)
{
	const uint64_t cache = last_level_cache_bytes();
	uint64_t beyond = 4 * (cache ? cache : 512 << 20);
	uint64_t events = million * 1000000;

	switch (run->mode) {
	case CACHE:
		run->tuples = (buffer ? buffer : 1024) * 1024 / sizeof(struct ysb_tuple);
		break;
	case MEMORY:
		run->tuples = beyond / sizeof(struct ysb_tuple) + 1;
		if (run->tuples < events)
			run->tuples = events;
		events = 0; /* once through all of it */
		break;
	default:
		beyond = buffer ? buffer << 20 : beyond;
		run->tuples = (beyond < TEXT_BYTES_MAX ? beyond : TEXT_BYTES_MAX) / JSON_BYTES_LEAST + 1;
	}
	run->tuples = (run->tuples + EVENTS_A_WINDOW - 1) / EVENTS_A_WINDOW * EVENTS_A_WINDOW;
	if (!events)
		events = run->mode == CACHE ? 50000000 : run->tuples;
	run->laps = (events + run->tuples - 1) / run->tuples;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: bench_ysb cache|memory|json|beacons [--million N] [--buffer N] [--seed N] [--rounds N] [--step-us N]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"million", required_argument, NULL, 'm'}, {"buffer", required_argument, NULL, 'b'},
		{"seed", required_argument, NULL, 's'},    {"rounds", required_argument, NULL, 'r'},
		{"step-us", required_argument, NULL, 't'}, {0},
	};
	double million = 0;
	uint64_t buffer = 0, seed = 1, rounds = 3, step_us = YSB_STEP_MS * 1000;
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 'm':
			million = strtod(optarg, NULL);
			break;
		case 'b':
			buffer = strtoull(optarg, NULL, 10);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 'r':
			rounds = strtoull(optarg, NULL, 10);
			break;
		case 't':
			step_us = strtoull(optarg, NULL, 10);
			break;
		default:
			return usage();
		}
	}
	struct run run = {0};
	while (run.mode < MODES && (argc - optind != 1 || strcmp(argv[optind], mode_name[run.mode]) != 0))
		run.mode++;
	if (run.mode == MODES || rounds < 1 || rounds > ROUNDS_MAX || million < 0)
		return usage();
	if (run.mode == BEACONS) {
		/* the last stamp is now */
		const uint64_t count = (uint64_t)((million > 0 ? million : 1) * 1e6);
		return ysb_beacons_write(stdout, seed, count, tp_now_ms() - count * step_us / 1000, step_us) ? 1 : 0;
	}
	size_set(&run, (uint64_t)million, buffer);
	uint64_t bytes = run.tuples * sizeof(*run.tuple);
	if (run.mode == JSON) {
		run.text = memory_new(run.tuples * JSON_BYTES_MOST);
		run.start = memory_new((run.tuples + 1) * sizeof(*run.start));
	} else {
		run.tuple = memory_new(bytes);
	}
	counts_init(&run.wanted, run.tuples * run.laps);
	counts_init(&run.found, run.tuples * run.laps);
	events_make(&run, seed);
	if (run.mode == JSON)
		bytes = run.start[run.tuples];
	struct ysb_parser *parser = ysb_parser_new();
	if (!parser)
		return 1;
	uint64_t took_ns[ROUNDS_MAX];
	for (uint64_t r = 0; r < rounds; r++)
		took_ns[r] = round_run(&run, parser);
	qsort(took_ns, rounds, sizeof(*took_ns), by_size);
	const double events = (double)(run.tuples * run.laps), ns = (double)took_ns[rounds / 2];
	printf("%s: %.0f events/s, %.2f GB/s; events=%.0f laps=%" PRIu64
	       " buffer_mib=%.1f bytes_per_event=%.0f last_level_cache_mib=%" PRIu64 " windows=%" PRIu64
	       " equal to the naive count\n",
	       mode_name[run.mode], events * 1e9 / ns, (double)bytes * (double)run.laps / ns, events, run.laps,
	       (double)bytes / (1 << 20), (double)bytes / (double)run.tuples, last_level_cache_bytes() >> 20, run.wanted.rows);
	ysb_parser_free(parser);
	return 0;
}
