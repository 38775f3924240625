/*
 * Figures about segments, over the mix of segment_mix.h:
 *
 *   bench_segment write DIR [EVENTS]     seals EVENTS (default 10,000,000) into DIR/1.seg …, about a log file of 64 MiB each;
 *                                        prints bytes per event in the log and sealed, and sealing speed on this core
 *   bench_segment stages DIR [TIMES]     seals one such file again and again; the least time of each step, a fold and its sections with it
 *   bench_segment verify DIR             MB/s of checking every byte, and of checking all rows
 *   bench_segment scan DIR [THREADS [all]]   rows/s of "sum of spend grouped by campaign" (of all events' bids), and a checksum of it
 *   bench_segment lookup DIR             ns to say that an id is not in a segment, and that it is
 *   bench_segment parts DIR              bytes an event of each column and section
 *   bench_segment json|tsv [EVENTS]      the same events as JSON lines, or for ClickHouse, on standard output
 *
 * Sealing is measured from records in memory to the bytes of the file, with their SHA-256, without waiting for the disk; the log's own reading is left out.
 */
#include "../storage/segment.h"
#include "segment_mix.h"

#include "turnpike/fold.h"
#include "turnpike/heap.h"
#include "turnpike/log.h"
#include "turnpike/scan.h"
#include "turnpike/text.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, FILES_MAX = 100000, CAMPAIGNS_MAX = 1 << 16 };

static const uint64_t log_bytes_max = (64 << 20) - (64 << 10);

static _Noreturn void die(const char *what, int rc)
{
	fprintf(stderr, "bench_segment: %s: %s\n", what, strerror(-rc));
	exit(1);
}

/* Time of this thread on a core: the machine may be doing other things. */
static uint64_t core_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void path_of(char *to, const char *folder, uint64_t sequence)
{
	snprintf(to, PATH_BYTES, "%s/%lu.seg", folder, sequence);
}

/* ---- write ---- */

struct written {
	uint64_t events, log_bytes, sealed_bytes, files, ns;
};

static void file_seal(const char *folder, const uint8_t *records, uint64_t bytes, uint64_t events, struct written *written)
{
	char path[PATH_BYTES];
	const struct segment_build_options options = {.sequence = ++written->files,
						      .file_id = written->files,
						      .node_id = (const uint8_t *)"figures-of-perf!",
						      .zstd_level = SEGMENT_ZSTD_LEVEL};
	struct manifest_segment facts = {0};
	struct buffer file = {0};
	path_of(path, folder, written->files);
	uint64_t began_ns = core_ns();
	struct segment_build *build = segment_build_new(NULL);
	int rc = build ? segment_build_reserve(build, events) : -ENOMEM;
	for (uint64_t at = 0; at < bytes && !rc;) {
		const struct tp_event *event[SEGMENT_TAKE_BURST];
		uint32_t count = 0;
		for (; count < SEGMENT_TAKE_BURST && at < bytes; at += event[count++]->bytes)
			event[count] = (const struct tp_event *)(const void *)(records + at);
		rc = segment_build_events(build, event, count);
	}
	if (!rc)
		rc = segment_build_sort(build);
	if (!rc)
		rc = segment_build_file(build, &options, &file);
	if (!rc)
		rc = segment_file_write(sto_io_system(), path, &file, NULL, &facts);
	written->ns += core_ns() - began_ns;
	if (rc)
		die(path, rc);
	written->log_bytes += bytes;
	written->sealed_bytes += facts.bytes;
	segment_build_free(build);
	buffer_fini(&file);
}

static void part_print(void *context, const struct sto_scan_part *part)
{
	const uint64_t *rows = context;
	printf("%-24s %8.3f %s\n", part->name, (double)part->bytes / (double)*rows, part->encodings);
}

/* Bytes a row of each part of the first file. */
static int bench_parts(const char *folder)
{
	char path[PATH_BYTES];
	struct sto_scan *scan = NULL;
	struct sto_scan_facts facts;
	path_of(path, folder, 1);
	int rc = sto_scan_open_file(&scan, path, NULL);
	if (rc)
		die(path, rc);
	sto_scan_facts(scan, &facts);
	rc = sto_scan_parts(scan, part_print, &facts.rows);
	sto_scan_close(scan);
	return rc != 0;
}

