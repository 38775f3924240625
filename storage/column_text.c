/*
 * Collecting texts while rows come in, and the dictionary's bytes: column_text.h.
 *
 * Threads: any; all state is the caller's.
 */
#include "column_text.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { UUID_TEXT_BYTES = 36, SLOTS_FIRST = 64, TEXTS_FEW = 1 << 14 };

struct dictionary_head {
	uint32_t texts, uuids;
	uint64_t heap_bytes;
};
static_assert(sizeof(struct dictionary_head) == 16, "disk format");

/* ---- canonical UUIDs ---- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool uuid_parse(const char *text, uint32_t bytes, uint8_t *to)
{
	if (bytes != UUID_TEXT_BYTES || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-')
		return false;
	uint8_t uuid[16];
	for (int i = 0; i < 16; i++, text += 2) {
		text += *text == '-';
		int high = hex_digit(text[0]), low = hex_digit(text[1]);
		if (high < 0 || low < 0)
			return false;
		uuid[i] = (uint8_t)(high << 4 | low);
	}
	if (to)
		memcpy(to, uuid, sizeof(uuid));
	return true;
}

static void uuid_print(const uint8_t *uuid, char *to)
{
	static const char digit[] = "0123456789abcdef";
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = digit[uuid[i] >> 4];
		*to++ = digit[uuid[i] & 15];
	}
}

/* ---- collecting ---- */

static bool slots_grow(struct text_collection *texts)
{
	uint32_t slots = texts->slots ? 2 * texts->slots : SLOTS_FIRST;
	uint64_t *slot = calloc(slots, sizeof(*slot));
	struct text_entry *entry = slot ? realloc(texts->entry, slots / 2 * sizeof(*entry)) : NULL;
	if (!entry) {
		free(slot);
		return false;
	}
	free(texts->slot);
	texts->entry = entry;
	texts->max = slots / 2;
	texts->slot = slot;
	texts->slots = slots;
	for (uint32_t i = 0; i < texts->count; i++) {
		uint32_t at = entry[i].hash & (slots - 1);
		while (slot[at])
			at = (at + 1) & (slots - 1);
		slot[at] = text_slot(entry[i].hash, i);
	}
	return true;
}

/* Most texts are short: comparing them here, without a call, takes a third. Bytes behind the texts are not read. */
static inline bool bytes_same(const uint8_t *a, const char *b, uint32_t bytes)
{
	uint64_t x, y;
	if (bytes > 64)
		return !memcmp(a, b, bytes);
	if (bytes >= sizeof(x)) {
		uint64_t differ = 0;
		for (uint32_t i = 0; i + sizeof(x) < bytes; i += sizeof(x)) {
			memcpy(&x, a + i, sizeof(x));
			memcpy(&y, b + i, sizeof(y));
			differ |= x ^ y;
		}
		memcpy(&x, a + bytes - sizeof(x), sizeof(x));
		memcpy(&y, b + bytes - sizeof(y), sizeof(y));
		return !(differ | (x ^ y));
	}
	if (bytes >= sizeof(uint32_t)) {
		uint32_t first[2], last[2];
		memcpy(&first[0], a, sizeof(uint32_t));
		memcpy(&first[1], b, sizeof(uint32_t));
		memcpy(&last[0], a + bytes - sizeof(uint32_t), sizeof(uint32_t));
		memcpy(&last[1], b + bytes - sizeof(uint32_t), sizeof(uint32_t));
		return first[0] == first[1] && last[0] == last[1];
	}
	for (uint32_t i = 0; i < bytes; i++)
		if (a[i] != (uint8_t)b[i])
			return false;
	return true;
}

/* The slot that has the text, or the free one where it belongs. */
static inline uint32_t slot_find(const struct text_collection *texts, const char *at, uint32_t bytes, uint32_t hash)
{
	uint32_t slot = hash & (texts->slots - 1);
	for (; texts->slot[slot]; slot = (slot + 1) & (texts->slots - 1)) {
		if (texts->slot[slot] >> 32 != hash)
			continue;
		const struct text_entry *entry = &texts->entry[text_slot_index(texts->slot[slot])];
		if (entry->bytes == bytes && bytes_same(texts->heap.at + entry->at, at, bytes))
			break;
	}
	return slot;
}

static inline uint32_t hash_of(const struct text_collection *texts, const char *at, uint32_t bytes)
{
	return (uint32_t)XXH3_64bits_withSeed(at, bytes, texts->seed);
}

