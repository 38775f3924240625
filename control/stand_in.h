/*
 * A stand-in for the data process, for tests: a real store, a real log, a live view and its command socket, in a folder of its own
 * below the working folder (the build folder: /tmp is often a tmpfs, without O_DIRECT). One shard; no network.
 *
 * The order is the data process's: an event goes into the table and the log, the log becomes durable, the file is sealed, only
 * then is the table given back.
 */
#ifndef CTL_STAND_IN_H
#define CTL_STAND_IN_H

#include "turnpike/live.h"
#include "turnpike/wal.h"

#include <pthread.h>

enum { STAND_IN_TABLES = 4 };

struct stand_in {
	char folder[64], data_dir[96];
	struct sto_store *store;
	struct sto_wal *wal;
	struct tp_live *live;
	int live_fd, listener;
	int stop, stopped; /* a pair: closing the one ends the thread */
	pthread_t thread;
	struct tp_rollup *table; /* of the open log file */
	_Atomic uint64_t next;   /* number of the next event: it is its id */
	uint32_t pid;
	uint32_t seals;
};

struct stand_in_event {
	uint64_t timestamp_ms;
	enum tp_event_type type;
	enum tp_verdict verdict;
	const char *ad, *campaign, *advertiser, *publisher, *region, *country, *currency;
	const char *user; /* NULL: none */
	enum tp_device_type device;
	int64_t bid_micros;
	bool flagged;
};

/* A folder, and a data process in it. Asserts that all goes well. */
void stand_in_open(struct stand_in *stand_in);
/* Ends it as kill -9 would: no sealing. The folder stays; stand_in_start() begins anew, recovering as the data process does. */
void stand_in_stop(struct stand_in *stand_in);
void stand_in_start(struct stand_in *stand_in);
/* Stops it and removes the folder. */
void stand_in_close(struct stand_in *stand_in);

void stand_in_add(struct stand_in *stand_in, const struct stand_in_event *event);
/* A record as a shard would write it, with its verdict and tags. */
void stand_in_add_record(struct stand_in *stand_in, const struct tp_event *event);
void stand_in_commit(struct stand_in *stand_in); /* all added ones are durable */
void stand_in_seal(struct stand_in *stand_in);   /* the open file becomes a segment, if it holds anything */

/* A valid click of one US dollar now, to be changed where a test cares. */
struct stand_in_event stand_in_click(void);

#endif
