/* Single records, sealed or not, each once; the rule and its reason are in ctl_events.h. */
#include "ctl_events.h"

#include "turnpike/follow.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES_MAX = 1000, PATH_BYTES = 4096, NAME_BYTES = 64, FOUND_MAX = 64 };

/* A record that was kept: where it lies in its file's memory, and in the file. */
struct kept {
	uint64_t at;     /* in `bytes` */
	uint64_t offset; /* of its block in the log file */
};

/* An unsealed log file. */
struct tail {
	struct sto_follow *follow;
	uint8_t *bytes;
	uint64_t used, room;
	struct kept *kept;
	uint64_t count, max;
	bool seen; /* in the folder, this time */
};

struct ctl_events {
	pthread_mutex_t lock; /* guards all below */
	struct sto_reader *reader;
	char *data_dir;
	struct tail *tail;
	uint32_t tails, tails_max;
	bool secret; /* ids of texts can be told */
};

int ctl_events_open(struct ctl_events **events, const char *data_dir)
{
	struct ctl_events *made = calloc(1, sizeof(*made));
	int rc = made ? 0 : -ENOMEM;
	if (!rc && !(made->data_dir = strdup(data_dir)))
		rc = -ENOMEM;
	if (!rc)
		rc = sto_reader_open(&made->reader, data_dir);
	if (rc) {
		free(made ? made->data_dir : NULL);
		free(made);
		return rc;
	}
	pthread_mutex_init(&made->lock, NULL);
	made->secret = sto_reader_secret(data_dir) == 0;
	*events = made;
	return 0;
}

static void tail_drop(struct ctl_events *events, uint32_t index)
{
	struct tail *tail = &events->tail[index];
	sto_follow_close(tail->follow);
	free(tail->bytes);
	free(tail->kept);
	*tail = events->tail[--events->tails];
}

void ctl_events_close(struct ctl_events *events)
{
	if (!events)
		return;
	while (events->tails)
		tail_drop(events, events->tails - 1);
	free(events->tail);
	sto_reader_close(events->reader);
	pthread_mutex_destroy(&events->lock);
	free(events->data_dir);
	free(events);
}

/* ---- what is not sealed ---- */

static bool is_kept(const struct tp_event *event)
{
	return event->verdict == TP_AMENDED || (tp_verdict_counts(event->verdict) && event->type == TP_CLICK && event->fraud != 0);
}

static int room_make(void *array, uint64_t *max, uint64_t wanted, uint64_t each)
{
	void **at = array;
	uint64_t more = *max ? *max : 64;
	while (more < wanted)
		more *= 2;
	if (more == *max)
		return 0;
	void *larger = realloc(*at, more * each);
	if (!larger)
		return -ENOMEM;
	*at = larger;
	*max = more;
	return 0;
}

static int record_keep(void *context, const struct tp_event *event)
{
	struct tail *tail = context;
	if (!is_kept(event))
		return 0;
	if (tail->used + event->bytes > CTL_EVENTS_KEPT_BYTES)
		return -EOVERFLOW;
	int rc = room_make(&tail->bytes, &tail->room, tail->used + event->bytes, 1);
	if (!rc)
		rc = room_make(&tail->kept, &tail->max, tail->count + 1, sizeof(*tail->kept));
	if (rc)
		return rc;
	memcpy(tail->bytes + tail->used, event, event->bytes);
	tail->kept[tail->count++] = (struct kept){.at = tail->used, .offset = sto_follow_offset(tail->follow)};
	tail->used += event->bytes;
	return 0;
}

static int tail_begin(struct ctl_events *events, uint64_t file_id, struct tail **to)
{
	if (events->tails == events->tails_max) {
		uint64_t max = events->tails_max;
		int rc = room_make(&events->tail, &max, max + 1, sizeof(*events->tail));
		if (rc)
			return rc;
		events->tails_max = (uint32_t)max;
	}
	struct tail *made = &events->tail[events->tails];
	*made = (struct tail){0};
	int rc = sto_follow_open(&made->follow, events->data_dir, file_id);
	if (rc)
		return rc;
	events->tails++;
	*to = made;
	return 0;
}

static struct tail *tail_of(struct ctl_events *events, uint64_t file_id)
{
	for (uint32_t i = 0; i < events->tails; i++)
		if (sto_follow_file_id(events->tail[i].follow) == file_id)
			return &events->tail[i];
	return NULL;
}

