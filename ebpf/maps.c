/*
 * The maps of the XDP program that is attached to an interface: the blocklist and settings in, hits and counters out. Command
 * thread; one at a time.
 *
 * net_af_xdp keeps its libbpf object to itself, so the way in is the interface: its program's id, the ids of the maps that the
 * program uses, their names. `held` is a sorted copy of what a trie holds; an update walks the old and the new copy side by side and
 * hands the kernel the differences only, some thousand in a call.
 *
 *   held    a b   d e          add c, and b where its value changed, first,
 *   wanted  a b c d            then remove e
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

enum { MAPS_MAX = 16, BATCH = 4096, BURST_PART = 10 };

struct pair {
	struct eb_key_v6 key; /* IPv4 uses the first four address bytes */
	struct eb_value value;
};

struct trie {
	int fd;
	uint32_t key_bytes;
	struct pair *held; /* sorted by key */
	uint32_t held_count;
};

struct eb_xdp {
	struct trie v4, v6;
	int hits_fd, counters_fd, settings_fd;
	uint32_t attach_mode;
};

static int pair_compare(const void *a, const void *b)
{
	return memcmp(&((const struct pair *)a)->key, &((const struct pair *)b)->key, sizeof(struct eb_key_v6));
}

/* Sorts; of equal prefixes one stands. */
static uint32_t pairs_normalise(struct pair *pairs, uint32_t count)
{
	uint32_t kept = 0;

	if (count == 0)
		return 0;
	qsort(pairs, count, sizeof(*pairs), pair_compare);
	for (uint32_t i = 1; i < count; i++)
		if (pair_compare(&pairs[kept], &pairs[i]) != 0)
			pairs[++kept] = pairs[i];
	return kept + 1;
}

/* What is in the trie now: nothing in a fresh one, but we may be looking at one that has been at work. */
static int trie_read(struct trie *trie)
{
	struct pair *pairs = NULL;
	uint32_t count = 0, room = 0;
	struct eb_key_v6 key = {0}, next = {0};

	for (const void *last = NULL; bpf_map_get_next_key(trie->fd, last, &next) == 0; last = &key) {
		if (count == room) {
			struct pair *more = realloc(pairs, (room = room ? 2 * room : 64) * sizeof(*pairs));

			if (more == NULL) {
				free(pairs);
				return -ENOMEM;
			}
			pairs = more;
		}
		key = next;
		pairs[count] = (struct pair){.key = key};
		if (bpf_map_lookup_elem(trie->fd, &key, &pairs[count].value) == 0)
			count++;
	}
	trie->held_count = pairs_normalise(pairs, count);
	trie->held = pairs;
	return 0;
}

/* The entries of one family in `list`, host bits cleared. NULL: no memory. */
static struct pair *pairs_of(const struct eb_block *list, uint32_t count, uint8_t family, uint32_t *pairs_count)
{
	struct pair *pairs = calloc(count > 0 ? count : 1, sizeof(*pairs));
	const uint32_t first = family == 4 ? 12 : 0; /* where the address starts in the 16 bytes */
	uint32_t n = 0;

	if (pairs == NULL)
		return NULL;
	for (uint32_t i = 0; i < count; i++) {
		const struct tp_prefix *prefix = &list[i].prefix;

		if (prefix->addr.family != family)
			continue;
		pairs[n].key.bits = prefix->bits;
		for (uint32_t byte = 0; byte < (prefix->bits + 7U) / 8; byte++) {
			const uint32_t left = prefix->bits - byte * 8;
			const uint8_t mask = left >= 8 ? 0xff : (uint8_t)(0xff << (8 - left));

			pairs[n].key.addr[byte] = prefix->addr.byte[first + byte] & mask;
		}
		pairs[n++].value = (struct eb_value){.slot = list[i].slot, .count_only = list[i].count_only};
	}
	*pairs_count = pairs_normalise(pairs, n);
	return pairs;
}

/* ---- changes, some thousand a call ---- */

struct batch {
	const struct trie *trie;
	bool remove;
	uint32_t count;
	uint8_t keys[BATCH * sizeof(struct eb_key_v6)];
	struct eb_value values[BATCH];
};

