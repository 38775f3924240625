/*
 * The XDP program in front of an AF_XDP queue. Runs in the kernel for each frame, in the driver, on the core that takes the
 * frame from the wire (on veth: the sender's).
 *
 *   frame ─ Ethernet ─ at most one VLAN tag ─┬─ IPv4 ─ well formed? ─ source in tp_block_v4? ─┐
 *                                            ├─ IPv6 ─ well formed? ─ source in tp_block_v6? ─┼─ within its packet rate? ─┐
 *                                            └─ anything else (ARP, two tags, …) ─────────────┴───────────────────────────┤
 *                                                                                                                         ▼
 *   a no: count why, XDP_DROP                                socket in xsks_map[rx queue]? ── yes: XDP_REDIRECT; no: XDP_PASS
 *
 * It drops what costs a comparison or two to see through and that no honest sender makes: lengths that do not fit the frame, sources
 * that cannot be (RFC 1122 section 3.2.1.3, RFC 4291 sections 2.5.3 and 2.7), TCP flags that no stack sends. Checksums, addresses,
 * ports, fragments and all else is left to the stack above, which has a counter for each.
 *
 * Of prefixes that hold a source the longest alone decides: a count-only entry inside a dropping one is an exception to it.
 *
 * Names of the program and its maps are shared with the loader through turnpike/xdp.h. Sources: RFC 791, RFC 8200, RFC 9293 section
 * 3.1, RFC 768; kernel documentation Documentation/bpf/map_lpm_trie.rst and map_xskmap.rst.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "include/turnpike/xdp_shared.h"

enum {
	PROTOCOL_HOP_BY_HOP = 0,
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
	PROTOCOL_ROUTING = 43,
	PROTOCOL_FRAGMENT = 44,
	PROTOCOL_AUTHENTICATION = 51,
	PROTOCOL_DESTINATION = 60,
};
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };
enum { ALLOWED = EB_COUNTERS }; /* no reason to drop */

struct ethernet {
	__u8 destination[6], source[6];
	__be16 type;
};

struct vlan {
	__be16 tag;
	__be16 type;
};

struct ipv4 {
	__u8 version_length; /* version, header length in words */
	__u8 service;
	__be16 total_bytes;
	__be16 identification;
	__be16 fragment; /* three flags, offset */
	__u8 hops;
	__u8 protocol;
	__be16 checksum;
	__u8 source[4], destination[4];
};

struct ipv6 {
	__u8 version, class_flow[3];
	__be16 payload_bytes;
	__u8 next;
	__u8 hops;
	__u8 source[16], destination[16];
};

struct extension {
	__u8 next;
	__u8 length; /* in units of 8 bytes beyond the first; of 4 beyond the second for authentication */
	__be16 offset;
	__u8 rest[4];
};

struct tcp {
	__u8 ports_numbers[12];
	__u8 length; /* high half: header length in words */
	__u8 flags;
	__u8 rest[6];
};

struct udp {
	__be16 source, destination, bytes, checksum;
};

/* Twice the list's limit: a new list is in before the old one is out. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * EB_PREFIXES_MAX);
	__type(key, struct eb_key_v4);
	__type(value, struct eb_value);
} tp_block_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * EB_PREFIXES_MAX);
	__type(key, struct eb_key_v6);
	__type(value, struct eb_value);
} tp_block_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EB_SLOTS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} tp_block_hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct eb_counts);
} tp_xdp_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct eb_settings);
} tp_xdp_settings SEC(".maps");

/* When a source's next packet is due, in ns of the monotonic clock. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, EB_SOURCES_MAX);
	__type(key, struct eb_source);
	__type(value, __u64);
} tp_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, EB_QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

/* Per CPU and never interrupted by itself, so a plain increment is exact. */
static __always_inline void count(__u32 which)
{
	const __u32 only = 0;
	struct eb_counts *counts = bpf_map_lookup_elem(&tp_xdp_count, &only);

	if (counts && which < EB_COUNTERS)
		counts->v[which]++;
}

/* Counts the hit on an entry. EB_BLOCKLISTED or ALLOWED. */
static __always_inline __u32 entry_verdict(const struct eb_value *entry)
{
	__u64 *hits;

	if (!entry)
		return ALLOWED;
	hits = bpf_map_lookup_elem(&tp_block_hits, &entry->slot);
	if (hits)
		++*hits;
	return entry->count_only ? ALLOWED : EB_BLOCKLISTED;
}

