/*
 * Events for figures about segments: segment_mix.h. One thread per mix.
 */
#include "segment_mix.h"

#include "turnpike/text.h"

#include <arpa/inet.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MIX_START_MS 1700000000000ULL

enum {
	DEVICES = 1000000,
	ADS = 2000,
	CAMPAIGNS = 200,
	ADVERTISERS = 40,
	PAGES = 4000,
	PUBLISHERS = 300,
	AGENTS = 3000,
	CITIES = 2000,
	REGIONS = 300,
	COUNTRIES = 40,
	PRICES = 60,
	EVENTS_PER_MS = 50,
	DRAWS = 1 << 16
};

/* Zipf by a table of equally likely draws. */
struct perf_mix {
	uint32_t device[1 << 20];
	uint16_t ad[DRAWS], page[DRAWS], agent[DRAWS], city[DRAWS];
};

static uint64_t mix64(uint64_t z)
{
	z += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* draw[i]: the rank at share (i + 1/2) / draws of the distribution 1 / rank^power. */
static void zipf_fill(void *to, bool wide, uint32_t draws, uint32_t kinds, double power)
{
	double sum = 0, so_far = 0;
	for (uint32_t k = 0; k < kinds; k++)
		sum += pow(k + 1.0, -power);
	uint32_t k = 0;
	so_far = 1;
	for (uint32_t i = 0; i < draws; i++) {
		while (so_far < (i + 0.5) / draws * sum && k + 1 < kinds)
			so_far += pow(++k + 1.0, -power);
		if (wide)
			((uint32_t *)to)[i] = k;
		else
			((uint16_t *)to)[i] = (uint16_t)k;
	}
}

struct perf_mix *perf_mix_new(void)
{
	struct perf_mix *mix = malloc(sizeof(*mix));
	if (!mix)
		return NULL;
	zipf_fill(mix->device, true, 1 << 20, DEVICES, 0.8);
	zipf_fill(mix->ad, false, DRAWS, ADS, 1.1);
	zipf_fill(mix->page, false, DRAWS, PAGES, 1);
	zipf_fill(mix->agent, false, DRAWS, AGENTS, 1);
	zipf_fill(mix->city, false, DRAWS, CITIES, 1);
	return mix;
}

void perf_mix_free(struct perf_mix *mix)
{
	free(mix);
}

static struct tp_str print(char *room, const char *format, uint32_t a, uint32_t b, uint32_t c)
{
	return (struct tp_str){room, (uint16_t)sprintf(room, format, a, b, c)};
}

struct tp_event *perf_mix_event(struct perf_mix *mix, uint64_t n, void *to)
{
	char room[10][256];
	struct tp_parsed parsed;
	uint64_t r = mix64(n), q = mix64(r), p = mix64(q);
	memset(&parsed, 0, sizeof(parsed));
	struct tp_event *fixed = &parsed.fixed;
	uint32_t device = mix->device[r & ((1 << 20) - 1)], ad = mix->ad[r >> 20 & (DRAWS - 1)],
		 page = mix->page[r >> 36 & (DRAWS - 1)];
	uint64_t d = mix64(device * 77ULL + 5), e = mix64(d);
	uint32_t agent = mix->agent[d & (DRAWS - 1)], city = mix->city[d >> 16 & (DRAWS - 1)];
	fixed->type = q % 20 == 0 ? TP_CLICK : q % 500 == 7 ? TP_CONVERSION : TP_IMPRESSION;
	fixed->received_ms = MIX_START_MS + n / EVENTS_PER_MS;
	fixed->timestamp_ms = fixed->received_ms - 20 - (q >> 20) % 200 * ((q >> 30) % 3 + 1) / 2;
	fixed->id = (struct tp_id){(p & ~0xf0000000000000ULL) | 0x40000000000000ULL, (mix64(p) & ~0xc0ULL) | 0x80ULL};
	parsed.string[TP_AD_ID] = print(room[0], "ad_%05u", ad, 0, 0);
	parsed.string[TP_CAMPAIGN_ID] = print(room[1], "camp_%04u", ad % CAMPAIGNS, 0, 0);
	parsed.string[TP_ADVERTISER_ID] = print(room[2], "adv_%03u", ad % CAMPAIGNS % ADVERTISERS, 0, 0);
	parsed.string[TP_PUBLISHER_ID] = print(room[3], "pub_%03u", page % PUBLISHERS, 0, 0);
	parsed.string[TP_REFERER] =
		print(room[4], "https://publisher-%03u.example.com/%u/article-%u.html", page % PUBLISHERS, page % 17, page);
	parsed.string[TP_DEVICE_ID] = print(room[5], "d%08x", (uint32_t)(d >> 32), 0, 0);
	if (d % 2)
		parsed.string[TP_USER_ID] = print(room[6], "user_%07u", (uint32_t)(e % 10000000), 0, 0);
	parsed.string[TP_USER_AGENT] = print(room[7],
					     "Mozilla/5.0 (Linux; Android %u; SM-G%u) AppleWebKit/537.36 (KHTML, like Gecko) "
					     "Chrome/%u.0.0.0 Mobile Safari/537.36",
					     agent % 8 + 7, 900 + agent / 8, 90 + agent % 37);
	parsed.string[TP_CITY] = print(room[8], "City of %04u", city, 0, 0);
	parsed.string[TP_REGION] = print(room[9], "R%03u", city % REGIONS, 0, 0);
	fixed->country[0] = (char)('A' + city % REGIONS % COUNTRIES % 26);
	fixed->country[1] = (char)('A' + city % REGIONS % COUNTRIES / 26);
	fixed->flags = TP_HAS_IP | TP_IP_SENT | TP_HAS_BID;
	fixed->ip[10] = fixed->ip[11] = 0xff;
	memcpy(fixed->ip + 12, &e, 4);
	fixed->bid_micros = (int64_t)(mix64(ad) % PRICES + 1) * 25000 + (int64_t)(q >> 44 & 3) * 5000;
	tp_event_finish(&parsed);
	struct tp_event *event = to;
	tp_event_encode(&parsed, event);
	event->verdict = TP_ACCEPTED;
	if (event->type == TP_CLICK) {
		event->rule_version = 1;
		if (q % 500 == 0) {
			const struct tp_evidence evidence = {
				.reason = TP_FRAUD_IP_VELOCITY, .limit = 10, .seen = (int64_t)(q % 40 + 11)};
			event->fraud = TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY);
			tp_event_evidence_add(event, &evidence, 1);
		}
	}
	return event;
}

