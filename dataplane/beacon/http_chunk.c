/*
 * Chunked transfer coding: see http_chunk.h. A state machine by bytes, but for the data, which is handed on in runs. Pure.
 */
#include "http_chunk.h"
#include "http_limits.h"

#include <stdbool.h>
#include <string.h>

enum state {
	SIZE,         /* a hex digit must come */
	SIZE_REST,    /* digits, or what ends them */
	SIZE_SPACE,   /* white space after the size: only ';' may follow */
	EXTENSION,    /* up to CR */
	SIZE_LF,      /* LF after the size line */
	DATA,         /* left > 0 */
	DATA_CR,      /* CR after the data */
	DATA_LF,      /* LF after it */
	TRAILER,      /* the first byte of a trailer line, or CR of the end */
	TRAILER_NAME, /* up to the colon */
	TRAILER_VALUE,
	TRAILER_LF,
	END_LF,
	END,
};

/* 16 digits are more than any size we take; more of them only hide something. */
enum { SIZE_DIGITS_MAX = 16 };

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_control(uint8_t c)
{
	return (c < 0x20 && c != '\t') || c == 0x7f;
}

static bool is_token(uint8_t c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
	       (c != 0 && memchr("!#$%&'*+-.^_`|~", c, 15) != NULL);
}

static enum dp_chunk_step bad(struct dp_chunked *chunked, uint16_t status, const char *why)
{
	chunked->status = status;
	chunked->why = why;
	return DP_CHUNK_BAD;
}

/* The size line is complete. */
static enum dp_chunk_step begin_chunk(struct dp_chunked *chunked)
{
	if (chunked->left > DP_HTTP_BODY_BYTES_MAX - chunked->body_bytes)
		return bad(chunked, 413, "the body is larger than 1 MiB");
	chunked->body_bytes += chunked->left;
	chunked->state = chunked->left == 0 ? TRAILER : DATA;
	return DP_CHUNK_MORE;
}

static enum dp_chunk_step size_byte(struct dp_chunked *chunked, uint8_t c)
{
	int digit = hex_value(c);
	if (digit >= 0 && chunked->state != SIZE_SPACE) {
		if (++chunked->digits > SIZE_DIGITS_MAX)
			return bad(chunked, 400, "a chunk size has more than 16 digits");
		chunked->left = chunked->left > UINT64_MAX / 32 ? UINT64_MAX / 32 : chunked->left * 16 + (uint64_t)digit;
		chunked->state = SIZE_REST;
		return DP_CHUNK_MORE;
	}
	if (chunked->state == SIZE)
		return bad(chunked, 400, "a chunk does not begin with its size in hex digits");
	if (c == '\r' && chunked->state == SIZE_REST)
		chunked->state = SIZE_LF;
	else if (c == ';')
		chunked->state = EXTENSION;
	else if (c == ' ' || c == '\t')
		chunked->state = SIZE_SPACE;
	else
		return bad(chunked, 400, "a chunk size is not followed by CRLF or an extension");
	return DP_CHUNK_MORE;
}

static enum dp_chunk_step trailer_byte(struct dp_chunked *chunked, uint8_t c)
{
	if (++chunked->trailer_bytes > DP_HTTP_FIELDS_BYTES_MAX)
		return bad(chunked, 431, "the trailers are longer than 16384 bytes");
	switch (chunked->state) {
	case TRAILER:
		if (c == '\r') {
			chunked->state = END_LF;
			return DP_CHUNK_MORE;
		}
		if (!is_token(c))
			return bad(chunked, 400, "a trailer line does not begin with a name");
		chunked->state = TRAILER_NAME;
		return DP_CHUNK_MORE;
	case TRAILER_NAME:
		if (c == ':')
			chunked->state = TRAILER_VALUE;
		else if (!is_token(c))
			return bad(chunked, 400, "a trailer line does not begin with a name and a colon");
		return DP_CHUNK_MORE;
	case TRAILER_VALUE:
		if (c == '\r')
			chunked->state = TRAILER_LF;
		else if (is_control(c))
			return bad(chunked, 400, "a control character in the trailers");
		return DP_CHUNK_MORE;
	default: /* TRAILER_LF, END_LF */
		if (c != '\n')
			return bad(chunked, 400, "a bare CR in the trailers");
		if (chunked->state == END_LF) {
			chunked->state = END;
			return DP_CHUNK_DONE;
		}
		chunked->state = TRAILER;
		return DP_CHUNK_MORE;
	}
}

static enum dp_chunk_step frame_byte(struct dp_chunked *chunked, uint8_t c)
{
	switch (chunked->state) {
	case SIZE:
	case SIZE_REST:
	case SIZE_SPACE:
		if ((chunked->state == SIZE_SPACE || c == ' ' || c == '\t') &&
		    ++chunked->overhead_bytes > DP_HTTP_CHUNK_OVERHEAD_BYTES_MAX)
			return bad(chunked, 400, "the chunk extensions are longer than 16384 bytes");
		return size_byte(chunked, c);
	case EXTENSION:
		if (c == '\r') {
			chunked->state = SIZE_LF;
			return DP_CHUNK_MORE;
		}
		if (is_control(c))
			return bad(chunked, 400, "a control character in a chunk extension");
		if (++chunked->overhead_bytes > DP_HTTP_CHUNK_OVERHEAD_BYTES_MAX)
			return bad(chunked, 400, "the chunk extensions are longer than 16384 bytes");
		return DP_CHUNK_MORE;
	case SIZE_LF:
		if (c != '\n')
			return bad(chunked, 400, "a chunk size line does not end with CRLF");
		return begin_chunk(chunked);
	case DATA_CR:
		if (c != '\r')
			return bad(chunked, 400, "a chunk is longer than its size");
		chunked->state = DATA_LF;
		return DP_CHUNK_MORE;
	case DATA_LF:
		if (c != '\n')
			return bad(chunked, 400, "a chunk does not end with CRLF");
		chunked->state = SIZE;
		chunked->digits = 0;
		chunked->left = 0;
		return DP_CHUNK_MORE;
	default:
		return trailer_byte(chunked, c);
	}
}

enum dp_chunk_step dp_chunk_next(struct dp_chunked *chunked, const char *bytes, size_t count, size_t *used, const char **data,
				 size_t *data_bytes)
{
	size_t at = 0;
	enum dp_chunk_step step = DP_CHUNK_MORE;
	while (at < count && step == DP_CHUNK_MORE) {
		if (chunked->state == DATA) {
			size_t run = count - at < chunked->left ? count - at : (size_t)chunked->left;
			*data = bytes + at;
			*data_bytes = run;
			chunked->left -= run;
			if (chunked->left == 0)
				chunked->state = DATA_CR;
			*used = at + run;
			return DP_CHUNK_DATA;
		}
		step = frame_byte(chunked, (uint8_t)bytes[at++]);
	}
	*used = at;
	return step;
}
