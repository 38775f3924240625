/*
 * Initial sequence numbers, timestamp offsets and SYN cookies. One rx core, no state but the secret.
 *
 * RFC 6528: ISN = M + F(local address, local port, peer address, peer port, secret), M a clock of about 4 µs. The local port is the
 * same for all of ours; it is left out.
 *
 * Cookie (RFC 4987 section 3.6), used when the half-open table is full:
 *
 *   31                    5 4   3 2        0
 *   │ hash(flow, ISN of peer, t) │ t mod 4 │ MSS index │        t: 2^36 ns = 69 s
 *
 * Accepted in its own epoch and the next, and only while cookies have been sent lately, so guessing 27 bits pays only during a
 * flood. The SYN-ACK of a cookie offers no options but the MSS: under a flood nobody needs SACK.
 */
#include "tcp.h"

enum { EPOCH_BITS = 36, HASH_MASK = ~31, MSS_STEPS = 8 };

static const uint16_t mss_steps[MSS_STEPS] = {216, 536, 1024, 1220, 1360, 1400, 1440, 1460};

static uint64_t flow_hash(const struct dp_stack *stack, const struct tp_addr *peer, uint16_t peer_port, uint32_t local,
			  uint64_t extra)
{
	uint64_t words[4];
	memcpy(words, peer->byte, 16);
	words[2] = (uint64_t)local << 16 | peer_port;
	words[3] = extra;
	return dp_siphash24(stack->secret_isn, words, 4);
}

uint32_t dp_tcp_isn(const struct dp_stack *stack, const struct tp_addr *peer, uint16_t peer_port, uint32_t local,
		    uint32_t *ts_offset)
{
	uint64_t hash = flow_hash(stack, peer, peer_port, local, UINT64_MAX);
	*ts_offset = (uint32_t)(hash >> 32);
	return (uint32_t)hash + (uint32_t)(stack->now_ns >> 12);
}

static uint32_t cookie(const struct dp_stack *stack, const struct dp_segment *segment, uint32_t irs, uint64_t epoch, uint32_t step)
{
	const struct dp_packet *packet = segment->packet;
	uint64_t extra = (epoch << 3 | step) << 32 | irs;
	uint64_t hash = flow_hash(stack, &packet->peer, segment->from_port, packet->local, extra & ~(1ULL << 63));
	return ((uint32_t)hash & (uint32_t)HASH_MASK) | (uint32_t)(epoch & 3) << 3 | step;
}

uint32_t dp_cookie_make(struct dp_stack *stack, const struct dp_segment *syn)
{
	uint32_t mss = syn->mss ? syn->mss : syn->packet->peer.family == 4 ? 536 : 1220, step = 0;
	while (step + 1 < MSS_STEPS && mss_steps[step + 1] <= mss)
		step++;
	stack->tcp->cookie_ns = stack->now_ns;
	return cookie(stack, syn, syn->seq, stack->now_ns >> EPOCH_BITS, step);
}

uint16_t dp_cookie_check(const struct dp_stack *stack, const struct dp_segment *ack)
{
	uint64_t sent_ns = stack->tcp->cookie_ns;
	if (!sent_ns || stack->now_ns - sent_ns > 2ULL << EPOCH_BITS)
		return 0;
	uint32_t value = ack->ack - 1, step = value & (MSS_STEPS - 1);
	uint64_t epoch = stack->now_ns >> EPOCH_BITS;
	if ((epoch & 3) != (value >> 3 & 3)) {
		if (!epoch)
			return 0;
		epoch--;
	}
	return cookie(stack, ack, ack->seq - 1, epoch, step) == value ? mss_steps[step] : 0;
}
