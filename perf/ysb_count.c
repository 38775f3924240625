/*
 * The Yahoo streaming benchmark's query over bursts of tuples: ysb.h has the picture.
 *
 *   ads      open addressing, linear probing, at most half full; ids apart from campaigns, so that 1,000 ads are 32 KiB of ids
 *   windows  a ring of YSB_WINDOWS_OPEN, each with a version, odd while it is being closed and given to a later window
 *
 * Threads: one writer; any number of readers, through ysb_counter_read() alone.
 *
 * Invariants: the open windows are newest - 7 to newest, window w in slot w mod 8; a closed window never changes. Between two closings
 * a count only rises, and each is one word, so a reader needs the version only against a closing.
 */
#include "ysb.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS_BITS = 11, SLOTS = 1 << SLOTS_BITS, READ_TRIES_MAX = 1 << 16 };
static_assert(SLOTS >= 2 * YSB_ADS, "at most half full");
static_assert((YSB_WINDOWS_OPEN & (YSB_WINDOWS_OPEN - 1)) == 0, "a slot is a mask away");

struct window {
	_Atomic uint64_t version, number;
	uint64_t pad[6];
	_Atomic uint64_t count[(YSB_CAMPAIGNS + 7) / 8 * 8];
};
static_assert(sizeof(struct window) % 64 == 0, "windows share no cache line");

struct ysb_counter {
	struct tp_id id[SLOTS]; /* all zero: free */
	uint16_t campaign[SLOTS];
	struct window window[YSB_WINDOWS_OPEN];
	uint64_t newest;
	uint64_t late, unknown;
	ysb_closed *closed;
	void *context;
};

/* The ids are random but for six bits. */
static inline uint32_t slot_of(struct tp_id id)
{
	return (uint32_t)((id.lo ^ id.hi) * 0x9e3779b97f4a7c15 >> (64 - SLOTS_BITS));
}

