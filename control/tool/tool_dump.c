/*
 * turnpikectl segments dump: a segment's events as JSON lines or CSV, in the order of the file.
 */
#include "tool_dump.h"

#include "turnpike/addr.h"
#include "turnpike/fraud_reason.h"
#include "turnpike/text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* Addresses as text: IPv4 in its own form. */
static const char *ip_text(const struct tp_event *event, char to[INET6_ADDRSTRLEN])
{
	static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
	bool four = !memcmp(event->ip, v4, sizeof(v4));
	return inet_ntop(four ? AF_INET : AF_INET6, four ? event->ip + 12 : event->ip, to, INET6_ADDRSTRLEN);
}

static void reasons_text(const struct tp_event *event, char *to, size_t room)
{
	size_t length = 0;
	to[0] = 0;
	for (int r = 0; r < TP_FRAUD_REASONS && length < room; r++)
		if (event->fraud & TP_FRAUD_BIT(r))
			length += (size_t)snprintf(to + length, room - length, "%s%s", length ? " " : "",
						   tp_fraud_reason_name((enum tp_fraud_reason)r));
}

/* The fields of the schema in their order, then what the node has to say. */
enum cell_kind { CELL_TEXT, CELL_NUMBER };

struct cell {
	const char *name;
	enum cell_kind kind;
	bool present;
	struct tp_str text; /* a number is its digits */
};

enum { CELLS = 28, ROOM_BYTES = 1024 };

struct cells {
	struct cell cell[CELLS];
	int count;
	char room[ROOM_BYTES]; /* of what has no text of its own */
	size_t used;
};

static void cell_put(struct cells *cells, const char *name, enum cell_kind kind, bool present, struct tp_str text)
{
	cells->cell[cells->count++] = (struct cell){.name = name, .kind = kind, .present = present, .text = text};
}

static void cell_text(struct cells *cells, const char *name, const struct tp_event *event, enum tp_string which)
{
	struct tp_str text = tp_event_string(event, which);
	cell_put(cells, name, CELL_TEXT, text.bytes > 0, text);
}

static void cell_print(struct cells *cells, const char *name, enum cell_kind kind, bool present, const char *from)
{
	size_t bytes = strlen(from);
	char *at = cells->room + cells->used;
	if (bytes > ROOM_BYTES - cells->used)
		bytes = ROOM_BYTES - cells->used;
	memcpy(at, from, bytes);
	cells->used += bytes;
	cell_put(cells, name, kind, present, (struct tp_str){at, (uint16_t)bytes});
}

static void cell_number(struct cells *cells, const char *name, bool present, int64_t number)
{
	char digits[32];
	snprintf(digits, sizeof(digits), "%ld", (long)number);
	cell_print(cells, name, CELL_NUMBER, present, digits);
}

static void cells_fill(struct cells *cells, const struct tp_event *event)
{
	char id[TP_ID_BYTES_MAX + 1], ip[INET6_ADDRSTRLEN], money[64], reasons[512];
	cells->count = 0;
	cells->used = 0;
	tp_event_id_text(event, id);
	tp_micros_text(event->bid_micros, money);
	reasons_text(event, reasons, sizeof(reasons));
	const bool country = event->country[0];
	const char country_text[3] = {event->country[0], event->country[1]};
	const char currency[4] = {event->currency[0], event->currency[1], event->currency[2]};
	cell_print(cells, "event_id", CELL_TEXT, true, id);
	cell_print(cells, "event_type", CELL_TEXT, true, tp_event_type_name((enum tp_event_type)event->type));
	cell_number(cells, "timestamp", true, (int64_t)event->timestamp_ms);
	cell_text(cells, "ad_id", event, TP_AD_ID);
	cell_text(cells, "campaign_id", event, TP_CAMPAIGN_ID);
	cell_text(cells, "advertiser_id", event, TP_ADVERTISER_ID);
	cell_text(cells, "publisher_id", event, TP_PUBLISHER_ID);
	cell_text(cells, "user_id", event, TP_USER_ID);
	cell_text(cells, "device_id", event, TP_DEVICE_ID);
	cell_print(cells, "ip_address", CELL_TEXT, event->flags & TP_HAS_IP, event->flags & TP_HAS_IP ? ip_text(event, ip) : "");
	cell_text(cells, "user_agent", event, TP_USER_AGENT);
	cell_text(cells, "referer", event, TP_REFERER);
	cell_print(cells, "country", CELL_TEXT, country, country_text);
	cell_text(cells, "region", event, TP_REGION);
	cell_text(cells, "city", event, TP_CITY);
	cell_print(cells, "device_type", CELL_TEXT, true, tp_device_name((enum tp_device_type)event->device));
	cell_print(cells, "bid_price", CELL_TEXT, event->flags & TP_HAS_BID, money);
	cell_print(cells, "currency", CELL_TEXT, true, currency);
	cell_number(cells, "click_position", event->flags & TP_HAS_POSITION, event->click_position);
	cell_number(cells, "timezone_offset_min", event->flags & TP_HAS_TIMEZONE, event->timezone_offset_min);
	cell_number(cells, "mouse_moves", event->flags & TP_HAS_MOUSE, event->mouse_moves);
	cell_number(cells, "received", true, (int64_t)event->received_ms);
	cell_print(cells, "verdict", CELL_TEXT, true, tp_verdict_name((enum tp_verdict)event->verdict));
	cell_print(cells, "reasons", CELL_TEXT, event->fraud, reasons);
	cell_number(cells, "rule_version", event->rule_version, event->rule_version);
}

