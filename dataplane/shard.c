/*
 * The shard loop. Source: design section 4, contract section 4 (counting).
 */
#include "shard.h"

#include "turnpike/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct dp_mark *mark_at(struct dp_shard *shard, uint64_t n)
{
	return (struct dp_mark *)(void *)((uint8_t *)shard->mark + n % DP_SHARD_MARKS * shard->mark_bytes);
}

int dp_shard_init(struct dp_shard *shard)
{
	shard->mark_bytes = (uint32_t)(sizeof(struct dp_mark) + shard->rx_count * sizeof(uint64_t));
	shard->mark = calloc(DP_SHARD_MARKS, shard->mark_bytes);
	shard->owing = true;
	if (!shard->meter)
		shard->meter = &shard->no_meter;
	shard->lane.entry = calloc(DP_LATE_LANE, sizeof(*shard->lane.entry));
	if (!shard->mark || !shard->lane.entry) {
		dp_shard_fini(shard);
		return -ENOMEM;
	}
	int rc = dp_rivals_init(&shard->rivals, shard->number, shard->shards, shard->turns);
	if (rc)
		dp_shard_fini(shard);
	return rc;
}

void dp_shard_fini(struct dp_shard *shard)
{
	free(shard->mark);
	free(shard->lane.entry);
	dp_rivals_fini(&shard->rivals);
	shard->mark = NULL;
	shard->lane.entry = NULL;
}

static void watermark_set(struct dp_shard *shard, uint64_t now_ms)
{
	uint64_t watermark = agg_watermark_advance(&shard->watermark, now_ms);
	if (watermark == shard->watermark_ms)
		return;
	shard->watermark_ms = watermark;
	uint64_t horizon = watermark > shard->horizon_ms ? watermark - shard->horizon_ms : 0;
	shard->horizon_minute = (uint32_t)(horizon / TP_MINUTE_MS);
	atomic_store_explicit(&shard->live->shard[shard->number].watermark_ms, watermark, memory_order_relaxed);
}

/*
 * The node's event time: the highest stamp of all shards, each the only writer of its own line, so that a minute closes for the
 * whole node and an idle shard holds nothing back.
 */
static void watermark_advance(struct dp_shard *shard, uint64_t now_ms)
{
	for (uint32_t s = 0; s < shard->shards; s++) {
		if (s == shard->number)
			continue;
		uint64_t high = atomic_load_explicit(&shard->live->shard[s].high_ms, memory_order_relaxed);
		if (high > shard->watermark.high_ms)
			agg_watermark_see(&shard->watermark, high, now_ms);
	}
	watermark_set(shard, now_ms);
}

/* The stamp of an accepted event. */
static void stamp_see(struct dp_shard *shard, uint64_t timestamp_ms, uint64_t now_ms)
{
	bool newest = timestamp_ms > shard->watermark.high_ms;
	agg_watermark_see(&shard->watermark, timestamp_ms, now_ms);
	if (newest) /* at once, so that the next event of this burst is judged by it */
		watermark_set(shard, now_ms);
}

/* For the other shards: once a burst, so that they seldom lose the line. */
static void high_publish(struct dp_shard *shard)
{
	_Atomic uint64_t *published = &shard->live->shard[shard->number].high_ms;
	uint64_t high = shard->watermark.high_ms;
	if (high != atomic_load_explicit(published, memory_order_relaxed))
		atomic_store_explicit(published, high, memory_order_relaxed);
}

/* Tells the machines of the file that they have not been told of yet. */
static bool machines_roll(struct dp_shard *shard)
{
	uint64_t file_id = atomic_load_explicit(&shard->table->file_id, memory_order_relaxed);
	for (; shard->rolled < shard->machines; shard->rolled++) {
		const struct agg_machine *machine = &shard->machine[shard->rolled];
		if (machine->ops->roll && !machine->ops->roll(machine->self, file_id))
			return false;
	}
	return true;
}

/*
 * Moves on to the spare log file and a fresh table, together, and the machines with them. False: one of them is not there yet. A
 * machine that refuses is asked again before anything else is written.
 */
