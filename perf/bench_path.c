/*
 * The whole node without a wire: a replay port (replay.h) in the place of the network card, all else as in production: rx cores, shard
 * cores, background threads, log on a real disk, fraud rules by default, answers after durability. Prints events per second from the
 * first request to the last answer, how long requests took, and how much of the rx core the clients' part was.
 *
 * bench_path FOLDER LOAD [--events N] [--rate R] [--rx N] [--shards N] [--clients N] [--window N] [--datagram BYTES] [--ids-mib N]
 *            [--duplicates SHARE] [--cpu N] [--devices N] [--ads N] [--event-bytes N] [--same-core]
 *   FOLDER is made; after a failure nothing of it is left.
 *   --same-core runs both roles on the same CPUs.
 *   --event-bytes pads JSON events with a field that the node does not know: read, checked, skipped.
 *   LOAD  udp-text, udp-batch, http, http-batch, http-close
 */
#include "bench_folder.h"
#include "replay.h"

#include "../dataplane/node.h"
#include "turnpike/heap.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PORTS_MAX = 32, STILL_S_MAX = 10 };

static const char *const load_name[] = {"udp-text", "udp-batch", "http", "http-batch", "http-close"};

static struct dp_node node;
static struct rp_script script[PORTS_MAX];
static struct rp_result result[PORTS_MAX];

static int config_write(const char *path, const char *data, uint32_t rx, uint32_t shards, uint32_t first_cpu, uint32_t ids_mib,
			bool same_core)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	FILE *to = fopen(path, "w");
	if (!to)
		return -1;
	fprintf(to,
		"node: {name: bench, data_dir: %s}\ningest: [{driver: dpdk, device: 'replay', address: [10.77.0.1/8], http_port: "
		"80, "
		"udp_port: 7771}]\nmemory: {dedup: %uMiB, hop: 16MiB, connections: 16384}\ndurability: {log_file: 256MiB}\n",
		data, ids_mib);
	for (int role = 0; role < 2; role++) {
		fprintf(to, role ? "], shard: [" : "cores: {idle: sleep, rx: [");
		for (uint32_t i = 0; i < (role ? shards : rx); i++)
			fprintf(to, "%s%ld", i ? ", " : "", ((role && !same_core ? rx : 0) + i + first_cpu) % cpus);
	}
	fprintf(to, "], background: [");
	for (long i = 0; i < cpus; i++)
		fprintf(to, "%s%ld", i ? ", " : "", i);
	fprintf(to, "]}\n");
	return fclose(to);
}

static bool all_ended(uint32_t ports)
{
	for (uint32_t i = 0; i < ports; i++)
		if (!atomic_load_explicit(&result[i].ended_ns, memory_order_acquire))
			return false;
	return true;
}

