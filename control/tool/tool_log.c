/*
 * turnpikectl log show [FILE]: what is in the write-ahead log, on a running node or a stopped one. Without a file: one line for each
 * log file of the data folder, also those that are missing; with one (a path, or its name in the log folder): its blocks. Status 1 when any
 * shown file is damaged or missing. turnpikectl log give-up ID: on a stopped node, says that a missing one is not waited for any more.
 */
#include "tool.h"

#include "turnpike/log.h"
#include "turnpike/log_show.h"
#include "turnpike/text.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct blocks {
	bool json;
	json_t *items;
};

static void watermark_text(uint64_t ms, char text[32])
{
	if (ms)
		tp_time_text(ms, text);
	else
		strcpy(text, "-");
}

static void block_show(void *context, const struct sto_log_block *block)
{
	struct blocks *blocks = context;
	char watermark[32];
	watermark_text(block->watermark_ms, watermark);
	if (blocks->json) {
		json_array_append_new(blocks->items,
				      json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "offset",
						(json_int_t)block->offset, "state", sto_block_state_name(block->state), "kind",
						block->kind, "sequence", (json_int_t)block->sequence, "bytes",
						(json_int_t)block->bytes, "payload_bytes", (json_int_t)block->payload_bytes,
						"records", (json_int_t)block->records, "first_record",
						(json_int_t)block->first_record, "watermark_ms", (json_int_t)block->watermark_ms,
						"durable_sequence", (json_int_t)block->durable_sequence));
		return;
	}
	if (block->state == STO_BLOCK_MISSING)
		printf("%12" PRIu64 "  %-8s\n", block->offset, sto_block_state_name(block->state));
	else
		printf("%12" PRIu64 "  %-8s %-8s %10" PRIu64 " %9u %8u %12" PRIu64 " %10" PRIu64 "  %s\n", block->offset,
		       sto_block_state_name(block->state), block->kind, block->sequence, block->bytes, block->records,
		       block->first_record, block->durable_sequence, watermark);
}

static json_t *summary_json(const char *path, const struct sto_log_summary *s)
{
	char id[24];
	snprintf(id, sizeof(id), "%016" PRIx64, s->facts.file_id);
	json_t *item = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "file", path, "id", id, "state", s->state,
				 "made", s->made, "shard", (json_int_t)s->facts.shard, "bytes", (json_int_t)s->bytes, "blocks",
				 (json_int_t)s->facts.blocks, "events", (json_int_t)s->facts.events, "watermark_ms",
				 (json_int_t)s->facts.watermark_ms, "ignored_bytes", (json_int_t)s->facts.tail_bytes_ignored);
	if (!strcmp(s->state, "damaged")) {
		json_object_set_new(item, "unreadable_offset", json_integer((json_int_t)s->unreadable_at));
		json_object_set_new(item, "unreadable_sequence", json_integer((json_int_t)s->unreadable));
		json_object_set_new(item, "proven_sequence", json_integer((json_int_t)s->proven));
	}
	return item;
}

static void damage_print(const struct sto_log_summary *s)
{
	if (strcmp(s->state, "damaged") != 0)
		return;
	printf("DAMAGED: block %" PRIu64 " at offset %" PRIu64 " is not readable", s->unreadable, s->unreadable_at);
	if (s->proven >= s->unreadable)
		printf(", but a later block proves that blocks up to %" PRIu64 " were on stable storage", s->proven);
	printf(".\nThe node will not start on it. Put the file back from a backup or another copy; without one, what the blocks "
	       "before hold\n"
	       "can still be shown, and what is behind is lost.\n");
}

static int file_show(struct ctl_tool *tool, const char *path)
{
	struct sto_log_summary summary;
	struct blocks blocks = {.json = tool->json, .items = tool->json ? json_array() : NULL};
	if (!tool->json)
		printf("%12s  %-8s %-8s %10s %9s %8s %12s %10s  %s\n", "OFFSET", "STATE", "KIND", "SEQUENCE", "BYTES", "RECORDS",
		       "FIRST", "DURABLE", "WATERMARK");
	int rc = sto_log_show(path, block_show, &blocks, &summary);
	if (rc) {
		json_decref(blocks.items);
		fprintf(stderr, "turnpikectl: cannot show %s: %s\n", path, rc == -EINVAL ? "this is no log file" : strerror(-rc));
		return 1;
	}
	if (tool->json) {
		json_t *item = summary_json(path, &summary);
		json_object_set_new(item, "items", blocks.items);
		ctl_tool_print(item);
	} else {
		char watermark[32];
		watermark_text(summary.facts.watermark_ms, watermark);
		printf("%s: %s (%s), shard %u, %" PRIu64 " events in %" PRIu64 " blocks, watermark %s, %" PRIu64
		       " unfinished bytes ignored\n",
		       path, summary.state, summary.made, summary.facts.shard, summary.facts.events, summary.facts.blocks,
		       watermark, summary.facts.tail_bytes_ignored);
		damage_print(&summary);
	}
	return !strcmp(summary.state, "damaged");
}

static int is_log(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);
	return length == 20 && !strcmp(entry->d_name + 16, ".log");
}

