/*
 * The maps of the XDP program that is attached to an interface: the blocklist in, the counters out. Command thread; one at a time.
 *
 * net_af_xdp keeps its libbpf object to itself, so the way in is the interface: its program's id, the ids of the maps that the
 * program uses, their names. `held` is a sorted copy of what a trie holds; an update walks the old and the new copy side by side and
 * makes a system call for each difference only.
 *
 *   held    a b   d e          add c first,
 *   wanted  a   c d            then remove b and e
 */
#include "turnpike/xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAPS_MAX = 16 };

struct trie {
	int fd;
	struct eb_key_v6 *held; /* sorted; IPv4 uses the first four address bytes */
	uint32_t held_count;
};

struct eb_xdp {
	struct trie v4, v6;
	int counters_fd;
	uint32_t attach_mode;
};

static int key_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct eb_key_v6));
}

/* Sorts and drops doubles. */
static uint32_t keys_normalise(struct eb_key_v6 *keys, uint32_t count)
{
	uint32_t kept = 0;

	if (count == 0)
		return 0;
	qsort(keys, count, sizeof(*keys), key_compare);
	for (uint32_t i = 1; i < count; i++)
		if (key_compare(&keys[kept], &keys[i]) != 0)
			keys[++kept] = keys[i];
	return kept + 1;
}

/* What is in the trie now: nothing in a fresh one, but we may be looking at one that has been at work. */
static int trie_read(struct trie *trie)
{
	struct eb_key_v6 *keys = calloc(EB_PREFIXES_MAX, sizeof(*keys));
	uint32_t count = 0;

	if (keys == NULL)
		return -ENOMEM;
	for (const void *last = NULL; count < EB_PREFIXES_MAX; last = &keys[count++])
		if (bpf_map_get_next_key(trie->fd, last, &keys[count]) != 0)
			break;
	trie->held_count = keys_normalise(keys, count);
	trie->held = keys;
	return 0;
}

/* The keys of one family in `list`, host bits cleared. NULL: no memory. */
static struct eb_key_v6 *keys_of(const struct tp_prefix *list, uint32_t count, uint8_t family, uint32_t *keys_count)
{
	struct eb_key_v6 *keys = calloc(count > 0 ? count : 1, sizeof(*keys));
	const uint32_t first = family == 4 ? 12 : 0; /* where the address starts in the 16 bytes */
	uint32_t n = 0;

	if (keys == NULL)
		return NULL;
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t bits = list[i].bits;

		if (list[i].addr.family != family)
			continue;
		keys[n].bits = bits;
		for (uint32_t byte = 0; byte < (bits + 7) / 8; byte++) {
			const uint32_t left = bits - byte * 8;
			const uint8_t mask = left >= 8 ? 0xff : (uint8_t)(0xff << (8 - left));

			keys[n].addr[byte] = list[i].addr.byte[first + byte] & mask;
		}
		n++;
	}
	*keys_count = keys_normalise(keys, n);
	return keys;
}

/* Adds (or with `remove` takes away) what is in `these` and not in `those`. */
static int trie_apply(const struct trie *trie, const struct eb_key_v6 *these, uint32_t these_count, const struct eb_key_v6 *those,
		      uint32_t those_count, bool remove)
{
	const uint32_t value = 1;
	uint32_t j = 0;

	for (uint32_t i = 0; i < these_count; i++) {
		int order = -1, result;

		while (j < those_count && (order = key_compare(&those[j], &these[i])) < 0)
			j++;
		if (j < those_count && order == 0)
			continue;
		result = remove ? bpf_map_delete_elem(trie->fd, &these[i])
				: bpf_map_update_elem(trie->fd, &these[i], &value, BPF_ANY);
		if (result != 0 && !(remove && errno == ENOENT))
			return -errno;
	}
	return 0;
}

/* Takes over `wanted`. On failure what the trie holds is read anew, so that the next update starts from the truth. */
static int trie_update(struct trie *trie, struct eb_key_v6 *wanted, uint32_t wanted_count)
{
	int result = trie_apply(trie, wanted, wanted_count, trie->held, trie->held_count, false);

	/*
	 * Adding first needs room for both lists. When a long list changes much, room may lack: then the old goes first after all,
	 * and the gap is milliseconds.
	 */
	const bool crowded = result == -ENOSPC;
	if (result == 0 || crowded)
		result = trie_apply(trie, trie->held, trie->held_count, wanted, wanted_count, true);
	if (result == 0 && crowded)
		result = trie_apply(trie, wanted, wanted_count, NULL, 0, false);
	free(trie->held);
	trie->held = wanted;
	trie->held_count = wanted_count;
	if (result != 0) {
		free(trie->held);
		trie->held = NULL;
		trie->held_count = 0;
		trie_read(trie);
	}
	return result;
}

