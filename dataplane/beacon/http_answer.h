/*
 * Answers, rendered as they are sent. Pure; any thread.
 *
 * An answer is a small description, not bytes: any piece of its text can be made again at any time. So an answer that the transport
 * takes only in part needs no buffer: what is missing is rendered again, from where it stopped.
 */
#ifndef TURNPIKE_HTTP_ANSWER_H
#define TURNPIKE_HTTP_ANSWER_H

#include "body.h"
#include "http_route.h"

enum dp_answer_kind {
	DP_ANSWER_CONTINUE,  /* 100, before the answer proper */
	DP_ANSWER_EMPTY,     /* 204 */
	DP_ANSWER_PREFLIGHT, /* 204 to OPTIONS */
	DP_ANSWER_GIF,       /* 200 and the pixel */
	DP_ANSWER_HEALTH,    /* 200 */
	DP_ANSWER_REPORT,    /* 200 and what became of the events */
	DP_ANSWER_VERDICT,   /* 200 and what the parser says of each event */
	DP_ANSWER_PROBLEM,   /* an error, RFC 9457 */
};

struct dp_answer {
	uint8_t kind;       /* enum dp_answer_kind */
	uint8_t route;      /* enum dp_route, for Allow */
	uint8_t form;       /* enum dp_body_form, of a VERDICT */
	uint8_t reason;     /* enum tp_reject, of a PROBLEM with an event; 0: none */
	uint8_t field;      /* enum tp_field, likewise */
	bool head_only;     /* HEAD: no body */
	bool close;         /* Connection: close */
	bool keep_alive;    /* Connection: keep-alive, which HTTP/1.0 must be told */
	bool accept_gzip;   /* 415 because of the content coding */
	bool refused_whole; /* VERDICT: the body is refused as a whole */
	uint16_t status;
	uint32_t events; /* of a VERDICT */
	uint32_t accepted, duplicates, late, conflicts;
	uint32_t rejects;                    /* entries in reject[] */
	const struct dp_body_reject *reject; /* in order of index; they live as long as the answer */
	const char *why;                     /* PROBLEM: static text for a person */
	uint64_t body_bytes;                 /* set by dp_answer_begin() */
	/*
	 * An item of the list, how many rejects come before it, and where in the body it begins: so that a long list is not walked
	 * again from its start for every piece. Render's own.
	 */
	uint32_t item, item_reject;
	uint64_t item_at;
};

/* Measures the answer; before the first dp_answer_render(). Returns the length of all of it, head and body. */
uint64_t dp_answer_begin(struct dp_answer *answer);

/* Writes the bytes from offset `from` on, at most `room`; returns how many. `from` never goes back. */
size_t dp_answer_render(struct dp_answer *answer, uint64_t from, char *to, size_t room);

#endif
