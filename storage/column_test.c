/*
 * Integer streams, dictionaries and the id filter: whatever goes in comes out, each encoding is chosen where it should be, and no
 * damaged stream is read beyond its end.
 */
#include "column_cursor_state.h"
#include "column_text.h"
#include "column_widths.h"
#include "id_filter.h"
#include "sample.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SHAPES = 12 };

static uint64_t values[COLUMN_VALUES_MAX], found[COLUMN_VALUES_MAX];
static struct column_scratch *scratch;

/* Values of many shapes; each is what one encoding is made for. */
static void shape_make(int shape, uint64_t seed, uint32_t count)
{
	uint64_t at = 1700000000000;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t r = sample_mix(seed + i);
		switch (shape) {
		case 0: /* constant */
			values[i] = seed;
			break;
		case 1: /* small */
			values[i] = 1000 + r % 7;
			break;
		case 2: /* 64 bits */
			values[i] = r;
			break;
		case 3: /* rising */
			values[i] = at += r % 50;
			break;
		case 4: /* small with a few large ones */
			values[i] = r % 100 ? r % 16 : r;
			break;
		case 5: /* runs */
			values[i] = i / 100 * 7919;
			break;
		case 6: /* few values far apart */
			values[i] = sample_mix(r % 20);
			break;
		case 7: /* falling, over zero */
			values[i] = 1000 - (uint64_t)i * 3;
			break;
		case 8: /* one other */
			values[i] = i == count / 2;
			break;
		case 9: /* widths from 0 to 64 */
			values[i] = r >> (seed + i / 8) % 64;
			break;
		case 10: /* rising with steps back, as times within ads */
			values[i] = i % 1000 ? values[i - 1] + r % 9 : 1700000000000 + r % 60000;
			break;
		default: /* extremes */
			values[i] = r % 3 == 0 ? UINT64_MAX : r % 3 == 1 ? 0 : 1ULL << 63;
		}
	}
}

static void test_streams(void **state)
{
	static const uint32_t counts[] = {1, 2, 7, 8, 9, 63, 64, 65, 255, 257, 1000, 4096, 65535, 65536};
	bool seen[COLUMN_ENCODINGS] = {false};
	(void)state;
	for (int shape = 0; shape < SHAPES; shape++)
		for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
			for (int how = 0; how < 3; how++) {
				uint32_t count = counts[c];
				struct buffer out = {0};
				shape_make(shape, 31 * c + 5, count);
				if (how == 0)
					column_encode(scratch, &out, values, count);
				else if (how == 1)
					column_encode_plain(scratch, &out, values, count);
				else
					column_encode_planes(&out, values, count);
				assert_false(out.failed);
				seen[out.at[0]] = true;
				/* Of exactly its size and the promised slack, so that a sanitizer sees a step too far. */
				uint8_t *exact = malloc(out.bytes + COLUMN_SLACK);
				memcpy(exact, out.at, out.bytes);
				memset(exact + out.bytes, 0xa5, COLUMN_SLACK);
				memset(found, 0x5a, sizeof(found));
				const uint8_t *end = column_decode(exact, exact + out.bytes, NULL, found, count);
				if (end != exact + out.bytes || memcmp(found, values, count * sizeof(values[0])) != 0)
					fail_msg("shape %d count %u how %d encoding %u", shape, count, how, out.at[0]);
				/* Cut short it is refused, wherever. */
				for (uint64_t cut = 0; cut < out.bytes; cut += 1 + out.bytes / 50)
					assert_null(column_decode(exact, exact + cut, NULL, found, count));
				free(exact);
				buffer_fini(&out);
			}
	for (int e = 0; e < COLUMN_MAPPED; e++)
		assert_true(seen[e]);
}

static bool wanted_by(const struct column_want *want, uint64_t value)
{
	return want->set ? value < 32 && want->set >> value & 1 : value >= want->from && value - want->from < want->span;
}

