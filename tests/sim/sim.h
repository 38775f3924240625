/*
 * The simulator: one seed, one thread, the real code. What its files share.
 *
 *   sim.c      the seed's story: which actor moves next, what breaks, when lives end
 *   script.c   facts (abstract events) and the bytes that carry them
 *   crowd.c    clients and the network between them and the node: retries, loss, duplicates, reorder, broken connections
 *   life.c     one run of the data process on the simulated disk: start, turns of cores and workers, clean stop, crash
 *   model.c    what must be true: a slow, obvious account of the facts, which shares nothing with the product
 *   model_fraud.c   …of the fraud rules
 *   check.c    holds the product's answers, segments and counters against the model
 *   check_folds.c   …and its sessions, distinct users and top sources
 *
 * Facts come first: the generator makes them, and both the bytes for the node and the model's account are made from them. The model
 * never sees a byte that the product wrote, but for which of several allowed outcomes it chose.
 *
 * Everything random comes from one generator (dice()); time is the world's. So a seed replays exactly.
 */
#ifndef SIM_H
#define SIM_H

#include "../../control/query/ctl_query.h"
#include "../../control/query/ctl_store.h"
#include "../../dataplane/node.h"
#include "../../storage/io_sim.h"
#include "../../storage/store_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FACTS_MAX = 24000,
	IDS_MAX = 24000,
	VARIANTS_MAX = 3, /* payloads of one id */
	PARTS_MAX = 24,   /* facts of one message */
	MESSAGES_MAX = 24000,
	LINKS = 6, /* HTTP connections at once */
	WIRE_MAX = 256,
	ADS = 6,
	CAMPAIGNS = 4,
	ADVERTISERS = 3,
	PUBLISHERS = 4,
	COUNTRIES = 3,
	REGIONS = 3,
	DEVICES = 4,
	AGENTS = 5,
	RUN_WHO = 50000, /* devices from here on click like clockwork, and do nothing else */
	RUN_CLICKS = 7,
	CURRENCIES = 3,
};

#define WORLD_MS UINT64_C(1700000000000)
#define NONE     UINT32_MAX

/* What is wrong with a fact that must be rejected. */
enum flaw { FLAW_NONE, FLAW_NO_AD, FLAW_FUTURE, FLAW_TWICE, FLAW_PRICE, FLAWS };

/* One payload of one id: what a client says happened. Numbers stand for names; 0 is "not sent" where a field is optional. */
struct fact {
	uint32_t id;
	uint8_t type; /* 0 impression, 1 click, 2 conversion */
	uint8_t ad, campaign, advertiser, publisher, country, region, device, currency, flaw;
	uint8_t agent, mouse;   /* user agent; mouse_moves: 0 not sent, 1 none, 2 some */
	uint32_t who, user, ip; /* device id, user id, address */
	uint64_t stamp_ms;
	int64_t micros;
	/* what became of it */
	uint32_t copies; /* delivered to a node */
	uint64_t first_delivered_ns;
	uint32_t first_life;
	bool contradicted; /* told to be a conflict: another payload of its id is durable, and this one never counts */
};

/* One event id. */
struct identity {
	uint32_t fact[VARIANTS_MAX];
	uint32_t facts;
	uint32_t copies; /* of all its facts, delivered */
	bool uuid;
	bool acked;        /* the node has promised one of its copies */
	uint64_t acked_ns; /* when first */
	uint32_t counted;  /* the fact that was told as accepted, late or duplicate; NONE: not known */
	uint32_t news;     /* how often a copy was told to be new */
	bool told_late;
	uint32_t life; /* in which it was acked first */
};

enum way { WAY_HTTP, WAY_TEXT, WAY_BATCH };

struct message {
	uint32_t part[PARTS_MAX];
	uint32_t parts;
	uint8_t way, form; /* form of an HTTP body: 0 single or array, 1 lines */
	bool report, done, busy;
	bool known[PARTS_MAX]; /* its id had been acked when this message was first delivered */
	uint64_t closed_ms;    /* minutes that end up to here were surely closed when it was delivered last */
	uint32_t deliveries;
	uint64_t wall_ms_low; /* the clock, at its lowest since the delivery: what lies too far ahead of it may be rejected */
	uint32_t news;        /* how many of its events were told to be new, over all answers */
	uint64_t number;      /* of a batch */
	uint64_t due_ns;
	uint32_t tries;
};

