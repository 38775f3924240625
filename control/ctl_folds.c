/* Folds of what is not sealed, sections of what is; the rule and its reason are in ctl_folds.h. */
#include "ctl_folds.h"

#include "turnpike/distinct.h"
#include "turnpike/follow.h"
#include "turnpike/session.h"
#include "turnpike/sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TRIES_MAX = 1000, CHECKED_SLOTS = 16384, ROW_BYTES_MAX = TP_EVENT_BYTES_MAX };

struct mapping {
	void *at;
	uint64_t bytes;
	struct agg_fold *fold;
};

/* An unsealed log file. */
struct followed {
	struct sto_follow *follow;
	struct mapping memory;
	bool seen; /* in the folder, this time */
};

/* The rows of a segment without sections, for one question. */
struct rows {
	struct rows *next;
	struct mapping memory;
};

struct ctl_folds {
	struct ctl_store *store;
	const char *data_dir;
	uint64_t log_file_bytes, gap_ms;
	struct followed *followed;
	uint32_t count, max;
	struct rows *rows;
	uint64_t rows_count;             /* in all of them */
	uint64_t checked[CHECKED_SLOTS]; /* sections that were found good: who asks for many asks again */
};

static int memory_map(struct mapping *memory, uint64_t events, uint64_t record_bytes, uint64_t gap_ms)
{
	if (events > UINT32_MAX / 8)
		return -EOVERFLOW;
	if (record_bytes > UINT32_MAX)
		record_bytes = UINT32_MAX;
	memory->bytes = agg_fold_bytes(events, record_bytes);
	memory->at = mmap(NULL, memory->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory->at == MAP_FAILED)
		return -ENOMEM;
	memory->fold = agg_fold_init(memory->at, events, record_bytes, gap_ms);
	return 0;
}

int ctl_folds_open(struct ctl_folds **folds, struct ctl_store *store, const char *data_dir, uint64_t log_file_bytes,
		   uint64_t gap_ms)
{
	struct ctl_folds *made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	made->store = store;
	made->data_dir = data_dir;
	made->log_file_bytes = log_file_bytes;
	made->gap_ms = gap_ms;
	*folds = made;
	return 0;
}

static void rows_free(struct ctl_folds *folds)
{
	for (struct rows *rows = folds->rows, *next; rows; rows = next) {
		next = rows->next;
		munmap(rows->memory.at, rows->memory.bytes);
		free(rows);
	}
	folds->rows = NULL;
	folds->rows_count = 0;
}

static void followed_drop(struct ctl_folds *folds, uint32_t index)
{
	struct followed *one = &folds->followed[index];
	sto_follow_close(one->follow);
	munmap(one->memory.at, one->memory.bytes);
	*one = folds->followed[--folds->count];
}

void ctl_folds_close(struct ctl_folds *folds)
{
	if (!folds)
		return;
	rows_free(folds);
	while (folds->count)
		followed_drop(folds, folds->count - 1);
	free(folds->followed);
	free(folds);
}

/* ---- what is not sealed ---- */

static struct followed *followed_of(struct ctl_folds *folds, uint64_t file_id)
{
	for (uint32_t i = 0; i < folds->count; i++)
		if (sto_follow_file_id(folds->followed[i].follow) == file_id)
			return &folds->followed[i];
	return NULL;
}

