/*
 * turnpikectl segments list|seal|verify: list and verify read the data folder, seal asks the data process.
 */
#include "tool.h"

#include "turnpike/reader.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int segments_list(struct ctl_tool *tool)
{
	struct sto_reader *reader;
	int rc = sto_reader_open(&reader, tool->config.data_dir);
	if (rc >= 0)
		rc = sto_reader_refresh(reader);
	if (rc < 0) {
		fprintf(stderr, "turnpikectl: cannot read the segments of %s: %s\n", tool->config.data_dir, strerror(-rc));
		return 1;
	}
	json_t *items = json_array();
	if (!tool->json)
		printf("%8s %12s %14s  %-24s %-24s\n", "SEQUENCE", "ROWS", "BYTES", "FROM", "TO");
	for (uint32_t i = 0; i < sto_reader_segments(reader); i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		char from[32], to[32];
		tp_time_text(info->from_ms, from);
		tp_time_text(info->to_ms, to);
		if (tool->json)
			json_array_append_new(items,
					      json_pack("{s:I, s:I, s:I, s:s, s:s, s:I}", "sequence", (json_int_t)info->sequence,
							"rows", (json_int_t)info->rows, "bytes", (json_int_t)info->bytes, "from",
							from, "to", to, "late", (json_int_t)info->late));
		else
			printf("%8" PRIu64 " %12" PRIu64 " %14" PRIu64 "  %-24s %-24s\n", info->sequence, info->rows, info->bytes,
			       from, to);
	}
	if (tool->json)
		ctl_tool_print(json_pack("{s:O}", "items", items));
	json_decref(items);
	sto_reader_close(reader);
	return 0;
}

struct faults {
	json_t *items;
	bool print;
};

static void fault(void *context, const char *path, const char *what)
{
	struct faults *faults = context;
	if (faults->print)
		printf("%s: %s\n", path, what);
	json_array_append_new(faults->items, json_pack("{s:s, s:s}", "file", path, "fault", what));
}

static int segments_verify(struct ctl_tool *tool)
{
	struct faults faults = {.items = json_array(), .print = !tool->json};
	int count = sto_verify(tool->config.data_dir, fault, &faults);
	if (count < 0)
		fprintf(stderr, "turnpikectl: cannot verify %s: %s\n", tool->config.data_dir,
			count == -EBUSY ? "a data process is using it; stop it first" : strerror(-count));
	else if (tool->json)
		ctl_tool_print(json_pack("{s:b, s:O}", "ok", count == 0, "items", faults.items));
	else if (!count)
		printf("no damage found\n");
	json_decref(faults.items);
	return count ? 1 : 0;
}

int ctl_tool_segments(struct ctl_tool *tool, int words, char **word)
{
	if (words == 1 && !strcmp(word[0], "list"))
		return segments_list(tool);
	if (words == 1 && !strcmp(word[0], "verify"))
		return segments_verify(tool);
	if (words != 1 || strcmp(word[0], "seal"))
		return 2;
	json_t *answer = ctl_tool_command(tool, "seal");
	if (!answer)
		return 1;
	if (tool->json)
		return ctl_tool_print(answer);
	json_decref(answer);
	return 0;
}
