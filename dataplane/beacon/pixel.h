/*
 * The pixel: an event from the query of GET /api/v1/pixel.gif. Pure but for the ids that it mints; one rx core.
 */
#ifndef TURNPIKE_PIXEL_H
#define TURNPIKE_PIXEL_H

#include "http_limits.h"
#include "json_event.h"

/* What minted ids are made of. Random at start; no id tells the next one's bits to somebody who sees none. */
struct dp_pixel_mint {
	uint64_t state[4];
};

int dp_pixel_mint_init(struct dp_pixel_mint *mint); /* cold; 0 or -errno of getrandom() */

/*
 * Room for a query as JSON: every byte of it can become two at most (%01 becomes \u0001, a quote \"), plus names, quotes, braces and
 * what is minted.
 */
enum { DP_PIXEL_JSON_BYTES = 2 * DP_HTTP_TARGET_BYTES_MAX + 1024 };

struct dp_pixel_scratch {
	struct dp_pixel_mint mint;
	char json[DP_PIXEL_JSON_BYTES];
};

struct dp_pixel_result {
	enum tp_reject reason; /* TP_OK: *parsed is complete */
	enum tp_field field;
	bool minted;    /* id or stamp are ours */
	bool bad_trace; /* a trace was ignored as invalid */
};

/*
 * Parses query[0..bytes). Parameters have the names of the fields of contract section 4, with country, region and city instead of geo.
 * %XX and + are undone; an empty value is no value; unknown parameters are skipped. The values are then judged by the JSON parser, so
 * that an event is the same by either way. A missing event_id becomes a random UUID, a missing timestamp limits->now_ms. Strings of
 * *parsed live until the next call with `pixel` or `json`.
 */
struct dp_pixel_result dp_pixel_parse(struct dp_pixel_scratch *pixel, struct dp_json_scratch *json, const char *query, size_t bytes,
				      const struct dp_json_limits *limits, struct tp_parsed *parsed);

#endif
