/* The Yahoo streaming benchmark's generator: ysb.h. Pure; whoever owns the stream calls. Source: splitmix64 (Steele, Lea, Flood 2014). */
#include "ysb.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *const ysb_event_type_name[YSB_EVENT_TYPES] = {"view", "click", "purchase"};
const char *const ysb_ad_type_name[YSB_AD_TYPES] = {"banner", "modal", "sponsored-search", "mail", "mobile"};

uint64_t ysb_stream_draw(struct ysb_stream *stream)
{
	uint64_t z = stream->random += 0x9e3779b97f4a7c15;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* 0 <= result < below */
static uint32_t draw_below(struct ysb_stream *stream, uint32_t below)
{
	return (uint32_t)(((ysb_stream_draw(stream) >> 32) * below) >> 32);
}

/* A version 4 UUID. Its first byte is the lowest of hi, as in struct tp_id: the bytes in their order. */
static struct tp_id id_draw(struct ysb_stream *stream)
{
	struct tp_id id = {.hi = ysb_stream_draw(stream), .lo = ysb_stream_draw(stream)};
	uint8_t byte[16];
	memcpy(byte, &id, sizeof(byte));
	byte[6] = (uint8_t)(0x40 | (byte[6] & 0x0f));
	byte[8] = (uint8_t)(0x80 | (byte[8] & 0x3f));
	memcpy(&id, byte, sizeof(byte));
	return id;
}

void ysb_stream_begin(struct ysb_stream *stream, uint64_t seed, uint64_t start_ms, uint64_t step_us)
{
	*stream = (struct ysb_stream){.random = seed, .time_us = start_ms * 1000, .step_us = step_us};
	for (uint32_t i = 0; i < YSB_CAMPAIGNS; i++)
		stream->campaign[i] = id_draw(stream);
	for (uint32_t i = 0; i < YSB_ADS; i++)
		stream->ad[i] = id_draw(stream);
}

uint32_t ysb_stream_next(struct ysb_stream *stream, struct ysb_tuple *tuple)
{
	const uint32_t ad = draw_below(stream, YSB_ADS);
	*tuple = (struct ysb_tuple){
		.user = id_draw(stream),
		.page = id_draw(stream),
		.ad = stream->ad[ad],
		.ip = {1, 2, 3, 4},
		.ad_type = (uint8_t)draw_below(stream, YSB_AD_TYPES),
		.event_type = (uint8_t)draw_below(stream, YSB_EVENT_TYPES),
	};
	tuple->time_ms = stream->time_us / 1000 + YSB_SKEW_MS - draw_below(stream, 2 * YSB_SKEW_MS);
	if (draw_below(stream, YSB_LATE_ONE_IN) == 0)
		tuple->time_ms -= draw_below(stream, YSB_LATE_MS_MAX);
	stream->time_us += stream->step_us;
	return ad / YSB_ADS_EACH;
}

char *ysb_id_text(struct tp_id id, char *to)
{
	static const char digit[] = "0123456789abcdef";
	uint8_t byte[16];
	memcpy(byte, &id, sizeof(byte));
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = digit[byte[i] >> 4];
		*to++ = digit[byte[i] & 15];
	}
	return to;
}

static char *put(char *to, const char *text)
{
	const size_t bytes = strlen(text);
	memcpy(to, text, bytes);
	return to + bytes;
}

uint32_t ysb_tuple_json(const struct ysb_tuple *tuple, char *to)
{
	char *at = ysb_id_text(tuple->user, put(to, "{\"user_id\": \""));
	at = ysb_id_text(tuple->page, put(at, "\", \"page_id\": \""));
	at = ysb_id_text(tuple->ad, put(at, "\", \"ad_id\": \""));
	at = put(put(at, "\", \"ad_type\": \""), ysb_ad_type_name[tuple->ad_type]);
	at = put(put(at, "\", \"event_type\": \""), ysb_event_type_name[tuple->event_type]);
	at += sprintf(at, "\", \"event_time\": \"%" PRIu64 "\", \"ip_address\": \"%u.%u.%u.%u\"}", tuple->time_ms, tuple->ip[0],
		      tuple->ip[1], tuple->ip[2], tuple->ip[3]);
	return (uint32_t)(at - to);
}

/* What an event is to our node. The join is the sender's: an ad server knows the campaign of an ad that it has served. */
static void beacon_write(const struct ysb_stream *stream, const struct ysb_tuple *tuple, struct tp_id id, uint32_t campaign,
			 char *to)
{
	static const char *const type[YSB_EVENT_TYPES] = {"impression", "click", "conversion"};
	char *at = ysb_id_text(id, put(to, "{\"event_id\":\""));
	at = ysb_id_text(tuple->user, put(at, "\",\"user_id\":\""));
	at = ysb_id_text(tuple->page, put(at, "\",\"page_id\":\""));
	at = ysb_id_text(tuple->ad, put(at, "\",\"ad_id\":\""));
	at = ysb_id_text(stream->campaign[campaign], put(at, "\",\"campaign_id\":\""));
	at = put(put(at, "\",\"advertiser_id\":\"ysb\",\"ad_type\":\""), ysb_ad_type_name[tuple->ad_type]);
	at = put(put(at, "\",\"event_type\":\""), type[tuple->event_type]);
	sprintf(at, "\",\"timestamp\":%" PRIu64 ",\"ip_address\":\"%u.%u.%u.%u\"}\n", tuple->time_ms, tuple->ip[0], tuple->ip[1],
		tuple->ip[2], tuple->ip[3]);
}

int ysb_beacons_write(FILE *to, uint64_t seed, uint64_t count, uint64_t start_ms, uint64_t step_us)
{
	enum { BACK = 1024, LINE = 512, COPIES_ONE_IN = 100 };
	struct ysb_stream stream;
	char(*line)[LINE] = calloc(BACK, LINE); /* the last ones, for those that a client sends once more */
	if (!line)
		return -ENOMEM;
	ysb_stream_begin(&stream, seed, start_ms, step_us);
	for (uint64_t i = 0; i < count; i++) {
		struct ysb_tuple tuple;
		const uint32_t campaign = ysb_stream_next(&stream, &tuple);
		beacon_write(&stream, &tuple, id_draw(&stream), campaign, line[i % BACK]);
		fputs(line[i % BACK], to);
		if (i >= BACK && draw_below(&stream, COPIES_ONE_IN) == 0)
			fputs(line[draw_below(&stream, BACK)], to);
	}
	free(line);
	return fflush(to) || ferror(to) ? -EIO : 0;
}
