/*
 * Sight: what the data process shows of single packets and requests while somebody looks (turnpikectl trace, capture). Off, it costs
 * an rx core one relaxed load a burst or request. On, a core copies what matches into a ring of its own, in shared memory that the
 * tool maps read only; it never waits for the reader and never slows for long: a session ends by itself after so many records or
 * seconds.
 *
 *   struct tp_sight ─ filter, limits, one write position per core ─┐
 *   slots of core 0, slots of core 1, …                            ┘   each slot: stamp, record, bytes
 *
 * Writers: the command thread the session (only while nothing is recorded), each rx core its ring. A slot's stamp is odd while it is
 * being written, and 2 · (number + 1) afterwards, so a reader sees when it was overtaken and says how many records it lost.
 */
#ifndef TURNPIKE_SIGHT_H
#define TURNPIKE_SIGHT_H

#include "turnpike/addr.h"
#include "turnpike/counter.h"

#include <stdatomic.h>

#define TP_SIGHT_MAGIC 0x3174676973707431ULL /* "1tpsigt1" */

enum { TP_SIGHT_VERSION = 1, TP_SIGHT_SLOTS = 1024, TP_SIGHT_DATA_BYTES = 1920, TP_SIGHT_PATH_BYTES = 64 };
enum { TP_SIGHT_RECORDS_MAX = 1000000, TP_SIGHT_SECONDS_MAX = 600 };

enum tp_sight_kind { TP_SIGHT_FRAME_IN, TP_SIGHT_FRAME_OUT, TP_SIGHT_REQUEST, TP_SIGHT_DATAGRAM, TP_SIGHT_KINDS };
enum tp_sight_type { TP_SIGHT_ANY, TP_SIGHT_ARP, TP_SIGHT_ICMP, TP_SIGHT_TCP, TP_SIGHT_UDP, TP_SIGHT_TYPES };
const char *tp_sight_kind_name(enum tp_sight_kind kind); /* "in", "out", "request", "datagram" */
const char *tp_sight_type_name(enum tp_sight_type type); /* "any", "arp", … */

struct tp_sight_filter {
	uint32_t kinds; /* bit per enum tp_sight_kind */
	uint8_t type;   /* enum tp_sight_type; ICMP takes ICMPv6, too */
	bool has_prefix;
	uint16_t port;                  /* either side's; 0: any */
	struct tp_prefix prefix;        /* either side's address */
	char path[TP_SIGHT_PATH_BYTES]; /* requests: how the path begins; "": any */
};

struct tp_sight_record {
	uint64_t wall_ns;    /* real-time clock */
	uint64_t waited_ns;  /* request: from its first byte to its answer */
	uint64_t durable_ns; /* request: from its parse to every event's verdict; 0: no event went to a shard */
	uint32_t bytes;      /* of the frame or datagram */
	uint32_t kept;       /* of them in data[]; request: of its path */
	uint16_t verdict;    /* enum tp_counter: where it ended. FRAME_OUT: TP_C_FRAMES_SENT */
	uint16_t status;     /* request */
	uint8_t kind;        /* enum tp_sight_kind */
	uint8_t core;
	uint8_t ingest;
	uint8_t method;                                           /* request: 0 GET, 1 HEAD, 2 POST, 3 OPTIONS, 4 other */
	uint32_t accepted, duplicates, late, conflicts, rejected; /* request: its events */
	uint8_t reason, field;                                    /* request: why its body was refused: enum tp_reject, tp_field */
	struct tp_endpoint peer;                                  /* request, datagram */
};

struct tp_sight_slot {
	_Atomic uint64_t stamp;
	struct tp_sight_record record;
	uint8_t data[TP_SIGHT_DATA_BYTES];
};

struct tp_sight_core {
	_Alignas(64) _Atomic uint64_t next; /* number of the record that comes next; its core writes */
};

struct tp_sight {
	uint64_t magic;
	uint32_t version, cores;
	uint64_t bytes, slots_at;
	_Alignas(64) _Atomic uint32_t active; /* kinds being recorded. The command thread sets, anybody clears */
	_Atomic uint32_t session;             /* which session; the command thread writes */
	_Atomic int64_t left;                 /* records that may still be taken; all rx cores count down */
	/* the command thread writes, while active is 0 and no rx core is in a round that began before */
	uint64_t ends_ns; /* monotonic clock */
	int64_t wall_offset_ns;
	uint32_t snap_bytes;
	struct tp_sight_filter filter;
	struct tp_sight_core core[];
};

/* ---- the data process, cold: main thread, command thread ---- */

/* Memory for `cores` rings. Returns a memfd (>= 0) or -errno. */
int tp_sight_create(struct tp_sight **sight, uint32_t cores);
/*
 * Begins a session: at most `records` and `seconds`, at most `snap_bytes` of each frame. The caller has called tp_sight_stop() and
 * waited until every rx core has begun another round. Touches the rings, so that no rx core faults on them.
 */
void tp_sight_start(struct tp_sight *sight, const struct tp_sight_filter *filter, uint32_t records, uint32_t seconds,
		    uint32_t snap_bytes);
void tp_sight_stop(struct tp_sight *sight);
/* True while a session runs; ends it when its time is up. */
bool tp_sight_running(struct tp_sight *sight, uint64_t now_ns);

/* ---- an rx core ---- */

/* The one branch: is this kind being looked at? sight may be NULL. */
static inline bool tp_sight_on(const struct tp_sight *sight, enum tp_sight_kind kind)
{
	return sight && __builtin_expect(atomic_load_explicit(&sight->active, memory_order_relaxed) & 1U << kind, 0);
}

/* A frame with its verdict, if it matches. */
void tp_sight_frame(struct tp_sight *sight, uint32_t core, enum tp_sight_kind kind, uint32_t ingest, const uint8_t *frame,
		    uint32_t bytes, enum tp_counter verdict, uint64_t now_ns);
/* A request or datagram; `record` has all but wall_ns, core and kept. `data`: the path, or the datagram. If it matches. */
void tp_sight_request(struct tp_sight *sight, uint32_t core, const struct tp_sight_record *record, const void *data,
		      uint32_t data_bytes, uint64_t now_ns);

/* ---- a reader ---- */

/* Maps a received descriptor read only, and checks it. 0 or -errno. */
int tp_sight_map(int fd, const struct tp_sight **sight);
void tp_sight_unmap(const struct tp_sight *sight);
/*
 * Takes record number *next of a core, if it is there: 1, and *next moved on. 0: not yet. Records that were overwritten meanwhile
 * are skipped and added to *lost.
 */
int tp_sight_read(const struct tp_sight *sight, uint32_t core, uint64_t *next, uint64_t *lost, struct tp_sight_slot *to);

/* ---- pure ---- */

/* What a frame is, for people and filters. */
struct tp_sight_flow {
	uint8_t type;     /* enum tp_sight_type; ANY: none of them */
	uint8_t protocol; /* of IP */
	uint8_t tcp_flags;
	bool has_addresses, has_ports;
	uint16_t ethertype;
	struct tp_endpoint from, to;
};
void tp_sight_flow(const uint8_t *frame, uint32_t bytes, struct tp_sight_flow *flow);
bool tp_sight_frame_matches(const struct tp_sight_filter *filter, const uint8_t *frame, uint32_t bytes);
/* The step at which a frame with this verdict ended: "link", "ip", "blocklist", "transport", "tap", "spread". */
const char *tp_sight_step(enum tp_counter verdict);

#endif