static bool shard_roll(struct dp_shard *shard)
{
	struct tp_rollup *spare = atomic_load_explicit(&shard->spare_table, memory_order_acquire);
	if (!spare)
		return false; /* the spares thread gives one as soon as one is free */
	if (sto_wal_roll(shard->wal) < 0)
		return false;
	uint64_t file_id = sto_wal_file_id(shard->wal);
	if (shard->table && atomic_load_explicit(&shard->table->file_id, memory_order_relaxed) == file_id)
		return true; /* nothing had been written: the same file goes on */
	if (shard->table)
		atomic_store_explicit(&shard->previous_file, atomic_load_explicit(&shard->table->file_id, memory_order_relaxed),
				      memory_order_relaxed);
	tp_rollup_reset(spare, file_id);
	shard->file_from = sto_wal_appended(shard->wal);
	/* release: the spares thread may put the next one in */
	atomic_store_explicit(&shard->spare_table, NULL, memory_order_release);
	shard->table = spare;
	shard->rolled = 0;
	atomic_store_explicit(&shard->live->shard[shard->number].file_id, file_id, memory_order_release);
	return machines_roll(shard);
}

static bool machines_have_room(const struct dp_shard *shard)
{
	for (uint32_t m = 0; m < shard->machines; m++)
		if (shard->machine[m].ops->has_room && !shard->machine[m].ops->has_room(shard->machine[m].self))
			return false;
	return true;
}

/* Makes sure that the next record has a log file with room and a table with a free row. */
static bool room_for_record(struct dp_shard *shard)
{
	if (shard->rolled < shard->machines && shard->table && !machines_roll(shard))
		return false;
	if (shard->table && !sto_wal_must_roll(shard->wal) && tp_rollup_has_room(shard->table) && machines_have_room(shard))
		return true;
	return shard_roll(shard);
}

/* Room for a record of `bytes` and what machines may add to it; NULL: not now. */
static void *record_reserve(struct dp_shard *shard, uint32_t bytes)
{
	return room_for_record(shard) ? sto_wal_reserve(shard->wal, bytes + TP_EVIDENCE_BYTES_MAX) : NULL;
}

/* Puts a decided event into the log and the rollups. `record` is the room that the log gave. */
static void event_record(struct dp_shard *shard, void *record, const struct tp_event *event, const struct tp_rollup_seek *seek,
			 uint32_t verdict, uint64_t now_ns)
{
	struct tp_event *copy = record;
	const uint32_t before = tp_meter_enter(shard->meter, TP_STAGE_LOG);
	memcpy(copy, event, event->bytes);
	copy->verdict = (uint8_t)verdict;
	if (verdict != TP_CONFLICT) {
		tp_meter_enter(shard->meter, TP_STAGE_MACHINES);
		for (uint32_t m = 0; m < shard->machines; m++)
			shard->owing |= shard->machine[m].ops->show(shard->machine[m].self, copy);
		tp_meter_enter(shard->meter, TP_STAGE_ROLLUP);
		if (tp_rollup_add_sought(shard->table, copy, seek))
			TP_COUNT(shard->counters, ROLLUP_OVERFLOW);
		tp_meter_enter(shard->meter, TP_STAGE_LOG);
	}
	sto_wal_append(shard->wal, copy->bytes, now_ns);
	tp_meter_leave(shard->meter, before);
}

/* How many records the machines still want in the log. They are the next to be appended. */
static uint64_t records_waiting(const struct dp_shard *shard)
{
	uint64_t waiting = 0;
	for (uint32_t m = 0; shard->owing && m < shard->machines; m++)
		if (shard->machine[m].ops->waiting)
			waiting += shard->machine[m].ops->waiting(shard->machine[m].self);
	return waiting;
}

/*
 * Appends what the machines left. False: not now; until then nothing else is decided. Such a record may mean one in the file before,
 * whose end a crash could still cut off while this file stays: so it waits until that end is durable.
 */
