/*
 * An rx core's beacon state: made cold, before the core runs, and polled once a loop round. See beacon_state.h for its parts.
 */
#include "beacon_state.h"

#include "http_limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int dp_beacon_create(struct dp_beacon **out, const struct dp_beacon_options *options)
{
	struct dp_beacon *beacon = calloc(1, sizeof(*beacon));
	if (beacon == NULL)
		return -ENOMEM;
	beacon->options = *options;
	beacon->intake = options->intake;
	beacon->counters = dp_intake_counters(options->intake);
	beacon->meter = dp_intake_meter(options->intake);
	beacon->json = dp_json_scratch_new();
	beacon->rejects = calloc(DP_BODY_EVENTS_MAX, sizeof(*beacon->rejects));
	int result = beacon->json == NULL || beacon->rejects == NULL ? -ENOMEM : 0;
	if (result == 0)
		result = dp_pool_create(&beacon->small, options->small_buffers, DP_HTTP_SMALL_BUFFER_BYTES);
	if (result == 0)
		result = dp_pool_create(&beacon->large, options->large_buffers, DP_HTTP_LARGE_BUFFER_BYTES);
	if (result == 0)
		result = dp_rate_create(&beacon->rate, options->config);
	if (result == 0)
		result = dp_permits_create(&beacon->permits, &options->permits);
	if (result == 0)
		result = dp_http_create(beacon);
	if (result == 0)
		result = dp_datagram_create(beacon);
	if (result != 0) {
		dp_beacon_destroy(beacon);
		return result;
	}
	memset(beacon->rejects, 0, DP_BODY_EVENTS_MAX * sizeof(*beacon->rejects)); /* written, so that no page is missing later */
	*out = beacon;
	return 0;
}

void dp_beacon_destroy(struct dp_beacon *beacon)
{
	if (beacon == NULL)
		return;
	dp_datagram_destroy(beacon);
	dp_http_destroy(beacon);
	dp_permits_destroy(beacon->permits);
	dp_rate_destroy(beacon->rate);
	dp_pool_destroy(&beacon->large);
	dp_pool_destroy(&beacon->small);
	free(beacon->rejects);
	dp_json_scratch_free(beacon->json);
	free(beacon);
}

uint32_t dp_beacon_poll(struct dp_beacon *beacon)
{
	return dp_http_poll(beacon) + dp_datagram_poll(beacon);
}

uint32_t dp_beacon_owed(const struct dp_beacon *beacon)
{
	return dp_http_owed(beacon) + dp_datagram_owed(beacon);
}