static const char *text(char *room, const struct tp_event *event, enum tp_string which)
{
	struct tp_str from = tp_event_string(event, which);
	memcpy(room, from.at, from.bytes);
	room[from.bytes] = 0;
	return room;
}

void perf_mix_json(FILE *to, const struct tp_event *event)
{
	char id[TP_ID_BYTES_MAX + 1], ip[INET_ADDRSTRLEN], money[64], room[10][TP_TEXT_BYTES_MAX + 1];
	tp_event_id_text(event, id);
	tp_micros_text(event->bid_micros, money);
	inet_ntop(AF_INET, event->ip + 12, ip, sizeof(ip));
	fprintf(to,
		"{\"event_id\":\"%s\",\"event_type\":\"%s\",\"timestamp\":%lu,\"ad_id\":\"%s\",\"campaign_id\":\"%s\",\"advertiser_"
		"id\":\"%s\","
		"\"publisher_id\":\"%s\",\"user_id\":\"%s\",\"device_id\":\"%s\",\"ip_address\":\"%s\",\"user_agent\":\"%s\","
		"\"geo\":{\"country\":"
		"\"%.2s\",\"region\":\"%s\",\"city\":\"%s\"},\"referer\":\"%s\",\"bid_price\":%s}\n",
		id, tp_event_type_name((enum tp_event_type)event->type), event->timestamp_ms, text(room[0], event, TP_AD_ID),
		text(room[1], event, TP_CAMPAIGN_ID), text(room[2], event, TP_ADVERTISER_ID), text(room[3], event, TP_PUBLISHER_ID),
		text(room[4], event, TP_USER_ID), text(room[5], event, TP_DEVICE_ID), ip, text(room[6], event, TP_USER_AGENT),
		event->country, text(room[7], event, TP_REGION), text(room[8], event, TP_CITY), text(room[9], event, TP_REFERER),
		money);
}

void perf_mix_tsv(FILE *to, const struct tp_event *event)
{
	static const enum tp_string order[] = {TP_ADVERTISER_ID, TP_CAMPAIGN_ID, TP_AD_ID, TP_PUBLISHER_ID, TP_USER_ID,
					       TP_DEVICE_ID,     TP_REGION,      TP_CITY,  TP_USER_AGENT,   TP_REFERER};
	char id[TP_ID_BYTES_MAX + 1];
	uint32_t v4;
	tp_event_id_text(event, id);
	memcpy(&v4, event->ip + 12, 4);
	fprintf(to, "%s\t%u\t%u\t%u\t%lu\t%lu\t%u\t%ld\t%u\t%u\t%.2s", id, event->type, event->verdict, event->fraud,
		event->timestamp_ms, event->received_ms, event->device, event->bid_micros, __builtin_bswap32(v4),
		event->rule_version, event->country);
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		struct tp_str from = tp_event_string(event, order[i]);
		fprintf(to, "\t%.*s", from.bytes, from.at);
	}
	fputc('\n', to);
}
