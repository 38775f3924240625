/* A model file from arbitrary bytes: refused, or trees that any features walk to a leaf, within the file's nodes. */
#include "fuzz_file.h"
#include "turnpike/log.h"
#include "turnpike/rules.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	float feature[AGG_FEATURES];
	struct agg_model *model = NULL;
	if (size > 1 << 20)
		return 0;
	tp_log_level_set(TP_ERROR + 1);
	struct fuzz_file file = fuzz_file_open(data, size);
	if (rul_model_load(file.path, &model) == 0) {
		assert(model->trees > 0 && model->nodes >= model->trees && isfinite(model->base));
		for (uint32_t i = 0; i < model->nodes; i++) {
			const struct agg_model_node *node = &model->node[i];
			/* children lie behind: so every walk ends */
			assert(isfinite(node->value) && node->feature < AGG_FEATURES);
			assert(!node->left || (node->left > i && node->left + 1 < model->nodes));
		}
		for (int f = 0; f < AGG_FEATURES; f++)
			feature[f] = f % 3 == 0 ? NAN : (float)f;
		(void)agg_model_margin(model, feature);
		memset(feature, 0, sizeof(feature));
		assert(!isnan(agg_model_score(model, feature)) || isinf(agg_model_margin(model, feature)) ||
		       isnan(agg_model_margin(model, feature)));
		rul_model_free(model);
	}
	close(file.fd);
	return 0;
}