static int bench_write(const char *folder, uint64_t events)
{
	uint8_t *records = aligned_alloc(64, 64 << 20);
	struct perf_mix *mix = perf_mix_new();
	struct written written = {0};
	uint64_t bytes = 0, held = 0;
	if (!records || !mix)
		die("memory", -ENOMEM);
	for (uint64_t n = 0; n < events; n++) {
		held++;
		bytes += perf_mix_event(mix, n, records + bytes)->bytes;
		if (bytes + TP_EVENT_BYTES_MAX > log_bytes_max || n + 1 == events) {
			file_seal(folder, records, bytes, held, &written);
			bytes = held = 0;
		}
	}
	printf("%.1f bytes/event in the log\n%.2f bytes/event sealed\n%.0f events/s sealed\n%lu files\n",
	       (double)written.log_bytes / (double)events, (double)written.sealed_bytes / (double)events,
	       (double)events * 1e9 / (double)written.ns, written.files);
	perf_mix_free(mix);
	free(records);
	return 0;
}

/* ---- the steps of sealing ---- */

enum step { STEP_ROWS, STEP_SORT, STEP_SECTIONS, STEP_FILE, STEP_WRITE, STEPS };

static const char *const step_name[STEPS] = {"rows, fold", "sort", "fold's sections", "encode", "hash and write"};

struct stepping {
	const uint8_t *records;
	uint64_t bytes, events;
	void *fold_memory;
	uint64_t least_ns[STEPS];
};

static void step_end(struct stepping *s, enum step step, uint64_t *began_ns)
{
	uint64_t now_ns = core_ns(), took_ns = now_ns - *began_ns;
	if (!s->least_ns[step] || took_ns < s->least_ns[step])
		s->least_ns[step] = took_ns;
	*began_ns = core_ns();
}

static void sections_make(struct agg_fold *fold, struct sto_extra extra[3])
{
	static uint64_t (*const write[])(struct agg_fold *, void *) = {agg_fold_sessions, agg_fold_distinct, agg_fold_sources};
	static const uint32_t kind[] = {STO_SECTION_SESSIONS, STO_SECTION_DISTINCT, STO_SECTION_SOURCES};
	for (int i = 0; i < 3; i++) {
		uint64_t length = write[i](fold, NULL);
		void *bytes = malloc(length + 1);
		if (!bytes)
			die("memory", -ENOMEM);
		write[i](fold, bytes);
		extra[i] = (struct sto_extra){.kind = kind[i], .bytes = bytes, .length = length};
	}
}

static void file_step(const char *path, struct stepping *s)
{
	struct sto_extra extra[3];
	struct segment_build_options options = {.sequence = 1,
						.file_id = 1,
						.node_id = (const uint8_t *)"figures-of-perf!",
						.zstd_level = SEGMENT_ZSTD_LEVEL,
						.extra = extra,
						.extras = 3};
	struct manifest_segment facts = {0};
	struct buffer file = {0};
	uint64_t at_ns = core_ns();
	struct agg_fold *fold = agg_fold_init(s->fold_memory, s->events, s->bytes, 1800000);
	struct segment_build *build = segment_build_new(NULL);
	int rc = build ? segment_build_reserve(build, s->events) : -ENOMEM;
	for (uint64_t at = 0; at < s->bytes && !rc;) {
		const struct tp_event *event[SEGMENT_TAKE_BURST];
		const uint32_t *string[TP_STRINGS], row = build->rows;
		uint32_t count = 0;
		for (; count < SEGMENT_TAKE_BURST && at < s->bytes; at += event[count++]->bytes)
			event[count] = (const struct tp_event *)(const void *)(s->records + at);
		rc = segment_build_events(build, event, count);
		for (int t = 0; t < TP_STRINGS; t++)
			string[t] = build->text[t] + row;
		if (!rc && !agg_fold_show_numbered(fold, event, count, string))
			die("fold", -EOVERFLOW);
	}
	step_end(s, STEP_ROWS, &at_ns);
	if (!rc)
		rc = segment_build_sort(build);
	step_end(s, STEP_SORT, &at_ns);
	sections_make(fold, extra);
	step_end(s, STEP_SECTIONS, &at_ns);
	if (!rc)
		rc = segment_build_file(build, &options, &file);
	step_end(s, STEP_FILE, &at_ns);
	if (!rc)
		rc = segment_file_write(sto_io_system(), path, &file, NULL, &facts);
	step_end(s, STEP_WRITE, &at_ns);
	if (rc)
		die(path, rc);
	segment_build_free(build);
	buffer_fini(&file);
	for (int i = 0; i < 3; i++)
		free((void *)(uintptr_t)extra[i].bytes);
}