uint32_t text_find(const struct text_collection *texts, const char *at, uint32_t bytes)
{
	if (!texts->slots)
		return UINT32_MAX;
	const uint64_t slot = texts->slot[slot_find(texts, at, bytes, hash_of(texts, at, bytes))];
	return slot ? text_slot_index(slot) : UINT32_MAX;
}

/* A text that is not there yet; there is room for one more. */
static __attribute__((noinline)) uint32_t text_new(struct text_collection *texts, uint32_t slot, const char *at, uint32_t bytes,
						   uint32_t hash)
{
	texts->entry[texts->count] = (struct text_entry){
		.at = texts->heap.bytes, .hash = hash, .times = 1, .bytes = (uint16_t)bytes, .uuid = uuid_parse(at, bytes, NULL)};
	buffer_put(&texts->heap, at, bytes);
	if (!texts->heap.at && !buffer_reserve(&texts->heap, 1))
		return UINT32_MAX;
	texts->slot[slot] = text_slot(hash, texts->count++);
	if (!bytes)
		texts->empty = texts->count;
	return texts->heap.failed ? UINT32_MAX : texts->count - 1;
}

/* There is room for one more. */
static inline __attribute__((always_inline)) uint32_t text_take(struct text_collection *texts, const char *at, uint32_t bytes,
								uint32_t hash)
{
	const uint32_t slot = slot_find(texts, at, bytes, hash);
	if (!texts->slot[slot])
		return text_new(texts, slot, at, bytes, hash);
	const uint32_t index = text_slot_index(texts->slot[slot]);
	texts->entry[index].times++;
	return index;
}

uint32_t text_add(struct text_collection *texts, const char *at, uint32_t bytes)
{
	if (texts->count == texts->max && !slots_grow(texts))
		return UINT32_MAX;
	return text_take(texts, at, bytes, hash_of(texts, at, bytes));
}

bool text_add_burst(struct text_collection *texts, const char *const *at, const uint16_t *bytes, uint32_t count, uint32_t *index)
{
	uint32_t hash[TEXT_BURST], wanted[TEXT_BURST], left = 0;
	bool good = true;
	assert(count <= TEXT_BURST);
	while (texts->max - texts->count < count)
		if (!slots_grow(texts))
			return false;
	/* What lies in the caches needs no fetching ahead. */
	const bool few = texts->slots <= TEXTS_FEW;
	for (uint32_t i = 0; i < count; i++) {
		if (!bytes[i] && texts->empty) {
			index[i] = texts->empty - 1;
			texts->entry[index[i]].times++;
			continue;
		}
		const uint32_t one = hash_of(texts, at[i], bytes[i]);
		if (few) {
			index[i] = text_take(texts, at[i], bytes[i], one);
			good &= index[i] != UINT32_MAX;
			continue;
		}
		__builtin_prefetch(&texts->slot[one & (texts->slots - 1)]);
		hash[left] = one;
		wanted[left++] = i;
	}
	/* Where the first slot has another text, the way is longer, and right all the same. */
	for (uint32_t i = 0; i < left; i++) {
		const uint64_t slot = texts->slot[hash[i] & (texts->slots - 1)];
		if (slot >> 32 == hash[i] && slot)
			__builtin_prefetch(&texts->entry[text_slot_index(slot)]);
	}
	for (uint32_t i = 0; i < left; i++) {
		const uint64_t slot = texts->slot[hash[i] & (texts->slots - 1)];
		if (slot >> 32 == hash[i] && slot)
			__builtin_prefetch(texts->heap.at + texts->entry[text_slot_index(slot)].at);
	}
	for (uint32_t i = 0; i < left; i++) {
		index[wanted[i]] = text_take(texts, at[wanted[i]], bytes[wanted[i]], hash[i]);
		good &= index[wanted[i]] != UINT32_MAX;
	}
	return good;
}

void text_collection_fini(struct text_collection *texts)
{
	free(texts->entry);
	free(texts->slot);
	buffer_fini(&texts->heap);
	*texts = (struct text_collection){0};
}

/* ---- order ---- */

/* By rank: texts before UUIDs, and by frequency the commonest first. */
static uint64_t rank_of(const struct text_entry *entry, enum text_order order)
{
	return (uint64_t)entry->uuid << 32 | (order == TEXT_BY_FREQUENCY ? ~entry->times : 0);
}

