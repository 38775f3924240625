/* Dead letters and conflicts out of the data folder: see ctl_dlq_read.h. */
#include "ctl_dlq_read.h"

#include "turnpike/follow.h"
#include "turnpike/scan.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES_MAX = 1000 };

struct reading {
	const struct ctl_dlq_query *query;
	struct ctl_dlq *found;
	uint32_t max; /* entries there is room for: what is wanted and one more, twice */
	bool cut;     /* entries were let go, all older than `oldest` */
	struct ctl_dlq_key oldest;
	/* the file that is being read */
	uint64_t file_id;
	uint64_t letters;
};

/* ---- order ---- */

static int number_compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

/* Below zero: `a` is older. */
static int key_compare(const struct ctl_dlq_key *a, const struct ctl_dlq_key *b)
{
	int c = number_compare(a->received_ms, b->received_ms);
	if (!c)
		c = number_compare(a->file_id, b->file_id);
	if (!c)
		c = (int)a->conflict - (int)b->conflict;
	return c ? c : number_compare(a->place, b->place);
}

static int newest_first(const void *left, const void *right)
{
	const struct ctl_dlq_entry *a = left, *b = right;
	return key_compare(&b->key, &a->key);
}

/* Newest first, alike ones as one, and no more than limit + 1: the one too many tells that there is more. */
static void entries_settle(struct reading *r)
{
	struct ctl_dlq *found = r->found;
	uint32_t kept = 0;
	if (found->count)
		qsort(found->entry, found->count, sizeof(*found->entry), newest_first);
	for (uint32_t i = 0; i < found->count; i++) {
		struct ctl_dlq_entry *entry = &found->entry[i];
		if (kept && key_compare(&found->entry[kept - 1].key, &entry->key) == 0) {
			found->entry[kept - 1].copies += entry->copies;
			free(entry->record);
		} else if (kept > r->query->limit) {
			free(entry->record);
		} else {
			found->entry[kept++] = *entry;
		}
	}
	found->count = kept;
	r->cut = kept > r->query->limit;
	if (r->cut)
		r->oldest = found->entry[kept - 1].key;
}

/* ---- taking ---- */

static bool wanted(const struct reading *r, const struct ctl_dlq_key *key)
{
	const struct ctl_dlq_query *query = r->query;
	if (query->has_only)
		return key->conflict == query->only.conflict && key->place == query->only.place;
	if (key->received_ms < query->from_ms || (query->to_ms && key->received_ms >= query->to_ms))
		return false;
	if (query->has_before && key_compare(key, &query->before) >= 0)
		return false;
	return !r->cut || key_compare(key, &r->oldest) >= 0;
}

static int take(struct reading *r, const struct ctl_dlq_key *key, const struct tp_event *record)
{
	struct ctl_dlq *found = r->found;
	if (!wanted(r, key))
		return 0;
	if (found->count == r->max)
		entries_settle(r);
	struct tp_event *copy = malloc(record->bytes);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, record, record->bytes);
	found->entry[found->count++] = (struct ctl_dlq_entry){.key = *key, .copies = 1, .record = copy};
	return 0;
}

static bool reason_wanted(const struct ctl_dlq_query *query, uint32_t bit)
{
	return !query->reasons || (query->reasons & bit);
}

static int letter_take(void *context, const struct tp_dead_letter *letter)
{
	struct reading *r = context;
	const struct ctl_dlq_key key = {.received_ms = letter->received_ms, .file_id = r->file_id, .place = r->letters++};
	if (r->query->advertiser || !reason_wanted(r->query, 1u << letter->reason))
		return 0;
	return take(r, &key, (const struct tp_event *)(const void *)letter);
}

static int other_take(void *context, const struct tp_event *record)
{
	const struct tp_dead_letter *letter = tp_dead_letter_of(record);
	return letter ? letter_take(context, letter) : 0;
}

/* Of what was sent: neither the node's hashes, which a segment does not keep, nor what was decided. */
static uint64_t conflict_hash(const struct tp_event *event)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *bare = (struct tp_event *)(void *)room;
	memcpy(bare, event, event->bytes);
	bare->fingerprint = bare->shard_hash = 0;
	bare->verdict = 0;
	return XXH3_64bits(bare, bare->bytes);
}

static int conflict_take(void *context, const struct tp_event *event)
{
	struct reading *r = context;
	if (event->verdict != TP_CONFLICT || !reason_wanted(r->query, CTL_DLQ_CONFLICT))
		return 0;
	if (r->query->advertiser) {
		struct tp_str advertiser = tp_event_string(event, TP_ADVERTISER_ID);
		if (advertiser.bytes != strlen(r->query->advertiser) ||
		    memcmp(advertiser.at, r->query->advertiser, advertiser.bytes) != 0)
			return 0;
	}
	const struct ctl_dlq_key key = {
		.received_ms = event->received_ms, .file_id = r->file_id, .place = conflict_hash(event), .conflict = true};
	return take(r, &key, event);
}

