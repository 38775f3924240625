/*
 * Fixed pools of equal buffers: all memory is taken and touched at start, giving and taking is a pop and a push. One rx core.
 */
#ifndef TURNPIKE_BUFFER_POOL_H
#define TURNPIKE_BUFFER_POOL_H

#include <stddef.h>
#include <stdint.h>

struct dp_pool {
	uint8_t *memory;
	uint32_t *free;      /* indices of the free buffers, a stack */
	uint32_t free_count; /* of them */
	uint32_t count;
	size_t bytes; /* of each */
};

int dp_pool_create(struct dp_pool *pool, uint32_t count, size_t bytes); /* cold; 0 or -ENOMEM; bytes is a multiple of 64 */
void dp_pool_destroy(struct dp_pool *pool);                             /* cold */

/* A buffer of pool->bytes with undefined content, or NULL when none is free. */
uint8_t *dp_pool_take(struct dp_pool *pool);
void dp_pool_give(struct dp_pool *pool, uint8_t *buffer);

#endif