/* 0 or -errno. A kernel whose tries know no batches gets one call for each. */
static int batch_flush(struct batch *batch)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options, .elem_flags = BPF_ANY);
	const uint32_t key_bytes = batch->trie->key_bytes, count = batch->count;
	const int fd = batch->trie->fd;
	uint32_t done = count;

	batch->count = 0;
	if (count == 0)
		return 0;
	if (!batch->remove && bpf_map_update_batch(fd, batch->keys, batch->values, &done, &options) == 0)
		return 0;
	/* One at a time: removing needs no haste, and what an interrupted batch has done is done again. */
	for (uint32_t i = 0; i < count; i++) {
		const void *key = batch->keys + i * key_bytes;
		const int result =
			batch->remove ? bpf_map_delete_elem(fd, key) : bpf_map_update_elem(fd, key, &batch->values[i], BPF_ANY);

		if (result != 0 && !(batch->remove && errno == ENOENT))
			return -errno;
	}
	return 0;
}

static int batch_add(struct batch *batch, const struct pair *pair)
{
	memcpy(batch->keys + batch->count * batch->trie->key_bytes, &pair->key, batch->trie->key_bytes);
	batch->values[batch->count++] = pair->value;
	return batch->count == BATCH ? batch_flush(batch) : 0;
}

/* Adds what is in `these` and not, or with another value, in `those`; with `remove` takes away what is not in `those` at all. */
static int trie_apply(const struct trie *trie, const struct pair *these, uint32_t these_count, const struct pair *those,
		      uint32_t those_count, bool remove)
{
	struct batch *batch = malloc(sizeof(*batch));
	uint32_t j = 0;
	int result = 0;

	if (batch == NULL)
		return -ENOMEM;
	*batch = (struct batch){.trie = trie, .remove = remove};
	for (uint32_t i = 0; i < these_count && result == 0; i++) {
		int order = -1;

		while (j < those_count && (order = pair_compare(&those[j], &these[i])) < 0)
			j++;
		if (j < those_count && order == 0 &&
		    (remove || memcmp(&those[j].value, &these[i].value, sizeof(struct eb_value)) == 0))
			continue;
		result = batch_add(batch, &these[i]);
	}
	if (result == 0)
		result = batch_flush(batch);
	free(batch);
	return result;
}

