/* From what the file says to what the programs use. Private to config*.c. */
#ifndef TURNPIKE_CONFIG_FILL_H
#define TURNPIKE_CONFIG_FILL_H

#include "config_tree.h"
#include "turnpike/config.h"

/* Converts each value and puts in each default. Prints what is no value of its key. 0, -EINVAL or -ENOMEM. */
int config_fill(const struct raw_config *raw, const struct config_tree *tree, struct tp_config *config,
		struct config_errors *errors);

/* What no value says by itself: keys of another driver, duplicates, CPUs that are not here, values at odds. Prints; 0 or -EINVAL. */
int config_check(const struct tp_config *config, const struct config_tree *tree, struct config_errors *errors);

#endif
