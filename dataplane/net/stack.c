/*
 * The face of the network stack: create, frames in, flush, timers, drain. One rx core enters it; create and destroy are cold.
 *
 * A loop round of the caller: dp_stack_input() for each frame of the burst, then dp_stack_flush(), then dp_stack_tick(). Answers
 * that the app gives later (ops->send outside a frame) leave with the next flush, so flush is called in every round, frames or not.
 */
#include "net.h"
#include "tcp.h"

#include <errno.h>
#include <stdlib.h>

enum { MTU_MIN = 576 };

static void clock_set(struct dp_stack *stack, uint64_t now_ns)
{
	if (now_ns <= stack->now_ns)
		return;
	stack->now_ns = now_ns;
	stack->now_ms = now_ns / 1000000; /* by a constant: a multiplication */
}

/* RFC 4291 section 2.5.6 and appendix A: fe80::/64 with the MAC as EUI-64. */
static struct dp_local link_local(const uint8_t mac[6])
{
	struct dp_local local = {.bits = 64};
	uint8_t bytes[16] = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
	local.addr = dp_addr_from6(bytes);
	return local;
}

int dp_local_configured(const struct dp_stack *stack, const struct tp_addr *addr)
{
	for (uint32_t i = 0; i < stack->locals; i++)
		if (dp_addr_same(&stack->local[i].addr, addr))
			return (int)i;
	return -1;
}

int dp_local_find(const struct dp_stack *stack, const struct tp_addr *addr)
{
	int local = dp_local_configured(stack, addr);
	return local >= 0 && stack->local[local].claim == DP_CLAIM_TAKEN ? -1 : local;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, uint32_t bits)
{
	uint32_t whole = bits / 8, rest = bits % 8;
	if (memcmp(a, b, whole))
		return false;
	return !rest || !((a[whole] ^ b[whole]) & (0xff00 >> rest) & 0xff);
}

int dp_local_onlink(const struct dp_stack *stack, const struct tp_addr *addr)
{
	for (uint32_t i = 0; i < stack->locals; i++) {
		const struct dp_local *local = &stack->local[i];
		uint32_t bits = local->bits + (local->addr.family == 4 ? 96U : 0U);
		if (local->addr.family == addr->family && same_bits(local->addr.byte, addr->byte, bits))
			return (int)i;
	}
	return -1;
}

bool dp_blocked(struct dp_stack *stack, const struct dp_packet *packet, uint8_t protocol)
{
	if (!stack->options.blocked(stack->options.blocked_context, &packet->peer))
		return false;
	if (protocol == DP_PROTOCOL_TCP)
		dp_tcp_blocked(stack, packet);
	return true;
}

static int options_check(const struct dp_stack_options *options)
{
	if (options->mtu < MTU_MIN || options->address_count == 0 || options->address_count > DP_LOCALS_MAX - 1)
		return -EINVAL;
	if (!options->connections_max || options->connections_max > 1 << 24 || !options->counters)
		return -EINVAL;
	for (uint32_t i = 0; i < options->address_count; i++) {
		const struct tp_prefix *prefix = &options->address[i];
		if (prefix->addr.family != 4 && prefix->addr.family != 6)
			return -EINVAL;
		if (prefix->bits > (prefix->addr.family == 4 ? 32 : 128))
			return -EINVAL;
		if (prefix->addr.family == 6 && options->mtu < 1280) /* RFC 8200 section 5 */
			return -EINVAL;
	}
	return 0;
}

int dp_stack_create(struct dp_stack **made, const struct dp_stack_options *options)
{
	int error = options_check(options);
	if (error)
		return error;
	struct dp_stack *stack = calloc(1, sizeof(*stack));
	if (!stack)
		return -ENOMEM;
	stack->options = *options;
	stack->options.address = NULL; /* copied below; the caller's may go */
	stack->options.gateway = NULL;
	for (uint32_t i = 0; i < options->address_count; i++)
		stack->local[stack->locals++] =
			(struct dp_local){.addr = options->address[i].addr, .bits = options->address[i].bits};
	stack->local[stack->locals++] = link_local(options->mac);
	static const uint64_t label[2] = {0x6973, 0x6e};
	stack->secret_isn[0] = dp_siphash24(options->secret, label, 1);
	stack->secret_isn[1] = dp_siphash24(options->secret, label, 2);
	dp_wheel_init(&stack->wheel, 0);
	stack->gateway = calloc(options->gateway_count + 1, sizeof(*stack->gateway));
	error = stack->gateway ? 0 : -ENOMEM;
	if (!error && options->gateway_count)
		memcpy(stack->gateway, options->gateway, options->gateway_count * sizeof(*stack->gateway));
	if (!error)
		error = dp_neighbours_create(stack);
	if (!error)
		error = dp_tcp_create(stack);
	if (error) {
		dp_stack_destroy(stack);
		return error;
	}
	if (options->claim)
		dp_claim_start(stack);
	*made = stack;
	return 0;
}

