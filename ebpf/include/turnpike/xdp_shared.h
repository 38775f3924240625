/*
 * What the XDP program and its loader share: map keys, sizes and counters. Compiled for both the kernel's machine and ours, so it
 * includes nothing. Maps live and die with the process's program: nothing of this outlives a start.
 */
#ifndef TURNPIKE_XDP_SHARED_H
#define TURNPIKE_XDP_SHARED_H

enum { EB_BLOCKLISTED, EB_PASSED, EB_REDIRECTED, EB_COUNTERS };
enum { EB_PREFIXES_MAX = 65536 }; /* per family */
enum { EB_QUEUES_MAX = 256 };     /* receive queues of one interface */

/* Keys of the LPM tries: length in bits, then the address in network order, host bits zero. */
struct eb_key_v4 {
	unsigned int bits;
	unsigned char addr[4];
};

struct eb_key_v6 {
	unsigned int bits;
	unsigned char addr[16];
};

#endif
