/* What the parts of the replay share. */
#ifndef REPLAY_PRIVATE_H
#define REPLAY_PRIVATE_H

#include "replay.h"
#include "turnpike/reader.h"

enum { RPL_CHUNK_BYTES = 4 << 20 };

/* A record in memory. For clicks: the tags that hold now, and those that would. */
struct rpl_row {
	const struct tp_event *event;
	uint64_t order;
	uint32_t was, would;
};

struct rpl_chunk {
	struct rpl_chunk *before;
	uint32_t used;
	_Alignas(8) uint8_t byte[RPL_CHUNK_BYTES];
};

struct rpl_events {
	struct rpl_row *row;
	uint64_t count, count_max, bytes, bytes_max;
	struct rpl_chunk *chunk;
};

/* Every counted event and amendment stamped in [from, to), by receipt. 0 or -errno; rpl_unload() is due in any case. */
int rpl_load(struct rpl_events *events, const char *data_dir, uint64_t from_ms, uint64_t to_ms);
void rpl_unload(struct rpl_events *events);

#endif
