/*
 * Content-Encoding: gzip, decoded in memory that is fixed at start. One rx core, or any single thread.
 * Source: RFC 1952 (several members in a row are one body), RFC 9110 section 8.4.1.3.
 */
#ifndef TURNPIKE_GZIP_BODY_H
#define TURNPIKE_GZIP_BODY_H

#include <stddef.h>
#include <stdint.h>

struct dp_gzip;

struct dp_gzip *dp_gzip_new(void); /* cold; NULL: no memory */
void dp_gzip_free(struct dp_gzip *gzip);

/*
 * Decodes all of bytes[0..count) into to[0..room). 0 and *written; -EINVAL: no gzip, damaged, cut short or followed by something
 * else; -EFBIG: more than `room`, or than `ratio_max` times its size once it is more than `free_bytes`.
 */
int dp_gzip_decode(struct dp_gzip *gzip, const uint8_t *bytes, size_t count, uint8_t *to, size_t room, size_t ratio_max,
		   size_t free_bytes, size_t *written);

#endif
