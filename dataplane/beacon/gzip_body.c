/*
 * gzip through zlib: see gzip_body.h. zlib takes its state and its window from an arena inside struct dp_gzip: after the first use
 * it asks for nothing more, and in no case for memory of the system.
 */
#include "gzip_body.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

/* zconf.h: "about 32K window and 7K state" for inflate. */
enum { ARENA_BYTES = 64 * 1024 };

/* More members than this in one body have no use but to keep us busy. */
enum { MEMBERS_MAX = 256 };

struct dp_gzip {
	z_stream stream;
	size_t arena_used;
	_Alignas(64) uint8_t arena[ARENA_BYTES];
};

static void *arena_take(void *opaque, unsigned items, unsigned size)
{
	struct dp_gzip *gzip = opaque;
	size_t bytes = ((size_t)items * size + 63) & ~(size_t)63;
	if (bytes > ARENA_BYTES - gzip->arena_used)
		return Z_NULL;
	void *at = gzip->arena + gzip->arena_used;
	gzip->arena_used += bytes;
	return at;
}

/* zlib frees only in inflateEnd(), when the whole arena goes. */
static void arena_give(void *opaque, void *at)
{
	(void)opaque;
	(void)at;
}

struct dp_gzip *dp_gzip_new(void)
{
	struct dp_gzip *gzip = aligned_alloc(64, sizeof(*gzip));
	if (gzip == NULL)
		return NULL;
	*gzip = (struct dp_gzip){.stream = {.zalloc = arena_take, .zfree = arena_give, .opaque = gzip}};
	if (inflateInit2(&gzip->stream, 15 + 16) != Z_OK) { /* 16: a gzip wrapper, nothing else */
		free(gzip);
		return NULL;
	}
	return gzip;
}

void dp_gzip_free(struct dp_gzip *gzip)
{
	if (gzip == NULL)
		return;
	inflateEnd(&gzip->stream);
	free(gzip);
}

int dp_gzip_decode(struct dp_gzip *gzip, const uint8_t *bytes, size_t count, uint8_t *to, size_t room, size_t ratio_max,
		   size_t free_bytes, size_t *written)
{
	size_t ratio_room = count > room / ratio_max ? room : count * ratio_max;
	if (ratio_room < free_bytes)
		ratio_room = free_bytes;
	if (ratio_room < room)
		room = ratio_room;

	z_stream *stream = &gzip->stream;
	stream->next_in = (uint8_t *)(uintptr_t)bytes; /* zlib's interface knows no const; it only reads */
	stream->avail_in = (unsigned)count;
	size_t done = 0;
	int members = 0;
	do { /* one member a round */
		if (++members > MEMBERS_MAX || inflateReset(stream) != Z_OK)
			return -EINVAL;
		stream->next_out = to + done;
		stream->avail_out = (unsigned)(room - done);
		int result = inflate(stream, Z_FINISH);
		done = room - stream->avail_out;
		/* Not at the end, and no room left: whether the rest is good does not matter any more. */
		if (result != Z_STREAM_END)
			return (result == Z_BUF_ERROR || result == Z_OK) && stream->avail_out == 0 ? -EFBIG : -EINVAL;
	} while (stream->avail_in != 0);
	*written = done;
	return 0;
}
