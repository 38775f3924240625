/*
 * turnpike-fraud-train: makes a model from labelled clicks, with Debian's XGBoost. The data process needs none of it: it walks the JSON.
 *
 *   turnpikectl -c FILE fraud features --labels labels.csv > clicks.csv
 *   turnpike-fraud-train clicks.csv model.json
 *
 * The CSV has a header: a column "label" (0 or 1), and features by the names of docs/fraud.md, in any order; an empty field is not known.
 * Every fifth row is kept back, and what the model says of those is printed: for several thresholds, how much fraud it finds and how
 * many honest clicks it takes for fraud.
 */
#include "turnpike/rules.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xgboost/c_api.h>

enum { KEPT_BACK = 5, COLUMNS_MAX = 4 * AGG_FEATURES };

static const char usage[] = "usage: turnpike-fraud-train [options] CLICKS.csv MODEL.json\n"
			    "      --rounds N   trees (100)\n"
			    "      --depth N    of a tree (5)\n"
			    "      --eta X      learning rate (0.1)\n"
			    "      --seed N     of what chance decides (1)\n"
			    "  -h, --help       this text\n";

struct rows {
	float *value; /* [count][AGG_FEATURES] */
	float *label;
	uint64_t count, count_max;
};

static int row_add(struct rows *rows, const float *value, float label)
{
	if (rows->count == rows->count_max) {
		uint64_t more = rows->count_max ? 2 * rows->count_max : 4096;
		float *larger = realloc(rows->value, more * AGG_FEATURES * sizeof(float));
		if (larger)
			rows->value = larger;
		float *labels = realloc(rows->label, more * sizeof(float));
		if (labels)
			rows->label = labels;
		if (!larger || !labels)
			return -ENOMEM;
		rows->count_max = more;
	}
	memcpy(rows->value + rows->count * AGG_FEATURES, value, AGG_FEATURES * sizeof(float));
	rows->label[rows->count++] = label;
	return 0;
}

enum { IS_LABEL = AGG_FEATURES, IS_OTHER };

/* Which feature each column is. The number of columns, or -1. */
static int header_read(char *line, int *column)
{
	int count = 0;
	bool label = false;
	for (char *name; (name = strsep(&line, ",")) != NULL; count++) {
		if (count == COLUMNS_MAX)
			return -1;
		column[count] = strcmp(name, "label") ? IS_OTHER : IS_LABEL;
		label |= column[count] == IS_LABEL;
		for (int f = 0; f < AGG_FEATURES; f++)
			if (!strcmp(name, agg_feature_name((enum agg_feature)f)))
				column[count] = f;
	}
	return label ? count : -1;
}

static bool row_read(char *line, const int *column, int columns, float *value, float *label)
{
	int at = 0;
	*label = NAN;
	for (int f = 0; f < AGG_FEATURES; f++)
		value[f] = NAN;
	for (char *field; (field = strsep(&line, ",")) != NULL; at++) {
		char *end = field;
		float number = *field ? strtof(field, &end) : NAN;
		if (at == columns || *end)
			return false;
		if (column[at] == IS_LABEL)
			*label = number;
		else if (column[at] != IS_OTHER)
			value[column[at]] = number;
	}
	return at == columns && (*label == 0 || *label == 1);
}

static int csv_read(const char *path, struct rows rows[2])
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	int column[COLUMNS_MAX], columns = -1, rc = 0;
	uint64_t number = 0;
	if (!file) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -errno;
	}
	while (!rc && getline(&line, &room, file) > 0) {
		float value[AGG_FEATURES], label;
		line[strcspn(line, "\r\n")] = 0;
		if (!number++) {
			columns = header_read(line, column);
			rc = columns < 0 ? -EINVAL : 0;
		} else {
			rc = row_read(line, column, columns, value, &label) ? row_add(&rows[number % KEPT_BACK == 0], value, label)
									    : -EINVAL;
		}
	}
	if (rc == -EINVAL)
		fprintf(stderr, "%s:%llu: expected %s\n", path, (unsigned long long)number,
			number == 1 ? "a header with a column \"label\""
				    : "numbers or empty fields, as many as the header has, and a label of 0 or 1");
	free(line);
	fclose(file);
	if (!rc && (!rows[0].count || !rows[1].count)) {
		fprintf(stderr, "%s: expected at least %d rows\n", path, KEPT_BACK + 1);
		rc = -EINVAL;
	}
	return rc;
}

