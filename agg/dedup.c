/*
 * The id table: exact deduplication over the horizon. Any shard core inserts, without locks; rotation while all are parked.
 *
 *   memory:  struct agg_dedup │ generation 0 │ generation 1 │ generation 2        (current, previous and spare in some order)
 *
 *   entry     0        8        16            24        32       a line is 64 bytes: two entries
 *             ├── id (hi, lo) ──┼─ fingerprint ┼─ meta ──┤
 *                                                  ├ bit 63: valid
 *                                                  ├ bits 32..62: marks of the ids that passed this line by
 *                                                  └ bits 0..31: minute of the event
 *
 *   state     empty (all zero) ──CAS id──► claimed (meta 0) ──fingerprint, then meta with release──► published
 *
 * Invariants
 *  1. Within a generation an id, once written, stays until the generation is cleared: chains only grow.
 *  2. All who look for an id walk the same lines in the same order, and insert at the first empty entry. With 1: two who
 *     insert the same id at once meet at the same entry, the compare-and-swap lets one in, and the other looks at that entry
 *     again and finds it. So, whatever the interleaving, one of them gets AGG_NEW.
 *  3. Only the current generation is written; the previous one is constant while shard cores run.
 *  4. A published entry changes no more, but for marks that are added.
 *  5. Of an id that lies in a line behind its home, every full line from its home on has the mark.
 *
 * Marks spare most look-ups in the previous generation all but the home line: of 62 marks a line the id's hash picks one, and
 * where that is not set, no copy of the id lies further on (5). The current generation is walked to the first empty entry all
 * the same, since that is where the id would go (2). Per new id with the previous generation full, and 325 ns a cache miss:
 * 190 to 235 ns without marks, 70 to 120 with them.
 *
 * An entry of the same id that does not count (outside of the horizon and of another minute) is passed over; a second entry of
 * that id may then follow further along the chain. Where several count, one with the asked fingerprint wins over one without.
 *
 * Between claim and publication lie a few instructions, yet their thread may be suspended there. Whoever finds a claimed entry
 * waits a bounded while, then takes it for another shard's, which is AGG_OTHER by the header's rule.
 *
 * The home line is chosen with a keyed hash, because UUIDs are the sender's choice: without a key a sender could fill one chain.
 * Source: linear probing, Knuth, TAOCP volume 3, section 6.4; cmpxchg16b, AMD64 manual volume 3; range by multiplication,
 * D. Lemire, "Fast random integer generation in an interval", 2019; the mixing step is that of wyhash (Wang Yi, public domain).
 */
#include "turnpike/dedup.h"

#include <stdatomic.h>
#include <string.h>

enum {
	ENTRIES_PER_LINE = 2,
	MARKS_PER_ENTRY = 31,
	MARK_SHIFT = 32,
	STRIPES = 64,
	CREDIT_BLOCK_MAX = 64,
	PUBLISH_SPINS_MAX = 256, /* about 10,000 cycles */
};

#define META_VALID       (UINT64_C(1) << 63)
#define MEMORY_BYTES_MIN (UINT64_C(32) << 10) /* a configuration has at least 1 MiB; tests want full tables soon */

struct entry {
	_Alignas(16) uint64_t id[2]; /* hi, lo */
	uint64_t fingerprint;
	_Atomic uint64_t meta;
};

struct line {
	_Alignas(64) struct entry entry[ENTRIES_PER_LINE];
};

static_assert(sizeof(struct entry) == 32 && sizeof(struct line) == 64, "two entries a cache line");

struct generation {
	/* first past the newest minute in here, 0 when empty; raised by any shard, about once a minute: read-mostly */
	_Alignas(64) _Atomic uint32_t minute_end;
	struct line *line; /* set at create */
	/* ids handed out to stripes as credit, used or not; touched once per credit block */
	_Alignas(64) _Atomic int64_t granted;
};

/* A thread's unused credit in the current generation. Mostly written by one thread, so that inserts share no line. */
struct stripe {
	_Alignas(64) _Atomic int64_t credit;
};

