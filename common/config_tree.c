/*
 * Checks the YAML document of the configuration against its schema, and remembers the line of each key.
 *
 *   text ─ libyaml ─► document ─ walk beside the schema ─► messages, and (dotted key, line) pairs
 *
 * libcyaml does the loading afterwards, but it stops at its first error, knows lines only in its log text, and reads numbers in C's
 * ways ("010" is 8 to it). So the document is walked here first, by the same schema; what passes, libcyaml loads.
 *
 * Recursion goes no deeper than the schema, whatever aliases the document has.
 *
 * Source: YAML 1.1, which libyaml speaks. Cold code, any thread.
 */
#include "config_tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { QUOTE_BYTES_MAX = 60 };

struct walk {
	yaml_document_t *document;
	struct config_tree *tree;
	struct config_errors *errors;
	bool no_memory;
};

void config_error(struct config_errors *errors, uint32_t line, const char *dotted, const char *format, ...)
{
	va_list arguments;

	errors->count++;
	fprintf(errors->to, "%s:", errors->file);
	if (line)
		fprintf(errors->to, "%u:", line);
	fputc(' ', errors->to);
	if (dotted)
		fprintf(errors->to, "%s: ", dotted);
	va_start(arguments, format);
	vfprintf(errors->to, format, arguments);
	va_end(arguments);
	fputc('\n', errors->to);
}

const char *config_quote(const char *text, size_t bytes, char *to)
{
	size_t at = 0;

	to[at++] = '"';
	for (size_t i = 0; i < bytes && i < QUOTE_BYTES_MAX; i++)
		to[at++] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];
	if (bytes > QUOTE_BYTES_MAX) {
		memcpy(to + at, "...", 3);
		at += 3;
	}
	to[at++] = '"';
	to[at] = '\0';
	return to;
}

uint32_t config_tree_line(const struct config_tree *tree, const char *dotted)
{
	for (uint32_t i = 0; i < tree->count; i++) {
		if (strcmp(tree->place[i].dotted, dotted) == 0)
			return tree->place[i].line;
	}
	return 0;
}

void config_tree_free(struct config_tree *tree)
{
	free(tree->place);
	*tree = (struct config_tree){0};
}

static void place_add(struct walk *walk, const char *dotted, uint32_t line)
{
	struct config_tree *tree = walk->tree;

	if (tree->count == tree->count_max) {
		uint32_t more = tree->count_max ? 2 * tree->count_max : 64;
		struct config_place *place = realloc(tree->place, more * sizeof(*place));
		if (!place) {
			walk->no_memory = true;
			return;
		}
		tree->place = place;
		tree->count_max = more;
	}
	struct config_place *place = &tree->place[tree->count++];
	snprintf(place->dotted, sizeof(place->dotted), "%s", dotted);
	place->line = line;
}

static uint32_t line_of(const yaml_node_t *node)
{
	return (uint32_t)node->start_mark.line + 1;
}

/* What stands there, for a message. `room` has 80 bytes. */
static const char *found(const yaml_node_t *node, char *room)
{
	switch (node->type) {
	case YAML_MAPPING_NODE:
		return "a mapping";
	case YAML_SEQUENCE_NODE:
		return "a list";
	case YAML_SCALAR_NODE:
		if (node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && node->data.scalar.length == 0)
			return "nothing";
		return config_quote((const char *)node->data.scalar.value, node->data.scalar.length, room);
	default:
		return "nothing";
	}
}

static bool scalar_is(const yaml_node_t *node, const char *text)
{
	return node->type == YAML_SCALAR_NODE && node->data.scalar.length == strlen(text) &&
	       memcmp(node->data.scalar.value, text, node->data.scalar.length) == 0;
}

static bool plain(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* YAML's ways to write no value. */
static bool is_null(const yaml_node_t *node)
{
	return plain(node) && (node->data.scalar.length == 0 || scalar_is(node, "~") || scalar_is(node, "null") ||
			       scalar_is(node, "Null") || scalar_is(node, "NULL"));
}

static void say(struct walk *walk, const yaml_node_t *node, const char *dotted, const char *expected)
{
	char room[80];
	const char *special = tp_config_expected(dotted);
	config_error(walk->errors, line_of(node), dotted, "expected %s, found %s", special ? special : expected, found(node, room));
}

static void check_whole(struct walk *walk, const yaml_node_t *node, const char *dotted, uint64_t most)
{
	char expected[64];
	bool good = plain(node) && node->data.scalar.length > 0 && node->data.scalar.length <= 10;
	uint64_t value = 0;

	for (size_t i = 0; good && i < node->data.scalar.length; i++) {
		char digit = (char)node->data.scalar.value[i];
		good = digit >= '0' && digit <= '9' && !(i == 1 && value == 0);
		value = 10 * value + (uint64_t)(digit - '0');
	}
	if (good && value <= most)
		return;
	snprintf(expected, sizeof(expected), "a whole number from 0 to %llu", (unsigned long long)most);
	say(walk, node, dotted, expected);
}

static void check_choice(struct walk *walk, const yaml_node_t *node, const char *dotted, const cyaml_schema_value_t *schema)
{
	char expected[128];
	size_t at = 0;

	for (uint32_t i = 0; i < schema->enumeration.count; i++) {
		if (scalar_is(node, schema->enumeration.strings[i].str))
			return;
		at += (size_t)snprintf(expected + at, sizeof(expected) - at, "%s%s", i ? " or " : "",
				       schema->enumeration.strings[i].str);
	}
	say(walk, node, dotted, expected);
}

static void check_value(struct walk *walk, const yaml_node_t *node, const char *dotted, const cyaml_schema_value_t *schema);

static void say_unknown(struct walk *walk, const yaml_node_t *key, const char *dotted, const cyaml_schema_field_t *fields)
{
	char known[256] = "";
	size_t at = 0;

	for (; fields->key && at < sizeof(known); fields++)
		at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", at ? ", " : "", fields->key);
	config_error(walk->errors, line_of(key), dotted, "unknown key, expected one of %s", known);
}

static void check_mapping(struct walk *walk, const yaml_node_t *node, const char *dotted, const cyaml_schema_field_t *fields)
{
	char inner[CONFIG_DOTTED_BYTES], room[80];

	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
		const yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
		if (key->type != YAML_SCALAR_NODE) {
			config_error(walk->errors, line_of(key), *dotted ? dotted : NULL, "expected a key, found %s",
				     found(key, room));
			continue;
		}
		size_t bytes = key->data.scalar.length;
		config_quote((const char *)key->data.scalar.value, bytes, room);
		room[strlen(room) - 1] = '\0'; /* the quotes off again: a key is shown as part of a dotted one */
		snprintf(inner, sizeof(inner), "%s%s%.40s", dotted, *dotted ? "." : "", room + 1);

		const cyaml_schema_field_t *field = fields;
		while (field->key && !scalar_is(key, field->key))
			field++;
		if (!field->key) {
			say_unknown(walk, key, inner, fields);
			continue;
		}
		uint32_t first = config_tree_line(walk->tree, inner);
		if (first) {
			config_error(walk->errors, line_of(key), inner, "expected a key once, found it on line %u too", first);
			continue;
		}
		place_add(walk, inner, line_of(key));
		check_value(walk, value, inner, &field->value);
	}
}

