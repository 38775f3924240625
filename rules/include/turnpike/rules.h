/*
 * Fraud rules from the configuration: reads lists, databases and the model, and compiles them into struct agg_fraud_rules. Cold: the
 * main thread at start and at a reload, or a tool. What comes out is immutable, and read by shard cores without a lock.
 *
 *   lists      one entry a line; what follows '#' and blank space at either end do not count; an empty line is nothing
 *   databases  MaxMind DB files, mapped; looked up without allocation
 *   model      XGBoost's own JSON, objective binary:logistic, numeric splits
 *
 * A file that is broken is an error that names it and the line, and then there are no rules: half a list is worse than the rules
 * before it.
 */
#ifndef TURNPIKE_RULES_H
#define TURNPIKE_RULES_H

#include "turnpike/config.h"
#include "turnpike/fraud.h"

struct rul_rules;

/* 0 or -errno, with each error told by `say`. `listed` may be NULL. */
struct rul_options {
	const struct tp_config_fraud *config;
	bool (*listed)(const void *context, const struct tp_addr *addr);
	const void *listed_context;
};
int rul_load(struct rul_rules **rules, const struct rul_options *options);
void rul_free(struct rul_rules *rules);

/* What the shards get. Belongs to `rules`. */
const struct agg_fraud_rules *rul_compiled(const struct rul_rules *rules);

/* Parts, for tools and tests. 0 or -errno; errors are logged. */
int rul_model_load(const char *path, struct agg_model **model);
void rul_model_free(struct agg_model *model);
int rul_words_build(const char *const *word, uint32_t count, struct agg_words **words);
void rul_words_free(struct agg_words *words);

#endif
