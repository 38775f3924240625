/* Writes JSON text; see ctl_json.h. */
#include "ctl_json.h"

#include "turnpike/text.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 4096, NUMBER_BYTES = 64, MILLION = 1000000, DECIMALS = 12 };

/* Room for `bytes` more; NULL: there is none. */
static char *room(struct ctl_json *json, size_t bytes)
{
	if (json->failed)
		return NULL;
	if (json->max - json->bytes < bytes) {
		size_t max = 2 * json->max + bytes + FIRST_BYTES;
		char *larger = realloc(json->at, max);
		if (!larger) {
			json->failed = true;
			return NULL;
		}
		json->at = larger;
		json->max = max;
	}
	return json->at + json->bytes;
}

/* Room for a value of up to `bytes`, behind its comma. */
static char *value_room(struct ctl_json *json, size_t bytes)
{
	char *to = room(json, bytes + 1);

	if (to && json->comma) {
		*to++ = ',';
		json->bytes++;
	}
	json->comma = true;
	return to;
}

static void put(struct ctl_json *json, const char *text, size_t bytes)
{
	char *to = value_room(json, bytes);

	if (!to)
		return;
	memcpy(to, text, bytes);
	json->bytes += bytes;
}

void ctl_json_free(struct ctl_json *json)
{
	free(json->at);
	*json = (struct ctl_json){0};
}

void ctl_json_open(struct ctl_json *json, char bracket)
{
	put(json, &bracket, 1);
	json->comma = false;
}

void ctl_json_close(struct ctl_json *json, char bracket)
{
	json->comma = false;
	put(json, &bracket, 1);
}

void ctl_json_raw_name(struct ctl_json *json, const char *text, size_t bytes)
{
	put(json, text, bytes);
	json->comma = false;
}

void ctl_json_name(struct ctl_json *json, const char *name)
{
	ctl_json_plain(json, name, strlen(name));
	json->comma = false;
	put(json, ":", 1);
	json->comma = false;
}

/* Digits of a number, the last one before `end`. Returns where they begin. */
static char *digits(uint64_t number, char *end)
{
	do {
		*--end = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	return end;
}

void ctl_json_number(struct ctl_json *json, uint64_t number)
{
	bool minus = number > INT64_MAX;
	char text[NUMBER_BYTES], *from = digits(minus ? -number : number, text + sizeof(text));
	if (minus)
		*--from = '-';
	put(json, from, (size_t)(text + sizeof(text) - from));
}

void ctl_json_micros(struct ctl_json *json, __int128 micros)
{
	char text[NUMBER_BYTES];

	if (micros < 0 || micros > INT64_MAX) {
		ctl_json_plain(json, text, tp_micros_text(micros, text));
		return;
	}
	char *end = text + sizeof(text), *from;
	*--end = '"';
	uint64_t whole = (uint64_t)micros / MILLION, rest = (uint64_t)micros % MILLION;
	from = end;
	for (int i = 0; i < 6; i++, rest /= 10)
		*--from = (char)('0' + rest % 10);
	*--from = '.';
	from = digits(whole, from);
	*--from = '"';
	put(json, from, (size_t)(end + 1 - from));
}

static void ratio(struct ctl_json *json, bool minus, uint64_t part, uint64_t whole)
{
	const uint64_t unit = 1000000000000ULL;
	char text[NUMBER_BYTES], *end = text + sizeof(text), *from = end;
	uint64_t rest = part % whole, above = part / whole;
	/* rounded to the nearest */
	uint64_t fraction = rest < UINT64_MAX / unit / 2 ? (rest * unit + whole / 2) / whole
							 : (uint64_t)(((unsigned __int128)rest * unit + whole / 2) / whole);

	if (fraction == unit) {
		fraction = 0;
		above++;
	}
	int decimals = DECIMALS;
	for (; decimals > 1 && fraction % 10 == 0; decimals--)
		fraction /= 10;
	for (; decimals > 0; decimals--, fraction /= 10)
		*--from = (char)('0' + fraction % 10);
	*--from = '.';
	from = digits(above, from);
	if (minus)
		*--from = '-';
	put(json, from, (size_t)(end - from));
}

void ctl_json_ratio(struct ctl_json *json, uint64_t part, uint64_t whole)
{
	ratio(json, false, part, whole);
}

void ctl_json_minus_ratio(struct ctl_json *json, uint64_t part, uint64_t whole)
{
	ratio(json, true, part, whole);
}

void ctl_json_plain(struct ctl_json *json, const char *text, size_t bytes)
{
	char *to = value_room(json, bytes + 2);

	if (!to)
		return;
	*to++ = '"';
	memcpy(to, text, bytes);
	to[bytes] = '"';
	json->bytes += bytes + 2;
}

void ctl_json_string(struct ctl_json *json, const char *text, size_t bytes)
{
	bool plain = true;

	for (size_t i = 0; i < bytes && plain; i++)
		plain = (unsigned char)text[i] >= 0x20 && (unsigned char)text[i] < 0x7f && text[i] != '"' && text[i] != '\\';
	if (plain) {
		ctl_json_plain(json, text, bytes);
		return;
	}
	json_t *value = ctl_json_text(text, bytes);
	char *dump = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
	json_decref(value);
	if (dump)
		put(json, dump, strlen(dump));
	else
		json->failed = true;
	free(dump);
}

void ctl_json_bool(struct ctl_json *json, bool value)
{
	put(json, value ? "true" : "false", value ? 4 : 5);
}

void ctl_json_none(struct ctl_json *json)
{
	put(json, "null", 4);
}

void ctl_json_reply(struct ctl_json *json, struct ctl_reply *reply)
{
	json->comma = false;
	put(json, "\n", 2); /* with its terminator */
	free(reply->body);
	*reply = (struct ctl_reply){0};
	if (json->failed) {
		ctl_json_free(json);
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
		return;
	}
	reply->status = 200;
	reply->type = "application/json";
	reply->body = json->at;
	reply->body_bytes = json->bytes - 1;
	*json = (struct ctl_json){0};
}