static void match_check(const uint8_t *at, uint64_t bytes, uint32_t count, uint64_t *room)
{
	static uint64_t bits[COLUMN_VALUES_MAX / 64];
	uint64_t min = UINT64_MAX, max = 0, middle = values[count / 2];
	for (uint32_t i = 0; i < count; i++) {
		min = values[i] < min ? values[i] : min;
		max = values[i] > max ? values[i] : max;
	}
	const struct column_want wants[] = {{.from = 0, .span = 1},
					    {.from = 1, .span = UINT64_MAX},
					    {.from = middle, .span = 1},
					    {.from = middle, .span = UINT64_MAX - middle},
					    {.from = min, .span = middle - min},
					    {.set = 1},
					    {.set = 0x80000000},
					    {.set = 0x5a5a5a5a}};
	struct column_cursor cursor;
	for (size_t w = 0; w < sizeof(wants) / sizeof(wants[0]); w++) {
		memset(bits, 0xa5, sizeof(bits));
		assert_true(column_cursor_open(&cursor, at, at + bytes, count, room));
		assert_true(column_match(&cursor, &wants[w], min, max, bits));
		for (uint32_t i = 0; i < (count + 63) / 64 * 64; i++)
			if ((bits[i / 64] >> i % 64 & 1) != (i < count && wanted_by(&wants[w], values[i])))
				fail_msg("want %zu, value %u of %u, encoding %u", w, i, count, at[0]);
	}
	/* a value outside what the zone map says is found, whichever is wanted */
	if (min != max) {
		assert_true(column_cursor_open(&cursor, at, at + bytes, count, room));
		assert_false(column_match(&cursor, &wants[0], min + 1, max, bits));
		assert_true(column_cursor_open(&cursor, at, at + bytes, count, room));
		assert_false(column_match(&cursor, &wants[0], min, max - 1, bits));
	}
}

static void gather_check(const uint8_t *at, uint64_t bytes, uint32_t count, uint64_t *room)
{
	static uint32_t row[COLUMN_VALUES_MAX];
	for (uint32_t step = 1; step < 3000; step = step * 7 + 1) {
		struct column_cursor cursor;
		uint32_t rows = 0;
		for (uint64_t i = sample_mix(step) % step; i < count; i += 1 + sample_mix(i) % step)
			row[rows++] = (uint32_t)i;
		assert_true(column_cursor_open(&cursor, at, at + bytes, count, room));
		assert_true(column_gather(&cursor, row, rows, found));
		for (uint32_t i = 0; i < rows; i++)
			if (found[i] != values[row[i]])
				fail_msg("row %u of %u, encoding %u", row[i], count, at[0]);
	}
}

/* Streams read in pieces, asked for rows and for values, by each kind of vectors. */
static void test_pieces(void **state)
{
	static const uint32_t counts[] = {1, 7, 63, 64, 65, 1000, 1023, 1024, 1025, 4096, 5003, 65536};
	(void)state;
	for (const struct column_vectors *vectors = column_vectors_all(); vectors->name; vectors++) {
		column_vectors_choose(vectors);
		for (int shape = 0; shape < SHAPES; shape++)
			for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
				for (int how = 0; how < 3; how++) {
					const uint32_t count = counts[c];
					struct buffer out = {0};
					struct column_cursor cursor;
					shape_make(shape, 17 * c + 3, count);
					if (how == 0)
						column_encode(scratch, &out, values, count);
					else if (how == 1)
						column_encode_plain(scratch, &out, values, count);
					else
						column_encode_planes(&out, values, count);
					uint8_t *exact = malloc(out.bytes + COLUMN_SLACK);
					memcpy(exact, out.at, out.bytes);
					memset(exact + out.bytes, 0x5a, COLUMN_SLACK);
					uint32_t needed = column_cursor_room(exact, exact + out.bytes, count);
					uint64_t *room = malloc(needed * sizeof(*room) + 1);
					assert_true(column_cursor_open(&cursor, exact, exact + out.bytes, count, room));
					assert_ptr_equal(cursor.end, exact + out.bytes);
					for (uint32_t done = 0; done < count; done += COLUMN_PIECE) {
						uint64_t piece[COLUMN_PIECE];
						uint32_t some = count - done < COLUMN_PIECE ? count - done : COLUMN_PIECE;
						assert_true(column_cursor_next(&cursor, piece, some));
						assert_memory_equal(piece, values + done, some * sizeof(piece[0]));
					}
					match_check(exact, out.bytes, count, room);
					gather_check(exact, out.bytes, count, room);
					for (uint64_t cut = 0; cut < out.bytes; cut += 1 + out.bytes / 9)
						assert_false(column_cursor_open(&cursor, exact, exact + cut, count, room));
					free(room);
					free(exact);
					buffer_fini(&out);
				}
	}
	column_vectors_choose(column_vectors_all());
}

