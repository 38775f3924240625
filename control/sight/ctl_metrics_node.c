/*
 * The metrics page beyond the counter table: the node's state, its rings and cores, both processes, and what the control process
 * answered, by endpoint. Connection threads. Every figure stands in docs/metrics.md.
 */
#include "ctl.h"
#include "ctl_ledger.h"
#include "ctl_meter.h"
#include "ctl_metrics.h"

#include "ctl_exposition.h"
#include "ctl_otlp.h"
#include "ctl_users_kept.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

enum { HERTZ_NS_LEAST = 20000000 };

static void gauge(FILE *to, const char *name, const char *help, uint64_t value)
{
	ctl_family(to, name, "gauge", help);
	fprintf(to, "turnpike_%s %" PRIu64 "\n", name, value);
}

static void node_state(FILE *to, const struct tp_live *live, bool connected)
{
	uint32_t refusing = atomic_load_explicit(&live->refusing, memory_order_relaxed);
	uint64_t watermark_ms = atomic_load_explicit(&live->watermark_ms, memory_order_relaxed);

	ctl_family(to, "ready", "gauge", "1 while beacons are taken");
	fprintf(to, "turnpike_ready %d\n",
		connected && refusing == TP_TAKING && atomic_load_explicit(&live->ready, memory_order_relaxed));
	ctl_family(to, "state", "gauge", "1 for the state that the node is in");
	for (uint32_t i = TP_TAKING; i <= TP_STOPPING; i++)
		fprintf(to, "turnpike_state{state=\"%s\"} %d\n", tp_refusing_name((enum tp_refusing)i), i == refusing);
	ctl_family(to, "watermark_seconds", "gauge", "Event time before which all figures are final, in seconds since 1970");
	fprintf(to, "turnpike_watermark_seconds %" PRIu64 ".%03" PRIu64 "\n", watermark_ms / 1000, watermark_ms % 1000);
	ctl_family(to, "start_time_seconds", "gauge", "When the data process started, in seconds since 1970");
	fprintf(to, "turnpike_start_time_seconds %" PRIu64 ".%03" PRIu64 "\n", live->started_ms / 1000, live->started_ms % 1000);
	gauge(to, "free_bytes", "Free bytes of the data folder's file system",
	      atomic_load_explicit(&live->free_bytes, memory_order_relaxed));
	gauge(to, "space_low", "1 while little disk space is left: soon beacons will be refused",
	      atomic_load_explicit(&live->space_low, memory_order_relaxed));
	gauge(to, "size_bytes", "Size of the data folder's file system",
	      atomic_load_explicit(&live->total_bytes, memory_order_relaxed));
	gauge(to, "recovered_events", "Events replayed from the log at start",
	      atomic_load_explicit(&live->recovered_events, memory_order_relaxed));
	gauge(to, "blocklist_entries", "Prefixes in the blocklist",
	      atomic_load_explicit(&live->blocklist_entries, memory_order_relaxed));
	gauge(to, "ids", "Event ids in the dedup table", atomic_load_explicit(&live->shard[0].ids, memory_order_relaxed));
	gauge(to, "ids_max", "Event ids that the dedup table can hold",
	      atomic_load_explicit(&live->shard[0].ids_max, memory_order_relaxed));
}

/* The time-stamp counter's rate, measured between this process' first question and this one; 0 until enough time has passed. */
static double tsc_hertz(void)
{
	static _Atomic uint64_t first_ns, first_tsc;
	uint64_t none = 0, now_ns = tp_mono_ns(), now_tsc = __rdtsc();

	if (atomic_compare_exchange_strong(&first_ns, &none, now_ns))
		atomic_store(&first_tsc, now_tsc);
	uint64_t began_ns = atomic_load(&first_ns), began_tsc = atomic_load(&first_tsc);
	if (!began_tsc || now_ns - began_ns < HERTZ_NS_LEAST)
		return 0;
	return (double)(now_tsc - began_tsc) * 1e9 / (double)(now_ns - began_ns);
}

static void shards(FILE *to, const struct tp_live *live)
{
	static const struct {
		const char *name, *type, *help;
		size_t at;
	} row[] = {
		{"shard_log_appended_total", "counter", "Records appended to the log since start",
		 offsetof(struct tp_live_shard, log_appended)},
		{"shard_log_durable_total", "counter", "Records of the log on stable storage since start",
		 offsetof(struct tp_live_shard, log_durable)},
		{"ring_used_bytes", "gauge", "Bytes waiting in the fullest hop ring to this shard: events that are not durable yet",
		 offsetof(struct tp_live_shard, ring_used_bytes)},
		{"ring_size_bytes", "gauge", "Bytes that a hop ring to this shard holds; full means 503",
		 offsetof(struct tp_live_shard, ring_bytes)},
	};

	for (size_t r = 0; r < sizeof(row) / sizeof(row[0]); r++) {
		ctl_family(to, row[r].name, row[r].type, row[r].help);
		for (uint32_t i = 0; i < ctl_live_shards(live); i++) {
			const char *shard = (const char *)&live->shard[i];
			const _Atomic uint64_t *figure = (const _Atomic uint64_t *)(const void *)(shard + row[r].at);
			fprintf(to, "turnpike_%s{shard=\"%u\"} %" PRIu64 "\n", row[r].name, i,
				atomic_load_explicit(figure, memory_order_relaxed));
		}
	}
}

