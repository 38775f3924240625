/*
 * Our addresses on the link: are they ours alone, and do all know where we are? One rx core; of several on a device, the first.
 * Source: RFC 5227 (IPv4), RFC 4862 section 5.4 and RFC 4429 (IPv6), RFC 4861 section 7.2.6 (announcements).
 *
 *   start ─► PROBING ──1 s of silence──► OURS: announced twice; whoever contradicts hears one announcement in 10 s
 *              │ somebody has it                (RFC 5227 section 2.4 (c): a server's address is not given up)
 *              ▼
 *            TAKEN: not answered for, frames to it are not ours ──probed again each 10 s, 1 s of silence──► OURS
 *
 * Probes (ms):  ARP at 0, 250, 500; a neighbour solicitation at 0; announcements at 1000 and 3000.
 *
 * PROBING serves already, as RFC 4429 allows: the addresses come from the configuration, a restart must not cost a second, and a
 * client's neighbour table mostly knows us from before. What it does not do meanwhile is override what others believe: no
 * announcement, and advertisements without the override flag. So a wrong configuration harms a live host for a second at most, and
 * is counted and told.
 *
 * A liar on the link can keep us off an address by answering our probes, but only if it is there when we start: later it only makes
 * us announce.
 */
#include "net.h"

enum { PROBES = 3, STEPS = 5 };

/* How long until the next step. */
static const uint16_t pause_ms[STEPS] = {250, 250, 500, 2000, 0};

#define MS_NS      1000000ULL
#define AGAIN_NS   10000000000ULL
#define DEFENCE_NS 10000000000ULL

static void timer_set(struct dp_stack *stack)
{
	uint64_t due = UINT64_MAX;
	for (uint32_t i = 0; i < stack->locals; i++)
		if (stack->local[i].claim_ns && stack->local[i].claim_ns < due)
			due = stack->local[i].claim_ns;
	if (due != UINT64_MAX)
		dp_wheel_set(&stack->wheel, &stack->claim_timer, due);
}

void dp_claim_start(struct dp_stack *stack)
{
	for (uint32_t i = 0; i < stack->locals; i++) {
		stack->local[i].claim = DP_CLAIM_PROBING;
		stack->local[i].claim_ns = 1; /* with the first tick */
	}
	stack->claim_timer.kind = DP_TIMER_CLAIM;
	timer_set(stack);
}

static void announce(struct dp_stack *stack, uint32_t local)
{
	if (stack->local[local].addr.family == 4)
		dp_arp_announce(stack, local);
	else
		dp_nd_announce(stack, local);
}

static void step(struct dp_stack *stack, uint32_t which)
{
	struct dp_local *local = &stack->local[which];
	if (local->claim_step < PROBES) {
		if (local->addr.family == 4)
			dp_arp_probe(stack, which);
		else if (!local->claim_step)
			dp_nd_probe(stack, which);
	} else {
		local->claim = DP_CLAIM_OURS;
		announce(stack, which);
	}
	uint64_t pause_ns = pause_ms[local->claim_step++] * MS_NS;
	local->claim_ns = pause_ns ? stack->now_ns + pause_ns : 0;
}

void dp_claim_timer(struct dp_stack *stack)
{
	/* Switches that watch multicast must know the groups before they carry a probe: RFC 4862 section 5.4.2. */
	if (stack->mld_reports < DP_MLD_ROBUSTNESS) {
		stack->mld_reports++;
		dp_mld_report(stack, true);
	}
	for (uint32_t i = 0; i < stack->locals; i++)
		if (stack->local[i].claim_ns && stack->local[i].claim_ns <= stack->now_ns)
			step(stack, i);
	timer_set(stack);
}

void dp_claim_conflict(struct dp_stack *stack, uint32_t which, const struct dp_link *link)
{
	struct dp_local *local = &stack->local[which];
	TP_COUNT(dp_counters(stack), ADDRESS_CONFLICTS);
	bool told = local->conflict_ns && stack->now_ns - local->conflict_ns < DEFENCE_NS;
	if (!told) {
		local->conflict_ns = stack->now_ns;
		if (stack->options.conflict)
			stack->options.conflict(stack->options.context, &local->addr, link->mac);
	}
	if (local->claim == DP_CLAIM_OURS) {
		if (!told)
			announce(stack, which);
		return;
	}
	if (local->claim == DP_CLAIM_UNASKED)
		return;
	local->claim = DP_CLAIM_TAKEN;
	local->claim_step = 0;
	/* Two that probe at once must not do so again together: the pause depends on who we are. */
	local->claim_ns = stack->now_ns + AGAIN_NS + (stack->secret_isn[0] & 1023) * MS_NS;
	timer_set(stack);
}
