/*
 * What a look-up in the blocklist costs an rx core without XDP: bench_blocklist [PREFIXES]. Random lists of the lengths that published
 * lists have, addresses that hit and that do not, one core, list in the cache as far as it fits.
 */
#include "turnpike/addr.h"
#include "turnpike/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOKUPS = 4000000, ADDRESSES = 65536, ROUNDS = 5 };

static uint64_t seed = 1;

static uint64_t random_next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static struct tp_addr random_addr(bool six)
{
	uint8_t bytes[16];
	const uint64_t words[2] = {random_next(), random_next()};

	memcpy(bytes, words, sizeof(bytes));
	if (six)
		memcpy(bytes, (const uint8_t[2]){0x20 + (bytes[0] & 15) % 3 * 5, bytes[1]}, 2); /* few first bytes are in use */
	return six ? tp_addr_v6(bytes) : tp_addr_v4(bytes);
}

static void measure(const char *what, const struct tp_prefix_set *set, const struct tp_addr *addr)
{
	uint64_t best = UINT64_MAX, hits = 0;

	for (int round = 0; round < ROUNDS; round++) {
		const uint64_t began = tp_mono_ns();
		hits = 0;
		for (uint32_t i = 0; i < LOOKUPS; i++)
			hits += tp_prefix_set_match(set, &addr[i % ADDRESSES]) >= 0;
		const uint64_t took = tp_mono_ns() - began;
		best = took < best ? took : best;
	}
	printf("%-28s %6.1f ns  (%.0f%% listed)\n", what, (double)best / LOOKUPS, 100.0 * (double)hits / LOOKUPS);
}

int main(int words, char **word)
{
	const uint32_t prefixes = words > 1 ? (uint32_t)strtoul(word[1], NULL, 10) : 100000;
	static const uint8_t lengths[2][8] = {{32, 32, 32, 24, 24, 22, 20, 16}, {128, 64, 64, 56, 48, 48, 36, 32}};
	struct tp_addr *addr = calloc(ADDRESSES, sizeof(*addr));
	struct tp_prefix *list = calloc(prefixes ? prefixes : 1, sizeof(*list));

	if (!addr || !list)
		return 1;
	for (int six = 0; six < 2; six++) {
		for (uint32_t i = 0; i < prefixes; i++)
			list[i] = (struct tp_prefix){.addr = random_addr(six), .bits = lengths[six][random_next() % 8]};
		const uint64_t began = tp_mono_ns();
		struct tp_prefix_set *set = tp_prefix_set_build(list, prefixes);
		printf("IPv%d, %u prefixes of eight lengths, built in %.1f ms\n", six ? 6 : 4, prefixes,
		       (double)(tp_mono_ns() - began) / 1e6);
		if (!set)
			return 1;
		for (uint32_t i = 0; i < ADDRESSES; i++)
			addr[i] = random_addr(six);
		measure("addresses at random", set, addr);
		for (uint32_t i = 0; i < ADDRESSES && prefixes; i++)
			addr[i] = list[random_next() % prefixes].addr;
		measure("addresses on the list", set, addr);
		tp_prefix_set_free(set);
	}
	free(addr);
	free(list);
	return 0;
}
