/*
 * An XGBoost model from its JSON file (save_model("….json"), version 1.x and 2.x) into the flat array that agg/model.c walks.
 *
 *   learner.learner_model_param   base_score, num_class 0 or 1, num_feature
 *   learner.objective.name        binary:logistic
 *   learner.feature_names         each a name of ours; without them the order is ours
 *   learner.gradient_booster      gbtree; per tree parallel arrays: left_children, right_children, split_indices, split_conditions,
 *                                 default_left; a node with left child -1 is a leaf and its split_condition is what it adds
 *
 * The file is foreign: every index is checked, a tree must be a tree (children once, after no cycle), categorical splits are refused.
 * Source: XGBoost 1.7, doc/model.schema.
 */
#include "rules_private.h"

#include "turnpike/log.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TREES_MAX = 100000, NODES_MAX = 1 << 24 };

struct loading {
	const char *path;
	struct agg_model_node *node;
	uint32_t *root;
	uint32_t trees, nodes, nodes_max;
	uint16_t feature_of[AGG_FEATURES]; /* of the file's columns */
	uint32_t columns;
	float base;
};

static int refuse(const struct loading *loading, const char *what)
{
	tp_logf(TP_ERROR, "fraud.model is no model that can be used", "file=%s error=\"%s\"", loading->path, what);
	return -EINVAL;
}

/* Numbers of learner_model_param are text, in 2.x sometimes in brackets. */
static bool number_of(const json_t *value, double *to)
{
	if (json_is_number(value)) {
		*to = json_number_value(value);
		return true;
	}
	const char *text = json_string_value(value);
	if (!text)
		return false;
	text += *text == '[';
	char *end;
	*to = strtod(text, &end);
	return end != text && (*end == 0 || strcmp(end, "]") == 0);
}

static int columns_find(struct loading *loading, const json_t *learner)
{
	const json_t *names = json_object_get(learner, "feature_names");
	double columns;
	if (!number_of(json_object_get(json_object_get(learner, "learner_model_param"), "num_feature"), &columns) ||
	    !(columns >= 1 && columns <= AGG_FEATURES)) /* "nan" is no number either */
		return refuse(loading, "num_feature is not between 1 and the number of our features");
	loading->columns = (uint32_t)columns;
	for (uint32_t i = 0; i < loading->columns; i++)
		loading->feature_of[i] = (uint16_t)i;
	if (!json_array_size(names))
		return 0;
	if (json_array_size(names) != loading->columns)
		return refuse(loading, "feature_names and num_feature differ");
	for (uint32_t i = 0; i < loading->columns; i++) {
		const char *name = json_string_value(json_array_get(names, i));
		uint32_t f = 0;
		while (f < AGG_FEATURES && (!name || strcmp(name, agg_feature_name((enum agg_feature)f))))
			f++;
		if (f == AGG_FEATURES)
			return refuse(loading, "feature_names has a feature that is not ours (docs/fraud.md)");
		loading->feature_of[i] = (uint16_t)f;
	}
	return 0;
}

static bool integer(const json_t *array, uint32_t i, json_int_t *to)
{
	const json_t *value = json_array_get(array, i);
	*to = json_is_boolean(value) ? json_is_true(value) : json_integer_value(value);
	return json_is_integer(value) || json_is_boolean(value);
}

/* One tree, breadth first, so that the two children of a node lie side by side. `queue` has room for `count` numbers of the file's. */
static int tree_walk(struct loading *loading, const json_t *tree, uint32_t count, uint32_t *queue, uint8_t *visited)
{
	const json_t *left = json_object_get(tree, "left_children"), *right = json_object_get(tree, "right_children"),
		     *index = json_object_get(tree, "split_indices"), *condition = json_object_get(tree, "split_conditions"),
		     *missing = json_object_get(tree, "default_left"), *type = json_object_get(tree, "split_type");
	uint32_t tail = 1, base = loading->nodes;
	queue[0] = 0;
	visited[0] = 1;
	for (uint32_t head = 0; head < tail; head++) {
		json_int_t l, r, column, default_left, categorical;
		const json_t *value = json_array_get(condition, queue[head]);
		struct agg_model_node *node = &loading->node[base + head];
		if (!integer(left, queue[head], &l) || !integer(right, queue[head], &r) || !json_is_number(value))
			return refuse(loading, "a tree with an incomplete node");
		*node = (struct agg_model_node){.value = (float)json_number_value(value)};
		if (!isfinite(node->value))
			return refuse(loading, "a tree with a value that is no number");
		if (l == -1 && r == -1)
			continue;
		if (type && integer(type, queue[head], &categorical) && categorical != 0)
			return refuse(loading, "a categorical split");
		if (l < 1 || r < 1 || l >= count || r >= count || l == r || visited[l] || visited[r])
			return refuse(loading, "children that make no tree");
		if (!integer(index, queue[head], &column) || column < 0 || column >= loading->columns ||
		    !integer(missing, queue[head], &default_left))
			return refuse(loading, "a split on a feature that is not there");
		visited[l] = visited[r] = 1;
		node->left = base + tail;
		node->feature = loading->feature_of[column];
		node->missing_left = default_left != 0;
		queue[tail++] = (uint32_t)l;
		queue[tail++] = (uint32_t)r;
	}
	loading->nodes += tail;
	return 0;
}