static int newest_first(const void *left, const void *right)
{
	uint64_t a = sto_follow_file_id(((const struct tail *)left)->follow),
		 b = sto_follow_file_id(((const struct tail *)right)->follow);
	return a < b ? 1 : a > b ? -1 : 0;
}

/* 0; -EAGAIN: a file went meanwhile, so the manifest has changed or will; or -errno. */
static int tails_follow(struct ctl_events *events)
{
	uint64_t *file_id = NULL, used = 0;
	uint32_t count = 0;
	int rc = sto_follow_files(events->reader, events->data_dir, &file_id, &count);
	for (uint32_t i = 0; i < events->tails; i++)
		events->tail[i].seen = false;
	for (uint32_t i = 0; i < count && !rc; i++) {
		struct tail *tail = tail_of(events, file_id[i]);
		if (!tail)
			rc = tail_begin(events, file_id[i], &tail);
		if (rc) { /* -ENOENT: a spare that was taken back, or sealed and recycled this moment */
			rc = rc == -ENOENT ? -EAGAIN : rc;
			break;
		}
		tail->seen = true;
		int64_t given = sto_follow_next(tail->follow, record_keep, tail);
		used += tail->used;
		rc = given < 0 ? (int)given : used > CTL_EVENTS_KEPT_BYTES ? -EOVERFLOW : 0;
		if (given < 0) /* part of a block may be kept: begin anew next time */
			tail_drop(events, (uint32_t)(tail - events->tail));
	}
	for (uint32_t i = events->tails; i-- > 0 && !rc;)
		if (!events->tail[i].seen)
			tail_drop(events, i);
	free(file_id);
	if (!rc && events->tails)
		qsort(events->tail, events->tails, sizeof(*events->tail), newest_first);
	return rc;
}

static int tails_show(const struct ctl_events *events, const struct ctl_events_ask *ask)
{
	int rc = 0;
	for (uint32_t i = 0; i < events->tails && !rc; i++) {
		const struct tail *tail = &events->tail[i];
		struct ctl_place place = {.file_id = sto_follow_file_id(tail->follow)};
		for (uint64_t k = tail->count; k-- > 0 && !rc;) {
			place.order = k;
			place.offset = tail->kept[k].offset;
			rc = ask->kept(ask->context, &place,
				       (const struct tp_event *)(const void *)(tail->bytes + tail->kept[k].at));
		}
	}
	return rc;
}

/* ---- what is ---- */

struct chosen {
	struct sto_segment_info *segment;
	uint32_t count;
	uint64_t state[STO_READER_STATE];
};

static int latest_first(const void *left, const void *right)
{
	const struct sto_segment_info *a = left, *b = right;
	return a->to_ms != b->to_ms ? (a->to_ms < b->to_ms ? 1 : -1) : a->sequence < b->sequence ? 1 : -1;
}

static int newest_file_first(const void *left, const void *right)
{
	const struct sto_segment_info *a = left, *b = right;
	return a->file_id < b->file_id ? 1 : -1;
}

typedef bool (*want_fn)(const struct ctl_events_ask *ask, const struct sto_segment_info *info);

static bool in_range(const struct ctl_events_ask *ask, const struct sto_segment_info *info)
{
	return info->to_ms > ask->from_ms && (!ask->to_ms || info->from_ms < ask->to_ms);
}

/* The segments of the reader's last refresh, a copy. */
static int segments_choose(const struct ctl_events *events, const struct ctl_events_ask *ask, want_fn want, struct chosen *chosen)
{
	uint32_t all = sto_reader_segments(events->reader);
	struct sto_segment_info *segment = malloc((all + 1) * sizeof(*segment));
	if (!segment)
		return -ENOMEM;
	chosen->segment = segment;
	chosen->count = 0;
	for (uint32_t i = 0; i < all; i++) {
		const struct sto_segment_info *info = sto_reader_segment(events->reader, i);
		if (want(ask, info))
			segment[chosen->count++] = *info;
	}
	qsort(segment, chosen->count, sizeof(*segment), ask->order == CTL_EVENTS_BY_TIME ? latest_first : newest_file_first);
	return 0;
}

