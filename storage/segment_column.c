/*
 * The table of columns: segment_column.h. What a user agent, a city or an address is often follows from the device or from one
 * another; then one value per dictionary entry, and the rows that differ, say it all.
 */
#include "segment_column.h"

#include "column_text.h"

#define TEXT(which) (SEGMENT_TEXT + (which))

const struct segment_column_rule segment_column_rule[SEGMENT_COLUMNS] = {
	[SEGMENT_TIME] = {.name = "timestamp", .hot = true},
	[SEGMENT_LAG] = {.name = "received_lag"},
	[SEGMENT_TYPE] = {.name = "event_type", .hot = true},
	[SEGMENT_VERDICT] = {.name = "verdict", .hot = true},
	[SEGMENT_FRAUD] = {.name = "fraud", .hot = true},
	[SEGMENT_FLAGS] = {.name = "flags", .hot = true},
	[SEGMENT_DEVICE] = {.name = "device_type", .parent = {TEXT(TP_USER_AGENT)}},
	[SEGMENT_COUNTRY] = {.name = "country", .parent = {TEXT(TP_CITY), TEXT(TP_REGION), TEXT(TP_DEVICE_ID)}},
	[SEGMENT_CURRENCY] = {.name = "currency", .hot = true},
	[SEGMENT_BID] = {.name = "bid_price", .hot = true},
	[SEGMENT_POSITION] = {.name = "click_position"},
	[SEGMENT_TIMEZONE] = {.name = "timezone_offset", .parent = {TEXT(TP_CITY), TEXT(TP_REGION), TEXT(TP_DEVICE_ID)}},
	[SEGMENT_MOUSE] = {.name = "mouse_moves"},
	[SEGMENT_IP_HIGH] = {.name = "ip_high", .parent = {TEXT(TP_DEVICE_ID), TEXT(TP_USER_ID)}},
	[SEGMENT_IP_LOW] = {.name = "ip_low", .parent = {TEXT(TP_DEVICE_ID), TEXT(TP_USER_ID)}},
	[SEGMENT_TRACE_HIGH] = {.name = "trace_high"},
	[SEGMENT_TRACE_LOW] = {.name = "trace_low"},
	[SEGMENT_SPAN] = {.name = "span"},
	[SEGMENT_TRACE_FLAGS] = {.name = "trace_flags"},
	[SEGMENT_RULE_VERSION] = {.name = "rule_version"},
	[SEGMENT_RESERVED] = {.name = "reserved"},
	[SEGMENT_EVIDENCE] = {.name = "evidence_count"},
	[SEGMENT_EVIDENCE_REASON] = {.name = "evidence_reason"},
	[SEGMENT_EVIDENCE_TEXT] = {.name = "evidence_is_text"},
	[SEGMENT_EVIDENCE_DETAIL] = {.name = "evidence_detail"},
	[SEGMENT_EVIDENCE_LIMIT] = {.name = "evidence_limit"},
	[SEGMENT_EVIDENCE_SEEN] = {.name = "evidence_seen"},
	[TEXT(TP_EVENT_ID)] = {.name = "event_id_text", .order = TEXT_ORDERS, .texts_bytes_max = TP_ID_BYTES_MAX},
	[TEXT(TP_AD_ID)] = {.name = "ad_id", .hot = true, .texts_bytes_max = TP_ID_BYTES_MAX},
	[TEXT(TP_CAMPAIGN_ID)] = {.name = "campaign_id", .hot = true, .texts_bytes_max = TP_ID_BYTES_MAX},
	[TEXT(TP_ADVERTISER_ID)] = {.name = "advertiser_id", .hot = true, .texts_bytes_max = TP_ID_BYTES_MAX},
	[TEXT(TP_PUBLISHER_ID)] = {.name = "publisher_id",
				   .order = TEXT_ORDERS,
				   .texts_bytes_max = TP_ID_BYTES_MAX,
				   .parent = {TEXT(TP_REFERER)}},
	[TEXT(TP_USER_ID)] = {.name = "user_id",
			      .order = TEXT_ORDERS,
			      .texts_bytes_max = TP_ID_BYTES_MAX,
			      .parent = {TEXT(TP_DEVICE_ID)}},
	[TEXT(TP_DEVICE_ID)] = {.name = "device_id", .order = TEXT_ORDERS, .texts_bytes_max = TP_ID_BYTES_MAX},
	[TEXT(TP_REGION)] = {.name = "region",
			     .order = TEXT_ORDERS,
			     .texts_bytes_max = TP_ID_BYTES_MAX,
			     .parent = {TEXT(TP_CITY), TEXT(TP_DEVICE_ID)}},
	[TEXT(TP_CITY)] = {.name = "city",
			   .order = TEXT_ORDERS,
			   .texts_bytes_max = TP_CITY_BYTES_MAX,
			   .parent = {TEXT(TP_DEVICE_ID), TEXT(TP_USER_ID)}},
	[TEXT(TP_USER_AGENT)] = {.name = "user_agent",
				 .order = TEXT_ORDERS,
				 .texts_bytes_max = TP_TEXT_BYTES_MAX,
				 .parent = {TEXT(TP_DEVICE_ID), TEXT(TP_USER_ID)}},
	[TEXT(TP_REFERER)] = {.name = "referer", .order = TEXT_ORDERS, .texts_bytes_max = TP_TEXT_BYTES_MAX},
};

bool segment_parent_may(uint16_t column, uint16_t parent)
{
	for (int i = 0; column < SEGMENT_COLUMNS && i < SEGMENT_PARENTS_MAX; i++)
		if (parent && segment_column_rule[column].parent[i] == parent)
			return true;
	return false;
}

bool segment_column_follows(uint32_t column)
{
	if (segment_column_rule[column].parent[0])
		return true;
	for (uint16_t child = 0; child < SEGMENT_COLUMNS; child++)
		if (segment_parent_may(child, (uint16_t)column))
			return true;
	return false;
}
