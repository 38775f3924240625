/*
 * turnpikectl perf: cycles an event, stage by stage, of a live node. The data process samples them (turnpike/meter.h) into its counters;
 * here two readings of these are divided by each other. Nothing is switched on for it.
 */
#include "tool.h"

#include "turnpike/meter.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What a stage's cycles are divided by: events that the sampled rounds read, decided or answered. */
static const struct {
	const char *name, *core, *help;
	enum tp_counter events;
} stage[TP_STAGES] = {
	[TP_STAGE_RECEIVE] = {"receive", "rx", "port driver, our TCP, sending", TP_C_STAGE_READ},
	[TP_STAGE_BEACON] = {"beacon", "rx", "HTTP, datagrams, batches, around the events", TP_C_STAGE_READ},
	[TP_STAGE_PARSE] = {"parse", "rx", "bytes to a finished event", TP_C_STAGE_READ},
	[TP_STAGE_STAGE] = {"stage", "rx", "the record into the hop ring", TP_C_STAGE_READ},
	[TP_STAGE_ANSWER] = {"answer", "rx", "verdicts back, requests answered", TP_C_STAGE_ANSWERED},
	[TP_STAGE_DECIDE] = {"decide", "shard", "the loop and the id table", TP_C_STAGE_DECIDED},
	[TP_STAGE_MACHINES] = {"machines", "shard", "fraud rules and other state machines", TP_C_STAGE_DECIDED},
	[TP_STAGE_ROLLUP] = {"rollup", "shard", "the minute's sums", TP_C_STAGE_DECIDED},
	[TP_STAGE_LOG] = {"log", "shard", "record, checksum, submission, what is durable", TP_C_STAGE_DECIDED},
};

struct reading {
	uint64_t ns;
	struct tp_counters sum;
};

static void reading_take(const struct tp_live *live, struct reading *reading)
{
	reading->ns = tp_mono_ns();
	ctl_tool_counters(live, &reading->sum);
}

static uint64_t grown(const struct reading r[2], enum tp_counter counter)
{
	return r[1].sum.v[counter] - r[0].sum.v[counter];
}

/* Cycles an event; below 0: no sampled round had one. */
static double cycles(const struct reading r[2], uint32_t s)
{
	uint64_t events = grown(r, stage[s].events);
	return events ? (double)grown(r, (enum tp_counter)(TP_C_STAGE_RECEIVE_CYCLES + s)) / (double)events : -1;
}

static double rate(const struct reading r[2], enum tp_counter counter)
{
	return (double)grown(r, counter) * 1e9 / (double)(r[1].ns - r[0].ns);
}

static json_t *perf_json(const struct reading r[2])
{
	json_t *stages = json_array();
	for (uint32_t s = 0; s < TP_STAGES; s++) {
		double each = cycles(r, s);
		json_array_append_new(stages, json_pack("{s:s, s:s, s:o, s:I}", "stage", stage[s].name, "core", stage[s].core,
							"cycles_per_event", each < 0 ? json_null() : json_real(each),
							"sampled_events", (json_int_t)grown(r, stage[s].events)));
	}
	return json_pack("{s:f, s:f, s:f, s:o}", "seconds", (double)(r[1].ns - r[0].ns) / 1e9, "events_per_s",
			 rate(r, TP_C_EVENTS_RECEIVED), "decided_per_s", rate(r, TP_C_SHARD_TAKEN), "stages", stages);
}

static void perf_print(const struct reading r[2])
{
	const char *core = "";
	printf("%.0f events/s read, %.0f events/s decided; one loop round in %d sampled\n", rate(r, TP_C_EVENTS_RECEIVED),
	       rate(r, TP_C_SHARD_TAKEN), TP_METER_ROUNDS);
	for (uint32_t s = 0; s < TP_STAGES; s++) {
		double each = cycles(r, s), sum = 0;
		if (strcmp(core, stage[s].core) != 0) {
			core = stage[s].core;
			printf("\n%-6s %-9s %15s %6s\n", core, "stage", "cycles an event", "share");
		}
		for (uint32_t other = 0; other < TP_STAGES; other++)
			if (!strcmp(stage[other].core, core) && cycles(r, other) > 0)
				sum += cycles(r, other);
		if (each < 0)
			printf("%-6s %-9s %15s %6s  %s\n", "", stage[s].name, "-", "-", stage[s].help);
		else
			printf("%-6s %-9s %15.0f %5.0f%%  %s\n", "", stage[s].name, each, sum > 0 ? 100 * each / sum : 0,
			       stage[s].help);
	}
}

int ctl_tool_perf(struct ctl_tool *tool, int words, char **word)
{
	double interval_s = 1;
	if (words == 2 && !strcmp(word[0], "--interval")) {
		char *end;
		interval_s = strtod(word[1], &end);
		if (*end || !(interval_s >= 0.05 && interval_s <= 3600))
			return 2;
	} else if (words) {
		return 2;
	}
	const struct tp_live *live;
	int connection;
	if (ctl_tool_attach(tool, &live, &connection))
		return 1;
	struct reading *reading = calloc(2, sizeof(*reading));
	int status = reading ? 0 : 1;
	if (reading) {
		reading_take(live, &reading[0]);
		nanosleep(&(struct timespec){.tv_sec = (time_t)interval_s,
					     .tv_nsec = (long)((interval_s - (double)(time_t)interval_s) * 1e9)},
			  NULL);
		reading_take(live, &reading[1]);
		if (tool->json)
			status = ctl_tool_print(perf_json(reading));
		else
			perf_print(reading);
	}
	free(reading);
	tp_live_unmap(live);
	close(connection);
	return status;
}
