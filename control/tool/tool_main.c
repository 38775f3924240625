/*
 * turnpikectl -c FILE VERB … [--json]: the operator's tool. It maps the live view read only, and talks to the data process through
 * the command socket; it holds no state.
 */
#include "tool.h"
#include "tool_acts.h"

#include "turnpike/log.h"
#include "turnpike/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verb {
	const char *name;
	int (*run)(struct ctl_tool *tool, int words, char **word);
	const char *help;
};

static const struct verb verb[] = {
	{"status", ctl_tool_status, "status                        what the node is doing"},
	{"top", ctl_tool_top, "top [--interval S] [--count N]  rates and cores, redrawn in the terminal"},
	{"audit", ctl_tool_audit, "audit                         the balance sheet; status 1 if it does not sum"},
	{"audit-log", ctl_tool_audit_log, "audit-log [--limit N]         administrative acts and logins, the newest last"},
	{"billing", ctl_tool_billing,
	 "billing list --advertiser ID [--period hourly|daily|monthly] [--from T] [--to T] [--tz ZONE] [--csv]\n"
	 "                                bills from the figures as they are now, and which were issued\n"
	 "  billing export --advertiser ID [--period P] [--from T] [--to T] [--tz ZONE]  the same as CSV\n"
	 "  billing show ID [--csv]       one as it was issued, with its corrections\n"
	 "  billing issue                 issues what is due now"},
	{"blocklist", ctl_tool_blocklist,
	 "blocklist add PREFIX [--ttl 1h] [--reason TEXT] [--count-only]\n"
	 "  blocklist del PREFIX\n"
	 "  blocklist list                prefixes that are dropped, or counted"},
	{"log", ctl_tool_log,
	 "log show                      the write-ahead log files, and whether they are whole\n"
	 "  log show FILE                 its blocks, and where it is damaged\n"
	 "  log give-up ID                lets a stopped node start without a log file that is gone for good"},
	{"perf", ctl_tool_perf, "perf [--interval S]           cycles an event, stage by stage"},
	{"ports", ctl_tool_ports, "ports [--interval S]          ports: driver, link, queues, rates, drops by reason, XDP mode"},
	{"connections", ctl_tool_connections,
	 "connections [--limit N] [--peer PREFIX] [--state NAME]  TCP connections: how many in each state, and a list"},
	{"trace", ctl_tool_trace,
	 "trace [--packets|--requests] [--prefix P] [--port N] [--type any|arp|icmp|tcp|udp] [--path /p] [--count N] [--seconds "
	 "S]\n"
	 "                                the next packets and requests, each with its verdict at every step"},
	{"capture", ctl_tool_capture,
	 "capture FILE [--prefix P] [--port N] [--type T] [--count N] [--seconds S]\n"
	 "                                frames of DPDK ports, both ways, as pcapng, the verdict as each packet's comment"},
	{"doctor", ctl_tool_doctor,
	 "doctor [--fix-script]         is this machine fit? What each finding costs; or a script that mends them, with its undo"},
	{"dlq", ctl_tool_dlq,
	 "dlq list [--reason R] [--from T] [--to T] [--limit N] [--cursor C]\n"
	 "                                rejected and conflicting events, newest first; on a stopped node too\n"
	 "  dlq show ID [--raw]           one of them, or its bytes alone\n"
	 "  dlq replay ID … | --reason R [--from T] | --file EDITED  [--to URL] [--token T]\n"
	 "                                sends them through the front door again, and says what became of each"},
	{"fraud", ctl_tool_fraud,
	 "fraud replay --rules FILE [--from T] [--to T] [--memory 4GiB]  what other rules would change\n"
	 "  fraud features [--rules FILE] [--from T] [--to T] [--labels FILE]  CSV for training a model"},
	{"backup", ctl_tool_backup,
	 "backup DIR                    copies what is new to DIR, verified; of a running node or a stopped one"},
	{"restore", ctl_tool_restore,
	 "restore DIR DATA_DIR          makes a data folder from a backup, verified, at a place that is empty"},
	{"reconcile", ctl_tool_reconcile,
	 "reconcile [--from T] [--to T] [--advertiser ID] [--memory 256MiB]\n"
	 "                                counts again from the raw rows; status 1 when a key differs from what is reported"},
	{"discrepancy", ctl_tool_discrepancy,
	 "discrepancy --partner FILE.csv [--advertiser ID] [--tz ZONE]\n"
	 "                                explains a partner's other count; status 1 when something stays unexplained"},
	{"retention", ctl_tool_retention, "retention --dry-run           what retention deletes now, and what next"},
	{"segments", ctl_tool_segments,
	 "segments list                 the segment files\n"
	 "  segments show SEQ             one of them: facts, hashes, totals per campaign\n"
	 "  segments stats [SEQ]          bytes by column, and how they are written\n"
	 "  segments dump [SEQ …] [--format json|csv] [--from T] [--to T] [--campaign ID] [--ad ID] [--advertiser ID] [--type "
	 "NAME]\n"
	 "                                their events\n"
	 "  segments archive [SEQ …]      writes them anew, smaller, on a stopped node; without SEQ all that were not yet\n"
	 "  segments seal                 closes the current log now and seals it\n"
	 "  segments verify               checks log, segments and manifest of a stopped node; names each damaged file"},
	{"why", ctl_tool_why,
	 "why EVENT_ID [--from T] [--to T]  where an event came from, its verdict, where it lies, whether it is billed"},
	{"token", ctl_tool_token,
	 "token create --scope S [--name TEXT] [--ttl 30d]\n"
	 "                                a bearer token; S is ingest, read, read:advertiser:ID or admin\n"
	 "  token list                    all but their secrets\n"
	 "  token revoke ID               takes effect within a second"},
};

