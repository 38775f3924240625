/* Lines of bills as JSON and as CSV: see ctl_billing_text.h. Pure; any thread. */
#include "ctl_billing_text.h"

#include "ctl_request.h"
#include "turnpike/text.h"

#include <string.h>

enum { MICROS_BYTES = 64, SPEND_TEXT_BYTES = 4096 };

const char ctl_billing_line_csv_header[] = "campaign_id,impressions,clicks,flagged_clicks,spend,currency,spend_by_currency";

/* ---- JSON ---- */

static json_t *money_json(__int128 micros)
{
	char text[MICROS_BYTES];
	return json_stringn(text, tp_micros_text(micros, text));
}

void ctl_billing_line_json(json_t *object, const struct ctl_billing_sum *sum, const struct ctl_billing_line *line)
{
	struct tp_str campaign = ctl_billing_campaign(sum, line);
	struct ctl_billing_money money = ctl_billing_line_money(sum, line);

	json_object_set_new(object, "campaign_id", ctl_json_text(campaign.at, campaign.bytes));
	json_object_set_new(object, "impressions", json_integer(line->counts.impressions));
	json_object_set_new(object, "clicks", json_integer(line->counts.clicks));
	json_object_set_new(object, "flagged_clicks", json_integer(line->counts.flagged_clicks));
	json_object_set_new(object, "spend", money.several ? json_null() : money_json(money.micros));
	json_object_set_new(object, "currency", money.currency[0] ? ctl_json_text(money.currency, 3) : json_null());
	if (!money.several)
		return;
	json_t *each = json_object();
	for (uint32_t at = line->spend; at; at = sum->spend[at - 1].next)
		if (sum->spend[at - 1].micros)
			json_object_set_new(each, sum->spend[at - 1].currency, money_json(sum->spend[at - 1].micros));
	json_object_set_new(object, "spend_by_currency", each);
}

json_t *ctl_billing_time_json(const struct ctl_zone *zone, uint64_t ms)
{
	char text[CTL_ZONE_TEXT_BYTES];
	return json_stringn(text, ctl_zone_text(zone, ms, text));
}

/* ---- CSV ---- */

static bool looks_like_formula(struct tp_str text)
{
	if (text.bytes == 0 || !memchr("=+@-\t\r", text.at[0], 6))
		return false;
	if (text.at[0] != '-')
		return true;
	/* an id of letters and digits that begins with a dash is one, and harmless */
	for (uint32_t i = 1; i < text.bytes; i++) {
		char c = text.at[i];
		bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
		if (!plain)
			return true;
	}
	return false;
}

void ctl_csv_text(FILE *to, struct tp_str text)
{
	bool formula = looks_like_formula(text), quoted = formula;

	for (uint32_t i = 0; i < text.bytes; i++)
		quoted = quoted || memchr(",\"\r\n", text.at[i], 4);
	if (!quoted) {
		fwrite(text.at, 1, text.bytes, to);
		return;
	}
	fputs(formula ? "\"'" : "\"", to);
	for (uint32_t i = 0; i < text.bytes; i++) {
		if (text.at[i] == '"')
			fputc('"', to);
		fputc(text.at[i], to);
	}
	fputc('"', to);
}

size_t ctl_billing_spend_text(const struct ctl_billing_sum *sum, const struct ctl_billing_line *line, char *to, size_t room)
{
	size_t bytes = 0;

	to[0] = '\0';
	for (uint32_t at = line->spend; at; at = sum->spend[at - 1].next) {
		char text[MICROS_BYTES];
		tp_micros_text(sum->spend[at - 1].micros, text);
		int n = snprintf(to + bytes, room - bytes, "%s%.3s=%s", bytes ? " " : "", sum->spend[at - 1].currency, text);
		if (n < 0 || (size_t)n >= room - bytes)
			break;
		bytes += (size_t)n;
	}
	to[bytes] = '\0';
	return bytes;
}

void ctl_billing_line_csv(FILE *to, const struct ctl_billing_sum *sum, const struct ctl_billing_line *line)
{
	struct ctl_billing_money money = ctl_billing_line_money(sum, line);
	char text[MICROS_BYTES] = "", each[SPEND_TEXT_BYTES] = "";

	ctl_csv_text(to, ctl_billing_campaign(sum, line));
	if (!money.several)
		tp_micros_text(money.micros, text);
	else
		ctl_billing_spend_text(sum, line, each, sizeof(each));
	fprintf(to, ",%lld,%lld,%lld,%s,%s,%s", (long long)line->counts.impressions, (long long)line->counts.clicks,
		(long long)line->counts.flagged_clicks, text, money.currency, each);
}
