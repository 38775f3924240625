/*
 * Rollup tables: see turnpike/rollup.h for who reads, who writes and the order in which things are published.
 *
 *   header │ index: uint32 per slot    │ minutes: uint32 each  │ rows: 128 bytes each │ heap: five strings per row,
 *          │ 0, or tag and row+1       │ rows of that minute   │ in order of arrival  │ without terminators
 *
 * Minutes that lie ROLLUP_MINUTES apart share a count of rows: then fewer are taken as they come, no more.
 *
 * The index is open addressing with linear probing, at most half full, and private to the writer. The lower bits of a slot, as many as
 * index_row_mask has, are the row's number and one; the bits above are as many of the upper half of its hash, so that a foreign row
 * costs no cache miss of its own.
 *
 * How a row is found, made and added to: rollup_add.c.
 *
 * Threads: one writer per table; readers use tp_rollup_read() and the accessors of the header only.
 *
 * Invariants: rows <= rows_max; heap_bytes <= heap_bytes_max; index_slots is a power of two and at least 2 * rows_max; a row's
 * first 28 bytes and its strings do not change while file_id stays.
 *
 * The sums follow the sequence lock pattern (H.-J. Boehm, "Can seqlocks get along with programming language memory models?",
 * MSPC 2012): all words are accessed with relaxed atomics, the two fences order them against the version.
 */
#include "rollup_own.h"

#include <string.h>

/* Both lines of a row lie in one pair of lines. */
enum { ROLLUP_ALIGN = 128, READ_TRIES_MAX = 1 << 16 };

/* The part of a row that a reader copies without care, and the words of the sums. */
enum { SUMS_AT_WORD = offsetof(struct tp_rollup_row, sums) / 8, SUMS_WORDS = sizeof(struct tp_sums) / 8 };

static_assert(sizeof(struct tp_sums) == 64, "one cache line of sums");
static_assert(TP_ID_BYTES_MAX <= UINT8_MAX, "string_bytes are bytes");

static uint64_t align_up(uint64_t n)
{
	return (n + ROLLUP_ALIGN - 1) & ~(uint64_t)(ROLLUP_ALIGN - 1);
}

static uint32_t slots_for(uint32_t rows_max)
{
	uint64_t slots = 16;
	while (slots < 2 * (uint64_t)rows_max)
		slots *= 2;
	assert(slots <= UINT32_MAX);
	return (uint32_t)slots;
}

uint64_t tp_rollup_bytes(uint32_t rows_max, uint32_t heap_bytes_max)
{
	return align_up(sizeof(struct tp_rollup)) + align_up(slots_for(rows_max) * sizeof(uint32_t)) +
	       ROLLUP_MINUTES * sizeof(uint32_t) + (uint64_t)rows_max * sizeof(struct tp_rollup_row) + align_up(heap_bytes_max);
}

void tp_rollup_format(struct tp_rollup *at, uint32_t rows_max, uint32_t heap_bytes_max)
{
	assert((uintptr_t)at % 64 == 0);
	memset(at, 0, sizeof(*at));
	at->rows_max = rows_max;
	at->heap_bytes_max = heap_bytes_max;
	at->index_slots = slots_for(rows_max);
	at->index_row_mask = UINT32_MAX >> __builtin_clz(rows_max | 1);
	at->index_at = align_up(sizeof(*at));
	at->minutes_at = at->index_at + align_up(at->index_slots * sizeof(uint32_t));
	at->rows_at = at->minutes_at + ROLLUP_MINUTES * sizeof(uint32_t);
	at->heap_at = at->rows_at + (uint64_t)rows_max * sizeof(struct tp_rollup_row);
	atomic_store_explicit(&at->minute_min, UINT64_MAX, memory_order_relaxed);
	memset(rollup_index(at), 0, at->index_slots * sizeof(uint32_t));
	memset(rollup_minutes(at), 0, ROLLUP_MINUTES * sizeof(uint32_t));
	/* nobody reads the table before file_id is set, and that store is a release */
}

/*
 * A little-used table is emptied slot by slot, because clearing a big index costs a shard core a millisecond. Each row is in its own
 * slot somewhere behind its hash, so the walk ends, whatever slots before it were emptied already.
 */
static void index_clear(struct tp_rollup *table, uint32_t rows)
{
	uint32_t *index = rollup_index(table);
	if (rows >= table->index_slots / 8) {
		memset(index, 0, table->index_slots * sizeof(uint32_t));
		return;
	}
	const struct tp_rollup_row *row = tp_rollup_rows(table);
	uint32_t mask = table->index_slots - 1;
	for (uint32_t i = 0; i < rows; i++) {
		uint32_t slot = (uint32_t)row[i].key_hash & mask;
		while ((index[slot] & table->index_row_mask) != i + 1)
			slot = (slot + 1) & mask;
		index[slot] = 0;
	}
}

void tp_rollup_reset(struct tp_rollup *table, uint64_t file_id)
{
	uint32_t rows = atomic_load_explicit(&table->rows, memory_order_relaxed);

	atomic_store_explicit(&table->file_id, 0, memory_order_relaxed);
	/* a reader that sees any later store of this table also sees that file_id went; pairs with its acquire fence */
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&table->rows, 0, memory_order_relaxed);
	atomic_store_explicit(&table->minute_min, UINT64_MAX, memory_order_relaxed);
	atomic_store_explicit(&table->minute_max, 0, memory_order_relaxed);
	index_clear(table, rows);
	memset(rollup_minutes(table), 0, ROLLUP_MINUTES * sizeof(uint32_t));
	table->heap_bytes = 0;
	/* release: who sees the new id sees the table empty */
	atomic_store_explicit(&table->file_id, file_id, memory_order_release);
}

bool tp_rollup_has_room(const struct tp_rollup *table)
{
	return atomic_load_explicit(&table->rows, memory_order_relaxed) < table->rows_max &&
	       table->heap_bytes_max - table->heap_bytes >= TP_DIMENSIONS * TP_ID_BYTES_MAX;
}

bool tp_rollup_read(const struct tp_rollup *table, uint32_t index, struct tp_rollup_row *row)
{
	const struct tp_rollup_row *from = &tp_rollup_rows(table)[index];
	const uint64_t *word = (const uint64_t *)(const void *)from;
	uint64_t copy[sizeof(*row) / 8] = {0};
	bool whole = false;

	for (uint32_t i = 0; i < SUMS_AT_WORD; i++)
		copy[i] = __atomic_load_n(&word[i], __ATOMIC_RELAXED);
	for (uint32_t tries = 0; tries < READ_TRIES_MAX && !whole; tries++) {
		/* acquire: sums read below are not older than this version */
		uint32_t before = atomic_load_explicit(&from->version, memory_order_acquire);
		for (uint32_t i = SUMS_AT_WORD; i < SUMS_AT_WORD + SUMS_WORDS; i++)
			copy[i] = __atomic_load_n(&word[i], __ATOMIC_RELAXED);
		/* a sum of a later update makes the version read below show that update; pairs with the writer's fence */
		atomic_thread_fence(memory_order_acquire);
		whole = before % 2 == 0 && before == atomic_load_explicit(&from->version, memory_order_relaxed);
		if (!whole)
			__builtin_ia32_pause();
	}
	memcpy(row, copy, sizeof(*row));
	return whole;
}

struct tp_str tp_rollup_string(const struct tp_rollup_row *row, const char *heap, enum tp_dimension which)
{
	const char *at = heap + row->string_at;
	for (uint32_t i = 0; i < (uint32_t)which; i++)
		at += row->string_bytes[i];
	return (struct tp_str){.at = at, .bytes = row->string_bytes[which]};
}