/* ---- where they lie ---- */

static void file_begin(struct reading *r, uint64_t file_id)
{
	r->file_id = file_id;
	r->letters = 0;
}

static bool file_wanted(const struct reading *r, uint64_t file_id)
{
	return !r->query->has_only || r->query->only.file_id == file_id;
}

/* 0; -EAGAIN: a file went meanwhile; or -errno. */
static int logs_read(struct reading *r, const struct sto_reader *reader, const char *data_dir)
{
	const struct sto_record_fns fns = {.event = conflict_take, .other = other_take, .context = r};
	uint64_t *file_id = NULL;
	uint32_t count = 0;
	int rc = sto_follow_files(reader, data_dir, &file_id, &count);
	for (uint32_t i = 0; i < count && !rc; i++) {
		struct sto_follow *follow;
		if (!file_wanted(r, file_id[i]))
			continue;
		rc = sto_follow_open(&follow, data_dir, file_id[i]);
		if (rc) {
			rc = rc == -ENOENT ? -EAGAIN : rc;
			break;
		}
		file_begin(r, file_id[i]);
		int64_t given = sto_follow_records(follow, &fns);
		rc = given < 0 ? (int)given : 0;
		sto_follow_close(follow);
	}
	free(file_id);
	return rc;
}

/* The conflicts of a segment: blocks without any are not even decoded. */
static int conflicts_read(struct reading *r, struct sto_reader *reader, uint32_t index, struct sto_scan **scan)
{
	const struct sto_scan_filter filter = {
		.verdicts = 1u << TP_CONFLICT,
		.advertiser = {.at = r->query->advertiser,
			       .bytes = r->query->advertiser ? (uint16_t)strlen(r->query->advertiser) : 0}};
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	int rc = sto_scan_open(scan, reader, index, &filter);
	if (rc == -ENOTSUP)
		return sto_reader_events(reader, index, conflict_take, r);
	if (rc)
		return rc;
	while ((rc = sto_scan_next(*scan)) == 1) {
		uint32_t count;
		const uint32_t *selected = sto_scan_selected(*scan, &count);
		for (uint32_t i = 0; i < count; i++) {
			rc = sto_scan_event(*scan, selected ? selected[i] : i, event);
			if (!rc)
				rc = conflict_take(r, event);
			if (rc)
				return rc;
		}
	}
	return rc;
}

static int segment_read(struct reading *r, struct sto_reader *reader, uint32_t index, struct sto_scan **scan)
{
	const struct sto_segment_info *info = sto_reader_segment(reader, index);
	const struct ctl_dlq_query *query = r->query;
	int rc = 0;
	file_begin(r, info->file_id);
	if (!query->advertiser && (!query->has_only || !query->only.conflict) && reason_wanted(query, CTL_DLQ_CONFLICT - 1))
		rc = sto_reader_dead_letters(reader, index, letter_take, r);
	if (!rc && info->rows && (!query->has_only || query->only.conflict) && reason_wanted(query, CTL_DLQ_CONFLICT))
		rc = conflicts_read(r, reader, index, scan);
	if (rc == -EBADMSG)
		r->found->sequence = info->sequence;
	sto_reader_release(reader, index);
	return rc;
}

struct sealed {
	uint64_t sealed_ms;
	uint32_t index;
};

static int sealed_last_first(const void *left, const void *right)
{
	const struct sealed *a = left, *b = right;
	return number_compare(b->sealed_ms, a->sealed_ms);
}

/* Nothing in a segment that was sealed then, or before, can be among what is wanted. */
static bool segments_done(struct reading *r, uint64_t sealed_ms)
{
	uint64_t newest_ms = sealed_ms + CTL_DLQ_STEP_MS;
	if (r->query->has_only)
		return false;
	if (newest_ms < r->query->from_ms)
		return true;
	if (r->found->count > r->query->limit)
		entries_settle(r);
	return r->cut && newest_ms < r->oldest.received_ms;
}