int eb_xdp_blocklist(struct eb_xdp *xdp, const struct tp_prefix *list, uint32_t count)
{
	uint32_t v4_count = 0, v6_count = 0;
	struct eb_key_v6 *v4 = keys_of(list, count, 4, &v4_count);
	struct eb_key_v6 *v6 = keys_of(list, count, 6, &v6_count);
	int result, second;

	if (v4 == NULL || v6 == NULL || v4_count > EB_PREFIXES_MAX || v6_count > EB_PREFIXES_MAX) {
		result = v4 == NULL || v6 == NULL ? -ENOMEM : -E2BIG;
		free(v4);
		free(v6);
		return result;
	}
	result = trie_update(&xdp->v4, v4, v4_count);
	second = trie_update(&xdp->v6, v6, v6_count);
	return result != 0 ? result : second;
}

int eb_xdp_counters(struct eb_xdp *xdp, uint64_t counters[EB_COUNTERS])
{
	const int cpus = libbpf_num_possible_cpus();
	uint64_t *values;
	int result = 0;

	if (cpus < 0)
		return cpus;
	values = calloc((size_t)cpus, sizeof(*values));
	if (values == NULL)
		return -ENOMEM;
	for (uint32_t which = 0; which < EB_COUNTERS && result == 0; which++) {
		counters[which] = 0;
		if (bpf_map_lookup_elem(xdp->counters_fd, &which, values) != 0)
			result = -errno;
		for (int cpu = 0; cpu < cpus && result == 0; cpu++)
			counters[which] += values[cpu];
	}
	free(values);
	return result;
}

const char *eb_xdp_mode(const struct eb_xdp *xdp)
{
	return xdp->attach_mode == XDP_ATTACHED_DRV ? "native" : xdp->attach_mode == XDP_ATTACHED_SKB ? "generic" : "offloaded";
}

/* Sorts a map of the program into its place by name and shape; takes the descriptor over. */
static int map_place(struct eb_xdp *xdp, int fd)
{
	struct bpf_map_info info = {0};
	uint32_t bytes = sizeof(info);
	int *place = NULL;

	if (bpf_obj_get_info_by_fd(fd, &info, &bytes) != 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	if (strcmp(info.name, EB_MAP_V4) == 0 && info.key_size == sizeof(struct eb_key_v4))
		place = &xdp->v4.fd;
	else if (strcmp(info.name, EB_MAP_V6) == 0 && info.key_size == sizeof(struct eb_key_v6))
		place = &xdp->v6.fd;
	else if (strcmp(info.name, EB_MAP_COUNTERS) == 0 && info.max_entries == EB_COUNTERS && info.value_size == sizeof(uint64_t))
		place = &xdp->counters_fd;
	if (place == NULL || *place >= 0)
		close(fd);
	else
		*place = fd;
	return 0;
}

static int maps_find(struct eb_xdp *xdp, int program_fd)
{
	struct bpf_prog_info info = {0};
	uint32_t bytes = sizeof(info), ids[MAPS_MAX];

	info.map_ids = (uint64_t)(uintptr_t)ids;
	info.nr_map_ids = MAPS_MAX;
	if (bpf_obj_get_info_by_fd(program_fd, &info, &bytes) != 0)
		return -errno;
	if (strcmp(info.name, EB_PROGRAM_NAME) != 0)
		return -ENOENT;
	for (uint32_t i = 0; i < info.nr_map_ids && i < MAPS_MAX; i++) {
		int fd = bpf_map_get_fd_by_id(ids[i]), result;

		if (fd < 0)
			return -errno;
		result = map_place(xdp, fd);
		if (result != 0)
			return result;
	}
	return xdp->v4.fd >= 0 && xdp->v6.fd >= 0 && xdp->counters_fd >= 0 ? 0 : -ENOENT;
}

int eb_xdp_open(struct eb_xdp **out, const char *ifname)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	const unsigned int ifindex = if_nametoindex(ifname);
	struct eb_xdp *xdp;
	int result, fd;

	*out = NULL;
	if (ifindex == 0)
		return -ENODEV;
	result = bpf_xdp_query((int)ifindex, 0, &query);
	if (result != 0)
		return result;
	if (query.prog_id == 0)
		return -ENOENT;
	fd = bpf_prog_get_fd_by_id(query.prog_id);
	if (fd < 0)
		return -errno;
	xdp = calloc(1, sizeof(*xdp));
	if (xdp == NULL) {
		close(fd);
		return -ENOMEM;
	}
	xdp->v4.fd = xdp->v6.fd = xdp->counters_fd = -1;
	xdp->attach_mode = query.attach_mode;
	result = maps_find(xdp, fd);
	close(fd);
	if (result == 0)
		result = trie_read(&xdp->v4);
	if (result == 0)
		result = trie_read(&xdp->v6);
	if (result != 0) {
		eb_xdp_close(xdp);
		return result;
	}
	*out = xdp;
	return 0;
}

void eb_xdp_close(struct eb_xdp *xdp)
{
	if (xdp == NULL)
		return;
	for (int i = 0; i < 3; i++) {
		const int fd = i == 0 ? xdp->v4.fd : i == 1 ? xdp->v6.fd : xdp->counters_fd;

		if (fd >= 0)
			close(fd);
	}
	free(xdp->v4.held);
	free(xdp->v6.held);
	free(xdp);
}
