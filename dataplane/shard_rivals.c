/*
 * See shard_rivals.h. Nothing of this runs but for conflicts.
 */
#include "shard_rivals.h"

#include <errno.h>
#include <stdlib.h>

static struct dp_rival_wait *wait_of(struct dp_rivals *rivals, uint64_t note)
{
	return &rivals->wait[note % DP_RIVAL_NOTES * rivals->shards];
}

int dp_rivals_init(struct dp_rivals *rivals, uint32_t number, uint32_t shards, const struct dp_shard_turns *const *turns)
{
	*rivals = (struct dp_rivals){.number = number, .shards = shards, .turns = turns};
	if (shards == 1)
		return 0;
	rivals->wait = calloc((size_t)DP_RIVAL_NOTES * shards, sizeof(*rivals->wait));
	return rivals->wait ? 0 : -ENOMEM;
}

void dp_rivals_fini(struct dp_rivals *rivals)
{
	free(rivals->wait);
	rivals->wait = NULL;
}

/* Where the other shard stands now. */
static struct dp_rival_wait wait_take(const struct dp_shard_turns *turns)
{
	/* acquire: pairs with the release in dp_turn_end() */
	const uint64_t turn = atomic_load_explicit(&turns->turn, memory_order_acquire);
	return (struct dp_rival_wait){.turn = turn, .appended = atomic_load_explicit(&turns->appended, memory_order_relaxed)};
}

static bool wait_over(struct dp_rival_wait *wait, const struct dp_shard_turns *turns)
{
	if (wait->turn % 2) {
		const struct dp_rival_wait now = wait_take(turns);
		if (now.turn == wait->turn)
			return false;
		/* That turn has ended, and another may be under way: the count then is of an end that came later still. */
		*wait = (struct dp_rival_wait){.appended = now.appended};
	}
	/* acquire: what is told from here on comes after the write */
	return atomic_load_explicit(&turns->durable, memory_order_acquire) >= wait->appended;
}

static bool note_over(struct dp_rivals *rivals, uint64_t note)
{
	struct dp_rival_wait *wait = wait_of(rivals, note);
	for (uint32_t s = 0; s < rivals->shards; s++)
		if (s != rivals->number && !wait_over(&wait[s], rivals->turns[s]))
			return false;
	return true;
}

uint64_t __attribute__((noinline, cold)) dp_rivals_note(struct dp_rivals *rivals)
{
	if (rivals->shards == 1)
		return 0;
	/* The rival's entry may have been seen claimed, by relaxed loads, before it was published: with this its odd turn is seen, too. */
	atomic_thread_fence(memory_order_acquire);
	const bool full = rivals->taken - rivals->settled == DP_RIVAL_NOTES;
	const uint64_t note = full ? rivals->taken : rivals->taken + 1;
	struct dp_rival_wait *wait = wait_of(rivals, note);
	for (uint32_t s = 0; s < rivals->shards; s++)
		wait[s] = wait_take(rivals->turns[s]);
	if (!full && !dp_rivals_waiting(rivals) && note_over(rivals, note))
		return 0;
	rivals->taken = note;
	return note;
}

bool dp_rivals_settled(struct dp_rivals *rivals, uint64_t note)
{
	while (rivals->settled < note && note_over(rivals, rivals->settled + 1))
		rivals->settled++;
	return note <= rivals->settled;
}
