/*
 * Keys: which field of the schema one names, and whether an object has one twice.
 *
 * Known keys are told apart by a bit mask (json_pair.c). Unknown keys, and those of objects that nobody wants, are kept as (hash,
 * offset) on one stack for all objects that are open; when an object closes, its keys are the top of the stack:
 *
 *     keys[]  │ event's unknown keys │ geo's, or a skipped object's │ its child's │            keys_count
 *                                                                   base          └ close checks [base, keys_count), drops them
 *
 * A few keys are compared each with each; more are sorted by hash (radix, stable, so that equal hashes stay in document order), and
 * equal hashes are compared byte for byte after unescaping. That is linear in the size of the text, and the hash is seeded at
 * random, so nobody can make it quadratic. One rx core; the stack is part of the scratch.
 *
 * Source: contract section 4 ("duplicate keys at any depth").
 */
#include "json_parse.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { EACH_WITH_EACH_MAX = 24 };

/* No name of the schema is longer than 19 bytes, and no two share length, first letter and object. */
const uint8_t dp_json_field_guess[DP_JSON_NAME_MAX + 1][32] = {
	[3] = {['g' & 31] = TP_FIELD_GEO},
	[4] = {['c' & 31] = TP_FIELD_CITY},
	[5] = {['a' & 31] = TP_FIELD_AD_ID, ['t' & 31] = TP_FIELD_TRACE},
	[6] = {['r' & 31] = TP_FIELD_REGION},
	[7] = {['u' & 31] = TP_FIELD_USER_ID, ['r' & 31] = TP_FIELD_REFERER, ['c' & 31] = TP_FIELD_COUNTRY},
	[8] = {['e' & 31] = TP_FIELD_EVENT_ID, ['c' & 31] = TP_FIELD_CURRENCY},
	[9] = {['t' & 31] = TP_FIELD_TIMESTAMP, ['d' & 31] = TP_FIELD_DEVICE_ID, ['b' & 31] = TP_FIELD_BID_PRICE},
	[10] = {['e' & 31] = TP_FIELD_EVENT_TYPE, ['i' & 31] = TP_FIELD_IP_ADDRESS, ['u' & 31] = TP_FIELD_USER_AGENT},
	[11] = {['c' & 31] = TP_FIELD_CAMPAIGN_ID, ['d' & 31] = TP_FIELD_DEVICE_TYPE, ['m' & 31] = TP_FIELD_MOUSE_MOVES},
	[12] = {['p' & 31] = TP_FIELD_PUBLISHER_ID},
	[13] = {['a' & 31] = TP_FIELD_ADVERTISER_ID},
	[14] = {['c' & 31] = TP_FIELD_CLICK_POSITION},
	[19] = {['t' & 31] = TP_FIELD_TIMEZONE},
};

/* clang-format off */
/* A key of up to 13 bytes: the pattern holds all of it, the quotes and the colon. */
#define FIELD(field, key, KIND, slot, in_geo, min, max) \
	{.name = key, .name_bytes = sizeof key - 1, .kind = DP_JSON_##KIND, .geo = in_geo, .bytes_min = min, .bytes_max = max, \
	 .bit = 1u << field, .string = slot, .pattern = "\"" key "\":", .counts = (4u << sizeof key) - 1, .behind = sizeof key + 2, \
	 .string_at = offsetof(struct tp_parsed, string[slot])}
/* NUL never stands in a key, so this one never matches. */
#define NO_FIELD(in_geo) {.counts = 1, .name = "", .kind = DP_JSON_NEVER, .geo = in_geo}
/* clang-format on */

