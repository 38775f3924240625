/* The replay: rules, state and events together, and the sums of what changes. */
#include "replay_private.h"

#include "turnpike/machine.h"
#include "turnpike/rules.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRAUD_ENTRIES = 1 << 20 };

struct replay {
	const struct rpl_options *options;
	struct rpl_events events;
	struct rul_rules *rules;
	void *memory, *ip_memory;
	struct agg_fraud_shard *shard;
	/* clicks by id: 1 + row */
	uint64_t *index, index_slots;
};

static void *zeroed(uint64_t bytes)
{
	bytes = (bytes + 127) & ~UINT64_C(127);
	void *at = aligned_alloc(128, bytes);
	return at ? memset(at, 0, bytes) : NULL;
}

static int fail(const char *what, int rc)
{
	fprintf(stderr, "turnpikectl: %s: %s\n", what, strerror(-rc));
	return rc;
}

static int open(struct replay *replay)
{
	const struct rpl_options *options = replay->options;
	int rc = rul_load(&replay->rules, &(struct rul_options){.config = options->rules});
	if (rc)
		return rc; /* said */
	replay->memory = zeroed(agg_fraud_shard_bytes(FRAUD_ENTRIES));
	replay->ip_memory = zeroed(agg_fraud_ip_bytes(FRAUD_ENTRIES));
	if (!replay->memory || !replay->ip_memory)
		return fail("no memory for the rules' tables", -ENOMEM);
	replay->shard =
		agg_fraud_shard_init(replay->memory, FRAUD_ENTRIES, agg_fraud_ip_init(replay->ip_memory, FRAUD_ENTRIES), NULL);
	agg_fraud_rules_set(replay->shard, rul_compiled(replay->rules));
	replay->events.bytes_max = options->memory_bytes_max;
	uint64_t warm_ms = options->from_ms > AGG_AGAIN_MS ? options->from_ms - AGG_AGAIN_MS : 0;
	rc = rpl_load(&replay->events, options->data_dir, warm_ms, options->to_ms);
	if (rc == -ENOMEM)
		return fail(
			"the range holds more than fits into memory; choose a shorter one (--from, --to) or allow more (--memory)",
			rc);
	return rc ? fail(options->data_dir, rc) : 0;
}

static void close(struct replay *replay)
{
	rpl_unload(&replay->events);
	rul_free(replay->rules);
	free(replay->memory);
	free(replay->ip_memory);
	free(replay->index);
}

/* ---- clicks by id ---- */

static uint64_t *slot_of(const struct replay *replay, const struct tp_event *event)
{
	uint64_t at = (event->id.hi ^ event->id.lo * 0x9e3779b97f4a7c15ULL) * 0xff51afd7ed558ccdULL >> 20;
	for (;; at++) {
		uint64_t *slot = &replay->index[at & (replay->index_slots - 1)];
		if (!*slot)
			return slot;
		const struct tp_event *other = replay->events.row[*slot - 1].event;
		/* one id may be two events, under two minutes */
		if (other->id.hi == event->id.hi && other->id.lo == event->id.lo && other->timestamp_ms == event->timestamp_ms)
			return slot;
	}
}

static struct rpl_row *click_find(const struct replay *replay, const struct tp_event *event)
{
	uint64_t *slot = slot_of(replay, event);
	return *slot ? &replay->events.row[*slot - 1] : NULL;
}

static int index_make(struct replay *replay)
{
	replay->index_slots = 1024;
	while (replay->index_slots < 2 * replay->events.count)
		replay->index_slots *= 2;
	replay->index = calloc(replay->index_slots, sizeof(*replay->index));
	if (!replay->index)
		return -ENOMEM;
	for (uint64_t i = 0; i < replay->events.count; i++) {
		struct rpl_row *row = &replay->events.row[i];
		if (row->event->type != TP_CLICK || row->event->verdict == TP_AMENDED)
			continue;
		row->was = row->event->fraud;
		*slot_of(replay, row->event) = i + 1;
	}
	for (uint64_t i = 0; i < replay->events.count; i++) {
		const struct tp_event *event = replay->events.row[i].event;
		struct rpl_row *click = event->verdict == TP_AMENDED ? click_find(replay, event) : NULL;
		if (click)
			click->was = event->fraud;
	}
	return 0;
}

/* ---- judging ---- */

static void row_judge(struct replay *replay, struct agg_machine machine, struct rpl_row *row)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX + TP_EVIDENCE_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	memcpy(event, row->event, row->event->bytes);
	/* as it came: without what the shard added */
	event->bytes -= event->evidence_count * (uint32_t)sizeof(struct tp_evidence);
	event->evidence_count = 0;
	event->fraud = 0;
	machine.ops->show(machine.self, event);
	row->would = event->fraud;
	/* which prefixes were on the blocklist then is not known now: what it said stands */
	if (event->type == TP_CLICK && replay->options->rules->blocklisted)
		row->would |= row->was & TP_FRAUD_BIT(TP_FRAUD_BLOCKLISTED);
	for (const struct tp_event *amended; (amended = machine.ops->record(machine.self)) != NULL;
	     machine.ops->recorded(machine.self)) {
		struct rpl_row *click = click_find(replay, amended);
		if (click)
			click->would &= ~TP_FRAUD_BIT(TP_FRAUD_NO_IMPRESSION);
	}
}

