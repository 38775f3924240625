/*
 * The configuration file as a YAML document: where each key stands, and whether the document keeps the schema. Private to
 * config*.c. Messages go out as they are found, so one run shows all that is wrong.
 */
#ifndef TURNPIKE_CONFIG_TREE_H
#define TURNPIKE_CONFIG_TREE_H

#include "config_schema.h"

#include <stdbool.h>
#include <stdio.h>

/* Where errors go, and how many there were. */
struct config_errors {
	FILE *to;
	const char *file;
	uint32_t count;
};

enum { CONFIG_DOTTED_BYTES = 64 };

/* Prints "FILE:LINE: DOTTED: …"; without the parts that are 0 or NULL. */
void config_error(struct config_errors *errors, uint32_t line, const char *dotted, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Text from the file as a message shows it: quoted, shortened, without control characters. `to` has room for 80 bytes. */
const char *config_quote(const char *text, size_t bytes, char *to);

/* Line of each key that the file has. */
struct config_tree {
	struct config_place {
		char dotted[CONFIG_DOTTED_BYTES];
		uint32_t line;
	} * place;
	uint32_t count, count_max;
};

/*
 * Parses text[0..bytes) and checks it against the schema: exactly one document, a mapping; no key unknown or twice; every value of
 * its type. 0 with *tree to be given to config_tree_free(), -EINVAL when errors were printed, or -ENOMEM.
 */
int config_tree_load(const char *text, size_t bytes, const cyaml_schema_value_t *schema, struct config_tree *tree,
		     struct config_errors *errors);
void config_tree_free(struct config_tree *tree);

/* The line where a key stands; 0: the file does not have it. */
uint32_t config_tree_line(const struct config_tree *tree, const char *dotted);

#endif