const struct dp_json_field dp_json_fields[DP_JSON_PREVIOUS] = {
	[TP_FIELD_NONE] = NO_FIELD(0),
	[TP_FIELD_EVENT_ID] = FIELD(TP_FIELD_EVENT_ID, "event_id", ID, TP_EVENT_ID, 0, 1, TP_ID_BYTES_MAX),
	[TP_FIELD_EVENT_TYPE] = FIELD(TP_FIELD_EVENT_TYPE, "event_type", TYPE, 0, 0, 0, 16),
	[TP_FIELD_TIMESTAMP] = FIELD(TP_FIELD_TIMESTAMP, "timestamp", TIMESTAMP, 0, 0, 0, 0),
	[TP_FIELD_AD_ID] = FIELD(TP_FIELD_AD_ID, "ad_id", STRING, TP_AD_ID, 0, 1, TP_ID_BYTES_MAX),
	[TP_FIELD_CAMPAIGN_ID] = FIELD(TP_FIELD_CAMPAIGN_ID, "campaign_id", STRING, TP_CAMPAIGN_ID, 0, 1, TP_ID_BYTES_MAX),
	[TP_FIELD_ADVERTISER_ID] = FIELD(TP_FIELD_ADVERTISER_ID, "advertiser_id", STRING, TP_ADVERTISER_ID, 0, 1, TP_ID_BYTES_MAX),
	[TP_FIELD_PUBLISHER_ID] = FIELD(TP_FIELD_PUBLISHER_ID, "publisher_id", STRING, TP_PUBLISHER_ID, 0, 0, TP_ID_BYTES_MAX),
	[TP_FIELD_USER_ID] = FIELD(TP_FIELD_USER_ID, "user_id", STRING, TP_USER_ID, 0, 0, TP_ID_BYTES_MAX),
	[TP_FIELD_DEVICE_ID] = FIELD(TP_FIELD_DEVICE_ID, "device_id", STRING, TP_DEVICE_ID, 0, 0, TP_ID_BYTES_MAX),
	[TP_FIELD_IP_ADDRESS] = FIELD(TP_FIELD_IP_ADDRESS, "ip_address", IP, 0, 0, 0, 64),
	[TP_FIELD_USER_AGENT] = FIELD(TP_FIELD_USER_AGENT, "user_agent", STRING, TP_USER_AGENT, 0, 0, TP_TEXT_BYTES_MAX),
	[TP_FIELD_REFERER] = FIELD(TP_FIELD_REFERER, "referer", STRING, TP_REFERER, 0, 0, TP_TEXT_BYTES_MAX),
	[TP_FIELD_GEO] = FIELD(TP_FIELD_GEO, "geo", GEO, 0, 0, 0, 0),
	[TP_FIELD_COUNTRY] = FIELD(TP_FIELD_COUNTRY, "country", COUNTRY, 0, 1, 0, 2),
	[TP_FIELD_REGION] = FIELD(TP_FIELD_REGION, "region", STRING, TP_REGION, 1, 0, TP_ID_BYTES_MAX),
	[TP_FIELD_CITY] = FIELD(TP_FIELD_CITY, "city", STRING, TP_CITY, 1, 0, TP_CITY_BYTES_MAX),
	[TP_FIELD_DEVICE_TYPE] = FIELD(TP_FIELD_DEVICE_TYPE, "device_type", DEVICE, 0, 0, 0, TP_ID_BYTES_MAX),
	[TP_FIELD_BID_PRICE] = FIELD(TP_FIELD_BID_PRICE, "bid_price", BID, 0, 0, 0, DP_JSON_BID_TEXT_MAX),
	[TP_FIELD_CURRENCY] = FIELD(TP_FIELD_CURRENCY, "currency", CURRENCY, 0, 0, 0, 3),
	[TP_FIELD_CLICK_POSITION] = {.pattern = {'"', 'c', 'l', 'i', 'c', 'k', '_', 'p', 'o', 's', 'i', 't', 'i', 'o', 'n', '"'},
				     .counts = 0xffff, /* without the colon: DP_JSON_POSITION looks at that */
				     .behind = 17,
				     .name = "click_position",
				     .name_bytes = 14,
				     .bit = 1u << TP_FIELD_CLICK_POSITION,
				     .kind = DP_JSON_POSITION},
	[TP_FIELD_TIMEZONE] = {.pattern = {'"', 't', 'i', 'm', 'e', 'z', 'o', 'n', 'e', '_', 'o', 'f', 'f', 's', 'e', 't'},
			       .counts = 0xffff,
			       .bit = 1u << TP_FIELD_TIMEZONE,
			       .name = "timezone_offset_min",
			       .name_bytes = DP_JSON_NAME_MAX,
			       .kind = DP_JSON_INT32},
	[TP_FIELD_MOUSE_MOVES] = FIELD(TP_FIELD_MOUSE_MOVES, "mouse_moves", INT32, 0, 0, 0, 0),
	[TP_FIELD_TRACE] = FIELD(TP_FIELD_TRACE, "trace", TRACE, 0, 0, 0, 128),
	[DP_JSON_UNKNOWN] = NO_FIELD(0),
	[DP_JSON_UNKNOWN_GEO] = NO_FIELD(1),
	[DP_JSON_OPEN] = NO_FIELD(0),
	[DP_JSON_OPEN_GEO] = NO_FIELD(1),
};

unsigned dp_json_field_find(const char *name, size_t bytes, bool geo)
{
	if (bytes > 0 && bytes <= DP_JSON_NAME_MAX) {
		unsigned guess = dp_json_field_guess[bytes][(unsigned char)name[0] & 31];
		const struct dp_json_field *field = &dp_json_fields[guess];
		if (field->name_bytes == bytes && field->geo == geo && memcmp(field->name, name, bytes) == 0)
			return guess;
	}
	return geo ? DP_JSON_UNKNOWN_GEO : DP_JSON_UNKNOWN;
}

