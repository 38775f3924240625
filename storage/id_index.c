/*
 * Sorted ids with their rows: id_index.h.
 *
 * A key's bucket is found by counting zero bits, from the nearest of the remembered steps on. Whoever chooses ids can put all of them into
 * one bucket; so it is searched by halves, and building sorts a large one as qsort() does.
 *
 * Threads: any.
 */
#include "id_index.h"

typedef unsigned __int128 u128;

enum { STEP_BUCKETS = 512, SLACK_BYTES = 24, KEY_BITS_MAX = 128, INSERTION_MAX = 24 };

static u128 join(struct tp_id id)
{
	return (u128)id.hi << 64 | id.lo;
}

static uint32_t bits_for(uint64_t values)
{
	return values > 1 ? 64 - (uint32_t)__builtin_clzll(values - 1) : 0;
}

static uint32_t ones(u128 of)
{
	return (uint32_t)(__builtin_popcountll((uint64_t)(of >> 64)) + __builtin_popcountll((uint64_t)of));
}

static u128 mask_of(uint32_t bits)
{
	return bits ? ~(u128)0 >> (KEY_BITS_MAX - bits) : 0;
}

/* ---- ids and keys ---- */

/* Returns how many runs. */
static uint32_t runs_make(u128 differ, struct id_run *run)
{
	uint32_t runs = 0, key_at = 0;
	for (uint32_t at = 0; at < KEY_BITS_MAX && differ >> at;) {
		if (!(differ >> at & 1)) {
			at++;
			continue;
		}
		uint32_t bits = 0;
		while (at + bits < KEY_BITS_MAX && differ >> (at + bits) & 1)
			bits++;
		run[runs++] = (struct id_run){.mask = mask_of(bits) << key_at, .shift = at - key_at};
		key_at += bits;
		at += bits;
	}
	return runs;
}

static inline u128 key_of(const struct id_run *run, uint32_t runs, u128 id)
{
	u128 key = 0;
	for (uint32_t i = 0; i < runs; i++)
		key |= id >> run[i].shift & run[i].mask;
	return key;
}

static inline u128 id_of(const struct id_run *run, uint32_t runs, u128 key)
{
	u128 id = 0;
	for (uint32_t i = 0; i < runs; i++)
		id |= (key & run[i].mask) << run[i].shift;
	return id;
}

/* ---- bits ---- */

/* Up to 128 bits from `bit` on; reads up to 17 bytes. */
static inline u128 bits_read(const uint8_t *at, uint64_t bit, uint32_t bits)
{
	u128 low;
	const uint32_t shift = bit % 8;
	memcpy(&low, at + bit / 8, sizeof(low));
	low >>= shift;
	if (shift)
		low |= (u128)at[bit / 8 + sizeof(low)] << (KEY_BITS_MAX - shift);
	return low & mask_of(bits);
}

/* Bits go in one after the other. */
struct bits {
	uint8_t *at;
	uint64_t held;
	uint32_t count; /* of those held, below 64 */
};

static inline void bits_put64(struct bits *to, uint64_t value, uint32_t bits)
{
	to->held |= value << to->count;
	if (to->count + bits < 64) {
		to->count += bits;
		return;
	}
	memcpy(to->at, &to->held, sizeof(to->held));
	to->at += sizeof(to->held);
	to->held = to->count ? value >> (64 - to->count) : 0;
	to->count = to->count + bits - 64;
}

static inline void bits_put(struct bits *to, u128 value, uint32_t bits)
{
	if (bits > 63) {
		bits_put64(to, (uint64_t)value & (UINT64_MAX >> 1), 63);
		value >>= 63;
		bits -= 63;
	}
	if (bits > 63) {
		bits_put64(to, (uint64_t)value & (UINT64_MAX >> 1), 63);
		value >>= 63;
		bits -= 63;
	}
	if (bits)
		bits_put64(to, (uint64_t)value, bits);
}

