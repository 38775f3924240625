/*
 * What fraud rules look things up in: compiled once, by whoever reads files (rules/), immutable, shared by all shards. No look-up
 * allocates, locks or makes a system call. The arrays belong to whoever made them.
 */
#ifndef TURNPIKE_FRAUD_DATA_H
#define TURNPIKE_FRAUD_DATA_H

#include "turnpike/addr.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Many words searched for at once, whatever their case: the automaton of Aho and Corasick ("Efficient string matching", CACM 18/6,
 * 1975), its failure links folded into one table, bytes in classes. One table look-up a byte, whatever the number of words.
 */
struct agg_words {
	const uint16_t *next;  /* [state * classes + class] */
	const uint16_t *found; /* [state]: 1 + the word that ends here, 0: none */
	uint32_t states, classes, words;
	uint8_t class_of[256]; /* upper and lower case alike */
	const char (*name)[8]; /* first bytes of each word, zero-padded */
};

/* The first word that ends in the text, or -1. */
int32_t agg_words_find(const struct agg_words *words, const char *text, uint32_t bytes);

/* Address ranges: which list has an address. */
struct agg_ranges {
	const struct tp_prefix_set *set;
	const uint16_t *list_of; /* [prefix] */
	const char (*name)[8];   /* [list] */
};

/* Autonomous systems, ascending. */
struct agg_asns {
	const uint32_t *asn;
	uint32_t count;
};

bool agg_asns_have(const struct agg_asns *asns, uint32_t asn);

/* Where an address is. A point is a unit vector from the earth's centre, with how far off it may be. */
struct agg_place {
	float point[3];
	float radius_km;
	uint32_t asn; /* 0: unknown */
	char country[2];
	bool has_country, has_point;
};

struct agg_places {
	void (*find)(const void *context, const uint8_t ip[16], struct agg_place *place); /* zeroed before */
	const void *context;
};

/* A country's rough place and the offsets of its clocks. NULL: no such country. agg/country_table.h is made from the tz database. */
struct agg_country {
	char code[2];
	int16_t offset_min, offset_max; /* minutes east of UTC, over the year */
	float point[3];
	float radius_km;
};
const struct agg_country *agg_country_find(const char code[2]);

/* Great-circle kilometres between two points. */
double agg_distance_km(const float a[3], const float b[3]);

/* ---- the model ---- */

/*
 * Gradient-boosted trees in one flat array. A node is 16 bytes; children lie side by side. The sum is taken in single precision and
 * in the order of the trees, as XGBoost takes it.
 */
struct agg_model_node {
	float value;      /* split: left when feature < value. leaf: what it adds */
	uint32_t left;    /* index of the left child, the right one follows; 0: a leaf */
	uint16_t feature; /* enum agg_feature */
	uint16_t missing_left;
	uint32_t pad;
};

struct agg_model {
	const struct agg_model_node *node;
	const uint32_t *root; /* [trees] */
	uint32_t trees, nodes;
	float base; /* margin that all start from */
};

/* What a model sees of a click. NaN: not known. The names are in agg_feature_name(), the meaning in docs/fraud.md. Only add at the end. */
enum agg_feature {
	AGG_F_IP_CLICKS,
	AGG_F_DEVICE_CLICKS,
	AGG_F_MS_SINCE_IMPRESSION,
	AGG_F_MOUSE_MOVES,
	AGG_F_CLICK_POSITION,
	AGG_F_BID,
	AGG_F_DEVICE_TYPE,
	AGG_F_DEVICE_SENT,
	AGG_F_AGENT_BYTES,
	AGG_F_BOT_AGENT,
	AGG_F_REFERER_BYTES,
	AGG_F_HAS_USER,
	AGG_F_HAS_DEVICE,
	AGG_F_HOUR_OF_DAY,
	AGG_F_TIMEZONE_OFFSET,
	AGG_F_COUNTRY_DIFFERS,
	AGG_F_ADDRESSES,
	AGG_F_AGENTS,
	AGG_F_GAP_MS,
	AGG_F_GAP_DEVIATION_MS,
	AGG_F_DELAY_MS,
	AGG_FEATURES
};

const char *agg_feature_name(enum agg_feature feature);

/* The margin (log odds), and the probability that it stands for. */
float agg_model_margin(const struct agg_model *model, const float feature[AGG_FEATURES]);
float agg_model_score(const struct agg_model *model, const float feature[AGG_FEATURES]);

#endif
