/*
 * The UDP batch format, datagram level: what comes before the events, and the acknowledgement. See batch_format.h for the picture.
 *
 * Entered by rx cores with foreign bytes; no state. Invariants: no answer is larger than its batch; a datagram that passes
 * dp_batch_open() can be walked event by event without another bounds check on the event lengths.
 * Source: docs/protocol.md.
 */
#include "batch_format.h"

#include "batch_tag.h"

enum { EVENT_BYTES_MIN = DP_BATCH_EVENT_FIXED_BYTES + 4 }; /* four strings of one byte */

static_assert(DP_BATCH_BYTES_MIN == DP_BATCH_HEADER_BYTES + EVENT_BYTES_MIN, "nothing shorter holds a valid event");
static_assert(EVENT_BYTES_MIN >= (int)DP_BATCH_WIDE_ACK_BODY_BYTES && EVENT_BYTES_MIN >= (int)DP_BATCH_LATER_BODY_BYTES &&
		      DP_BATCH_HELLO_BODY_BYTES >= DP_BATCH_LAYOUT_BODY_BYTES + DP_BATCH_SHARDS_MAX,
	      "no plain answer is larger than what it answers");
static_assert(sizeof(struct dp_batch_reject) == DP_BATCH_REJECT_BYTES, "the wire format of a listed reject");

/* The codes of listed rejects are on the wire: docs/protocol.md has them as numbers. */
static_assert(TP_MALFORMED == 1 && TP_MISSING_FIELD == 2 && TP_BAD_TYPE == 3 && TP_BAD_VALUE == 4 && TP_TOO_LONG == 5, "wire");
static_assert(TP_DUPLICATE_KEY == 6 && TP_BAD_UTF8 == 7 && TP_FUTURE == 8 && TP_TOO_LARGE == 9, "wire");
static_assert(TP_FIELD_EVENT_ID == 1 && TP_FIELD_DEVICE_ID == 9 && TP_FIELD_IP_ADDRESS == 10 && TP_FIELD_COUNTRY == 14, "wire");
static_assert(TP_FIELD_DEVICE_TYPE == 17 && TP_FIELD_CURRENCY == 19 && TP_FIELD_TRACE == 23, "wire");

/* Of a whole datagram, its checksum field taken as zero. */
static uint32_t datagram_checksum(const uint8_t *bytes, size_t count)
{
	static const uint8_t zero[4];
	uint32_t crc = dp_crc32c(0, bytes, DP_BATCH_AT_CHECKSUM);
	crc = dp_crc32c(crc, zero, sizeof zero);
	return dp_crc32c(crc, bytes + DP_BATCH_HEADER_BYTES, count - DP_BATCH_HEADER_BYTES);
}

static size_t tag_bytes(const struct dp_batch *batch)
{
	return !batch->tagged ? 0 : batch->version == 1 ? DP_BATCH_TAG_BYTES : DP_BATCH_WIDE_TAG_BYTES;
}

/* The chain of event lengths ends exactly at the end. */
static bool events_end(const uint8_t *bytes, size_t count, const struct dp_batch *batch)
{
	size_t at = batch->events_at;
	for (uint32_t i = 0; i < batch->events; i++) {
		if (count - at < DP_BATCH_EVENT_FIXED_BYTES)
			return false;
		uint16_t event_bytes = dp_batch_u16(bytes + at + DP_BATCH_EVENT_AT_BYTES);
		if (event_bytes < DP_BATCH_EVENT_FIXED_BYTES || event_bytes > count - at)
			return false;
		at += event_bytes;
	}
	return at == count;
}

static bool hello_is_plain(const uint8_t *bytes, size_t count, const struct dp_batch *batch)
{
	if (batch->events != 0 || count != (size_t)batch->events_at + DP_BATCH_HELLO_BODY_BYTES)
		return false;
	uint8_t any = 0;
	for (size_t i = batch->events_at; i < count; i++)
		any |= bytes[i];
	return any == 0;
}

