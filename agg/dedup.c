/*
 * The id table: exact deduplication over the horizon. Any shard core inserts, without locks; rotation while all are parked.
 *
 *   memory:  struct agg_dedup │ generation 0 │ generation 1 │ generation 2        (current, previous and spare in some order)
 *
 *   entry     0        8        16            24           28      32       a line is 64 bytes: two entries
 *             ├── id (hi, lo) ──┼─ fingerprint ┼ minute end ┼ marks ┤
 *                                               │            └ of the ids that passed this line by
 *                                               └ first minute past the event's
 *
 *   state     empty (all zero) ──CAS id──► claimed (minute end 0) ──fingerprint, then minute end with release──► published
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
 * Marks spare most look-ups in the previous generation all but the home line: of 64 marks a line the id's hash picks one, and
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
 * With one shard nobody else inserts (agg_dedup_alone()): an entry is claimed by plain stores, and 1, 2, 4 and 5 hold as they stand.
 *
 * The home line is chosen with a keyed hash, because UUIDs are the sender's choice: without a key a sender could fill one chain.
 * Source: linear probing, Knuth, TAOCP volume 3, section 6.4; cmpxchg16b, AMD64 manual volume 3; range by multiplication,
 * D. Lemire, "Fast random integer generation in an interval", 2019; the mixing step is that of wyhash (Wang Yi, public domain).
 */
#include "turnpike/dedup.h"

#include <smmintrin.h>
#include <stdatomic.h>
#include <string.h>

enum {
	ENTRIES_PER_LINE = 2,
	STRIPES = 64, /* the last one is for all threads that come too late for one of their own */
	CREDIT_BLOCK_MAX = 64,
	PUBLISH_SPINS_MAX = 256, /* about 10,000 cycles */
};

#define MEMORY_BYTES_MIN (UINT64_C(32) << 10) /* a configuration has at least 1 MiB; tests want full tables soon */

struct entry {
	_Alignas(16) uint64_t id[2]; /* hi, lo */
	uint64_t fingerprint;
	_Atomic uint32_t minute_end; /* 0: not published; written once, by who claimed it */
	_Atomic uint32_t marks;      /* added by any shard */
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

/* A thread's unused credit in the current generation. Written by one thread only, but for the last: inserts share no line, nor lock one. */
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
	bool alone;               /* written while no core runs: one thread at most inserts */
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

/* Which stripe this thread takes its credit from. */
static inline struct stripe *own_stripe(struct agg_dedup *dedup)
{
	static _Atomic uint64_t threads;
	static _Thread_local uint32_t own __attribute__((tls_model("initial-exec"))); /* index + 1 */
	if (__builtin_expect(own == 0, 0)) {
		uint64_t before = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed);
		own = before < STRIPES ? (uint32_t)before + 1 : STRIPES;
	}
	return &dedup->stripe[own - 1];
}

/* ---- entries ---- */

static inline bool id_empty(struct tp_id id)
{
	return (id.hi | id.lo) == 0;
}

/* Swaps the id in if the entry was empty; returns what was there before (all zero: it is ours now). A full barrier. */
static inline struct tp_id entry_claim(struct entry *entry, struct tp_id id)
{
	unsigned __int128 value = (unsigned __int128)id.lo << 64 | id.hi;
	unsigned __int128 old = __sync_val_compare_and_swap((unsigned __int128 *)(void *)entry->id, 0, value);
	return (struct tp_id){.hi = (uint64_t)old, .lo = (uint64_t)(old >> 64)};
}

/*
 * The same for an entry that this thread has just seen empty; false: another one was faster. With nobody else there, no lock: the locked
 * instruction would wait until the thread's earlier stores, a record's into the log, are in its cache.
 */