static bool in_range(const struct replay *replay, const struct rpl_row *row)
{
	return row->event->type == TP_CLICK && row->event->verdict != TP_AMENDED &&
	       row->event->timestamp_ms >= replay->options->from_ms;
}

/* ---- sums ---- */

/* One campaign and currency. */
struct sum {
	struct tp_str campaign;
	const char *currency;
	uint64_t clicks, flagged, clicks_then, flagged_then;
	__int128 spend, spend_then;
};

static int by_campaign(const void *left, const void *right)
{
	const struct tp_event *a = (*(const struct rpl_row *const *)left)->event,
			      *b = (*(const struct rpl_row *const *)right)->event;
	struct tp_str x = tp_event_string(a, TP_CAMPAIGN_ID), y = tp_event_string(b, TP_CAMPAIGN_ID);
	int order = memcmp(x.at, y.at, x.bytes < y.bytes ? x.bytes : y.bytes);
	if (!order)
		order = (int)x.bytes - (int)y.bytes;
	return order ? order : memcmp(a->currency, b->currency, sizeof(a->currency));
}

static json_t *money_json(__int128 micros)
{
	char text[64];
	text[tp_micros_text(micros, text)] = 0;
	return json_string(text);
}

static void sum_add(json_t *campaigns, const struct sum *sum)
{
	if (sum->clicks == sum->clicks_then && sum->flagged == sum->flagged_then && sum->spend == sum->spend_then)
		return;
	json_array_append_new(campaigns,
			      json_pack("{s:s%, s:s%, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "campaign", sum->campaign.at,
					(size_t)sum->campaign.bytes, "currency", sum->currency, (size_t)3, "clicks",
					(json_int_t)sum->clicks, "clicks_then", (json_int_t)sum->clicks_then, "flagged_clicks",
					(json_int_t)sum->flagged, "flagged_clicks_then", (json_int_t)sum->flagged_then, "spend",
					money_json(sum->spend), "spend_then", money_json(sum->spend_then), "change",
					money_json(sum->spend_then - sum->spend)));
}

static int campaigns_make(const struct replay *replay, uint64_t clicks, json_t *campaigns)
{
	const struct rpl_row **sorted = malloc((clicks ? clicks : 1) * sizeof(struct rpl_row *));
	if (!sorted)
		return -ENOMEM;
	uint64_t count = 0;
	for (uint64_t i = 0; i < replay->events.count; i++)
		if (in_range(replay, &replay->events.row[i]))
			sorted[count++] = &replay->events.row[i];
	qsort(sorted, count, sizeof(struct rpl_row *), by_campaign);
	struct sum sum = {0};
	for (uint64_t i = 0; i < count; i++) {
		const struct tp_event *event = sorted[i]->event;
		if (!i || by_campaign(&sorted[i - 1], &sorted[i])) {
			if (i)
				sum_add(campaigns, &sum);
			sum = (struct sum){.campaign = tp_event_string(event, TP_CAMPAIGN_ID), .currency = event->currency};
		}
		sum.clicks += !sorted[i]->was;
		sum.flagged += sorted[i]->was != 0;
		sum.clicks_then += !sorted[i]->would;
		sum.flagged_then += sorted[i]->would != 0;
		sum.spend += sorted[i]->was ? 0 : event->bid_micros;
		sum.spend_then += sorted[i]->would ? 0 : event->bid_micros;
	}
	if (count)
		sum_add(campaigns, &sum);
	free(sorted);
	return 0;
}

static json_t *reasons_json(const struct replay *replay)
{
	uint64_t was[TP_FRAUD_REASONS] = {0}, would[TP_FRAUD_REASONS] = {0};
	for (uint64_t i = 0; i < replay->events.count; i++) {
		const struct rpl_row *row = &replay->events.row[i];
		if (!in_range(replay, row))
			continue;
		for (uint32_t left = row->was; left; left &= left - 1)
			was[__builtin_ctz(left)]++;
		for (uint32_t left = row->would; left; left &= left - 1)
			would[__builtin_ctz(left)]++;
	}
	json_t *reasons = json_array();
	for (int r = 0; r < TP_FRAUD_REASONS; r++)
		if (was[r] || would[r])
			json_array_append_new(reasons,
					      json_pack("{s:s, s:I, s:I}", "reason", tp_fraud_reason_name((enum tp_fraud_reason)r),
							"tagged", (json_int_t)was[r], "tagged_then", (json_int_t)would[r]));
	return reasons;
}

