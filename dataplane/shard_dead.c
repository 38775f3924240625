/* Dead letters on the shard core: see shard_dead.h. */
#include "shard_dead.h"

#include <string.h>

uint32_t dp_shard_dead_take(struct dp_shard_dead *dead, struct sto_wal *wal, void *(*reserve)(void *context, uint32_t bytes),
			    void *context, uint64_t now_ns)
{
	uint32_t taken = 0;
	bool no_space = sto_wal_no_space(wal);
	while (taken < DP_DEAD_BURST) {
		struct tp_slot *slot = tp_hop_take(dead->ring);
		if (!slot)
			break;
		tp_hop_decide(dead->ring, dead->ring->taken_slots - 1, no_space ? DP_DEAD_REFUSED : DP_DEAD_LOGGED);
		if (no_space) {
			taken++;
			continue;
		}
		void *record = reserve(context, slot->event.bytes);
		if (!record) {
			tp_hop_untake(dead->ring, slot);
			break;
		}
		memcpy(record, &slot->event, slot->event.bytes);
		sto_wal_append(wal, slot->event.bytes, now_ns);
		taken++;
	}
	/* One mark at a time: what is taken behind it is told with the next one. */
	if (!dead->position && dead->ring->taken != atomic_load_explicit(&dead->ring->durable, memory_order_relaxed)) {
		dead->appended = sto_wal_appended(wal);
		dead->position = dead->ring->taken;
	}
	return taken;
}

bool dp_shard_dead_publish(struct dp_shard_dead *dead, uint64_t durable)
{
	if (!dead->position || dead->appended > durable)
		return false;
	tp_hop_durable(dead->ring, dead->position);
	dead->position = 0;
	return true;
}
