/*
 * Walks gradient-boosted trees. Shard core, once a click when a model is configured. Source: XGBoost's prediction (a node sends what is
 * below its threshold to the left, what is not known where training said; leaves are summed in single precision, tree by tree).
 */
#include "turnpike/fraud_data.h"

#include <math.h>
#include <stddef.h>

static const char *const names[AGG_FEATURES] = {
	[AGG_F_IP_CLICKS] = "ip_clicks",
	[AGG_F_DEVICE_CLICKS] = "device_clicks",
	[AGG_F_MS_SINCE_IMPRESSION] = "ms_since_impression",
	[AGG_F_MOUSE_MOVES] = "mouse_moves",
	[AGG_F_CLICK_POSITION] = "click_position",
	[AGG_F_BID] = "bid",
	[AGG_F_DEVICE_TYPE] = "device_type",
	[AGG_F_DEVICE_SENT] = "device_sent",
	[AGG_F_AGENT_BYTES] = "agent_bytes",
	[AGG_F_BOT_AGENT] = "bot_agent",
	[AGG_F_REFERER_BYTES] = "referer_bytes",
	[AGG_F_HAS_USER] = "has_user",
	[AGG_F_HAS_DEVICE] = "has_device",
	[AGG_F_HOUR_OF_DAY] = "hour_of_day",
	[AGG_F_TIMEZONE_OFFSET] = "timezone_offset",
	[AGG_F_COUNTRY_DIFFERS] = "country_differs",
	[AGG_F_ADDRESSES] = "addresses",
	[AGG_F_AGENTS] = "agents",
	[AGG_F_GAP_MS] = "gap_ms",
	[AGG_F_GAP_DEVIATION_MS] = "gap_deviation_ms",
	[AGG_F_DELAY_MS] = "delay_ms",
};

const char *agg_feature_name(enum agg_feature feature)
{
	return (uint32_t)feature < AGG_FEATURES ? names[feature] : NULL;
}

float agg_model_margin(const struct agg_model *model, const float feature[AGG_FEATURES])
{
	float sum = model->base;
	for (uint32_t tree = 0; tree < model->trees; tree++) {
		const struct agg_model_node *node = &model->node[model->root[tree]];
		while (node->left) {
			const float value = feature[node->feature];
			const bool left = isnan(value) ? node->missing_left != 0 : value < node->value;
			node = &model->node[node->left + !left];
		}
		sum += node->value;
	}
	return sum;
}

float agg_model_score(const struct agg_model *model, const float feature[AGG_FEATURES])
{
	return 1.0f / (1.0f + expf(-agg_model_margin(model, feature)));
}
