/*
 * What the XDP program and its loader share: map keys and values, sizes, counters, settings. Compiled for both the kernel's machine
 * and ours, so it includes nothing. Maps live and die with the process's program: nothing of this outlives a start.
 */
#ifndef TURNPIKE_XDP_SHARED_H
#define TURNPIKE_XDP_SHARED_H

/* Each frame is counted in exactly one. */
enum {
	EB_REDIRECTED, /* to the AF_XDP socket of its queue */
	EB_PASSED,     /* to the kernel: no socket in that queue */
	EB_BLOCKLISTED,
	EB_RATE_LIMITED,
	EB_TRUNCATED,      /* shorter than its Ethernet, IP or transport header */
	EB_BAD_IPV4,       /* version, header length or total length */
	EB_BAD_IPV6,       /* version or payload length */
	EB_BAD_SOURCE,     /* a source that no honest packet on a wire has */
	EB_BAD_EXTENSIONS, /* IPv6 extension headers cut off, out of order or without end */
	EB_BAD_TCP,        /* header length, or flags that no stack sends */
	EB_BAD_UDP,        /* length */
	EB_COUNTERS
};

enum { EB_PREFIXES_MAX = 131072 };           /* per family */
enum { EB_SLOTS_MAX = 2 * EB_PREFIXES_MAX }; /* of the hit counts, eight bytes each on each CPU */
enum { EB_QUEUES_MAX = 256 };                /* receive queues of one interface */
enum { EB_SOURCES_MAX = 65536 };             /* sources that the rate limit remembers: the least recently seen is forgotten */
enum { EB_EXTENSIONS_MAX = 8 };              /* IPv6 extension headers of one packet */

/* Keys of the LPM tries: length in bits, then the address in network order, host bits zero. */
struct eb_key_v4 {
	unsigned int bits;
	unsigned char addr[4];
};

struct eb_key_v6 {
	unsigned int bits;
	unsigned char addr[16];
};

/* Their value. `slot` is the entry's place among the hit counts. */
struct eb_value {
	unsigned int slot;
	unsigned int count_only; /* 0: drop */
};

/* Who is limited: an IPv4 address, or the first 64 bits of an IPv6 address. */
struct eb_source {
	unsigned char addr[8];
	unsigned int family;
};

struct eb_counts {
	unsigned long long v[EB_COUNTERS];
};

/*
 * The packet-rate limit as a generic cell rate algorithm (ITU-T I.371): a source's packets are due `interval_ns` apart, and may come
 * up to `burst_ns` ahead of that. interval_ns 0: off.
 */
struct eb_settings {
	unsigned long long interval_ns, burst_ns;
};

#endif
