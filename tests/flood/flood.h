/*
 * The flood generator: raw frames at the rate the box can make, or many connections of the kernel's own TCP. For tests and figures; run
 * it in a network namespace against a node of your own.
 */
#ifndef TURNPIKE_FLOOD_H
#define TURNPIKE_FLOOD_H

#include "turnpike/addr.h"

#include <stdbool.h>
#include <stdint.h>

enum { FLOOD_SOURCES_MAX = 64 };

struct flood_options {
	const char *kind;      /* what to send */
	const char *interface; /* raw: whence */
	uint8_t mac[6];        /* raw: whither */
	struct tp_endpoint to;
	struct tp_prefix from; /* raw: sources are picked at random from it */
	struct tp_addr source[FLOOD_SOURCES_MAX];
	uint32_t sources, connections;
	double seconds;
	uint64_t rate; /* frames a second; 0: as fast as it goes */
};

int flood_raw(const struct flood_options *options);         /* syn, udp, malformed */
int flood_connections(const struct flood_options *options); /* hold, loris */

double flood_now(void); /* seconds, monotonic */

#endif
