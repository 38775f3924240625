/*
 * Blocked prefixes as drop rules of a network card: see rules.h. Source: DPDK 22.11, "Generic flow API".
 */
#include "rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_errno.h>

enum { COUNT_ONLY_MAX = DP_RULES_COUNT_ONLY_MAX };

const struct dp_rules_ops dp_rules_card = {
	.validate = rte_flow_validate,
	.create = rte_flow_create,
	.destroy = rte_flow_destroy,
};

int dp_rules_init(struct dp_rules *rules, const struct dp_rules_ops *ops, uint16_t port)
{
	*rules = (struct dp_rules){.ops = ops, .port = port};
	rules->rule = calloc(DP_RULES_MAX, sizeof(*rules->rule));
	rules->next = calloc(DP_RULES_MAX, sizeof(*rules->next));
	if (rules->rule != NULL && rules->next != NULL)
		return 0;
	dp_rules_fini(rules);
	return -ENOMEM;
}

void dp_rules_fini(struct dp_rules *rules)
{
	struct rte_flow_error error;

	for (uint32_t i = 0; i < rules->count; i++)
		rules->ops->destroy(rules->port, rules->rule[i].flow, &error);
	free(rules->rule);
	free(rules->next);
	*rules = (struct dp_rules){0};
}

static int prefix_order(const struct tp_prefix *a, const struct tp_prefix *b)
{
	const int bytes = memcmp(a->addr.byte, b->addr.byte, sizeof(a->addr.byte));

	if (bytes != 0)
		return bytes;
	if (a->addr.family != b->addr.family)
		return (int)a->addr.family - (int)b->addr.family;
	return (int)a->bits - (int)b->bits;
}

static int rule_order(const void *a, const void *b)
{
	return prefix_order(&((const struct dp_rule *)a)->prefix, &((const struct dp_rule *)b)->prefix);
}

static void mask_set(uint8_t *mask, uint32_t bits)
{
	for (; bits >= 8; bits -= 8)
		*mask++ = 0xff;
	if (bits > 0)
		*mask = (uint8_t)(0xff00 >> bits);
}

/* Asks the card, then tells it. NULL: it will not, and *error says why. */
static struct rte_flow *rule_make(struct dp_rules *rules, const struct tp_prefix *prefix, int *error)
{
	const bool four = prefix->addr.family == 4;
	struct rte_flow_item_ipv4 v4 = {0}, v4_mask = {0};
	struct rte_flow_item_ipv6 v6 = {0}, v6_mask = {0};
	const struct rte_flow_attr attr = {.ingress = 1};
	const struct rte_flow_item pattern[] = {
		{.type = RTE_FLOW_ITEM_TYPE_ETH},
		four ? (struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &v4, .mask = &v4_mask}
		     : (struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_IPV6, .spec = &v6, .mask = &v6_mask},
		{.type = RTE_FLOW_ITEM_TYPE_END},
	};
	const struct rte_flow_action actions[] = {{.type = RTE_FLOW_ACTION_TYPE_DROP}, {.type = RTE_FLOW_ACTION_TYPE_END}};
	struct rte_flow_error why = {0};
	struct rte_flow *flow;

	if (four) {
		memcpy(&v4.hdr.src_addr, prefix->addr.byte + 12, 4);
		mask_set((uint8_t *)&v4_mask.hdr.src_addr, prefix->bits);
		v4.hdr.src_addr &= v4_mask.hdr.src_addr;
	} else {
		memcpy(v6.hdr.src_addr, prefix->addr.byte, 16);
		mask_set(v6_mask.hdr.src_addr, prefix->bits);
		for (uint32_t i = 0; i < 16; i++)
			v6.hdr.src_addr[i] &= v6_mask.hdr.src_addr[i];
	}
	*error = rules->ops->validate(rules->port, &attr, pattern, actions, &why);
	if (*error != 0)
		return NULL;
	flow = rules->ops->create(rules->port, &attr, pattern, actions, &why);
	if (flow == NULL)
		*error = rte_errno != 0 ? -rte_errno : -EIO;
	return flow;
}

static bool holds(const struct eb_block *outer, const struct eb_block *inner)
{
	return outer->prefix.addr.family == inner->prefix.addr.family && outer->prefix.bits <= inner->prefix.bits &&
	       tp_prefix_has(&outer->prefix, &inner->prefix.addr);
}

/* Fills rules->next with what the card may drop. Returns 0, 1 (some are left out) or -ENOSPC. */
static int rules_choose(struct dp_rules *rules, const struct eb_block *list, uint32_t count, uint32_t *wanted)
{
	uint32_t counting = 0;
	int result = 0;

	*wanted = 0;
	for (uint32_t i = 0; i < count; i++)
		if (list[i].count_only && counting++ < COUNT_ONLY_MAX)
			rules->counting[counting - 1] = &list[i];
	if (counting > 0)
		result = 1;
	if (counting > COUNT_ONLY_MAX)
		return result; /* too many to look through: all is the rx cores' */
	for (uint32_t i = 0; i < count; i++) {
		bool around = list[i].count_only;

		if (*wanted == DP_RULES_MAX)
			return -ENOSPC;
		for (uint32_t k = 0; k < counting && !around; k++)
			around = holds(&list[i], rules->counting[k]);
		if (!around)
			rules->next[(*wanted)++] = (struct dp_rule){.prefix = list[i].prefix};
	}
	return result;
}

int dp_rules_apply(struct dp_rules *rules, const struct eb_block *list, uint32_t count)
{
	struct rte_flow_error ignored;
	uint32_t old = 0, made = 0, wanted;
	int result;

	if (rules->unable)
		return count > 0 ? -ENOTSUP : 0;
	result = rules_choose(rules, list, count, &wanted);
	qsort(rules->next, wanted, sizeof(*rules->next), rule_order);
	for (uint32_t i = 0; i < wanted; i++) {
		struct dp_rule *rule = &rules->next[i];

		if (i > 0 && rule_order(rule, rule - 1) == 0)
			continue; /* the same once more */
		while (old < rules->count && rule_order(&rules->rule[old], rule) < 0)
			old++;
		if (old < rules->count && rule_order(&rules->rule[old], rule) == 0) {
			rule->flow = rules->rule[old].flow;
			rules->rule[old].flow = NULL; /* it stays */
			continue;
		}
		if (result >= 0 || result == -ENOSPC) {
			int error;

			rule->flow = rule_make(rules, &rule->prefix, &error);
			if (rule->flow == NULL)
				result = error;
		}
	}
	for (uint32_t i = 0; i < rules->count; i++)
		if (rules->rule[i].flow != NULL)
			rules->ops->destroy(rules->port, rules->rule[i].flow, &ignored);
	for (uint32_t i = 0; i < wanted; i++)
		if (rules->next[i].flow != NULL)
			rules->next[made++] = rules->next[i];
	struct dp_rule *swap = rules->rule;
	rules->rule = rules->next;
	rules->next = swap;
	rules->count = made;
	if (made == 0 && (result == -ENOTSUP || result == -ENOSYS || result == -EINVAL)) {
		rules->unable = true; /* refused the very first one: such a rule is beyond it */
		return -ENOTSUP;
	}
	return result;
}