static void bits_end(struct bits *to)
{
	memcpy(to->at, &to->held, sizeof(to->held));
}

static uint64_t words_for(uint64_t bits)
{
	return (bits + 63) / 64;
}

/* ---- sorting ---- */

static inline bool place_less(const struct id_place *a, const struct id_place *b)
{
	u128 x = join(a->id), y = join(b->id);
	return x != y ? x < y : a->row < b->row;
}

static int place_compare(const void *left, const void *right)
{
	return place_less(left, right) ? -1 : place_less(right, left);
}

static void bucket_sort(struct id_place *place, uint32_t count)
{
	if (count > INSERTION_MAX) {
		qsort(place, count, sizeof(*place), place_compare);
		return;
	}
	for (uint32_t i = 1; i < count; i++) {
		const struct id_place one = place[i];
		uint32_t at = i;
		for (; at && place_less(&one, &place[at - 1]); at--)
			place[at] = place[at - 1];
		place[at] = one;
	}
}

struct id_place *id_index_sort(const struct tp_id *ids, uint32_t count, const struct tp_radix_yield *yield)
{
	struct id_run run[64];
	u128 differ = 0;
	for (uint32_t i = 1; i < count; i++)
		differ |= join(ids[i]) ^ join(ids[0]);
	const uint32_t runs = runs_make(differ, run), key_bits = ones(differ);
	uint32_t bucket_bits = bits_for(count);
	bucket_bits = bucket_bits < key_bits ? bucket_bits : key_bits;
	const uint32_t rest_bits = key_bits - bucket_bits, buckets = 1u << bucket_bits;
	struct id_place *place = malloc(((uint64_t)count + 1) * sizeof(*place));
	uint32_t *start = calloc((uint64_t)buckets + 1, sizeof(*start));
	if (!place || !start) {
		free(place);
		free(start);
		return NULL;
	}
	/* A shift by 128 is none: without differing bits there is one bucket. */
	for (uint32_t i = 0; i < count; i++) {
		start[key_bits ? (uint32_t)(key_of(run, runs, join(ids[i])) >> rest_bits) : 0]++;
		tp_radix_piece_done(yield, i);
	}
	for (uint32_t b = 0, before = 0; b <= buckets; b++) {
		uint32_t here = start[b];
		start[b] = before;
		before += here;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t bucket = key_bits ? (uint32_t)(key_of(run, runs, join(ids[i])) >> rest_bits) : 0;
		place[start[bucket]++] = (struct id_place){.id = ids[i], .row = i};
		tp_radix_piece_done(yield, i);
	}
	for (uint32_t b = 0, from = 0; b < buckets; from = start[b++]) {
		if (start[b] - from > 1)
			bucket_sort(place + from, start[b] - from);
		tp_radix_piece_done(yield, b);
	}
	free(start);
	return place;
}

/* ---- writing ---- */

static uint64_t parts_bytes(const struct id_index_head *head, uint64_t at[3])
{
	at[0] = sizeof(*head);
	at[1] = at[0] + 8 * words_for((uint64_t)head->count + ((uint64_t)1 << head->bucket_bits));
	at[2] = at[1] + 8 * words_for((uint64_t)head->count * head->rest_bits);
	return at[2] + 8 * words_for((uint64_t)head->count * head->row_bits) + SLACK_BYTES;
}

