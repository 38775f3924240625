/*
 * Random events as a client holds them, with the same event as JSON: for the test of the protocol page. Seeded; one thread.
 */
#ifndef TURNPIKE_PROTOCOL_SAMPLE_H
#define TURNPIKE_PROTOCOL_SAMPLE_H

#include "turnpike/client.h"

#include <stdint.h>

struct sample {
	struct tpc_event event;
	char text[16][1100];
	char json[16384];
};

void sample_seed(uint64_t seed);
/* 0 <= result < below */
uint32_t sample_draw(uint32_t below);
/* The next event. Its strings lie in the sample. */
void sample_make(struct sample *s);

#endif
