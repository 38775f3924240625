/*
 * turnpikectl backup DIR, restore DIR DATA_DIR: a running node is asked to seal its open log first, so that the backup has everything
 * that was acknowledged before the command.
 */
#include "tool.h"

#include "turnpike/backup.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int said(struct ctl_tool *tool, const char *verb, const struct sto_backup_result *result)
{
	if (tool->json)
		return ctl_tool_print(json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "ok", 1, "files",
						(json_int_t)result->files, "bytes", (json_int_t)result->bytes, "new_files",
						(json_int_t)result->new_files, "new_bytes", (json_int_t)result->new_bytes,
						"removed_files", (json_int_t)result->removed_files, "segments",
						(json_int_t)result->segments, "rollups", (json_int_t)result->rollups, "logs",
						(json_int_t)result->logs, "running", result->running));
	printf("%s: %" PRIu64 " files, %" PRIu64 " bytes (%" PRIu64 " segments, %" PRIu64 " rollup files, %" PRIu64
	       " unsealed logs); copied %" PRIu64 " files, %" PRIu64 " bytes, every copy read back and compared\n",
	       verb, result->files, result->bytes, result->segments, result->rollups, result->logs, result->new_files,
	       result->new_bytes);
	return 0;
}

int ctl_tool_backup(struct ctl_tool *tool, int words, char **word)
{
	struct sto_backup_result result;
	if (words != 1)
		return 2;
	int fd = tp_command_connect(tool->config.data_dir);
	if (fd >= 0) {
		close(fd);
		json_t *answer = ctl_tool_command(tool, "seal");
		if (!answer)
			return 1; /* said: without it the backup would lack what is in the open log */
		json_decref(answer);
	}
	int rc = sto_backup(tool->config.data_dir, word[0], &result);
	if (rc) {
		fprintf(stderr, "turnpikectl: cannot back up %s to %s: %s\n", tool->config.data_dir, word[0],
			rc == -EINVAL
				? "one of the two lies in the other: name a folder outside the data folder, best on another disk"
			: rc == -EXDEV   ? "another node's backup is there: give each node a folder of its own"
			: rc == -EBADMSG ? "a file is damaged, see above and turnpikectl segments verify"
					 : strerror(-rc));
		return 1;
	}
	if (result.running && fd < 0)
		fprintf(stderr,
			"turnpikectl: warning: a data process has the folder but could not be asked to seal its log: what it has "
			"not sealed is not in the backup\n");
	return said(tool, "backed up", &result);
}

int ctl_tool_restore(struct ctl_tool *tool, int words, char **word)
{
	struct sto_backup_result result;
	if (words != 2)
		return 2;
	int rc = sto_restore(word[0], word[1], &result);
	if (rc) {
		fprintf(stderr, "turnpikectl: cannot restore %s to %s: %s\n", word[0], word[1],
			rc == -EINVAL      ? "one of the two lies in the other: name a place outside the backup"
			: rc == -ENOTEMPTY ? "the folder is not empty: name one that does not exist"
			: rc == -EBADMSG   ? "the backup is damaged, see above; nothing was made"
			: rc == -ENOENT    ? "there is no backup"
					   : strerror(-rc));
		return 1;
	}
	return said(tool, "restored", &result);
}