struct agg_dedup {
	/* written at create and at rotation only */
	uint64_t seed[2];
	uint64_t lines; /* per generation */
	int64_t ids_max;
	int64_t credit_block;
	uint32_t current, previous, spare; /* indexes of generation[] */
	_Atomic uint32_t floor;
	_Atomic uint32_t rotations;
	_Atomic bool spare_clean; /* the clearing thread sets it with release, the rotating one reads it with acquire */
	struct generation generation[3];
	struct stripe stripe[STRIPES];
};

/* ---- choosing places ---- */

static inline uint64_t multiply_fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t id_hash(const struct agg_dedup *dedup, struct tp_id id)
{
	uint64_t hash = multiply_fold(id.hi ^ dedup->seed[0], id.lo ^ dedup->seed[1]);
	return multiply_fold(hash ^ dedup->seed[1], 0x9e3779b97f4a7c15ULL);
}

/* By the upper bits of the hash; the lowest six pick the mark. */
static inline uint64_t home_line(const struct agg_dedup *dedup, uint64_t hash)
{
	return (uint64_t)((unsigned __int128)hash * dedup->lines >> 64);
}

/* Which stripe this thread takes its credit from. Threads that share one (more than 64 of them) stay right, only slower. */
static inline struct stripe *own_stripe(struct agg_dedup *dedup)
{
	static _Atomic uint32_t threads;
	static _Thread_local uint32_t own __attribute__((tls_model("initial-exec"))); /* index + 1 */
	if (__builtin_expect(own == 0, 0))
		own = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % STRIPES;
	return &dedup->stripe[own - 1];
}

/* ---- entries ---- */

/* Swaps the id in if the entry was empty; returns what was there before (all zero: it is ours now). A full barrier. */
static inline struct tp_id entry_claim(struct entry *entry, struct tp_id id)
{
	unsigned __int128 value = (unsigned __int128)id.lo << 64 | id.hi;
	unsigned __int128 old = __sync_val_compare_and_swap((unsigned __int128 *)(void *)entry->id, 0, value);
	return (struct tp_id){.hi = (uint64_t)old, .lo = (uint64_t)(old >> 64)};
}

/*
 * The id of an entry. The two halves are loaded apart while another core may write both at once. As each goes from zero to its
 * value once, two non-zero halves belong together, and two zero ones mean "empty" (which a later claim verifies). One of each
 * is either a torn read or an id with a zero half: an exchange of zero for zero reads both in one step.
 */
static inline struct tp_id entry_id(struct entry *entry)
{
	struct tp_id id = {.hi = __atomic_load_n(&entry->id[0], __ATOMIC_RELAXED),
			   .lo = __atomic_load_n(&entry->id[1], __ATOMIC_RELAXED)};
	if (__builtin_expect((id.hi == 0) != (id.lo == 0), 0))
		return entry_claim(entry, (struct tp_id){0});
	return id;
}

static inline bool id_empty(struct tp_id id)
{
	return (id.hi | id.lo) == 0;
}

static inline bool id_equal(struct tp_id a, struct tp_id b)
{
	return ((a.hi ^ b.hi) | (a.lo ^ b.lo)) == 0;
}

static inline void entry_publish(struct entry *entry, uint64_t fingerprint, uint32_t minute)
{
	__atomic_store_n(&entry->fingerprint, fingerprint, __ATOMIC_RELAXED);
	/*
	 * release: who sees the valid bit sees the fingerprint; pairs with the acquire in entry_meta(). Or, not store: others may
	 * have left their marks already.
	 */
	atomic_fetch_or_explicit(&entry->meta, META_VALID | minute, memory_order_release);
}

/* Waits for publication, bounded; 0: it did not come. */
static uint64_t __attribute__((noinline, cold)) entry_meta_wait(const struct entry *entry)
{
	for (int spin = 0; spin < PUBLISH_SPINS_MAX; spin++) {
		uint64_t meta = atomic_load_explicit(&entry->meta, memory_order_acquire);
		if (meta & META_VALID)
			return meta;
		__builtin_ia32_pause();
	}
	return 0;
}

