/* What the parts of rules/ hand each other. */
#ifndef RULES_PRIVATE_H
#define RULES_PRIVATE_H

#include "turnpike/rules.h"

#include <xxhash.h>

enum { RUL_LIST_BYTES_MAX = 64 << 20, RUL_MODEL_BYTES_MAX = 256 << 20 };

/* The whole file, NUL-terminated and without another NUL, malloc'ed. 0 or -errno, logged. */
int rul_file_read(const char *path, uint64_t bytes_max, char **text, size_t *bytes);

/* What decides goes into the version: bytes and how many, so that nothing can move from one file to the next unseen. */
void rul_version_add(XXH3_state_t *version, const void *bytes, size_t count);

/* Calls fn with each entry of a list, trimmed, NUL-terminated, and its line. Non-zero ends it and is returned. */
int rul_lines(char *text, int (*fn)(void *context, char *entry, uint32_t line), void *context);

int rul_words_load(const char *path, struct agg_words **words, XXH3_state_t *version);
int rul_ranges_load(char *const *path, uint32_t count, struct agg_ranges **ranges, XXH3_state_t *version);
void rul_ranges_free(struct agg_ranges *ranges);
int rul_asns_load(const char *path, struct agg_asns **asns, XXH3_state_t *version);
void rul_asns_free(struct agg_asns *asns);
/* Either path may be NULL. */
int rul_places_open(const char *geo_path, const char *asn_path, struct agg_places **places, XXH3_state_t *version);
void rul_places_close(struct agg_places *places);
int rul_model_load_versioned(const char *path, struct agg_model **model, XXH3_state_t *version);

#endif
