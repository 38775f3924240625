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
 * flood. When the SYN had a timestamp, the lowest bits of ours carry the rest of what was agreed on, and come back in the echo:
 *
 *   31                          5 4    3 2 1 0
 *   │ clock of the flow, rounded │ SACK │ scale │       scale 15: none
 *
 * They are not secret: a peer that changes them only changes what we think of itself. Without a timestamp a cookie offers the MSS
 * alone.
 */
#include "tcp.h"

enum {
	EPOCH_BITS = 36,
	HASH_MASK = ~31,
	MSS_STEPS = 8,
	SCALE_MASK = 15,
	NO_SCALE = 15,
	SACK_BIT = 16,
	STAMP_MASK = 31,
	AGE_MAX_MS = 2 * 68720 + STAMP_MASK, /* two epochs */
};

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

void dp_cookie_make(struct dp_stack *stack, const struct dp_segment *syn, struct dp_mini *made)
{
	uint32_t mss = syn->mss ? syn->mss : syn->packet->peer.family == 4 ? 536 : 1220, step = 0;
	while (step + 1 < MSS_STEPS && mss_steps[step + 1] <= mss)
		step++;
	stack->tcp->cookie_ns = stack->now_ns;
	made->iss = cookie(stack, syn, syn->seq, stack->now_ns >> EPOCH_BITS, step);
	if (!syn->timestamps)
		return;
	uint32_t offset;
	dp_tcp_isn(stack, &syn->packet->peer, syn->from_port, syn->packet->local, &offset);
	uint32_t now = dp_tcp_stamp(stack, offset), bits = (syn->scaling ? syn->shift : NO_SCALE) | (syn->sack ? SACK_BIT : 0);
	uint32_t stamp = (now & ~(uint32_t)STAMP_MASK) | bits;
	if (bits > (now & STAMP_MASK)) /* never ahead of the clock: later stamps would look old */
		stamp -= STAMP_MASK + 1;
	made->ts_offset = offset + (stamp - now);
	made->timestamps = true;
	made->ts_recent = syn->ts_value;
	made->sack = syn->sack;
	made->scaling = syn->scaling;
	made->shift = syn->shift;
}

/* What our timestamp said, if the echo is one that we can have sent within the cookie's life. */
static void stamp_read(const struct dp_stack *stack, const struct dp_segment *ack, struct dp_mini *cookie)
{
	dp_tcp_isn(stack, &ack->packet->peer, ack->from_port, ack->packet->local, &cookie->ts_offset);
	uint32_t age = dp_tcp_stamp(stack, cookie->ts_offset) - ack->ts_echo, scale = ack->ts_echo & SCALE_MASK;
	if (!ack->timestamps || age > AGE_MAX_MS)
		return;
	cookie->timestamps = true;
	cookie->ts_recent = ack->ts_value;
	cookie->sack = ack->ts_echo & SACK_BIT;
	cookie->scaling = scale != NO_SCALE;
	cookie->shift = cookie->scaling ? (uint8_t)scale : 0;
}

bool dp_cookie_check(const struct dp_stack *stack, const struct dp_segment *ack, struct dp_mini *made)
{
	uint64_t sent_ns = stack->tcp->cookie_ns;
	if (!sent_ns || stack->now_ns - sent_ns > 2ULL << EPOCH_BITS)
		return false;
	uint32_t value = ack->ack - 1, step = value & (MSS_STEPS - 1);
	uint64_t epoch = stack->now_ns >> EPOCH_BITS;
	if ((epoch & 3) != (value >> 3 & 3)) {
		if (!epoch)
			return false;
		epoch--;
	}
	if (cookie(stack, ack, ack->seq - 1, epoch, step) != value)
		return false;
	made->mss = mss_steps[step];
	stamp_read(stack, ack, made);
	return true;
}