static bool records_append(struct dp_shard *shard, uint64_t now_ns)
{
	for (uint32_t m = 0; shard->owing && m < shard->machines; m++) {
		const struct agg_machine *machine = &shard->machine[m];
		const struct tp_event *next;
		while (machine->ops->record && (next = machine->ops->record(machine->self)) != NULL) {
			void *record = room_for_record(shard) ? sto_wal_reserve(shard->wal, next->bytes) : NULL;
			if (!record || sto_wal_durable(shard->wal) < shard->file_from)
				return false;
			memcpy(record, next, next->bytes);
			if (tp_rollup_add(shard->table, next))
				TP_COUNT(shard->counters, ROLLUP_OVERFLOW);
			sto_wal_append(shard->wal, next->bytes, now_ns);
			machine->ops->recorded(machine->self);
		}
	}
	shard->owing = false;
	return true;
}

/* Gives an event to the late lane. False: the lane is full. */
static bool lane_give(struct dp_shard *shard, uint32_t rx, const struct tp_slot *slot)
{
	struct dp_late_lane *lane = &shard->lane;
	uint64_t given = atomic_load_explicit(&lane->given, memory_order_relaxed);
	if (given - lane->answered == DP_LATE_LANE)
		return false;
	struct dp_late_entry *entry = &lane->entry[given % DP_LATE_LANE];
	entry->owner = slot->owner;
	entry->index = slot->index;
	entry->rx = rx;
	entry->rotations = agg_dedup_rotations(shard->dedup);
	memcpy(entry->event, &slot->event, slot->event.bytes);
	/* release: the late thread sees the whole entry */
	atomic_store_explicit(&lane->given, given + 1, memory_order_release);
	shard->lane_given = true;
	return true;
}

/* Decides one slot, which it only reads: *verdict is what to tell. False: no room to go on now; the slot is not taken. */
static bool slot_decide(struct dp_shard *shard, uint32_t rx, const struct tp_slot *slot, const struct tp_rollup_seek *seek,
			uint64_t now_ms, uint64_t now_ns, uint8_t *verdict)
{
	const struct tp_event *event = &slot->event;
	if (!records_append(shard, now_ns))
		return false;
	/* Room first: an id that is in the table must be in the log as well. */
	void *record = record_reserve(shard, event->bytes);
	if (!record)
		return false;

	uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
	bool late = agg_minute_closed(event->timestamp_ms, shard->watermark_ms);
	*verdict = TP_UNDECIDED;
	switch (agg_dedup_insert(shard->dedup, event->id, event->fingerprint, minute, shard->horizon_minute, false)) {
	case AGG_NEW:
		*verdict = late ? TP_LATE : TP_ACCEPTED;
		break;
	case AGG_SAME:
		*verdict = TP_DUPLICATE;
		break;
	case AGG_OTHER:
		/*
		 * The id may be in the table for another minute, as an event of its own, while this is a copy of one that the table
		 * holds no more: the segments tell a duplicate from a conflict.
		 */
		if (minute >= agg_dedup_floor(shard->dedup)) {
			*verdict = TP_CONFLICT;
			shard->contested = true;
			break;
		}
		/* fall through */
	case AGG_BELOW_FLOOR:
		*verdict = lane_give(shard, rx, slot) ? TP_DEFERRED : TP_REFUSED;
		break;
	case AGG_FULL:
		atomic_store_explicit(&shard->rotate_wanted, 1, memory_order_relaxed);
		return false;
	}
	if (*verdict == TP_ACCEPTED || *verdict == TP_LATE || *verdict == TP_CONFLICT)
		event_record(shard, record, event, seek, *verdict, now_ns);
	if (*verdict == TP_ACCEPTED)
		stamp_see(shard, event->timestamp_ms, now_ms);
	records_append(shard, now_ns);
	return true;
}

/* The note that what was decided since the last one has to wait for; 0: none. */
static uint64_t rivals_note(struct dp_shard *shard)
{
	if (__builtin_expect(!shard->contested, 1))
		return 0;
	shard->contested = false;
	return dp_rivals_note(&shard->rivals);
}

