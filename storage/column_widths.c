/*
 * Counting widths: column_widths.h. A width is 64 less the leading zeros. AVX-512 counts those of eight values at once, whose widths then
 * are the bytes of a word; what is left is to add to a table for each. With AVX2 alone it is one value after the other, but with the
 * instruction that knows what to make of zero.
 *
 * Threads: any; chosen before main().
 */
#include "column_widths.h"

#include "column.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

static const struct column_width_vectors *chosen;

static inline __attribute__((always_inline)) void widths_count(const uint64_t *values, uint32_t count, uint64_t min,
							       uint64_t delta_min, struct column_width_tables *to)
{
	for (uint32_t i = 0; i < count; i++) {
		const uint64_t difference = values[i] - values[(int64_t)i - 1];
		const uint32_t t = i % COLUMN_WIDTH_TABLES;
		to->of[COLUMN_WIDTHS_ABOVE][t].count[column_width(values[i] - min)]++;
		to->of[COLUMN_WIDTHS_RISE][t].count[column_width(difference - delta_min)]++;
		to->of[COLUMN_WIDTHS_ZIGZAG][t].count[column_width(column_zigzag(difference))]++;
	}
}

static void count_plain(const uint64_t *values, uint32_t groups, uint64_t min, uint64_t delta_min, struct column_width_tables *to)
{
	widths_count(values, 8 * groups, min, delta_min, to);
}

#ifdef __x86_64__
__attribute__((target("avx2,bmi,bmi2,lzcnt"))) static void count_avx2(const uint64_t *values, uint32_t groups, uint64_t min,
								      uint64_t delta_min, struct column_width_tables *to)
{
	widths_count(values, 8 * groups, min, delta_min, to);
}

#define AVX512 __attribute__((target("avx512f,avx512cd,bmi,bmi2")))

/* The widths of eight values, a byte each. */
AVX512 static inline uint64_t eight_widths(__m512i values)
{
	const __m512i widths = _mm512_sub_epi64(_mm512_set1_epi64(64), _mm512_lzcnt_epi64(values));
	return (uint64_t)_mm_cvtsi128_si64(_mm512_cvtepi64_epi8(widths));
}

static inline __attribute__((always_inline)) void eight_add(struct column_widths to[COLUMN_WIDTH_TABLES], uint64_t widths)
{
	for (uint32_t j = 0; j < 8; j++, widths >>= 8)
		to[j % COLUMN_WIDTH_TABLES].count[(uint8_t)widths]++;
}

AVX512 static void count_avx512(const uint64_t *values, uint32_t groups, uint64_t min, uint64_t delta_min,
				struct column_width_tables *to)
{
	const __m512i least = _mm512_set1_epi64((int64_t)min), least_delta = _mm512_set1_epi64((int64_t)delta_min);
	for (uint32_t g = 0; g < groups; g++, values += 8) {
		const __m512i here = _mm512_loadu_si512(values);
		const __m512i difference = _mm512_sub_epi64(here, _mm512_loadu_si512(values - 1));
		const __m512i zigzag = _mm512_xor_si512(_mm512_slli_epi64(difference, 1), _mm512_srai_epi64(difference, 63));
		eight_add(to->of[COLUMN_WIDTHS_ABOVE], eight_widths(_mm512_sub_epi64(here, least)));
		eight_add(to->of[COLUMN_WIDTHS_RISE], eight_widths(_mm512_sub_epi64(difference, least_delta)));
		eight_add(to->of[COLUMN_WIDTHS_ZIGZAG], eight_widths(zigzag));
	}
	_mm256_zeroupper();
}
#endif

#ifdef __x86_64__
/* Not every compiler's __builtin_cpu_supports() knows it. */
static bool has_lzcnt(void)
{
	unsigned int eax, ebx, ecx, edx;
	return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && ecx & bit_LZCNT;
}
#endif

const struct column_width_vectors *column_width_vectors_all(void)
{
	static const struct column_width_vectors all[] = {
#ifdef __x86_64__
		{"AVX-512", count_avx512},
		{"AVX2", count_avx2},
#endif
		{"none", count_plain},
		{0},
	};
#ifdef __x86_64__
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2") || !has_lzcnt())
		return all + 2;
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512cd"))
		return all + 1;
#endif
	return all;
}

void column_width_vectors_choose(const struct column_width_vectors *vectors)
{
	chosen = vectors;
}

static void __attribute__((constructor)) choose(void)
{
	chosen = column_width_vectors_all();
}

void column_widths(const uint64_t *values, uint32_t count, uint64_t min, uint64_t delta_min,
		   struct column_widths widths[COLUMN_WIDTHS])
{
	const uint32_t groups = (count - 1) / 8;
	struct column_width_tables tables;
	memset(&tables, 0, sizeof(tables));
	chosen->count(values + 1, groups, min, delta_min, &tables);
	widths_count(values + 1 + 8 * groups, count - 1 - 8 * groups, min, delta_min, &tables);
	for (int of = 0; of < COLUMN_WIDTHS; of++)
		for (uint32_t w = 0; w <= 64; w++) {
			widths[of].count[w] = 0;
			for (uint32_t t = 0; t < COLUMN_WIDTH_TABLES; t++)
				widths[of].count[w] += tables.of[of][t].count[w];
		}
}