static inline bool entry_take(const struct agg_dedup *dedup, struct entry *entry, struct tp_id id)
{
	if (!dedup->alone)
		return id_empty(entry_claim(entry, id));
	__atomic_store_n(&entry->id[0], id.hi, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->id[1], id.lo, __ATOMIC_RELAXED);
	return true;
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

#ifdef __has_feature
#define THREADS_CHECKED __has_feature(thread_sanitizer)
#else
#define THREADS_CHECKED 0
#endif

/* The same in one register, for comparing each half by itself: then it does not matter of what moments they are. */
static inline __m128i entry_halves(const struct entry *entry)
{
#if THREADS_CHECKED
	return _mm_set_epi64x((int64_t)__atomic_load_n(&entry->id[1], __ATOMIC_RELAXED),
			      (int64_t)__atomic_load_n(&entry->id[0], __ATOMIC_RELAXED));
#else
	return *(const volatile __m128i *)(const void *)entry->id; /* volatile: one load, not one for each comparison */
#endif
}

/* Bit 0: the first halves are equal, bit 1: the second. */
static inline uint32_t halves_equal(__m128i a, __m128i b)
{
	return (uint32_t)_mm_movemask_pd(_mm_castsi128_pd(_mm_cmpeq_epi64(a, b)));
}

static inline bool id_equal(struct tp_id a, struct tp_id b)
{
	return ((a.hi ^ b.hi) | (a.lo ^ b.lo)) == 0;
}

/* First minute past `minute`; the last two minutes that a number can name are one, eight thousand years from now. */
static inline uint32_t minute_end_of(uint32_t minute)
{
	return minute == UINT32_MAX ? minute : minute + 1;
}

static inline void entry_publish(struct entry *entry, uint64_t fingerprint, uint32_t minute_end)
{
	__atomic_store_n(&entry->fingerprint, fingerprint, __ATOMIC_RELAXED);
	/* release: who sees it published sees the fingerprint; pairs with the acquire in entry_minute_end() */
	atomic_store_explicit(&entry->minute_end, minute_end, memory_order_release);
}

/* Waits for publication, bounded; 0: it did not come. */
static uint32_t __attribute__((noinline, cold)) entry_minute_end_wait(const struct entry *entry)
{
	for (int spin = 0; spin < PUBLISH_SPINS_MAX; spin++) {
		uint32_t minute_end = atomic_load_explicit(&entry->minute_end, memory_order_acquire);
		if (minute_end)
			return minute_end;
		__builtin_ia32_pause();
	}
	return 0;
}

static inline uint32_t entry_minute_end(const struct entry *entry)
{
	uint32_t minute_end = atomic_load_explicit(&entry->minute_end, memory_order_acquire);
	return __builtin_expect(minute_end != 0, 1) ? minute_end : entry_minute_end_wait(entry);
}

/* ---- marks ---- */

struct mark {
	uint32_t bit;
	uint32_t entry; /* of the line */
};

static inline struct mark mark_of(uint64_t hash)
{
	return (struct mark){.bit = UINT32_C(1) << (hash / ENTRIES_PER_LINE % 32), .entry = (uint32_t)(hash % ENTRIES_PER_LINE)};
}

static inline bool line_marked(const struct line *line, struct mark mark)
{
	return atomic_load_explicit(&line->entry[mark.entry].marks, memory_order_relaxed) & mark.bit;
}

/*
 * Marks the full lines from `home` up to the one before `end`. Relaxed: marks are read only after a rotation, and for that all
 * cores are parked.
 */
static void __attribute__((noinline)) lines_mark(struct line *line, uint64_t lines, uint64_t home, uint64_t end, struct mark mark)
{
	for (uint64_t at = home; at != end; at = at + 1 == lines ? 0 : at + 1)
		if (!line_marked(&line[at], mark))
			atomic_fetch_or_explicit(&line[at].entry[mark.entry].marks, mark.bit, memory_order_relaxed);
}

/* ---- probing ---- */

/* What is asked, as it walks a chain. */
struct probe {
	struct tp_id id;
	uint64_t fingerprint;
	uint32_t minute_end, horizon_minute;
	struct mark mark;
	bool other; /* an entry that counts has another fingerprint */
};

/* Judges an entry that holds the asked id: true if it is the same event; sets `other` if it counts but is not. */
static inline bool entry_same(struct probe *probe, const struct entry *entry)
{
	uint32_t minute_end = entry_minute_end(entry);
	if (__builtin_expect(minute_end == 0, 0)) {
		probe->other = true;
		return false;
	}
	if (minute_end <= probe->horizon_minute && minute_end != probe->minute_end)
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

/* The current generation hands out a block of credit; 0: it is full. */
static int64_t __attribute__((noinline)) credit_grant(struct agg_dedup *dedup)
{
	_Atomic int64_t *of = &dedup->generation[dedup->current].granted;
	int64_t granted = atomic_load_explicit(of, memory_order_relaxed), block;
	do {
		block = dedup->ids_max - granted;
		if (block <= 0)
			return 0;
		if (block > dedup->credit_block)
			block = dedup->credit_block;
	} while (!atomic_compare_exchange_weak_explicit(of, &granted, granted + block, memory_order_relaxed, memory_order_relaxed));
	return block;
}

static inline bool stripe_shared(const struct agg_dedup *dedup, const struct stripe *stripe)
{
	return stripe == &dedup->stripe[STRIPES - 1];
}

/* Gives `ids` back, or adds them. */
static inline void credit_give(const struct agg_dedup *dedup, struct stripe *stripe, int64_t ids)
{
	if (__builtin_expect(stripe_shared(dedup, stripe), 0))
		atomic_fetch_add_explicit(&stripe->credit, ids, memory_order_relaxed);
	else
		atomic_store_explicit(&stripe->credit, atomic_load_explicit(&stripe->credit, memory_order_relaxed) + ids,
				      memory_order_relaxed);
}

/* Takes the room for one more id in the current generation; false: there is none. */
static inline bool credit_take(struct agg_dedup *dedup, struct stripe *stripe)
{
	int64_t credit = atomic_load_explicit(&stripe->credit, memory_order_relaxed);
	if (__builtin_expect(stripe_shared(dedup, stripe), 0)) {
		while (credit > 0)
			if (atomic_compare_exchange_weak_explicit(&stripe->credit, &credit, credit - 1, memory_order_relaxed,
								  memory_order_relaxed))
				return true;
	} else if (__builtin_expect(credit > 0, 1)) {
		atomic_store_explicit(&stripe->credit, credit - 1, memory_order_relaxed);
		return true;
	}
	int64_t block = credit_grant(dedup);
	if (block > 1)
		credit_give(dedup, stripe, block - 1);
	return block > 0;
}

static inline void minute_end_raise(struct generation *generation, uint32_t end)
{
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

uint64_t agg_dedup_current_bytes(const struct agg_dedup *dedup)
{
	return (uint64_t)((const uint8_t *)(dedup->generation[0].line + dedup->lines) - (const uint8_t *)dedup);
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

/*
 * The home line in the previous generation. One that has never held an id, as until the first rotation, is not looked into: its line would
 * be a cache miss that everybody knows the answer of.
 */
static inline const struct line *previous_line(const struct agg_dedup *dedup, uint64_t home)
{
	static const struct line none;
	const struct generation *previous = &dedup->generation[__atomic_load_n(&dedup->previous, __ATOMIC_RELAXED)];
	return atomic_load_explicit(&previous->minute_end, memory_order_relaxed) ? &previous->line[home] : &none;
}

void agg_dedup_alone(struct agg_dedup *dedup, bool alone)
{
	dedup->alone = alone;
}

uint64_t agg_dedup_prefetch(const struct agg_dedup *dedup, struct tp_id id)
{
	const uint64_t hash = id_hash(dedup, id), home = home_line(dedup, hash);
	__builtin_prefetch(&dedup->generation[__atomic_load_n(&dedup->current, __ATOMIC_RELAXED)].line[home], 1, 3);
	__builtin_prefetch(previous_line(dedup, home), 0, 3);
	return hash;
}

void agg_dedup_prefetch_chain(const struct agg_dedup *dedup, uint64_t hash)
{
	const uint64_t home = home_line(dedup, hash);
	const struct line *current = &dedup->generation[dedup->current].line[home];
	const struct line *previous = previous_line(dedup, home);
	/* behind the last line lies what is not used, or other memory of the table: a hint does no harm */
	if (__atomic_load_n(&current->entry[ENTRIES_PER_LINE - 1].id[0], __ATOMIC_RELAXED))
		__builtin_prefetch(current + 1, 1, 3);
	if (line_marked(previous, mark_of(hash)))
		__builtin_prefetch(previous + 1, 0, 3);
}

/* The asked id stands in no entry that counts: claims *at, or another entry behind it. */
static enum agg_dedup_result insert_new(struct agg_dedup *dedup, struct probe *probe, uint64_t home, uint64_t at, uint64_t steps)
{
	struct generation *current = &dedup->generation[dedup->current];
	struct stripe *stripe = own_stripe(dedup);
	const uint64_t entries = dedup->lines * ENTRIES_PER_LINE;
	if (!credit_take(dedup, stripe))
		return AGG_FULL;
	enum agg_dedup_result result = AGG_FULL; /* no empty entry; credit ends long before */
	while (steps < entries) {
		struct entry *entry = &current->line[at / ENTRIES_PER_LINE].entry[at % ENTRIES_PER_LINE];
		if (entry_take(dedup, entry, probe->id)) {
			entry_publish(entry, probe->fingerprint, probe->minute_end);
			if (at / ENTRIES_PER_LINE != home)
				lines_mark(current->line, dedup->lines, home, at / ENTRIES_PER_LINE, probe->mark);
			minute_end_raise(current, probe->minute_end);
			return AGG_NEW;
		}
		/* another shard was faster: go on from this same entry, whose id may be ours */
		if (chain_walk(probe, current->line, entries, &at, &steps, false))
			result = AGG_SAME;
		else if (probe->other)
			result = AGG_OTHER;
		else
			continue;
		break;
	}
	credit_give(dedup, stripe, 1);
	return result;
}

/* The general case, entry by entry. */
static enum agg_dedup_result __attribute__((noinline)) insert_walk(struct agg_dedup *dedup, struct tp_id id, uint64_t fingerprint,
								   uint32_t minute_end, uint32_t horizon_minute, bool covered)
{
	const uint64_t hash = id_hash(dedup, id), home = home_line(dedup, hash), entries = dedup->lines * ENTRIES_PER_LINE;
	struct probe probe = {.id = id,
			      .fingerprint = fingerprint,
			      .minute_end = minute_end,
			      .horizon_minute = horizon_minute,
			      .mark = mark_of(hash)};
	uint64_t at = home * ENTRIES_PER_LINE, steps = 0, at_previous = at, steps_previous = 0;
	if (chain_walk(&probe, dedup->generation[dedup->current].line, entries, &at, &steps, false) ||
	    chain_walk(&probe, dedup->generation[dedup->previous].line, entries, &at_previous, &steps_previous, true))
		return AGG_SAME;
	if (probe.other)
		return AGG_OTHER;
	return covered ? insert_new(dedup, &probe, home, at, steps) : AGG_BELOW_FLOOR;
}

/*
 * Most ids are new, and both home lines say so at one glance: nothing like it in either, the current one has an empty entry, and the
 * previous one has, too, or lacks the mark. Entries are compared by halves, all at once and without a branch on what they hold.
 */
enum agg_dedup_result agg_dedup_insert(struct agg_dedup *dedup, struct tp_id id, uint64_t fingerprint, uint32_t minute,
				       uint32_t horizon_minute, bool ignore_floor)
{
	enum { BOTH = 3 }; /* halves */
	const uint64_t hash = id_hash(dedup, id), home = home_line(dedup, hash);
	struct generation *generation = &dedup->generation[dedup->current];
	struct line *current = &generation->line[home];
	const struct line *previous = previous_line(dedup, home);
	const uint32_t minute_end = minute_end_of(minute);
	const bool covered = minute >= atomic_load_explicit(&dedup->floor, memory_order_relaxed) || ignore_floor;
	assert(!id_empty(id)); /* zero is the mark of an empty entry; tp_id_from_text() never makes it */

	const __m128i want = _mm_unpacklo_epi64(_mm_cvtsi64_si128((int64_t)id.hi), _mm_cvtsi64_si128((int64_t)id.lo));
	const __m128i zero = _mm_setzero_si128();
	const __m128i current_0 = entry_halves(&current->entry[0]), current_1 = entry_halves(&current->entry[1]);
	const __m128i previous_0 = entry_halves(&previous->entry[0]), previous_1 = entry_halves(&previous->entry[1]);
	const uint32_t same = halves_equal(current_0, want) | halves_equal(current_1, want) << 2 |
			      halves_equal(previous_0, want) << 4 | halves_equal(previous_1, want) << 6;
	const uint32_t empty = halves_equal(current_0, zero) | halves_equal(current_1, zero) << 2;
	const bool first = empty == (BOTH | BOTH << 2), second = empty == BOTH << 2; /* all else: none, or torn reads */
	const bool ends = halves_equal(previous_1, zero) == BOTH || !line_marked(previous, mark_of(hash));
	struct stripe *stripe = own_stripe(dedup);
	if (__builtin_expect((same & same >> 1 & 0x55) == 0 && (first | second) & ends & covered && credit_take(dedup, stripe),
			     1)) {
		struct entry *entry = &current->entry[second];
		if (__builtin_expect(entry_take(dedup, entry, id), 1)) {
			entry_publish(entry, fingerprint, minute_end);
			minute_end_raise(generation, minute_end);
			return AGG_NEW;
		}
		credit_give(dedup, stripe, 1);
	}
	return insert_walk(dedup, id, fingerprint, minute_end, horizon_minute, covered);
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
	__atomic_store_n(&dedup->previous, dedup->current, __ATOMIC_RELAXED); /* agg_dedup_prefetch() may look meanwhile */
	__atomic_store_n(&dedup->current, dedup->spare, __ATOMIC_RELAXED);
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
