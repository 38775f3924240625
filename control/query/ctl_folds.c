/* Folds of what is not sealed, sections of what is; the rule and its reason are in ctl_folds.h. */
#include "ctl_folds.h"

#include "turnpike/distinct.h"
#include "turnpike/follow.h"
#include "turnpike/session.h"
#include "turnpike/sources.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
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
	uint64_t ms_min, ms_max; /* stamps in it; UINT64_MAX, 0 without any */
	bool seen;               /* in the folder, this time */
};

struct ctl_folds {
	const char *data_dir;
	uint64_t log_file_bytes, gap_ms;
	pthread_rwlock_t lock; /* over the files that are followed, and their folds: written to follow, read to show */
	struct followed *followed;
	uint32_t count, max;
	uint64_t broken; /* how often a file was dropped because it could not be followed */
	/* sections that were found good, for who asks again; any thread, and a lost word costs a check */
	_Atomic uint64_t checked[CHECKED_SLOTS];
};

/* One question on its way. */
struct question {
	struct ctl_folds *folds;
	struct sto_reader *reader;
	const struct ctl_folds_ask *ask;
	uint64_t rows; /* that had to be read one by one */
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

/* Who brings folds up to date goes first: readers that come one after another would keep it waiting for ever. */
static void lock_init(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attributes;

	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
}

int ctl_folds_open(struct ctl_folds **folds, const char *data_dir, uint64_t log_file_bytes, uint64_t gap_ms)
{
	struct ctl_folds *made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	lock_init(&made->lock);
	made->data_dir = data_dir;
	made->log_file_bytes = log_file_bytes;
	made->gap_ms = gap_ms;
	*folds = made;
	return 0;
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
	while (folds->count)
		followed_drop(folds, folds->count - 1);
	free(folds->followed);
	pthread_rwlock_destroy(&folds->lock);
	free(folds);
}

/* ---- what is not sealed; with the lock, to write ---- */

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
	*made = (struct followed){.ms_min = UINT64_MAX};
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
	struct followed *one = context;
	if (event->timestamp_ms < one->ms_min)
		one->ms_min = event->timestamp_ms;
	if (event->timestamp_ms > one->ms_max)
		one->ms_max = event->timestamp_ms;
	return agg_fold_show(one->memory.fold, event) ? 0 : -EOVERFLOW;
}

