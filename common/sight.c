/*
 * Sight: rings of single packets and requests in shared memory. Layout and rules: turnpike/sight.h. Pure but for the memory; an rx
 * core enters tp_sight_frame() and tp_sight_request(), the command thread start and stop, another process the reader's part.
 */
#include "turnpike/sight.h"
#include "turnpike/text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum { PAGE_BYTES = 4096, ETH_BYTES = 14, VLAN_BYTES = 4, IP4_BYTES = 20, IP6_BYTES = 40, IP6_HEADERS_MAX = 8 };
enum { ETHERTYPE_ARP = 0x0806, ETHERTYPE_IP4 = 0x0800, ETHERTYPE_IP6 = 0x86dd, ETHERTYPE_VLAN = 0x8100 };
enum { PROTOCOL_ICMP = 1, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_ICMP6 = 58 };

static_assert(sizeof(struct tp_sight_slot) <= 2048, "two slots a page");

static struct tp_sight_slot *slot_of(const struct tp_sight *sight, uint32_t core, uint64_t number)
{
	const uint64_t index = (uint64_t)core * TP_SIGHT_SLOTS + (number & (TP_SIGHT_SLOTS - 1));
	return (struct tp_sight_slot *)((uintptr_t)sight + sight->slots_at + index * sizeof(struct tp_sight_slot));
}

/* ---- what a frame is ---- */

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static struct tp_addr addr4(const uint8_t *four)
{
	struct tp_addr addr = {.byte = {[10] = 0xff, [11] = 0xff}, .family = 4};
	memcpy(addr.byte + 12, four, 4);
	return addr;
}

static struct tp_addr addr6(const uint8_t *sixteen)
{
	struct tp_addr addr = {.family = 6};
	memcpy(addr.byte, sixteen, 16);
	return addr;
}

static void flow_transport(struct tp_sight_flow *flow, const uint8_t *l4, uint32_t bytes)
{
	if (flow->protocol == PROTOCOL_ICMP || flow->protocol == PROTOCOL_ICMP6)
		flow->type = TP_SIGHT_ICMP;
	else if (flow->protocol == PROTOCOL_TCP)
		flow->type = TP_SIGHT_TCP;
	else if (flow->protocol == PROTOCOL_UDP)
		flow->type = TP_SIGHT_UDP;
	if ((flow->type != TP_SIGHT_TCP && flow->type != TP_SIGHT_UDP) || bytes < 4)
		return;
	flow->has_ports = true;
	flow->from.port = get16(l4);
	flow->to.port = get16(l4 + 2);
	if (flow->type == TP_SIGHT_TCP && bytes > 13)
		flow->tcp_flags = l4[13];
}

static void flow_ip4(struct tp_sight_flow *flow, const uint8_t *ip, uint32_t bytes)
{
	if (bytes < IP4_BYTES)
		return;
	const uint32_t header_bytes = (uint32_t)(ip[0] & 15) * 4;
	flow->has_addresses = true;
	flow->from.addr = addr4(ip + 12);
	flow->to.addr = addr4(ip + 16);
	flow->protocol = ip[9];
	if (header_bytes >= IP4_BYTES && header_bytes <= bytes && (get16(ip + 6) & 0x1fff) == 0)
		flow_transport(flow, ip + header_bytes, bytes - header_bytes);
}

static void flow_ip6(struct tp_sight_flow *flow, const uint8_t *ip, uint32_t bytes)
{
	if (bytes < IP6_BYTES)
		return;
	uint32_t at = IP6_BYTES;
	flow->has_addresses = true;
	flow->from.addr = addr6(ip + 8);
	flow->to.addr = addr6(ip + 24);
	flow->protocol = ip[6];
	for (int i = 0; i < IP6_HEADERS_MAX && bytes - at >= 8; i++) {
		const uint8_t next = flow->protocol;
		if (next != 0 && next != 43 && next != 60)
			break;
		const uint32_t header_bytes = ((uint32_t)ip[at + 1] + 1) * 8;
		if (header_bytes > bytes - at)
			return;
		flow->protocol = ip[at];
		at += header_bytes;
	}
	flow_transport(flow, ip + at, bytes - at);
}