static void usage(FILE *to)
{
	fputs("usage: turnpikectl -c FILE VERB … [--json]\n", to);
	for (size_t i = 0; i < sizeof(verb) / sizeof(verb[0]); i++)
		fprintf(to, "  %s\n", verb[i].help);
}

static const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < sizeof(verb) / sizeof(verb[0]); i++) {
		if (!strcmp(name, verb[i].name))
			return &verb[i];
	}
	return NULL;
}

static void verb_usage(FILE *to, const struct verb *of)
{
	fprintf(to, "usage: turnpikectl -c FILE …\n  %s\n", of->help);
}

static int verb_run(struct ctl_tool *tool, const char *file, int words, char **word)
{
	const struct verb *found = verb_find(word[0]);
	if (!found) {
		fprintf(stderr, "turnpikectl: unknown verb \"%s\"\n", word[0]);
		usage(stderr);
		return 2;
	}
	if (tp_config_load(file, &tool->config, stderr))
		return 2;
	const bool is_act = ctl_tool_is_act(words, word);
	if (is_act)
		ctl_tool_act(tool, words, word, -1);
	int status = found->run(tool, words - 1, word + 1);
	if (is_act)
		ctl_tool_act(tool, words, word, status);
	if (status == 2)
		verb_usage(stderr, found);
	tp_config_free(&tool->config);
	return status;
}

int main(int argc, char **argv)
{
	struct ctl_tool tool = {0};
	const char *file = NULL;
	int words = 0;
	char **word = calloc((size_t)argc + 1, sizeof(char *));
	if (!word)
		return 1;
	/* -c and --json may stand anywhere; what is left are the verb and its words. */
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json")) {
			tool.json = true;
		} else if ((!strcmp(argv[i], "-c") || !strcmp(argv[i], "--config")) && i + 1 < argc) {
			file = argv[++i];
		} else if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
			const struct verb *asked = words ? verb_find(word[0]) : NULL;
			if (asked)
				verb_usage(stdout, asked);
			else
				usage(stdout);
			free(word);
			return 0;
		} else if (!strcmp(argv[i], "--version")) {
			printf("turnpikectl %s\n", tp_version);
			free(word);
			return 0;
		} else {
			word[words++] = argv[i];
		}
	}
	if (!file || !words) {
		usage(stderr);
		free(word);
		return 2;
	}
	tp_log_program_set("turnpikectl");
	int status = verb_run(&tool, file, words, word);
	free(word);
	return status;
}
