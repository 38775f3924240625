/*
 * For tests: an app on top of a port, in place of HTTP and UDP beacons. The first byte of a connection says what it does:
 *
 *   'E' echo, with back-pressure passed on        'S' take nothing until echo_app_release()
 *   'B' answer with 256 KiB, whatever came        'C' answer "bye" and close, whatever else comes
 *   'A' abort
 *
 * Datagrams are sent back. One thread drives port and app.
 */
#ifndef TURNPIKE_ECHO_APP_H
#define TURNPIKE_ECHO_APP_H

#include "port.h"

#include <stdatomic.h>

enum { ECHO_BIG_BYTES = 262144, ECHO_STREAMS_MAX = 4096 };

struct echo_app {
	uint32_t opened, closed, ended, datagrams;
	_Atomic uint32_t stalls; /* a client may wait for one */
	uint64_t datagram_bytes;
	bool refuse; /* say no to new connections */
	bool hold;   /* 'S' connections take nothing */
};

extern struct echo_app echo_app;

void echo_app_reset(void);
/* From now on 'S' connections echo. */
void echo_app_release(void);

#endif
