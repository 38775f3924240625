/*
 * Bearer tokens on an rx core: whether one may send beacons, and who it is. Asking costs a hash of the token, so the answers are kept: a
 * table of tokens that were found good, of one rx core, valid until the tokens change or the token expires.
 */
#ifndef TURNPIKE_PERMIT_H
#define TURNPIKE_PERMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dp_permit {
	uint64_t who;      /* a number of the token's own */
	uint64_t until_ms; /* it expires then; UINT64_MAX: never */
};

struct dp_permits;

struct dp_permit_source {
	/* True if a bearer token may send beacons. Any rx core, no allocation. NULL: none may. */
	bool (*ask)(void *context, const char *token, size_t bytes, uint64_t now_ms, struct dp_permit *permit);
	void *context;
	/* Grows after the tokens changed; NULL: nothing is kept. */
	const _Atomic uint64_t *version;
};

int dp_permits_create(struct dp_permits **permits, const struct dp_permit_source *source); /* cold; 0 or -errno */
void dp_permits_destroy(struct dp_permits *permits);                                       /* may be NULL */

bool dp_permits_ask(struct dp_permits *permits, const char *token, size_t bytes, uint64_t now_ms, struct dp_permit *permit);

#endif