void id_index_put(struct buffer *out, const struct id_place *sorted, uint32_t count)
{
	struct id_run run[64];
	u128 differ = 0, first = join(sorted[0].id);
	for (uint32_t i = 1; i < count; i++)
		differ |= join(sorted[i].id) ^ first;
	const uint32_t runs = runs_make(differ, run), key_bits = ones(differ);
	struct id_index_head head = {.differ = {.hi = (uint64_t)(differ >> 64), .lo = (uint64_t)differ},
				     .same = {.hi = (uint64_t)((first & ~differ) >> 64), .lo = (uint64_t)(first & ~differ)},
				     .count = count,
				     .row_bits = (uint8_t)bits_for(count)};
	head.bucket_bits = head.row_bits < key_bits ? head.row_bits : (uint8_t)key_bits;
	head.rest_bits = (uint8_t)(key_bits - head.bucket_bits);
	uint64_t part[3], bytes = parts_bytes(&head, part), start = out->bytes;
	/* the last words of a part are written whole: into the next one, or the slack */
	buffer_zeros(out, bytes);
	if (out->failed)
		return;
	uint8_t *at = out->at + start;
	memcpy(at, &head, sizeof(head));
	struct bits rests = {.at = at + part[1]}, rows = {.at = at + part[2]};
	const u128 rest_mask = mask_of(head.rest_bits);
	for (uint32_t i = 0; i < count; i++) {
		u128 key = key_of(run, runs, join(sorted[i].id));
		uint64_t bit = i + (key_bits ? (uint64_t)(key >> head.rest_bits) : 0);
		at[part[0] + bit / 8] |= (uint8_t)(1 << bit % 8);
		bits_put(&rests, key & rest_mask, head.rest_bits);
		bits_put(&rows, sorted[i].row, head.row_bits);
	}
	if (rests.count)
		bits_end(&rests);
	if (rows.count)
		bits_end(&rows);
}

/* ---- reading ---- */

static inline uint64_t word_at(const struct id_index *index, uint64_t word)
{
	uint64_t value;
	memcpy(&value, index->buckets + 8 * word, sizeof(value));
	return value;
}

/* Counts the ones and remembers where every STEP_BUCKETS-th bucket begins. False: not as many ones and zeros as there must be. */
static bool steps_make(struct id_index *index)
{
	const uint64_t buckets = (uint64_t)1 << index->bucket_bits, bits = index->count + buckets;
	uint64_t zeros = 0, next = STEP_BUCKETS, step = 1;
	index->step[0] = 0;
	for (uint64_t w = 0; w < index->bucket_words; w++) {
		uint64_t word = ~word_at(index, w);
		if (w == bits / 64) {
			if (~word >> bits % 64)
				return false; /* something behind the end */
			word &= ((uint64_t)1 << bits % 64) - 1;
		}
		uint64_t more = (uint64_t)__builtin_popcountll(word);
		for (; next <= zeros + more && next <= buckets; next += STEP_BUCKETS) {
			/* behind the next-th zero, which is in this word */
			uint64_t left = word;
			for (uint64_t skip = next - zeros; skip > 1; skip--)
				left &= left - 1;
			index->step[step++] = (uint32_t)(64 * w + (uint64_t)__builtin_ctzll(left) + 1);
		}
		zeros += more;
	}
	return zeros == buckets;
}

int id_index_open(struct id_index *index, const uint8_t *bytes, uint64_t length, uint64_t count)
{
	struct id_index_head head;
	uint64_t part[3];
	*index = (struct id_index){0};
	if (length < sizeof(head))
		return -EBADMSG;
	memcpy(&head, bytes, sizeof(head));
	index->differ = join(head.differ);
	index->same = join(head.same);
	const uint32_t key_bits = ones(index->differ);
	if (!head.count || head.count != count || head.count > INT32_MAX || index->same & index->differ ||
	    head.row_bits != bits_for(head.count) || head.bucket_bits > head.row_bits ||
	    (uint32_t)head.bucket_bits + head.rest_bits != key_bits || parts_bytes(&head, part) != length)
		return -EBADMSG;
	index->count = head.count;
	index->bucket_bits = head.bucket_bits;
	index->rest_bits = head.rest_bits;
	index->row_bits = head.row_bits;
	index->buckets = bytes + part[0];
	index->rests = bytes + part[1];
	index->rows = bytes + part[2];
	index->bucket_words = (part[1] - part[0]) / 8;
	index->runs = runs_make(index->differ, index->run);
	index->step = malloc((((uint64_t)1 << head.bucket_bits) / STEP_BUCKETS + 1) * sizeof(*index->step));
	if (!index->step)
		return -ENOMEM;
	if (steps_make(index))
		return 0;
	id_index_close(index);
	return -EBADMSG;
}