static __always_inline __u32 rate_verdict(const struct eb_source *source)
{
	const __u32 only = 0;
	const struct eb_settings *settings = bpf_map_lookup_elem(&tp_xdp_settings, &only);
	__u64 now, due, *held;

	if (!settings || settings->interval_ns == 0)
		return ALLOWED;
	now = bpf_ktime_get_ns();
	held = bpf_map_lookup_elem(&tp_sources, source);
	if (!held) {
		due = now + settings->interval_ns;
		bpf_map_update_elem(&tp_sources, source, &due, BPF_ANY);
		return ALLOWED;
	}
	due = *held;
	if (due < now)
		*held = now + settings->interval_ns;
	else if (due - now > settings->burst_ns)
		return EB_RATE_LIMITED;
	else
		__sync_fetch_and_add(held, settings->interval_ns); /* other CPUs count the same source */
	return ALLOWED;
}

/* `bytes` of a TCP or UDP packet begin at `at`, all within the frame. */
static __always_inline __u32 transport_verdict(void *at, void *end, __u32 protocol, __u32 bytes)
{
	if (protocol == PROTOCOL_TCP) {
		const struct tcp *tcp = at;
		__u32 header_bytes, flags;

		if (bytes < sizeof(*tcp) || (void *)(tcp + 1) > end)
			return EB_TRUNCATED;
		header_bytes = (tcp->length >> 4) * 4;
		if (header_bytes < sizeof(*tcp) || header_bytes > bytes)
			return EB_BAD_TCP;
		flags = tcp->flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK);
		/* none at all; SYN with FIN or RST; FIN without ACK */
		if (flags == 0 || ((flags & TCP_SYN) && (flags & (TCP_FIN | TCP_RST))) || flags == TCP_FIN)
			return EB_BAD_TCP;
	} else if (protocol == PROTOCOL_UDP) {
		const struct udp *udp = at;
		__u32 length;

		if (bytes < sizeof(*udp) || (void *)(udp + 1) > end)
			return EB_TRUNCATED;
		length = bpf_ntohs(udp->bytes);
		/* RFC 2675: zero is a jumbogram's, which no frame of ours holds */
		if (length < sizeof(*udp) || length > bytes)
			return EB_BAD_UDP;
	}
	return ALLOWED;
}

static __always_inline __u32 ipv4_verdict(void *at, void *end)
{
	const struct ipv4 *ip = at;
	struct eb_key_v4 key = {.bits = 32};
	struct eb_source source = {.family = 4};
	__u32 header_bytes, total_bytes, verdict, address, to;

	if ((void *)(ip + 1) > end)
		return EB_TRUNCATED;
	header_bytes = (ip->version_length & 15) * 4;
	total_bytes = bpf_ntohs(ip->total_bytes);
	/* a frame may be longer than its packet: Ethernet pads to 60 bytes */
	if (ip->version_length >> 4 != 4 || header_bytes < sizeof(*ip) || total_bytes < header_bytes ||
	    total_bytes > (__u64)(end - at))
		return EB_BAD_IPV4;
	__builtin_memcpy(key.addr, ip->source, sizeof(key.addr));
	__builtin_memcpy(&address, ip->source, sizeof(address));
	__builtin_memcpy(&to, ip->destination, sizeof(to));
	/* loopback, multicast, class E and broadcast; 0/8 but for 0.0.0.0, which asks for an address; ourselves */
	if (key.addr[0] == 127 || key.addr[0] >= 224 || (key.addr[0] == 0 && address != 0) || address == to)
		return EB_BAD_SOURCE;
	if ((ip->fragment & bpf_htons(0x3fff)) == 0) {
		verdict = transport_verdict(at + header_bytes, end, ip->protocol, total_bytes - header_bytes);
		if (verdict != ALLOWED)
			return verdict;
	}
	verdict = entry_verdict(bpf_map_lookup_elem(&tp_block_v4, &key));
	if (verdict != ALLOWED)
		return verdict;
	__builtin_memcpy(source.addr, ip->source, sizeof(ip->source));
	return rate_verdict(&source);
}

