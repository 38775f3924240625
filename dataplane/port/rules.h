/*
 * The blocklist as drop rules inside a network card (rte_flow), where the card takes them. Command thread; the functions of the
 * card are a table, so that tests can stand in for it.
 *
 *   apply(list) ─ create what is new ─ destroy what has gone ─► 0: the card drops all of the list, the rx cores need not look
 *                                                             else: it drops a part; the rx cores look everything up
 *
 * A count-only entry, and a dropping prefix around one, stay with the rx cores: the longest prefix decides, and the card would not ask.
 *
 * New rules are in force before old ones go, so a prefix that stays listed is never let through in between.
 */
#ifndef TURNPIKE_RULES_H
#define TURNPIKE_RULES_H

#include "turnpike/xdp.h"

#include <rte_flow.h>

enum { DP_RULES_MAX = 4096, DP_RULES_COUNT_ONLY_MAX = 1024 };

struct dp_rules_ops {
	int (*validate)(uint16_t port, const struct rte_flow_attr *attr, const struct rte_flow_item pattern[],
			const struct rte_flow_action actions[], struct rte_flow_error *error);
	struct rte_flow *(*create)(uint16_t port, const struct rte_flow_attr *attr, const struct rte_flow_item pattern[],
				   const struct rte_flow_action actions[], struct rte_flow_error *error);
	int (*destroy)(uint16_t port, struct rte_flow *flow, struct rte_flow_error *error);
};

extern const struct dp_rules_ops dp_rules_card; /* rte_flow_validate() and so on */

struct dp_rule {
	struct tp_prefix prefix;
	struct rte_flow *flow;
};

struct dp_rules {
	const struct dp_rules_ops *ops;
	uint16_t port;
	bool unable; /* the card takes no such rule at all: not asked again */
	uint32_t count;
	struct dp_rule *rule, *next;                              /* DP_RULES_MAX each, sorted by prefix */
	const struct eb_block *counting[DP_RULES_COUNT_ONLY_MAX]; /* scratch of one call */
};

int dp_rules_init(struct dp_rules *rules, const struct dp_rules_ops *ops, uint16_t port); /* 0 or -ENOMEM */
/* Destroys what is in force. */
void dp_rules_fini(struct dp_rules *rules);
/*
 * 0: the card drops all that the list drops, and nothing is only counted. 1: some entries are left to the rx cores, as said above.
 * -ENOTSUP: the card cannot. -ENOSPC or another -errno: only rules->count of the list are in force.
 */
int dp_rules_apply(struct dp_rules *rules, const struct eb_block *list, uint32_t count);

#endif