static void window_give(struct ysb_counter *counter, uint64_t number)
{
	struct window *window = &counter->window[number % YSB_WINDOWS_OPEN];
	const uint64_t version = atomic_load_explicit(&window->version, memory_order_relaxed);

	/* who reads any store below sees the odd version too; pairs with the readers' acquire fence */
	atomic_store_explicit(&window->version, version + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (uint32_t i = 0; i < YSB_CAMPAIGNS; i++)
		atomic_store_explicit(&window->count[i], 0, memory_order_relaxed);
	atomic_store_explicit(&window->number, number, memory_order_relaxed);
	/* release: who sees the even version sees the window empty; pairs with the readers' acquire of version */
	atomic_store_explicit(&window->version, version + 2, memory_order_release);
}

static void window_close(struct ysb_counter *counter, uint64_t number)
{
	const struct window *window = &counter->window[number % YSB_WINDOWS_OPEN];
	uint64_t count[YSB_CAMPAIGNS];
	for (uint32_t i = 0; i < YSB_CAMPAIGNS; i++)
		count[i] = atomic_load_explicit(&window->count[i], memory_order_relaxed);
	counter->closed(counter->context, number, count);
}

/* Makes `number` the newest window, however far it is. */
static void advance(struct ysb_counter *counter, uint64_t number)
{
	uint64_t old = counter->newest - (YSB_WINDOWS_OPEN - 1), first = number - (YSB_WINDOWS_OPEN - 1);
	for (uint64_t w = old; w <= counter->newest && w < first; w++)
		window_close(counter, w);
	for (uint64_t w = counter->newest + 1 > first ? counter->newest + 1 : first; w <= number; w++)
		window_give(counter, w);
	counter->newest = number;
}

struct ysb_counter *ysb_counter_new(const struct tp_id ad[YSB_ADS], uint64_t start_ms, ysb_closed *closed, void *context)
{
	struct ysb_counter *counter = aligned_alloc(64, (sizeof(*counter) + 63) / 64 * 64);
	if (!counter)
		return NULL;
	memset(counter, 0, sizeof(*counter));
	counter->closed = closed;
	counter->context = context;
	counter->newest = start_ms / YSB_WINDOW_MS;
	for (uint64_t w = counter->newest - (YSB_WINDOWS_OPEN - 1); w <= counter->newest; w++)
		window_give(counter, w);
	for (uint32_t i = 0; i < YSB_ADS; i++) {
		uint32_t slot = slot_of(ad[i]);
		while (counter->id[slot].hi | counter->id[slot].lo)
			slot = (slot + 1) % SLOTS;
		counter->id[slot] = ad[i];
		counter->campaign[slot] = (uint16_t)(i / YSB_ADS_EACH);
	}
	return counter;
}

void ysb_counter_free(struct ysb_counter *counter)
{
	free(counter);
}

/* Of a window that is not open: makes it the newest, or says that it is too late. */
static __attribute__((noinline, cold)) bool window_open(struct ysb_counter *counter, uint64_t number)
{
	if (number <= counter->newest) {
		counter->late++;
		return false;
	}
	advance(counter, number);
	return true;
}

void ysb_count(struct ysb_counter *counter, const struct ysb_tuple *tuple, uint32_t count, uint64_t shift_ms)
{
	uint32_t slot[YSB_BURST], views = 0;
	uint64_t number[YSB_BURST];
	uint8_t view[YSB_BURST];

	/* Filter without a branch: one in three is a view, at random, which no processor predicts. */
	for (uint32_t i = 0; i < count; i++) {
		view[views] = (uint8_t)i;
		views += tuple[i].event_type == YSB_VIEW;
	}
	/* Project, and bring what the join will look at closer. */
	for (uint32_t v = 0; v < views; v++) {
		const struct ysb_tuple *t = &tuple[view[v]];
		slot[v] = slot_of(t->ad);
		number[v] = (t->time_ms + shift_ms) / YSB_WINDOW_MS; /* by a constant: a multiplication */
		__builtin_prefetch(&counter->id[slot[v]]);
	}
	for (uint32_t v = 0; v < views; v++) {
		const struct tp_id id = tuple[view[v]].ad;
		uint32_t at = slot[v];
		for (;; at = (at + 1) % SLOTS) {
			const struct tp_id known = counter->id[at];
			if (((known.hi ^ id.hi) | (known.lo ^ id.lo)) == 0)
				break;
			if ((known.hi | known.lo) == 0)
				goto unknown;
		}
		if (__builtin_expect(counter->newest - number[v] >= YSB_WINDOWS_OPEN, 0) && !window_open(counter, number[v]))
			continue;
		/* one writer: no read-modify-write needed */
		_Atomic uint64_t *sum = &counter->window[number[v] % YSB_WINDOWS_OPEN].count[counter->campaign[at]];
		atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + 1, memory_order_relaxed);
		continue;
	unknown:
		counter->unknown++;
	}
}

void ysb_counter_flush(struct ysb_counter *counter)
{
	advance(counter, counter->newest + YSB_WINDOWS_OPEN);
}

uint64_t ysb_counter_late(const struct ysb_counter *counter)
{
	return counter->late;
}

uint64_t ysb_counter_unknown(const struct ysb_counter *counter)
{
	return counter->unknown;
}

bool ysb_counter_read(const struct ysb_counter *counter, uint64_t number, uint64_t count[YSB_CAMPAIGNS])
{
	const struct window *window = &counter->window[number % YSB_WINDOWS_OPEN];
	for (uint32_t tries = 0; tries < READ_TRIES_MAX; tries++) {
		const uint64_t version = atomic_load_explicit(&window->version, memory_order_acquire);
		if (version & 1)
			continue;
		const bool same = atomic_load_explicit(&window->number, memory_order_relaxed) == number;
		for (uint32_t i = 0; i < YSB_CAMPAIGNS; i++)
			count[i] = atomic_load_explicit(&window->count[i], memory_order_relaxed);
		/* what was read above came before a closing, or the version read below tells; pairs with window_give()'s release fence */
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&window->version, memory_order_relaxed) == version)
			return same;
	}
	return false;
}
