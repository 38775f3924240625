/*
 * Login by token: see ctl_login.c. Any thread.
 */
#ifndef TURNPIKE_CTL_LOGIN_H
#define TURNPIKE_CTL_LOGIN_H

#include "ctl_gate.h"
#include "ctl_request.h"

struct ctl;

void ctl_login(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_logout(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_whoami(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_audit_log(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);

/* The login page, which is what "/" shows to somebody unknown; `message` stands in it, NULL: none. */
void ctl_login_page(struct ctl_reply *reply, uint16_t status, const char *message);

/*
 * Runs a handler that changes something as an administrative act: it is in the audit log before it begins, or it is refused with 503; and its
 * result afterwards.
 */
void ctl_act_run(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply,
		 void (*handler)(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply));
/* A line without an act of a request: a reload, say. */
void ctl_act_note(struct ctl *ctl, const char *who, const char *act, const char *result);

#endif