static inline uint64_t entry_meta(const struct entry *entry)
{
	uint64_t meta = atomic_load_explicit(&entry->meta, memory_order_acquire);
	return __builtin_expect((meta & META_VALID) != 0, 1) ? meta : entry_meta_wait(entry);
}

/* ---- marks ---- */

struct mark {
	uint64_t bit;
	uint32_t entry; /* of the line */
};

static inline struct mark mark_of(uint64_t hash)
{
	uint32_t number = (uint32_t)hash & 63;
	uint32_t place = number / ENTRIES_PER_LINE;
	/* 32 numbers an entry for 31 bits: the last two share one */
	return (struct mark){.bit = UINT64_C(1) << (MARK_SHIFT + (place < MARKS_PER_ENTRY ? place : 0)),
			     .entry = number % ENTRIES_PER_LINE};
}

static inline bool line_marked(const struct line *line, struct mark mark)
{
	return atomic_load_explicit(&line->entry[mark.entry].meta, memory_order_relaxed) & mark.bit;
}

/*
 * Marks the full lines from `home` up to the one before `end`. Relaxed: marks are read only after a rotation, and for that all
 * cores are parked.
 */
static void __attribute__((noinline)) lines_mark(struct line *line, uint64_t lines, uint64_t home, uint64_t end, struct mark mark)
{
	for (uint64_t at = home; at != end; at = at + 1 == lines ? 0 : at + 1)
		if (!line_marked(&line[at], mark))
			atomic_fetch_or_explicit(&line[at].entry[mark.entry].meta, mark.bit, memory_order_relaxed);
}

/* ---- probing ---- */

/* What is asked, as it walks a chain. */
struct probe {
	struct tp_id id;
	uint64_t fingerprint;
	uint32_t minute, horizon_minute;
	struct mark mark;
	bool other; /* an entry that counts has another fingerprint */
};

/* Judges an entry that holds the asked id: true if it is the same event; sets `other` if it counts but is not. */
static inline bool entry_same(struct probe *probe, const struct entry *entry)
{
	uint64_t meta = entry_meta(entry);
	if (__builtin_expect(meta == 0, 0)) {
		probe->other = true;
		return false;
	}
	uint32_t minute = (uint32_t)meta;
	if (minute < probe->horizon_minute && minute != probe->minute)
		return false;
	if (__atomic_load_n(&entry->fingerprint, __ATOMIC_RELAXED) == probe->fingerprint)
		return true;
	probe->other = true;
	return false;
}

/*
 * Walks the chain from entry number *at (home line * 2 at first). True: the same event is there. False: *at is the first empty
 * entry, or *steps reached the size of the generation (it has no empty entry). With `constant`, of a generation that is not
 * written any more, it may end at a full line that lacks the mark.
 */
static inline __attribute__((always_inline)) bool chain_walk(struct probe *probe, struct line *line, uint64_t entries, uint64_t *at,
							     uint64_t *steps, bool constant)
{
	for (; *steps < entries; ++*steps) {
		struct line *here = &line[*at / ENTRIES_PER_LINE];
		struct entry *entry = &here->entry[*at % ENTRIES_PER_LINE];
		struct tp_id id = entry_id(entry);
		if (id_empty(id))
			return false;
		if (id_equal(id, probe->id) && entry_same(probe, entry))
			return true;
		++*at;
		if (constant && *at % ENTRIES_PER_LINE == 0 && !line_marked(here, probe->mark))
			return false;
		if (*at == entries)
			*at = 0;
	}
	return false;
}

/* ---- room ---- */

/* True if this thread may insert one more id into the current generation. */
static inline bool credit_has(struct agg_dedup *dedup, struct stripe *stripe)
{
	if (__builtin_expect(atomic_load_explicit(&stripe->credit, memory_order_relaxed) > 0, 1))
		return true;
	struct generation *current = &dedup->generation[dedup->current];
	int64_t granted = atomic_load_explicit(&current->granted, memory_order_relaxed), block;
	do {
		block = dedup->ids_max - granted;
		if (block <= 0)
			return false;
		if (block > dedup->credit_block)
			block = dedup->credit_block;
	} while (!atomic_compare_exchange_weak_explicit(&current->granted, &granted, granted + block, memory_order_relaxed,
							memory_order_relaxed));
	atomic_fetch_add_explicit(&stripe->credit, block, memory_order_relaxed);
	return true;
}