static int tree_take(struct loading *loading, const json_t *tree)
{
	size_t count = json_array_size(json_object_get(tree, "left_children"));
	if (!count || count > NODES_MAX - loading->nodes)
		return refuse(loading, "an empty tree, or too many nodes");
	if (loading->nodes + count > loading->nodes_max) {
		uint32_t more = 2 * (loading->nodes + (uint32_t)count);
		struct agg_model_node *larger = realloc(loading->node, more * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		loading->node = larger;
		loading->nodes_max = more;
	}
	uint32_t *queue = malloc(count * sizeof(*queue));
	uint8_t *visited = calloc(count, 1);
	int rc = queue && visited ? 0 : -ENOMEM;
	if (!rc) {
		loading->root[loading->trees++] = loading->nodes;
		rc = tree_walk(loading, tree, (uint32_t)count, queue, visited);
	}
	free(queue);
	free(visited);
	return rc;
}

static int learner_take(struct loading *loading, const json_t *learner)
{
	const json_t *parameters = json_object_get(learner, "learner_model_param"),
		     *booster = json_object_get(learner, "gradient_booster");
	const char *objective = json_string_value(json_object_get(json_object_get(learner, "objective"), "name"));
	const char *name = json_string_value(json_object_get(booster, "name"));
	double score, classes;
	if (!objective || strcmp(objective, "binary:logistic"))
		return refuse(loading, "the objective is not binary:logistic");
	if (!name || strcmp(name, "gbtree"))
		return refuse(loading, "the booster is not gbtree");
	if (!number_of(json_object_get(parameters, "base_score"), &score) || !(score > 0 && score < 1))
		return refuse(loading, "no base_score between 0 and 1");
	if (number_of(json_object_get(parameters, "num_class"), &classes) && classes > 1)
		return refuse(loading, "more than one class");
	loading->base = -logf(1.0f / (float)score - 1.0f);
	int rc = columns_find(loading, learner);
	if (rc)
		return rc;
	const json_t *trees = json_object_get(json_object_get(booster, "model"), "trees");
	size_t count = json_array_size(trees);
	if (!count || count > TREES_MAX)
		return refuse(loading, "no trees, or too many");
	loading->root = malloc(count * sizeof(*loading->root));
	if (!loading->root)
		return -ENOMEM;
	for (size_t i = 0; i < count && !rc; i++)
		rc = tree_take(loading, json_array_get(trees, i));
	return rc;
}

int rul_model_load_versioned(const char *path, struct agg_model **to, XXH3_state_t *version)
{
	struct loading loading = {.path = path};
	char *text;
	size_t bytes;
	int rc = rul_file_read(path, RUL_MODEL_BYTES_MAX, &text, &bytes);
	if (rc)
		return rc;
	if (version)
		rul_version_add(version, text, bytes);
	json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	rc = root ? learner_take(&loading, json_object_get(root, "learner")) : refuse(&loading, "it is no JSON");
	json_decref(root);
	struct agg_model *model = rc ? NULL : malloc(sizeof(*model));
	if (!model) {
		free(loading.node);
		free(loading.root);
		return rc ? rc : -ENOMEM;
	}
	*model = (struct agg_model){
		.node = loading.node, .root = loading.root, .trees = loading.trees, .nodes = loading.nodes, .base = loading.base};
	*to = model;
	return 0;
}

int rul_model_load(const char *path, struct agg_model **model)
{
	return rul_model_load_versioned(path, model, NULL);
}

void rul_model_free(struct agg_model *model)
{
	if (!model)
		return;
	free((void *)(uintptr_t)model->node);
	free((void *)(uintptr_t)model->root);
	free(model);
}
