/*
 * Where events come from: the generator, or a file of JSON lines. One thread per source.
 *
 * Replay reads the file line by line; each of T threads takes every T-th line. A line is sent as it stands; it is parsed only to know
 * what to expect in the ledger, and, for batches, to be written in the other format. A line that holds no valid event is left out
 * and counted, because no node would acknowledge it.
 */
#include "blast.h"
#include "blast_synth.h"
#include "json_event.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct blast_source {
	const struct blast_options *options;
	unsigned want;
	char ledger[BLAST_LEDGER_LINE_MAX];
	/* synthetic */
	struct blast_synth *synth;
	struct blast_event_text text;
	char json[BLAST_JSON_MAX];
	/* replay */
	FILE *file;
	char *line;
	size_t line_room;
	uint64_t line_number, invalid;
	uint32_t thread;
	struct dp_json_scratch *scratch;
	char strings[TP_EVENT_BYTES_MAX + 256]; /* with terminators */
};

void *blast_alloc(void *old, size_t bytes)
{
	void *memory = realloc(old, bytes);
	if (!memory) {
		fprintf(stderr, "turnpike-blast: no memory for %zu bytes\n", bytes);
		exit(1);
	}
	return memory;
}

struct blast_source *blast_source_open(const struct blast_options *options, uint32_t thread, unsigned want)
{
	struct blast_source *source = blast_alloc(NULL, sizeof *source);
	memset(source, 0, sizeof *source);
	source->options = options;
	source->want = want;
	source->thread = thread;
	if (!options->replay) {
		source->synth = blast_synth_open(options, thread);
		return source;
	}
	source->file = fopen(options->replay, "re");
	source->scratch = dp_json_scratch_new();
	if (!source->file || !source->scratch) {
		fprintf(stderr, "turnpike-blast: cannot open %s: %s\n", options->replay, strerror(errno));
		blast_source_close(source);
		return NULL;
	}
	return source;
}

void blast_source_close(struct blast_source *source)
{
	if (!source)
		return;
	blast_synth_close(source->synth);
	if (source->file)
		fclose(source->file);
	dp_json_scratch_free(source->scratch);
	free(source->line);
	free(source);
}

uint64_t blast_source_invalid(const struct blast_source *source)
{
	return source->invalid;
}

static void synth_next(struct blast_source *source, struct blast_item *item)
{
	struct blast_event event;
	blast_synth_next(source->synth, source->options->stamp_fixed ? 0 : tp_now_ms(), &event, &item->copy);
	if (source->want & BLAST_WANT_JSON) {
		item->json = source->json;
		item->json_bytes = blast_event_json(source->options, &event, source->json);
	}
	if (source->want & BLAST_WANT_FIELDS)
		blast_event_fields(source->options, &event, &source->text, &item->fields);
	item->ledger_bytes = 0;
	if (source->want & BLAST_WANT_LEDGER && !item->copy) {
		item->ledger = source->ledger;
		item->ledger_bytes = blast_event_ledger(source->options, &event, source->ledger);
	}
}

/* Ids may hold anything: what would break a line of words is written as %xx. */
static char *put_word(char *at, const char *text, size_t bytes)
{
	static const char digit[] = "0123456789abcdef";
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c <= ' ' || c == '%' || c == 0x7f) {
			*at++ = '%';
			*at++ = digit[c >> 4];
			*at++ = digit[c & 15];
		} else {
			*at++ = (char)c;
		}
	}
	return at;
}

/* The id's text. */
static size_t id_text(const struct tp_parsed *parsed, char to[TP_ID_BYTES_MAX + 1])
{
	struct tp_str kept = parsed->string[TP_EVENT_ID];
	if (kept.bytes > 0) {
		memcpy(to, kept.at, kept.bytes);
		to[kept.bytes] = 0;
		return kept.bytes;
	}
	struct tp_event fixed = parsed->fixed;
	memset(fixed.string_bytes, 0, sizeof fixed.string_bytes);
	return tp_event_id_text(&fixed, to);
}

static uint32_t ledger_line(const struct tp_parsed *parsed, char *to)
{
	char id[TP_ID_BYTES_MAX + 1];
	size_t id_bytes = id_text(parsed, id);
	char *at = put_word(to, id, id_bytes);
	at += sprintf(at, " %s ", tp_event_type_name((enum tp_event_type)parsed->fixed.type));
	at = put_word(at, parsed->string[TP_CAMPAIGN_ID].at, parsed->string[TP_CAMPAIGN_ID].bytes);
	uint64_t minute_ms = parsed->fixed.timestamp_ms - parsed->fixed.timestamp_ms % TP_MINUTE_MS;
	at += sprintf(at, " %" PRIu64 " %" PRId64 "\n", minute_ms, parsed->fixed.bid_micros);
	return (uint32_t)(at - to);
}