/* Takes over `wanted`. On failure what the trie holds is read anew, so that the next update starts from the truth. */
static int trie_update(struct trie *trie, struct pair *wanted, uint32_t wanted_count)
{
	/* Room for both lists at once: the tries take 2 * EB_PREFIXES_MAX. */
	int result = trie_apply(trie, wanted, wanted_count, trie->held, trie->held_count, false);

	if (result == 0)
		result = trie_apply(trie, trie->held, trie->held_count, wanted, wanted_count, true);
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

int eb_xdp_blocklist(struct eb_xdp *xdp, const struct eb_block *list, uint32_t count)
{
	uint32_t v4_count = 0, v6_count = 0;
	struct pair *v4 = pairs_of(list, count, 4, &v4_count);
	struct pair *v6 = pairs_of(list, count, 6, &v6_count);
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

/* ---- figures ---- */

int eb_xdp_hits(struct eb_xdp *xdp, uint64_t *hits, uint32_t slots)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	const int cpus = libbpf_num_possible_cpus();
	uint32_t keys[64], place = 0;
	uint64_t *values;
	int result = 0;

	if (cpus < 0)
		return cpus;
	values = calloc((size_t)cpus * 64, sizeof(*values));
	if (values == NULL)
		return -ENOMEM;
	for (uint32_t at = 0; at < slots && result == 0;) {
		uint32_t got = 64;

		if (bpf_map_lookup_batch(xdp->hits_fd, at > 0 ? &place : NULL, &place, keys, values, &got, &options) != 0 &&
		    errno != ENOENT)
			result = -errno;
		for (uint32_t i = 0; i < got && result == 0; i++)
			for (int cpu = 0; cpu < cpus && keys[i] < slots; cpu++)
				hits[keys[i]] += values[i * (uint32_t)cpus + (uint32_t)cpu];
		at += got;
		if (got == 0)
			break;
	}
	free(values);
	return result;
}

int eb_xdp_counters(struct eb_xdp *xdp, uint64_t counters[EB_COUNTERS])
{
	const int cpus = libbpf_num_possible_cpus();
	const uint32_t only = 0;
	struct eb_counts *values;
	int result = 0;

	memset(counters, 0, EB_COUNTERS * sizeof(*counters));
	if (cpus < 0)
		return cpus;
	values = calloc((size_t)cpus, sizeof(*values));
	if (values == NULL)
		return -ENOMEM;
	if (bpf_map_lookup_elem(xdp->counters_fd, &only, values) != 0)
		result = -errno;
	for (int cpu = 0; cpu < cpus && result == 0; cpu++)
		for (uint32_t which = 0; which < EB_COUNTERS; which++)
			counters[which] += values[cpu].v[which];
	free(values);
	return result;
}

int eb_xdp_packet_rate(struct eb_xdp *xdp, uint32_t packets_per_second)
{
	const uint32_t only = 0;
	struct eb_settings settings = {0};

	if (packets_per_second > 0) {
		settings.interval_ns = 1000000000ULL / packets_per_second;
		settings.interval_ns += settings.interval_ns == 0; /* more than one a nanosecond */
		settings.burst_ns = 1000000000ULL / BURST_PART;
		if (settings.burst_ns < settings.interval_ns)
			settings.burst_ns = settings.interval_ns;
	}
	return bpf_map_update_elem(xdp->settings_fd, &only, &settings, BPF_ANY) == 0 ? 0 : -errno;
}

const char *eb_xdp_mode(const struct eb_xdp *xdp)
{
	return xdp->attach_mode == XDP_ATTACHED_DRV ? "native" : xdp->attach_mode == XDP_ATTACHED_SKB ? "generic" : "offloaded";
}

/* ---- finding them ---- */

/* Sorts a map of the program into its place by name and shape; takes the descriptor over. */
static int map_place(struct eb_xdp *xdp, int fd)
{
	const struct {
		const char *name;
		uint32_t key_bytes, value_bytes;
		int *place;
	} wanted[] = {
		{EB_MAP_V4, sizeof(struct eb_key_v4), sizeof(struct eb_value), &xdp->v4.fd},
		{EB_MAP_V6, sizeof(struct eb_key_v6), sizeof(struct eb_value), &xdp->v6.fd},
		{EB_MAP_HITS, sizeof(uint32_t), sizeof(uint64_t), &xdp->hits_fd},
		{EB_MAP_COUNTERS, sizeof(uint32_t), sizeof(struct eb_counts), &xdp->counters_fd},
		{EB_MAP_SETTINGS, sizeof(uint32_t), sizeof(struct eb_settings), &xdp->settings_fd},
	};
	struct bpf_map_info info = {0};
	uint32_t bytes = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &bytes) != 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		/* the kernel keeps 15 bytes of a name */
		if (strncmp(info.name, wanted[i].name, sizeof(info.name) - 1) != 0 || info.key_size != wanted[i].key_bytes ||
		    info.value_size != wanted[i].value_bytes || *wanted[i].place >= 0)
			continue;
		*wanted[i].place = fd;
		return 0;
	}
	close(fd);
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
	return xdp->v4.fd >= 0 && xdp->v6.fd >= 0 && xdp->hits_fd >= 0 && xdp->counters_fd >= 0 && xdp->settings_fd >= 0 ? 0
															 : -ENOENT;
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
	xdp->v4 = (struct trie){.fd = -1, .key_bytes = sizeof(struct eb_key_v4)};
	xdp->v6 = (struct trie){.fd = -1, .key_bytes = sizeof(struct eb_key_v6)};
	xdp->hits_fd = xdp->counters_fd = xdp->settings_fd = -1;
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
	const int fds[] = {xdp->v4.fd, xdp->v6.fd, xdp->hits_fd, xdp->counters_fd, xdp->settings_fd};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(xdp->v4.held);
	free(xdp->v6.held);
	free(xdp);
}