/* An HTTP connection, both ends. */
struct link {
	struct dp_stream stream; /* first: the node's transport sees this */
	bool open, paused, resumed, closing, gone, stalled;
	uint32_t rx;
	uint32_t message; /* on its way, or NONE */
	bool delivered;   /* the whole request is with the node */
	char *out;        /* what the client has yet to send */
	uint32_t out_bytes, out_at;
	char in[65536]; /* what the node sent */
	uint32_t in_bytes;
	uint64_t next_ns;
};

/* A datagram to the node. */
struct parcel {
	bool used;
	uint32_t rx, message;
	uint64_t due_ns;
	uint8_t bytes[16384];
	uint32_t count;
};

struct world {
	uint64_t seed, random;
	bool verbose, broken;
	/* time */
	uint64_t now_ns;
	int64_t step_ms; /* how far the wall clock has been set */
	uint64_t wall_ms_max;
	uint64_t sure_watermark_ms; /* the node's is at least this; 0: nothing is sure */
	uint64_t high_ms;           /* the highest stamp that was told to be in time, or the clock of then if that was less */
	bool clock_stepped;         /* back, in this life */
	bool clock_stepped_ever;
	bool step_ms_ever; /* in either direction */
	/* what this seed is like */
	uint32_t events_wanted, faults; /* faults: bits of enum fault */
	uint32_t rate;                  /* how eager clients are */
	struct tp_config_fraud limits;
	struct agg_fraud_rules also; /* rules beyond those, the same for the whole seed */
	uint64_t waiting_full;       /* clicks that found no slot to wait in */
	uint32_t runs;
	uint32_t ip_limit_min, ip_limit_max, device_limit_min, device_limit_max, soon_max, soon_min;
	uint32_t table_rows;
	uint64_t id_bytes; /* of the id table */
	/* the facts */
	struct fact fact[FACTS_MAX];
	uint32_t facts;
	struct identity identity[IDS_MAX];
	uint32_t ids;
	struct message message[MESSAGES_MAX];
	uint32_t messages, messages_done;
	uint64_t batches;
	/* the network */
	struct link link[LINKS];
	struct parcel parcel[WIRE_MAX];
	bool final; /* nothing is lost any more */
	/* the node */
	struct sim_disk *disk;
	struct dp_node node;
	struct tp_config_ingest ingest;
	struct agg_fraud_rules rules[16];
	uint32_t rule_version, rule_kind, rule_changes;
	uint32_t cpu[16];
	bool alive, down_wanted, ended_cleanly;
	uint32_t life;
	uint64_t rule_changed_life;
	bool crashed_apart[256]; /* a life of several shards that ended by a crash: what the one kept the other may have lost */
	uint64_t life_from_watermark_ms[256]; /* clock less lateness, the highest so far, at each start */
	uint64_t stopped_total;
	/* the looks of a reader */
	uint64_t seen_all; /* events in the last answer of this life */
	uint64_t told_new; /* in this life, by kind of the counter */
	/* tallies over seeds */
	uint64_t digest; /* of the disk at the end */
	uint64_t tally_events, tally_copies, tally_crashes, tally_stops, tally_queries, tally_retries, tally_late, tally_conflicts,
		tally_full, tally_flagged, tally_restarts_shards, tally_rotations, tally_segments, tally_lanes, tally_reloads,
		tally_steps, tally_ns, tally_amended, tally_reasons[TP_FRAUD_REASONS];
};

enum fault {
	FAULT_LOSS = 1 << 0,
	FAULT_CRASH = 1 << 1,
	FAULT_CLOCK = 1 << 2,
	FAULT_SPACE = 1 << 3,
	FAULT_DISK = 1 << 4, /* a write that fails; slow disks */
	FAULT_RELOAD = 1 << 5,
	FAULT_OLD = 1 << 6, /* stamps from before the horizon */
	FAULT_IDLE = 1 << 7,
	FAULT_ALL = 255,
};

