/*
 * turnpiked, the data process: turnpiked -c FILE [--check]. Exit status: 0 fine, 1 failed, 2 bad usage or configuration.
 */
#include "node.h"

#include "turnpike/heap.h"
#include "turnpike/log.h"
#include "turnpike/text.h"
#include "turnpike/version.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WATCH_NS = 20000000 };

static const char usage[] = "usage: turnpiked -c FILE [--check]\n"
			    "  -c, --config FILE  the configuration (docs/operations.md)\n"
			    "      --check        validate the file and exit\n"
			    "  -h, --help         this text\n"
			    "      --version      which version this is\n";

static struct dp_node node;

/*
 * The service manager's watchdog (WatchdogSec=): told that we live only if every core has begun another round since. A core that
 * hangs, in the kernel or in a bug, is not seen from outside in any other way.
 */
static void watchdog(uint64_t every_ns)
{
	static uint64_t told_ns, rounds[TP_CORES_MAX];
	uint64_t now_ns = tp_mono_ns();
	bool all = true;

	if (!every_ns || now_ns - told_ns < every_ns)
		return;
	for (uint32_t i = 0; i < node.cores; i++)
		all = all && atomic_load_explicit(&node.core[i].rounds, memory_order_relaxed) != rounds[i];
	if (!all)
		return;
	for (uint32_t i = 0; i < node.cores; i++)
		rounds[i] = atomic_load_explicit(&node.core[i].rounds, memory_order_relaxed);
	told_ns = now_ns;
	tp_notify("WATCHDOG=1");
}

/* Waits for SIGTERM or SIGINT (0), or for the disk to fail (-errno). SIGHUP reloads. */
static int serve(const sigset_t *signals)
{
	const uint64_t watchdog_ns = tp_watchdog_ns();
	for (;;) {
		watchdog(watchdog_ns);
		struct timespec watch = {.tv_nsec = WATCH_NS};
		int signal = sigtimedwait(signals, NULL, &watch);
		if (signal == SIGTERM || signal == SIGINT)
			return 0;
		if (signal == SIGHUP)
			dp_node_reload(&node);
		for (uint32_t i = 0; i < node.cores; i++) {
			int failed = atomic_load_explicit(&node.core[i].failed, memory_order_acquire);
			if (failed)
				dp_node_fail(&node, failed);
		}
		int failed = atomic_load_explicit(&node.failed, memory_order_acquire);
		if (failed)
			return failed;
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	const char *file = NULL;
	bool check = false;
	tp_heap_keep();
	for (int option; (option = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
		switch (option) {
		case 'c':
			file = optarg;
			break;
		case 'k':
			check = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		case 'V':
			printf("turnpiked %s\n", tp_version);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (!file || optind != argc) {
		fputs(usage, stderr);
		return 2;
	}
	tp_log_program_set("turnpiked");
	if (tp_config_load(file, &node.config, stderr))
		return 2;
	if (check) {
		/* the files that the rules name are part of what can be wrong */
		struct rul_rules *rules = NULL;
		const struct rul_options wanted = {.config = &node.config.fraud};
		int rc = rul_load(&rules, &wanted);
		rul_free(rules);
		tp_config_free(&node.config);
		return rc ? 2 : 0;
	}

	/* Blocked before any thread exists, so that only this one gets them. */
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);

	if (dp_node_start(&node)) {
		tp_config_free(&node.config);
		return 1;
	}
	printf("ready http=%s udp=%s\n", node.live->http, node.live->udp);
	fflush(stdout);
	tp_notify("READY=1");

	int failed = serve(&signals);
	if (failed)
		tp_logf(TP_ERROR, "the disk failed: nothing more is acknowledged", "error=\"%s\"", strerror(-failed));
	int stopped = dp_node_stop(&node);
	tp_config_free(&node.config);
	return failed || stopped ? 1 : 0;
}
