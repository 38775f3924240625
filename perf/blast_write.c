/*
 * A synthetic event as JSON, as client fields, and as a ledger line. Pure; hot: half a million events a second are wanted of one core.
 *
 * A device has one user, address, browser and place for ever; a campaign has one advertiser, an ad one campaign.
 */
#include "blast_synth.h"

#include <stdio.h>
#include <string.h>

static const char *const agents[] = {
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0.0.0",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:127.0) Gecko/20100101 Firefox/127.0",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
	"Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0",
	"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
	"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15",
	"Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/538.1 TV Safari/538.1",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
};

static const struct {
	const char *country, *region, *city;
} places[] = {
	{"US", "CA", "San Francisco"}, {"US", "NY", "New York"}, {"US", "TX", "Austin"},    {"US", "WA", "Seattle"},
	{"DE", "BE", "Berlin"},        {"DE", "BY", "München"},  {"FR", "IDF", "Paris"},    {"GB", "LND", "London"},
	{"ES", "MD", "Madrid"},        {"IT", "RM", "Roma"},     {"BR", "SP", "São Paulo"}, {"IN", "MH", "Mumbai"},
	{"JP", "13", "Tokyo"},         {"KR", "11", "Seoul"},    {"AU", "NSW", "Sydney"},   {"CA", "ON", "Toronto"},
};

enum { AGENTS = sizeof agents / sizeof *agents, PLACES = sizeof places / sizeof *places };

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static inline char *put(char *at, const char *text)
{
	size_t bytes = strlen(text); /* a constant after inlining, mostly */
	memcpy(at, text, bytes);
	return at + bytes;
}

static char *put_number(char *at, uint64_t value, int digits_min)
{
	char text[20];
	int digits = 0;
	do
		text[digits++] = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	while (digits < digits_min)
		text[digits++] = '0';
	while (digits > 0)
		*at++ = text[--digits];
	return at;
}

static char *put_hex(char *at, uint64_t value, int digits)
{
	static const char digit[] = "0123456789abcdef";
	for (int i = digits - 1; i >= 0; i--)
		*at++ = digit[value >> 4 * i & 15];
	return at;
}

static char *put_id(char *at, const uint64_t id[2])
{
	at = put_hex(at, id[0] >> 32, 8);
	*at++ = '-';
	at = put_hex(at, id[0] >> 16, 4);
	*at++ = '-';
	at = put_hex(at, id[0], 4);
	*at++ = '-';
	at = put_hex(at, id[1] >> 48, 4);
	*at++ = '-';
	return put_hex(at, id[1], 12);
}

/* 0.5375, without zeros at the end. */
static char *put_micros(char *at, uint64_t micros)
{
	at = put_number(at, micros / 1000000, 1);
	uint64_t fraction = micros % 1000000;
	if (fraction == 0)
		return at;
	*at++ = '.';
	at = put_number(at, fraction, 6);
	while (at[-1] == '0')
		at--;
	return at;
}

static uint32_t campaign_of(const struct blast_options *options, uint32_t ad)
{
	return ad % options->campaigns;
}

static uint32_t publisher_of(const struct blast_options *options, const struct blast_event *event)
{
	return (uint32_t)(mix((uint64_t)event->ad << 32 | event->device) % options->publishers);
}

static char *put_ip(char *at, uint64_t h)
{
	/* 11.0.0.0 to 126.255.255.255: public, and never a trusted source */
	at = put_number(at, 11 + (h >> 24 & 255) % 116, 1);
	*at++ = '.';
	at = put_number(at, h >> 16 & 255, 1);
	*at++ = '.';
	at = put_number(at, h >> 8 & 255, 1);
	*at++ = '.';
	return put_number(at, h & 255, 1);
}

static const char *type_name(uint8_t type)
{
	static const char *const names[] = {"impression", "click", "conversion"};
	return names[type];
}

