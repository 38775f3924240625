/* Request targets and analytics parameters from anybody: decoded within bounds, or refused with a problem. */
#include "ctl_param.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct ctl_target target;
	struct ctl_query query = {0};
	struct ctl_reply reply = {0};
	char *text = malloc(count + 1);

	memcpy(text, bytes, count);
	text[count] = '\0';
	if (ctl_target_parse(text, &target) == 0) {
		for (uint32_t i = 0; i < target.segments; i++)
			assert(strlen(target.segment[i].at) == target.segment[i].bytes);
		if (ctl_param_analytics(&target, 1795305630250, &query, &reply)) {
			struct ctl_query before;
			struct ctl_answer answer;
			assert(query.from_minute <= query.to_minute && ctl_query_slots(&query) <= CTL_BUCKETS_MAX);
			ctl_query_previous(&query, &before);
			assert(before.from_minute <= before.to_minute && before.to_minute == query.from_minute);
			assert(ctl_query_slots(&before) <= CTL_BUCKETS_MAX);
			if (ctl_answer_init(&answer, &query) == 0)
				ctl_answer_fini(&answer);
		} else {
			assert(reply.status == 400 || reply.status == 422);
		}
		free(reply.body);
		const struct ctl_text *id[CTL_IDS_MAX];
		reply = (struct ctl_reply){0};
		if (!ctl_param_ids(&target, id, &reply))
			assert(reply.status == 400);
		free(reply.body);
		struct ctl_sessions_query sessions;
		uint32_t limit;
		bool sources;
		reply = (struct ctl_reply){0};
		if (!ctl_param_sessions(&target, 1795305630250, &sessions, &reply))
			assert(reply.status == 400);
		free(reply.body);
		reply = (struct ctl_reply){0};
		query = (struct ctl_query){0};
		if (!ctl_param_trending(&target, 1795305630250, &query, &sources, &limit, &reply))
			assert(reply.status == 400);
		free(reply.body);
		ctl_target_free(&target);
	}
	free(text);
	return 0;
}
