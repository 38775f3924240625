/* Drop rules of a card: a stand-in card with room for so many rules, which refuses what it is told to. */
#include "rules.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <rte_errno.h>

enum { CARD_MAX = 8 };

struct rte_flow {
	uint32_t source, mask; /* host order; version 6: the first four bytes */
	bool six;
};

static struct {
	struct rte_flow rule[CARD_MAX];
	bool taken[CARD_MAX];
	uint32_t room;
	int refuse;                                    /* what validate says */
	uint32_t validated, created, destroyed, least; /* least: fewest rules in force since last looked */
} card;

static uint32_t in_force(void)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < CARD_MAX; i++)
		count += card.taken[i];
	return count;
}

static bool drops(uint32_t source)
{
	for (uint32_t i = 0; i < CARD_MAX; i++)
		if (card.taken[i] && !card.rule[i].six && (source & card.rule[i].mask) == card.rule[i].source)
			return true;
	return false;
}

static int validate(uint16_t port, const struct rte_flow_attr *attr, const struct rte_flow_item pattern[],
		    const struct rte_flow_action actions[], struct rte_flow_error *error)
{
	(void)error;
	assert_int_equal(port, 3);
	assert_true(attr->ingress);
	assert_int_equal(pattern[0].type, RTE_FLOW_ITEM_TYPE_ETH);
	assert_int_equal(pattern[2].type, RTE_FLOW_ITEM_TYPE_END);
	assert_int_equal(actions[0].type, RTE_FLOW_ACTION_TYPE_DROP);
	card.validated++;
	return card.refuse;
}

static struct rte_flow *create(uint16_t port, const struct rte_flow_attr *attr, const struct rte_flow_item pattern[],
			       const struct rte_flow_action actions[], struct rte_flow_error *error)
{
	(void)port, (void)attr, (void)actions, (void)error;
	if (in_force() >= card.room) {
		rte_errno = ENOSPC;
		return NULL;
	}
	for (uint32_t i = 0; i < CARD_MAX; i++) {
		struct rte_flow *rule = &card.rule[i];
		if (card.taken[i])
			continue;
		card.taken[i] = true;
		card.created++;
		rule->six = pattern[1].type == RTE_FLOW_ITEM_TYPE_IPV6;
		if (!rule->six) {
			const struct rte_flow_item_ipv4 *spec = pattern[1].spec, *mask = pattern[1].mask;
			rule->source = __builtin_bswap32(spec->hdr.src_addr);
			rule->mask = __builtin_bswap32(mask->hdr.src_addr);
		}
		return rule;
	}
	return NULL;
}

static int destroy(uint16_t port, struct rte_flow *flow, struct rte_flow_error *error)
{
	(void)port, (void)error;
	assert_true(card.taken[flow - card.rule]);
	card.taken[flow - card.rule] = false;
	card.destroyed++;
	return 0;
}

static const struct dp_rules_ops ops = {validate, create, destroy};
static struct dp_rules rules;

static struct eb_block prefix(const char *text)
{
	struct eb_block made = {.count_only = text[0] == '#'};
	text += made.count_only;
	assert_int_equal(tp_prefix_parse(text, strlen(text), &made.prefix), 0);
	return made;
}

static int setup(void **state)
{
	(void)state;
	memset(&card, 0, sizeof(card));
	card.room = CARD_MAX;
	return dp_rules_init(&rules, &ops, 3);
}

static int teardown(void **state)
{
	(void)state;
	dp_rules_fini(&rules);
	return in_force() != 0;
}

static void only_what_changed_is_touched(void **state)
{
	const struct eb_block first[] = {prefix("192.0.2.0/24"), prefix("198.51.100.7"), prefix("2001:db8::/32")};
	const struct eb_block second[] = {prefix("198.51.100.7"), prefix("203.0.113.0/25"), prefix("203.0.113.0/25")};
	(void)state;
	assert_int_equal(dp_rules_apply(&rules, first, 3), 0);
	assert_int_equal(in_force(), 3);
	assert_true(drops(0xc0000201) && drops(0xc6336407));
	assert_false(drops(0xc0000301) || drops(0xc6336408));
	assert_int_equal(dp_rules_apply(&rules, second, 3), 0);
	assert_int_equal(in_force(), 2);
	assert_int_equal(card.created, 4);
	assert_int_equal(card.destroyed, 2);
	assert_true(drops(0xc6336407) && drops(0xcb00717f));
	assert_false(drops(0xc0000201) || drops(0xcb007180));
	assert_int_equal(dp_rules_apply(&rules, NULL, 0), 0);
	assert_int_equal(in_force(), 0);
}

static void a_card_that_cannot_is_asked_once(void **state)
{
	const struct eb_block list[] = {prefix("192.0.2.0/24"), prefix("198.51.100.7")};
	(void)state;
	card.refuse = -ENOTSUP;
	assert_int_equal(dp_rules_apply(&rules, list, 2), -ENOTSUP);
	assert_int_equal(card.validated, 1);
	assert_int_equal(dp_rules_apply(&rules, list, 2), -ENOTSUP);
	assert_int_equal(card.validated, 1);
	assert_int_equal(dp_rules_apply(&rules, NULL, 0), 0);
}

static void a_full_card_keeps_what_it_has(void **state)
{
	const struct eb_block list[] = {prefix("192.0.2.1"), prefix("192.0.2.2"), prefix("192.0.2.3")};
	(void)state;
	card.room = 2;
	assert_int_equal(dp_rules_apply(&rules, list, 3), -ENOSPC);
	assert_int_equal(in_force(), 2);
	assert_int_equal(rules.count, 2);
	/* once there is room, all of it */
	card.room = 3;
	assert_int_equal(dp_rules_apply(&rules, list, 3), 0);
	assert_int_equal(in_force(), 3);
	/* what leaves the list leaves the card, however full it is */
	card.room = 0;
	assert_int_equal(dp_rules_apply(&rules, list + 1, 2), 0);
	assert_false(drops(0xc0000201));
	assert_true(drops(0xc0000202) && drops(0xc0000203));
}

static void what_is_only_counted_stays_with_the_rx_cores(void **state)
{
	const struct eb_block list[] = {prefix("192.0.2.0/24"), prefix("#192.0.2.7"), prefix("198.51.100.0/24"), prefix("#::/0")};
	(void)state;
	assert_int_equal(dp_rules_apply(&rules, list, 4), 1);
	assert_int_equal(in_force(), 1);
	assert_true(drops(0xc6336401));
	assert_false(drops(0xc0000201));
	assert_int_equal(dp_rules_apply(&rules, list, 1), 0);
	assert_true(drops(0xc0000207));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_what_changed_is_touched, setup, teardown),
		cmocka_unit_test_setup_teardown(a_card_that_cannot_is_asked_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_card_keeps_what_it_has, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_only_counted_stays_with_the_rx_cores, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