/* Every width and number of values, by each kind of vectors, against bits taken one by one; nothing behind the slack is read. */
static void test_vectors(void **state)
{
	enum { COUNT = 131 };
	(void)state;
	assert_non_null(column_vectors_all()->name);
	for (const struct column_vectors *vectors = column_vectors_all(); vectors->name; vectors++) {
		column_vectors_choose(vectors);
		for (uint32_t width = 0; width <= 64; width++)
			for (uint32_t count = 1; count <= COUNT; count += count < 20 ? 1 : 37) {
				const uint64_t bytes = column_packed_bytes(count, width), base = sample_mix(width);
				uint8_t *packed = malloc(bytes + COLUMN_SLACK);
				uint64_t *to = malloc(count * sizeof(*to)), sum = base;
				for (uint64_t i = 0; i < bytes + COLUMN_SLACK; i++)
					packed[i] = (uint8_t)sample_mix(i * 65 + width);
				column_unpack(packed, width, base, to, count);
				for (uint32_t i = 0; i < count; i++) {
					uint64_t value = 0;
					for (uint32_t b = 0; b < width; b++) {
						uint64_t bit = (uint64_t)i * width + b;
						value |= (uint64_t)(packed[bit / 8] >> bit % 8 & 1) << b;
					}
					if (to[i] != base + value)
						fail_msg("%s: width %u, value %u of %u", vectors->name, width, i, count);
					if (width)
						assert_int_equal(column_packed_at(packed, width, i), value);
					values[i] = to[i];
				}
				for (int zigzag = 0; zigzag < 2; zigzag++, sum = base) {
					memcpy(to, values, count * sizeof(*to));
					uint64_t last = column_add_up(to, count, base, zigzag);
					for (uint32_t i = 0; i < count; i++) {
						sum += zigzag ? column_unzigzag(values[i]) : values[i];
						if (to[i] != sum)
							fail_msg("%s: sum %u of %u", vectors->name, i, count);
					}
					assert_int_equal(last, sum);
				}
				free(to);
				free(packed);
			}
	}
	column_vectors_choose(column_vectors_all());
}

/* Widths of all three kinds, by each kind of vectors, against bits counted one by one. */
static void test_widths(void **state)
{
	static const uint32_t counts[] = {1, 2, 8, 9, 10, 17, 1000, 4099};
	(void)state;
	assert_non_null(column_width_vectors_all()->name);
	for (const struct column_width_vectors *vectors = column_width_vectors_all(); vectors->name; vectors++) {
		column_width_vectors_choose(vectors);
		for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
			struct column_widths widths[COLUMN_WIDTHS], expected[COLUMN_WIDTHS] = {0};
			const uint64_t min = 1000, delta_min = -(uint64_t)77;
			for (uint32_t i = 0; i < counts[c]; i++)
				values[i] = min + (i % 5 ? sample_mix(i) >> i % 65 % 64 : i % 3);
			for (uint32_t i = 1; i < counts[c]; i++) {
				const uint64_t difference = values[i] - values[i - 1];
				const uint64_t of[COLUMN_WIDTHS] = {[COLUMN_WIDTHS_ABOVE] = values[i] - min,
								    [COLUMN_WIDTHS_RISE] = difference - delta_min,
								    [COLUMN_WIDTHS_ZIGZAG] = column_zigzag(difference)};
				for (int w = 0; w < COLUMN_WIDTHS; w++) {
					uint32_t bits = 0;
					while (bits < 64 && of[w] >> bits)
						bits++;
					expected[w].count[bits]++;
				}
			}
			column_widths(values, counts[c], min, delta_min, widths);
			if (memcmp(widths, expected, sizeof(widths)))
				fail_msg("%s: widths of %u values", vectors->name, counts[c]);
		}
	}
	column_width_vectors_choose(column_width_vectors_all());
}

