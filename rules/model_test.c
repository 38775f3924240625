/*
 * The walker against XGBoost itself: models that the library trains here, from data with missing values, score to within a millionth of
 * what the library predicts. And broken files, which are refused.
 */
#include "turnpike/rules.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xgboost/c_api.h>

#include <cmocka.h>

enum { ROWS = 3000 };

static float data[ROWS][AGG_FEATURES], label[ROWS];
static char path[64];

static double unit(void)
{
	return (double)rand() / ((double)RAND_MAX + 1);
}

/* Clicks of which some are fraud: many of a device, soon, without mouse; much of it noise, some of it missing. */
static void data_make(unsigned seed)
{
	srand(seed);
	for (int r = 0; r < ROWS; r++) {
		bool bad = unit() < 0.3;
		for (int f = 0; f < AGG_FEATURES; f++)
			data[r][f] = (float)(unit() < 0.1 ? NAN : floor(unit() * 1000) / (f % 3 ? 1 : 7));
		data[r][AGG_F_DEVICE_CLICKS] = (float)floor(unit() * (bad ? 20 : 4));
		data[r][AGG_F_MOUSE_MOVES] = unit() < 0.3 ? NAN : (float)floor(unit() * (bad ? 3 : 100));
		data[r][AGG_F_GAP_DEVIATION_MS] = (float)(unit() * (bad ? 50 : 9000));
		label[r] = bad != (unit() < 0.05);
	}
}

#define XG(call) assert_int_equal(call, 0)

static void model_train(BoosterHandle *booster, DMatrixHandle *matrix, const char *const (*setting)[2], int settings, int rounds,
			bool named)
{
	XG(XGDMatrixCreateFromMat(&data[0][0], ROWS, AGG_FEATURES, NAN, matrix));
	XG(XGDMatrixSetFloatInfo(*matrix, "label", label, ROWS));
	if (named) {
		const char *name[AGG_FEATURES];
		for (int f = 0; f < AGG_FEATURES; f++)
			name[f] = agg_feature_name((enum agg_feature)f);
		XG(XGDMatrixSetStrFeatureInfo(*matrix, "feature_name", name, AGG_FEATURES));
	}
	XG(XGBoosterCreate(matrix, 1, booster));
	XG(XGBoosterSetParam(*booster, "objective", "binary:logistic"));
	XG(XGBoosterSetParam(*booster, "nthread", "1"));
	XG(XGBoosterSetParam(*booster, "verbosity", "0"));
	for (int i = 0; i < settings; i++)
		XG(XGBoosterSetParam(*booster, setting[i][0], setting[i][1]));
	for (int i = 0; i < rounds; i++)
		XG(XGBoosterUpdateOneIter(*booster, i, *matrix));
	XG(XGBoosterSaveModel(*booster, path));
}

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/model_test.%d.json", (int)getpid());
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

static void our_score_is_the_librarys(void **state)
{
	(void)state;
	static const char *const deep[][2] = {{"max_depth", "8"}, {"eta", "0.3"}},
				 *const flat[][2] = {{"max_depth", "1"}, {"base_score", "0.2"}},
				 *const odd[][2] = {
					 {"max_depth", "4"}, {"subsample", "0.5"}, {"lambda", "0"}, {"tree_method", "exact"}};
	static const struct {
		const char *const (*setting)[2];
		int settings, rounds;
		bool named;
	} row[] = {{deep, 2, 60, true}, {flat, 2, 5, false}, {odd, 4, 200, true}, {odd, 4, 1, false}};
	double worst = 0;
	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		BoosterHandle booster;
		DMatrixHandle matrix;
		struct agg_model *model;
		data_make(i + 1);
		model_train(&booster, &matrix, row[i].setting, row[i].settings, row[i].rounds, row[i].named);
		assert_int_equal(rul_model_load(path, &model), 0);
		assert_int_equal(model->trees, row[i].rounds);
		const float *theirs, *margin;
		bst_ulong count;
		XG(XGBoosterPredict(booster, matrix, 0, 0, 0, &count, &theirs));
		assert_int_equal(count, ROWS);
		float different = 0;
		for (int r = 0; r < ROWS; r++) {
			double off = fabs((double)agg_model_score(model, data[r]) - (double)theirs[r]);
			worst = off > worst ? off : worst;
			different = fabsf(theirs[r] - theirs[0]) > different ? fabsf(theirs[r] - theirs[0]) : different;
		}
		assert_true(different > 0.01f); /* the model says something */
		XG(XGBoosterPredict(booster, matrix, 1, 0, 0, &count, &margin));
		for (int r = 0; r < ROWS; r++) {
			double off = fabs((double)agg_model_margin(model, data[r]) - (double)margin[r]);
			assert_true(off <= 1e-5 * (1 + fabs((double)margin[r])));
		}
		rul_model_free(model);
		XGBoosterFree(booster);
		XGDMatrixFree(matrix);
	}
	print_message("largest difference of a score: %g\n", worst);
	assert_true(worst <= 1e-6);
}

