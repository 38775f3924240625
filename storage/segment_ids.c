/*
 * Ids of a segment: all of them, and whether one is there.
 *
 *   look-up:  id filter ─ surely not ─► STO_ABSENT                                        some 100 ns
 *                └ maybe ─► the ids, one after the other ─ none ─► STO_ABSENT             1 in 256, some 100 µs
 *                               └ found ─► fingerprints of the whole segment, remembered  tens of ms, then 1 µs each
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

static int recall_make(struct segment *segment, struct segment_recall **made)
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

static void recall_keep(struct segment_recalls *recalls, struct segment_recall *recall)
{
	free(recalls->recall[SEGMENT_RECALLS - 1]);
	memmove(&recalls->recall[1], &recalls->recall[0], (SEGMENT_RECALLS - 1) * sizeof(recalls->recall[0]));
	recalls->recall[0] = recall;
}

/* ---- look-up ---- */

static bool id_there(const struct tp_id *ids, uint64_t count, struct tp_id id)
{
	for (uint64_t i = 0; i < count; i++)
		if (ids[i].lo == id.lo && ids[i].hi == id.hi)
			return true;
	return false;
}

static int recall_ask(const struct segment_recall *recall, struct tp_id id, uint32_t minute, uint64_t fingerprint)
{
	const struct recall_entry *entry = &recall->entry[slot_of(recall, id, minute)];
	return !entry->used ? STO_ABSENT : entry->fingerprint == fingerprint ? STO_SAME : STO_OTHER;
}

int segment_lookup(struct segment *segment, struct segment_recalls *recalls, struct tp_id id, uint32_t minute, uint64_t fingerprint)
{
	if (segment->version == 1)
		return segment_v1_lookup(segment, id, minute, fingerprint);
	if (!segment->totals->counted || minute < segment->totals->minute_min || minute > segment->totals->minute_max)
		return STO_ABSENT;
	const void *filter, *ids;
	uint64_t bytes;
	int rc = segment_section_read(segment, SEGMENT_FILTER, &filter, &bytes);
	if (!rc && !id_filter_sane(filter, bytes))
		rc = -ENOENT;
	if (rc)
		return rc == -ENOENT ? segment_damage(segment->sequence, "id filter", "none that can be") : rc;
	if (!id_filter_maybe(filter, id_filter_key(id.hi, id.lo, minute)))
		return STO_ABSENT;
	struct segment_recall *recall = recall_find(recalls, segment->sequence);
	if (recall)
		return recall_ask(recall, id, minute, fingerprint);
	rc = segment_section_read(segment, SEGMENT_IDS, &ids, &bytes);
	if (!rc && bytes != segment->totals->rows * sizeof(struct tp_id))
		rc = -ENOENT;
	if (rc)
		return rc == -ENOENT ? segment_damage(segment->sequence, "ids", "other than one a row") : rc;
	if (!id_there(ids, segment->totals->rows, id))
		return STO_ABSENT;
	rc = recall_make(segment, &recall);
	if (rc)
		return rc;
	rc = recall_ask(recall, id, minute, fingerprint);
	if (recalls)
		recall_keep(recalls, recall);
	else
		free(recall);
	return rc;
}
