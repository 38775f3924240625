/*
 * turnpikectl fraud replay|features: sealed events under other rules. Reads the data folder, touches nothing.
 */
#include "tool.h"

#include "replay/replay.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB (UINT64_C(1) << 30)

static bool time_of(const char *text, uint64_t *ms)
{
	if (tp_time_parse(text, strlen(text), ms) == 0)
		return true;
	fprintf(stderr, "turnpikectl: expected a time such as 2026-01-31T00:00:00Z, or milliseconds, found \"%s\"\n", text);
	return false;
}

static const char *text_of(json_t *row, const char *key)
{
	return json_string_value(json_object_get(row, key));
}

static long long number_of(json_t *row, const char *key)
{
	return (long long)json_integer_value(json_object_get(row, key));
}

static void result_print(json_t *result)
{
	size_t i;
	json_t *row;
	printf("rule_version %lld, %lld events, %lld clicks\n\n%-20s %12s %12s %12s\n", number_of(result, "rule_version"),
	       number_of(result, "events"), number_of(result, "clicks"), "REASON", "TAGGED", "THEN", "CHANGE");
	json_array_foreach(json_object_get(result, "reasons"), i, row)
		printf("%-20s %12lld %12lld %+12lld\n", text_of(row, "reason"), number_of(row, "tagged"),
		       number_of(row, "tagged_then"), number_of(row, "tagged_then") - number_of(row, "tagged"));
	printf("\n%-32s %12s %12s %16s %16s %16s\n", "CAMPAIGN", "CLICKS", "THEN", "SPEND", "THEN", "CHANGE");
	json_array_foreach(json_object_get(result, "campaigns"), i, row)
		printf("%-32s %12lld %12lld %16s %16s %16s %s\n", text_of(row, "campaign"), number_of(row, "clicks"),
		       number_of(row, "clicks_then"), text_of(row, "spend"), text_of(row, "spend_then"), text_of(row, "change"),
		       text_of(row, "currency"));
	if (!json_array_size(json_object_get(result, "campaigns")))
		puts("no campaign's figures would change");
}

int ctl_tool_fraud(struct ctl_tool *tool, int words, char **word)
{
	if (words < 1 || (strcmp(word[0], "replay") && strcmp(word[0], "features")))
		return 2;
	const bool replay = strcmp(word[0], "replay") == 0;
	struct rpl_options options = {
		.data_dir = tool->config.data_dir, .rules = &tool->config.fraud, .to_ms = UINT64_MAX, .memory_bytes_max = 4 * GIB};
	const char *rules = NULL, *labels = NULL;
	for (int i = 1; i < words; i += 2) {
		const char *key = word[i], *value = i + 1 < words ? word[i + 1] : NULL;
		if (!value)
			return 2;
		if (!strcmp(key, "--rules"))
			rules = value;
		else if (!strcmp(key, "--labels") && !replay)
			labels = value;
		else if (!strcmp(key, "--from") && !time_of(value, &options.from_ms))
			return 2;
		else if (!strcmp(key, "--to") && !time_of(value, &options.to_ms))
			return 2;
		else if (!strcmp(key, "--memory") && tp_size_parse(value, strlen(value), &options.memory_bytes_max))
			return 2;
		else if (strcmp(key, "--from") && strcmp(key, "--to") && strcmp(key, "--memory"))
			return 2;
	}
	if (replay && !rules)
		return 2;
	struct tp_config other = {0};
	if (rules && tp_config_load(rules, &other, stderr))
		return 2;
	if (rules)
		options.rules = &other.fraud;
	json_t *result = NULL;
	int rc = replay ? rpl_replay(&options, &result) : rpl_features(&options, labels, stdout);
	if (result && tool->json)
		ctl_tool_print(result);
	else if (result)
		result_print(result), json_decref(result);
	if (rules)
		tp_config_free(&other);
	return rc ? 1 : 0;
}