static inline void minute_end_raise(struct generation *generation, uint32_t minute)
{
	uint32_t end = minute == UINT32_MAX ? minute : minute + 1;
	uint32_t seen = atomic_load_explicit(&generation->minute_end, memory_order_relaxed);
	while (__builtin_expect(seen < end, 0) &&
	       !atomic_compare_exchange_weak_explicit(&generation->minute_end, &seen, end, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

/* ---- the public part ---- */

uint64_t agg_dedup_struct_bytes(void)
{
	return sizeof(struct agg_dedup);
}

struct agg_dedup *agg_dedup_create(void *memory, uint64_t bytes)
{
	if (bytes < MEMORY_BYTES_MIN || (uintptr_t)memory % 64 != 0)
		return NULL;
	struct agg_dedup *dedup = memory;
	struct line *line = (struct line *)(dedup + 1);
	/* keyed by the node's secret through the id hash; a text that is no UUID */
	int uuid;
	struct tp_id seed = tp_id_from_text("agg_dedup", 9, &uuid);
	dedup->seed[0] = seed.hi;
	dedup->seed[1] = seed.lo;
	dedup->lines = (bytes - sizeof *dedup) / 3 / sizeof *line;
	dedup->ids_max = (int64_t)(dedup->lines * ENTRIES_PER_LINE / 10 * 7);
	dedup->credit_block = dedup->ids_max / 1024;
	if (dedup->credit_block < 1)
		dedup->credit_block = 1;
	if (dedup->credit_block > CREDIT_BLOCK_MAX)
		dedup->credit_block = CREDIT_BLOCK_MAX;
	for (uint32_t i = 0; i < 3; i++)
		dedup->generation[i].line = line + i * dedup->lines;
	dedup->current = 0;
	dedup->previous = 1;
	dedup->spare = 2;
	atomic_store_explicit(&dedup->spare_clean, true, memory_order_relaxed);
	return dedup;
}

void agg_dedup_prefetch(const struct agg_dedup *dedup, struct tp_id id)
{
	uint64_t home = home_line(dedup, id_hash(dedup, id));
	__builtin_prefetch(&dedup->generation[dedup->current].line[home], 1, 3);
	__builtin_prefetch(&dedup->generation[dedup->previous].line[home], 0, 3);
}

enum agg_dedup_result agg_dedup_insert(struct agg_dedup *dedup, struct tp_id id, uint64_t fingerprint, uint32_t minute,
				       uint32_t horizon_minute, bool ignore_floor)
{
	const uint64_t hash = id_hash(dedup, id), home = home_line(dedup, hash), entries = dedup->lines * ENTRIES_PER_LINE;
	struct probe probe = {
		.id = id, .fingerprint = fingerprint, .minute = minute, .horizon_minute = horizon_minute, .mark = mark_of(hash)};
	struct generation *current = &dedup->generation[dedup->current], *previous = &dedup->generation[dedup->previous];
	uint64_t at = home * ENTRIES_PER_LINE, steps = 0;
	assert(!id_empty(id)); /* zero is the mark of an empty entry; tp_id_from_text() never makes it */

	if (chain_walk(&probe, current->line, entries, &at, &steps, false))
		return AGG_SAME;
	uint64_t at_previous = home * ENTRIES_PER_LINE, steps_previous = 0;
	if (chain_walk(&probe, previous->line, entries, &at_previous, &steps_previous, true))
		return AGG_SAME;
	if (probe.other)
		return AGG_OTHER;
	if (minute < atomic_load_explicit(&dedup->floor, memory_order_relaxed) && !ignore_floor)
		return AGG_BELOW_FLOOR;
	struct stripe *stripe = own_stripe(dedup);
	if (!credit_has(dedup, stripe))
		return AGG_FULL;

	while (steps < entries) {
		struct entry *entry = &current->line[at / ENTRIES_PER_LINE].entry[at % ENTRIES_PER_LINE];
		if (id_empty(entry_claim(entry, id))) {
			entry_publish(entry, fingerprint, minute);
			if (at / ENTRIES_PER_LINE != home)
				lines_mark(current->line, dedup->lines, home, at / ENTRIES_PER_LINE, probe.mark);
			atomic_fetch_sub_explicit(&stripe->credit, 1, memory_order_relaxed);
			minute_end_raise(current, minute);
			return AGG_NEW;
		}
		/* another shard was faster: go on from this same entry, whose id may be ours */
		if (chain_walk(&probe, current->line, entries, &at, &steps, false))
			return AGG_SAME;
		if (probe.other)
			return AGG_OTHER;
	}
	return AGG_FULL; /* no empty entry; credit ends long before */
}

uint64_t agg_dedup_ids(const struct agg_dedup *dedup)
{
	const struct generation *current = &dedup->generation[dedup->current];
	int64_t ids = atomic_load_explicit(&current->granted, memory_order_relaxed);
	for (int i = 0; i < STRIPES; i++)
		ids -= atomic_load_explicit(&dedup->stripe[i].credit, memory_order_relaxed);
	return ids > 0 ? (uint64_t)ids : 0; /* the loads are not of one moment */
}

uint64_t agg_dedup_ids_max(const struct agg_dedup *dedup)
{
	return (uint64_t)dedup->ids_max;
}

uint32_t agg_dedup_floor(const struct agg_dedup *dedup)
{
	return atomic_load_explicit(&dedup->floor, memory_order_relaxed);
}

void agg_dedup_floor_set(struct agg_dedup *dedup, uint32_t minute)
{
	atomic_store_explicit(&dedup->floor, minute, memory_order_relaxed);
}

uint32_t agg_dedup_rotations(const struct agg_dedup *dedup)
{
	return atomic_load_explicit(&dedup->rotations, memory_order_relaxed);
}

bool agg_dedup_can_rotate(const struct agg_dedup *dedup)
{
	/* acquire: the cleared bytes are seen; pairs with the release in agg_dedup_clear_spare() */
	return atomic_load_explicit(&dedup->spare_clean, memory_order_acquire);
}

void agg_dedup_rotate(struct agg_dedup *dedup)
{
	assert(agg_dedup_can_rotate(dedup)); /* the caller asked; a dirty spare would bring back old ids as new ones' chains */
	atomic_fetch_add_explicit(&dedup->rotations, 1, memory_order_relaxed);
	uint32_t oldest = dedup->previous;
	dedup->previous = dedup->current;
	dedup->current = dedup->spare;
	dedup->spare = oldest;
	struct generation *spare = &dedup->generation[oldest];
	uint32_t minute_end = atomic_load_explicit(&spare->minute_end, memory_order_relaxed);
	if (minute_end > agg_dedup_floor(dedup))
		agg_dedup_floor_set(dedup, minute_end);
	/* credit was for the generation that has just ended: what it held is known no more, nor asked for */
	for (int i = 0; i < STRIPES; i++)
		atomic_store_explicit(&dedup->stripe[i].credit, 0, memory_order_relaxed);
	atomic_store_explicit(&dedup->spare_clean, minute_end == 0, memory_order_relaxed);
}

void agg_dedup_clear_spare(struct agg_dedup *dedup)
{
	if (agg_dedup_can_rotate(dedup))
		return;
	struct generation *spare = &dedup->generation[dedup->spare];
	memset(spare->line, 0, dedup->lines * sizeof *spare->line);
	atomic_store_explicit(&spare->granted, 0, memory_order_relaxed);
	atomic_store_explicit(&spare->minute_end, 0, memory_order_relaxed);
	atomic_store_explicit(&dedup->spare_clean, true, memory_order_release);
}