/*
 * Cycles per event is rate(turnpike_core_busy_seconds_total) * turnpike_tsc_frequency_hertz / rate(turnpike_core_events_total). The
 * product is left to the asker: the frequency is measured anew each time, and a counter must never go back.
 */
static void cores(FILE *to, const struct tp_live *live, const struct tp_counters *core)
{
	double hertz = tsc_hertz();

	ctl_family(to, "core_events_total", "counter",
		   "Events that passed this core: parsed by an rx core, decided by a shard core");
	for (uint32_t i = 0; i < ctl_live_cores(live); i++) {
		const struct tp_live_core *of = &live->core[i];
		const uint64_t parsed = core[i].v[TP_C_EVENTS_RECEIVED], decided = core[i].v[TP_C_SHARD_TAKEN];
		fprintf(to, "turnpike_core_events_total{core=\"%u\",role=\"%s\"} %" PRIu64 "\n", of->cpu,
			of->is_rx && of->is_shard ? "both"
			: of->is_rx               ? "rx"
						  : "shard",
			of->is_rx ? parsed : decided);
	}
	if (hertz == 0)
		return;
	ctl_family(to, "tsc_frequency_hertz", "gauge", "Cycles of the time-stamp counter in a second");
	fprintf(to, "turnpike_tsc_frequency_hertz %.0f\n", hertz);
}

struct process {
	const char *name;
	double cpu_seconds;
	uint64_t resident_bytes;
};

static bool process_read(struct process *process, uint32_t pid)
{
	char path[64], text[1024];
	unsigned long long pages = 0, user = 0, kernel = 0;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	size_t bytes = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[bytes] = '\0';
	/* the name stands in brackets and may hold anything: what follows its last one is numbers. proc_pid_stat(5), from field 3 */
	const char *rest = strrchr(text, ')');
	if (!rest || sscanf(rest + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu %*s %*s %*s %*s %*s %*s %*s %*s %llu",
			    &user, &kernel, &pages) != 3)
		return false;
	process->cpu_seconds = (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
	process->resident_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return true;
}

/* Both processes; the data process only while it lives, for its number may be another's afterwards. */
static void processes(FILE *to, const struct process *process, size_t count)
{
	ctl_family(to, "process_cpu_seconds_total", "counter", "CPU time of the process, user and kernel");
	for (size_t i = 0; i < count; i++)
		fprintf(to, "turnpike_process_cpu_seconds_total{process=\"%s\"} %.2f\n", process[i].name, process[i].cpu_seconds);
	ctl_family(to, "process_resident_memory_bytes", "gauge", "Resident memory of the process, shared memory included");
	for (size_t i = 0; i < count; i++)
		fprintf(to, "turnpike_process_resident_memory_bytes{process=\"%s\"} %" PRIu64 "\n", process[i].name,
			process[i].resident_bytes);
}

void ctl_metrics_node(FILE *to, const struct tp_live *live, const struct tp_counters *core, bool connected)
{
	struct process process[2] = {{.name = "control"}, {.name = "data"}};
	size_t count = process_read(&process[0], (uint32_t)getpid());

	node_state(to, live, connected);
	shards(to, live);
	cores(to, live, core);
	if (count == 1)
		count += connected && process_read(&process[1], live->pid);
	processes(to, process, count);
}

/* What is kept of answers over sealed files, and of the users in them. */
static void caches(FILE *to, const struct ctl *ctl)
{
	static const char *const name[] = {"answers", "users"};
	struct ctl_cache_facts facts[2];
	static const struct {
		const char *name, *type, *help;
		size_t at;
	} row[] = {
		{"control_cache_hits_total", "counter", "Questions whose part over sealed files was kept, or most of it",
		 offsetof(struct ctl_cache_facts, hits)},
		{"control_cache_shared_total", "counter", "Of the hits: made by another who asked the same at the same time",
		 offsetof(struct ctl_cache_facts, shared)},
		{"control_cache_misses_total", "counter", "Questions for which sealed files had to be read",
		 offsetof(struct ctl_cache_facts, misses)},
		{"control_cache_bytes", "gauge", "Bytes of what is kept", offsetof(struct ctl_cache_facts, bytes)},
		{"control_cache_entries", "gauge", "How many are kept", offsetof(struct ctl_cache_facts, entries)},
	};

	ctl_cache_facts(ctl_store_pool_cache(ctl->stores), &facts[0]);
	ctl_users_kept_facts(&facts[1]);
	for (size_t r = 0; r < sizeof(row) / sizeof(row[0]); r++) {
		ctl_family(to, row[r].name, row[r].type, row[r].help);
		for (size_t i = 0; i < 2; i++)
			fprintf(to, "turnpike_%s{cache=\"%s\"} %" PRIu64 "\n", row[r].name, name[i],
				*(const uint64_t *)(const void *)((const char *)&facts[i] + row[r].at));
	}
}

void ctl_metrics_control(FILE *to, const struct ctl *ctl)
{
	ctl_family(to, "build_info", "gauge", "1; the label says which version answers");
	fprintf(to, "turnpike_build_info{version=\"%s\"} 1\n", ctl->version ? ctl->version : "");
	if (ctl->meter)
		ctl_meter_print(ctl->meter, to);
	if (ctl->stores)
		caches(to, ctl);
	ctl_family(to, "control_ledger_there", "gauge", "1 while the file of bills is where a restart would find it");
	fprintf(to, "turnpike_control_ledger_there %d\n", ctl_ledger_there(ctl->ledger));
	ctl_otlp_print(ctl->otlp, to);
}