enum dp_batch_fault dp_batch_open(const uint8_t *bytes, size_t count, struct dp_batch *batch)
{
	/* the version comes first: another one may have another size, other checks, anything but another place for the version */
	if (count <= DP_BATCH_AT_VERSION || memcmp(bytes, dp_batch_magic, sizeof dp_batch_magic) != 0)
		return DP_BATCH_MALFORMED;
	batch->version = bytes[DP_BATCH_AT_VERSION];
	if (batch->version < 1 || batch->version > DP_BATCH_VERSION)
		return DP_BATCH_BAD_VERSION;
	if (count < DP_BATCH_BYTES_MIN || count > DP_BATCH_BYTES_MAX || dp_batch_u16(bytes + DP_BATCH_AT_BYTES) != count)
		return DP_BATCH_MALFORMED;
	batch->kind = bytes[DP_BATCH_AT_KIND];
	if (batch->kind != DP_BATCH_KIND_EVENTS && (batch->kind != DP_BATCH_KIND_HELLO || batch->version == 1))
		return DP_BATCH_MALFORMED;
	batch->checksum = dp_batch_u32(bytes + DP_BATCH_AT_CHECKSUM);
	if (datagram_checksum(bytes, count) != batch->checksum)
		return DP_BATCH_BAD_CHECKSUM;

	uint16_t flags = dp_batch_u16(bytes + DP_BATCH_AT_FLAGS);
	if (flags & ~DP_BATCH_FLAG_TAG)
		return DP_BATCH_MALFORMED;
	batch->tagged = flags & DP_BATCH_FLAG_TAG;
	batch->source = dp_batch_u64(bytes + DP_BATCH_AT_SOURCE);
	batch->number = dp_batch_u64(bytes + DP_BATCH_AT_NUMBER);
	batch->bytes = (uint16_t)count;
	batch->events = dp_batch_u16(bytes + DP_BATCH_AT_EVENTS);
	batch->events_at = (uint16_t)(DP_BATCH_HEADER_BYTES + tag_bytes(batch));
	if (batch->kind == DP_BATCH_KIND_HELLO)
		return hello_is_plain(bytes, count, batch) ? DP_BATCH_OK : DP_BATCH_MALFORMED;
	return batch->events != 0 && events_end(bytes, count, batch) ? DP_BATCH_OK : DP_BATCH_MALFORMED;
}

/* ---- answers ---- */

/* Where the body of an answer begins. Version 1 signs none. */
static size_t answer_body_at(const struct dp_batch *batch)
{
	return DP_BATCH_HEADER_BYTES + (batch->version == 1 ? 0 : tag_bytes(batch));
}

/* Clears the plain part of an answer and writes its header. Returns where its body begins. */
static size_t answer_begin(uint8_t *to, const struct dp_batch *batch, enum dp_batch_kind kind, size_t body_bytes)
{
	size_t body_at = answer_body_at(batch);
	memset(to, 0, body_at + body_bytes);
	memcpy(to, dp_batch_magic, sizeof dp_batch_magic);
	to[DP_BATCH_AT_VERSION] = batch->version;
	to[DP_BATCH_AT_KIND] = (uint8_t)kind;
	memcpy(to + DP_BATCH_AT_SOURCE, &batch->source, 8);
	memcpy(to + DP_BATCH_AT_NUMBER, &batch->number, 8);
	memcpy(to + DP_BATCH_AT_EVENTS, &batch->events, 2);
	return body_at;
}

/*
 * Writes what depends on all the rest. A client that signs gets an answer of the signed form in any case; where nobody knows its key the tag
 * is zero.
 */
static size_t answer_seal(uint8_t *to, const struct dp_batch *batch, size_t count, const uint64_t *key)
{
	uint16_t bytes16 = (uint16_t)count;
	assert(count <= batch->bytes);
	memcpy(to + DP_BATCH_AT_BYTES, &bytes16, 2);
	if (batch->version != 1 && batch->tagged) {
		uint64_t tag[2] = {0, 0};
		to[DP_BATCH_AT_FLAGS] = DP_BATCH_FLAG_TAG;
		if (key)
			dp_tag_compute(key, to, count, DP_BATCH_AT_TAG, true, tag);
		memcpy(to + DP_BATCH_AT_TAG, tag, sizeof tag);
	}
	uint32_t checksum = datagram_checksum(to, count);
	memcpy(to + DP_BATCH_AT_CHECKSUM, &checksum, 4);
	return count;
}

static size_t ack_body_bytes(const struct dp_batch *batch)
{
	return batch->version == 1 ? DP_BATCH_ACK_BODY_BYTES : DP_BATCH_WIDE_ACK_BODY_BYTES;
}

