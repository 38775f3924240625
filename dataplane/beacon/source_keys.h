/*
 * The file of source keys (ingest key `source_keys`): who may send UDP batches, and with which key. Cold code.
 *
 *   # source   key, 32 hex digits                 from where (optional)
 *   7          000102030405060708090a0b0c0d0e0f   192.0.2.0/24,2001:db8::/32
 *   0x1f       ffeeddccbbaa99887766554433221100
 *
 * A source may stand there up to four times, with another key each: so a key is changed without a gap. Everything behind a '#' is a comment.
 * The file must not be readable by others.
 */
#ifndef TURNPIKE_SOURCE_KEYS_H
#define TURNPIKE_SOURCE_KEYS_H

#include "batch_tag.h"

enum { DP_SOURCE_KEYS_MAX = 65536, DP_SOURCE_KEYS_EACH = 4, DP_SOURCE_KEYS_ERROR_BYTES = 160 };

/*
 * 0 and the keys; -EBADMSG: a line is wrong, -EPERM: others may read the file, other -errno: it cannot be read. `error` then says what and
 * where, for a person, and never holds a key. One bad line refuses the file: half a list would lock somebody out.
 */
int dp_source_keys_load(struct dp_source_keys **keys, const char *path, char error[DP_SOURCE_KEYS_ERROR_BYTES]);
void dp_source_keys_free(struct dp_source_keys *keys); /* may be NULL */

#endif
