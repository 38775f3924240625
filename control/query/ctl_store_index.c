/* The index over live tables; see ctl_store_index.h. */
#include "ctl_store_index.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { PLACES_MAX = 256, HEADS = 1 << 16 };

struct ctl_store_places {
	const struct tp_rollup *table;
	uint64_t run; /* of the data process that the table is of: another one may have another table there */
	uint64_t file_id;
	enum tp_dimension dimension;
	uint32_t rows; /* that are in it; under the lock */
	uint32_t rows_max;
	uint32_t held; /* under the lock */
	bool gone;     /* the last one who holds it frees it; under the lock */
	uint64_t bytes;
	_Atomic uint32_t *head, *next;
};

struct ctl_store_index {
	pthread_mutex_t lock;
	struct ctl_store_places *places[PLACES_MAX];
	uint32_t count;
};

int ctl_store_index_open(struct ctl_store_index **index)
{
	struct ctl_store_index *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	pthread_mutex_init(&made->lock, NULL);
	*index = made;
	return 0;
}

static void places_free(struct ctl_store_places *places)
{
	munmap(places->head, places->bytes);
	free(places);
}

void ctl_store_index_close(struct ctl_store_index *index)
{
	if (!index)
		return;
	for (uint32_t i = 0; i < index->count; i++)
		places_free(index->places[i]);
	pthread_mutex_destroy(&index->lock);
	free(index);
}

static uint64_t run_of(const struct tp_live *live)
{
	return live->started_ms << 22 ^ live->pid;
}

static struct ctl_store_places *places_make(const struct tp_live *live, const struct tp_rollup *table, uint64_t file_id,
					    enum tp_dimension dimension)
{
	struct ctl_store_places *made = calloc(1, sizeof(*made));

	if (!made)
		return NULL;
	*made = (struct ctl_store_places){
		.table = table,
		.run = run_of(live),
		.file_id = file_id,
		.dimension = dimension,
		.rows_max = table->rows_max,
		.bytes = ((uint64_t)HEADS + table->rows_max) * sizeof(uint32_t),
	};
	/* pages come with the rows */
	void *at = mmap(NULL, made->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED) {
		free(made);
		return NULL;
	}
	made->head = at;
	made->next = made->head + HEADS;
	return made;
}

static uint32_t bucket(const char *id, size_t bytes)
{
	return (uint32_t)XXH3_64bits(id, bytes) & (HEADS - 1);
}

/* With the lock. Rows that a writer is just replacing may be anything: what is made of them is thrown away with the file. */
static void places_grow(struct ctl_store_places *places, uint32_t rows)
{
	const struct tp_rollup_row *row = tp_rollup_rows(places->table);
	const char *heap = tp_rollup_heap(places->table);

	if (rows > places->rows_max)
		rows = places->rows_max;
	for (; places->rows < rows; places->rows++) {
		const struct tp_rollup_row *one = &row[places->rows];
		struct tp_str string = tp_rollup_string(one, heap, places->dimension);
		uint64_t end = (uint64_t)(string.at - heap) + string.bytes;
		uint32_t at = end <= places->table->heap_bytes_max ? bucket(string.at, string.bytes) : 0;
		uint32_t before = atomic_load_explicit(&places->head[at], memory_order_relaxed);
		atomic_store_explicit(&places->next[places->rows], before, memory_order_relaxed);
		/* release: who finds the row finds its link; pairs with the acquire in ctl_store_places_first() */
		atomic_store_explicit(&places->head[at], places->rows + 1, memory_order_release);
	}
}

/* With the lock: out of the list, and freed once nobody walks it. */
static void places_drop(struct ctl_store_index *index, uint32_t at)
{
	struct ctl_store_places *places = index->places[at];

	index->places[at] = index->places[--index->count];
	places->gone = true;
	if (places->held == 0)
		places_free(places);
}

/* With the lock. Those of other files that had this table go. */
static struct ctl_store_places *places_find(struct ctl_store_index *index, const struct tp_live *live,
					    const struct tp_rollup *table, uint64_t file_id, enum tp_dimension dimension)
{
	struct ctl_store_places *found = NULL;

	for (uint32_t i = index->count; i-- > 0;) {
		struct ctl_store_places *one = index->places[i];
		if (one->table != table)
			continue;
		if (one->run != run_of(live) || one->file_id != file_id || one->rows_max != table->rows_max)
			places_drop(index, i);
		else if (one->dimension == dimension)
			found = one;
	}
	return found;
}

struct ctl_store_places *ctl_store_index_take(struct ctl_store_index *index, const struct tp_live *live,
					      const struct tp_rollup *table, uint64_t file_id, uint32_t rows,
					      enum tp_dimension dimension)
{
	pthread_mutex_lock(&index->lock);
	struct ctl_store_places *places = places_find(index, live, table, file_id, dimension);
	if (!places && index->count < PLACES_MAX) {
		places = places_make(live, table, file_id, dimension);
		if (places)
			index->places[index->count++] = places;
	}
	if (places) {
		places_grow(places, rows);
		places->held++;
	}
	pthread_mutex_unlock(&index->lock);
	return places;
}

void ctl_store_index_give(struct ctl_store_index *index, struct ctl_store_places *places)
{
	pthread_mutex_lock(&index->lock);
	bool free_it = --places->held == 0 && places->gone;
	pthread_mutex_unlock(&index->lock);
	if (free_it)
		places_free(places);
}

uint32_t ctl_store_places_first(const struct ctl_store_places *places, const char *id, size_t bytes)
{
	/* acquire: pairs with the release in places_grow() */
	return atomic_load_explicit(&places->head[bucket(id, bytes)], memory_order_acquire);
}

uint32_t ctl_store_places_next(const struct ctl_store_places *places, uint32_t row)
{
	return atomic_load_explicit(&places->next[row - 1], memory_order_relaxed);
}

void ctl_store_index_refresh(struct ctl_store_index *index, const struct tp_live *live)
{
	pthread_mutex_lock(&index->lock);
	for (uint32_t i = index->count; i-- > 0;) {
		struct ctl_store_places *places = index->places[i];
		bool known = false;
		for (uint32_t k = 0; live && k < live->rollup_count && !known; k++)
			known = tp_live_rollup(live, k) == places->table;
		/* its memory may be unmapped: only a table of this view may be looked at */
		if (!known || places->run != run_of(live) ||
		    atomic_load_explicit(&places->table->file_id, memory_order_acquire) != places->file_id)
			places_drop(index, i);
		else
			places_grow(places, atomic_load_explicit(&places->table->rows, memory_order_acquire));
	}
	pthread_mutex_unlock(&index->lock);
}