static const char *keep(char **at, const char *text, size_t bytes)
{
	char *kept = *at;
	memcpy(kept, text, bytes);
	kept[bytes] = 0;
	*at += bytes + 1;
	return kept;
}

/* A parsed event as the client's fields. */
static void fields_of(struct blast_source *source, const struct tp_parsed *parsed, struct tpc_event *fields)
{
	char *at = source->strings;
	const struct tp_event *fixed = &parsed->fixed;
	const char *string[TP_STRINGS] = {0};
	for (int i = 0; i < TP_STRINGS; i++)
		if (parsed->string[i].bytes > 0)
			string[i] = keep(&at, parsed->string[i].at, parsed->string[i].bytes);
	if (!string[TP_EVENT_ID]) {
		string[TP_EVENT_ID] = at;
		at += id_text(parsed, at) + 1;
	}
	*fields = (struct tpc_event){
		.event_id = string[TP_EVENT_ID],
		.type = fixed->type,
		.timestamp_ms = fixed->timestamp_ms,
		.ad_id = string[TP_AD_ID],
		.campaign_id = string[TP_CAMPAIGN_ID],
		.advertiser_id = string[TP_ADVERTISER_ID],
		.publisher_id = string[TP_PUBLISHER_ID],
		.user_id = string[TP_USER_ID],
		.device_id = string[TP_DEVICE_ID],
		.user_agent = string[TP_USER_AGENT],
		.referer = string[TP_REFERER],
		.region = string[TP_REGION],
		.city = string[TP_CITY],
		.country = fixed->country[0] ? keep(&at, fixed->country, 2) : NULL,
		.currency = keep(&at, fixed->currency, 3),
		.device_type = fixed->flags & TP_DEVICE_SENT ? tp_device_name((enum tp_device_type)fixed->device) : NULL,
		.has_bid = fixed->flags & TP_HAS_BID,
		.has_position = fixed->flags & TP_HAS_POSITION,
		.has_timezone = fixed->flags & TP_HAS_TIMEZONE,
		.has_mouse = fixed->flags & TP_HAS_MOUSE,
		.bid_micros = fixed->bid_micros,
		.click_position = fixed->click_position,
		.timezone_offset_min = fixed->timezone_offset_min,
		.mouse_moves = fixed->mouse_moves,
	};
	if (fixed->flags & TP_IP_SENT) {
		struct tp_addr addr = tp_addr_v6(fixed->ip);
		fields->ip_address = at;
		at += tp_addr_text(&addr, at) + 1;
	}
	if (fixed->flags & TP_HAS_TRACE) {
		fields->trace = at;
		at += sprintf(at, "00-");
		for (int i = 0; i < 16; i++)
			at += sprintf(at, "%02x", fixed->trace_id[i]);
		*at++ = '-';
		for (int i = 0; i < 8; i++)
			at += sprintf(at, "%02x", fixed->span_id[i]);
		at += sprintf(at, "-%02x", fixed->trace_flags) + 1;
	}
}

static bool replay_next(struct blast_source *source, struct blast_item *item)
{
	static const struct dp_json_limits limits = {.now_ms = INT64_MAX, .max_future_ms = 0};
	for (;;) {
		ssize_t got = getline(&source->line, &source->line_room, source->file);
		if (got < 0)
			return false;
		if (source->line_number++ % source->options->threads != source->thread)
			continue;
		size_t bytes = (size_t)got;
		size_t begin = dp_json_skip_space(source->line, 0, bytes);
		if (begin == bytes)
			continue;
		while (strchr(" \t\r\n", source->line[bytes - 1]))
			bytes--;
		struct tp_parsed parsed;
		struct dp_json_result result =
			dp_json_event(source->scratch, source->line + begin, bytes - begin, &limits, &parsed);
		if (result.reason != TP_OK || begin + result.used != bytes) {
			if (source->invalid++ == 0)
				fprintf(stderr, "turnpike-blast: %s:%" PRIu64 ": left out: %s\n", source->options->replay,
					source->line_number,
					result.reason != TP_OK ? tp_reject_detail(result.reason, result.field)
							       : "something follows the event");
			continue;
		}
		item->copy = false;
		item->json = source->line + begin;
		item->json_bytes = (uint32_t)(bytes - begin);
		if (source->want & BLAST_WANT_FIELDS)
			fields_of(source, &parsed, &item->fields);
		item->ledger = source->ledger;
		item->ledger_bytes = source->want & BLAST_WANT_LEDGER ? ledger_line(&parsed, source->ledger) : 0;
		return true;
	}
}

bool blast_source_next(struct blast_source *source, struct blast_item *item)
{
	if (source->file)
		return replay_next(source, item);
	synth_next(source, item);
	return true;
}
