/*
 * A tap interface of ours, through which the kernel of this machine takes part in a wire that a DPDK port owns: frames that are not
 * for our stack go to it, frames that it sends go out. A thread of the tap's own makes the system calls; the rx cores only copy
 * frames in and out of rings of fixed slots, and never wait.
 *
 *   rx core i ── in[i] ──┐                ┌── write ──► kernel
 *                        ├── tap thread ──┤
 *   rx core 0 ◄── out ───┘                └◄── read ─── kernel
 *
 * The interface has the port's MAC and MTU, no address (the operator gives it some), and goes with the descriptor, also after
 * kill -9. Source: Linux Documentation/networking/tuntap.rst.
 */
#ifndef TURNPIKE_TAP_H
#define TURNPIKE_TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DP_TAP_SLOTS = 256, DP_TAP_FRAME_BYTES = 3096 };

struct dp_tap;

struct dp_tap_options {
	const char *name;
	uint8_t mac[6];
	uint16_t mtu;
	uint32_t cores;
	/* Called by the tap's thread when it has put frames for rx core 0 into an empty ring. May be NULL. */
	void (*wake)(void *context, uint32_t core);
	void *wake_context;
};

/* Makes the interface, brings it up, starts the thread. 0 or -errno, logged. -EBUSY: an interface has that name already. */
int dp_tap_open(struct dp_tap **tap, const struct dp_tap_options *options);
/* After the rx cores have ended. The interface is gone when it returns. */
void dp_tap_close(struct dp_tap *tap);

/* Rx core `core`: copies a frame for the kernel. False: no room, or too long. */
bool dp_tap_give(struct dp_tap *tap, uint32_t core, const uint8_t *frame, size_t bytes);
/* Rx core 0: the next frame of the kernel, or NULL; it stays until dp_tap_done(). */
const uint8_t *dp_tap_next(struct dp_tap *tap, size_t *bytes);
void dp_tap_done(struct dp_tap *tap);
bool dp_tap_waits(const struct dp_tap *tap);

#endif