/* Patches that do not ascend, or lie beyond the values, and codes beyond the dictionary. */
static void test_hostile(void **state)
{
	static const uint16_t positions[][2] = {{5, 5}, {9, 3}, {3, 1000}, {2000, 2001}, {1500, 7}};
	uint64_t bits[16], room[4];
	const uint32_t row[2] = {3, 999};
	(void)state;
	for (uint32_t width = 0; width < 3; width += 2)
		for (size_t i = 0; i < sizeof(positions) / sizeof(positions[0]); i++) {
			const struct column_head head = {
				.encoding = COLUMN_PATCHED, .width = (uint8_t)width, .width_patch = 8, .extra = 2};
			struct column_cursor cursor;
			struct buffer out = {0};
			buffer_put(&out, &head, sizeof(head));
			memset(buffer_reserve(&out, 250), 0, 250);
			out.bytes += width * 125;
			buffer_put(&out, positions[i], sizeof(positions[i]));
			buffer_put(&out, "ab", 2);
			buffer_reserve(&out, COLUMN_SLACK);
			const uint8_t *end = out.at + out.bytes;
			const struct column_want want = {.span = 1};
			assert_null(column_decode(out.at, end, NULL, found, 1000));
			assert_true(column_cursor_open(&cursor, out.at, end, 1000, NULL));
			assert_false(column_match(&cursor, &want, 0, UINT64_MAX, bits));
			assert_true(column_cursor_open(&cursor, out.at, end, 1000, NULL));
			assert_false(column_gather(&cursor, row, 2, found));
			buffer_fini(&out);
		}
	const struct column_head head = {.encoding = COLUMN_DICTIONARY, .extra = 4};
	const uint64_t entry[4] = {1, 2, 3, 4}, code[8] = {0, 1, 2, 3, 4, 0, 0, 0};
	const uint32_t bad[1] = {4}, good[2] = {3, 5};
	struct column_cursor cursor;
	struct buffer out = {0};
	buffer_put(&out, &head, sizeof(head));
	column_encode_plain(scratch, &out, entry, 4);
	column_encode_plain(scratch, &out, code, 8);
	buffer_reserve(&out, COLUMN_SLACK);
	const uint8_t *end = out.at + out.bytes;
	assert_null(column_decode(out.at, end, NULL, found, 8));
	assert_true(column_cursor_open(&cursor, out.at, end, 8, room));
	assert_false(column_gather(&cursor, bad, 1, found));
	assert_true(column_cursor_open(&cursor, out.at, end, 8, room));
	assert_true(column_gather(&cursor, good, 2, found));
	assert_int_equal(found[0], 4);
	assert_int_equal(found[1], 1);
	assert_false(column_cursor_open(&cursor, out.at, end, 8, NULL));
	buffer_fini(&out);
}

/* The sizes that the shapes deserve, in bits a value. */
static void test_sizes(void **state)
{
	static const double bits[SHAPES] = {0, 3, 64, 6, 5, 0.4, 5.1, 0.1, 0.1, 64, 5, 2.1};
	(void)state;
	for (int shape = 0; shape < SHAPES; shape++) {
		struct buffer out = {0};
		shape_make(shape, 77, COLUMN_VALUES_MAX);
		column_encode(scratch, &out, values, COLUMN_VALUES_MAX);
		double found_bits = (double)out.bytes * 8 / COLUMN_VALUES_MAX;
		if (found_bits > bits[shape] + 0.1)
			fail_msg("shape %d takes %.2f bits a value", shape, found_bits);
		buffer_fini(&out);
	}
}

static void test_runs(void **state)
{
	struct buffer out = {0};
	uint64_t *value = malloc(sizeof(found)), *length = malloc(sizeof(found)), sum = 0;
	(void)state;
	shape_make(5, 1, 10000);
	column_encode(scratch, &out, values, 10000);
	buffer_reserve(&out, COLUMN_SLACK);
	uint32_t runs = column_decode_runs(out.at, out.at + out.bytes, value, length, 10000);
	assert_int_equal(runs, 100);
	for (uint32_t i = 0; i < runs; i++) {
		assert_int_equal(value[i], values[sum]);
		sum += length[i];
	}
	assert_int_equal(sum, 10000);
	assert_int_equal(column_decode_runs(out.at, out.at + out.bytes, value, length, 9999), 0);
	assert_int_equal(column_decode_runs(out.at, out.at + out.bytes, value, length, 10001), 0);
	buffer_fini(&out);

	/* Lengths that run over the block: refused, and nothing behind it is touched. */
	static const uint64_t hostile[][2] = {{999, 5}, {1000, 0}, {UINT64_MAX, 0},          {0, 999},
					      {998, 1}, {0, 997},  {(1ULL << 32) + 499, 499}};
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		const struct column_head head = {.encoding = COLUMN_RUNS, .extra = 2};
		const uint64_t two[2] = {7, 8};
		buffer_put(&out, &head, sizeof(head));
		column_encode_plain(scratch, &out, two, 2);
		column_encode_plain(scratch, &out, hostile[i], 2);
		buffer_reserve(&out, COLUMN_SLACK);
		memset(found, 0x5a, sizeof(found));
		assert_null(column_decode(out.at, out.at + out.bytes, NULL, found, 1000));
		for (int at = 1000; at < 3000; at++)
			assert_int_equal(found[at], 0x5a5a5a5a5a5a5a5a);
		assert_int_equal(column_decode_runs(out.at, out.at + out.bytes, value, length, 1000), 0);
		buffer_fini(&out);
	}
	free(value);
	free(length);
}

