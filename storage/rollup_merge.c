/*
 * Many sums into one file: rows of segments, sorted, into a file of each class; or files of one class into one.
 *
 *   segments' rows ─ collect (codes in order of arrival) ─ sort strings, then rows ─┬─► minute file
 *                                                                                   ├─► hour file    (each adds up what falls
 *   files of a class ─ union of their dictionaries ─ merge by row ───► one file     └─► day file      together in its buckets)
 *
 * Rows that are equal but for their sums are added up, modulo 2^64: addition is associative and commutative, and no row is ever left
 * out, not even one of zeros. So the result does not depend on which files were merged first.
 *
 * Threads: any, one per call.
 */
#include "rollup_file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdlib.h>
#include <string.h>

enum { YIELD_ROWS = 2048, SOURCES_MAX = MANIFEST_PARTS_MAX };

/* ---- collecting ---- */

/* Strings as they come: code → bytes, and a hash index over them. */
struct strings {
	char *heap;
	uint64_t heap_bytes, heap_max;
	uint32_t *end;
	uint32_t count, max;
	uint32_t *index; /* code + 1 */
	uint32_t slots;
};

struct rollup_collection {
	struct strings strings[TP_DIMENSIONS];
	struct rollup_item *item;
	uint64_t items, items_max;
};

struct rollup_collection *rollup_collection_new(void)
{
	return calloc(1, sizeof(struct rollup_collection));
}

void rollup_collection_free(struct rollup_collection *collection)
{
	if (!collection)
		return;
	for (int d = 0; d < TP_DIMENSIONS; d++) {
		free(collection->strings[d].heap);
		free(collection->strings[d].end);
		free(collection->strings[d].index);
	}
	free(collection->item);
	free(collection);
}

uint64_t rollup_collection_rows(const struct rollup_collection *collection)
{
	return collection->items;
}

static struct tp_str string_at(const struct strings *strings, uint32_t code)
{
	uint32_t from = code ? strings->end[code - 1] : 0;
	return (struct tp_str){.at = strings->heap + from, .bytes = (uint16_t)(strings->end[code] - from)};
}