/* Walks the extension headers (RFC 8200 section 4) to the transport's. */
static __always_inline __u32 payload_verdict(void *at, void *end, __u32 next, __u32 bytes)
{
	for (int i = 0; i <= EB_EXTENSIONS_MAX; i++) {
		const struct extension *extension = at;
		__u32 extension_bytes;

		if (next != PROTOCOL_HOP_BY_HOP && next != PROTOCOL_ROUTING && next != PROTOCOL_FRAGMENT &&
		    next != PROTOCOL_AUTHENTICATION && next != PROTOCOL_DESTINATION)
			return transport_verdict(at, end, next, bytes);
		if (next == PROTOCOL_HOP_BY_HOP && i > 0) /* only ever first */
			return EB_BAD_EXTENSIONS;
		if (bytes < sizeof(*extension) || (void *)(extension + 1) > end)
			return EB_BAD_EXTENSIONS;
		if (next == PROTOCOL_FRAGMENT)
			return ALLOWED;
		extension_bytes = next == PROTOCOL_AUTHENTICATION ? (extension->length + 2) * 4 : (extension->length + 1) * 8;
		if (extension_bytes > bytes)
			return EB_BAD_EXTENSIONS;
		next = extension->next;
		at += extension_bytes;
		bytes -= extension_bytes;
	}
	return EB_BAD_EXTENSIONS;
}

static __always_inline __u32 ipv6_verdict(void *at, void *end)
{
	const struct ipv6 *ip = at;
	struct eb_key_v6 key = {.bits = 128};
	struct eb_source source = {.family = 6};
	__u64 high, low, to_high, to_low;
	__u32 payload_bytes, verdict;

	if ((void *)(ip + 1) > end)
		return EB_TRUNCATED;
	payload_bytes = bpf_ntohs(ip->payload_bytes);
	if (ip->version >> 4 != 6 || payload_bytes > (__u64)(end - at) - sizeof(*ip))
		return EB_BAD_IPV6;
	__builtin_memcpy(key.addr, ip->source, sizeof(key.addr));
	__builtin_memcpy(&high, ip->source, sizeof(high));
	__builtin_memcpy(&low, ip->source + 8, sizeof(low));
	__builtin_memcpy(&to_high, ip->destination, sizeof(to_high));
	__builtin_memcpy(&to_low, ip->destination + 8, sizeof(to_low));
	/* multicast, loopback; ourselves, but for ::, which asks whether an address is taken */
	if (key.addr[0] == 0xff || (high == 0 && low == bpf_cpu_to_be64(1)) ||
	    ((high != 0 || low != 0) && high == to_high && low == to_low))
		return EB_BAD_SOURCE;
	verdict = payload_verdict(at + sizeof(*ip), end, ip->next, payload_bytes);
	if (verdict != ALLOWED)
		return verdict;
	verdict = entry_verdict(bpf_map_lookup_elem(&tp_block_v6, &key));
	if (verdict != ALLOWED)
		return verdict;
	__builtin_memcpy(source.addr, ip->source, sizeof(source.addr));
	return rate_verdict(&source);
}

static __always_inline __u32 frame_verdict(void *at, void *end)
{
	const struct ethernet *ethernet = at;
	__be16 type;

	at = (void *)(ethernet + 1);
	if (at > end)
		return EB_TRUNCATED;
	type = ethernet->type;
	if (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD)) {
		const struct vlan *vlan = at;

		at = (void *)(vlan + 1);
		if (at > end)
			return EB_TRUNCATED;
		type = vlan->type;
	}
	if (type == bpf_htons(ETH_P_IP))
		return ipv4_verdict(at, end);
	if (type == bpf_htons(ETH_P_IPV6))
		return ipv6_verdict(at, end);
	return ALLOWED;
}

SEC("xdp")
int turnpike_xdp(struct xdp_md *frame)
{
	const __u32 refused = frame_verdict((void *)(long)frame->data, (void *)(long)frame->data_end);
	int verdict;

	if (refused != ALLOWED) {
		count(refused);
		return XDP_DROP;
	}
	/* The low bits of the flags are the verdict when no socket sits in the slot. */
	verdict = bpf_redirect_map(&xsks_map, frame->rx_queue_index, XDP_PASS);
	count(verdict == XDP_REDIRECT ? EB_REDIRECTED : EB_PASSED);
	return verdict;
}

char program_license[] SEC("license") = "GPL";
