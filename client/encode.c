/*
 * Batches and answers as bytes. Written from docs/protocol.md alone, sharing nothing with the server, so that each checks
 * the other. Byte order is handled a byte at a time: any host may run this.
 *
 *   0      4 5 6     8        16       24    26     28       32
 *   │ magic│v│k│flags│ source │ number │bytes│events│checksum│ tag? │ event │ event │ …         tag: 8 bytes in version 1, 16 in 2
 */
#include "encode.h"

#include "checksum.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static const uint8_t magic[4] = {0x9e, 'T', 'P', 'B'};

enum { KIND_BATCH = 1, KIND_HELLO = 4, FLAG_TAG = 1, HASH_XXH3 = 1 };
enum { EVENT_FIXED_BYTES = 28, UUID_BYTES = 16, TRACE_BYTES = 25 };
enum { STRING_ID, STRING_CITY = 8, STRING_AGENT, STRING_REFERER, STRINGS };
enum {
	HAS_IPV4 = 1,
	HAS_IPV6 = 2,
	HAS_BID = 4,
	HAS_CURRENCY = 8,
	HAS_COUNTRY = 16,
	HAS_POSITION = 32,
	HAS_TIMEZONE = 64,
	HAS_MOUSE = 128,
	HAS_TRACE = 256,
};

static void put16(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)v;
	at[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *at, uint32_t v)
{
	put16(at, v & 0xffff);
	put16(at + 2, v >> 16);
}

static void put64(uint8_t *at, uint64_t v)
{
	put32(at, (uint32_t)v);
	put32(at + 4, (uint32_t)(v >> 32));
}

