/* Finishing events with vectors of 16 bytes: event_finish.h has it all. Any rx core. */
#include "event_finish_all.h"

#define FINISH       tp_event_finish_sse
#define FINISH_BYTES 16
#define FINISH_END() (void)0
#include "event_finish.h"
