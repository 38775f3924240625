/*
 * Ids of a segment: all of them, and whether one is there.
 *
 *   look-up:  id index ─ not there ─► STO_ABSENT                                        some 100 ns
 *                └ there ─► that row's block, decoded for its fingerprint               some ms each
 *                     └ after the 9th of a segment ─► fingerprints of all of it, remembered: a tenth of a second, once, then 1 µs each
 *
 *   version 2:  id filter ─ surely not ─► STO_ABSENT
 *                └ maybe ─► the ids, one after the other ─ none ─► STO_ABSENT           1 in 256, some 100 µs
 *                               └ found ─► as above
 *
 * Fingerprints are not stored: eight bytes a row that do not compress, for what is asked of few segments. A stray late copy costs a block; a
 * client that sends an old batch again soon costs a table.
 *
 * Threads: the segment's owner, who owns the recalls as well.
 */
#include "id_filter.h"
#include "segment_rows.h"
#include "segment_state.h"
#include "segment_v1.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <sys/random.h>

struct ids {
	sto_id_fn fn;
	void *context;
};

static int id_give(void *context, const struct tp_event *event)
{
	const struct ids *ids = context;
	if (event->verdict != TP_ACCEPTED && event->verdict != TP_LATE)
		return 0;
	return ids->fn(ids->context, event->id, event->fingerprint, (uint32_t)(event->timestamp_ms / TP_MINUTE_MS));
}

int segment_ids(struct segment *segment, sto_id_fn fn, void *context)
{
	struct ids ids = {.fn = fn, .context = context};
	if (segment->version == 1)
		return segment_v1_ids(segment, fn, context);
	return segment_events_sorted(segment, id_give, &ids);
}

/* ---- what is remembered of a segment ---- */

struct recall_entry {
	struct tp_id id;
	uint64_t fingerprint;
	uint32_t minute;
	uint32_t used; /* 0: a free slot */
};

struct segment_recall {
	uint64_t sequence;
	uint64_t slots; /* a power of two */
	uint64_t seed;  /* random, so that nobody can send ids that all meet in one slot */
	struct recall_entry entry[];
};

static uint64_t slot_of(const struct segment_recall *recall, struct tp_id id, uint32_t minute)
{
	uint64_t slot = XXH3_64bits_withSeed(&id, sizeof(id), recall->seed ^ minute) & (recall->slots - 1);
	while (recall->entry[slot].used &&
	       (memcmp(&recall->entry[slot].id, &id, sizeof(id)) != 0 || recall->entry[slot].minute != minute))
		slot = (slot + 1) & (recall->slots - 1);
	return slot;
}

/* What a damaged footer might promise too few of is refused by the count of slots. */
struct filling {
	struct segment_recall *recall;
	uint64_t left;
};

static int recall_add(void *context, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	struct filling *filling = context;
	if (!filling->left--)
		return -EBADMSG;
	filling->recall->entry[slot_of(filling->recall, id, minute)] =
		(struct recall_entry){.id = id, .fingerprint = fingerprint, .minute = minute, .used = 1};
	return 0;
}

int segment_recall_make(struct segment *segment, struct segment_recall **made)
{
	uint64_t slots = 16;
	while (slots < 2 * segment->totals->rows)
		slots *= 2;
	struct segment_recall *recall = calloc(1, sizeof(*recall) + slots * sizeof(recall->entry[0]));
	if (!recall)
		return -ENOMEM;
	recall->sequence = segment->sequence;
	recall->slots = slots;
	if (getrandom(&recall->seed, sizeof(recall->seed), GRND_NONBLOCK) < 0)
		recall->seed = (uint64_t)(uintptr_t)recall;
	struct filling filling = {.recall = recall, .left = segment->totals->rows};
	int rc = segment_ids(segment, recall_add, &filling);
	if (rc)
		free(recall);
	else
		*made = recall;
	return rc;
}

void segment_recalls_fini(struct segment_recalls *recalls)
{
	if (recalls->rows)
		segment_rows_close(recalls->rows);
	free(recalls->rows);
	for (int i = 0; i < SEGMENT_RECALLS; i++)
		free(recalls->recall[i]);
	*recalls = (struct segment_recalls){0};
}