static uint32_t get16(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t get32(const uint8_t *at)
{
	return get16(at) | get16(at + 2) << 16;
}

static uint64_t get64(const uint8_t *at)
{
	return get32(at) | (uint64_t)get32(at + 4) << 32;
}

/* The strings of an event in wire order. */
static const char *string_of(const struct tpc_event *event, int which)
{
	const char *const all[STRINGS] = {event->event_id,     event->ad_id,      event->campaign_id, event->advertiser_id,
					  event->publisher_id, event->user_id,    event->device_id,   event->region,
					  event->city,         event->user_agent, event->referer};
	return all[which];
}

static const struct {
	uint16_t bytes_min, bytes_max;
} string_limit[STRINGS] = {{1, 64}, {1, 64}, {1, 64}, {1, 64}, {0, 64}, {0, 64}, {0, 64}, {0, 64}, {0, 128}, {0, 1024}, {0, 1024}};

/* Lower-case hex digits to bytes. */
static bool hex_read(const char *text, size_t bytes, uint8_t *to)
{
	for (size_t i = 0; i < 2 * bytes; i++) {
		char c = text[i];
		uint8_t digit;
		if (c >= '0' && c <= '9')
			digit = (uint8_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			digit = (uint8_t)(c - 'a' + 10);
		else
			return false;
		to[i / 2] = (uint8_t)(i % 2 ? to[i / 2] | digit : digit << 4);
	}
	return true;
}

/* 8-4-4-4-12 in lower case; every other spelling is text, because ids compare byte for byte. */
static bool uuid_read(const char *text, size_t bytes, uint8_t to[UUID_BYTES])
{
	return bytes == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' && hex_read(text, 4, to) &&
	       hex_read(text + 9, 2, to + 4) && hex_read(text + 14, 2, to + 6) && hex_read(text + 19, 2, to + 8) &&
	       hex_read(text + 24, 6, to + 10);
}

/* 00-<32 hex>-<16 hex>-<2 hex>, neither id all zero; a later version may have more behind. */
static bool trace_read(const char *text, uint8_t to[TRACE_BYTES])
{
	static const uint8_t zero[16];
	uint8_t version;
	size_t bytes = strlen(text);
	if (bytes < 55 || !hex_read(text, 1, &version) || version == 0xff || text[2] != '-' || text[35] != '-' || text[52] != '-')
		return false;
	if (version == 0 ? bytes != 55 : bytes > 55 && text[55] != '-')
		return false;
	return hex_read(text + 3, 16, to) && hex_read(text + 36, 8, to + 16) && hex_read(text + 53, 1, to + 24) &&
	       memcmp(to, zero, 16) != 0 && memcmp(to + 16, zero, 8) != 0;
}

static bool letters(const char *text, size_t count, bool upper_only)
{
	if (strlen(text) != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (!(text[i] >= 'A' && text[i] <= 'Z') && (upper_only || !(text[i] >= 'a' && text[i] <= 'z')))
			return false;
	return true;
}

/* A name that is none of these is "other", as in JSON. */
static uint8_t device_code(const char *name)
{
	static const char *const all[] = {"desktop", "mobile", "tablet", "tv", "bot"};
	uint8_t code = 1;
	for (; code <= sizeof all / sizeof *all; code++)
		if (strcmp(name, all[code - 1]) == 0)
			break;
	return code;
}

static bool present(const char *text)
{
	return text && *text;
}

int tpc_plan(struct tpc_plan *plan, const struct tpc_event *event)
{
	plan->event = event;
	plan->flags = 0;
	plan->bytes = EVENT_FIXED_BYTES;
	if (event->type < 0 || event->type > 2)
		return -EINVAL;
	for (int i = 0; i < STRINGS; i++) {
		const char *text = string_of(event, i);
		size_t bytes = text ? strlen(text) : 0;
		if (bytes < string_limit[i].bytes_min || bytes > string_limit[i].bytes_max)
			return -EINVAL;
		plan->length[i] = (uint16_t)bytes;
		plan->bytes += (uint32_t)bytes;
	}
	plan->uuid = uuid_read(event->event_id, plan->length[STRING_ID], plan->id);
	if (plan->uuid) {
		plan->bytes -= plan->length[STRING_ID] - UUID_BYTES;
		plan->length[STRING_ID] = 0;
	}
	plan->device = present(event->device_type) ? device_code(event->device_type) : 0;
	if (present(event->ip_address)) {
		if (inet_pton(AF_INET, event->ip_address, plan->ip) == 1) {
			plan->flags |= HAS_IPV4;
			plan->bytes += 4;
		} else if (inet_pton(AF_INET6, event->ip_address, plan->ip) == 1) {
			plan->flags |= HAS_IPV6;
			plan->bytes += 16;
		} else {
			return -EINVAL;
		}
	}
	if (event->has_bid) {
		if (event->bid_micros < 0 || event->bid_micros > 1000000LL * 1000000LL)
			return -EINVAL;
		plan->flags |= HAS_BID;
		plan->bytes += 8;
	}
	if (present(event->currency)) {
		if (!letters(event->currency, 3, true))
			return -EINVAL;
		plan->flags |= HAS_CURRENCY;
		plan->bytes += 3;
	}
	if (present(event->country)) {
		if (!letters(event->country, 2, false))
			return -EINVAL;
		plan->flags |= HAS_COUNTRY;
		plan->bytes += 2;
	}
	if (event->has_position) {
		plan->flags |= HAS_POSITION;
		plan->bytes += 2;
	}
	if (event->has_timezone) {
		plan->flags |= HAS_TIMEZONE;
		plan->bytes += 4;
	}
	if (event->has_mouse) {
		plan->flags |= HAS_MOUSE;
		plan->bytes += 4;
	}
	if (present(event->trace) && trace_read(event->trace, plan->trace)) {
		plan->flags |= HAS_TRACE;
		plan->bytes += TRACE_BYTES;
	}
	return 0;
}

static uint8_t *put_bytes(uint8_t *at, const void *from, size_t bytes)
{
	memcpy(at, from, bytes);
	return at + bytes;
}

void tpc_encode(const struct tpc_plan *plan, uint8_t *to)
{
	const struct tpc_event *event = plan->event;
	put16(to, plan->bytes);
	to[2] = (uint8_t)event->type;
	to[3] = plan->device;
	put16(to + 4, plan->flags);
	put16(to + 6, plan->length[STRING_AGENT]);
	put64(to + 8, event->timestamp_ms);
	put16(to + 16, plan->length[STRING_REFERER]);
	for (int i = STRING_ID; i <= STRING_CITY; i++)
		to[18 + i] = (uint8_t)plan->length[i];
	to[27] = 0;

	uint8_t *at = to + EVENT_FIXED_BYTES;
	if (plan->flags & HAS_IPV4)
		at = put_bytes(at, plan->ip, 4);
	if (plan->flags & HAS_IPV6)
		at = put_bytes(at, plan->ip, 16);
	if (plan->flags & HAS_BID) {
		put64(at, (uint64_t)event->bid_micros);
		at += 8;
	}
	if (plan->flags & HAS_CURRENCY)
		at = put_bytes(at, event->currency, 3);
	if (plan->flags & HAS_COUNTRY)
		at = put_bytes(at, event->country, 2);
	if (plan->flags & HAS_POSITION) {
		put16(at, event->click_position);
		at += 2;
	}
	if (plan->flags & HAS_TIMEZONE) {
		put32(at, (uint32_t)event->timezone_offset_min);
		at += 4;
	}
	if (plan->flags & HAS_MOUSE) {
		put32(at, (uint32_t)event->mouse_moves);
		at += 4;
	}
	if (plan->flags & HAS_TRACE)
		at = put_bytes(at, plan->trace, TRACE_BYTES);
	if (plan->uuid)
		at = put_bytes(at, plan->id, UUID_BYTES);
	for (int i = 0; i < STRINGS; i++)
		if (plan->length[i] > 0)
			at = put_bytes(at, string_of(event, i), plan->length[i]);
}

/* ---- datagrams ---- */

static uint32_t tag_bytes(int version, const uint8_t *key)
{
	return !key ? 0 : version == 1 ? TPC_TAG_BYTES : TPC_WIDE_TAG_BYTES;
}

uint32_t tpc_batch_begin(int version, const uint8_t *key)
{
	return TPC_HEADER_BYTES + tag_bytes(version, key);
}

static uint32_t datagram_checksum(const uint8_t *datagram, size_t bytes)
{
	static const uint8_t zero[4];
	uint32_t crc = tpc_crc32c(0, datagram, 28);
	crc = tpc_crc32c(crc, zero, sizeof zero);
	return tpc_crc32c(crc, datagram + TPC_HEADER_BYTES, bytes - TPC_HEADER_BYTES);
}

static void seal(uint8_t *datagram, int version, int kind, uint32_t bytes, uint64_t source, uint64_t number, uint32_t events,
		 const uint8_t *key)
{
	memcpy(datagram, magic, sizeof magic);
	datagram[4] = (uint8_t)version;
	datagram[5] = (uint8_t)kind;
	put16(datagram + 6, key ? FLAG_TAG : 0);
	put64(datagram + 8, source);
	put64(datagram + 16, number);
	put16(datagram + 24, bytes);
	put16(datagram + 26, events);
	put32(datagram + 28, 0);
	/* over the datagram with tag and checksum still zero; the checksum then covers the tag */
	memset(datagram + TPC_HEADER_BYTES, 0, tag_bytes(version, key));
	if (key && version == 1) {
		put64(datagram + 32, tpc_siphash(key, datagram, bytes));
	} else if (key) {
		uint8_t tag[TPC_WIDE_TAG_BYTES];
		tpc_siphash_wide(key, datagram, bytes, tag);
		memcpy(datagram + 32, tag, sizeof tag);
	}
	put32(datagram + 28, datagram_checksum(datagram, bytes));
}

void tpc_batch_seal(uint8_t *datagram, int version, uint32_t bytes, uint64_t source, uint64_t number, uint32_t events,
		    const uint8_t *key)
{
	seal(datagram, version, KIND_BATCH, bytes, source, number, events, key);
}

uint32_t tpc_batch_checksum(const uint8_t *datagram)
{
	return get32(datagram + 28);
}

uint32_t tpc_hello_make(uint8_t to[TPC_HELLO_BYTES_MAX], uint64_t source, uint64_t number, const uint8_t *key)
{
	uint32_t bytes = tpc_batch_begin(2, key) + TPC_HELLO_BODY_BYTES;
	memset(to, 0, bytes);
	seal(to, 2, KIND_HELLO, bytes, source, number, 0, key);
	return bytes;
}

bool tpc_shard_hash(const struct tpc_plan *plan, uint64_t *hash)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const struct tpc_event *event = plan->event;
	uint8_t ip[16];
	if (present(event->device_id)) {
		*hash = tpc_xxh3(event->device_id, strlen(event->device_id));
	} else if (present(event->user_id)) {
		*hash = tpc_xxh3(event->user_id, strlen(event->user_id));
	} else if (plan->flags & HAS_IPV4) {
		memcpy(ip, mapped, sizeof mapped);
		memcpy(ip + 12, plan->ip, 4);
		*hash = tpc_xxh3(ip, sizeof ip);
	} else if (plan->flags & HAS_IPV6) {
		*hash = tpc_xxh3(plan->ip, sizeof plan->ip);
	} else {
		return false;
	}
	return true;
}

/* ---- answers ---- */

/* Whether the tag of an answer, whose bytes cannot be changed, is that of the key. */
static bool tag_is_good(const uint8_t *bytes, size_t count, const uint8_t *key)
{
	uint8_t copy[512], tag[TPC_WIDE_TAG_BYTES], off = 0;
	if (count > sizeof copy) /* none is nearly as long */
		return false;
	memcpy(copy, bytes, count);
	memset(copy + 28, 0, 4 + TPC_WIDE_TAG_BYTES);
	tpc_siphash_wide(key, copy, count, tag);
	for (int i = 0; i < TPC_WIDE_TAG_BYTES; i++)
		off |= tag[i] ^ bytes[TPC_HEADER_BYTES + i];
	return off == 0;
}

static int ack_read(const uint8_t *bytes, size_t count, uint32_t body_at, struct tpc_answer *answer)
{
	const uint8_t *body = bytes + body_at;
	uint32_t plain = answer->version == 1 ? TPC_ACK_BYTES - TPC_HEADER_BYTES : TPC_WIDE_ACK_BODY_BYTES;
	if (count < body_at + plain)
		return -EINVAL;
	answer->batch_checksum = get32(body);
	answer->ack = (struct tpc_ack){
		.batch = answer->number,
		.events = get16(bytes + 26),
		.accepted = get16(body + 4),
		.duplicates = get16(body + 6),
		.late = get16(body + 8),
		.conflicts = get16(body + 10),
		.rejected = get16(body + 12),
		.listed = get16(body + 14),
	};
	if (answer->version != 1)
		answer->window = get16(body + 16);
	answer->rejects_at = body_at + plain;
	const struct tpc_ack *ack = &answer->ack;
	if (ack->accepted + ack->duplicates + ack->late + ack->conflicts + ack->rejected != ack->events ||
	    ack->listed > ack->rejected || answer->rejects_at + ack->listed * TPC_REJECT_BYTES != count)
		return -EINVAL;
	return 0;
}

static int layout_read(const uint8_t *bytes, size_t count, uint32_t body_at, struct tpc_answer *answer)
{
	const uint8_t *body = bytes + body_at;
	if (count < body_at + TPC_LAYOUT_BODY_BYTES)
		return -EINVAL;
	answer->shards = get16(body);
	answer->cores = get16(body + 2);
	answer->core = get16(body + 4);
	answer->window = get16(body + 6);
	answer->datagram_bytes = get16(body + 8);
	answer->hash_known = body[10] == HASH_XXH3;
	if (answer->shards == 0 || answer->shards > TPC_SHARDS_MAX || count != body_at + TPC_LAYOUT_BODY_BYTES + answer->shards ||
	    answer->datagram_bytes < TPC_BATCH_BYTES_MIN)
		return -EINVAL;
	memcpy(answer->shard_core, body + TPC_LAYOUT_BODY_BYTES, answer->shards);
	return 0;
}

int tpc_answer_read(const uint8_t *bytes, size_t count, const uint8_t *key, struct tpc_answer *answer)
{
	if (count < TPC_ACK_BYTES || count > TPC_BATCH_BYTES_MAX || memcmp(bytes, magic, sizeof magic) != 0 ||
	    get16(bytes + 24) != count || get32(bytes + 28) != datagram_checksum(bytes, count))
		return -EINVAL;
	memset(answer, 0, sizeof *answer);
	answer->version = bytes[4];
	answer->kind = (enum tpc_answer_kind)bytes[5];
	answer->source = get64(bytes + 8);
	answer->number = get64(bytes + 16);
	uint32_t flags = get16(bytes + 6);
	if (answer->version == 1)
		return flags == 0 && answer->kind == TPC_ANSWER_ACK ? ack_read(bytes, count, TPC_HEADER_BYTES, answer) : -EINVAL;
	uint32_t body_at = tpc_batch_begin(2, key);
	if (answer->version != 2 || flags != (key ? FLAG_TAG : 0) || count < body_at || (key && !tag_is_good(bytes, count, key)))
		return -EINVAL;
	switch (answer->kind) {
	case TPC_ANSWER_ACK:
		return ack_read(bytes, count, body_at, answer);
	case TPC_ANSWER_LATER:
		if (count != body_at + TPC_LATER_BODY_BYTES)
			return -EINVAL;
		answer->batch_checksum = get32(bytes + body_at);
		answer->window = get16(bytes + body_at + 4);
		answer->wait_ms = get16(bytes + body_at + 6);
		return 0;
	case TPC_ANSWER_LAYOUT:
		return layout_read(bytes, count, body_at, answer);
	default:
		return -EINVAL;
	}
}

struct tpc_reject tpc_answer_reject(const uint8_t *bytes, const struct tpc_answer *answer, uint32_t which)
{
	const uint8_t *at = bytes + answer->rejects_at + which * TPC_REJECT_BYTES;
	return (struct tpc_reject){.index = (uint16_t)get16(at), .reason = at[2], .field = at[3]};
}