int rpl_replay(const struct rpl_options *options, json_t **result)
{
	struct replay replay = {.options = options};
	int rc = open(&replay);
	if (!rc)
		rc = index_make(&replay);
	uint64_t events = 0, clicks = 0;
	for (uint64_t i = 0; !rc && i < replay.events.count; i++) {
		struct rpl_row *row = &replay.events.row[i];
		if (row->event->verdict == TP_AMENDED)
			continue;
		row_judge(&replay, agg_fraud_machine(replay.shard), row);
		events += row->event->timestamp_ms >= options->from_ms;
		clicks += in_range(&replay, row);
	}
	json_t *campaigns = json_array();
	if (!rc)
		rc = campaigns_make(&replay, clicks, campaigns);
	if (!rc) {
		*result = json_pack("{s:I, s:I, s:I, s:o, s:O}", "rule_version", (json_int_t)rul_compiled(replay.rules)->version,
				    "events", (json_int_t)events, "clicks", (json_int_t)clicks, "reasons", reasons_json(&replay),
				    "campaigns", campaigns);
		rc = *result ? 0 : -ENOMEM;
	}
	json_decref(campaigns);
	close(&replay);
	return rc;
}

/* ---- features ---- */

struct label {
	struct tp_id id;
	uint8_t value;
};

static int label_order(const void *left, const void *right)
{
	const struct label *a = left, *b = right;
	if (a->id.hi != b->id.hi)
		return a->id.hi < b->id.hi ? -1 : 1;
	return a->id.lo < b->id.lo ? -1 : a->id.lo > b->id.lo;
}

/* Ids of text are compared as text in the record; here by a hash of their own, since the node's key is not ours. */
static struct tp_id id_of(const char *text, size_t bytes)
{
	int uuid;
	return tp_id_from_text(text, bytes, &uuid);
}

static int labels_read(const char *path, struct label **label, uint64_t *count)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return fail(path, -errno);
	char line[256];
	uint64_t max = 0, number = 0;
	int rc = 0;
	while (!rc && fgets(line, sizeof(line), file)) {
		number++;
		line[strcspn(line, "\r\n")] = 0;
		char *comma = strrchr(line, ',');
		if (!line[0])
			continue;
		if (!comma || comma == line || comma - line > TP_ID_BYTES_MAX || (strcmp(comma, ",0") && strcmp(comma, ",1"))) {
			fprintf(stderr, "turnpikectl: %s:%" PRIu64 ": expected EVENT_ID,0 or EVENT_ID,1\n", path, number);
			rc = -EINVAL;
			break;
		}
		if (*count == max) {
			max = max ? 2 * max : 1024;
			struct label *larger = realloc(*label, max * sizeof(*larger));
			rc = larger ? 0 : -ENOMEM;
			*label = larger ? larger : *label;
		}
		if (!rc)
			(*label)[(*count)++] = (struct label){.id = id_of(line, (size_t)(comma - line)), .value = comma[1] == '1'};
	}
	fclose(file);
	if (!rc && *count)
		qsort(*label, *count, sizeof(**label), label_order);
	return rc;
}

static void feature_print(const float *feature, int label, FILE *to)
{
	fprintf(to, "%d", label);
	for (int f = 0; f < AGG_FEATURES; f++) {
		if (isnan(feature[f]))
			fputs(",", to); /* not known */
		else
			fprintf(to, ",%.9g", (double)feature[f]);
	}
	fputc('\n', to);
}

int rpl_features(const struct rpl_options *options, const char *labels, FILE *to)
{
	struct replay replay = {.options = options};
	struct label *label = NULL;
	uint64_t count = 0;
	int rc = labels ? labels_read(labels, &label, &count) : 0;
	if (!rc)
		rc = open(&replay);
	if (!rc)
		rc = index_make(&replay);
	if (!rc) {
		fputs("label", to);
		for (int f = 0; f < AGG_FEATURES; f++)
			fprintf(to, ",%s", agg_feature_name((enum agg_feature)f));
		fputc('\n', to);
	}
	for (uint64_t i = 0; !rc && i < replay.events.count; i++) {
		const struct rpl_row *row = &replay.events.row[i];
		if (row->event->verdict == TP_AMENDED)
			continue;
		struct agg_findings findings;
		float feature[AGG_FEATURES];
		agg_fraud_judge(replay.shard, row->event, &findings, feature);
		if (!in_range(&replay, row))
			continue;
		char text[TP_ID_BYTES_MAX + 1];
		struct label key = {.id = id_of(text, tp_event_id_text(row->event, text))};
		const struct label *given = label ? bsearch(&key, label, count, sizeof(*label), label_order) : NULL;
		if (given || !labels)
			feature_print(feature, given ? given->value : row->was != 0, to);
	}
	if (!rc && fflush(to))
		rc = -errno;
	free(label);
	close(&replay);
	return rc;
}
