/*
 * Who is where on the link: neighbours by ARP and ND, and the ways back of datagrams. One rx core, memory fixed at create.
 *
 * TCP needs neither: a connection remembers the link of its latest valid segment. A datagram's answer leaves after its events are
 * durable, when the frame is long gone, so:
 *   1. the return path: a direct-mapped cache of peer → link of its latest valid datagram. Right for on-link and off-link peers,
 *      with VLANs, without a question asked. A collision only evicts.
 *   2. else the neighbour entry of the peer, or of the gateway when the peer is off-link; when there is none, one question a
 *      second is asked and this answer is lost (the client repeats the batch, and by then the neighbour has answered).
 *
 * Belief (RFC 826 believes anything; RFC 4861 section 7.2.5 has the states):
 *      ─ask→ ASKED ─answer→ KNOWN ──30 s without confirmation→ stale: used, asked again, another MAC may take over
 *      ─request for us────→ KNOWN
 * While an entry is fresh a message with another MAC is refused, whoever sends it. An answer that nobody asked for creates nothing.
 */
#include "net.h"

#include <errno.h>
#include <stdlib.h>

enum { WAYS = 4, SETS = 128, RETURN_PATHS = 8192 };
#define FRESH_NS   30000000000ULL
#define ASK_GAP_NS 1000000000ULL

enum state { EMPTY, ASKED, KNOWN };

struct neighbour {
	struct tp_addr addr;
	uint8_t state; /* enum state */
	struct dp_link link;
	uint64_t confirmed_ns, asked_ns;
};

struct return_path {
	uint8_t peer[16];
	struct dp_link link;
};

struct dp_neighbours {
	struct neighbour table[SETS][WAYS];
	struct return_path path[RETURN_PATHS];
};

int dp_neighbours_create(struct dp_stack *stack)
{
	stack->neighbours = malloc(sizeof(*stack->neighbours));
	if (!stack->neighbours)
		return -ENOMEM;
	memset(stack->neighbours, 0, sizeof(*stack->neighbours));
	return 0;
}

void dp_neighbours_destroy(struct dp_stack *stack)
{
	free(stack->neighbours);
}

static uint64_t hash(const struct dp_stack *stack, const struct tp_addr *addr)
{
	uint64_t words[2];
	memcpy(words, addr->byte, 16);
	return dp_siphash13(stack->options.secret, words, 2);
}

static struct neighbour *find(struct dp_stack *stack, const struct tp_addr *addr)
{
	struct neighbour *set = stack->neighbours->table[hash(stack, addr) & (SETS - 1)];
	for (int i = 0; i < WAYS; i++)
		if (set[i].state != EMPTY && dp_addr_same(&set[i].addr, addr))
			return &set[i];
	return NULL;
}

/* An empty place, else the one that was confirmed longest ago. Strangers can only push out, never grow. */
static struct neighbour *take(struct dp_stack *stack, const struct tp_addr *addr)
{
	struct neighbour *set = stack->neighbours->table[hash(stack, addr) & (SETS - 1)];
	struct neighbour *oldest = &set[0];
	for (int i = 0; i < WAYS; i++) {
		if (set[i].state == EMPTY) {
			oldest = &set[i];
			break;
		}
		if (set[i].confirmed_ns < oldest->confirmed_ns)
			oldest = &set[i];
	}
	*oldest = (struct neighbour){.addr = *addr};
	return oldest;
}

bool dp_neighbour_learn(struct dp_stack *stack, const struct tp_addr *addr, const struct dp_link *link, enum dp_hint hint)
{
	struct neighbour *entry = find(stack, addr);
	if (!entry) {
		if (hint != DP_HINT_REQUEST)
			return false;
		entry = take(stack, addr);
	}
	bool fresh = entry->state == KNOWN && stack->now_ns - entry->confirmed_ns < FRESH_NS;
	bool same = entry->state == KNOWN && !memcmp(&entry->link, link, sizeof(*link));
	if (fresh && !same)
		return false;
	if (hint == DP_HINT_UNASKED && !same)
		return false;
	entry->state = KNOWN;
	entry->link = *link;
	entry->confirmed_ns = stack->now_ns;
	return true;
}

void dp_return_path_note(struct dp_stack *stack, const struct tp_addr *peer, const struct dp_link *link)
{
	struct return_path *path = &stack->neighbours->path[hash(stack, peer) & (RETURN_PATHS - 1)];
	memcpy(path->peer, peer->byte, 16);
	path->link = *link;
}

bool dp_route(struct dp_stack *stack, const struct tp_addr *peer, struct dp_link *link)
{
	const struct return_path *path = &stack->neighbours->path[hash(stack, peer) & (RETURN_PATHS - 1)];
	if (!memcmp(path->peer, peer->byte, 16)) {
		*link = path->link;
		return true;
	}
	const struct tp_addr *hop = peer;
	int local = dp_local_onlink(stack, hop);
	for (uint32_t i = 0; local < 0 && i < stack->options.gateway_count; i++) {
		if (stack->gateway[i].family != peer->family)
			continue;
		hop = &stack->gateway[i];
		local = dp_local_onlink(stack, hop);
	}
	if (local < 0)
		return false;
	struct neighbour *entry = find(stack, hop);
	if (!entry) {
		entry = take(stack, hop);
		entry->state = ASKED;
	}
	bool known = entry->state == KNOWN;
	if (known)
		*link = entry->link;
	bool ask = !known || stack->now_ns - entry->confirmed_ns >= FRESH_NS;
	if (ask && (!entry->asked_ns || stack->now_ns - entry->asked_ns >= ASK_GAP_NS)) {
		entry->asked_ns = stack->now_ns;
		if (hop->family == 4)
			dp_arp_ask(stack, (uint32_t)local, hop);
		else
			dp_nd_ask(stack, (uint32_t)local, hop);
	}
	return known;
}