uint32_t dp_batch_ack_room(const struct dp_batch *batch)
{
	size_t plain = answer_body_at(batch) + ack_body_bytes(batch);
	if (batch->bytes < plain)
		return 0;
	uint32_t room = (uint32_t)(batch->bytes - plain) / DP_BATCH_REJECT_BYTES;
	return room < DP_BATCH_REJECTS_LISTED ? room : DP_BATCH_REJECTS_LISTED;
}

size_t dp_batch_ack(uint8_t *to, const struct dp_batch *batch, const struct dp_batch_counts *counts,
		    const struct dp_batch_told *told, const struct dp_batch_reject *rejects, uint32_t listed, const uint64_t *key)
{
	assert(listed <= dp_batch_ack_room(batch));
	uint16_t listed16 = (uint16_t)listed;
	size_t body_at = answer_begin(to, batch, DP_BATCH_KIND_ACK, ack_body_bytes(batch));
	uint8_t *body = to + body_at;
	memcpy(body + DP_BATCH_IN_CHECKSUM, &batch->checksum, 4);
	memcpy(body + DP_BATCH_IN_ACCEPTED, &counts->accepted, 2);
	memcpy(body + DP_BATCH_IN_DUPLICATES, &counts->duplicates, 2);
	memcpy(body + DP_BATCH_IN_LATE, &counts->late, 2);
	memcpy(body + DP_BATCH_IN_CONFLICTS, &counts->conflicts, 2);
	memcpy(body + DP_BATCH_IN_REJECTED, &counts->rejected, 2);
	memcpy(body + DP_BATCH_IN_LISTED, &listed16, 2);
	if (batch->version != 1) {
		memcpy(body + DP_BATCH_IN_WINDOW, &told->window, 2);
		memcpy(body + DP_BATCH_IN_CORE, &told->core, 2);
	}
	body_at += ack_body_bytes(batch);
	if (listed > 0)
		memcpy(to + body_at, rejects, listed * sizeof *rejects);
	return answer_seal(to, batch, body_at + listed * sizeof *rejects, key);
}

size_t dp_batch_later(uint8_t *to, const struct dp_batch *batch, const struct dp_batch_told *told, uint16_t wait_ms,
		      enum dp_batch_why why, const uint64_t *key)
{
	assert(batch->version != 1);
	size_t body_at = answer_begin(to, batch, DP_BATCH_KIND_LATER, DP_BATCH_LATER_BODY_BYTES);
	uint8_t *body = to + body_at;
	memcpy(body + DP_BATCH_IN_CHECKSUM, &batch->checksum, 4);
	memcpy(body + DP_BATCH_LATER_IN_WINDOW, &told->window, 2);
	memcpy(body + DP_BATCH_LATER_IN_WAIT, &wait_ms, 2);
	body[DP_BATCH_LATER_IN_WHY] = (uint8_t)why;
	return answer_seal(to, batch, body_at + DP_BATCH_LATER_BODY_BYTES, key);
}

size_t dp_batch_layout(uint8_t *to, const struct dp_batch *hello, const struct dp_batch_told *told,
		       const struct dp_batch_layout *layout, const uint64_t *key)
{
	assert(hello->kind == DP_BATCH_KIND_HELLO && layout->shards <= DP_BATCH_SHARDS_MAX);
	size_t body_at = answer_begin(to, hello, DP_BATCH_KIND_LAYOUT, DP_BATCH_LAYOUT_BODY_BYTES);
	uint8_t *body = to + body_at;
	memcpy(body + DP_BATCH_LAYOUT_IN_SHARDS, &layout->shards, 2);
	memcpy(body + DP_BATCH_LAYOUT_IN_CORES, &layout->cores, 2);
	memcpy(body + DP_BATCH_LAYOUT_IN_CORE, &told->core, 2);
	memcpy(body + DP_BATCH_LAYOUT_IN_WINDOW, &told->window, 2);
	memcpy(body + DP_BATCH_LAYOUT_IN_BYTES, &layout->datagram_bytes, 2);
	body[DP_BATCH_LAYOUT_IN_HASH] = DP_BATCH_HASH_XXH3;
	body_at += DP_BATCH_LAYOUT_BODY_BYTES;
	memcpy(to + body_at, layout->shard_core, layout->shards);
	return answer_seal(to, hello, body_at + layout->shards, key);
}