static int bench_stages(const char *folder, uint64_t times)
{
	char path[PATH_BYTES];
	uint8_t *records = aligned_alloc(64, 64 << 20);
	struct perf_mix *mix = perf_mix_new();
	struct stepping s = {.records = records};
	if (!records || !mix)
		die("memory", -ENOMEM);
	while (s.bytes + TP_EVENT_BYTES_MAX <= log_bytes_max)
		s.bytes += perf_mix_event(mix, s.events++, records + s.bytes)->bytes;
	perf_mix_free(mix);
	s.fold_memory = aligned_alloc(64, (agg_fold_bytes(s.events, s.bytes) + 63) / 64 * 64);
	if (!s.fold_memory)
		die("memory", -ENOMEM);
	path_of(path, folder, 1);
	for (uint64_t i = 0; i < times; i++)
		file_step(path, &s);
	double sum = 0;
	for (int i = 0; i < STEPS; i++) {
		sum += (double)s.least_ns[i];
		printf("%-16s %6.0f ns/event\n", step_name[i], (double)s.least_ns[i] / (double)s.events);
	}
	printf("together         %6.0f ns/event\n", sum / (double)s.events);
	free(s.fold_memory);
	free(records);
	return 0;
}

/* ---- verify ---- */

static int bench_verify(const char *folder)
{
	char path[PATH_BYTES];
	for (enum segment_verify how = SEGMENT_VERIFY_BYTES; how <= SEGMENT_VERIFY_ALL; how++) {
		uint64_t bytes = 0, rows = 0, ns = 0;
		for (uint64_t s = 1; path_of(path, folder, s), access(path, R_OK) == 0; s++) {
			struct sto_scan *scan = NULL;
			struct sto_scan_facts facts;
			int rc = sto_scan_open_file(&scan, path, NULL);
			if (rc)
				die(path, rc);
			sto_scan_facts(scan, &facts);
			sto_scan_close(scan);
			struct segment segment;
			struct manifest_segment told = {.sequence = s, .file_id = s, .rows = facts.rows, .bytes = facts.bytes};
			rc = segment_open(&segment, sto_io_system(), path, &told);
			told.hash = rc ? 0 : XXH3_64bits(segment.base, segment.bytes);
			uint64_t began_ns = core_ns();
			if (!rc)
				rc = segment_verify(&segment, &told, how);
			ns += core_ns() - began_ns;
			if (rc)
				die(path, rc);
			segment_close(&segment);
			bytes += facts.bytes;
			rows += facts.rows;
		}
		printf("%.0f MB/s %s, %.0f events/s\n", (double)bytes * 1e3 / (double)ns,
		       how == SEGMENT_VERIFY_ALL ? "all" : "bytes", (double)rows * 1e9 / (double)ns);
	}
	return 0;
}

/* ---- scan ---- */

struct scanning {
	const char *folder;
	struct sto_scan_filter filter;
	_Atomic uint64_t next;
};

/* Sums by the text of the campaign: each segment has codes of its own. */
struct sums {
	uint64_t rows;
	struct {
		char name[TP_ID_BYTES_MAX + 1];
		int64_t spend;
	} campaign[4096];
	uint32_t campaigns;
};

/* Names are sorted. `at` is where this one probably is: dictionaries are sorted, too. */
static uint32_t sums_add(struct sums *sums, uint32_t at, struct tp_str name, int64_t spend)
{
	char text[TP_ID_BYTES_MAX + 1];
	memcpy(text, name.at, name.bytes);
	text[name.bytes] = 0;
	while (at < sums->campaigns && strcmp(sums->campaign[at].name, text) < 0)
		at++;
	if (at == sums->campaigns || strcmp(sums->campaign[at].name, text) != 0) {
		if (sums->campaigns == 4096)
			die("more campaigns than expected", -EOVERFLOW);
		memmove(&sums->campaign[at + 1], &sums->campaign[at], (sums->campaigns++ - at) * sizeof(sums->campaign[0]));
		strcpy(sums->campaign[at].name, text);
		sums->campaign[at].spend = 0;
	}
	sums->campaign[at].spend += spend;
	return at + 1;
}

