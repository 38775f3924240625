/*
 * A growing run of bytes in memory. A failed allocation sticks: everything after it does nothing, and the end is one check.
 */
#ifndef STORAGE_BUFFER_H
#define STORAGE_BUFFER_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct buffer {
	uint8_t *at;
	uint64_t bytes, room;
	bool failed;
};

/* Room for `bytes` more behind the end; NULL when there is no memory. */
static inline uint8_t *buffer_reserve(struct buffer *buffer, uint64_t bytes)
{
	if (buffer->failed)
		return NULL;
	if (buffer->room - buffer->bytes < bytes) {
		uint64_t room = buffer->room ? buffer->room : 4096;
		while (room - buffer->bytes < bytes)
			room *= 2;
		uint8_t *larger = realloc(buffer->at, room);
		if (!larger) {
			buffer->failed = true;
			return NULL;
		}
		buffer->at = larger;
		buffer->room = room;
	}
	return buffer->at + buffer->bytes;
}

static inline void buffer_put(struct buffer *buffer, const void *from, uint64_t bytes)
{
	uint8_t *to = bytes ? buffer_reserve(buffer, bytes) : NULL;
	if (!to)
		return;
	memcpy(to, from, bytes);
	buffer->bytes += bytes;
}

static inline void buffer_zeros(struct buffer *buffer, uint64_t bytes)
{
	uint8_t *to = bytes ? buffer_reserve(buffer, bytes) : NULL;
	if (!to)
		return;
	memset(to, 0, bytes);
	buffer->bytes += bytes;
}

static inline void buffer_fini(struct buffer *buffer)
{
	free(buffer->at);
	*buffer = (struct buffer){0};
}

#endif
