/*
 * The XDP program in front of an AF_XDP queue. Runs in the kernel for each frame, in the driver, on the core that takes the
 * frame from the wire (on veth: the sender's).
 *
 *   frame ─ Ethernet ─ at most one VLAN tag ─┬─ IPv4 ─ source in tp_block_v4? ─┬─ yes: count, XDP_DROP
 *                                            ├─ IPv6 ─ source in tp_block_v6? ─┘
 *                                            └─ anything else, malformed too
 *                                                     no │
 *                                       socket in xsks_map[rx queue]? ── yes: count, XDP_REDIRECT; no: count, XDP_PASS
 *
 * It judges nothing but the source address: what is malformed goes to the stack above, which has a counter for each reason.
 * Names of the program and its maps are shared with the loader through turnpike/xdp.h. Sources: kernel documentation
 * Documentation/bpf/map_lpm_trie.rst and map_xskmap.rst.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "include/turnpike/xdp_shared.h"

struct ethernet {
	__u8 destination[6], source[6];
	__be16 type;
};

struct vlan {
	__be16 tag;
	__be16 type;
};

/* Only the parts up to the source address matter; the rest of the header is checked by the stack. */
struct ipv4 {
	__u8 before[12];
	__u8 source[4];
};

struct ipv6 {
	__u8 before[8];
	__u8 source[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, EB_PREFIXES_MAX);
	__type(key, struct eb_key_v4);
	__type(value, __u32);
} tp_block_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, EB_PREFIXES_MAX);
	__type(key, struct eb_key_v6);
	__type(value, __u32);
} tp_block_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EB_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} tp_xdp_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, EB_QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

/* Per CPU and never interrupted by itself, so a plain increment is exact. */
static __always_inline void count(__u32 which)
{
	__u64 *counter = bpf_map_lookup_elem(&tp_xdp_count, &which);

	if (counter)
		++*counter;
}

static __always_inline int blocked(void *at, void *end, __be16 type)
{
	if (type == bpf_htons(ETH_P_IP)) {
		struct ipv4 *header = at;
		struct eb_key_v4 key = {.bits = 32};

		if ((void *)(header + 1) > end)
			return 0;
		__builtin_memcpy(key.addr, header->source, sizeof(key.addr));
		return bpf_map_lookup_elem(&tp_block_v4, &key) != NULL;
	}
	if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6 *header = at;
		struct eb_key_v6 key = {.bits = 128};

		if ((void *)(header + 1) > end)
			return 0;
		__builtin_memcpy(key.addr, header->source, sizeof(key.addr));
		return bpf_map_lookup_elem(&tp_block_v6, &key) != NULL;
	}
	return 0;
}

SEC("xdp")
int turnpike_xdp(struct xdp_md *frame)
{
	void *end = (void *)(long)frame->data_end;
	struct ethernet *ethernet = (void *)(long)frame->data;
	void *at = ethernet + 1;
	int verdict;

	if (at <= end) {
		__be16 type = ethernet->type;

		if (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD)) {
			struct vlan *vlan = at;

			at = vlan + 1;
			type = at <= end ? vlan->type : 0;
		}
		if (blocked(at, end, type)) {
			count(EB_BLOCKLISTED);
			return XDP_DROP;
		}
	}
	/* The low bits of the flags are the verdict when no socket sits in the slot. */
	verdict = bpf_redirect_map(&xsks_map, frame->rx_queue_index, XDP_PASS);
	count(verdict == XDP_REDIRECT ? EB_REDIRECTED : EB_PASSED);
	return verdict;
}

char program_license[] SEC("license") = "GPL";