static void segment_sum(struct sto_scan *scan, struct sums *sums)
{
	static _Thread_local __int128 spend[CAMPAIGNS_MAX];
	uint32_t campaigns = sto_scan_texts(scan, TP_CAMPAIGN_ID);
	struct sto_scan_facts facts;
	int rc;
	if (campaigns > CAMPAIGNS_MAX)
		die("more campaigns than expected", -EOVERFLOW);
	memset(spend, 0, campaigns * sizeof(spend[0]));
	while ((rc = sto_scan_next(scan)) == 1)
		if ((rc = sto_scan_sum(scan, TP_CAMPAIGN_ID, STO_COLUMN_BID, spend)))
			break;
	if (rc)
		die("a segment", rc);
	sto_scan_facts(scan, &facts);
	sums->rows += facts.rows;
	for (uint32_t i = 0, place = 0; i < campaigns; i++)
		place = sums_add(sums, place, sto_scan_text(scan, TP_CAMPAIGN_ID, i), (int64_t)spend[i]);
}

static void *scan_thread(void *context)
{
	struct scanning *scanning = context;
	struct sums *sums = calloc(1, sizeof(*sums));
	struct sto_scan *scan = NULL;
	char path[PATH_BYTES];
	for (;;) {
		path_of(path, scanning->folder, ++scanning->next);
		int rc = sto_scan_open_file(&scan, path, &scanning->filter);
		if (rc == -ENOENT)
			return sums;
		if (rc)
			die(path, rc);
		segment_sum(scan, sums);
	}
}

/* The valid clicks' bids; with `all` those of all events, which leaves nothing out. */
static int bench_scan(const char *folder, uint32_t threads, bool all_events)
{
	struct scanning scanning = {.folder = folder};
	if (!all_events)
		scanning.filter = (struct sto_scan_filter){
			.types = 1u << TP_CLICK, .verdicts = 1u << TP_ACCEPTED | 1u << TP_LATE, .untagged = true};
	pthread_t thread[64];
	struct sums *all = calloc(1, sizeof(*all));
	uint64_t began_ns = tp_mono_ns();
	__int128 spend = 0;
	for (uint32_t t = 0; t < threads; t++)
		if (pthread_create(&thread[t], NULL, scan_thread, &scanning))
			die("a thread", -EAGAIN);
	for (uint32_t t = 0; t < threads; t++) {
		void *result;
		pthread_join(thread[t], &result);
		const struct sums *one = result;
		all->rows += one->rows;
		for (uint32_t i = 0, place = 0; i < one->campaigns; i++)
			place = sums_add(all, place,
					 (struct tp_str){one->campaign[i].name, (uint16_t)strlen(one->campaign[i].name)},
					 one->campaign[i].spend);
		free(result);
	}
	double seconds = (double)(tp_mono_ns() - began_ns) / 1e9;
	char money[64];
	for (uint32_t i = 0; i < all->campaigns; i++)
		spend += all->campaign[i].spend;
	tp_micros_text(spend, money);
	printf("%.0f rows/s\n%lu rows in %.3f s, %u campaigns, spend %s\n", (double)all->rows / seconds, all->rows, seconds,
	       all->campaigns, money);
	free(all);
	return 0;
}

/* ---- look-ups ---- */

/* One that the mix does not have. */
static struct tp_id random_uuid(uint64_t n)
{
	uint64_t hi = (n + 1) * 0x9e3779b97f4a7c15ULL, lo = (hi ^ hi >> 29) * 0xbf58476d1ce4e5b9ULL;
	return (struct tp_id){(hi & ~0xf0000000000000ULL) | 0x40000000000000ULL, (lo & ~0xc0ULL) | 0x80ULL};
}

