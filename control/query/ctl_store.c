/* The snapshot over sealed files and live tables; the rule and its reason are in ctl_store.h. */
#include "ctl_store.h"

#include "ctl_store_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES_MAX = 1000 };

struct ctl_store {
	struct sto_reader *reader;
	struct ctl_store_index *index; /* may be NULL */
};

int ctl_store_open_reader(struct ctl_store **store, struct sto_reader *reader)
{
	struct ctl_store *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->reader = reader;
	*store = made;
	return 0;
}

int ctl_store_open(struct ctl_store **store, const char *data_dir)
{
	struct sto_reader *reader;

	int rc = sto_reader_open(&reader, data_dir);
	if (rc != 0)
		return rc;
	rc = ctl_store_open_reader(store, reader);
	if (rc != 0)
		sto_reader_close(reader);
	return rc;
}

void ctl_store_close(struct ctl_store *store)
{
	if (!store)
		return;
	sto_reader_close(store->reader);
	free(store);
}

struct sto_reader *ctl_store_reader(struct ctl_store *store)
{
	return store->reader;
}

void ctl_store_index_use(struct ctl_store *store, struct ctl_store_index *index)
{
	store->index = index;
}

/* A row that a writer is just replacing may name strings outside the heap; such a table has changed its file. */
static bool strings_fit(const struct tp_rollup *table, const struct tp_rollup_row *row)
{
	uint64_t end = row->string_at;
	for (int i = 0; i < TP_DIMENSIONS; i++)
		end += row->string_bytes[i];
	return end <= table->heap_bytes_max;
}

enum went { WENT_ON, WENT_STALE, WENT_ENOUGH };

static enum went row_take(const struct tp_rollup *table, uint32_t index, const struct ctl_scan *scan)
{
	struct tp_rollup_row row;
	uint32_t minute = __atomic_load_n(&tp_rollup_rows(table)[index].minute, __ATOMIC_RELAXED);

	if (minute < scan->from_minute || minute >= scan->to_minute)
		return WENT_ON;
	/* false: the writer died inside this row; what it has is what recovery will find, or a little less */
	(void)tp_rollup_read(table, index, &row);
	if (!strings_fit(table, &row))
		return WENT_STALE;
	return scan->row(scan->context, &row, tp_rollup_heap(table)) ? WENT_ON : WENT_ENOUGH;
}

/* Whether a row is of the id, before its sums are read: its key does not change. */
static bool row_is_of(const struct tp_rollup *table, uint32_t index, const struct ctl_scan *scan)
{
	const struct tp_rollup_row *row = &tp_rollup_rows(table)[index];
	const char *heap = tp_rollup_heap(table);

	if (row->string_bytes[scan->dimension] != scan->id_bytes)
		return false;
	struct tp_str string = tp_rollup_string(row, heap, scan->dimension);
	return (uint64_t)(string.at - heap) + scan->id_bytes <= table->heap_bytes_max &&
	       memcmp(string.at, scan->id, scan->id_bytes) == 0;
}

static enum went rows_scan(struct ctl_store *store, const struct tp_live *live, const struct tp_rollup *table, uint64_t file_id,
			   uint32_t rows, const struct ctl_scan *scan)
{
	enum went went = WENT_ON;
	struct ctl_store_places *places =
		store->index && scan->id ? ctl_store_index_take(store->index, live, table, file_id, rows, scan->dimension) : NULL;

	if (!places) {
		for (uint32_t i = 0; i < rows && went == WENT_ON; i++)
			went = row_take(table, i, scan);
		return went;
	}
	/* each row once at most: links lead to older rows */
	for (uint32_t row = ctl_store_places_first(places, scan->id, scan->id_bytes); row && went == WENT_ON;
	     row = ctl_store_places_next(places, row)) {
		if (row_is_of(table, row - 1, scan))
			went = row_take(table, row - 1, scan);
	}
	ctl_store_index_give(store->index, places);
	return went;
}

/* 0, -ECANCELED, or -EAGAIN: the table was given to another file meanwhile. */
static int table_scan(struct ctl_store *store, const struct tp_live *live, const struct tp_rollup *table,
		      const struct ctl_scan *scan)
{
	/* acquire: who sees the id sees the table emptied for it; pairs with the release in tp_rollup_reset() */
	uint64_t file_id = atomic_load_explicit(&table->file_id, memory_order_acquire);

	if (file_id == 0 || sto_reader_sealed(store->reader, file_id))
		return 0;
	/* acquire: keys and strings of the rows below are whole */
	uint32_t rows = atomic_load_explicit(&table->rows, memory_order_acquire);
	enum went went = rows <= table->rows_max ? rows_scan(store, live, table, file_id, rows, scan) : WENT_STALE;
	/* a row of another file read above makes the change of file_id visible below; pairs with the fence in tp_rollup_reset() */
	atomic_thread_fence(memory_order_acquire);
	if (went == WENT_STALE || atomic_load_explicit(&table->file_id, memory_order_relaxed) != file_id)
		return -EAGAIN;
	return went == WENT_ON ? 0 : -ECANCELED;
}