static int follow_begin(struct ctl_folds *folds, uint64_t file_id, struct followed **to)
{
	if (folds->count == folds->max) {
		uint32_t max = folds->max ? 2 * folds->max : 16;
		struct followed *larger = realloc(folds->followed, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		folds->followed = larger;
		folds->max = max;
	}
	struct followed *made = &folds->followed[folds->count];
	*made = (struct followed){0};
	int rc = sto_follow_open(&made->follow, folds->data_dir, file_id);
	if (rc)
		return rc;
	rc = memory_map(&made->memory, folds->log_file_bytes / TP_EVENT_FIXED_BYTES + 1, folds->log_file_bytes, folds->gap_ms);
	if (rc) {
		sto_follow_close(made->follow);
		return rc;
	}
	folds->count++;
	*to = made;
	return 0;
}

static int event_show(void *context, const struct tp_event *event)
{
	return agg_fold_show(context, event) ? 0 : -EOVERFLOW;
}

/* 0; -EAGAIN: a file went meanwhile, so the manifest has changed or will; or -errno. */
static int files_follow(struct ctl_folds *folds)
{
	uint64_t *file_id = NULL, used = 0;
	uint32_t count = 0;
	int rc = sto_follow_files(ctl_store_reader(folds->store), folds->data_dir, &file_id, &count);
	for (uint32_t i = 0; i < folds->count; i++)
		folds->followed[i].seen = false;
	for (uint32_t i = 0; i < count && !rc; i++) {
		struct followed *one = followed_of(folds, file_id[i]);
		if (!one)
			rc = follow_begin(folds, file_id[i], &one);
		if (rc == -ENOENT) { /* a spare that was taken back, or sealed and recycled this moment */
			rc = -EAGAIN;
			break;
		}
		if (rc)
			break;
		one->seen = true;
		int64_t given = sto_follow_next(one->follow, event_show, one->memory.fold);
		used += agg_fold_used(one->memory.fold);
		rc = given < 0 ? (int)given : used > CTL_FOLDS_BYTES_MAX ? -EOVERFLOW : 0;
		if (given < 0) { /* part of a block may be in the fold: begin anew next time */
			followed_drop(folds, (uint32_t)(one - folds->followed));
			break;
		}
	}
	for (uint32_t i = folds->count; i-- > 0 && !rc;)
		if (!folds->followed[i].seen)
			followed_drop(folds, i);
	free(file_id);
	return rc;
}

/* ---- what is ---- */

static int section_check(uint32_t kind, const void *bytes, uint64_t length)
{
	switch (kind) {
	case STO_SECTION_SESSIONS:
		return agg_sessions_check(bytes, length);
	case STO_SECTION_DISTINCT:
		return agg_distinct_check(bytes, length);
	default:
		return agg_sources_check(bytes, length);
	}
}

static int section_get(struct ctl_folds *folds, uint32_t index, uint32_t kind, const void **bytes)
{
	struct sto_reader *reader = ctl_store_reader(folds->store);
	const struct sto_segment_info *info = sto_reader_segment(reader, index);
	uint64_t length;
	int rc = sto_reader_section(reader, index, kind, bytes, &length);
	if (rc)
		return rc;
	uint64_t key = ((info->sequence << 16 | (info->generation & 0xffff)) << 8) + (kind - STO_SECTION_FIRST) + 1;
	uint64_t *checked = &folds->checked[(info->sequence * 3 + kind) % CHECKED_SLOTS];
	if (*checked == key)
		return 0;
	rc = section_check(kind, *bytes, length);
	if (!rc)
		*checked = key;
	return rc;
}

struct showing {
	const struct ctl_folds_ask *ask;
	struct agg_fold *fold;
};

static int row_show(void *context, const struct tp_event *event)
{
	const struct showing *showing = context;
	if (showing->ask->want && !showing->ask->want(showing->ask->context, event))
		return 0;
	return agg_fold_show(showing->fold, event) ? 0 : -EOVERFLOW;
}

static int rows_fold(struct ctl_folds *folds, uint32_t index, const struct ctl_folds_ask *ask)
{
	struct sto_reader *reader = ctl_store_reader(folds->store);
	uint64_t events = sto_reader_segment(reader, index)->rows + 1;
	folds->rows_count += events;
	if (folds->rows_count > (ask->rows_max ? ask->rows_max : CTL_FOLDS_ROWS_MAX))
		return -EOVERFLOW;
	struct rows *rows = calloc(1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	int rc = memory_map(&rows->memory, events, events * ROW_BYTES_MAX, folds->gap_ms);
	if (rc) {
		free(rows);
		return rc;
	}
	rows->next = folds->rows;
	folds->rows = rows;
	struct showing showing = {.ask = ask, .fold = rows->memory.fold};
	rc = sto_reader_events(reader, index, row_show, &showing);
	if (rc)
		return rc;
	return ask->fold(ask->context, rows->memory.fold) ? 0 : -ECANCELED;
}

static int segment_show(struct ctl_folds *folds, uint32_t index, const struct ctl_folds_ask *ask)
{
	const void *bytes;
	int rc = section_get(folds, index, ask->kind, &bytes);
	if (!rc)
		return ask->section(ask->context, bytes) ? 0 : -ECANCELED;
	if (rc != -ENOENT)
		return rc;
	/* each fold writes its sessions: with these, the absent section would have been empty */
	rc = ask->kind == STO_SECTION_SESSIONS ? -ENOENT : section_get(folds, index, STO_SECTION_SESSIONS, &bytes);
	return rc == -ENOENT ? rows_fold(folds, index, ask) : rc;
}

static int segments_show(struct ctl_folds *folds, const struct ctl_folds_ask *ask, struct ctl_facts *facts)
{
	struct sto_reader *reader = ctl_store_reader(folds->store);
	uint32_t segments = sto_reader_segments(reader);
	for (uint32_t i = 0; i < segments; i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		if (info->from_ms >= ask->to_ms || info->to_ms <= ask->from_ms)
			continue;
		int rc = segment_show(folds, i, ask);
		if (rc) {
			facts->damaged_sequence = rc == -EBADMSG ? info->sequence : 0;
			return rc;
		}
	}
	return 0;
}

int ctl_folds_ask(struct ctl_folds *folds, const struct tp_live *live, const struct ctl_folds_ask *ask, struct ctl_facts *facts)
{
	struct sto_reader *reader = ctl_store_reader(folds->store);
	*facts = (struct ctl_facts){0};
	rows_free(folds);
	int rc = sto_reader_refresh(reader);
	for (int tries = 0; tries < TRIES_MAX && rc >= 0; tries++) {
		facts->watermark_ms = live ? atomic_load_explicit(&live->watermark_ms, memory_order_acquire) : 0;
		if (!facts->watermark_ms)
			facts->watermark_ms = sto_reader_watermark(reader);
		int followed = files_follow(folds);
		if (followed && followed != -EAGAIN)
			return followed;
		rc = sto_reader_refresh(reader);
		if (rc || followed)
			continue;
		ask->begin(ask->context);
		rows_free(folds);
		for (uint32_t i = 0; i < folds->count; i++)
			if (!ask->fold(ask->context, folds->followed[i].memory.fold))
				return -ECANCELED;
		rc = segments_show(folds, ask, facts);
		if (rc != -ESTALE)
			return rc;
		rc = sto_reader_refresh(reader);
	}
	return rc < 0 ? rc : -EAGAIN;
}