struct lost {
	const struct ctl_tool *tool;
	const char *folder;
	json_t *items;
};

/* A file that the manifest says was made and not done with, and that is not there, or is another one. */
static void lost_show(void *context, uint64_t file_id, uint32_t shard, const char *found)
{
	const struct lost *lost = context;
	if (lost->tool->json)
		json_array_append_new(lost->items, json_pack("{s:o, s:o, s:s, s:i, s:s}", "file",
							     json_sprintf("%s/%016" PRIx64 ".log", lost->folder, file_id), "id",
							     json_sprintf("%016" PRIx64, file_id), "state", "lost", "shard",
							     (int)shard, "found", found));
	else
		printf("%016" PRIx64
		       ".log %-8s %-9s %5u  %s. It may hold acknowledged events: put it back; if it is gone for good: "
		       "turnpikectl log give-up %016" PRIx64 "\n",
		       file_id, "lost", "", shard, found, file_id);
}

static int all_show(struct ctl_tool *tool, const char *folder)
{
	struct dirent **name;
	int count = scandir(folder, &name, is_log, alphasort), damaged = 0;
	if (count < 0) {
		fprintf(stderr, "turnpikectl: cannot list %s: %s\n", folder, strerror(errno));
		return 1;
	}
	json_t *items = json_array();
	if (!tool->json)
		printf("%-20s %-8s %-9s %5s %12s %10s %8s  %s\n", "FILE", "STATE", "MADE", "SHARD", "BYTES", "EVENTS", "BLOCKS",
		       "WATERMARK");
	for (int i = 0; i < count; i++) {
		char path[4352], watermark[32];
		struct sto_log_summary s;
		snprintf(path, sizeof(path), "%s/%s", folder, name[i]->d_name);
		int rc = sto_log_show(path, NULL, NULL, &s);
		if (rc == -ENOENT) { /* sealed and recycled meanwhile */
			free(name[i]);
			continue;
		}
		if (rc)
			s.state = "unreadable";
		damaged += rc || !strcmp(s.state, "damaged");
		watermark_text(s.facts.watermark_ms, watermark);
		if (tool->json)
			json_array_append_new(items, summary_json(path, &s));
		else
			printf("%-20s %-8s %-9s %5u %12" PRIu64 " %10" PRIu64 " %8" PRIu64 "  %s\n", name[i]->d_name, s.state,
			       s.made, s.facts.shard, s.bytes, s.facts.events, s.facts.blocks, watermark);
		free(name[i]);
	}
	free(name);
	struct lost lost = {.tool = tool, .folder = folder, .items = items};
	int missing = sto_logs_lost(tool->config.data_dir, lost_show, &lost);
	if (missing < 0 && missing != -ENOENT)
		fprintf(stderr, "turnpikectl: cannot tell whether files are missing: %s\n",
			missing == -EBADMSG ? "the manifest is damaged" : strerror(-missing));
	if (tool->json)
		ctl_tool_print(json_pack("{s:O}", "items", items));
	json_decref(items);
	return damaged || missing > 0 || missing == -EBADMSG;
}

/* log give-up ID: a person says that what a missing log file held is not to be waited for. */
static int give_up(const struct ctl_tool *tool, const char *name)
{
	char *end;
	uint64_t id = strtoull(name, &end, 16);
	if (end == name || (*end && strcmp(end, ".log") != 0))
		return 2;
	int rc = sto_log_give_up(tool->config.data_dir, id);
	if (rc) {
		fprintf(stderr, "turnpikectl: cannot give up %016" PRIx64 ": %s\n", id,
			rc == -EINVAL   ? "no log file of that name is missed"
			: rc == -EEXIST ? "a file of that name is there: if it is not the right one, move it away first"
			: rc == -EBUSY  ? "the data process runs: stop it first"
			: rc == -EAGAIN
				? "the manifest ends with an append that was never synced: start turnpiked once, it cuts that off"
			: rc == -EBADMSG ? "the manifest is damaged: put it back from a backup"
					 : strerror(-rc));
		return 1;
	}
	if (tool->json)
		ctl_tool_print(json_pack("{s:o}", "given_up", json_sprintf("%016" PRIx64, id)));
	else
		printf("%016" PRIx64 " is given up: what it held and no segment has is lost\n", id);
	return 0;
}

int ctl_tool_log(struct ctl_tool *tool, int words, char **word)
{
	char folder[4000], path[4352];
	if (words == 2 && !strcmp(word[0], "give-up"))
		return give_up(tool, word[1]);
	if (words < 1 || words > 2 || strcmp(word[0], "show") != 0)
		return 2;
	tp_log_level_set(TP_ERROR + 1); /* what the reader would log is shown here */
	snprintf(folder, sizeof(folder), "%s/log", tool->config.data_dir);
	if (words == 1)
		return all_show(tool, folder);
	snprintf(path, sizeof(path), "%s", word[1]);
	if (access(path, F_OK) && !strchr(word[1], '/'))
		snprintf(path, sizeof(path), "%s/%s%s", folder, word[1], strchr(word[1], '.') ? "" : ".log");
	return file_show(tool, path);
}
