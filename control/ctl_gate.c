/*
 * The gate: see ctl_gate.h. A file that got broken leaves the tokens in force that were read last: an operator's slip locks nobody out,
 * and lets nobody in. Source: RFC 6750 section 2.1 (the header), contract section 7 (scopes).
 */
#include "ctl_gate.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct ctl_gate {
	pthread_mutex_t lock; /* over all below but state_dir and path */
	struct tp_tokens *tokens;
	struct tp_file_seen seen;
	char *state_dir;
	char path[4096];
};

int ctl_gate_open(struct ctl_gate **out, const char *state_dir)
{
	struct ctl_gate *gate = calloc(1, sizeof(*gate));

	if (!gate)
		return -ENOMEM;
	gate->state_dir = strdup(state_dir);
	if (!gate->state_dir) {
		free(gate);
		return -ENOMEM;
	}
	pthread_mutex_init(&gate->lock, NULL);
	tp_tokens_path(state_dir, gate->path, sizeof(gate->path));
	*out = gate;
	return 0;
}

void ctl_gate_close(struct ctl_gate *gate)
{
	if (!gate)
		return;
	pthread_mutex_destroy(&gate->lock);
	free(gate->tokens);
	free(gate->state_dir);
	free(gate);
}

/* With the lock. */
static void refresh(struct ctl_gate *gate)
{
	struct tp_tokens *fresh;
	uint32_t line;

	if (!tp_file_changed(gate->path, &gate->seen))
		return;
	int rc = tp_tokens_load(gate->state_dir, &fresh, &line);
	if (rc) {
		tp_logf(TP_ERROR, "tokens not read: those read last stay in force", "path=\"%s\" line=%u error=\"%s\"", gate->path,
			line, strerror(-rc));
		return;
	}
	free(gate->tokens);
	gate->tokens = fresh;
}

enum ctl_verdict ctl_gate_judge(const struct tp_token *token, enum ctl_need need)
{
	switch (token->scope) {
	case TP_SCOPE_ADMIN:
		return CTL_MAY;
	case TP_SCOPE_READ:
		return need == CTL_NEED_ADMIN ? CTL_NARROW : CTL_MAY;
	case TP_SCOPE_READ_ADVERTISER:
		return need == CTL_NEED_OWN || need == CTL_NEED_NONE ? CTL_MAY : CTL_NARROW;
	default:
		return need == CTL_NEED_NONE ? CTL_MAY : CTL_NARROW;
	}
}

enum ctl_verdict ctl_gate_ask(struct ctl_gate *gate, const char *authorization, enum ctl_need need, struct tp_token *token)
{
	memset(token, 0, sizeof(*token));
	if (need == CTL_NEED_NONE)
		return CTL_MAY;
	if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
		return CTL_UNKNOWN;
	const char *text = authorization + 7 + strspn(authorization + 7, " ");
	pthread_mutex_lock(&gate->lock);
	refresh(gate);
	const struct tp_token *found = gate->tokens ? tp_token_find(gate->tokens, text, strlen(text), tp_now_ms()) : NULL;
	if (found)
		*token = *found;
	pthread_mutex_unlock(&gate->lock);
	return found ? ctl_gate_judge(token, need) : CTL_UNKNOWN;
}
