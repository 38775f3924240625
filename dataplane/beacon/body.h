/*
 * A beacon's body (HTTP or UDP text) to staged events: one object, an array, or newline-delimited JSON, as contract section 5 says.
 */
#ifndef TURNPIKE_BODY_H
#define TURNPIKE_BODY_H

#include "intake.h"
#include "json_event.h"
#include "turnpike/addr.h"

enum { DP_BODY_EVENTS_MAX = 16384 }; /* a 1 MiB body cannot hold more valid events */

struct dp_body_reject {
	uint32_t index;
	uint8_t reason; /* enum tp_reject */
	uint8_t field;  /* enum tp_field */
	uint16_t pad;
};

enum dp_body_form { DP_BODY_SINGLE, DP_BODY_ARRAY, DP_BODY_LINES };

enum dp_body_outcome {
	DP_BODY_STAGED,  /* events are staged (maybe none), rejects listed: commit */
	DP_BODY_REFUSED, /* the whole body is refused (400, reason and field in rejects[0]): roll back */
	DP_BODY_FULL,    /* a hop ring is full: roll back, try the same body again later */
};

struct dp_body_result {
	enum dp_body_outcome outcome;
	enum dp_body_form form;
	uint32_t events;  /* found in the body, valid or not */
	uint32_t rejects; /* entries in rejects[] */
};

/* How events of one body get an address when they bring none: the peer, or what X-Forwarded-For says (contract: ip_address). */
struct dp_body_source {
	bool has_ip;
	struct tp_addr ip;
};

/*
 * Parses `body` and stages its valid events for `request`; `request` == NULL only parses (the debug endpoint, and the text of the
 * verdict comes from rejects[]). Counts EVENTS_* received and rejected only when the outcome is final: STAGED or REFUSED.
 * rejects[] has room for DP_BODY_EVENTS_MAX entries.
 */
struct dp_body_result dp_body_stage(struct dp_intake *intake, struct dp_json_scratch *scratch, struct dp_request *request,
				    const char *body, size_t bytes, const struct dp_json_limits *limits,
				    const struct dp_body_source *source, struct dp_body_reject *rejects);

#endif
