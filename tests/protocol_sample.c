/* See protocol_sample.h. */
#include "protocol_sample.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static uint64_t rng_state;

void sample_seed(uint64_t seed)
{
	rng_state = seed;
}

uint32_t sample_draw(uint32_t below)
{
	rng_state = rng_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((rng_state >> 33) % below);
}

static const char *random_text(char *to, uint32_t bytes_min, uint32_t bytes_max)
{
	static const char *const rare[] = {"\"", "\\", "\x01", "\x7f", "é", "€", "😀", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf", "/"};
	uint32_t want = bytes_min + sample_draw(bytes_max - bytes_min + 1), bytes = 0;
	if (sample_draw(8) == 0)
		want = bytes_max;
	while (bytes < want) {
		const char *piece = rare[sample_draw(10)];
		char plain[2] = {(char)(' ' + sample_draw(94)), 0};
		if (sample_draw(6) || bytes + strlen(piece) > want)
			piece = plain;
		strcpy(to + bytes, piece);
		bytes += (uint32_t)strlen(piece);
	}
	to[bytes] = 0;
	return to;
}

static const char *random_id(char *to)
{
	static const char digit[] = "0123456789abcdef";
	switch (sample_draw(4)) {
	case 0:
		return random_text(to, 1, 64);
	case 1:
		return strcpy(to, sample_draw(2) ? "00000000-0000-0000-0000-000000000000" : "123E4567-E89B-12D3-A456-426614174000");
	default:
		for (int i = 0; i < 36; i++)
			to[i] = i == 8 || i == 13 || i == 18 || i == 23 ? '-' : digit[sample_draw(16)];
		to[36] = 0;
		return to;
	}
}

static char *json_string(char *at, const char *name, const char *text)
{
	at += sprintf(at, ",\"%s\":\"", name);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			at += sprintf(at, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			at += sprintf(at, "\\u%04x", *text);
		else
			*at++ = *text;
	}
	at += sprintf(at, "\"");
	return at;
}

void sample_make(struct sample *s)
{
	static const char *const types[] = {"impression", "click", "conversion"};
	static const char *const devices[] = {"desktop", "mobile", "tablet", "tv", "bot", "other", "toaster"};
	static const char *const addresses[] = {"192.0.2.1", "2001:db8::7", "::ffff:198.51.100.9", "::"};
	struct tpc_event *e = &s->event;
	memset(e, 0, sizeof *e);
	e->event_id = random_id(s->text[0]);
	e->type = (int)sample_draw(3);
	e->timestamp_ms = 1600000000000 + sample_draw(1000000);
	e->ad_id = random_text(s->text[1], 1, 64);
	e->campaign_id = random_text(s->text[2], 1, 64);
	e->advertiser_id = random_text(s->text[3], 1, 64);
	const struct {
		const char **field;
		const char *name;
		uint32_t bytes_max;
	} optional[] = {{&e->publisher_id, "publisher_id", 64},
			{&e->user_id, "user_id", 64},
			{&e->device_id, "device_id", 64},
			{&e->user_agent, "user_agent", 1024},
			{&e->referer, "referer", 1024}};
	char *at = s->json;
	at += sprintf(at, "{\"timestamp\":%llu", (unsigned long long)e->timestamp_ms);
	at = json_string(at, "event_id", e->event_id);
	at = json_string(at, "event_type", types[e->type]);
	at = json_string(at, "ad_id", e->ad_id);
	at = json_string(at, "campaign_id", e->campaign_id);
	at = json_string(at, "advertiser_id", e->advertiser_id);
	for (int i = 0; i < 5; i++) {
		if (sample_draw(2)) {
			*optional[i].field = random_text(s->text[4 + i], 0, optional[i].bytes_max);
			at = json_string(at, optional[i].name, *optional[i].field);
		}
	}
	if (sample_draw(2)) {
		e->ip_address = addresses[sample_draw(4)];
		at = json_string(at, "ip_address", e->ip_address);
	}
	if (sample_draw(2)) {
		e->device_type = devices[sample_draw(7)];
		at = json_string(at, "device_type", e->device_type);
	}
	if (sample_draw(2)) {
		e->currency = sample_draw(2) ? "EUR" : "USD";
		at = json_string(at, "currency", e->currency);
	}
	if (sample_draw(2)) {
		e->has_bid = true;
		e->bid_micros = sample_draw(4) ? sample_draw(100000000) : 1000000000000;
		at += sprintf(at, ",\"bid_price\":%lld.%06lld", (long long)e->bid_micros / 1000000,
			      (long long)e->bid_micros % 1000000);
	}
	if (sample_draw(2)) {
		e->has_position = true;
		e->click_position = (uint16_t)sample_draw(65536);
		at += sprintf(at, ",\"click_position\":%u", e->click_position);
	}
	if (sample_draw(2)) {
		e->has_timezone = true;
		e->timezone_offset_min = (int32_t)sample_draw(2000) - 1000;
		at += sprintf(at, ",\"timezone_offset_min\":%d", e->timezone_offset_min);
	}
	if (sample_draw(2)) {
		e->has_mouse = true;
		e->mouse_moves = (int32_t)sample_draw(2000) - 100;
		at += sprintf(at, ",\"mouse_moves\":%d", e->mouse_moves);
	}
	if (sample_draw(2)) {
		e->trace = sample_draw(4) ? "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" : "00-zz";
		at = json_string(at, "trace", e->trace);
	}
	at += sprintf(at, ",\"geo\":{\"x\":1");
	if (sample_draw(2)) {
		e->country = sample_draw(2) ? "de" : "US";
		at = json_string(at, "country", e->country);
	}
	if (sample_draw(2)) {
		e->region = random_text(s->text[9], 0, 64);
		at = json_string(at, "region", e->region);
	}
	if (sample_draw(2)) {
		e->city = random_text(s->text[10], 0, 128);
		at = json_string(at, "city", e->city);
	}
	sprintf(at, "}}");
}
