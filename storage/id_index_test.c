/*
 * The index of ids against a plain walk: ids of many kinds are all found with just their rows, others are not, all come back in the order
 * of the rows, and bytes that are no index are refused or do no harm.
 */
#include "id_index.h"
#include "sample.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum kind { RANDOM, UUID4, UUID7, COUNTING, ONE_BUCKET, FEW, ONE, EVERY_OTHER_BIT, KINDS };

static struct tp_id id_make(enum kind kind, uint64_t n)
{
	uint64_t hi = sample_mix(n + 7), lo = sample_mix(hi);
	switch (kind) {
	case UUID4:
		return (struct tp_id){(hi & ~0xf000ULL) | 0x4000, lo >> 2 | 1ULL << 63};
	case UUID7:
		return (struct tp_id){(1700000000000 + n / 50) << 16 | 0x7000 | (hi & 0xfff), lo >> 2 | 1ULL << 63};
	case COUNTING:
		return (struct tp_id){0, n * 3 + 1};
	case ONE_BUCKET: /* what somebody sends who wants look-ups to be slow */
		return n ? (struct tp_id){1, lo} : (struct tp_id){UINT64_MAX, UINT64_MAX};
	case FEW:
		return (struct tp_id){0, sample_mix(n % 5)};
	case ONE:
		return (struct tp_id){5, 6};
	case EVERY_OTHER_BIT:
		return (struct tp_id){hi & 0x5555555555555555, lo & 0x5555555555555555};
	default:
		return (struct tp_id){hi, lo};
	}
}

static bool same(struct tp_id a, struct tp_id b)
{
	return a.hi == b.hi && a.lo == b.lo;
}

static struct tp_id *ids_make(enum kind kind, uint32_t count)
{
	struct tp_id *id = calloc(count, sizeof(*id));
	for (uint32_t i = 0; i < count; i++)
		id[i] = id_make(kind, i);
	return id;
}

static void index_make(struct buffer *out, const struct tp_id *id, uint32_t count)
{
	struct id_place *sorted = id_index_sort(id, count, NULL);
	assert_non_null(sorted);
	buffer_put(out, "before", 6); /* appends */
	id_index_put(out, sorted, count);
	memmove(out->at, out->at + 6, out->bytes -= 6);
	free(sorted);
}

static void check(enum kind kind, uint32_t count)
{
	struct tp_id *id = ids_make(kind, count), *all = malloc(count * sizeof(*all));
	struct buffer out = {0};
	struct id_index index;
	uint32_t first, step = count > 500 ? count / 500 : 1;
	index_make(&out, id, count);
	/* Of exactly this size, so that a sanitizer sees a step over its end. */
	uint8_t *bytes = malloc(out.bytes);
	memcpy(bytes, out.at, out.bytes);
	assert_int_equal(id_index_open(&index, bytes, out.bytes, count), 0);
	assert_true(id_index_all(&index, all));
	assert_memory_equal(all, id, count * sizeof(*id));
	for (uint32_t i = 0; i < count; i += step) {
		uint32_t found = id_index_find(&index, id[i], &first), rows = 0, before = 0;
		bool mine = false;
		for (uint32_t r = 0; r < found; r++) {
			uint32_t row = id_index_row(&index, first + r);
			assert_true(row < count && same(id[row], id[i]));
			assert_true(!r || row > before);
			mine |= row == i;
			before = row;
		}
		assert_true(mine);
		if (kind == FEW || kind == ONE || count <= 300) {
			for (uint32_t r = 0; r < count; r++)
				rows += same(id[r], id[i]);
			assert_int_equal(found, rows);
		}
		/* One bit off, or one more: there only if it is another one's. */
		struct tp_id other = id[i];
		other.lo += 1;
		other.hi ^= (uint64_t)(i % 3 == 1) << i % 64;
		found = id_index_find(&index, other, &first);
		for (uint32_t r = 0; r < found; r++)
			assert_true(same(id[id_index_row(&index, first + r)], other));
	}
	assert_int_equal(id_index_find(&index, (struct tp_id){~id[0].hi, ~id[0].lo}, &first), 0);
	if (count >= 100000 && (kind == UUID4 || kind == RANDOM || kind == UUID7)) {
		uint64_t most = kind == UUID4 ? 126 : kind == RANDOM ? 132 : 106;
		if (out.bytes * 8 > count * most)
			fail_msg("kind %d: %u ids take %lu bytes", kind, count, out.bytes);
	}
	id_index_close(&index);
	free(bytes);
	free(id);
	free(all);
	buffer_fini(&out);
}

static void test_kinds(void **state)
{
	static const uint32_t counts[] = {1, 2, 3, 63, 64, 65, 100, 300, 512, 513, 4096, 131072, 170001};
	(void)state;
	for (enum kind kind = 0; kind < KINDS; kind++)
		for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
			if (counts[c] <= 4096 || kind <= UUID7 || kind == ONE_BUCKET || counts[c] == 131072)
				check(kind, counts[c]);
}

/* Any change of the bytes is refused, or gives rows and ids within bounds. */
static void test_damage(void **state)
{
	enum { COUNT = 700 };
	struct tp_id *id = ids_make(UUID4, COUNT), *all = malloc(COUNT * sizeof(*all));
	struct buffer out = {0};
	uint32_t refused = 0, disorder = 0, first;
	(void)state;
	index_make(&out, id, COUNT);
	uint8_t *bytes = malloc(out.bytes);
	for (uint64_t n = 0; n < 8000; n++) {
		struct id_index index;
		memcpy(bytes, out.at, out.bytes);
		uint64_t r = sample_mix(n), at = n % 4 ? r % out.bytes : r % 64;
		bytes[at] ^= (uint8_t)(1 + (r >> 32) % 255);
		if (id_index_open(&index, bytes, out.bytes, COUNT)) {
			refused++;
			continue;
		}
		disorder += !id_index_all(&index, all);
		uint32_t found = id_index_find(&index, id[r % COUNT], &first);
		assert_true(found <= COUNT && (!found || first + found <= COUNT));
		for (uint32_t i = 0; i < found; i++)
			id_index_row(&index, first + i);
		id_index_close(&index);
	}
	/* heads and counts of bits are refused; rows given twice and rests out of order are seen when all are asked for */
	assert_true(refused > 1000 && disorder > 400);
	struct id_index index;
	assert_int_equal(id_index_open(&index, out.at, out.bytes - 1, COUNT), -EBADMSG);
	assert_int_equal(id_index_open(&index, out.at, out.bytes, COUNT + 1), -EBADMSG);
	assert_int_equal(id_index_open(&index, out.at, 63, COUNT), -EBADMSG);
	free(bytes);
	free(id);
	free(all);
	buffer_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds), cmocka_unit_test(test_damage)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
