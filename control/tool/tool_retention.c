/*
 * turnpikectl retention --dry-run: what retention deletes, and when. The data process does it by itself, every minute; there is no
 * verb that deletes.
 */
#include "tool.h"

#include "turnpike/reader.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const class_name[STO_RETENTION_CLASSES] = {"raw", "minute", "hour", "day"};

struct sums {
	const struct ctl_tool *tool;
	uint64_t now_ms;
	json_t *items;
	uint64_t files[STO_RETENTION_CLASSES], bytes[STO_RETENTION_CLASSES];
	uint64_t due_files[STO_RETENTION_CLASSES], due_bytes[STO_RETENTION_CLASSES];
	uint64_t next_ms[STO_RETENTION_CLASSES]; /* 0: none */
};

static void due(void *context, enum sto_retention_class class, const char *name, uint64_t bytes, uint64_t due_ms)
{
	struct sums *sums = context;
	bool now = due_ms <= sums->now_ms, waits = due_ms == UINT64_MAX;
	char text[40] = "when its sums are in rollup files";
	sums->files[class]++;
	sums->bytes[class] += bytes;
	if (now) {
		sums->due_files[class]++;
		sums->due_bytes[class] += bytes;
	} else if (!waits && (!sums->next_ms[class] || due_ms < sums->next_ms[class])) {
		sums->next_ms[class] = due_ms;
	}
	if (!waits)
		tp_time_text(due_ms, text);
	if (sums->tool->json)
		json_array_append_new(sums->items,
				      json_pack("{s:s, s:s, s:I, s:o, s:b}", "class", class_name[class], "file", name, "bytes",
						(json_int_t)bytes, "due", waits ? json_null() : json_string(text), "now", now));
	else if (now)
		printf("%-7s %-40s %14" PRIu64 "  since %s\n", class_name[class], name, bytes, text);
}

int ctl_tool_retention(struct ctl_tool *tool, int words, char **word)
{
	struct sto_reader *reader;
	struct sums sums = {.tool = tool, .now_ms = tp_now_ms()};
	if (words != 1 || strcmp(word[0], "--dry-run") != 0)
		return 2;
	int rc = sto_reader_open(&reader, tool->config.data_dir);
	if (rc >= 0) {
		rc = sto_reader_refresh(reader);
		if (rc < 0)
			sto_reader_close(reader);
	}
	if (rc < 0) {
		fprintf(stderr, "turnpikectl: cannot read %s: %s\n", tool->config.data_dir, strerror(-rc));
		return 1;
	}
	const struct sto_retention retention = {
		.raw_ms = tool->config.retention_raw_ms,
		.minute_ms = tool->config.retention_minute_ms,
		.hour_ms = tool->config.retention_hour_ms,
		.day_ms = tool->config.retention_day_ms,
	};
	uint64_t age_ms[STO_RETENTION_CLASSES];
	sto_retention_effective(&retention, age_ms);
	sums.items = json_array();
	sto_reader_retention(reader, &retention, due, &sums);
	json_t *classes = json_object();
	if (!tool->json)
		printf("%-7s %10s %14s %10s %14s %10s  %s\n", "CLASS", "FILES", "BYTES", "DUE FILES", "DUE BYTES", "KEPT DAYS",
		       "NEXT DUE");
	for (int c = 0; c < STO_RETENTION_CLASSES; c++) {
		char text[32] = "-";
		if (sums.next_ms[c])
			tp_time_text(sums.next_ms[c], text);
		if (tool->json)
			json_object_set_new(classes, class_name[c],
					    json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "files", (json_int_t)sums.files[c], "bytes",
						      (json_int_t)sums.bytes[c], "due_files", (json_int_t)sums.due_files[c],
						      "due_bytes", (json_int_t)sums.due_bytes[c], "kept_ms", (json_int_t)age_ms[c],
						      "next", sums.next_ms[c] ? json_string(text) : json_null()));
		else
			printf("%-7s %10" PRIu64 " %14" PRIu64 " %10" PRIu64 " %14" PRIu64 " %10.1f  %s\n", class_name[c],
			       sums.files[c], sums.bytes[c], sums.due_files[c], sums.due_bytes[c], (double)age_ms[c] / 86400000,
			       text);
	}
	sto_reader_close(reader);
	int status = tool->json ? ctl_tool_print(json_pack("{s:O, s:O}", "classes", classes, "items", sums.items)) : 0;
	json_decref(classes);
	json_decref(sums.items);
	return status;
}