static void check_sequence(struct walk *walk, const yaml_node_t *node, const char *dotted, const cyaml_schema_value_t *entry)
{
	uint32_t index = 0;

	for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++, index++) {
		const yaml_node_t *value = yaml_document_get_node(walk->document, *item);
		char inner[CONFIG_DOTTED_BYTES];
		snprintf(inner, sizeof(inner), "%.40s[%u]", dotted, index);
		place_add(walk, inner, line_of(value));
		check_value(walk, value, inner, entry);
	}
}

static void check_value(struct walk *walk, const yaml_node_t *node, const char *dotted, const cyaml_schema_value_t *schema)
{
	switch (schema->type) {
	case CYAML_MAPPING:
		if (node->type == YAML_MAPPING_NODE)
			check_mapping(walk, node, dotted, schema->mapping.fields);
		else
			say(walk, node, dotted, "a mapping of keys");
		break;
	case CYAML_SEQUENCE:
		if (node->type == YAML_SEQUENCE_NODE)
			check_sequence(walk, node, dotted, schema->sequence.entry);
		else
			say(walk, node, dotted, "a list");
		break;
	case CYAML_UINT:
		check_whole(walk, node, dotted, schema->data_size == sizeof(uint16_t) ? UINT16_MAX : UINT32_MAX);
		break;
	case CYAML_BOOL:
		if (!plain(node) || !(scalar_is(node, "true") || scalar_is(node, "false")))
			say(walk, node, dotted, "true or false");
		break;
	case CYAML_ENUM:
		check_choice(walk, node, dotted, schema);
		break;
	default: /* text */
		if (node->type != YAML_SCALAR_NODE || is_null(node) || memchr(node->data.scalar.value, 0, node->data.scalar.length))
			say(walk, node, dotted, "text");
		break;
	}
}

static void check_root(struct walk *walk, const cyaml_schema_value_t *schema)
{
	const yaml_node_t *root = yaml_document_get_root_node(walk->document);
	char room[80];

	if (!root || is_null(root))
		config_error(walk->errors, 0, NULL, "expected a mapping of sections such as \"node:\", found nothing");
	else if (root->type != YAML_MAPPING_NODE)
		config_error(walk->errors, line_of(root), NULL, "expected a mapping of sections such as \"node:\", found %s",
			     found(root, room));
	else
		check_mapping(walk, root, "", schema->mapping.fields);
}

static int say_syntax(const yaml_parser_t *parser, struct config_errors *errors)
{
	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	/* the reader knows no line yet, only the byte */
	if (parser->error == YAML_READER_ERROR)
		config_error(errors, 0, NULL, "expected YAML in UTF-8, found a bad character at byte %zu (%s)",
			     parser->problem_offset, parser->problem);
	else
		config_error(errors, (uint32_t)parser->problem_mark.line + 1, NULL, "expected YAML, but: %s%s%s",
			     parser->context ? parser->context : "", parser->context ? ", " : "", parser->problem);
	return -EINVAL;
}

int config_tree_load(const char *text, size_t bytes, const cyaml_schema_value_t *schema, struct config_tree *tree,
		     struct config_errors *errors)
{
	yaml_parser_t parser;
	yaml_document_t document, second;
	struct walk walk = {.document = &document, .tree = tree, .errors = errors};

	*tree = (struct config_tree){0};
	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
	int rc = 0;
	if (!yaml_parser_load(&parser, &document)) {
		rc = say_syntax(&parser, errors);
		yaml_parser_delete(&parser);
		return rc;
	}
	check_root(&walk, schema);
	yaml_document_delete(&document);

	if (!yaml_parser_load(&parser, &second)) {
		rc = say_syntax(&parser, errors);
	} else {
		const yaml_node_t *root = yaml_document_get_root_node(&second);
		if (root)
			config_error(errors, line_of(root), NULL, "expected one YAML document, found a second one");
		yaml_document_delete(&second);
	}
	yaml_parser_delete(&parser);
	if (rc == 0 && walk.no_memory)
		rc = -ENOMEM;
	if (rc == 0 && errors->count)
		rc = -EINVAL;
	if (rc != 0)
		config_tree_free(tree);
	return rc;
}