void tp_sight_flow(const uint8_t *frame, uint32_t bytes, struct tp_sight_flow *flow)
{
	uint32_t at = ETH_BYTES;
	memset(flow, 0, sizeof(*flow));
	if (bytes < ETH_BYTES)
		return;
	flow->ethertype = get16(frame + 12);
	if (flow->ethertype == ETHERTYPE_VLAN && bytes >= ETH_BYTES + VLAN_BYTES) {
		flow->ethertype = get16(frame + 16);
		at += VLAN_BYTES;
	}
	if (flow->ethertype == ETHERTYPE_IP4) {
		flow_ip4(flow, frame + at, bytes - at);
	} else if (flow->ethertype == ETHERTYPE_IP6) {
		flow_ip6(flow, frame + at, bytes - at);
	} else if (flow->ethertype == ETHERTYPE_ARP) {
		flow->type = TP_SIGHT_ARP;
		if (bytes - at >= 28) {
			flow->has_addresses = true;
			flow->from.addr = addr4(frame + at + 14);
			flow->to.addr = addr4(frame + at + 24);
		}
	}
}

bool tp_sight_frame_matches(const struct tp_sight_filter *filter, const uint8_t *frame, uint32_t bytes)
{
	struct tp_sight_flow flow;
	if (filter->path[0])
		return false; /* a frame has none */
	if (filter->type == TP_SIGHT_ANY && !filter->has_prefix && !filter->port)
		return true;
	tp_sight_flow(frame, bytes, &flow);
	if (filter->type != TP_SIGHT_ANY && filter->type != flow.type)
		return false;
	if (filter->has_prefix && (!flow.has_addresses || (!tp_prefix_has(&filter->prefix, &flow.from.addr) &&
							   !tp_prefix_has(&filter->prefix, &flow.to.addr))))
		return false;
	return !filter->port || (flow.has_ports && (flow.from.port == filter->port || flow.to.port == filter->port));
}

const char *tp_sight_step(enum tp_counter verdict)
{
	switch (verdict) {
	case TP_C_FRAMES_RUNT:
	case TP_C_FRAMES_BAD_VLAN:
	case TP_C_FRAMES_BAD_ETHERTYPE:
		return "link";
	case TP_C_FRAMES_NOT_OURS:
	case TP_C_FRAMES_BAD_IP:
	case TP_C_FRAMES_BAD_IP_CHECKSUM:
	case TP_C_FRAMES_FRAGMENT:
	case TP_C_FRAMES_BAD_PROTOCOL:
		return "ip";
	case TP_C_FRAMES_BLOCKLISTED:
		return "blocklist";
	case TP_C_FRAMES_TO_TAP:
	case TP_C_FRAMES_TAP_FULL:
		return "tap";
	case TP_C_FRAMES_SPREAD_FULL:
		return "spread";
	default:
		return "transport";
	}
}

/* ---- the session ---- */

int tp_sight_create(struct tp_sight **sight, uint32_t cores)
{
	const uint64_t head = sizeof(struct tp_sight) + cores * sizeof(struct tp_sight_core);
	const uint64_t at = (head + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
	const uint64_t bytes = at + (uint64_t)cores * TP_SIGHT_SLOTS * sizeof(struct tp_sight_slot);
	struct tp_sight *made;
	int error, fd = memfd_create("turnpike-sight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) != 0)
		goto fail;
	made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (made == MAP_FAILED)
		goto fail;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
		error = -errno;
		munmap(made, bytes);
		close(fd);
		return error;
	}
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE); /* Linux 5.1; without it readers are trusted to map read only */
	made->version = TP_SIGHT_VERSION;
	made->cores = cores;
	made->bytes = bytes;
	made->slots_at = at;
	made->magic = TP_SIGHT_MAGIC;
	*sight = made;
	return fd;
fail:
	error = -errno;
	close(fd);
	return error;
}

