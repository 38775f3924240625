/*
 * turnpike-control: starts the parts, says that it serves, waits for a signal. Contract section 1.
 *
 *   config ─► state_dir ─► views ─► store ─► pulse ─► http ─► "ready" … SIGTERM or SIGINT ─► back in reverse
 *
 * Main thread only; the signals are blocked before any other thread is made, so they come here.
 */
#include "ctl.h"
#include "ctl_billing_issue.h"
#include "ctl_billing_zone.h"
#include "ctl_events.h"
#include "ctl_folds.h"
#include "ctl_gate.h"
#include "ctl_ledger.h"
#include "ctl_login.h"
#include "ctl_meter.h"
#include "ctl_otlp.h"
#include "ctl_pulse.h"
#include "ctl_reconcile.h"
#include "ctl_watch.h"
#include "turnpike/folder.h"
#include "turnpike/log.h"
#include "turnpike/text.h"
#include "turnpike/version.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATE_MODE = 0750 };

static void usage(FILE *to)
{
	fprintf(to, "usage: turnpike-control -c FILE [--check]\n"
		    "  -c FILE   the configuration file, the same as turnpiked's\n"
		    "  --check   validate the file and exit\n"
		    "  --help    this text\n"
		    "  --version which version this is\n");
}

/* 0: go on; else the process ends with *status. */
static int arguments(int count, char **word, const char **file, bool *check, int *status)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int option;

	*file = NULL;
	*check = false;
	*status = 2;
	while ((option = getopt_long(count, word, "c:h", options, NULL)) != -1) {
		if (option == 'c') {
			*file = optarg;
		} else if (option == 'k') {
			*check = true;
		} else if (option == 'h') {
			usage(stdout);
			*status = 0;
			return -1;
		} else if (option == 'V') {
			printf("turnpike-control %s\n", tp_version);
			*status = 0;
			return -1;
		} else {
			usage(stderr);
			return -1;
		}
	}
	if (*file && optind == count)
		return 0;
	fprintf(stderr, *file ? "turnpike-control: unexpected word: %s\n" : "turnpike-control: -c FILE is required\n",
		word[optind]);
	usage(stderr);
	return -1;
}

static int said(const char *msg, const char *path, int rc)
{
	tp_logf(TP_ERROR, msg, "path=\"%s\" error=\"%s\"", path, strerror(-rc));
	return rc;
}

static int parts_open(struct ctl *ctl, struct ctl_http **http, char text[TP_ENDPOINT_TEXT_BYTES])
{
	int rc = tp_folder_make(ctl->config.control_state_dir, STATE_MODE);
	if (rc != 0)
		return said("cannot make control.state_dir", ctl->config.control_state_dir, rc);
	if (access(ctl->config.control_state_dir, R_OK | W_OK | X_OK) != 0)
		return said("control.state_dir has to be writable: bills, logins and the audit log are kept there",
			    ctl->config.control_state_dir, -errno);
	rc = ctl_ledger_open(&ctl->ledger, ctl->config.control_state_dir);
	if (rc != 0)
		return said(rc == -EBADMSG ? "the ledger is damaged: restore it from a copy, or move it away"
					   : "cannot open the ledger",
			    ctl->config.control_state_dir, rc);
	rc = ctl_views_open(&ctl->views, ctl->config.data_dir);
	if (rc != 0)
		return said("cannot watch the data process", ctl->config.data_dir, rc);
	rc = ctl_issuer_open(&ctl->issuer, &ctl->config, ctl->ledger, ctl->views);
	if (rc != 0)
		return said("cannot start the issuer of bills", ctl->config.data_dir, rc);
	rc = ctl_store_pool_open(&ctl->stores, ctl->config.data_dir, ctl->views);
	if (rc != 0)
		return said("cannot read the data folder", ctl->config.data_dir, rc);
	rc = ctl_folds_open(&ctl->folds, ctl->config.data_dir, ctl->config.log_file_bytes, ctl->config.session_gap_ms);
	if (rc != 0)
		return said("cannot follow the log", ctl->config.data_dir, rc);
	rc = ctl_events_open(&ctl->events, ctl->config.data_dir);
	if (rc != 0)
		return said("cannot read single events", ctl->config.data_dir, rc);
	rc = ctl_pulse_open(&ctl->pulse, ctl->config.data_dir, ctl->config.control_state_dir, ctl->views);
	if (rc != 0)
		return said("cannot start the pulse", ctl->config.data_dir, rc);
	rc = ctl_watch_open(&ctl->watch, ctl->pulse);
	if (rc != 0)
		return said("cannot start the watch", ctl->config.data_dir, rc);
	if (ctl->config.control_auth_tokens)
		rc = ctl_gate_open(&ctl->gate, ctl->config.control_state_dir, ctl->config.control_token_rate_limit,
				   ctl->config.control_session_ms);
	if (rc != 0)
		return said("cannot open the gate", ctl->config.control_state_dir, rc);
	rc = ctl_meter_open(&ctl->meter);
	if (rc != 0)
		return said("cannot count answers", ctl->config.control_state_dir, rc);
	if (ctl->config.tracing_collector)
		rc = ctl_otlp_open(&ctl->otlp, ctl->config.tracing_collector, ctl->config.node_name, ctl->version, ctl->views);
	if (rc != 0)
		return said("cannot export traces", ctl->config.tracing_collector, rc);
	rc = ctl_reconcile_open(&ctl->reconcile, ctl);
	if (rc != 0)
		return said("cannot start the reconciliation", ctl->config.data_dir, rc);
	return ctl_http_open(http, ctl, text);
}