uint64_t dice(struct world *w, uint64_t sides);
static inline bool chance(struct world *w, uint32_t one_in)
{
	return dice(w, one_in) == 0;
}
static inline uint64_t wall_ms(const struct world *w)
{
	return (uint64_t)((int64_t)(WORLD_MS + w->now_ns / 1000000) + w->step_ms);
}
/* Says what is wrong, once per seed: the first finding is the one to look at. */
/* Beyond max_future of a clock that was set back: may be rejected, and then is not acknowledged. */
static inline bool ahead(const struct world *w, const struct message *m, const struct fact *fact)
{
	return fact->stamp_ms > m->wall_ms_low + w->node.config.max_future_ms;
}
void complain(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- script.c ---- */
uint32_t script_message(struct world *w);            /* makes a message of new and old facts */
uint32_t script_retry(struct world *w, uint32_t id); /* a message with the first fact of an id, to be answered in full */
uint32_t script_id_text(const struct world *w, uint32_t id, char to[65]);
void script_name(char *to, size_t bytes, const char *kind, uint32_t n);
uint32_t script_json(const struct world *w, const struct fact *fact, char *to, size_t bytes);
uint32_t script_body(const struct world *w, const struct message *message, char *to, size_t bytes);
uint32_t script_batch(const struct world *w, struct message *message, uint8_t *to, size_t bytes);
const char *script_country(uint32_t n);
const char *script_currency(uint32_t n);
const char *script_device(const struct fact *fact); /* as it is counted: sent, or what the user agent tells */
const char *script_agent(uint32_t n);

/* ---- crowd.c ---- */
void crowd_turn(struct world *w);                     /* clients act */
uint32_t crowd_deliver(struct world *w, uint32_t rx); /* from inside an rx core's round */
void crowd_node_gone(struct world *w);
void crowd_link_drop(struct world *w, uint32_t link);
bool crowd_idle(const struct world *w);

/* ---- life.c ---- */
bool life_start(struct world *w); /* false: the disk crashed meanwhile, or it failed */
void life_turn(struct world *w);
void life_end(struct world *w, bool clean);
void life_rules(struct world *w, bool first);

/* ---- model.c ---- */
struct tally {
	uint64_t impressions, clicks, flagged, conversions, late;
	__int128 micros[CURRENCIES];
};
/* One counted event as the segments have it: which fact, and what the node decided of it. */
struct counted {
	uint32_t fact;
	uint32_t tags; /* when it was judged */
	bool late;
	bool amended; /* an impression saved it: `left` is what is left of the tags */
	uint32_t left;
};
static inline uint32_t tags_left(const struct counted *c)
{
	return c->amended ? c->left : c->tags;
}
struct counted_list {
	struct counted *at;
	uint32_t count;
};
void model_delivered(struct world *w, struct message *message);
/* The node answered: numbers of the report, or none (a bare yes). */
void model_answered(struct world *w, struct message *message, bool report, const uint64_t verdict[5]);
void model_rejected(struct world *w, struct message *message);
uint64_t model_acked(const struct world *w);
uint64_t model_sent(const struct world *w);

/* ---- model_fraud.c ---- */
void model_tags(struct world *w, const struct counted_list *list);
bool model_listed(uint32_t ip);     /* is this address on the blocklist? */
uint32_t model_place(uint32_t ip);  /* the country where it is, as in a fact; 0: nobody knows */
uint32_t model_system(uint32_t ip); /* its autonomous system */
enum { MODEL_BOT_ASN = 64496 };

/* ---- check.c ---- */
void check_live(struct world *w);  /* a look at a running node */
void check_books(struct world *w); /* its counters */
void check_end(struct world *w);   /* all is sealed: every figure */

/* ---- check_folds.c ---- */
void check_folds(struct world *w, struct sto_reader *reader, const struct counted_list *list);

#endif