static int bench_lookup(const char *folder)
{
	enum { LOOKUPS = 200000 };
	char path[PATH_BYTES];
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct sto_scan *scan = NULL;
	struct sto_scan_facts facts;
	struct segment segment;
	struct segment_recalls recalls = {0};
	struct perf_mix *mix = perf_mix_new();
	path_of(path, folder, 1);
	int rc = sto_scan_open_file(&scan, path, NULL);
	if (rc || !mix)
		die(path, rc);
	sto_scan_facts(scan, &facts);
	sto_scan_close(scan);
	rc = segment_open(&segment, sto_io_system(), path,
			  &(struct manifest_segment){.sequence = 1, .file_id = 1, .rows = facts.rows, .bytes = facts.bytes});
	if (rc)
		die(path, rc);
	uint32_t minute = (uint32_t)(facts.from_ms / TP_MINUTE_MS), wrong = 0;
	uint64_t began_ns = tp_mono_ns();
	for (uint64_t i = 0; i < LOOKUPS; i++)
		wrong += segment_lookup(&segment, &recalls, random_uuid(i), minute, i) != STO_ABSENT;
	double absent_ns = (double)(tp_mono_ns() - began_ns) / LOOKUPS;
	const struct tp_event *event = perf_mix_event(mix, 1000, room);
	began_ns = tp_mono_ns();
	wrong += segment_lookup(&segment, &recalls, event->id, (uint32_t)(event->timestamp_ms / TP_MINUTE_MS),
				event->fingerprint) != STO_SAME;
	double first_ms = (double)(tp_mono_ns() - began_ns) / 1e6, worst_ms = first_ms;
	uint64_t present_ns = 0;
	for (uint64_t n = 0; n < 20000; n++) {
		event = perf_mix_event(mix, n, room);
		began_ns = tp_mono_ns();
		wrong += segment_lookup(&segment, &recalls, event->id, (uint32_t)(event->timestamp_ms / TP_MINUTE_MS),
					event->fingerprint) != STO_SAME;
		double took_ms = (double)(tp_mono_ns() - began_ns) / 1e6;
		if (n >= 1000)
			present_ns += (uint64_t)(took_ms * 1e6);
		if (took_ms > worst_ms)
			worst_ms = took_ms;
	}
	printf("%.0f ns absent\n%.1f ms the first id found\n%.1f ms the slowest of the next\n%.0f ns each one after a thousand\n%u "
	       "wrong\n",
	       absent_ns, first_ms, worst_ms, (double)present_ns / 19000, wrong);
	segment_recalls_fini(&recalls);
	segment_close(&segment);
	perf_mix_free(mix);
	return wrong > 0;
}

static int bench_text(bool json, uint64_t events)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct perf_mix *mix = perf_mix_new();
	if (!mix)
		die("memory", -ENOMEM);
	for (uint64_t n = 0; n < events && !ferror(stdout); n++)
		(json ? perf_mix_json : perf_mix_tsv)(stdout, perf_mix_event(mix, n, room));
	perf_mix_free(mix);
	return fflush(stdout) != 0;
}

int main(int arguments, char **argument)
{
	const char *what = arguments > 1 ? argument[1] : "", *folder = arguments > 2 ? argument[2] : "";
	tp_heap_keep(); /* as turnpiked does */
	uint64_t number = arguments > 3 ? strtoull(argument[3], NULL, 10) : 0;
	if (!strcmp(what, "json") || !strcmp(what, "tsv"))
		return bench_text(!strcmp(what, "json"), arguments > 2 ? strtoull(folder, NULL, 10) : 1000000);
	if (arguments > 2 && !strcmp(what, "write"))
		return bench_write(folder, number ? number : 10000000);
	if (arguments > 2 && !strcmp(what, "stages"))
		return bench_stages(folder, number ? number : 5);
	if (arguments > 2 && !strcmp(what, "verify"))
		return bench_verify(folder);
	if (arguments > 2 && !strcmp(what, "scan"))
		return bench_scan(folder, number && number <= 64 ? (uint32_t)number : 2,
				  arguments > 4 && !strcmp(argument[4], "all"));
	if (arguments > 2 && !strcmp(what, "parts"))
		return bench_parts(folder);
	if (arguments > 2 && !strcmp(what, "lookup"))
		return bench_lookup(folder);
	fprintf(stderr,
		"usage: bench_segment write DIR [EVENTS] | stages DIR [TIMES] | verify DIR | scan DIR [THREADS [all]] | lookup "
		"DIR | parts DIR | json|tsv [EVENTS]\n");
	return 2;
}
