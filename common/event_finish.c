/*
 * Chooses how this processor's rx cores finish events, before main(). Read by all of them from then on.
 */
#include "event_finish_all.h"

static tp_event_finish_fn chosen;

const tp_event_finish_fn *tp_event_finish_all(void)
{
	static const tp_event_finish_fn all[] = {tp_event_finish_avx512, tp_event_finish_avx2, tp_event_finish_sse, 0};
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
		return all + 2;
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
	    !__builtin_cpu_supports("avx512dq"))
		return all + 1;
	return all;
}

static void __attribute__((constructor)) choose(void)
{
	chosen = tp_event_finish_all()[0];
}

void tp_event_finish_with(struct tp_event_scratch *scratch, struct tp_parsed *parsed)
{
	chosen(scratch, parsed);
}
