/* Finishing events with vectors of 64 bytes: event_finish.h has it all. Any rx core. */
#include "event_finish_all.h"

#define FINISH       tp_event_finish_avx512
#define FINISH_BYTES 64
#include "event_finish.h"
