/*
 * Chunked transfer coding, decoded as it arrives. Pure: no allocation, no buffer; any thread.
 *
 *   5;name=value\r\n  hello\r\n  0\r\n  Trailer: x\r\n  \r\n
 *   SIZE  EXTENSION   DATA       SIZE   TRAILER        END
 *
 * Extensions and trailers are checked for form and ignored. Lines end with CRLF and nothing else; what follows a chunk's data must
 * be exactly CRLF. The outcome depends on the bytes only, never on how they were split.
 * Source: RFC 9112 section 7.1.
 */
#ifndef TURNPIKE_HTTP_CHUNK_H
#define TURNPIKE_HTTP_CHUNK_H

#include <stddef.h>
#include <stdint.h>

enum dp_chunk_step {
	DP_CHUNK_MORE, /* all bytes are used */
	DP_CHUNK_DATA, /* *data, *data_bytes are the next bytes of the body, in place; call again with the rest */
	DP_CHUNK_DONE, /* the body and its trailers are complete; what is left belongs to the next request */
	DP_CHUNK_BAD,  /* chunked->status (400, 413, 431) and chunked->why */
};

/* All zero at the start of a body. */
struct dp_chunked {
	uint8_t state;
	uint8_t digits;          /* of the size that is being read */
	uint16_t status;         /* when BAD */
	uint32_t overhead_bytes; /* of extensions so far */
	uint32_t trailer_bytes;
	uint64_t left;       /* of the chunk */
	uint64_t body_bytes; /* sizes announced so far */
	const char *why;     /* when BAD: static text for a person */
};

/* Goes on with bytes[0..count); *used is how many were taken. */
enum dp_chunk_step dp_chunk_next(struct dp_chunked *chunked, const char *bytes, size_t count, size_t *used, const char **data,
				 size_t *data_bytes);

#endif
