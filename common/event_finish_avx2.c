/* Finishing events with vectors of 32 bytes: event_finish.h has it all. Any rx core. */
#include "event_finish_all.h"

#include <immintrin.h>

#define FINISH       tp_event_finish_avx2
#define FINISH_BYTES 32
#define FINISH_END() _mm256_zeroupper()
#include "event_finish.h"
