/*
 * Dictionaries of texts: a column of strings is a stream of codes and the dictionary of a whole segment.
 *
 *   dictionary:  0  u32 texts    4  u32 uuids    8  u64 heap bytes
 *               16  streams of the bytes that each text has in common with the one before it
 *                   streams of the lengths of what follows in each text
 *                   heap: what follows, text after text
 *                   uuids: 16 bytes each, in the order of their text
 *
 * Code c is text c, or, from `texts` on, UUID c - texts in its canonical form. In one of three orders (enum text_order).
 *
 * Threads: any; all state is the caller's.
 */
#ifndef STORAGE_COLUMN_TEXT_H
#define STORAGE_COLUMN_TEXT_H

#include "column.h"

#include "turnpike/event.h"
#include "turnpike/radix.h"

enum text_order {
	TEXT_BY_BYTES,     /* codes compare like their texts */
	TEXT_BY_FREQUENCY, /* the commonest first, then by bytes */
	TEXT_BY_ARRIVAL,   /* as the rows come: for texts that hardly ever come twice */
	TEXT_ORDERS
};

/* ---- collecting (column_text.c) ---- */

struct text_entry {
	uint64_t at; /* in the heap */
	uint32_t hash;
	uint32_t times;
	uint16_t bytes;
	bool uuid;
};

/* Zeroed is empty. */
struct text_collection {
	struct text_entry *entry; /* in the order of arrival */
	uint32_t count, max;
	uint64_t *slot; /* text_slot() of the entry; 0: free */
	uint32_t slots; /* a power of two, at least twice `count` */
	uint32_t empty; /* index of the empty text, plus one; 0: nobody has added it yet */
	struct buffer heap;
	uint64_t seed; /* random, so that nobody can send texts that all meet in one slot */
};

/* The hash beside the index, so that other texts in the way are passed without a look at them. */
static inline uint64_t text_slot(uint32_t hash, uint32_t index)
{
	return (uint64_t)hash << 32 | (index + 1);
}

static inline uint32_t text_slot_index(uint64_t slot)
{
	return (uint32_t)slot - 1;
}

/* The index of a text, added if it is new. UINT32_MAX: no memory. */
uint32_t text_add(struct text_collection *texts, const char *at, uint32_t bytes);
/*
 * The same for many texts at once, index[i] of the bytes[i] at at[i], count up to TEXT_BURST: what each has to look at is fetched while the
 * others are dealt with. False: no memory.
 */
enum { TEXT_BURST = 32 };
bool text_add_burst(struct text_collection *texts, const char *const *at, const uint16_t *bytes, uint32_t count, uint32_t *index);
/* The index of a text, or UINT32_MAX. */
uint32_t text_find(const struct text_collection *texts, const char *at, uint32_t bytes);
void text_collection_fini(struct text_collection *texts);

/* Codes of all entries in an order that they have by themselves: code[index]. `yield` may be NULL. 0 or -ENOMEM. */
int text_order(const struct text_collection *texts, enum text_order order, uint32_t *code, const struct tp_radix_yield *yield);
/* Appends the dictionary of a collection whose entries lie in the order of their codes. 0 or -ENOMEM. */
int text_dictionary_put(const struct text_collection *texts, struct column_scratch *scratch, struct buffer *out);

/* ---- reading ---- */

struct text_dictionary {
	uint32_t count;
	uint32_t *end; /* text i is heap[end[i - 1] .. end[i]) */
	char *heap;
};

/* Reads a dictionary of `count` texts of up to bytes_max each. -EBADMSG or -ENOMEM. COLUMN_SLACK bytes behind are readable. */
int text_dictionary_read(struct text_dictionary *dictionary, const uint8_t *at, uint64_t bytes, uint32_t count, uint32_t bytes_max);
void text_dictionary_fini(struct text_dictionary *dictionary);

static inline struct tp_str text_of(const struct text_dictionary *dictionary, uint32_t code)
{
	uint32_t from = code ? dictionary->end[code - 1] : 0;
	return (struct tp_str){.at = dictionary->heap + from, .bytes = (uint16_t)(dictionary->end[code] - from)};
}

#endif