/* The segment's, moved to the front; NULL: none. */
static struct segment_recall *recall_find(struct segment_recalls *recalls, uint64_t sequence)
{
	for (int i = 0; recalls && i < SEGMENT_RECALLS && recalls->recall[i]; i++) {
		struct segment_recall *found = recalls->recall[i];
		if (found->sequence != sequence)
			continue;
		memmove(&recalls->recall[1], &recalls->recall[0], (size_t)i * sizeof(recalls->recall[0]));
		return recalls->recall[0] = found;
	}
	return NULL;
}

void segment_recall_keep(struct segment_recalls *recalls, uint64_t sequence, struct segment_recall *recall)
{
	if (!recall) {
		recalls->hits[sequence % SEGMENT_RECALLS] = (struct segment_hits){0};
		return;
	}
	free(recalls->recall[SEGMENT_RECALLS - 1]);
	memmove(&recalls->recall[1], &recalls->recall[0], (SEGMENT_RECALLS - 1) * sizeof(recalls->recall[0]));
	recalls->recall[0] = recall;
}

/* ---- look-up ---- */

enum { DIRECT_HITS = 8 };

/* Has the segment been asked often enough to be worth a table? */
static bool recall_due(struct segment_recalls *recalls, uint64_t sequence)
{
	struct segment_hits *hits = &recalls->hits[sequence % SEGMENT_RECALLS];
	if (hits->sequence != sequence)
		*hits = (struct segment_hits){.sequence = sequence};
	return hits->hits++ >= DIRECT_HITS;
}

/* enum sto_lookup of one row that has the id, or -errno. Decodes no more of its block than it takes to say no. */
static int row_ask(struct segment_rows *rows, uint64_t row, uint32_t minute, uint64_t fingerprint)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	uint32_t block = (uint32_t)(row / SEGMENT_BLOCK_ROWS), at = (uint32_t)(row % SEGMENT_BLOCK_ROWS);
	const uint64_t *time = segment_rows_values(rows, SEGMENT_TIME, block);
	const uint64_t *verdict = time ? segment_rows_values(rows, SEGMENT_VERDICT, block) : NULL;
	if (!verdict)
		return -EBADMSG;
	if (time[at] / TP_MINUTE_MS != minute || (verdict[at] != TP_ACCEPTED && verdict[at] != TP_LATE))
		return STO_ABSENT;
	int rc = segment_rows_load(rows, block);
	if (!rc)
		rc = segment_rows_event(rows, block, at, event);
	return rc ? rc : event->fingerprint == fingerprint ? STO_SAME : STO_OTHER;
}

/* Rows that may be the one: those that have the id. */
struct rows_with_id {
	const struct id_index *index; /* NULL: version 2 */
	uint32_t first, count;        /* by rank */
	const struct tp_id *ids;      /* version 2: of all rows */
	uint64_t row;                 /* … from here on */
};

/* `rows` is open. */
static int rows_ask(struct segment *segment, struct segment_rows *rows, const struct rows_with_id *with, struct tp_id id,
		    uint32_t minute, uint64_t fingerprint)
{
	int rc = segment_rows_prepare_one(rows, segment, id);
	for (uint32_t i = 0; rc == STO_ABSENT && i < with->count; i++) {
		uint32_t row = id_index_row(with->index, with->first + i);
		rc = row < segment->totals->rows ? row_ask(rows, row, minute, fingerprint)
						 : segment_damage(segment->sequence, "id index", "a row that is not there");
	}
	for (uint64_t row = with->row; rc == STO_ABSENT && with->ids && row < segment->totals->rows; row++)
		if (with->ids[row].lo == id.lo && with->ids[row].hi == id.hi)
			rc = row_ask(rows, row, minute, fingerprint);
	return rc;
}

