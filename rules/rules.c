/*
 * Puts the rules together. Their version is a hash of all that decides: limits and the contents of files. The same rules have the same
 * version on every node and after every restart; other rules have another one.
 */
#include "rules_private.h"

#include "turnpike/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IMPRESSION_WAIT_MS = 5000 };

struct rul_rules {
	struct agg_fraud_rules compiled;
	struct agg_words *bot_user_agents;
	struct agg_ranges *bot_addresses;
	struct agg_asns *bot_asns;
	struct agg_places *places;
	struct agg_model *model;
};

int rul_file_read(const char *path, uint64_t bytes_max, char **text, size_t *bytes)
{
	struct stat info;
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	char *room = NULL;
	size_t have = 0;
	if (fd < 0 || fstat(fd, &info))
		rc = -errno;
	else if (!S_ISREG(info.st_mode))
		rc = -EINVAL;
	else if ((uint64_t)info.st_size > bytes_max)
		rc = -EFBIG;
	else if (!(room = malloc((size_t)info.st_size + 1)))
		rc = -ENOMEM;
	while (!rc && have < (size_t)info.st_size) {
		ssize_t n = read(fd, room + have, (size_t)info.st_size - have);
		if (n > 0)
			have += (size_t)n;
		else if (n == 0)
			rc = -EAGAIN; /* somebody is writing it: not half of it */
		else if (errno != EINTR)
			rc = -errno;
	}
	if (fd >= 0)
		close(fd);
	if (rc) {
		tp_logf(TP_ERROR, "cannot read a file of the fraud rules", "file=%s error=\"%s\"", path, strerror(-rc));
		free(room);
		return rc;
	}
	room[have] = 0;
	if (memchr(room, 0, have)) {
		/* what lies behind it would be lost without a word */
		tp_logf(TP_ERROR, "a file of the fraud rules is no text: it has a byte of zero", "file=%s", path);
		free(room);
		return -EINVAL;
	}
	*text = room;
	*bytes = have;
	return 0;
}

int rul_lines(char *text, int (*fn)(void *context, char *entry, uint32_t line), void *context)
{
	uint32_t line = 1;
	for (char *next; text; text = next, line++) {
		next = strchr(text, '\n');
		if (next)
			*next++ = 0;
		text[strcspn(text, "#")] = 0;
		text += strspn(text, " \t\r");
		size_t bytes = strlen(text);
		while (bytes && strchr(" \t\r", text[bytes - 1]))
			text[--bytes] = 0;
		int rc = bytes ? fn(context, text, line) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

void rul_version_add(XXH3_state_t *version, const void *bytes, size_t count)
{
	const uint64_t length = count;
	XXH3_64bits_update(version, &length, sizeof(length));
	XXH3_64bits_update(version, bytes, count);
}

/* What is a number or a switch. Lists, places and the model have hashed themselves. Only add at the end: the order is the version. */
static void limits_hash(const struct agg_fraud_rules *rules, XXH3_state_t *version)
{
	const uint32_t limit[] = {
		rules->clicks_per_ip_hour,
		rules->clicks_per_device_hour,
		rules->min_ms_since_impression,
		rules->no_impression,
		rules->no_impression ? rules->impression_lookback_ms : 0,
		rules->no_impression ? rules->impression_wait_ms : 0,
		rules->blocklisted,
		rules->no_mouse,
		rules->device_mismatch,
		rules->geo_mismatch,
		rules->regular_timing_ms,
		rules->regular_timing_ms ? rules->regular_timing_gaps : 0,
		rules->addresses_per_device_hour,
		rules->agents_per_device_hour,
		rules->travel_kmh,
		rules->model ? rules->model_threshold : 0,
	};
	rul_version_add(version, limit, sizeof(limit));
}

static int parts_load(struct rul_rules *rules, const struct tp_config_fraud *config, XXH3_state_t *version)
{
	int rc = 0;
	if (config->bot_user_agents)
		rc = rul_words_load(config->bot_user_agents, &rules->bot_user_agents, version);
	if (!rc && config->bot_address_count)
		rc = rul_ranges_load(config->bot_addresses, config->bot_address_count, &rules->bot_addresses, version);
	if (!rc && config->bot_asns)
		rc = rul_asns_load(config->bot_asns, &rules->bot_asns, version);
	if (!rc && (config->geo_database || config->asn_database))
		rc = rul_places_open(config->geo_database, config->asn_database, &rules->places, version);
	if (!rc && config->model)
		rc = rul_model_load_versioned(config->model, &rules->model, version);
	return rc;
}

int rul_load(struct rul_rules **to, const struct rul_options *options)
{
	const struct tp_config_fraud *config = options->config;
	struct rul_rules *rules = calloc(1, sizeof(*rules));
	XXH3_state_t *version = XXH3_createState();
	int rc = rules && version ? 0 : -ENOMEM;
	if (!rc) {
		XXH3_64bits_reset(version);
		rc = parts_load(rules, config, version);
	}
	if (rc) {
		XXH3_freeState(version);
		rul_free(rules);
		return rc;
	}
	struct agg_fraud_rules *compiled = &rules->compiled;
	*compiled = (struct agg_fraud_rules){
		.clicks_per_ip_hour = config->clicks_per_ip_hour,
		.clicks_per_device_hour = config->clicks_per_device_hour,
		.min_ms_since_impression = config->min_ms_since_impression,
		.no_impression = config->no_impression,
		.impression_lookback_ms = (uint32_t)config->impression_lookback_ms,
		.impression_wait_ms = IMPRESSION_WAIT_MS,
		.blocklisted = config->blocklisted,
		.no_mouse = config->no_mouse,
		.device_mismatch = config->device_mismatch,
		.geo_mismatch = config->geo_mismatch,
		.regular_timing_ms = config->regular_timing_ms,
		.regular_timing_gaps = config->regular_timing_gaps,
		.addresses_per_device_hour = config->addresses_per_device_hour,
		.agents_per_device_hour = config->agents_per_device_hour,
		.travel_kmh = config->travel_kmh,
		.ctr_deviations = config->ctr_deviations,
		.blocklist_over_times = config->blocklist_over,
		.model_threshold = config->model_threshold,
		.bot_user_agents = rules->bot_user_agents,
		.bot_addresses = rules->bot_addresses,
		.bot_asns = rules->bot_asns,
		.places = rules->places,
		.model = rules->model,
		.listed = options->listed,
		.listed_context = options->listed_context,
	};
	limits_hash(compiled, version);
	uint32_t hash = (uint32_t)XXH3_64bits_digest(version);
	compiled->version = hash ? hash : 1;
	XXH3_freeState(version);
	if ((config->geo_mismatch || config->travel_kmh) && !config->geo_database)
		tp_logf(TP_WARN, "no fraud.geo_database: geo_mismatch knows time zones only, impossible_travel countries only",
			NULL);
	*to = rules;
	return 0;
}

void rul_free(struct rul_rules *rules)
{
	if (!rules)
		return;
	rul_words_free(rules->bot_user_agents);
	rul_ranges_free(rules->bot_addresses);
	rul_asns_free(rules->bot_asns);
	rul_places_close(rules->places);
	rul_model_free(rules->model);
	free(rules);
}

const struct agg_fraud_rules *rul_compiled(const struct rul_rules *rules)
{
	return &rules->compiled;
}