static void mark_add(struct dp_shard *shard, uint64_t now_ns)
{
	/* What machines still owe comes next in the log: an answer that leads to such a record waits for it too. */
	uint64_t appended = sto_wal_appended(shard->wal) + records_waiting(shard);
	struct dp_mark *mark = NULL;
	/* Marks with the same count, or too many marks: the last one takes this in. It only makes an answer wait for more. */
	if (shard->mark_next != shard->mark_first) {
		struct dp_mark *last = mark_at(shard, shard->mark_next - 1);
		if (last->appended == appended || shard->mark_next - shard->mark_first == DP_SHARD_MARKS)
			mark = last;
	}
	if (!mark) {
		mark = mark_at(shard, shard->mark_next++);
		mark->decided_ns = now_ns;
		mark->rivals = 0;
	}
	mark->appended = appended;
	const uint64_t note = rivals_note(shard);
	if (__builtin_expect(note != 0, 0))
		mark->rivals = note; /* later than the one that was there */
	for (uint32_t q = 0; q < shard->rx_count; q++)
		mark->position[q] = shard->hop[q]->taken;
}

static uint32_t hops_take(struct dp_shard *shard, uint64_t now_ms, uint64_t now_ns)
{
	uint32_t decided = 0;
	bool stalled = false;
	for (uint32_t i = 0; i < shard->rx_count && !stalled; i++) {
		uint32_t q = shard->next_hop;
		shard->next_hop = q + 1 == shard->rx_count ? 0 : q + 1;
		struct tp_hop *hop = shard->hop[q];
		struct tp_slot *burst[DP_SHARD_BURST];
		struct tp_rollup_seek seek[DP_SHARD_BURST];
		uint64_t id_hash[DP_SHARD_BURST];
		uint32_t count = 0;
		while (count < DP_SHARD_BURST && (burst[count] = tp_hop_take(hop)) != NULL) {
			id_hash[count] = agg_dedup_prefetch(shard->dedup, burst[count]->event.id);
			count++;
		}
		const uint32_t before = tp_meter_enter(shard->meter, TP_STAGE_ROLLUP);
		for (uint32_t k = 0; k < count; k++) {
			tp_rollup_seek(&seek[k], &burst[k]->event);
			if (shard->table)
				tp_rollup_prefetch_index(shard->table, &seek[k]);
		}
		tp_meter_enter(shard->meter, TP_STAGE_MACHINES);
		for (uint32_t m = 0; m < shard->machines; m++)
			for (uint32_t k = 0; shard->machine[m].ops->prefetch && k < count; k++)
				shard->machine[m].ops->prefetch(shard->machine[m].self, &burst[k]->event);
		tp_meter_enter(shard->meter, TP_STAGE_ROLLUP);
		for (uint32_t k = 0; shard->table && k < count; k++)
			tp_rollup_prefetch_row(shard->table, &seek[k]);
		for (uint32_t k = 0; shard->table && k < count; k++)
			tp_rollup_prefetch_last(shard->table, &seek[k]);
		tp_meter_leave(shard->meter, before);
		for (uint32_t k = 0; k < count; k++)
			agg_dedup_prefetch_chain(shard->dedup, id_hash[k]);
		uint32_t done = 0;
		const uint64_t first = hop->taken_slots - count;
		const uint64_t head = atomic_load_explicit(&hop->head, memory_order_relaxed);
		uint8_t verdict;
		while (done < count && slot_decide(shard, q, burst[done], &seek[done], now_ms, now_ns, &verdict)) {
			/* the one thing written into a slot, and only into one in thousands: the lower half of when */
			if (__builtin_expect(shard->traces, 0) && verdict != TP_DEFERRED &&
			    (burst[done]->event.trace_flags & TP_TRACE_SAMPLED))
				burst[done]->index = (uint32_t)tp_mono_ns();
			tp_hop_decide(hop, first + done++, verdict);
			tp_hop_fetch(hop, head, burst[done - 1]->bytes + 64);
		}
		if (done < count) {
			/* What could not be decided goes back: it is the first to be taken next time. */
			for (uint32_t k = done; k < count; k++)
				tp_hop_untake(hop, burst[k]);
			stalled = true;
		}
		decided += done;
	}
	if (stalled && !shard->stalled)
		TP_COUNT(shard->counters, SHARD_STALLS);
	shard->stalled = stalled;
	if (decided) {
		TP_COUNT_ADD(shard->counters, SHARD_TAKEN, decided);
		mark_add(shard, now_ns);
		high_publish(shard);
	}
	return decided;
}

