/*
 * Fixed pools of buffers: see buffer_pool.h. A stack of free indices, so that the buffer given back last, still in the cache, goes out
 * first. Created cold, used by one rx core.
 */
#include "buffer_pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int dp_pool_create(struct dp_pool *pool, uint32_t count, size_t bytes)
{
	assert(bytes % 64 == 0);
	*pool = (struct dp_pool){.bytes = bytes};
	if (count == 0)
		return 0;
	pool->memory = aligned_alloc(64, count * bytes);
	pool->free = calloc(count, sizeof(*pool->free));
	if (pool->memory == NULL || pool->free == NULL) {
		dp_pool_destroy(pool);
		return -ENOMEM;
	}
	memset(pool->memory, 0, count * bytes); /* a page fault now is none later */
	pool->count = pool->free_count = count;
	for (uint32_t i = 0; i < count; i++)
		pool->free[i] = count - 1 - i;
	return 0;
}

void dp_pool_destroy(struct dp_pool *pool)
{
	free(pool->memory);
	free(pool->free);
	*pool = (struct dp_pool){0};
}

uint8_t *dp_pool_take(struct dp_pool *pool)
{
	if (pool->free_count == 0)
		return NULL;
	return pool->memory + pool->free[--pool->free_count] * pool->bytes;
}

void dp_pool_give(struct dp_pool *pool, uint8_t *buffer)
{
	size_t offset = (size_t)(buffer - pool->memory);
	assert(pool->free_count < pool->count && offset % pool->bytes == 0 && offset / pool->bytes < pool->count);
	pool->free[pool->free_count++] = (uint32_t)(offset / pool->bytes);
}