void tp_sight_start(struct tp_sight *sight, const struct tp_sight_filter *filter, uint32_t records, uint32_t seconds,
		    uint32_t snap_bytes)
{
	const uint64_t now_ns = tp_mono_ns();
	for (uint64_t at = sight->slots_at; at < sight->bytes; at += PAGE_BYTES)
		*(volatile uint8_t *)((uint8_t *)sight + at) = 0;
	for (uint32_t core = 0; core < sight->cores; core++) {
		for (uint64_t i = 0; i < TP_SIGHT_SLOTS; i++)
			atomic_store_explicit(&slot_of(sight, core, i)->stamp, 0, memory_order_relaxed);
		atomic_store_explicit(&sight->core[core].next, 0, memory_order_relaxed);
	}
	sight->filter = *filter;
	sight->filter.path[sizeof(sight->filter.path) - 1] = '\0';
	sight->snap_bytes = snap_bytes < TP_SIGHT_DATA_BYTES ? snap_bytes : TP_SIGHT_DATA_BYTES;
	sight->ends_ns = now_ns + seconds * 1000000000ULL;
	sight->wall_offset_ns = (int64_t)(tp_now_ms() * 1000000) - (int64_t)now_ns;
	atomic_store_explicit(&sight->left, records, memory_order_relaxed);
	atomic_fetch_add_explicit(&sight->session, 1, memory_order_relaxed);
	/* release: who sees the session on sees its filter and its empty rings */
	atomic_store_explicit(&sight->active, filter->kinds, memory_order_release);
}

void tp_sight_stop(struct tp_sight *sight)
{
	atomic_store_explicit(&sight->active, 0, memory_order_release);
}

bool tp_sight_running(struct tp_sight *sight, uint64_t now_ns)
{
	if (!atomic_load_explicit(&sight->active, memory_order_acquire))
		return false;
	if (now_ns < sight->ends_ns)
		return true;
	tp_sight_stop(sight);
	return false;
}

/* ---- an rx core writes ---- */

/* The next slot, marked as being written; NULL: the session's limit is reached. */
static struct tp_sight_slot *slot_take(struct tp_sight *sight, uint32_t core, uint64_t now_ns)
{
	const uint64_t number = atomic_load_explicit(&sight->core[core].next, memory_order_relaxed);
	/* acquire: pairs with the release of tp_sight_start() */
	if (!atomic_load_explicit(&sight->active, memory_order_acquire))
		return NULL;
	if (now_ns > sight->ends_ns || atomic_fetch_sub_explicit(&sight->left, 1, memory_order_relaxed) <= 0) {
		tp_sight_stop(sight);
		return NULL;
	}
	struct tp_sight_slot *slot = slot_of(sight, core, number);
	atomic_store_explicit(&slot->stamp, 2 * number + 1, memory_order_relaxed);
	/* the odd stamp before any byte of the record: a reader in mid-copy notices */
	atomic_thread_fence(memory_order_release);
	return slot;
}

static void slot_give(struct tp_sight *sight, uint32_t core, struct tp_sight_slot *slot)
{
	const uint64_t number = atomic_load_explicit(&sight->core[core].next, memory_order_relaxed);
	/* release: the record before its stamp, the stamp before the position */
	atomic_store_explicit(&slot->stamp, 2 * number + 2, memory_order_release);
	atomic_store_explicit(&sight->core[core].next, number + 1, memory_order_release);
}

static void slot_fill(struct tp_sight *sight, uint32_t core, struct tp_sight_slot *slot, const void *data, uint32_t bytes,
		      uint32_t most, uint64_t now_ns)
{
	slot->record.wall_ns = (uint64_t)((int64_t)now_ns + sight->wall_offset_ns);
	slot->record.core = (uint8_t)core;
	slot->record.kept = bytes < most ? bytes : most;
	memcpy(slot->data, data, slot->record.kept);
}

void tp_sight_frame(struct tp_sight *sight, uint32_t core, enum tp_sight_kind kind, uint32_t ingest, const uint8_t *frame,
		    uint32_t bytes, enum tp_counter verdict, uint64_t now_ns)
{
	if (!tp_sight_frame_matches(&sight->filter, frame, bytes))
		return;
	struct tp_sight_slot *slot = slot_take(sight, core, now_ns);
	if (!slot)
		return;
	slot->record = (struct tp_sight_record){
		.bytes = bytes, .verdict = (uint16_t)verdict, .kind = (uint8_t)kind, .ingest = (uint8_t)ingest};
	slot_fill(sight, core, slot, frame, bytes, sight->snap_bytes, now_ns);
	slot_give(sight, core, slot);
}

