/*
 * Who may send beacons: the tokens and the source keys as the rx cores see them. The command thread owns it and reads the files again when
 * they change; rx cores only ask, and see sets that are swapped whole.
 */
#ifndef TURNPIKE_ACCESS_H
#define TURNPIKE_ACCESS_H

#include "beacon/beacon.h"

struct dp_access;

struct dp_access_hooks {
	/* Returns once no rx core can still hold a set that was current before the call. */
	void (*synchronize)(void *context);
	void *context;
};

/*
 * Reads what the configuration names. A file of source keys that cannot be read is an error, logged, and the node must not start; tokens that
 * cannot be read are logged, and nobody has one until they can. Cold.
 */
int dp_access_open(struct dp_access **access, const struct tp_config *config, const struct dp_access_hooks *hooks);
void dp_access_close(struct dp_access *access); /* may be NULL */

/* Looks at the files, and reads those that changed; `all`: every one. What is broken is logged, and the old set stays. Command thread. */
void dp_access_refresh(struct dp_access *access, bool all);

/* Fills the parts of an rx core's beacon options that ask here. */
void dp_access_options(struct dp_access *access, struct dp_beacon_options *options);

#endif