static int strings_grow(struct strings *strings)
{
	if (strings->count == strings->max) {
		uint32_t max = strings->max ? 2 * strings->max : 256;
		uint32_t *larger = realloc(strings->end, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		strings->end = larger;
		strings->max = max;
	}
	if (strings->heap_max - strings->heap_bytes < TP_ID_BYTES_MAX) {
		uint64_t max = 2 * strings->heap_max + 4096;
		char *larger = max > UINT32_MAX ? NULL : realloc(strings->heap, max);
		if (!larger)
			return -ENOMEM;
		strings->heap = larger;
		strings->heap_max = max;
	}
	if (2 * ((uint64_t)strings->count + 1) <= strings->slots)
		return 0;
	uint32_t slots = strings->slots ? 2 * strings->slots : 512;
	uint32_t *index = calloc(slots, sizeof(*index));
	if (!index)
		return -ENOMEM;
	for (uint32_t i = 0; i < strings->count; i++) {
		struct tp_str string = string_at(strings, i);
		uint32_t at = (uint32_t)XXH3_64bits(string.at, string.bytes) & (slots - 1);
		while (index[at])
			at = (at + 1) & (slots - 1);
		index[at] = i + 1;
	}
	free(strings->index);
	strings->index = index;
	strings->slots = slots;
	return 0;
}

static int string_code(struct strings *strings, struct tp_str string, uint32_t *code)
{
	if (string.bytes > TP_ID_BYTES_MAX)
		return -EBADMSG;
	int rc = strings_grow(strings);
	if (rc)
		return rc;
	uint32_t at = (uint32_t)XXH3_64bits(string.at, string.bytes) & (strings->slots - 1);
	for (; strings->index[at]; at = (at + 1) & (strings->slots - 1)) {
		struct tp_str known = string_at(strings, strings->index[at] - 1);
		if (known.bytes == string.bytes && !memcmp(known.at, string.at, string.bytes)) {
			*code = strings->index[at] - 1;
			return 0;
		}
	}
	memcpy(strings->heap + strings->heap_bytes, string.at, string.bytes);
	strings->heap_bytes += string.bytes;
	strings->end[strings->count] = (uint32_t)strings->heap_bytes;
	*code = strings->count;
	strings->index[at] = ++strings->count;
	return 0;
}

int rollup_collection_add(struct rollup_collection *collection, const struct tp_rollup_row *rows, uint32_t count, const char *heap)
{
	if (collection->items_max - collection->items < count) {
		uint64_t max = 2 * collection->items_max > collection->items + count ? 2 * collection->items_max
										     : collection->items + count;
		struct rollup_item *larger = aligned_alloc(16, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		if (collection->items)
			memcpy(larger, collection->item, collection->items * sizeof(*larger));
		free(collection->item);
		collection->item = larger;
		collection->items_max = max;
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct tp_rollup_row *row = &rows[i];
		struct rollup_item *item = &collection->item[collection->items];
		memset(item, 0, sizeof(*item));
		for (int d = 0; d < TP_DIMENSIONS; d++) {
			struct tp_str string = tp_rollup_string(row, heap, (enum tp_dimension)d);
			int rc = string_code(&collection->strings[d], string, &item->code[d]);
			if (rc)
				return rc;
		}
		item->country = (uint16_t)((uint8_t)row->country[0] << 8 | (uint8_t)row->country[1]);
		item->device = row->device;
		item->currency = (uint32_t)(uint8_t)row->currency[0] << 16 | (uint32_t)(uint8_t)row->currency[1] << 8 |
				 (uint8_t)row->currency[2];
		item->minute = row->minute;
		item->sums = row->sums;
		collection->items++;
	}
	return 0;
}

/* ---- dictionaries ---- */

static void dictionaries_free(struct rollup_dictionary dictionary[TP_DIMENSIONS])
{
	for (int d = 0; d < TP_DIMENSIONS; d++) {
		free(dictionary[d].end);
		free(dictionary[d].heap);
	}
}

static int dictionary_make(struct rollup_dictionary *dictionary, uint64_t strings, uint64_t heap_bytes)
{
	if (strings >= UINT32_MAX || heap_bytes > UINT32_MAX)
		return -EOVERFLOW;
	dictionary->end = malloc((strings + 1) * sizeof(*dictionary->end));
	dictionary->heap = malloc(heap_bytes + 1);
	return dictionary->end && dictionary->heap ? 0 : -ENOMEM;
}

static void dictionary_put(struct rollup_dictionary *dictionary, struct tp_str string)
{
	uint32_t from = dictionary->count ? dictionary->end[dictionary->count - 1] : 0;
	memcpy(dictionary->heap + from, string.at, string.bytes);
	dictionary->end[dictionary->count++] = from + string.bytes;
}

static int string_compare(struct tp_str a, struct tp_str b)
{
	int c = memcmp(a.at, b.at, a.bytes < b.bytes ? a.bytes : b.bytes);
	return c ? c : (int)a.bytes - (int)b.bytes;
}

static int code_compare(const void *left, const void *right, void *context)
{
	return string_compare(string_at(context, *(const uint32_t *)left), string_at(context, *(const uint32_t *)right));
}

/* The strings in order; new_code[code in order of arrival]. */
static int strings_sort(struct strings *strings, struct rollup_dictionary *dictionary, uint32_t **new_code)
{
	uint32_t *order = malloc((strings->count + 1) * sizeof(*order));
	*new_code = malloc((strings->count + 1) * sizeof(**new_code));
	int rc = order && *new_code ? dictionary_make(dictionary, strings->count, strings->heap_bytes) : -ENOMEM;
	if (!rc && strings->count) {
		for (uint32_t i = 0; i < strings->count; i++)
			order[i] = i;
		qsort_r(order, strings->count, sizeof(*order), code_compare, strings);
		for (uint32_t i = 0; i < strings->count; i++) {
			dictionary_put(dictionary, string_at(strings, order[i]));
			(*new_code)[order[i]] = i;
		}
	}
	free(order);
	return rc;
}

/* ---- from rows to files ---- */

static int item_compare(const void *left, const void *right)
{
	return rollup_item_compare(left, right);
}

static int collection_sort(struct rollup_collection *collection, struct rollup_dictionary dictionary[TP_DIMENSIONS])
{
	uint32_t *new_code[TP_DIMENSIONS] = {0};
	int rc = 0;
	for (int d = 0; d < TP_DIMENSIONS && !rc; d++)
		rc = strings_sort(&collection->strings[d], &dictionary[d], &new_code[d]);
	for (uint64_t i = 0; i < collection->items && !rc; i++)
		for (int d = 0; d < TP_DIMENSIONS; d++)
			collection->item[i].code[d] = new_code[d][collection->item[i].code[d]];
	for (int d = 0; d < TP_DIMENSIONS; d++)
		free(new_code[d]);
	if (!rc && collection->items)
		qsort(collection->item, collection->items, sizeof(*collection->item), item_compare);
	return rc;
}

/* The collected rows, as rows of the set, into the files of the classes that have it. `item` is in the set's order. */
static int set_write(struct rollup_writer *writer[MANIFEST_CLASSES], uint32_t set, const struct rollup_item *item, uint64_t items,
		     rollup_yield_fn yield, void *yield_context)
{
	int rc = 0;
	for (int c = 0; c < MANIFEST_CLASSES && !rc; c++)
		if (set != ROLLUP_MAIN && set < rollup_class_sets((enum manifest_class)c))
			rc = rollup_writer_next_set(writer[c]);
	for (uint64_t i = 0; i < items && !rc; i++) {
		for (int c = 0; c < MANIFEST_CLASSES && !rc; c++)
			if (set < rollup_class_sets((enum manifest_class)c))
				rc = rollup_writer_add(writer[c], &item[i]);
		if (yield && i % YIELD_ROWS == 0)
			yield(yield_context);
	}
	return rc;
}

int rollup_collection_write(struct rollup_collection *collection, const struct sto_io *io, const char *const path[MANIFEST_CLASSES],
			    const uint8_t node_id[16], struct manifest_rollup facts[MANIFEST_CLASSES], rollup_yield_fn yield,
			    void *yield_context)
{
	struct rollup_dictionary dictionary[TP_DIMENSIONS] = {0};
	struct rollup_writer *writer[MANIFEST_CLASSES] = {0};
	int rc = collection_sort(collection, dictionary), finished = 0;
	for (int c = 0; c < MANIFEST_CLASSES && !rc; c++)
		rc = rollup_writer_open(&writer[c], io, path[c], node_id, dictionary, &facts[c]);
	if (!rc)
		rc = set_write(writer, ROLLUP_MAIN, collection->item, collection->items, yield, yield_context);
	struct rollup_item *projected = rc ? NULL : aligned_alloc(16, (collection->items + 1) * sizeof(*projected));
	if (!rc && !projected)
		rc = -ENOMEM;
	for (uint32_t set = 1; set < ROLLUP_SETS && !rc; set++) {
		for (uint64_t i = 0; i < collection->items; i++) {
			projected[i] = collection->item[i];
			rollup_item_project(&projected[i], set);
		}
		if (collection->items)
			qsort(projected, collection->items, sizeof(*projected), item_compare);
		rc = set_write(writer, set, projected, collection->items, yield, yield_context);
	}
	free(projected);
	for (; finished < MANIFEST_CLASSES && !rc; finished++) {
		rc = rollup_writer_finish(writer[finished], &facts[finished]);
		writer[finished] = NULL;
	}
	for (int c = 0; c < MANIFEST_CLASSES; c++) {
		if (writer[c])
			rollup_writer_abandon(writer[c]);
		else if (rc && c < finished)
			io->unlink(io, path[c]);
	}
	dictionaries_free(dictionary);
	return rc;
}

/* ---- from files to one ---- */

struct merging {
	struct rollup_file *source;
	uint32_t count;
	uint32_t *new_code[SOURCES_MAX][TP_DIMENSIONS];
	struct rollup_cursor cursor[SOURCES_MAX];
	struct rollup_item item[SOURCES_MAX];
	bool more[SOURCES_MAX];
};

/* The union of the sources' strings of one dimension, and where each went. */
static int dictionary_union(struct merging *m, int d, struct rollup_dictionary *dictionary)
{
	uint64_t strings = 0, bytes = 0;
	uint32_t at[SOURCES_MAX] = {0};
	for (uint32_t s = 0; s < m->count; s++) {
		const struct rollup_dictionary *one = &m->source[s].dictionary[d];
		strings += one->count;
		bytes += one->count ? one->end[one->count - 1] : 0;
		m->new_code[s][d] = malloc(((uint64_t)one->count + 1) * sizeof(uint32_t));
		if (!m->new_code[s][d])
			return -ENOMEM;
	}
	int rc = dictionary_make(dictionary, strings, bytes);
	while (!rc) {
		struct tp_str least = {0};
		bool any = false;
		for (uint32_t s = 0; s < m->count; s++) {
			if (at[s] == m->source[s].dictionary[d].count)
				continue;
			struct tp_str string = rollup_dictionary_string(&m->source[s].dictionary[d], at[s]);
			if (!any || string_compare(string, least) < 0)
				least = string;
			any = true;
		}
		if (!any)
			break;
		for (uint32_t s = 0; s < m->count; s++)
			if (at[s] < m->source[s].dictionary[d].count &&
			    !string_compare(rollup_dictionary_string(&m->source[s].dictionary[d], at[s]), least))
				m->new_code[s][d][at[s]++] = dictionary->count;
		dictionary_put(dictionary, least);
	}
	return rc;
}

static int source_next(struct merging *m, uint32_t s)
{
	int rc = rollup_cursor_next(&m->cursor[s], &m->item[s]);
	m->more[s] = rc > 0;
	for (int d = 0; d < TP_DIMENSIONS && rc > 0; d++)
		m->item[s].code[d] = m->new_code[s][d][m->item[s].code[d]];
	if (rc > 0)
		rollup_item_project(&m->item[s], m->cursor[s].set);
	return rc < 0 ? rc : 0;
}

static int set_merge(struct merging *m, uint32_t set, struct rollup_writer *writer, rollup_yield_fn yield, void *yield_context)
{
	int rc = 0;
	for (uint32_t s = 0; s < m->count && !rc; s++) {
		if (!m->source[s].set[set].block)
			return -EBADMSG;
		rollup_cursor_init(&m->cursor[s], &m->source[s], set);
		rc = source_next(m, s);
	}
	for (uint64_t n = 0; !rc; n++) {
		uint32_t least = UINT32_MAX;
		for (uint32_t s = 0; s < m->count; s++)
			if (m->more[s] && (least == UINT32_MAX || rollup_item_compare(&m->item[s], &m->item[least]) < 0))
				least = s;
		if (least == UINT32_MAX)
			break;
		rc = rollup_writer_add(writer, &m->item[least]);
		if (!rc) {
			const struct rollup_item last = m->item[least];
			rc = source_next(m, least);
			/* A file that is out of order would break the result's. */
			if (!rc && m->more[least] && rollup_item_compare(&last, &m->item[least]) >= 0)
				rc = -EBADMSG;
		}
		if (yield && n % YIELD_ROWS == 0)
			yield(yield_context);
	}
	return rc;
}

int rollup_merge(const struct sto_io *io, struct rollup_file *source, uint32_t count, const char *path, const uint8_t node_id[16],
		 struct manifest_rollup *facts, rollup_yield_fn yield, void *yield_context)
{
	assert(count <= SOURCES_MAX);
	struct rollup_dictionary dictionary[TP_DIMENSIONS] = {0};
	struct merging *m = aligned_alloc(64, (sizeof(*m) + 63) / 64 * 64);
	if (!m)
		return -ENOMEM;
	memset(m, 0, sizeof(*m));
	m->source = source;
	m->count = count;
	int rc = 0;
	for (int d = 0; d < TP_DIMENSIONS && !rc; d++)
		rc = dictionary_union(m, d, &dictionary[d]);
	struct rollup_writer *writer = NULL;
	if (!rc)
		rc = rollup_writer_open(&writer, io, path, node_id, dictionary, facts);
	if (!rc) {
		rc = set_merge(m, ROLLUP_MAIN, writer, yield, yield_context);
		for (uint32_t set = 1; set < rollup_class_sets((enum manifest_class)facts->class) && !rc; set++) {
			rc = rollup_writer_next_set(writer);
			if (!rc)
				rc = set_merge(m, set, writer, yield, yield_context);
		}
		if (rc)
			rollup_writer_abandon(writer);
		else
			rc = rollup_writer_finish(writer, facts);
	}
	for (uint32_t s = 0; s < count; s++)
		for (int d = 0; d < TP_DIMENSIONS; d++)
			free(m->new_code[s][d]);
	free(m);
	dictionaries_free(dictionary);
	return rc;
}