/* A hash of the key after unescaping: the same for every spelling of it. */
static uint32_t key_hash(const struct dp_json_scratch *s, const struct dp_json_raw *raw)
{
	if (!raw->escaped)
		return (uint32_t)XXH3_64bits_withSeed(raw->at, (size_t)(raw->end - raw->at), s->hash_seed);
	XXH3_state_t state;
	XXH3_INITSTATE(&state);
	XXH3_64bits_reset_withSeed(&state, s->hash_seed);
	char part[256];
	unsigned bytes = 0;
	for (const char *at = raw->at; at < raw->end;) {
		bytes += dp_json_unit(&at, raw->end, part + bytes);
		if (bytes > sizeof part - 4) {
			XXH3_64bits_update(&state, part, bytes);
			bytes = 0;
		}
	}
	XXH3_64bits_update(&state, part, bytes);
	return (uint32_t)XXH3_64bits_digest(&state);
}

/* Compares two keys from their first bytes to their closing quotes, escapes undone. Both have been validated. */
static bool keys_equal(const struct dp_json_scratch *s, uint32_t a_offset, uint32_t b_offset)
{
	const char *a = s->text + a_offset, *b = s->text + b_offset;
	char a_unit[4], b_unit[4];
	unsigned a_count = 0, b_count = 0, a_used = 0, b_used = 0;
	for (;;) {
		bool a_done = a_used == a_count && *a == '"', b_done = b_used == b_count && *b == '"';
		if (a_done || b_done)
			return a_done && b_done;
		if (a_used == a_count) {
			a_count = dp_json_unit(&a, s->end, a_unit);
			a_used = 0;
		}
		if (b_used == b_count) {
			b_count = dp_json_unit(&b, s->end, b_unit);
			b_used = 0;
		}
		if (a_unit[a_used++] != b_unit[b_used++])
			return false;
	}
}

void dp_json_keys_push(struct dp_json_scratch *s, const struct dp_json_raw *raw)
{
	assert(s->keys_count < DP_JSON_KEYS_MAX); /* json_parse.h says why */
	s->keys[s->keys_count++] = (struct dp_json_seen_key){
		.hash = key_hash(s, raw),
		.offset = (uint32_t)(raw->at - s->text),
	};
}

static void duplicate(struct dp_json_scratch *s, uint32_t offset)
{
	dp_json_fault(s, TP_DUPLICATE_KEY, TP_FIELD_NONE, s->text + offset);
}

/* Sorts by hash, least significant byte first; stable. Four passes, so the result is back in `keys`. */
static void keys_sort(struct dp_json_seen_key *keys, struct dp_json_seen_key *other, uint32_t count)
{
	for (unsigned shift = 0; shift < 32; shift += 8) {
		uint32_t start[256] = {0};
		for (uint32_t i = 0; i < count; i++)
			start[keys[i].hash >> shift & 0xff]++;
		uint32_t sum = 0;
		for (unsigned i = 0; i < 256; i++) {
			uint32_t here = start[i];
			start[i] = sum;
			sum += here;
		}
		for (uint32_t i = 0; i < count; i++)
			other[start[keys[i].hash >> shift & 0xff]++] = keys[i];
		struct dp_json_seen_key *swap = keys;
		keys = other;
		other = swap;
	}
}

void dp_json_keys_close(struct dp_json_scratch *s, uint32_t base)
{
	struct dp_json_seen_key *keys = s->keys + base;
	uint32_t count = s->keys_count - base;
	s->keys_count = base;
	if (count < 2)
		return;
	if (count <= EACH_WITH_EACH_MAX) {
		for (uint32_t later = 1; later < count; later++)
			for (uint32_t earlier = 0; earlier < later; earlier++)
				if (keys[earlier].hash == keys[later].hash &&
				    keys_equal(s, keys[earlier].offset, keys[later].offset)) {
					duplicate(s, keys[later].offset);
					return; /* the first in the text */
				}
		return;
	}
	keys_sort(keys, s->sorted, count);
	for (uint32_t first = 0; first < count;) {
		uint32_t behind = first + 1;
		bool found = false;
		for (; behind < count && keys[behind].hash == keys[first].hash; behind++)
			for (uint32_t earlier = first; !found && earlier < behind; earlier++)
				if (keys_equal(s, keys[earlier].offset, keys[behind].offset)) {
					duplicate(s, keys[behind].offset);
					found = true; /* the first of this run; the fault keeps the first of all */
				}
		first = behind;
	}
}