void dp_stack_destroy(struct dp_stack *stack)
{
	if (!stack)
		return;
	dp_tcp_destroy(stack);
	dp_neighbours_destroy(stack);
	free(stack->gateway);
	free(stack);
}

/* Verdicts that say "not for us", and not "broken" or "not wanted". */
static bool belongs_elsewhere(enum tp_counter why)
{
	return why == TP_C_FRAMES_NOT_OURS || why == TP_C_FRAMES_BAD_ETHERTYPE || why == TP_C_FRAMES_BAD_VLAN ||
	       why == TP_C_FRAMES_BAD_PROTOCOL || why == TP_C_FRAMES_UNKNOWN_PORT || why == TP_C_FRAMES_FRAGMENT ||
	       why == TP_C_FRAMES_BAD_ARP || why == TP_C_FRAMES_BAD_ICMP;
}

enum tp_counter dp_stack_input_checked(struct dp_stack *stack, const uint8_t *frame, size_t bytes, uint32_t checked,
				       uint64_t now_ns)
{
	clock_set(stack, now_ns);
	TP_COUNT(dp_counters(stack), FRAMES_RECEIVED);
	stack->round_frames++;
	stack->checked = checked;
	enum tp_counter end = dp_eth_input(stack, frame, bytes);
	if (end != TP_C_FRAMES_ACCEPTED && stack->options.pass && belongs_elsewhere(end))
		end = stack->options.pass(stack->options.context, frame, bytes, end);
	dp_counters(stack)->v[end]++;
	return end;
}

enum tp_counter dp_stack_input(struct dp_stack *stack, const uint8_t *frame, size_t bytes, uint64_t now_ns)
{
	return dp_stack_input_checked(stack, frame, bytes, 0, now_ns);
}

void dp_stack_overhear(struct dp_stack *stack, const uint8_t *frame, size_t bytes, uint64_t now_ns)
{
	clock_set(stack, now_ns);
	stack->checked = 0;
	dp_eth_input(stack, frame, bytes);
}

void dp_stack_flush(struct dp_stack *stack, uint64_t now_ns)
{
	clock_set(stack, now_ns);
	dp_tcp_flush(stack->tcp);
	if (stack->round_frames >= DP_ROUND_CROWDED)
		stack->crowded_until_ns = stack->now_ns + DP_CROWDED_NS;
	stack->round_frames = 0;
}

static void fire(void *context, struct dp_wheel_node *node)
{
	struct dp_stack *stack = context;
	if (node->kind == DP_TIMER_CONN)
		dp_conn_timer((struct dp_conn *)(void *)((char *)node - offsetof(struct dp_conn, timer)));
	else if (node->kind == DP_TIMER_CLAIM)
		dp_claim_timer(stack);
	else
		dp_half_timer(stack, (struct dp_mini *)(void *)((char *)node - offsetof(struct dp_mini, timer)));
}

uint32_t dp_stack_tick(struct dp_stack *stack, uint64_t now_ns)
{
	clock_set(stack, now_ns);
	if (stack->now_ns >> DP_WHEEL_TICK_BITS == stack->wheel.tick)
		return 0;
	uint32_t fired = dp_wheel_advance(&stack->wheel, stack->now_ns, fire, stack);
	fired += dp_wait_expire(stack->tcp);
	if (fired)
		dp_tcp_flush(stack->tcp);
	return fired;
}

uint32_t dp_stack_drain(struct dp_stack *stack, uint64_t now_ns)
{
	clock_set(stack, now_ns);
	stack->draining = true;
	return dp_tcp_drain(stack->tcp);
}

uint32_t dp_stack_connections(const struct dp_stack *stack)
{
	return stack->tcp->conns;
}