uint32_t blast_event_json(const struct blast_options *options, const struct blast_event *event, char *to)
{
	const uint64_t h = mix(event->device);
	const uint32_t campaign = campaign_of(options, event->ad), publisher = publisher_of(options, event);
	char *at = put(to, "{\"event_id\":\"");
	at = put_id(at, event->id);
	at = put(at, "\",\"event_type\":\"");
	at = put(at, type_name(event->type));
	at = put(at, "\",\"timestamp\":");
	at = put_number(at, event->stamp_ms, 1);
	at = put(at, ",\"ad_id\":\"ad_");
	at = put_number(at, event->ad, 6);
	at = put(at, "\",\"campaign_id\":\"camp_");
	at = put_number(at, campaign, 4);
	at = put(at, "\",\"advertiser_id\":\"adv_");
	at = put_number(at, campaign % options->advertisers, 3);
	at = put(at, "\",\"publisher_id\":\"pub_");
	at = put_number(at, publisher, 3);
	at = put(at, "\",\"user_id\":\"user_");
	at = put_hex(at, mix(h), 8);
	at = put(at, "\",\"device_id\":\"dev_");
	at = put_hex(at, h, 12);
	at = put(at, "\",\"ip_address\":\"");
	at = put_ip(at, h >> 20);
	at = put(at, "\",\"user_agent\":\"");
	at = put(at, agents[h % AGENTS]);
	at = put(at, "\",\"geo\":{\"country\":\"");
	at = put(at, places[(h >> 8) % PLACES].country);
	at = put(at, "\",\"region\":\"");
	at = put(at, places[(h >> 8) % PLACES].region);
	at = put(at, "\",\"city\":\"");
	at = put(at, places[(h >> 8) % PLACES].city);
	at = put(at, "\"},\"referer\":\"https://pub-");
	at = put_number(at, publisher, 3);
	at = put(at, ".example/a\",\"bid_price\":");
	at = put_micros(at, event->bid_micros);
	at = put(at, ",\"click_position\":");
	at = put_number(at, event->position, 1);
	*at++ = '}';
	return (uint32_t)(at - to);
}

void blast_event_fields(const struct blast_options *options, const struct blast_event *event, struct blast_event_text *text,
			struct tpc_event *fields)
{
	const uint64_t h = mix(event->device);
	const uint32_t campaign = campaign_of(options, event->ad), publisher = publisher_of(options, event);
	*put_id(text->id, event->id) = 0;
	*put_number(put(text->ad, "ad_"), event->ad, 6) = 0;
	*put_number(put(text->campaign, "camp_"), campaign, 4) = 0;
	*put_number(put(text->advertiser, "adv_"), campaign % options->advertisers, 3) = 0;
	*put_number(put(text->publisher, "pub_"), publisher, 3) = 0;
	*put_hex(put(text->user, "user_"), mix(h), 8) = 0;
	*put_hex(put(text->device, "dev_"), h, 12) = 0;
	*put_ip(text->ip, h >> 20) = 0;
	*put(put_number(put(text->referer, "https://pub-"), publisher, 3), ".example/a") = 0;
	*fields = (struct tpc_event){
		.event_id = text->id,
		.type = event->type,
		.timestamp_ms = event->stamp_ms,
		.ad_id = text->ad,
		.campaign_id = text->campaign,
		.advertiser_id = text->advertiser,
		.publisher_id = text->publisher,
		.user_id = text->user,
		.device_id = text->device,
		.ip_address = text->ip,
		.user_agent = agents[h % AGENTS],
		.referer = text->referer,
		.country = places[(h >> 8) % PLACES].country,
		.region = places[(h >> 8) % PLACES].region,
		.city = places[(h >> 8) % PLACES].city,
		.has_bid = true,
		.has_position = true,
		.bid_micros = event->bid_micros,
		.click_position = event->position,
	};
}

uint32_t blast_event_ledger(const struct blast_options *options, const struct blast_event *event, char *to)
{
	char *at = put_id(to, event->id);
	*at++ = ' ';
	at = put(at, type_name(event->type));
	at = put(at, " camp_");
	at = put_number(at, campaign_of(options, event->ad), 4);
	*at++ = ' ';
	at = put_number(at, event->stamp_ms - event->stamp_ms % 60000, 1);
	*at++ = ' ';
	at = put_number(at, event->bid_micros, 1);
	*at++ = '\n';
	return (uint32_t)(at - to);
}
