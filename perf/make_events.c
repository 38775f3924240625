/*
 * The generator behind make_events.h. Cold; plain C; no state.
 */
#include "make_events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT_BYTES_MAX = 1024, SPAN_MS = 600000 };

#define COUNT_OF(list) (sizeof(list) / sizeof(list)[0])

static const char *const agents[] = {
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:121.0) Gecko/20100101 Firefox/121.0",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
	"Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
	"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (Linux; Android 13; Pixel 7) AppleWebKit/537.36 Chrome/119.0 Mobile Safari/537.36",
	"Mozilla/5.0 (Linux; Android 10; SM-G960F) Chrome/118.0 Mobile",
};
static const struct {
	const char *country, *region, *city;
} places[] = {
	{"US", "CA", "San Francisco"}, {"US", "NY", "New York"}, {"US", "TX", "Austin"},  {"US", "WA", "Seattle"},
	{"US", "IL", "Chicago"},       {"DE", "BE", "Berlin"},   {"DE", "BY", "Munich"},  {"GB", "ENG", "London"},
	{"FR", "IDF", "Paris"},        {"JP", "13", "Tokyo"},    {"IN", "MH", "Mumbai"},  {"BR", "SP", "S\xc3\xa3o Paulo"},
	{"CA", "ON", "Toronto"},       {"AU", "NSW", "Sydney"},  {"NL", "NH", "Haarlem"}, {"SE", "AB", "Stockholm"},
};
static const char *const sites[] = {
	"https://publisher.com/page",
	"https://news.example.com/a/",
	"https://www.example.org/",
	"https://blog.example.net/post/",
};

static uint64_t next(uint64_t *state)
{
	/* splitmix64 */
	uint64_t z = *state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint32_t below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)((next(state) >> 32) * limit >> 32);
}

static int event_write(char *to, uint64_t *state)
{
	uint64_t a = next(state), b = next(state), place = below(state, COUNT_OF(places));
	uint32_t ip = (uint32_t)next(state);
	return snprintf(
		to, EVENT_BYTES_MAX,
		"{\"event_id\":\"%08x-%04x-4%03x-%04x-%012llx\",\"event_type\":\"%s\",\"timestamp\":%llu,\"ad_id\":\"ad_%u\","
		"\"campaign_id\":\"camp_%u\",\"advertiser_id\":\"adv_%u\",\"publisher_id\":\"pub_%03u\",\"user_id\":\"u%012llx\","
		"\"device_id\":\"d%012llx\",\"ip_address\":\"%u.%u.%u.%u\",\"user_agent\":\"%s\",\"geo\":{\"country\":\"%s\","
		"\"region\":\"%s\",\"city\":\"%s\"},\"referer\":\"%s%u\",\"bid_price\":%u.%02u,\"click_position\":%u}\n",
		(uint32_t)(a >> 32), (uint32_t)(a >> 16 & 0xffff), (uint32_t)(a & 0xfff), (uint32_t)(0x8000 | (b >> 48 & 0x3fff)),
		(unsigned long long)(b & 0xffffffffffff), below(state, 5) == 0 ? "click" : "impression",
		(unsigned long long)(PERF_EVENTS_NOW_MS - below(state, SPAN_MS)), below(state, 200000), below(state, 20000),
		below(state, 2000), below(state, 1000), (unsigned long long)(next(state) & 0xffffffffffff),
		(unsigned long long)(next(state) & 0xffffffffffff), 1 + (ip & 0x7f), ip >> 8 & 0xff, ip >> 16 & 0xff, ip >> 24,
		agents[below(state, COUNT_OF(agents))], places[place].country, places[place].region, places[place].city,
		sites[below(state, COUNT_OF(sites))], below(state, 100000), below(state, 10), below(state, 100),
		1 + below(state, 12));
}

int perf_events_make(struct perf_events *events, uint64_t seed, uint32_t count)
{
	*events = (struct perf_events){.count = count};
	events->text = (char *)malloc((size_t)count * EVENT_BYTES_MAX + PERF_EVENTS_PADDING);
	events->start = (uint64_t *)malloc(((size_t)count + 1) * sizeof *events->start);
	if (!events->text || !events->start) {
		perf_events_free(events);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++) {
		events->start[i] = events->bytes;
		events->bytes += (uint64_t)event_write(events->text + events->bytes, &seed);
	}
	events->start[count] = events->bytes;
	memset(events->text + events->bytes, 0, PERF_EVENTS_PADDING);
	return 0;
}

void perf_events_free(struct perf_events *events)
{
	free(events->text);
	free(events->start);
	*events = (struct perf_events){0};
}
