/* The copies of event_finish.h, for whoever chooses one of them: event_finish.c and the test that holds each against tp_event_finish(). */
#ifndef TP_EVENT_FINISH_ALL_H
#define TP_EVENT_FINISH_ALL_H

#include "turnpike/event_scratch.h"

typedef void (*tp_event_finish_fn)(struct tp_event_scratch *scratch, struct tp_parsed *parsed);

void tp_event_finish_sse(struct tp_event_scratch *scratch, struct tp_parsed *parsed);
void tp_event_finish_avx2(struct tp_event_scratch *scratch, struct tp_parsed *parsed);
void tp_event_finish_avx512(struct tp_event_scratch *scratch, struct tp_parsed *parsed);

/* NULL-terminated: those that this processor can run, best first. */
const tp_event_finish_fn *tp_event_finish_all(void);

#endif