/* Without a table: the decoder's memory is kept, because touching it for the first time costs more than decoding. */
static int direct_ask(struct segment *segment, struct segment_recalls *recalls, const struct rows_with_id *with, struct tp_id id,
		      uint32_t minute, uint64_t fingerprint)
{
	struct segment_rows own = {0}, *rows = &own;
	if (recalls && !recalls->rows && !(recalls->rows = calloc(1, sizeof(*recalls->rows))))
		return -ENOMEM;
	if (recalls)
		rows = recalls->rows;
	int rc = segment_rows_open(rows, segment);
	if (!rc)
		rc = rows_ask(segment, rows, with, id, minute, fingerprint);
	if (!recalls)
		segment_rows_close(&own);
	return rc;
}

static int recall_ask(const struct segment_recall *recall, struct tp_id id, uint32_t minute, uint64_t fingerprint)
{
	const struct recall_entry *entry = &recall->entry[slot_of(recall, id, minute)];
	return !entry->used ? STO_ABSENT : entry->fingerprint == fingerprint ? STO_SAME : STO_OTHER;
}

/* Version 2. 1: maybe; 0: surely not in that minute; -EBADMSG. */
static int old_filter_ask(struct segment *segment, struct tp_id id, uint32_t minute)
{
	const void *filter;
	uint64_t bytes;
	int rc = segment_section_read(segment, SEGMENT_FILTER, &filter, &bytes);
	if (!rc && !id_filter_sane(filter, bytes))
		rc = -ENOENT;
	if (rc)
		return rc == -ENOENT ? segment_damage(segment->sequence, "id filter", "none that can be") : rc;
	return id_filter_maybe(filter, id_filter_key(id.hi, id.lo, minute));
}

/* Version 2. 1: there are such rows; 0: none; -EBADMSG. */
static int old_ids_find(struct segment *segment, struct tp_id id, struct rows_with_id *with)
{
	const void *ids;
	uint64_t bytes;
	int rc = segment_section_read(segment, SEGMENT_IDS, &ids, &bytes);
	if (!rc && bytes != segment->totals->rows * sizeof(struct tp_id))
		rc = -ENOENT;
	if (rc)
		return rc == -ENOENT ? segment_damage(segment->sequence, "ids", "other than one a row") : rc;
	with->ids = ids;
	while (with->row < segment->totals->rows && (with->ids[with->row].lo != id.lo || with->ids[with->row].hi != id.hi))
		with->row++;
	return with->row < segment->totals->rows;
}

static int index_find(struct segment *segment, struct tp_id id, struct rows_with_id *with)
{
	int rc = segment_id_index(segment, &with->index);
	if (rc)
		return rc;
	with->count = id_index_find(with->index, id, &with->first);
	return with->count > 0;
}

int segment_lookup(struct segment *segment, struct segment_recalls *recalls, struct tp_id id, uint32_t minute, uint64_t fingerprint)
{
	if (segment->version == 1)
		return segment_v1_lookup(segment, id, minute, fingerprint);
	if (!segment->totals->counted || minute < segment->totals->minute_min || minute > segment->totals->minute_max)
		return STO_ABSENT;
	struct rows_with_id with = {0};
	const bool old = segment->version == SEGMENT_VERSION_OLD_IDS;
	int rc = old ? old_filter_ask(segment, id, minute) : index_find(segment, id, &with);
	if (rc <= 0)
		return rc < 0 ? rc : STO_ABSENT;
	struct segment_recall *recall = recall_find(recalls, segment->sequence);
	if (recall)
		return recall_ask(recall, id, minute, fingerprint);
	rc = old ? old_ids_find(segment, id, &with) : 1;
	if (rc <= 0)
		return rc < 0 ? rc : STO_ABSENT;
	const bool due = recalls && recall_due(recalls, segment->sequence);
	if (due && recalls->apart)
		recalls->wanted = segment->sequence;
	if (!due || recalls->apart)
		return direct_ask(segment, recalls, &with, id, minute, fingerprint);
	rc = segment_recall_make(segment, &recall);
	if (rc)
		return rc;
	segment_recall_keep(recalls, segment->sequence, recall);
	return recall_ask(recall, id, minute, fingerprint);
}
