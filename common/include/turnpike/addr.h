/*
 * IP addresses, prefixes and endpoints: text to bytes and back, membership in a set of prefixes. libc only; any thread.
 */
#ifndef TURNPIKE_ADDR_H
#define TURNPIKE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Always 16 bytes in network order; IPv4 as ::ffff:a.b.c.d, so that one comparison serves both. */
struct tp_addr {
	uint8_t byte[16];
	uint8_t family; /* 4, 6, or 0: none */
};

struct tp_prefix {
	struct tp_addr addr; /* as written: host bits are kept */
	uint8_t bits;        /* of the family: 0..32 or 0..128 */
};

struct tp_endpoint {
	struct tp_addr addr;
	uint16_t port;
};

enum { TP_ADDR_TEXT_BYTES = 46, TP_PREFIX_TEXT_BYTES = 50, TP_ENDPOINT_TEXT_BYTES = 54 };

/*
 * Parses the whole of text[0..bytes): "192.0.2.1", "2001:db8::1", also "::ffff:192.0.2.1" (which is family 4). No brackets, zone
 * or spaces; no leading zeros in IPv4 parts. 0 or -EINVAL. Used in the hot path: no allocation, no copy.
 */
int tp_addr_parse(const char *text, size_t bytes, struct tp_addr *addr);
int tp_prefix_parse(const char *text, size_t bytes, struct tp_prefix *prefix);       /* without "/n": a host */
int tp_endpoint_parse(const char *text, size_t bytes, struct tp_endpoint *endpoint); /* "127.0.0.1:80", "[::1]:80" */

/* Canonical text (RFC 5952), NUL-terminated. Returns the length. */
size_t tp_addr_text(const struct tp_addr *addr, char *to);
size_t tp_prefix_text(const struct tp_prefix *prefix, char *to); /* host bits as kept */
size_t tp_endpoint_text(const struct tp_endpoint *endpoint, char *to);

struct tp_addr tp_addr_v4(const uint8_t four[4]);
struct tp_addr tp_addr_v6(const uint8_t sixteen[16]); /* v4-mapped becomes family 4 */
bool tp_addr_equal(const struct tp_addr *a, const struct tp_addr *b);
bool tp_prefix_has(const struct tp_prefix *prefix, const struct tp_addr *addr);
bool tp_prefix_list_has(const struct tp_prefix *list, uint32_t count, const struct tp_addr *addr);

/* loopback, RFC 1918, link-local, unique local: the default of `trusted`. */
const struct tp_prefix *tp_private_prefixes(uint32_t *count);

/*
 * An immutable set of prefixes, longest match: the blocklist on sockets, rx and shard cores. Built by a cold thread, looked up by
 * any: tens of ns with 100,000 prefixes (perf/bench_blocklist). How it works: prefix_set.c.
 */
struct tp_prefix_set;
struct tp_prefix_set *tp_prefix_set_build(const struct tp_prefix *list, uint32_t count); /* NULL: no memory */
void tp_prefix_set_free(struct tp_prefix_set *set);
/* Index in `list` of the longest prefix that holds addr (of equal ones the first), or -1. Allocation-free. */
int64_t tp_prefix_set_match(const struct tp_prefix_set *set, const struct tp_addr *addr);

#endif