void id_index_close(struct id_index *index)
{
	free(index->step);
	*index = (struct id_index){0};
}

static inline u128 rest_at(const struct id_index *index, uint64_t rank)
{
	return bits_read(index->rests, rank * index->rest_bits, index->rest_bits);
}

uint32_t id_index_row(const struct id_index *index, uint32_t rank)
{
	return (uint32_t)bits_read(index->rows, (uint64_t)rank * index->row_bits, index->row_bits);
}

/* Where the bits of a bucket begin: behind as many zeros as there are buckets before it. */
static uint64_t bucket_begin(const struct id_index *index, uint64_t bucket)
{
	uint64_t bit = index->step[bucket / STEP_BUCKETS], skip = bucket % STEP_BUCKETS;
	if (!skip)
		return bit;
	uint64_t w = bit / 64, word = ~word_at(index, w) & UINT64_MAX << bit % 64;
	for (uint64_t zeros; (zeros = (uint64_t)__builtin_popcountll(word)) < skip; word = ~word_at(index, w)) {
		skip -= zeros;
		w++;
	}
	while (--skip)
		word &= word - 1;
	return 64 * w + (uint64_t)__builtin_ctzll(word) + 1;
}

/* The zero that ends the bucket that begins at `bit`. */
static uint64_t bucket_end(const struct id_index *index, uint64_t bit)
{
	uint64_t w = bit / 64, word = ~word_at(index, w) & UINT64_MAX << bit % 64;
	while (!word)
		word = ~word_at(index, ++w);
	return 64 * w + (uint64_t)__builtin_ctzll(word);
}

uint32_t id_index_find(const struct id_index *index, struct tp_id id, uint32_t *first)
{
	if ((join(id) & ~index->differ) != index->same)
		return 0;
	const u128 key = key_of(index->run, index->runs, join(id)), rest = key & mask_of(index->rest_bits);
	const uint64_t bucket = index->bucket_bits ? (uint64_t)(key >> index->rest_bits) : 0;
	const uint64_t begin = bucket_begin(index, bucket);
	uint64_t low = begin - bucket, end = bucket_end(index, begin) - bucket, high = end;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (rest_at(index, middle) < rest)
			low = middle + 1;
		else
			high = middle;
	}
	uint32_t found = 0;
	for (uint64_t rank = low; rank < end && rest_at(index, rank) == rest; rank++)
		found++;
	*first = (uint32_t)low;
	return found;
}

bool id_index_all(const struct id_index *index, struct tp_id *to)
{
	uint64_t *seen = calloc(words_for(index->count), sizeof(*seen));
	uint32_t rank = 0, row_before = 0;
	u128 before = 0;
	bool good = seen;
	for (uint64_t w = 0; w < index->bucket_words && good; w++)
		for (uint64_t word = word_at(index, w); word && good; word &= word - 1, rank++) {
			/* steps_make() has counted: no more ones than ranks, and no more zeros before any than buckets */
			uint64_t bucket = 64 * w + (uint64_t)__builtin_ctzll(word) - rank;
			u128 key = rest_at(index, rank);
			if (index->bucket_bits)
				key |= (u128)bucket << index->rest_bits;
			uint32_t row = id_index_row(index, rank);
			good = row < index->count && !(seen[row / 64] >> row % 64 & 1) &&
			       (!rank || key > before || (key == before && row > row_before));
			if (!good)
				break;
			seen[row / 64] |= (uint64_t)1 << row % 64;
			u128 id = index->same | id_of(index->run, index->runs, key);
			to[row] = (struct tp_id){.hi = (uint64_t)(id >> 64), .lo = (uint64_t)id};
			before = key;
			row_before = row;
		}
	free(seen);
	return good;
}