/* JSON text of valid UTF-8, as parsers let it in; other bytes (there should be none) as U+FFFD. */
static void json_text(FILE *to, struct tp_str text)
{
	json_t *string = json_stringn(text.at, text.bytes);
	if (!string) {
		fputs("\"\\ufffd\"", to);
		return;
	}
	json_dumpf(string, to, JSON_ENCODE_ANY);
	json_decref(string);
}

/* As an event is sent: what is `geo` there is one object here. In a CSV they are columns. */
static bool cell_is_geo(const struct cell *cell)
{
	return !strcmp(cell->name, "country") || !strcmp(cell->name, "region") || !strcmp(cell->name, "city");
}

static void json_line(FILE *to, const struct cells *cells)
{
	const char *between = "{";
	bool geo = false;
	for (int i = 0; i < cells->count; i++) {
		const struct cell *cell = &cells->cell[i];
		if (!cell->present)
			continue;
		bool in_geo = cell_is_geo(cell);
		if (geo && !in_geo)
			fputc('}', to);
		fprintf(to, in_geo && !geo ? "%s\"geo\":{\"%s\":" : "%s\"%s\":", between, cell->name);
		geo = in_geo;
		if (cell->kind == CELL_TEXT)
			json_text(to, cell->text);
		else
			fwrite(cell->text.at, 1, cell->text.bytes, to);
		between = ",";
	}
	fputs("}\n", to);
}

/* RFC 4180. */
static void csv_text(FILE *to, struct tp_str text)
{
	bool quoted = false;
	for (uint16_t i = 0; i < text.bytes && !quoted; i++)
		quoted = strchr(",\"\r\n", text.at[i]) != NULL;
	if (!quoted) {
		fwrite(text.at, 1, text.bytes, to);
		return;
	}
	fputc('"', to);
	for (uint16_t i = 0; i < text.bytes; i++) {
		if (text.at[i] == '"')
			fputc('"', to);
		fputc(text.at[i], to);
	}
	fputc('"', to);
}

static void csv_line(FILE *to, const struct cells *cells, bool names)
{
	for (int i = 0; i < cells->count; i++) {
		const struct cell *cell = &cells->cell[i];
		if (i)
			fputc(',', to);
		if (names)
			fputs(cell->name, to);
		else if (cell->present)
			csv_text(to, cell->text);
	}
	fputs("\r\n", to);
}

static void event_print(struct ctl_dump *dump, const struct tp_event *event)
{
	struct cells cells;
	cells_fill(&cells, event);
	if (dump->csv && !dump->headed)
		csv_line(dump->to, &cells, true);
	dump->headed = true;
	if (dump->csv)
		csv_line(dump->to, &cells, false);
	else
		json_line(dump->to, &cells);
}

static bool string_is(const struct tp_event *event, enum tp_string which, struct tp_str wanted)
{
	struct tp_str text = tp_event_string(event, which);
	return !wanted.at || (text.bytes == wanted.bytes && !memcmp(text.at, wanted.at, text.bytes));
}

int ctl_dump_event(void *context, const struct tp_event *event)
{
	struct ctl_dump *dump = context;
	const struct sto_scan_filter *filter = dump->filter;
	if (event->timestamp_ms < filter->from_ms || (filter->to_ms && event->timestamp_ms >= filter->to_ms) ||
	    (filter->types && !(filter->types & 1u << event->type)) || !string_is(event, TP_CAMPAIGN_ID, filter->campaign) ||
	    !string_is(event, TP_AD_ID, filter->ad) || !string_is(event, TP_ADVERTISER_ID, filter->advertiser))
		return 0;
	event_print(dump, event);
	return ferror(dump->to) ? -EIO : 0;
}

int ctl_dump(struct ctl_dump *dump, struct sto_scan *scan)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	int rc;
	while ((rc = sto_scan_next(scan)) == 1) {
		uint32_t count;
		const uint32_t *selected = sto_scan_selected(scan, &count);
		for (uint32_t i = 0; i < count; i++) {
			rc = sto_scan_event(scan, selected ? selected[i] : i, event);
			if (rc)
				return rc;
			event_print(dump, event);
		}
		if (ferror(dump->to))
			return -EIO;
	}
	return rc;
}