/* Of all threads of the node, sealing and the rest of the background with them. */
static double processor_seconds(void)
{
	struct timespec time;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void print(const struct rp_options *options, double processor)
{
	uint64_t begun = UINT64_MAX, ended = 0, answered = 0, refused = 0, events = 0, copies = 0, repeated = 0, laters = 0,
		 ticks = 0, own = 0;
	struct blast_histogram *all = calloc(1, sizeof(*all));
	for (uint32_t i = 0; i < options->ports; i++) {
		begun = result[i].begun_ns < begun ? result[i].begun_ns : begun;
		ended = result[i].ended_ns > ended ? result[i].ended_ns : ended;
		answered += result[i].answered;
		refused += result[i].refused;
		events += script[i].events;
		copies += script[i].copies;
		repeated += result[i].repeated;
		laters += result[i].laters;
		ticks += result[i].sampled_ticks;
		own += result[i].own_ticks;
		blast_histogram_merge(all, &result[i].latency);
	}
	struct tp_counters sum = {0};
	for (uint32_t i = 0; i < node.cores; i++)
		for (uint32_t c = 0; c < TP_COUNTERS; c++)
			sum.v[c] += node.core[i].counters.v[c];
	const double seconds = (double)(ended - begun) / 1e9;
	printf("%s: %.0f events/s, %.0f requests/s; events=%llu answered=%llu refused=%llu copies=%llu accepted=%llu "
	       "duplicates=%llu "
	       "seconds=%.2f processor=%.3f clients_share=%.0f%%",
	       load_name[options->load], (double)events / seconds, (double)blast_histogram_count(all) / seconds,
	       (unsigned long long)events, (unsigned long long)answered, (unsigned long long)refused, (unsigned long long)copies,
	       (unsigned long long)sum.v[TP_C_EVENTS_ACCEPTED], (unsigned long long)sum.v[TP_C_EVENTS_DUPLICATES], seconds,
	       processor, ticks ? 100.0 * (double)own / (double)ticks : 0);
	if (repeated)
		printf(" repeated=%llu", (unsigned long long)repeated);
	if (laters)
		printf(" laters=%llu", (unsigned long long)laters);
	if (options->load != RP_UDP_TEXT)
		printf(" p50=%.2f ms p99=%.2f ms p99.9=%.2f ms", (double)blast_histogram_at(all, 0.5) / 1e6,
		       (double)blast_histogram_at(all, 0.99) / 1e6, (double)blast_histogram_at(all, 0.999) / 1e6);
	putchar('\n');
	for (uint32_t i = 0; i < node.cores; i++)
		printf("core %u%s%s: busy %.0f%% stalls=%llu\n", node.core[i].cpu, node.core[i].rx >= 0 ? " rx" : "",
		       node.core[i].shard ? " shard" : "",
		       100.0 * (double)node.core[i].counters.v[TP_C_CORE_BUSY_NS] /
			       (double)(node.core[i].counters.v[TP_C_CORE_BUSY_NS] + node.core[i].counters.v[TP_C_CORE_IDLE_NS]),
		       (unsigned long long)node.core[i].counters.v[TP_C_SHARD_STALLS]);
	/* A batch that was sent again is all duplicates, unless its first copy was lost. */
	if (answered != events || refused || sum.v[TP_C_EVENTS_ACCEPTED] != events - copies ||
	    sum.v[TP_C_EVENTS_DUPLICATES] < copies || sum.v[TP_C_EVENTS_DUPLICATES] > copies + repeated) {
		fprintf(stderr, "bench_path: not each event was accepted once\n");
		exit(1);
	}
	fflush(stdout);
	free(all);
}

/* All that has been decided so far. */
static uint64_t decided(void)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < node.cores; i++)
		sum += node.core[i].counters.v[TP_C_SHARD_TAKEN];
	return sum;
}

/* Until all requests are answered. False: the node has failed, or nothing moves any more. */
static bool wait_all(uint32_t ports)
{
	uint64_t last = 0, moved_ns = tp_mono_ns();
	while (!all_ended(ports)) {
		if (atomic_load(&node.failed))
			return false;
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		const uint64_t now = decided(), now_ns = tp_mono_ns();
		if (now != last)
			moved_ns = now_ns;
		last = now;
		if (now_ns - moved_ns > STILL_S_MAX * 1000000000ULL)
			return false;
	}
	return true;
}

static int usage(void)
{
	fprintf(stderr, "usage: bench_path FOLDER udp-text|udp-batch|http|http-batch|http-close [--events N] [--rate R] …\n");
	return 2;
}

