/*
 * Counters: the table of turnpike/counter.h as data, and the publication of a core's counters to shared memory.
 *
 * The page is a sequence lock with one writer: version odd while the copy is under way, every word a relaxed atomic, fences as in
 * rollup.c. Entered by each core for its own page, and by any reader in any process.
 */
#include "turnpike/counter.h"

#include <assert.h>
#include <stddef.h>

enum { READ_TRIES_MAX = 1 << 14 };

const struct tp_counter_info tp_counter_info[TP_COUNTERS] = {
#define X(name, layer_, kind_, label_, help_) \
	[TP_C_##name] = {.label = label_, .help = help_, .layer = TP_LAYER_##layer_, .kind = TP_KIND_##kind_},
	TP_COUNTER_TABLE(X)
#undef X
};

const char *tp_layer_name(enum tp_counter_layer layer)
{
	static const char *const name[TP_LAYERS] = {
		[TP_LAYER_XDP] = "xdp",
		[TP_LAYER_FRAMES] = "frames",
		[TP_LAYER_DATAGRAMS] = "datagrams",
		[TP_LAYER_REQUESTS] = "requests",
		[TP_LAYER_BATCHES] = "batches",
		[TP_LAYER_EVENTS] = "events",
		[TP_LAYER_DEAD_LETTERS] = "dead_letters",
		[TP_LAYER_CORE] = "core",
	};
	return (unsigned)layer < TP_LAYERS ? name[layer] : "unknown";
}

const char *tp_kind_name(enum tp_counter_kind kind)
{
	static const char *const name[TP_KINDS] = {
		[TP_KIND_RECEIVED] = "received", [TP_KIND_ACCEPTED] = "accepted",   [TP_KIND_DUPLICATES] = "duplicates",
		[TP_KIND_LATE] = "late",         [TP_KIND_CONFLICTS] = "conflicts", [TP_KIND_REJECTED] = "rejected",
		[TP_KIND_DROPPED] = "dropped",   [TP_KIND_IN_FLIGHT] = "in_flight", [TP_KIND_OTHER] = "other",
	};
	return (unsigned)kind < TP_KINDS ? name[kind] : "unknown";
}

void tp_counters_publish(struct tp_counter_page *page, const struct tp_counters *counters)
{
	uint64_t version = atomic_load_explicit(&page->version, memory_order_relaxed);

	atomic_store_explicit(&page->version, version + 1, memory_order_relaxed);
	/* the odd version is seen before any new word; pairs with the acquire fence in tp_counters_add() */
	atomic_thread_fence(memory_order_release);
	for (uint32_t i = 0; i < TP_COUNTERS; i++)
		atomic_store_explicit(&page->v[i], counters->v[i], memory_order_relaxed);
	/* release: who sees the even version sees all words */
	atomic_store_explicit(&page->version, version + 2, memory_order_release);
}

bool tp_counters_add(const struct tp_counter_page *page, struct tp_counters *sum)
{
	struct tp_counters copy;
	bool whole = false;

	for (uint32_t tries = 0; tries < READ_TRIES_MAX && !whole; tries++) {
		uint64_t before = atomic_load_explicit(&page->version, memory_order_acquire);
		for (uint32_t i = 0; i < TP_COUNTERS; i++)
			copy.v[i] = atomic_load_explicit(&page->v[i], memory_order_relaxed);
		/* a word of a later copy makes the version read below show that copy; pairs with the writer's fence */
		atomic_thread_fence(memory_order_acquire);
		whole = before % 2 == 0 && before == atomic_load_explicit(&page->version, memory_order_relaxed);
		if (!whole)
			__builtin_ia32_pause();
	}
	for (uint32_t i = 0; i < TP_COUNTERS; i++)
		sum->v[i] += copy.v[i];
	return whole;
}