static void parts_close(struct ctl *ctl, struct ctl_http *http)
{
	if (ctl->pulse)
		ctl_pulse_stop(ctl->pulse);
	ctl_watch_stop(ctl->watch); /* no connection is parked from here on */
	if (http)
		ctl_http_close(http);
	ctl_otlp_close(ctl->otlp);
	ctl_meter_close(ctl->meter);
	ctl_reconcile_close(ctl->reconcile);
	ctl_watch_close(ctl->watch);
	ctl_gate_close(ctl->gate);
	if (ctl->pulse)
		ctl_pulse_close(ctl->pulse);
	ctl_events_close(ctl->events);
	ctl_folds_close(ctl->folds);
	ctl_store_pool_close(ctl->stores);
	ctl_issuer_close(ctl->issuer);
	if (ctl->views)
		ctl_views_close(ctl->views);
	ctl_ledger_close(ctl->ledger);
}

/* SIGHUP: what can be read anew without a restart is. */
static void reload(struct ctl *ctl, struct ctl_http *http)
{
	int rc = ctl_http_reload(http);

	tp_logf(rc ? TP_ERROR : TP_INFO, rc ? "reload failed: what was read before stays" : "reloaded", "certificates=%s",
		ctl->config.control_tls_certificate ? ctl->config.control_tls_certificate : "none");
	ctl_act_note(ctl, "signal SIGHUP", "reload", rc ? "failed" : "done");
}

/*
 * The service manager's watchdog (WatchdogSec=): told that we live only if the pulse, which looks at the node once a second, has beaten
 * again since.
 */
static void watchdog(struct ctl_pulse *pulse, uint64_t every_ns, uint64_t *told_ns, uint64_t *sequence)
{
	uint64_t now_ns = tp_mono_ns();
	bool stopped;

	if (!every_ns || now_ns - *told_ns < every_ns)
		return;
	struct ctl_message *message = ctl_pulse_wait(pulse, *sequence, 0, &stopped);
	if (!message)
		return;
	*sequence = message->sequence;
	*told_ns = now_ns;
	ctl_message_give(pulse, message);
	tp_notify("WATCHDOG=1");
}

static void wait_for_end(struct ctl *ctl, struct ctl_http *http, const sigset_t *signals)
{
	const struct timespec look = {.tv_nsec = 250000000};
	const uint64_t watchdog_ns = tp_watchdog_ns();
	uint64_t told_ns = 0, sequence = 0;
	int number;

	do {
		number = sigtimedwait(signals, NULL, &look);
		if (number < 0 && errno != EAGAIN && errno != EINTR)
			return;
		watchdog(ctl->pulse, watchdog_ns, &told_ns, &sequence);
		if (number == SIGHUP)
			reload(ctl, http);
	} while (number < 0 || number == SIGHUP);
	tp_logf(TP_INFO, "stopping", "signal=%s", number == SIGINT ? "SIGINT" : "SIGTERM");
}

int main(int count, char **word)
{
	struct ctl ctl = {.version = tp_version};
	struct ctl_http *http = NULL;
	char text[TP_ENDPOINT_TEXT_BYTES];
	const char *file;
	bool check;
	int status;
	sigset_t signals;

	tp_log_program_set("turnpike-control");
	if (arguments(count, word, &file, &check, &status) != 0)
		return status;
	if (tp_config_load(file, &ctl.config, stderr) != 0)
		return 2;
	if (!ctl_billing_zones_check(&ctl.config) || (check && ctl_tls_check(&ctl.config) != 0)) {
		tp_config_free(&ctl.config);
		return 2;
	}
	if (check) {
		printf("%s: fine\n", file);
		tp_config_free(&ctl.config);
		return 0;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	json_object_seed(0);

	status = parts_open(&ctl, &http, text) == 0 ? 0 : 1;
	if (status == 0) {
		printf("ready listen=%s\n", text);
		fflush(stdout);
		tp_logf(TP_INFO, "serving", "listen=%s data_dir=\"%s\" auth=%s", text, ctl.config.data_dir,
			ctl.config.control_auth_tokens ? "tokens" : "none");
		tp_notify("READY=1");
		wait_for_end(&ctl, http, &signals);
		tp_notify("STOPPING=1");
	}
	parts_close(&ctl, http);
	tp_config_free(&ctl.config);
	return status;
}