/* A function of another column, with rows that differ. */
static void test_mapped(void **state)
{
	enum { ENTRIES = 100, COUNT = 5000 };
	static uint64_t table[ENTRIES], parent[COUNT], position[2] = {17, 4999}, other[2] = {1ULL << 40, 3};
	const struct column_map map = {.parent = parent, .table = table, .entries = ENTRIES};
	(void)state;
	for (int i = 0; i < ENTRIES; i++)
		table[i] = sample_mix((uint64_t)i);
	for (int i = 0; i < COUNT; i++)
		parent[i] = sample_mix((uint64_t)i + 999) % ENTRIES;
	struct buffer out = {0};
	const struct column_head head = {.encoding = COLUMN_MAPPED, .extra = 2};
	buffer_put(&out, &head, sizeof(head));
	column_encode_plain(scratch, &out, position, 2);
	column_encode_plain(scratch, &out, other, 2);
	buffer_reserve(&out, COLUMN_SLACK);
	const uint8_t *end = out.at + out.bytes;
	assert_ptr_equal(column_decode(out.at, end, &map, found, COUNT), end);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(found[i], i == 17 ? other[0] : i == 4999 ? other[1] : table[parent[i]]);
	assert_null(column_decode(out.at, end, NULL, found, COUNT));
	assert_null(column_decode(out.at, end, &map, found, 4999)); /* a position beyond the rows */
	parent[40] = ENTRIES;
	assert_null(column_decode(out.at, end, &map, found, COUNT));
	buffer_fini(&out);
}

/* Bursts give the indexes that one text after the other gets, whatever meets in one burst. */
static void test_text_bursts(void **state)
{
	(void)state;
	struct text_collection one = {.seed = 9}, many = {.seed = 9};
	for (uint32_t n = 0, left = 60000; left; n++) {
		char text[TEXT_BURST][160];
		const char *at[TEXT_BURST];
		uint16_t bytes[TEXT_BURST];
		uint32_t index[TEXT_BURST], count = 1 + (uint32_t)(sample_mix(n) % TEXT_BURST);
		count = count < left ? count : left;
		for (uint32_t i = 0; i < count; i++) {
			const uint64_t r = sample_mix(((uint64_t)n << 8 | i) + 1);
			/* all lengths that are compared in another way, and texts that differ in their first or last byte alone */
			bytes[i] = (uint16_t)(r % 6 ? r >> 8 & 15 : r >> 8 & 127);
			memset(text[i], 'a', sizeof(text[i]));
			text[i][0] = (char)('a' + (r >> 20) % 3);
			if (bytes[i])
				text[i][bytes[i] - 1] = (char)('a' + (r >> 24) % 5);
			text[i][bytes[i] / 2] = (char)('a' + (r >> 28) % 7);
			at[i] = text[i];
		}
		assert_true(text_add_burst(&many, at, bytes, count, index));
		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(index[i], text_add(&one, at[i], bytes[i]));
		left -= count;
	}
	assert_int_equal(one.count, many.count);
	for (uint32_t i = 0; i < one.count; i++) {
		assert_int_equal(one.entry[i].times, many.entry[i].times);
		assert_int_equal(one.entry[i].bytes, many.entry[i].bytes);
		assert_memory_equal(one.heap.at + one.entry[i].at, many.heap.at + many.entry[i].at, one.entry[i].bytes);
	}
	text_collection_fini(&one);
	text_collection_fini(&many);
}