static int tables_scan(struct ctl_store *store, const struct tp_live *live, const struct ctl_scan *scan)
{
	for (uint32_t i = 0; live && i < live->rollup_count; i++) {
		int rc = table_scan(store, live, tp_live_rollup(live, i), scan);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* The first row at or after the minute: rows of a segment are sorted by it. */
static uint32_t lower_bound(const struct tp_rollup_row *rows, uint32_t count, uint64_t minute)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (rows[middle].minute < minute)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool segment_is_asked(const struct sto_segment_info *info, const struct ctl_scan *scan)
{
	/* minutes that the stamps [from_ms, to_ms) touch; 0,0 is a segment of conflicts only, which has no rows */
	if (info->to_ms / TP_MINUTE_MS < scan->from_minute || info->from_ms / TP_MINUTE_MS >= scan->to_minute)
		return false;
	return scan->want(scan->context, info);
}

static int sums_scan(struct ctl_store *store, const struct ctl_scan *scan, struct ctl_facts *facts)
{
	const struct sto_sums_query query = {
		.from_minute = scan->from_minute,
		.to_minute = scan->to_minute,
		.grain = scan->grain,
		.dimension = scan->dimension,
		.id = scan->id,
		.id_bytes = scan->id_bytes,
		.alone = scan->alone,
	};
	struct sto_damage damage = {0};
	uint64_t state[STO_READER_STATE];

	sto_reader_state(store->reader, state);
	if (scan->sealed && scan->sealed(scan->context, state))
		return 0;
	int rc = sto_reader_sums(store->reader, &query, scan->row, scan->context, &damage);

	facts->damaged_sequence = damage.sequence;
	facts->damaged_rollup = damage.rollup;
	return rc;
}

/* -ESTALE: a segment was deleted since the refresh. */
static int segments_scan(struct ctl_store *store, const struct ctl_scan *scan, struct ctl_facts *facts)
{
	uint32_t segments = sto_reader_segments(store->reader);

	for (uint32_t i = 0; i < segments; i++) {
		const struct sto_segment_info *info = sto_reader_segment(store->reader, i);
		if (!segment_is_asked(info, scan))
			continue;
		const struct tp_rollup_row *rows;
		const char *heap;
		uint32_t count;
		int rc = sto_reader_rollup(store->reader, i, &rows, &count, &heap);
		if (rc != 0) {
			facts->damaged_sequence = rc == -EBADMSG ? info->sequence : 0;
			return rc;
		}
		for (uint32_t at = lower_bound(rows, count, scan->from_minute); at < count && rows[at].minute < scan->to_minute;
		     at++) {
			if (!scan->row(scan->context, &rows[at], heap))
				return -ECANCELED;
		}
		sto_reader_release(store->reader, i);
	}
	return 0;
}

int ctl_store_scan(struct ctl_store *store, const struct tp_live *live, const struct ctl_scan *scan, struct ctl_facts *facts)
{
	*facts = (struct ctl_facts){0};
	int rc = sto_reader_refresh(store->reader);
	if (rc < 0)
		return rc;
	for (int tries = 0; tries < TRIES_MAX; tries++) {
		/* before the rows: an event that closes a minute later cannot make this look call it final */
		facts->watermark_ms = live ? atomic_load_explicit(&live->watermark_ms, memory_order_acquire) : 0;
		/* that of the segments is the furthest shard's, and a slower one may still take events as in time: only for want of live */
		if (!facts->watermark_ms)
			facts->watermark_ms = sto_reader_watermark(store->reader);
		scan->begin(scan->context);
		rc = tables_scan(store, live, scan);
		if (rc != 0 && rc != -EAGAIN)
			return rc;
		int changed = sto_reader_refresh(store->reader);
		if (changed < 0)
			return changed;
		if (rc != 0 || changed != 0)
			continue;
		rc = scan->want ? segments_scan(store, scan, facts) : sums_scan(store, scan, facts);
		if (rc != -ESTALE)
			return rc;
	}
	return -EAGAIN;
}
