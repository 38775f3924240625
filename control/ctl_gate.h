/*
 * Who may ask for what, with control.auth: tokens. The tokens' file is looked at before each request, so that a token made or revoked counts
 * from the next request on. Any thread.
 */
#ifndef TURNPIKE_CTL_GATE_H
#define TURNPIKE_CTL_GATE_H

#include "ctl_request.h"
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
};

int ctl_gate_open(struct ctl_gate **gate, const char *state_dir); /* 0 or -ENOMEM; a broken file is logged, and nobody may */
void ctl_gate_close(struct ctl_gate *gate);                       /* may be NULL */

/*
 * May the sender of this Authorization header (NULL: none) ask for what needs `need`? `token` gets the token that was named, and
 * stays zero without one.
 */
enum ctl_verdict ctl_gate_ask(struct ctl_gate *gate, const char *authorization, enum ctl_need need, struct tp_token *token);

/* The decision alone, for a token that is known. */
enum ctl_verdict ctl_gate_judge(const struct tp_token *token, enum ctl_need need);

#endif