static void columns_are_found_by_name(void **state)
{
	(void)state;
	/* one tree: if mouse_moves < 10 then 2 else -2, in a file whose only column is mouse_moves */
	static const char text[] = "{\"learner\":{\"feature_names\":[\"mouse_moves\"],\"learner_model_param\":{\"base_score\":\"5E-"
				   "1\",\"num_class\":\"0\","
				   "\"num_feature\":\"1\"},\"objective\":{\"name\":\"binary:logistic\"},\"gradient_booster\":{"
				   "\"name\":\"gbtree\",\"model\":{\"trees\":[{"
				   "\"left_children\":[1,-1,-1],\"right_children\":[2,-1,-1],\"split_indices\":[0,0,0],\"split_"
				   "conditions\":[1E1,2E0,-2E0],"
				   "\"default_left\":[0,0,0]}]}}}}";
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	struct agg_model *model;
	assert_int_equal(rul_model_load(path, &model), 0);
	float f[AGG_FEATURES] = {0};
	f[AGG_F_MOUSE_MOVES] = 10;
	assert_true(agg_model_margin(model, f) == -2);
	f[AGG_F_MOUSE_MOVES] = 9.99f;
	assert_true(agg_model_margin(model, f) == 2);
	f[AGG_F_MOUSE_MOVES] = NAN;
	assert_true(agg_model_margin(model, f) == -2);
	rul_model_free(model);
	/* each of these in its place makes a file that is refused */
	static const char *const wrong[][2] = {
		{"mouse_moves", "mouse_move"},
		{"binary:logistic", "reg:linear"},
		{"gbtree", "dart"},
		{"5E-1", "1"},
		{"5E-1", "x"},
		{"\"num_class\":\"0\"", "\"num_class\":\"3\""},
		{"[1,-1,-1]", "[0,-1,-1]"},
		{"[1,-1,-1]", "[2,-1,-1]"},
		{"[1,-1,-1]", "[3,-1,-1]"},
		{"[1,-1,-1]", "[1,-1]"},
		{"[1,-1,-1]", "[1,1,-1]"},
		{"[1,-1,-1]", "[1,-2,-1]"},
		{"[2,-1,-1]", "[-1,-1,-1]"},
		{"[0,0,0],\"split_cond", "[1,0,0],\"split_cond"},
		{"[1E1,2E0,-2E0]", "[1E1,2E0]"},
		{"[1E1,2E0,-2E0]", "[1E99,2E0,1]"},
		{"\"trees\":[{", "\"tree\":[{"},
		{"\"default_left\":[0,0,0]", "\"default_left\":[]"},
		{"\"num_feature\":\"1\"", "\"num_feature\":\"99\""},
		{"\"num_feature\":\"1\"", "\"num_feature\":\"nan\""},
		{"}}}}", "}}}"},
		{"\"default_left\"", "\"split_type\":[1,0,0],\"default_left\""},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const char *at = strstr(text, wrong[i][0]);
		assert_non_null(at);
		file = fopen(path, "w");
		fprintf(file, "%.*s%s%s", (int)(at - text), text, wrong[i][1], at + strlen(wrong[i][0]));
		fclose(file);
		if (rul_model_load(path, &model) != -EINVAL)
			fail_msg("took %s for %s", wrong[i][1], wrong[i][0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(our_score_is_the_librarys, setup, teardown),
		cmocka_unit_test_setup_teardown(columns_are_found_by_name, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