static void *dead_reserve(void *context, uint32_t bytes)
{
	struct dp_shard *shard = context;
	return room_for_record(shard) ? sto_wal_reserve(shard->wal, bytes) : NULL;
}

/*
 * Dead letters, after events, and only while nothing is owed to these: what machines have waiting is the next to be appended, as the
 * marks have it.
 */
static uint32_t dead_take(struct dp_shard *shard, uint64_t now_ns)
{
	uint32_t taken = 0;
	if (shard->stalled || !records_append(shard, now_ns))
		return 0;
	bool waiting = false;
	for (uint32_t i = 0; i < shard->deads; i++) {
		taken += dp_shard_dead_take(&shard->dead[i], shard->wal, dead_reserve, shard, now_ns);
		waiting = waiting || dp_shard_dead_waiting(&shard->dead[i]);
	}
	if (waiting && !taken) /* no room now: what it waits for wakes nobody, so the core looks again by itself */
		shard->stalled = true;
	return taken;
}

static void dead_publish(struct dp_shard *shard, uint64_t durable)
{
	for (uint32_t i = 0; i < shard->deads; i++)
		if (dp_shard_dead_publish(&shard->dead[i], durable))
			shard->woke |= 1ULL << shard->dead[i].rx;
}

/* Events that came back from the look-up in the segments: decide them now. In order, so that copies fall behind their original. */
static uint32_t lane_decide(struct dp_shard *shard, uint64_t now_ms, uint64_t now_ns)
{
	struct dp_late_lane *lane = &shard->lane;
	/* acquire: the look-up's result is seen; pairs with the late thread's release */
	uint64_t looked = atomic_load_explicit(&lane->looked, memory_order_acquire);
	uint32_t decided = 0;
	for (; lane->decided != looked; lane->decided++, decided++) {
		struct dp_late_entry *entry = &lane->entry[lane->decided % DP_LATE_LANE];
		struct tp_event *event = (struct tp_event *)(void *)entry->event;
		void *record = records_append(shard, now_ns) ? record_reserve(shard, event->bytes) : NULL;
		if (!record)
			break;
		if (entry->lookup == STO_SAME) {
			entry->verdict = TP_DUPLICATE;
		} else if (entry->lookup == STO_OTHER) {
			entry->verdict = TP_CONFLICT;
		} else if (entry->lookup != STO_ABSENT || agg_dedup_rotations(shard->dedup) - entry->rotations >= 2) {
			/* Unreadable, or a copy that came meanwhile may have gone from the table again: the client tries again. */
			entry->verdict = TP_REFUSED;
		} else {
			uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
			bool late = agg_minute_closed(event->timestamp_ms, shard->watermark_ms);
			switch (agg_dedup_insert(shard->dedup, event->id, event->fingerprint, minute, shard->horizon_minute,
						 true)) {
			case AGG_NEW:
				entry->verdict = late ? TP_LATE : TP_ACCEPTED;
				break;
			case AGG_SAME:
				entry->verdict = TP_DUPLICATE;
				break;
			case AGG_OTHER:
				entry->verdict = TP_CONFLICT;
				shard->contested = true;
				break;
			default:
				atomic_store_explicit(&shard->rotate_wanted, 1, memory_order_relaxed);
				entry->verdict = TP_REFUSED;
			}
		}
		if (entry->verdict == TP_ACCEPTED || entry->verdict == TP_LATE || entry->verdict == TP_CONFLICT) {
			struct tp_rollup_seek seek;
			tp_rollup_seek(&seek, event);
			event_record(shard, record, event, &seek, entry->verdict, now_ns);
		}
		if (entry->verdict == TP_ACCEPTED)
			stamp_see(shard, event->timestamp_ms, now_ms);
		records_append(shard, now_ns);
		entry->record = sto_wal_appended(shard->wal) + records_waiting(shard);
		entry->rivals = rivals_note(shard);
	}
	if (decided)
		high_publish(shard);
	return decided;
}