static int segments_read(struct reading *r, struct sto_reader *reader)
{
	uint32_t count = sto_reader_segments(reader);
	struct sealed *order = malloc((count + 1) * sizeof(*order));
	struct sto_scan *scan = NULL;
	int rc = order ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < count && !rc; i++)
		order[i] = (struct sealed){.sealed_ms = sto_reader_segment(reader, i)->sealed_ms, .index = i};
	if (!rc && count)
		qsort(order, count, sizeof(*order), sealed_last_first);
	for (uint32_t i = 0; i < count && !rc && !segments_done(r, order[i].sealed_ms); i++)
		if (file_wanted(r, sto_reader_segment(reader, order[i].index)->file_id))
			rc = segment_read(r, reader, order[i].index, &scan);
	sto_scan_close(scan);
	free(order);
	return rc;
}

static void entries_forget(struct reading *r)
{
	for (uint32_t i = 0; i < r->found->count; i++)
		free(r->found->entry[i].record);
	r->found->count = 0;
	r->cut = false;
}

/* What is not sealed first, then what is, if the manifest did not change meanwhile: so each log file is read once. */
static int folder_read(struct reading *r, struct sto_reader *reader, const char *data_dir)
{
	int rc = sto_reader_refresh(reader);
	for (int tries = 0; tries < TRIES_MAX && rc >= 0; tries++) {
		entries_forget(r);
		int read = logs_read(r, reader, data_dir);
		if (read && read != -EAGAIN)
			return read;
		rc = sto_reader_refresh(reader);
		if (rc || read)
			continue;
		rc = segments_read(r, reader);
		if (rc != -ESTALE)
			return rc;
		rc = sto_reader_refresh(reader);
	}
	return rc < 0 ? rc : -EAGAIN;
}

int ctl_dlq_read(const char *data_dir, const struct ctl_dlq_query *query, struct ctl_dlq *found)
{
	struct reading r = {.query = query, .found = found, .max = 2 * (query->limit + 1)};
	struct sto_reader *reader;
	*found = (struct ctl_dlq){0};
	found->entry = calloc(r.max, sizeof(*found->entry));
	if (!found->entry)
		return -ENOMEM;
	int rc = sto_reader_open(&reader, data_dir);
	if (rc)
		return rc;
	rc = folder_read(&r, reader, data_dir);
	sto_reader_close(reader);
	if (rc)
		return rc;
	entries_settle(&r);
	found->more = found->count > query->limit;
	if (found->more)
		free(found->entry[--found->count].record);
	return 0;
}

void ctl_dlq_free(struct ctl_dlq *found)
{
	for (uint32_t i = 0; i < found->count; i++)
		free(found->entry[i].record);
	free(found->entry);
	*found = (struct ctl_dlq){0};
}

/* ---- names ---- */

void ctl_dlq_name(const struct ctl_dlq_key *key, char *to)
{
	snprintf(to, CTL_DLQ_NAME_BYTES, key->conflict ? "%" PRIx64 "-c%016" PRIx64 : "%" PRIx64 "-%" PRIu64, key->file_id,
		 key->place);
}

void ctl_dlq_cursor(const struct ctl_dlq_key *key, char *to)
{
	char name[CTL_DLQ_NAME_BYTES];
	ctl_dlq_name(key, name);
	snprintf(to, CTL_DLQ_CURSOR_BYTES, "%" PRIu64 "-%s", key->received_ms, name);
}

/* A number in digits of `base`, nothing else, up to `stop`. NULL: none; else where it ended. */
static const char *number_parse(const char *text, int base, char stop, uint64_t *value)
{
	const char *digits = base == 16 ? "0123456789abcdef" : "0123456789";
	size_t bytes = strspn(text, digits);
	if (!bytes || bytes > (base == 16 ? 16 : 19) || text[bytes] != stop)
		return NULL;
	*value = strtoull(text, NULL, base);
	return text + bytes;
}

bool ctl_dlq_name_parse(const char *text, struct ctl_dlq_key *key)
{
	*key = (struct ctl_dlq_key){0};
	const char *at = number_parse(text, 16, '-', &key->file_id);
	if (!at)
		return false;
	key->conflict = at[1] == 'c';
	return number_parse(at + 1 + key->conflict, key->conflict ? 16 : 10, 0, &key->place) != NULL;
}

bool ctl_dlq_cursor_parse(const char *text, struct ctl_dlq_key *key)
{
	uint64_t received_ms;
	const char *at = number_parse(text, 10, '-', &received_ms);
	if (!at || !ctl_dlq_name_parse(at + 1, key))
		return false;
	key->received_ms = received_ms;
	return true;
}

uint32_t ctl_dlq_reason(const char *text)
{
	for (int reason = TP_OK + 1; reason < TP_REJECTS; reason++)
		if (!strcmp(text, tp_reject_name((enum tp_reject)reason)))
			return 1u << reason;
	return strcmp(text, "conflict") == 0 ? CTL_DLQ_CONFLICT : 0;
}