/* Of a segment in the reader; UINT32_MAX: it is gone, or its file is another one now. */
static uint32_t segment_index(const struct sto_reader *reader, const struct sto_segment_info *segment)
{
	uint32_t low = 0, high = sto_reader_segments(reader);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct sto_segment_info *info = sto_reader_segment(reader, middle);
		if (info->sequence == segment->sequence)
			return info->generation == segment->generation ? middle : UINT32_MAX;
		if (info->sequence < segment->sequence)
			low = middle + 1;
		else
			high = middle;
	}
	return UINT32_MAX;
}

int ctl_events_scan(const struct ctl_events *events, const struct sto_segment_info *segment, const struct sto_scan_filter *filter,
		    struct sto_scan **scan)
{
	char path[PATH_BYTES], name[NAME_BYTES];
	sto_segment_file_name(segment, name);
	if (snprintf(path, sizeof(path), "%s/%s", events->data_dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int rc = sto_scan_open_file(scan, path, filter);
	return rc == -ENOENT ? -ESTALE : rc;
}

struct giving {
	ctl_events_fn fn;
	void *context;
	struct ctl_place place;
};

static int row_give(void *context, const struct tp_event *event)
{
	struct giving *giving = context;
	int rc = giving->fn(giving->context, &giving->place, event);
	giving->place.row++;
	giving->place.order++;
	return rc;
}

int ctl_events_rows(struct ctl_events *events, const struct sto_segment_info *segment, ctl_events_fn fn, void *context)
{
	struct giving giving = {
		.fn = fn, .context = context, .place = {.sealed = true, .file_id = segment->file_id, .segment = *segment}};
	pthread_mutex_lock(&events->lock);
	uint32_t index = segment_index(events->reader, segment);
	int rc = index == UINT32_MAX ? -ESTALE : sto_reader_events(events->reader, index, row_give, &giving);
	if (index != UINT32_MAX)
		sto_reader_release(events->reader, index);
	pthread_mutex_unlock(&events->lock);
	return rc;
}

/* ---- both ---- */

/* Under the lock. 0 with a view; 1: start over; or -errno. */
static int view_take(struct ctl_events *events, const struct ctl_events_ask *ask, want_fn want, struct chosen *chosen,
		     int (*unsealed)(struct ctl_events *events, const struct ctl_events_ask *ask), struct ctl_events_facts *facts)
{
	int rc = sto_reader_refresh(events->reader);
	if (rc < 0)
		return rc;
	if (!events->secret)
		events->secret = sto_reader_secret(events->data_dir) == 0;
	ask->begin(ask->context);
	rc = unsealed(events, ask);
	if (rc && rc != -EAGAIN)
		return rc;
	int changed = sto_reader_refresh(events->reader);
	if (changed < 0)
		return changed;
	if (rc || changed)
		return 1;
	facts->watermark_ms = sto_reader_watermark(events->reader);
	sto_reader_state(events->reader, chosen->state);
	return segments_choose(events, ask, want, chosen);
}

static int view_walk(struct ctl_events *events, const struct ctl_events_ask *ask, want_fn want,
		     int (*unsealed)(struct ctl_events *events, const struct ctl_events_ask *ask), struct ctl_events_facts *facts)
{
	for (int tries = 0; tries < TRIES_MAX; tries++) {
		struct chosen chosen = {0};
		*facts = (struct ctl_events_facts){0};
		pthread_mutex_lock(&events->lock);
		int rc = view_take(events, ask, want, &chosen, unsealed, facts);
		pthread_mutex_unlock(&events->lock);
		if (!rc && ask->sealed && ask->sealed(ask->context, chosen.state))
			chosen.count = 0;
		for (uint32_t i = 0; i < chosen.count && !rc; i++) {
			rc = ask->segment(ask->context, &chosen.segment[i]);
			if (rc == -EBADMSG)
				facts->damaged_sequence = chosen.segment[i].sequence;
			if (rc == 1) {
				free(chosen.segment);
				return 0;
			}
		}
		free(chosen.segment);
		if (rc != 1 && rc != -ESTALE)
			return rc;
	}
	return -EAGAIN;
}

static int tails_look(struct ctl_events *events, const struct ctl_events_ask *ask)
{
	int rc = tails_follow(events);
	return rc ? rc : tails_show(events, ask);
}

int ctl_events_ask(struct ctl_events *events, const struct ctl_events_ask *ask, struct ctl_events_facts *facts)
{
	return view_walk(events, ask, in_range, tails_look, facts);
}

/* ---- by id ---- */

struct finding {
	struct ctl_events *events;
	const char *id;
	size_t id_bytes;
	struct tp_id key;
	void (*begin)(void *context);
	ctl_events_fn fn;
	void *context;
	struct sto_scan *scan;
	struct sto_follow *follow;
	struct ctl_place place; /* of the file that is followed */
};

/* Hashes of texts may meet, so the text decides. */
static bool id_is(const struct finding *finding, const struct tp_event *event)
{
	char text[TP_ID_BYTES_MAX + 1];
	return tp_event_id_text(event, text) == finding->id_bytes && memcmp(text, finding->id, finding->id_bytes) == 0;
}

static int record_match(void *context, const struct tp_event *event)
{
	struct finding *finding = context;
	if (event->id.lo == finding->key.lo && event->id.hi == finding->key.hi && id_is(finding, event)) {
		finding->place.offset = sto_follow_offset(finding->follow);
		int rc = finding->fn(finding->context, &finding->place, event);
		if (rc)
			return rc;
	}
	finding->place.order++;
	return 0;
}

static void find_begin(void *context)
{
	struct finding *finding = context;
	int uuid;
	/* the secret may just have come */
	finding->key = tp_id_from_text(finding->id, finding->id_bytes, &uuid);
	finding->begin(finding->context);
}

/* The files themselves, whole: what is kept is not all. */
static int files_search(struct ctl_events *events, const struct ctl_events_ask *ask)
{
	struct finding *finding = ask->context;
	uint64_t *file_id = NULL;
	uint32_t count = 0;
	int rc = sto_follow_files(events->reader, events->data_dir, &file_id, &count);
	for (uint32_t i = count; i-- > 0 && !rc;) {
		finding->place = (struct ctl_place){.file_id = file_id[i]};
		rc = sto_follow_open(&finding->follow, events->data_dir, file_id[i]);
		if (rc) {
			rc = rc == -ENOENT ? -EAGAIN : rc;
			break;
		}
		int64_t given = sto_follow_next(finding->follow, record_match, finding);
		rc = given < 0 ? (int)given : 0;
		sto_follow_close(finding->follow);
	}
	free(file_id);
	return rc;
}

static int row_match(void *context, const struct ctl_place *place, const struct tp_event *event)
{
	struct finding *finding = context;
	return id_is(finding, event) ? finding->fn(finding->context, place, event) : 0;
}

static int segment_search(void *context, const struct sto_segment_info *segment)
{
	struct finding *finding = context;
	uint64_t row[FOUND_MAX];
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	struct ctl_place place = {.sealed = true, .file_id = segment->file_id, .segment = *segment};
	int rc = ctl_events_scan(finding->events, segment, NULL, &finding->scan);
	if (rc == -ENOTSUP)
		return ctl_events_rows(finding->events, segment, row_match, finding);
	if (rc)
		return rc;
	int64_t found = sto_scan_find(finding->scan, finding->key, row, FOUND_MAX);
	for (int64_t i = 0; i < found && i < FOUND_MAX && !rc; i++) {
		rc = sto_scan_record(finding->scan, row[i], event);
		place.row = place.order = row[i];
		if (!rc)
			rc = row_match(finding, &place, event);
	}
	return found < 0 ? (int)found : rc;
}

/* Conflicts do not count for a segment's range, and it does not say whether it has any without being opened. */
static bool may_have(const struct ctl_events_ask *ask, const struct sto_segment_info *info)
{
	return info->to_ms == 0 || in_range(ask, info);
}

int ctl_events_find(struct ctl_events *events, const char *id, size_t id_bytes, uint64_t from_ms, uint64_t to_ms,
		    void (*begin)(void *context), ctl_events_fn fn, void *context, struct ctl_events_facts *facts)
{
	if (!id_bytes || id_bytes > TP_ID_BYTES_MAX)
		return -EINVAL;
	struct finding finding = {.events = events, .id = id, .id_bytes = id_bytes, .begin = begin, .fn = fn, .context = context};
	const struct ctl_events_ask ask = {.context = &finding,
					   .from_ms = from_ms,
					   .to_ms = to_ms,
					   .order = CTL_EVENTS_BY_FILE,
					   .begin = find_begin,
					   .segment = segment_search};
	int rc = view_walk(events, &ask, may_have, files_search, facts);
	sto_scan_close(finding.scan);
	return rc;
}