static void lane_answer(struct dp_shard *shard, uint64_t durable)
{
	struct dp_late_lane *lane = &shard->lane;
	for (; lane->answered != lane->decided; lane->answered++) {
		const struct dp_late_entry *entry = &lane->entry[lane->answered % DP_LATE_LANE];
		if (entry->record > durable || !dp_rivals_settled(&shard->rivals, entry->rivals))
			return;
		struct dp_late_ring *ring = shard->late_ring[entry->rx];
		uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
		/* acquire: the rx core has read what it freed */
		if (head - atomic_load_explicit(&ring->tail, memory_order_acquire) == DP_LATE_ANSWERS)
			return;
		ring->answer[head % DP_LATE_ANSWERS] =
			(struct dp_late_answer){.owner = entry->owner, .index = entry->index, .verdict = entry->verdict};
		/* release: the rx core sees the whole answer */
		atomic_store_explicit(&ring->head, head + 1, memory_order_release);
		shard->woke |= 1ULL << entry->rx;
	}
}

static void marks_publish(struct dp_shard *shard, uint64_t durable, uint64_t now_ns)
{
	struct tp_live_shard *live = &shard->live->shard[shard->number];
	struct dp_mark *last = NULL;
	while (shard->mark_first != shard->mark_next) {
		struct dp_mark *mark = mark_at(shard, shard->mark_first);
		if (mark->appended > durable || !dp_rivals_settled(&shard->rivals, mark->rivals))
			break;
		last = mark;
		shard->mark_first++;
		tp_latency_count(live->commit_latency, &live->commit_ns_sum, now_ns - last->decided_ns);
	}
	if (!last)
		return;
	for (uint32_t q = 0; q < shard->rx_count; q++) {
		if (last->position[q] == atomic_load_explicit(&shard->hop[q]->durable, memory_order_relaxed))
			continue;
		tp_hop_durable(shard->hop[q], last->position[q]);
		shard->woke |= 1ULL << q;
	}
}

/* The fullest ring decides when an rx core has to refuse. */
static uint64_t ring_used_bytes(const struct dp_shard *shard)
{
	uint64_t most = 0;
	for (uint32_t q = 0; q < shard->rx_count; q++) {
		const struct tp_hop *hop = shard->hop[q];
		uint64_t used = atomic_load_explicit(&hop->head, memory_order_relaxed) -
				atomic_load_explicit(&hop->durable, memory_order_relaxed);
		most = used > most ? used : most;
	}
	return most;
}

static void figures_update(struct dp_shard *shard, uint64_t durable)
{
	struct sto_wal_stats stats;
	sto_wal_stats(shard->wal, &stats);
	TP_COUNT_ADD(shard->counters, LOG_BLOCKS, stats.blocks - shard->told.blocks);
	TP_COUNT_ADD(shard->counters, LOG_BYTES, stats.bytes - shard->told.bytes);
	TP_COUNT_ADD(shard->counters, LOG_EVENT_BYTES, stats.event_bytes - shard->told.event_bytes);
	TP_COUNT_ADD(shard->counters, LOG_ROLLS, stats.rolls - shard->told.rolls);
	shard->told = stats;
	struct tp_live_shard *live = &shard->live->shard[shard->number];
	atomic_store_explicit(&live->log_appended, sto_wal_appended(shard->wal), memory_order_relaxed);
	atomic_store_explicit(&live->log_durable, durable, memory_order_relaxed);
	atomic_store_explicit(&live->ring_used_bytes, ring_used_bytes(shard), memory_order_relaxed);
}

