/*
 * Who may ask for what, with control.auth: tokens. The tokens' file is looked at before each request, so that a token made or revoked counts
 * from the next request on. Any thread.
 *
 * One shows a bearer token, or the cookie of a session that was opened with one. A session is its token in another form: it may what the token
 * may, and ends with it. Guessing costs: who shows wrong tokens is soon answered 429, and then even a right one is refused from
 * there, unless it had been right from there before.
 */
#ifndef TURNPIKE_CTL_GATE_H
#define TURNPIKE_CTL_GATE_H

#include "ctl_request.h"
#include "turnpike/addr.h"
#include "turnpike/token.h"

struct ctl_gate;

/* What a resource asks for. */
enum ctl_need {
	CTL_NEED_READ, /* read or admin */
	CTL_NEED_OWN,  /* … or read:advertiser:ID: the handler shows ctl_target.only's rows alone */
	CTL_NEED_NONE, /* nothing: anybody */
	CTL_NEED_ADMIN,
};

enum ctl_verdict {
	CTL_MAY,
	CTL_UNKNOWN, /* no token, or one that is not known: 401 */
	CTL_NARROW,  /* a token whose scope does not reach: 403 */
	CTL_SLOWER,  /* too many requests, or wrong tokens: 429 */
};

enum {
	CTL_SESSIONS_MAX = 1024,
	CTL_SESSIONS_OF_TOKEN_MAX = 32, /* then its oldest one ends */
	CTL_COOKIE_BYTES = 43,          /* 256 bits in base64url */
	CTL_GUESSES = 10,
	CTL_GUESS_MS = 2000, /* wrong tokens of an address: at once, then one each */
	CTL_ANONYMOUS = 200,
	CTL_ANONYMOUS_MS = 50, /* refused requests without any */
};

/* Who asks, as the handlers see it in ctl_target.asker. */
struct ctl_asker {
	struct tp_addr from;
	bool known;     /* token is that of the request */
	bool by_cookie; /* … through the session */
	struct tp_token token;
	uint8_t session[32]; /* hash of the cookie */
};

/* What a request shows. NULL: nothing. */
struct ctl_plea {
	const char *authorization, *cookie; /* values of header lines */
};

/* rate: requests per second and token, 0: off. 0 or -errno; a broken file is logged, and nobody may. */
int ctl_gate_open(struct ctl_gate **gate, const char *state_dir, uint32_t rate, uint64_t session_ms);
void ctl_gate_close(struct ctl_gate *gate); /* may be NULL */

/* May asker->from, showing this, ask for what needs `need`? Fills the rest of asker; with CTL_SLOWER *wait_ms says how long. */
enum ctl_verdict ctl_gate_ask(struct ctl_gate *gate, const struct ctl_plea *plea, enum ctl_need need, struct ctl_asker *asker,
			      uint32_t *wait_ms);

/* The decision alone, for a token that is known. */
enum ctl_verdict ctl_gate_judge(const struct tp_token *token, enum ctl_need need);

/* Whether what the asker showed still counts: the token may have been revoked, or the session ended. */
bool ctl_gate_holds(struct ctl_gate *gate, const struct ctl_asker *asker);

/* Who shows this token, bare, from asker->from? CTL_MAY and a full asker, CTL_UNKNOWN or CTL_SLOWER. */
enum ctl_verdict ctl_gate_know(struct ctl_gate *gate, const char *text, size_t bytes, struct ctl_asker *asker, uint32_t *wait_ms);
/* Opens a session for an asker that is known; `cookie` gets its secret with a NUL. 0 or -errno. */
int ctl_gate_session_open(struct ctl_gate *gate, const struct ctl_asker *asker, char cookie[CTL_COOKIE_BYTES + 1]);
void ctl_gate_session_end(struct ctl_gate *gate, const struct ctl_asker *asker);
uint64_t ctl_gate_session_ms(const struct ctl_gate *gate);

#endif
