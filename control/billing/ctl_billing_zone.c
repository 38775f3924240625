/* See ctl_billing_zone.h. Any thread. */
#include "ctl_billing_zone.h"

#include "turnpike/log.h"

#include <string.h>

static bool check(const struct tp_config *config, const char *key, const char *name)
{
	if (ctl_zone_find(name, strlen(name)))
		return true;
	tp_logf(TP_ERROR, ctl_zone_installed() ? "not a time zone" : "not a time zone: tzdata is not installed",
		"path=\"%s\" key=%s expected=\"a name such as Europe/Berlin\" found=\"%s\"", config->file, key, name);
	return false;
}

bool ctl_billing_zones_check(const struct tp_config *config)
{
	bool good = check(config, "billing.zone", config->billing_zone);

	for (uint32_t i = 0; i < config->billing_zone_count; i++)
		good = check(config, "billing.zones", config->billing_zones[i].zone) && good;
	return good;
}

const struct ctl_zone *ctl_billing_zone_of(const struct tp_config *config, const char *advertiser, size_t bytes)
{
	const char *name = config->billing_zone;

	for (uint32_t i = 0; i < config->billing_zone_count; i++) {
		const struct tp_config_billing_zone *own = &config->billing_zones[i];
		if (strlen(own->advertiser) == bytes && memcmp(own->advertiser, advertiser, bytes) == 0)
			name = own->zone;
	}
	const struct ctl_zone *zone = name ? ctl_zone_find(name, strlen(name)) : NULL;
	return zone ? zone : ctl_zone_utc();
}
