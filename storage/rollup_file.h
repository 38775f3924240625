/*
 * Rollup files: the sums of many segments in one file. Bytes in rollup_format.h; who makes and merges them when: store_merge.c.
 */
#ifndef STORAGE_ROLLUP_FILE_H
#define STORAGE_ROLLUP_FILE_H

#include "io.h"
#include "manifest.h"
#include "rollup_format.h"
#include "turnpike/reader.h"

/* ---- strings and rows inside this module ---- */

/* Distinct strings, ascending by bytes. A string's place is its code. */
struct rollup_dictionary {
	uint32_t count;
	uint32_t *end; /* of each string in `heap` */
	char *heap;
};

struct tp_str rollup_dictionary_string(const struct rollup_dictionary *dictionary, uint32_t code);
/* The code, or UINT32_MAX. */
uint32_t rollup_dictionary_find(const struct rollup_dictionary *dictionary, const char *bytes, size_t count);

/* One row: what it is of, in codes of some dictionaries, and its sums. */
struct rollup_item {
	uint32_t code[TP_DIMENSIONS];
	uint16_t country; /* big-endian, as it sorts */
	uint8_t device;
	uint32_t currency;
	uint32_t minute; /* where its bucket starts */
	struct tp_sums sums;
};

/* In the order of the file; both in codes of the same dictionaries. */
int rollup_item_compare(const struct rollup_item *left, const struct rollup_item *right);
/* The same, but for the bucket. */
int rollup_key_compare(const struct rollup_item *left, const struct rollup_item *right);
/* -EOVERFLOW: a spend beyond 128 bits, which no honest file has. */
int rollup_sums_add(struct tp_sums *sums, const struct tp_sums *more);

/* ---- writing (rollup_write.c) ---- */

struct rollup_writer;

/*
 * Begins file facts->sequence of facts->class at `path`; the dictionaries (one a dimension) must outlive the writer. On error there
 * is no writer and no file.
 */
int rollup_writer_open(struct rollup_writer **writer, const struct sto_io *io, const char *path, const uint8_t node_id[16],
		       const struct rollup_dictionary *dictionary, const struct manifest_rollup *facts);
/* Which sets of rows a file of the class has: the main one first. */
uint32_t rollup_class_sets(enum manifest_class class);
/* Begins the next set of rows; the main one is begun already. All sets of the class must be written, in order. */
int rollup_writer_next_set(struct rollup_writer *writer);
/* What a row of the set is: all that the set leaves out is 0. */
void rollup_item_project(struct rollup_item *item, uint32_t set);
/* The next row of the set, in order. Its bucket is widened to the writer's class; what then falls together is added up. */
int rollup_writer_add(struct rollup_writer *writer, const struct rollup_item *item);
/* Writes the rest and syncs; fills rows, minutes, bytes and hashes of *facts. The writer is gone in any case. */
int rollup_writer_finish(struct rollup_writer *writer, struct manifest_rollup *facts);
/* Closes and removes the file. */
void rollup_writer_abandon(struct rollup_writer *writer);

/* ---- reading (rollup_read.c) ---- */

/* A mapped rollup file. Checks each section and block before its first use. Owned by one thread. */
struct rollup_file {
	const struct sto_io *io;
	const uint8_t *base; /* NULL: not open */
	uint64_t bytes;
	uint64_t sequence;
	const struct rollup_header *header;
	const struct rollup_footer *footer;
	struct {
		const struct rollup_block *block; /* NULL: the file has no such set */
		uint64_t blocks;
		uint8_t *checked; /* one a block */
	} set[ROLLUP_SETS];
	struct rollup_dictionary dictionary[TP_DIMENSIONS]; /* into the mapping */
	struct {
		const uint32_t *end;
		const uint8_t *byte;
		uint64_t bytes;
	} places[TP_DIMENSIONS];
};

/* Takes `bytes` at `base` (16-byte aligned) as rollup file `sequence`. -EBADMSG (logged) or -ENOMEM. */
int rollup_file_take(struct rollup_file *file, const uint8_t *base, uint64_t bytes, uint64_t sequence);
/* Opens, maps and takes a file, which must be what the manifest says. */
int rollup_file_open(struct rollup_file *file, const struct sto_io *io, const char *path, const struct manifest_rollup *facts);
void rollup_file_close(struct rollup_file *file);

/* What to look for. `id` NULL: all. */
struct rollup_filter {
	enum tp_dimension dimension;
	const char *id;
	size_t id_bytes;
	bool alone; /* rows may come summed over all other dimensions, which then are empty */
};

/*
 * Calls fn for each row whose bucket starts in [from_minute, to_minute) and that the filter takes. row->minute is where the bucket
 * starts; row and heap are valid during the call. -ECANCELED: fn returned false; -EBADMSG: damage (logged).
 */
int rollup_file_scan(struct rollup_file *file, const struct rollup_filter *filter, uint64_t from_minute, uint64_t to_minute,
		     sto_sums_fn fn, void *context);

/* All sections and blocks, order, totals, and the whole file against the manifest's hash. 0 or -EBADMSG (logged). */
int rollup_file_verify(struct rollup_file *file, const struct manifest_rollup *facts);

struct rollup_open_column {
	const uint8_t *packed;
	uint64_t base, scale, mask;
	uint32_t width;
};

/* A block, laid open. */
struct rollup_open_block {
	uint32_t rows, keys;
	struct rollup_open_column column[ROLLUP_COLUMNS];
};

/* Rows one after the other, in the file's own codes. */
struct rollup_cursor {
	struct rollup_file *file;
	uint32_t set;
	uint64_t block;
	uint32_t key, row, key_end;    /* key_end: first row of the next key */
	struct rollup_open_block open; /* the block, once its first row was asked for */
	struct rollup_item of_key;
};

void rollup_cursor_init(struct rollup_cursor *cursor, struct rollup_file *file, uint32_t set);
/* 1: *item is the next row; 0: no more; -EBADMSG. */
int rollup_cursor_next(struct rollup_cursor *cursor, struct rollup_item *item);

/* ---- merging (rollup_merge.c) ---- */

/*
 * The sums of `count` rows of a table or segment, added to what is collected for a file: see rollup_collect_*(). Memory: 96 bytes a
 * row and the strings, until it is freed.
 */
struct rollup_collection;
struct rollup_collection *rollup_collection_new(void);
void rollup_collection_free(struct rollup_collection *collection);
int rollup_collection_add(struct rollup_collection *collection, const struct tp_rollup_row *rows, uint32_t count, const char *heap);
uint64_t rollup_collection_rows(const struct rollup_collection *collection);

typedef void (*rollup_yield_fn)(void *context);

/*
 * Writes what was collected as a file of each class: facts[class] has class, sequence and what it covers; path[class] where. The
 * collection is spent. On error no file is left.
 */
int rollup_collection_write(struct rollup_collection *collection, const struct sto_io *io, const char *const path[MANIFEST_CLASSES],
			    const uint8_t node_id[16], struct manifest_rollup facts[MANIFEST_CLASSES], rollup_yield_fn yield,
			    void *yield_context);

/* Merges `count` files of one class into one. Memory: their dictionaries. On error no file is left. */
int rollup_merge(const struct sto_io *io, struct rollup_file *source, uint32_t count, const char *path, const uint8_t node_id[16],
		 struct manifest_rollup *facts, rollup_yield_fn yield, void *yield_context);

#endif
