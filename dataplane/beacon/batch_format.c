/*
 * The UDP batch format, datagram level: what comes before the events, and the acknowledgement. See batch_format.h for the picture.
 *
 * Entered by rx cores with foreign bytes; no state. Invariants: no answer is larger than its batch; a datagram that passes
 * dp_batch_open() can be walked event by event without another bounds check on the event lengths.
 * Source: docs/protocol.md; RFC 3720 appendix B.4 (CRC-32C).
 */
#include "batch_format.h"

#include <nmmintrin.h>

static_assert(DP_BATCH_BYTES_MIN >= DP_BATCH_ACK_BYTES, "the plain answer is never larger than a batch");
static_assert(sizeof(struct dp_batch_reject) == DP_BATCH_REJECT_BYTES, "the wire format of a listed reject");

/* The codes of listed rejects are on the wire: docs/protocol.md has them as numbers. */
static_assert(TP_MALFORMED == 1 && TP_MISSING_FIELD == 2 && TP_BAD_TYPE == 3 && TP_BAD_VALUE == 4 && TP_TOO_LONG == 5, "wire");
static_assert(TP_DUPLICATE_KEY == 6 && TP_BAD_UTF8 == 7 && TP_FUTURE == 8 && TP_TOO_LARGE == 9, "wire");
static_assert(TP_FIELD_EVENT_ID == 1 && TP_FIELD_DEVICE_ID == 9 && TP_FIELD_IP_ADDRESS == 10 && TP_FIELD_COUNTRY == 14, "wire");
static_assert(TP_FIELD_DEVICE_TYPE == 17 && TP_FIELD_CURRENCY == 19 && TP_FIELD_TRACE == 23, "wire");

uint32_t dp_crc32c(uint32_t crc, const void *bytes, size_t count)
{
	const uint8_t *at = bytes;
	uint64_t c = (uint32_t)~crc;
	for (; count >= 8; at += 8, count -= 8)
		c = _mm_crc32_u64(c, dp_batch_u64(at));
	uint32_t tail = (uint32_t)c;
	for (; count > 0; at++, count--)
		tail = _mm_crc32_u8(tail, *at);
	return ~tail;
}

/* Of a whole datagram, its checksum field taken as zero. */
static uint32_t datagram_checksum(const uint8_t *bytes, size_t count)
{
	static const uint8_t zero[4];
	uint32_t crc = dp_crc32c(0, bytes, DP_BATCH_AT_CHECKSUM);
	crc = dp_crc32c(crc, zero, sizeof zero);
	return dp_crc32c(crc, bytes + DP_BATCH_HEADER_BYTES, count - DP_BATCH_HEADER_BYTES);
}

enum dp_batch_fault dp_batch_open(const uint8_t *bytes, size_t count, struct dp_batch *batch)
{
	/* the version comes first: another one may have another size, other checks, anything but another place for the version */
	if (count <= DP_BATCH_AT_VERSION || memcmp(bytes, dp_batch_magic, sizeof dp_batch_magic) != 0)
		return DP_BATCH_MALFORMED;
	if (bytes[DP_BATCH_AT_VERSION] != DP_BATCH_VERSION)
		return DP_BATCH_BAD_VERSION;
	if (count < DP_BATCH_BYTES_MIN || count > DP_BATCH_BYTES_MAX || bytes[DP_BATCH_AT_KIND] != DP_BATCH_KIND_EVENTS ||
	    dp_batch_u16(bytes + DP_BATCH_AT_BYTES) != count)
		return DP_BATCH_MALFORMED;
	batch->checksum = dp_batch_u32(bytes + DP_BATCH_AT_CHECKSUM);
	if (datagram_checksum(bytes, count) != batch->checksum)
		return DP_BATCH_BAD_CHECKSUM;

	uint16_t flags = dp_batch_u16(bytes + DP_BATCH_AT_FLAGS);
	if (flags & ~DP_BATCH_FLAG_TAG)
		return DP_BATCH_MALFORMED;
	batch->source = dp_batch_u64(bytes + DP_BATCH_AT_SOURCE);
	batch->number = dp_batch_u64(bytes + DP_BATCH_AT_NUMBER);
	batch->bytes = (uint16_t)count;
	batch->events = dp_batch_u16(bytes + DP_BATCH_AT_EVENTS);
	batch->events_at = DP_BATCH_HEADER_BYTES + (flags & DP_BATCH_FLAG_TAG ? DP_BATCH_TAG_BYTES : 0);
	if (batch->events == 0)
		return DP_BATCH_MALFORMED;

	size_t at = batch->events_at;
	for (uint32_t i = 0; i < batch->events; i++) {
		if (count - at < DP_BATCH_EVENT_FIXED_BYTES)
			return DP_BATCH_MALFORMED;
		uint16_t event_bytes = dp_batch_u16(bytes + at + DP_BATCH_EVENT_AT_BYTES);
		if (event_bytes < DP_BATCH_EVENT_FIXED_BYTES || event_bytes > count - at)
			return DP_BATCH_MALFORMED;
		at += event_bytes;
	}
	return at == count ? DP_BATCH_OK : DP_BATCH_MALFORMED;
}

uint32_t dp_batch_ack_room(uint32_t request_bytes)
{
	if (request_bytes < DP_BATCH_ACK_BYTES)
		return 0;
	uint32_t room = (request_bytes - DP_BATCH_ACK_BYTES) / DP_BATCH_REJECT_BYTES;
	return room < DP_BATCH_REJECTS_LISTED ? room : DP_BATCH_REJECTS_LISTED;
}

size_t dp_batch_ack(uint8_t *to, const struct dp_batch *batch, const struct dp_batch_counts *counts,
		    const struct dp_batch_reject *rejects, uint32_t listed)
{
	assert(listed <= dp_batch_ack_room(batch->bytes));
	uint16_t bytes = (uint16_t)(DP_BATCH_ACK_BYTES + listed * DP_BATCH_REJECT_BYTES);
	uint16_t listed16 = (uint16_t)listed;
	memset(to, 0, DP_BATCH_ACK_BYTES);
	memcpy(to, dp_batch_magic, sizeof dp_batch_magic);
	to[DP_BATCH_AT_VERSION] = DP_BATCH_VERSION;
	to[DP_BATCH_AT_KIND] = DP_BATCH_KIND_ACK;
	memcpy(to + DP_BATCH_AT_SOURCE, &batch->source, 8);
	memcpy(to + DP_BATCH_AT_NUMBER, &batch->number, 8);
	memcpy(to + DP_BATCH_AT_BYTES, &bytes, 2);
	memcpy(to + DP_BATCH_AT_EVENTS, &batch->events, 2);
	memcpy(to + DP_BATCH_AT_BATCH_CHECKSUM, &batch->checksum, 4);
	memcpy(to + DP_BATCH_AT_ACCEPTED, &counts->accepted, 2);
	memcpy(to + DP_BATCH_AT_DUPLICATES, &counts->duplicates, 2);
	memcpy(to + DP_BATCH_AT_LATE, &counts->late, 2);
	memcpy(to + DP_BATCH_AT_CONFLICTS, &counts->conflicts, 2);
	memcpy(to + DP_BATCH_AT_REJECTED, &counts->rejected, 2);
	memcpy(to + DP_BATCH_AT_LISTED, &listed16, 2);
	if (listed > 0)
		memcpy(to + DP_BATCH_ACK_BYTES, rejects, listed * sizeof *rejects);
	uint32_t checksum = datagram_checksum(to, bytes);
	memcpy(to + DP_BATCH_AT_CHECKSUM, &checksum, 4);
	return bytes;
}