/* How many bytes all texts begin with; the empty one, which is before all others anyhow, does not count. */
static uint32_t common_bytes(const struct text_collection *texts, bool uuid)
{
	const uint8_t *first = NULL;
	uint32_t common = UINT32_MAX;
	for (uint32_t i = 0; i < texts->count && common; i++) {
		const struct text_entry *entry = &texts->entry[i];
		const uint8_t *at = texts->heap.at + entry->at;
		if (entry->uuid != uuid || !entry->bytes)
			continue;
		first = first ? first : at;
		uint32_t same = 0;
		for (uint32_t most = entry->bytes < common ? entry->bytes : common; same < most && at[same] == first[same];)
			same++;
		common = same;
	}
	return common == UINT32_MAX ? 0 : common;
}

/* Eight bytes from `skip` on; zeros behind the end. */
static uint64_t eight_bytes(const uint8_t *at, uint32_t bytes, uint32_t skip)
{
	uint64_t eight = 0;
	if (bytes > skip)
		memcpy(&eight, at + skip, bytes - skip < sizeof(eight) ? bytes - skip : sizeof(eight));
	return __builtin_bswap64(eight);
}

static int entries_compare(const void *left, const void *right, void *context)
{
	const struct text_collection *texts = context;
	const struct text_entry *a = &texts->entry[*(const uint32_t *)left], *b = &texts->entry[*(const uint32_t *)right];
	int c = memcmp(texts->heap.at + a->at, texts->heap.at + b->at, a->bytes < b->bytes ? a->bytes : b->bytes);
	return c ? c : (int)a->bytes - (int)b->bytes;
}

/* Those whose ranks and eight bytes are the same are left to be compared. */
static void ties_sort(const struct text_collection *texts, enum text_order order, const uint64_t *eight, uint32_t *sorted,
		      const struct tp_radix_yield *yield)
{
	for (uint32_t from = 0, to; from < texts->count; from = to) {
		const uint64_t rank = rank_of(&texts->entry[sorted[from]], order), first = eight[sorted[from]];
		for (to = from + 1; to < texts->count && eight[sorted[to]] == first; to++)
			if (rank_of(&texts->entry[sorted[to]], order) != rank)
				break;
		if (to - from > 1)
			qsort_r(sorted + from, to - from, sizeof(*sorted), entries_compare, (void *)(uintptr_t)texts);
		if (from / TP_RADIX_PIECE != to / TP_RADIX_PIECE && yield && yield->fn)
			yield->fn(yield->context);
	}
}

int text_order(const struct text_collection *texts, enum text_order order, uint32_t *code, const struct tp_radix_yield *yield)
{
	const uint64_t count = (uint64_t)texts->count + 1;
	uint64_t *key = malloc(2 * count * sizeof(*key)), *eight = key + count;
	uint32_t *sorted = malloc(count * sizeof(*sorted)), *spare = malloc(count * sizeof(*spare));
	int rc = key && sorted && spare ? 0 : -ENOMEM;
	if (!rc) {
		const uint32_t skip[2] = {common_bytes(texts, false), common_bytes(texts, true)};
		uint64_t eight_differ = 0, rank_differ = 0;
		for (uint32_t i = 0; i < texts->count; i++) {
			const struct text_entry *entry = &texts->entry[i];
			eight[i] = eight_bytes(texts->heap.at + entry->at, entry->bytes, skip[entry->uuid]);
			key[i] = rank_of(entry, order);
			eight_differ |= eight[i] ^ eight[0];
			rank_differ |= key[i] ^ key[0];
			sorted[i] = i;
		}
		tp_radix_sort(&sorted, &spare, texts->count, eight, eight_differ, yield);
		tp_radix_sort(&sorted, &spare, texts->count, key, rank_differ, yield);
		ties_sort(texts, order, eight, sorted, yield);
		for (uint32_t i = 0; i < texts->count; i++)
			code[sorted[i]] = i;
	}
	free(key);
	free(sorted);
	free(spare);
	return rc;
}

/* ---- the dictionary's bytes ---- */