uint32_t dp_shard_poll(struct dp_shard *shard, uint64_t now_ms, uint64_t now_ns)
{
	const uint32_t before = tp_meter_enter(shard->meter, TP_STAGE_LOG);
	int completed = sto_wal_poll(shard->wal);
	tp_meter_leave(shard->meter, before);
	if (completed < 0) {
		shard->failed = completed;
		return 0;
	}
	uint32_t done = (uint32_t)completed;
	watermark_advance(shard, now_ms);

	uint32_t pause = atomic_load_explicit(&shard->pause_wanted, memory_order_acquire);
	if (!pause) {
		if (atomic_load_explicit(&shard->paused, memory_order_relaxed))
			atomic_store_explicit(&shard->paused, 0, memory_order_release);
		dp_turn_begin(&shard->own_turns);
		records_append(shard, now_ns); /* what found no room before, or what a restart found missing */
		done += lane_decide(shard, now_ms, now_ns);
		done += hops_take(shard, now_ms, now_ns);
		dp_turn_end(&shard->own_turns, sto_wal_appended(shard->wal));
		done += dead_take(shard, now_ns);
		if (atomic_load_explicit(&shard->roll_wanted, memory_order_relaxed) &&
		    (!sto_wal_file_records(shard->wal) || shard_roll(shard)))
			atomic_store_explicit(&shard->roll_wanted, 0, memory_order_relaxed);
	} else if (atomic_load_explicit(&shard->paused, memory_order_relaxed) != pause) {
		/* release: the keep thread sees all that this shard did to the id table before it stopped */
		atomic_store_explicit(&shard->paused, pause, memory_order_release);
		done++;
	}

	tp_meter_enter(shard->meter, TP_STAGE_LOG);
	/* With nothing more to take and the disk idle, waiting for the interval would only add latency. */
	int submitted = sto_wal_flush(shard->wal, now_ns, shard->watermark_ms, !done && !sto_wal_busy(shard->wal));
	if (submitted < 0) {
		shard->failed = submitted;
		return 0;
	}
	uint32_t no_space = sto_wal_no_space(shard->wal);
	if (no_space != atomic_load_explicit(&shard->no_space, memory_order_relaxed))
		atomic_store_explicit(&shard->no_space, no_space, memory_order_relaxed);
	uint64_t durable = sto_wal_durable(shard->wal);
	/* release: pairs with the acquire of a shard that has a note */
	atomic_store_explicit(&shard->own_turns.durable, durable, memory_order_release);
	lane_answer(shard, durable);
	marks_publish(shard, durable, now_ns);
	dead_publish(shard, durable);
	if (completed || submitted || shard->stalled)
		figures_update(shard, durable);
	tp_meter_leave(shard->meter, before);
	return done + (uint32_t)submitted;
}

uint64_t dp_shard_deadline_ns(struct dp_shard *shard)
{
	if (!atomic_load_explicit(&shard->pause_wanted, memory_order_relaxed) && !shard->stalled)
		for (uint32_t q = 0; q < shard->rx_count; q++)
			if (shard->hop[q]->taken != atomic_load_explicit(&shard->hop[q]->head, memory_order_acquire))
				return 0;
	for (uint32_t i = 0; i < shard->deads; i++)
		if (dp_shard_dead_waiting(&shard->dead[i]) && !shard->stalled &&
		    !atomic_load_explicit(&shard->pause_wanted, memory_order_relaxed))
			return 0;
	if (atomic_load_explicit(&shard->lane.looked, memory_order_relaxed) != shard->lane.decided && !shard->stalled)
		return 0;
	return sto_wal_deadline_ns(shard->wal);
}

bool dp_shard_settled(struct dp_shard *shard)
{
	for (uint32_t q = 0; q < shard->rx_count; q++)
		if (shard->hop[q]->taken != atomic_load_explicit(&shard->hop[q]->head, memory_order_acquire))
			return false;
	for (uint32_t i = 0; i < shard->deads; i++)
		if (dp_shard_dead_waiting(&shard->dead[i]) || shard->dead[i].position)
			return false;
	return shard->lane.answered == atomic_load_explicit(&shard->lane.given, memory_order_relaxed) && !records_waiting(shard) &&
	       sto_wal_durable(shard->wal) == sto_wal_appended(shard->wal) && shard->mark_first == shard->mark_next;
}