/* 0; -EAGAIN: a file went meanwhile, so the manifest has changed or will; or -errno. */
static int files_follow(struct ctl_folds *folds, const struct sto_reader *reader)
{
	uint64_t *file_id = NULL, used = 0;
	uint32_t count = 0;
	int rc = sto_follow_files(reader, folds->data_dir, &file_id, &count);
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
		int64_t given = sto_follow_next(one->follow, event_show, one);
		used += agg_fold_used(one->memory.fold);
		rc = given < 0 ? (int)given : used > CTL_FOLDS_BYTES_MAX ? -EOVERFLOW : 0;
		if (given < 0) { /* part of a block may be in the fold: begin anew next time */
			folds->broken++;
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

static int section_get(const struct question *question, uint32_t index, uint32_t kind, const void **bytes)
{
	const struct sto_segment_info *info = sto_reader_segment(question->reader, index);
	uint64_t length;
	int rc = sto_reader_section(question->reader, index, kind, bytes, &length);
	if (rc)
		return rc;
	uint64_t key = ((info->sequence << 16 | (info->generation & 0xffff)) << 8) + (kind - STO_SECTION_FIRST) + 1;
	_Atomic uint64_t *checked = &question->folds->checked[(info->sequence * 3 + kind) % CHECKED_SLOTS];
	if (atomic_load_explicit(checked, memory_order_relaxed) == key)
		return 0;
	rc = section_check(kind, *bytes, length);
	if (!rc)
		atomic_store_explicit(checked, key, memory_order_relaxed);
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

/* A fold of the question's own from what `read` gives, shown and gone. */
static int rows_fold(struct question *question, uint64_t events, uint64_t record_bytes,
		     int (*read)(struct question *question, uint64_t which, struct showing *showing), uint64_t which)
{
	const struct ctl_folds_ask *ask = question->ask;
	struct mapping memory;
	int rc = memory_map(&memory, events, record_bytes, question->folds->gap_ms);
	if (rc)
		return rc;
	struct showing showing = {.ask = ask, .fold = memory.fold};
	rc = read(question, which, &showing);
	if (!rc && !ask->fold(ask->context, memory.fold))
		rc = -ECANCELED;
	munmap(memory.at, memory.bytes);
	return rc;
}

static int segment_read(struct question *question, uint64_t which, struct showing *showing)
{
	return sto_reader_events(question->reader, (uint32_t)which, row_show, showing);
}

static int file_read(struct question *question, uint64_t which, struct showing *showing)
{
	struct sto_follow *follow;
	int rc = sto_follow_open(&follow, question->folds->data_dir, which);
	if (rc) /* sealed and recycled this moment, or a spare that was taken back */
		return rc == -ENOENT ? -EAGAIN : rc;
	int64_t given = sto_follow_next(follow, row_show, showing);
	sto_follow_close(follow);
	return given < 0 ? (int)given : 0;
}

static int segment_fold(struct question *question, uint32_t index)
{
	uint64_t events = sto_reader_segment(question->reader, index)->rows + 1;
	question->rows += events;
	if (question->rows > (question->ask->rows_max ? question->ask->rows_max : CTL_FOLDS_ROWS_MAX))
		return -EOVERFLOW;
	return rows_fold(question, events, events * ROW_BYTES_MAX, segment_read, index);
}

/* By its section; without one, by its rows: each fold writes its sessions, and with these an absent section would have been empty. */
static int segment_show(struct question *question, uint32_t index)
{
	const struct ctl_folds_ask *ask = question->ask;
	const void *bytes;
	int rc = section_get(question, index, ask->kind, &bytes);
	if (!rc) {
		bool more = ask->section(ask->context, bytes);
		if (!ask->narrow)
			return more ? 0 : -ECANCELED;
		return more ? segment_fold(question, index) : 0;
	}
	if (rc != -ENOENT)
		return rc;
	rc = ask->kind == STO_SECTION_SESSIONS ? -ENOENT : section_get(question, index, STO_SECTION_SESSIONS, &bytes);
	return rc == -ENOENT ? segment_fold(question, index) : rc;
}

static bool segment_is_asked(const struct ctl_folds_ask *ask, const struct sto_segment_info *info)
{
	return info->from_ms < ask->to_ms && info->to_ms > ask->from_ms;
}

void ctl_folds_sealed(const struct sto_reader *reader, const struct ctl_folds_ask *ask, uint64_t to_sequence,
		      struct ctl_folds_sealed *sealed)
{
	*sealed = (struct ctl_folds_sealed){0};
	uint32_t segments = sto_reader_segments(reader);
	for (uint32_t i = 0; i < segments; i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		uint64_t hash;
		if (info->sequence > to_sequence || !segment_is_asked(ask, info))
			continue;
		memcpy(&hash, info->chain_sha256, sizeof(hash));
		sealed->sum += hash + info->sequence * UINT64_C(0x9e3779b97f4a7c15);
		sealed->segments++;
		if (sealed->to_sequence < info->sequence)
			sealed->to_sequence = info->sequence;
	}
}

static int segments_show(struct question *question, struct ctl_facts *facts)
{
	const struct ctl_folds_ask *ask = question->ask;
	uint32_t segments = sto_reader_segments(question->reader);
	uint64_t kept = ask->kept ? ask->kept(ask->context, question->reader) : 0;
	for (uint32_t i = 0; i < segments; i++) {
		const struct sto_segment_info *info = sto_reader_segment(question->reader, i);
		if (!segment_is_asked(ask, info) || info->sequence <= kept)
			continue;
		int rc = segment_show(question, i);
		if (rc) {
			facts->damaged_sequence = rc == -EBADMSG ? info->sequence : 0;
			return rc;
		}
	}
	return 0;
}

/* ---- asking ---- */

/* The events of files that are not sealed, read for this question alone. -EAGAIN: a file went. */
static int files_read(struct question *question)
{
	struct ctl_folds *folds = question->folds;
	uint64_t *file_id = NULL;
	uint32_t count = 0;
	int rc = sto_follow_files(question->reader, folds->data_dir, &file_id, &count);
	for (uint32_t i = 0; i < count && !rc; i++)
		rc = rows_fold(question, folds->log_file_bytes / TP_EVENT_FIXED_BYTES + 1, folds->log_file_bytes, file_read,
			       file_id[i]);
	free(file_id);
	return rc;
}

/* 0: the common folds have all that was durable when it was called. -EAGAIN: what is sealed has changed meanwhile. */
static int files_update(struct question *question, uint64_t *broken)
{
	struct ctl_folds *folds = question->folds;
	pthread_rwlock_wrlock(&folds->lock);
	/* others may have followed while this one waited */
	int rc = sto_reader_refresh(question->reader);
	if (rc >= 0)
		rc = files_follow(folds, question->reader);
	*broken = folds->broken;
	pthread_rwlock_unlock(&folds->lock);
	return rc;
}

/*
 * The common folds, brought up to date and shown, the latter to many at a time (but for sources: these are put in order in the fold).
 * -EAGAIN: what is sealed has changed meanwhile.
 *
 * Between the two another question may follow. If the manifest is the same once the folds are held to be shown, it dropped no file
 * that this one's segments lack (or `broken` tells), and none goes while they are held; what it added came later than this question.
 */
static int files_show(struct question *question)
{
	struct ctl_folds *folds = question->folds;
	const struct ctl_folds_ask *ask = question->ask;
	uint64_t broken;
	int rc = files_update(question, &broken);
	if (rc)
		return rc;
	if (ask->kind == STO_SECTION_SOURCES)
		pthread_rwlock_wrlock(&folds->lock);
	else
		pthread_rwlock_rdlock(&folds->lock);
	int changed = sto_reader_refresh(question->reader);
	rc = changed < 0 ? changed : changed || broken != folds->broken ? -EAGAIN : 0;
	for (uint32_t i = 0; i < folds->count && rc == 0; i++)
		if (folds->followed[i].ms_min < ask->to_ms && folds->followed[i].ms_max >= ask->from_ms)
			rc = ask->fold(ask->context, folds->followed[i].memory.fold) ? 0 : -ECANCELED;
	pthread_rwlock_unlock(&folds->lock);
	return rc;
}

int ctl_folds_ask(struct ctl_folds *folds, struct ctl_store *store, const struct tp_live *live, const struct ctl_folds_ask *ask,
		  struct ctl_facts *facts)
{
	struct question question = {.folds = folds, .reader = ctl_store_reader(store), .ask = ask};
	*facts = (struct ctl_facts){0};
	int rc = -EAGAIN;
	for (int tries = 0; tries < TRIES_MAX && (rc == -EAGAIN || rc == -ESTALE); tries++) {
		rc = sto_reader_refresh(question.reader);
		if (rc < 0)
			break;
		facts->watermark_ms = live ? atomic_load_explicit(&live->watermark_ms, memory_order_acquire) : 0;
		if (!facts->watermark_ms)
			facts->watermark_ms = sto_reader_watermark(question.reader);
		question.rows = 0;
		ask->begin(ask->context);
		rc = ask->narrow ? files_read(&question) : files_show(&question);
		if (rc == 0 && ask->narrow) {
			int changed = sto_reader_refresh(question.reader);
			rc = changed < 0 ? changed : changed ? -EAGAIN : 0;
		}
		if (rc == 0)
			rc = segments_show(&question, facts);
	}
	return rc == -ESTALE ? -EAGAIN : rc;
}
