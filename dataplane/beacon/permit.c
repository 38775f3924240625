/*
 * Tokens that were found good: see permit.h.
 *
 * A place is chosen by a hash with a secret; what decides is the whole token, compared without a branch on its bytes. The version is read
 * before the asking: whatever is kept under it was true at that version or a later one, and is void when it moves on.
 */
#include "permit.h"

#define XXH_INLINE_ALL
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

enum { PLACES = 1024, TOKEN_BYTES_MAX = 48 };

struct place {
	uint64_t version; /* 0: empty */
	struct dp_permit permit;
	char token[TOKEN_BYTES_MAX]; /* the rest is zero */
};

struct dp_permits {
	struct dp_permit_source source;
	uint64_t secret;
	struct place place[PLACES];
};

int dp_permits_create(struct dp_permits **out, const struct dp_permit_source *source)
{
	struct dp_permits *permits = malloc(sizeof *permits);
	if (!permits)
		return -ENOMEM;
	memset(permits, 0, sizeof *permits);
	permits->source = *source;
	if (getrandom(&permits->secret, sizeof permits->secret, 0) != sizeof permits->secret) {
		int error = errno;
		free(permits);
		return -error;
	}
	*out = permits;
	return 0;
}

void dp_permits_destroy(struct dp_permits *permits)
{
	free(permits);
}

static bool same(const char *a, const char *b)
{
	uint64_t off = 0, left, right;
	for (int i = 0; i < TOKEN_BYTES_MAX; i += 8) {
		memcpy(&left, a + i, 8);
		memcpy(&right, b + i, 8);
		off |= left ^ right;
	}
	return off == 0;
}

bool dp_permits_ask(struct dp_permits *permits, const char *token, size_t bytes, uint64_t now_ms, struct dp_permit *permit)
{
	const struct dp_permit_source *source = &permits->source;
	char padded[TOKEN_BYTES_MAX] = {0};
	if (!source->ask)
		return false;
	if (!source->version || bytes > TOKEN_BYTES_MAX || bytes == 0)
		return source->ask(source->context, token, bytes, now_ms, permit);
	memcpy(padded, token, bytes);
	/* acquire: what is asked below is at least of this version */
	uint64_t version = atomic_load_explicit(source->version, memory_order_acquire) + 1;
	struct place *place = &permits->place[XXH3_64bits_withSeed(padded, sizeof padded, permits->secret) % PLACES];
	if (place->version == version && same(place->token, padded)) {
		*permit = place->permit;
		return now_ms < permit->until_ms;
	}
	if (!source->ask(source->context, token, bytes, now_ms, permit))
		return false;
	*place = (struct place){.version = version, .permit = *permit};
	memcpy(place->token, padded, sizeof padded);
	return true;
}
