/*
 * The node's side of the fraud rules: loads them at start and at a reload (main thread), gives them to the shards, and hears what the
 * rules have to tell (command thread): attackers for the blocklist, publishers for people.
 *
 * A reload builds the new rules beside the old ones; the shards take them with their next event; the old ones go once every core has
 * finished the round that it was in. Rules that cannot be built leave the old ones in force.
 */
#include "node.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SIGNALS_A_TICK = 64 };

static int rules_make(struct dp_node *node, const struct tp_config_fraud *config, struct rul_rules **rules)
{
	const struct rul_options options = {.config = config, .listed = dp_blocklist_listed, .listed_context = node->blocklist};
	return rul_load(rules, &options);
}

static void rules_give(struct dp_node *node, struct rul_rules *rules)
{
	const struct agg_fraud_rules *compiled = rul_compiled(rules);
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		agg_fraud_rules_set(node->fraud[s], compiled);
	atomic_store_explicit(&node->attacker_ttl_ms, node->config.fraud.blocklist_ttl_ms, memory_order_relaxed);
	atomic_store_explicit(&node->attacker_count_only, node->config.fraud.blocklist_count_only, memory_order_relaxed);
	node->rules = rules;
	atomic_store_explicit(&node->live->rule_version, compiled->version, memory_order_relaxed);
	tp_logf(TP_INFO, "fraud rules", "rule_version=%u", compiled->version);
}

int dp_fraud_rules_load(struct dp_node *node)
{
	struct rul_rules *rules;
	int rc = rules_make(node, &node->config.fraud, &rules);
	if (!rc)
		rules_give(node, rules);
	return rc;
}

int dp_fraud_rules_reload(struct dp_node *node, struct tp_config_fraud *fresh)
{
	struct rul_rules *rules, *old = node->rules;
	int rc = rules_make(node, fresh, &rules);
	if (rc)
		return rc;
	const struct tp_config_fraud before = node->config.fraud;
	node->config.fraud = *fresh;
	*fresh = before; /* the caller frees it with the rest */
	rules_give(node, rules);
	/* a core may still be judging by the old ones */
	dp_cores_synchronize(node);
	rul_free(old);
	return 0;
}

void dp_fraud_rules_free(struct dp_node *node)
{
	rul_free(node->rules);
	node->rules = NULL;
}

/* ---- signals: the command thread ---- */

static void attacker_block(struct dp_node *node, const struct agg_signal *signal)
{
	struct tp_prefix prefix = {.addr = tp_addr_v6(signal->ip)};
	char text[TP_PREFIX_TEXT_BYTES], reason[96];
	prefix.bits = prefix.addr.family == 4 ? 32 : 128;
	tp_prefix_text(&prefix, text);
	if (dp_blocklist_listed(node->blocklist, &prefix.addr))
		return;
	const uint64_t now_ms = tp_now_ms(), ttl_ms = atomic_load_explicit(&node->attacker_ttl_ms, memory_order_relaxed);
	const bool count_only = atomic_load_explicit(&node->attacker_count_only, memory_order_relaxed);
	snprintf(reason, sizeof(reason), "ip_velocity: %" PRIu64 " clicks in the hour, limit %u", signal->seen, signal->limit);
	int rc = dp_blocklist_add(node->blocklist, &prefix, now_ms, now_ms + ttl_ms, count_only, reason);
	if (rc) {
		tp_logf(TP_WARN, "an attacker's address does not go on the blocklist", "address=%s error=\"%s\"", text,
			strerror(-rc));
		return;
	}
	TP_COUNT(&node->counters, FRAUD_ATTACKERS);
	tp_logf(TP_WARN, "an attacker's address goes on the blocklist",
		"address=%s clicks=%" PRIu64 " limit=%u ttl_ms=%" PRIu64 " count_only=%d", text, signal->seen, signal->limit,
		ttl_ms, count_only);
}

/* Text of clients in a log line: what could end or forge one does not get in. */
static void plain_copy(char *to, size_t to_bytes, const char *text, size_t bytes)
{
	size_t used = 0;
	for (size_t i = 0; i < bytes && used + 1 < to_bytes; i++)
		to[used++] = (uint8_t)text[i] < ' ' || text[i] == '"' || text[i] == '\\' || text[i] == 0x7f ? '?' : text[i];
	to[used] = 0;
}

static void publisher_alert(struct dp_node *node, const struct agg_signal *signal)
{
	struct tp_live_alert alert = {.told_ms = tp_now_ms(),
				      .window_ms = signal->when_ms,
				      .seen = (uint32_t)signal->seen,
				      .usual = (uint32_t)signal->usual};
	plain_copy(alert.publisher, sizeof(alert.publisher), signal->text, signal->text_bytes);
	/* each shard tells what it sees: one alert for a publisher and a window */
	for (uint32_t i = 0; i < TP_LIVE_ALERTS; i++)
		if (node->live->alert[i].window_ms == alert.window_ms &&
		    strcmp(node->live->alert[i].publisher, alert.publisher) == 0)
			return;
	TP_COUNT(&node->counters, FRAUD_ALERTS);
	tp_live_alert_add(node->live, &alert);
	tp_logf(TP_WARN, "a publisher's click-through rate has left its history",
		"publisher=\"%s\" rate_millionths=%u usual_millionths=%u window_ms=%" PRIu64, alert.publisher, alert.seen,
		alert.usual, alert.window_ms);
}

void dp_fraud_signals(struct dp_node *node)
{
	struct agg_signal signal;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		for (uint32_t n = 0; n < SIGNALS_A_TICK && agg_fraud_signal_take(node->fraud[s], &signal); n++) {
			if (signal.kind == AGG_SIGNAL_ATTACKER)
				attacker_block(node, &signal);
			else
				publisher_alert(node, &signal);
		}
	}
}