void tp_sight_request(struct tp_sight *sight, uint32_t core, const struct tp_sight_record *record, const void *data,
		      uint32_t data_bytes, uint64_t now_ns)
{
	const struct tp_sight_filter *filter = &sight->filter;
	const size_t path_bytes = strlen(filter->path);
	const uint8_t type = record->kind == TP_SIGHT_REQUEST ? TP_SIGHT_TCP : TP_SIGHT_UDP;
	if ((filter->type != TP_SIGHT_ANY && filter->type != type) ||
	    (filter->has_prefix && !tp_prefix_has(&filter->prefix, &record->peer.addr)) ||
	    (filter->port && filter->port != record->peer.port))
		return;
	if (path_bytes &&
	    (record->kind != TP_SIGHT_REQUEST || data_bytes < path_bytes || memcmp(data, filter->path, path_bytes) != 0))
		return;
	struct tp_sight_slot *slot = slot_take(sight, core, now_ns);
	if (!slot)
		return;
	slot->record = *record;
	slot_fill(sight, core, slot, data, data_bytes, TP_SIGHT_DATA_BYTES, now_ns);
	slot_give(sight, core, slot);
}

/* ---- a reader ---- */

int tp_sight_map(int fd, const struct tp_sight **sight)
{
	struct stat stat;
	if (fstat(fd, &stat) != 0)
		return -errno;
	if ((uint64_t)stat.st_size < sizeof(struct tp_sight))
		return -EPROTO;
	const struct tp_sight *map = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	const uint64_t slots = map->cores * (uint64_t)TP_SIGHT_SLOTS * sizeof(struct tp_sight_slot);
	if (map->magic != TP_SIGHT_MAGIC || map->version != TP_SIGHT_VERSION || map->bytes != (uint64_t)stat.st_size ||
	    map->slots_at > map->bytes || map->bytes - map->slots_at != slots) {
		munmap((void *)(uintptr_t)map, (size_t)stat.st_size);
		return -EPROTO;
	}
	*sight = map;
	return 0;
}

void tp_sight_unmap(const struct tp_sight *sight)
{
	munmap((void *)(uintptr_t)sight, sight->bytes);
}

int tp_sight_read(const struct tp_sight *sight, uint32_t core, uint64_t *next, uint64_t *lost, struct tp_sight_slot *to)
{
	for (;;) {
		const uint64_t written = atomic_load_explicit(&sight->core[core].next, memory_order_acquire);
		if (*next >= written)
			return 0;
		if (written - *next > TP_SIGHT_SLOTS) {
			*lost += written - *next - TP_SIGHT_SLOTS;
			*next = written - TP_SIGHT_SLOTS;
		}
		const struct tp_sight_slot *slot = slot_of(sight, core, *next);
		const uint64_t before = atomic_load_explicit(&slot->stamp, memory_order_acquire);
		memcpy(&to->record, &slot->record, sizeof(to->record));
		if (to->record.kept <= TP_SIGHT_DATA_BYTES)
			memcpy(to->data, slot->data, to->record.kept);
		/* acquire: the copy is not moved behind the second look */
		atomic_thread_fence(memory_order_acquire);
		const bool whole = before == 2 * *next + 2 && atomic_load_explicit(&slot->stamp, memory_order_relaxed) == before;
		++*next;
		if (whole && to->record.kept <= TP_SIGHT_DATA_BYTES)
			return 1;
		++*lost; /* the ring went round meanwhile */
	}
}

const char *tp_sight_kind_name(enum tp_sight_kind kind)
{
	static const char *const name[TP_SIGHT_KINDS] = {"in", "out", "request", "datagram"};
	return kind < TP_SIGHT_KINDS ? name[kind] : "?";
}

const char *tp_sight_type_name(enum tp_sight_type type)
{
	static const char *const name[TP_SIGHT_TYPES] = {"any", "arp", "icmp", "tcp", "udp"};
	return type < TP_SIGHT_TYPES ? name[type] : "?";
}
