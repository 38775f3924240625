/*
 * Whose address an event gets that brings none: contract section 4, ip_address. Pure; any thread.
 */
#ifndef TURNPIKE_FORWARDED_H
#define TURNPIKE_FORWARDED_H

#include "body.h"
#include "http_parser.h"
#include "turnpike/config.h"

/*
 * An untrusted peer is the user. Of a trusted one the X-Forwarded-For lines of its request (all joined, in order) are walked from the
 * right: trusted addresses are further proxies and passed over, the first other address is the user, and what is no address ends the
 * walk, because what lies left of it could have been written by anybody. Without a finding the address is unknown. Entries may have a
 * port and, for IPv6, brackets. `bytes` is what `head` was parsed from.
 */
struct dp_body_source dp_forwarded_source(const struct tp_config_ingest *ingest, const struct tp_addr *peer,
					  const struct dp_http_head *head, const char *bytes);

#endif