static bool within(const char *option, uint32_t found, uint32_t most)
{
	if (found < 1 || found > most)
		fprintf(stderr, "bench_path: %s: expected 1 to %u, found %u\n", option, most, found);
	return found >= 1 && found <= most;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {{"events", required_argument, NULL, 'e'},
						     {"rate", required_argument, NULL, 'r'},
						     {"rx", required_argument, NULL, 'x'},
						     {"shards", required_argument, NULL, 's'},
						     {"clients", required_argument, NULL, 'c'},
						     {"window", required_argument, NULL, 'w'},
						     {"datagram", required_argument, NULL, 'd'},
						     {"ids-mib", required_argument, NULL, 'i'},
						     {"duplicates", required_argument, NULL, 'u'},
						     {"cpu", required_argument, NULL, 'p'},
						     {"devices", required_argument, NULL, 'v'},
						     {"ads", required_argument, NULL, 'a'},
						     {"event-bytes", required_argument, NULL, 'b'},
						     {"same-core", no_argument, NULL, 'm'},
						     {0}};
	struct rp_options options = {.events = 2000000, .ports = 1, .clients = 64, .batch = 100, .datagram_bytes = 1472};
	uint32_t shards = 1, ids_mib = 1024, cpu = 0, load = 0;
	bool same_core = false;
	char path[4096], data[4096];

	tp_heap_keep(); /* as turnpiked does */
	blast_options_parse(&options.synth, 3,
			    (char *[]){(char *)(uintptr_t) "bench_path", (char *)(uintptr_t) "--to",
				       (char *)(uintptr_t) "http://10.77.0.1:80", NULL});
	optind = 0; /* from the beginning, for our own */
	options.synth.duplicates = 0.01;
	options.synth.seed = tp_now_ms();
	for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
		switch (c) {
		case 'e':
			options.events = strtoull(optarg, NULL, 10);
			break;
		case 'r':
			options.rate = strtod(optarg, NULL);
			break;
		case 'x':
			options.ports = (uint32_t)atoi(optarg);
			break;
		case 's':
			shards = (uint32_t)atoi(optarg);
			break;
		case 'c':
			options.clients = (uint32_t)atoi(optarg);
			break;
		case 'w':
			options.window = (uint32_t)atoi(optarg);
			break;
		case 'd':
			options.datagram_bytes = (uint32_t)atoi(optarg);
			break;
		case 'i':
			ids_mib = (uint32_t)atoi(optarg);
			break;
		case 'u':
			options.synth.duplicates = strtod(optarg, NULL);
			break;
		case 'v':
			options.synth.devices = (uint32_t)atoi(optarg);
			break;
		case 'a':
			options.synth.ads = (uint32_t)atoi(optarg);
			break;
		case 'b':
			options.event_bytes = (uint32_t)atoi(optarg);
			break;
		case 'm':
			same_core = true;
			break;
		case 'p':
			cpu = (uint32_t)atoi(optarg);
			break;
		default:
			return usage();
		}
	}
	if (argc - optind != 2 || !options.events || !options.synth.devices || !options.synth.ads)
		return usage();
	if (!within("--rx", options.ports, PORTS_MAX) || !within("--clients", options.clients, RP_CLIENTS_MAX) ||
	    options.event_bytes > RP_EVENT_BYTES_MAX)
		return usage();
	while (load < 5 && strcmp(argv[optind + 1], load_name[load]) != 0)
		load++;
	if (load == 5)
		return usage();
	options.load = (enum rp_load)load;
	if (!options.window)
		options.window = options.load == RP_UDP_TEXT ? 8192 : 1024;
	snprintf(path, sizeof(path), "%s/bench.yaml", argv[optind]);
	snprintf(data, sizeof(data), "%s/data", argv[optind]);
	if (bench_folder_hold(argv[optind], (const char *const[]){"bench.yaml", "data", NULL}))
		return 1;
	tp_log_program_set("bench_path");
	if (config_write(path, data, options.ports, shards, cpu, ids_mib, same_core) || tp_config_load(path, &node.config, stderr))
		return 1;
	for (uint32_t i = 0; i < options.ports; i++)
		if (rp_script_make(&script[i], &options, i))
			return 1;
	rp_ports_set(&options, script, result);
	if (dp_node_start(&node))
		return 1;
	const double begun = processor_seconds();
	rp_ports_go();
	if (!wait_all(options.ports)) {
		fprintf(stderr, "bench_path: %s\n", atomic_load(&node.failed) ? "the node has failed" : "nothing moves any more");
		_exit(1);
	}
	print(&options, processor_seconds() - begun);
	_exit(0); /* an orderly end would seal all that was logged; who wants that waits for a minute */
}
