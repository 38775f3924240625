/*
 * Connections of the control process: how many there are, what each is doing, and until when it may. The library's threads take, move and
 * give; a reaper thread of its own ends what is over its time.
 *
 *   WAITING ──request line──► READING ──whole──► WORKING ──answer──► SENDING or STREAMING ──sent──► WAITING …
 *
 * A connection has to earn its seat: it is WAITING or READING for a bounded time, whatever trickles in, and has to take an answer
 * at a rate that a poor line still has. When all seats are taken a newcomer gets the seat of the one that has waited longest for
 * nothing: of its own address when that holds more than its share, else of anybody. So ten thousand slow clients shut out
 * each other, and nobody who asks at once.
 */
#ifndef TURNPIKE_CTL_HTTP_SEAT_H
#define TURNPIKE_CTL_HTTP_SEAT_H

#include "turnpike/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ctl_seat_state { CTL_SEAT_WAITING, CTL_SEAT_READING, CTL_SEAT_WORKING, CTL_SEAT_SENDING, CTL_SEAT_STREAMING };

enum {
	CTL_SEAT_FIRST_MS = 15000,             /* from the first packet to the first request line, a TLS handshake included */
	CTL_SEAT_IDLE_MS = 60000,              /* between requests */
	CTL_SEAT_READ_MS = 10000,              /* from a request line to the end of its body */
	CTL_SEAT_SEND_MS = 20000,              /* an answer, and … */
	CTL_SEAT_SEND_BYTES_S = 32 * 1024,     /* … more time by its size */
	CTL_SEAT_HURRY_MS = 2000,              /* a large answer, while the budget is spent */
	CTL_SEAT_LARGE_BYTES = 64 * 1024,      /* large */
	CTL_SEAT_BUDGET_BYTES = 256 * 1048576, /* of all answers that are being sent */
};

struct ctl_seat {
	int fd; /* -1: free */
	uint8_t state;
	bool ended; /* it was told to go: its socket is shut down, the library will close it */
	struct tp_addr from;
	uint64_t since_ms, until_ms; /* 0: for ever */
	size_t bytes;                /* of the answer */
	struct ctl_seat *next_free;
};

struct ctl_seats;

/* 0 or -errno. `max` connections; some more may be closing. What is ended is counted in `meter`, which may be NULL. */
struct ctl_meter;
int ctl_seats_open(struct ctl_seats **seats, uint32_t max, struct ctl_meter *meter);
void ctl_seats_close(struct ctl_seats *seats); /* all seats were given back */

/* For a connection that was accepted. NULL: even those that are closing take all room; refuse it. */
struct ctl_seat *ctl_seat_take(struct ctl_seats *seats, int fd, const struct tp_addr *from);
/* Before its descriptor is closed. */
void ctl_seat_give(struct ctl_seats *seats, struct ctl_seat *seat);
/* What it does from now on. `bytes` of an answer in memory, else 0. */
void ctl_seat_move(struct ctl_seats *seats, struct ctl_seat *seat, enum ctl_seat_state state, size_t bytes);
/* Whether an answer of so many bytes fits beside those that are being sent. */
bool ctl_seats_have_room(struct ctl_seats *seats, size_t bytes);

#endif