static void test_texts(void **state)
{
	(void)state;
	for (int order = 0; order < TEXT_BY_ARRIVAL; order++) {
		enum { TEXTS = 70000 }; /* more than a stream holds */
		struct text_collection texts = {.seed = 5};
		struct buffer out = {0};
		char text[64];
		for (uint32_t i = 0; i < TEXTS; i++) {
			int bytes = i % 3 == 0   ? snprintf(text, sizeof(text), "device-%u", i)
				    : i % 3 == 1 ? snprintf(text, sizeof(text), "%08x-0000-4000-8000-%012x", i, i * 7)
						 : snprintf(text, sizeof(text), "%.*s", (int)(sample_mix(i) % 9), "Mozilla/5.0");
			uint32_t index = text_add(&texts, text, (uint32_t)bytes);
			assert_int_equal(text_add(&texts, text, (uint32_t)bytes), index);
			assert_int_equal(text_find(&texts, text, (uint32_t)bytes), index);
		}
		assert_int_equal(text_find(&texts, "nobody", 6), UINT32_MAX);
		uint32_t *code = malloc(texts.count * sizeof(*code));
		struct text_entry *sorted = malloc(texts.count * sizeof(*sorted));
		assert_int_equal(text_order(&texts, (enum text_order)order, code, NULL), 0);
		for (uint32_t i = 0; i < texts.count; i++)
			sorted[code[i]] = texts.entry[i];
		memcpy(texts.entry, sorted, texts.count * sizeof(*sorted));
		assert_int_equal(text_dictionary_put(&texts, scratch, &out), 0);
		buffer_reserve(&out, COLUMN_SLACK);
		struct text_dictionary read;
		assert_int_equal(text_dictionary_read(&read, out.at, out.bytes, texts.count, 64), 0);
		for (uint32_t i = 0; i < texts.count; i++) {
			struct tp_str one = text_of(&read, i);
			assert_int_equal(one.bytes, texts.entry[i].bytes);
			assert_memory_equal(one.at, texts.heap.at + texts.entry[i].at, one.bytes);
			if (order == TEXT_BY_FREQUENCY && i && texts.entry[i].uuid == texts.entry[i - 1].uuid)
				assert_true(texts.entry[i].times <= texts.entry[i - 1].times);
		}
		text_dictionary_fini(&read);
		assert_int_equal(text_dictionary_read(&read, out.at, out.bytes, texts.count - 1, 64), -EBADMSG);
		assert_int_equal(text_dictionary_read(&read, out.at, out.bytes, texts.count, 35), -EBADMSG);
		assert_int_equal(text_dictionary_read(&read, out.at, out.bytes - 1, texts.count, 64), -EBADMSG);
		free(code);
		free(sorted);
		buffer_fini(&out);
		text_collection_fini(&texts);
	}
}

/* Never a no for a key that is in; a yes for about one in 256 of those that are not. */
static void test_filter(void **state)
{
	static const uint32_t counts[] = {1, 2, 3, 10, 100, 1000, 65536, 300000};
	(void)state;
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		uint32_t count = counts[c], wrong = 0;
		uint64_t *key = malloc(count * sizeof(*key));
		struct buffer out = {0};
		for (uint32_t i = 0; i < count; i++)
			key[i] = id_filter_key(sample_mix(i), i, i % 60);
		assert_true(id_filter_build(&out, key, count));
		assert_true(id_filter_sane(out.at, out.bytes));
		assert_false(id_filter_sane(out.at, out.bytes - 1));
		for (uint32_t i = 0; i < count; i++)
			assert_true(id_filter_maybe(out.at, key[i]));
		for (uint32_t i = 0; i < 100000; i++)
			wrong += id_filter_maybe(out.at, id_filter_key(sample_mix(i), i, 99));
		if (wrong > 100000 / 256 * 5 / 4)
			fail_msg("%u keys: %u of 100000 others are taken for known", count, wrong);
		if (count >= 65536 && out.bytes * 8 > count * 10)
			fail_msg("%u keys take %lu bytes", count, out.bytes);
		free(key);
		buffer_fini(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams), cmocka_unit_test(test_pieces),  cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_widths),  cmocka_unit_test(test_hostile), cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_runs),    cmocka_unit_test(test_mapped),  cmocka_unit_test(test_text_bursts),
		cmocka_unit_test(test_texts),   cmocka_unit_test(test_filter),
	};
	scratch = column_scratch_new();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	column_scratch_free(scratch);
	return failed;
}