int text_dictionary_put(const struct text_collection *texts, struct column_scratch *scratch, struct buffer *out)
{
	uint64_t count = texts->count;
	uint64_t *common = calloc(2 * count + 1, sizeof(*common)), *rest = common + count;
	struct buffer heap = {0};
	struct dictionary_head head = {0};
	const uint8_t *from = texts->heap.at;
	if (!common)
		return -ENOMEM;
	const struct text_entry *before = NULL;
	while (head.texts < count && !texts->entry[head.texts].uuid) {
		const struct text_entry *entry = &texts->entry[head.texts];
		uint32_t same = 0;
		while (before && same < before->bytes && same < entry->bytes && from[before->at + same] == from[entry->at + same])
			same++;
		common[head.texts] = same;
		rest[head.texts++] = entry->bytes - same;
		buffer_put(&heap, from + entry->at + same, entry->bytes - same);
		before = entry;
	}
	head.uuids = (uint32_t)count - head.texts;
	head.heap_bytes = heap.bytes;
	buffer_put(out, &head, sizeof(head));
	column_encode_long(scratch, out, common, head.texts);
	column_encode_long(scratch, out, rest, head.texts);
	buffer_put(out, heap.at, heap.bytes);
	for (uint64_t i = head.texts; i < count; i++) {
		uint8_t uuid[16] = {0};
		uuid_parse((const char *)from + texts->entry[i].at, UUID_TEXT_BYTES, uuid);
		buffer_put(out, uuid, sizeof(uuid));
	}
	bool failed = heap.failed || out->failed;
	buffer_fini(&heap);
	free(common);
	return failed ? -ENOMEM : 0;
}

void text_dictionary_fini(struct text_dictionary *dictionary)
{
	free(dictionary->end);
	free(dictionary->heap);
	*dictionary = (struct text_dictionary){0};
}

/* Puts the texts together; the lengths have been checked to sum up to heap_bytes and to stay within UINT32_MAX. */
static int texts_join(struct text_dictionary *dictionary, const uint64_t *common, const uint64_t *rest, uint32_t texts,
		      const uint8_t *heap)
{
	uint32_t at = 0, before = 0;
	for (uint32_t i = 0; i < texts; i++) {
		if (common[i] > at - before)
			return -EBADMSG;
		memcpy(dictionary->heap + at, dictionary->heap + before, common[i]);
		memcpy(dictionary->heap + at + common[i], heap, rest[i]);
		heap += rest[i];
		before = at;
		at += (uint32_t)(common[i] + rest[i]);
		dictionary->end[i] = at;
	}
	return 0;
}

int text_dictionary_read(struct text_dictionary *dictionary, const uint8_t *at, uint64_t bytes, uint32_t count, uint32_t bytes_max)
{
	*dictionary = (struct text_dictionary){0};
	const uint8_t *end = at + bytes;
	struct dictionary_head head;
	if (bytes < sizeof(head))
		return -EBADMSG;
	memcpy(&head, at, sizeof(head));
	at += sizeof(head);
	if ((uint64_t)head.texts + head.uuids != count || head.heap_bytes > bytes || (uint64_t)head.uuids * 16 > bytes)
		return -EBADMSG;
	uint64_t texts = head.texts, sum = 0, whole = 0;
	uint64_t *common = malloc((2 * texts + 1) * sizeof(*common)), *rest = common + texts;
	if (!common)
		return -ENOMEM;
	int rc = -EBADMSG;
	at = column_decode_long(at, end, common, texts);
	if (at)
		at = column_decode_long(at, end, rest, texts);
	if (!at || (uint64_t)(end - at) != head.heap_bytes + (uint64_t)head.uuids * 16)
		goto out;
	for (uint64_t i = 0; i < texts; i++) {
		if (common[i] > bytes_max || rest[i] > bytes_max - common[i])
			goto out;
		sum += rest[i];
		whole += common[i] + rest[i];
	}
	whole += (uint64_t)head.uuids * UUID_TEXT_BYTES;
	if (sum != head.heap_bytes || whole > UINT32_MAX || (head.uuids && bytes_max < UUID_TEXT_BYTES))
		goto out;
	dictionary->count = count;
	dictionary->end = malloc(((uint64_t)count + 1) * sizeof(*dictionary->end));
	dictionary->heap = malloc(whole + 1);
	rc = dictionary->end && dictionary->heap ? texts_join(dictionary, common, rest, head.texts, at) : -ENOMEM;
	if (rc)
		goto out;
	at += head.heap_bytes;
	uint32_t to = head.texts ? dictionary->end[head.texts - 1] : 0;
	for (uint32_t i = head.texts; i < count; i++, at += 16) {
		uuid_print(at, dictionary->heap + to);
		dictionary->end[i] = to += UUID_TEXT_BYTES;
	}
out:
	free(common);
	if (rc)
		text_dictionary_fini(dictionary);
	return rc;
}
