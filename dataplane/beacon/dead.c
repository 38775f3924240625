/* Dead letters on the rx core: see dead.h. Entered by its rx core only. */
#include "dead.h"

#include <string.h>

enum { MILLI = 1000 };

void dp_dead_init(struct dp_dead *dead, struct tp_hop *ring, struct tp_counters *counters, uint32_t per_second,
		  uint64_t bytes_per_second)
{
	*dead = (struct dp_dead){
		.ring = ring,
		.counters = counters,
		.per_second = per_second,
		.bytes_per_second = bytes_per_second,
		.letters_left = (uint64_t)per_second * MILLI,
		.bytes_left = bytes_per_second * MILLI,
	};
}

static uint64_t filled(uint64_t left, uint64_t elapsed_ms, uint64_t per_second)
{
	left += elapsed_ms * per_second;
	return left < per_second * MILLI ? left : per_second * MILLI;
}

static void budget_fill(struct dp_dead *dead, uint64_t now_ms)
{
	if (now_ms == dead->filled_ms)
		return;
	/* A clock that steps back fills nothing. What is longer than a second is a second. */
	uint64_t elapsed_ms = now_ms > dead->filled_ms ? now_ms - dead->filled_ms : 0;
	elapsed_ms = elapsed_ms < MILLI ? elapsed_ms : MILLI;
	dead->letters_left = filled(dead->letters_left, elapsed_ms, dead->per_second);
	dead->bytes_left = filled(dead->bytes_left, elapsed_ms, dead->bytes_per_second);
	dead->filled_ms = now_ms;
}

void dp_dead_stage(struct dp_dead *dead, uint64_t now_ms, const struct dp_dead_what *what, const void *bytes, size_t count)
{
	if (!dead->ring)
		return;
	budget_fill(dead, now_ms);
	uint32_t kept = count < TP_DEAD_KEPT_BYTES_MAX ? (uint32_t)count : TP_DEAD_KEPT_BYTES_MAX;
	uint32_t record_bytes = tp_dead_letter_record_bytes(kept);
	if (dead->letters_left < ((uint64_t)dead->staged + 1) * MILLI) {
		dead->over_rate++;
		return;
	}
	if (dead->bytes_left < (dead->staged_bytes + record_bytes) * MILLI) {
		dead->over_bytes++;
		return;
	}
	struct tp_slot *slot = tp_hop_stage(dead->ring, record_bytes, 0);
	if (!slot) {
		dead->ring_full++;
		return;
	}
	struct tp_dead_letter *letter = (struct tp_dead_letter *)(void *)&slot->event;
	*letter = (struct tp_dead_letter){
		.bytes = record_bytes,
		.type = TP_RECORD_DEAD_LETTER,
		.reason = (uint8_t)what->reason,
		.field = (uint8_t)what->field,
		.way = dead->way,
		.received_ms = now_ms,
		.sent_bytes = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX,
		.kept_bytes = kept,
		.index = what->index,
		.ingest = dead->ingest,
		.peer_port = dead->peer.port,
		.peer_family = dead->peer.addr.family,
		.part = (uint8_t)what->part,
	};
	memcpy(letter->peer, dead->peer.addr.byte, sizeof(letter->peer));
	uint8_t *to = (uint8_t *)(letter + 1);
	memcpy(to, bytes, kept);
	memset(to + kept, 0, record_bytes - TP_DEAD_FIXED_BYTES - kept);
	dead->staged++;
	dead->staged_bytes += record_bytes;
}

static void staged_forget(struct dp_dead *dead)
{
	dead->staged = dead->over_rate = dead->over_bytes = dead->ring_full = 0;
	dead->staged_bytes = 0;
}

bool dp_dead_commit(struct dp_dead *dead)
{
	uint32_t staged = dead->staged, dropped = dead->over_rate + dead->over_bytes + dead->ring_full;
	if (!(staged | dropped))
		return false;
	struct tp_counters *counters = dead->counters;
	TP_COUNT_ADD(counters, DEAD_RECEIVED, staged + dropped);
	TP_COUNT_ADD(counters, DEAD_OVER_RATE, dead->over_rate);
	TP_COUNT_ADD(counters, DEAD_OVER_BYTES, dead->over_bytes);
	TP_COUNT_ADD(counters, DEAD_RING_FULL, dead->ring_full);
	TP_COUNT_ADD(counters, DEAD_IN_FLIGHT, staged);
	dead->letters_left -= (uint64_t)staged * MILLI;
	dead->bytes_left -= dead->staged_bytes * MILLI;
	dead->in_flight += staged;
	staged_forget(dead);
	if (staged)
		tp_hop_commit(dead->ring);
	return staged != 0;
}

void dp_dead_rollback(struct dp_dead *dead)
{
	if (dead->staged)
		tp_hop_rollback(dead->ring);
	staged_forget(dead);
}

uint32_t dp_dead_poll(struct dp_dead *dead)
{
	uint32_t back = 0;
	if (!dead->ring)
		return 0;
	uint64_t owner;
	uint8_t verdict;
	for (; tp_hop_reap(dead->ring, &owner, &verdict); back++) {
		if (verdict == DP_DEAD_LOGGED)
			TP_COUNT(dead->counters, DEAD_KEPT);
		else
			TP_COUNT(dead->counters, DEAD_NO_SPACE);
	}
	if (back) {
		TP_COUNT_ADD(dead->counters, DEAD_IN_FLIGHT, -(uint64_t)back);
		dead->in_flight -= back;
	}
	return back;
}
