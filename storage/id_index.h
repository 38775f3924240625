/*
 * The ids of a segment, sorted, with the row of each: who asks for one finds it in a step, or learns for sure that it is not there; who
 * wants all of them puts each where its row is. Sorted numbers take fewer bits than unsorted ones, by just about what their rows take:
 * so ids, their rows and the answer to "is it there" come for less than the 16 bytes that an id has.
 *
 *    0  u64 differ.hi, differ.lo    the bits in which ids differ; pushed together, the highest first, they are an id's key
 *   16  u64 same.hi, same.lo        the other bits, the same in all ids
 *   32  u32 count (1 to 2^31)   36  u8 bucket_bits   37  u8 rest_bits   38  u8 row_bits   39  25 bytes of zero
 *   64  buckets: for each bucket, a one bit for each id whose key begins with these bucket_bits, then a zero bit
 *       rests: the lowest rest_bits of each key
 *       rows: the row of each id, row_bits each
 *       24 bytes of zero
 *
 * Ids ascend as 128-bit numbers; equal ones by row. Each part begins at a multiple of 8; bits fill bytes from the lowest on. Random UUIDs
 * have 122 bits that differ; of 170,000 of them each takes 106.5 bits, and 18 for its row.
 *
 * Sources: buckets and rests: Elias, "Efficient storage and retrieval by content and address of static files", JACM 21 (1974); Fano (1971).
 *
 * Threads: any; all state is the caller's.
 */
#ifndef STORAGE_ID_INDEX_H
#define STORAGE_ID_INDEX_H

#include "buffer.h"

#include "turnpike/event.h"
#include "turnpike/radix.h"

#include <assert.h>

struct id_index_head {
	struct tp_id differ, same;
	uint32_t count;
	uint8_t bucket_bits, rest_bits, row_bits;
	uint8_t zeros[25];
};
static_assert(sizeof(struct id_index_head) == 64, "disk format");

/* ---- writing ---- */

struct id_place {
	struct tp_id id;
	uint32_t row;
};

/* The ids of rows 0 to count - 1, sorted; the caller frees them. `yield` may be NULL. NULL: no memory. */
struct id_place *id_index_sort(const struct tp_id *ids, uint32_t count, const struct tp_radix_yield *yield);
/* Appends the index of what id_index_sort() made; count at least 1. What fails, sticks to the buffer. */
void id_index_put(struct buffer *out, const struct id_place *sorted, uint32_t count);

/* ---- reading ---- */

/* Differing bits that lie side by side in ids, and further down in keys. */
struct id_run {
	unsigned __int128 mask; /* in the key */
	uint32_t shift;
};

struct id_index {
	unsigned __int128 differ, same;
	uint32_t count, bucket_bits, rest_bits, row_bits;
	uint32_t runs;
	struct id_run run[64];
	const uint8_t *buckets, *rests, *rows;
	uint64_t bucket_words;
	uint32_t *step; /* bits before every so many buckets */
};

/* The index in these bytes, which must stay. -EBADMSG: they are none of `count` ids; -ENOMEM. */
int id_index_open(struct id_index *index, const uint8_t *bytes, uint64_t length, uint64_t count);
void id_index_close(struct id_index *index);

/* How many rows have the id; *first: the rank of the first. */
uint32_t id_index_find(const struct id_index *index, struct tp_id id, uint32_t *first);
/* The row at a rank below count; at least `count` if the bytes are damaged. */
uint32_t id_index_row(const struct id_index *index, uint32_t rank);

/* Puts each id where its row is: to[count]. False: not each row has one, or they are out of order. */
bool id_index_all(const struct id_index *index, struct tp_id *to);

#endif
