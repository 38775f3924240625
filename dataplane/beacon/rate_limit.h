/*
 * What one source may send, and what one token may: contract section 3, ingest keys `rate_limit` and `token_rate_limit`; 429 of section 5.
 * One rx core enters; nothing is allocated after dp_rate_create().
 *
 * A source is an IPv4 address or an IPv6 /64, which is what one subscriber gets. Each rx core counts for itself what it receives: a
 * source whose connections spread over several cores may send that much over each of them.
 */
#ifndef TURNPIKE_RATE_LIMIT_H
#define TURNPIKE_RATE_LIMIT_H

#include "turnpike/addr.h"
#include "turnpike/config.h"

struct dp_rate;

/* Cold. 0 or -errno; *rate is NULL, which allows all, when no entry of the configuration has a limit. */
int dp_rate_create(struct dp_rate **rate, const struct tp_config *config);
void dp_rate_destroy(struct dp_rate *rate); /* may be NULL */

/*
 * True if `source` may send one more request or datagram to ingest entry `ingest` at now_ns, which never falls; then it is counted. A
 * source may fall behind and catch up: what it sends within a second is what counts.
 */
bool dp_rate_allows(struct dp_rate *rate, uint16_t ingest, const struct tp_addr *source, uint64_t now_ns);

/* The same for the holder of a token, or of a source's key: by `token_rate_limit`. */
bool dp_rate_allows_who(struct dp_rate *rate, uint16_t ingest, uint64_t who, uint64_t now_ns);

#endif