#define XG(call) \
	do { \
		if (call) { \
			fprintf(stderr, "turnpike-fraud-train: XGBoost: %s\n", XGBGetLastError()); \
			return -1; \
		} \
	} while (0)

static int train(const struct rows *rows, const char *const (*setting)[2], int settings, int rounds, const char *path)
{
	DMatrixHandle matrix;
	BoosterHandle booster;
	const char *name[AGG_FEATURES];
	for (int f = 0; f < AGG_FEATURES; f++)
		name[f] = agg_feature_name((enum agg_feature)f);
	XG(XGDMatrixCreateFromMat(rows->value, rows->count, AGG_FEATURES, NAN, &matrix));
	XG(XGDMatrixSetFloatInfo(matrix, "label", rows->label, rows->count));
	XG(XGDMatrixSetStrFeatureInfo(matrix, "feature_name", name, AGG_FEATURES));
	XG(XGBoosterCreate(&matrix, 1, &booster));
	for (int i = 0; i < settings; i++)
		XG(XGBoosterSetParam(booster, setting[i][0], setting[i][1]));
	for (int i = 0; i < rounds; i++)
		XG(XGBoosterUpdateOneIter(booster, i, matrix));
	XG(XGBoosterSaveModel(booster, path));
	XGBoosterFree(booster);
	XGDMatrixFree(matrix);
	return 0;
}

/* By our own walker: what the node will say. */
static void judge(const struct agg_model *model, const struct rows *rows)
{
	static const float threshold[] = {0.5f, 0.7f, 0.8f, 0.9f, 0.95f, 0.99f};
	uint64_t bad = 0;
	for (uint64_t i = 0; i < rows->count; i++)
		bad += rows->label[i] == 1;
	printf("%llu clicks kept back, %llu of them fraud\n%-10s %12s %12s\n", (unsigned long long)rows->count,
	       (unsigned long long)bad, "threshold", "fraud found", "honest hit");
	for (size_t t = 0; t < sizeof(threshold) / sizeof(threshold[0]); t++) {
		uint64_t found = 0, hit = 0;
		for (uint64_t i = 0; i < rows->count; i++) {
			bool over = agg_model_score(model, rows->value + i * AGG_FEATURES) > threshold[t];
			found += over && rows->label[i] == 1;
			hit += over && rows->label[i] == 0;
		}
		printf("%-10.2f %11.2f%% %11.3f%%\n", (double)threshold[t], bad ? 100.0 * (double)found / (double)bad : 0.0,
		       rows->count > bad ? 100.0 * (double)hit / (double)(rows->count - bad) : 0.0);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"rounds", required_argument, NULL, 'r'}, {"depth", required_argument, NULL, 'd'},
						{"eta", required_argument, NULL, 'e'},    {"seed", required_argument, NULL, 's'},
						{"help", no_argument, NULL, 'h'},         {0}};
	const char *setting[][2] = {{"objective", "binary:logistic"},
				    {"tree_method", "hist"},
				    {"verbosity", "1"},
				    {"max_depth", "5"},
				    {"eta", "0.1"},
				    {"seed", "1"}};
	int rounds = 100;
	for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		switch (option) {
		case 'r':
			rounds = atoi(optarg);
			break;
		case 'd':
			setting[3][1] = optarg;
			break;
		case 'e':
			setting[4][1] = optarg;
			break;
		case 's':
			setting[5][1] = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	size_t named = argc - optind == 2 ? strlen(argv[optind + 1]) : 0;
	if (named < 6 || strcmp(argv[optind + 1] + named - 5, ".json") || rounds < 1) {
		fputs(usage, stderr);
		return 2;
	}
	struct rows rows[2] = {0};
	struct agg_model *model = NULL;
	int rc = csv_read(argv[optind], rows);
	if (!rc)
		rc = train(&rows[0], (const char *const(*)[2])setting, sizeof(setting) / sizeof(setting[0]), rounds,
			   argv[optind + 1]);
	if (!rc)
		rc = rul_model_load(argv[optind + 1], &model);
	if (!rc)
		judge(model, &rows[1]);
	rul_model_free(model);
	for (int i = 0; i < 2; i++) {
		free(rows[i].value);
		free(rows[i].label);
	}
	return rc ? 1 : 0;
}
