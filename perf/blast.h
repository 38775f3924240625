/*
 * turnpike-blast: what its files share.
 *
 *   source (synthetic or replay) ─► worker: one of http, text, batch ─► node
 *                                     │ acknowledged
 *                                     ├─► ledger file      one line per event, in the file before the next round
 *                                     └─► tally            counters and latency, read by the main thread once a second
 *
 * Each worker is a thread with its own source, connections and tally; nothing is shared but the ledger's file descriptor (opened for
 * appending, written in whole lines) and the stop flag.
 */
#ifndef TURNPIKE_BLAST_H
#define TURNPIKE_BLAST_H

#include "blast_histogram.h"
#include "turnpike/addr.h"
#include "turnpike/client.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum blast_protocol { BLAST_HTTP, BLAST_TEXT, BLAST_BATCH };

struct blast_options {
	enum blast_protocol protocol;
	struct tp_endpoint to;
	const char *target; /* as given */
	const char *path;   /* HTTP */
	const char *token;  /* HTTP, or NULL */
	bool report;        /* HTTP: ask for ?report=1 */
	uint64_t events;    /* 0: no limit */
	uint64_t duration_ns;
	double rate; /* events a second over all threads; 0: as fast as possible */
	uint32_t connections, pipeline, batch, threads;
	uint32_t datagram_bytes, window;
	uint64_t source_id;
	bool retry;
	uint64_t drain_ns;           /* how long to wait for acknowledgements at the end; 0: for ever */
	uint64_t request_timeout_ns; /* HTTP: an answer that takes longer counts as lost */
	const char *ledger, *replay;
	bool json, quiet;
	/* synthetic events */
	uint64_t seed;
	uint32_t ads, campaigns, advertisers, publishers, devices;
	double zipf, clicks, conversions, duplicates;
	uint32_t out_of_order_ms;
	bool stamp_fixed;
	uint64_t start_ms; /* fixed: stamp of the first event */
};

/* Fills `options` from the command line. 0; 1: help was printed; -EINVAL: a message was. */
int blast_options_parse(struct blast_options *options, int argc, char **argv);

/* ---- events ---- */

enum { BLAST_LEDGER_LINE_MAX = 3 * 64 * 2 + 128 };

/* One event, as the worker wants it. Everything points into the source and is valid until its next call. */
struct blast_item {
	const char *json; /* without line end */
	uint32_t json_bytes;
	struct tpc_event fields;
	const char *ledger; /* its ledger line with line end; 0 bytes for a deliberate copy, which must not be listed twice */
	uint32_t ledger_bytes;
	bool copy;
};

enum { BLAST_WANT_JSON = 1, BLAST_WANT_FIELDS = 2, BLAST_WANT_LEDGER = 4 };

struct blast_source;

/* `want`: which of json, fields and ledger to fill. NULL: a message was printed. `thread` of options->threads. */
struct blast_source *blast_source_open(const struct blast_options *options, uint32_t thread, unsigned want);
void blast_source_close(struct blast_source *source);
/* The next event; false at the end of the file. */
bool blast_source_next(struct blast_source *source, struct blast_item *item);
/* Lines of a replayed file that hold no valid event, and were left out. */
uint64_t blast_source_invalid(const struct blast_source *source);

/* ---- workers ---- */

/* Written by the worker, read by the main thread: relaxed, because each number stands for itself. */
struct blast_tally {
	_Atomic uint64_t sent;                                  /* events given to the network once */
	_Atomic uint64_t copies;                                /* of them, deliberate copies */
	_Atomic uint64_t acked;                                 /* events acknowledged */
	_Atomic uint64_t rejected;                              /* events that the node found invalid */
	_Atomic uint64_t failed;                                /* events given up: refused for good, or lost without --retry */
	_Atomic uint64_t sends;                                 /* requests or datagrams, retries included */
	_Atomic uint64_t retries;                               /* of them, sent again */
	_Atomic uint64_t lost;                                  /* connections that ended with answers owed, or could not be made */
	_Atomic uint64_t accepted, duplicates, late, conflicts; /* where the node told */
	_Atomic uint64_t status[600];
	struct blast_histogram latency; /* ns */
};

static inline void blast_add(_Atomic uint64_t *counter, uint64_t n)
{
	/* one writer: no read-modify-write needed */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline uint64_t blast_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* When the next event may go, and whether there is one. */
struct blast_pace {
	uint64_t begin_ns, until_ns;
	double ns_per_event; /* 0: no limit */
	uint64_t given, limit;
	bool ended; /* no further event */
};

struct blast_worker {
	const struct blast_options *options;
	uint32_t thread;
	const _Atomic bool *stop;
	struct blast_tally *tally;
	struct blast_source *source;
	struct blast_pace pace;
	int ledger_fd; /* -1: none */
	char *ledger;  /* lines of this round */
	size_t ledger_bytes, ledger_room;
	_Atomic bool broken; /* ended by an error that was printed */
};

void blast_pace_init(struct blast_worker *worker, uint64_t now_ns);
/* True if an event is due now. Sets pace.ended at the limit, at the end of the time, or when told to stop. */
bool blast_pace_due(struct blast_worker *worker, uint64_t now_ns);
/* When the event that is next is due, or was. */
uint64_t blast_pace_due_ns(const struct blast_worker *worker);
/* The next event of the source, counted against the pace; false when there is none. */
bool blast_worker_next(struct blast_worker *worker, struct blast_item *item);

/* True when there is no more waiting for acknowledgements; a worker that was told to stop waits 5 s at most. */
bool blast_drain_over(const struct blast_worker *worker, uint64_t ended_ns, uint64_t now_ns);

/* Keeps lines of acknowledged events for the ledger; blast_ledger_write() brings them into the file. */
void blast_ledger_add(struct blast_worker *worker, const char *lines, size_t bytes);
int blast_ledger_write(struct blast_worker *worker);

/* Run until everything is sent and acknowledged, or given up. Each is the body of a thread. */
void blast_http_run(struct blast_worker *worker);
void blast_text_run(struct blast_worker *worker);
void blast_batch_run(struct blast_worker *worker);

/* Connects a socket; type SOCK_STREAM (non-blocking, may be in progress) or SOCK_DGRAM. -errno on failure. */
int blast_connect(const struct tp_endpoint *to, int type);

/* ---- ledger lines of the events of one request ---- */

/* So that single events can be left out when the node rejects them. */
struct blast_lines {
	char *text;
	uint32_t *end; /* of each event's line in text */
	uint32_t bytes, room, events, events_room;
};

void blast_lines_clear(struct blast_lines *lines);
void blast_lines_add(struct blast_lines *lines, const char *line, uint32_t bytes);
/* Gives the lines to the ledger, all but those of the `skipped` events named in skip[] (ascending). */
void blast_lines_commit(const struct blast_lines *lines, struct blast_worker *worker, const uint32_t *skip, uint32_t skipped);
void blast_lines_free(struct blast_lines *lines);

void *blast_alloc(void *old, size_t bytes); /* realloc that ends the program when there is no memory */

#endif
