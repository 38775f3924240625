/*
 * Unpacking: eight values of `width` bits fill exactly `width` bytes, so that all groups of eight have the same shifts. Up to 56 bits a
 * value lies within the eight bytes that start where its first bit lies: bytes are shuffled there, shifted and masked.
 *
 * Sums: those within a group by three shifted additions, which wait for nothing; only the sum of all before goes from group to group.
 *
 * What is read of a group lies within the bytes that COLUMN_SLACK promises behind the last one; the last values, which are no whole
 * group, one by one.
 *
 * Threads: any; chosen before main().
 */
#include "column_unpack.h"

#include "column.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { NARROW_MAX = 56 };

static const struct column_vectors *chosen;

static void unpack_plain(const uint8_t *at, uint32_t width, uint64_t base, uint64_t *to, uint32_t groups)
{
	const uint64_t mask = ((uint64_t)1 << width) - 1;
	uint32_t from[8], shift[8];
	for (uint32_t j = 0; j < 8; j++) {
		from[j] = j * width / 8;
		shift[j] = j * width % 8;
	}
	for (uint32_t g = 0; g < groups; g++, at += width, to += 8)
		for (uint32_t j = 0; j < 8; j++)
			to[j] = base + (column_load64(at + from[j]) >> shift[j] & mask);
}

static uint64_t add_up_plain(uint64_t *to, uint32_t groups, uint64_t value, bool zigzag)
{
	if (zigzag)
		for (uint32_t i = 0; i < 8 * groups; i++)
			to[i] = value += column_unzigzag(to[i]);
	else
		for (uint32_t i = 0; i < 8 * groups; i++)
			to[i] = value += to[i];
	return value;
}

#ifdef __x86_64__
/* Two values of up to 56 bits start within 8 bytes of one another, so that 16 bytes hold both. */
__attribute__((target("avx2"))) static void unpack_avx2(const uint8_t *at, uint32_t width, uint64_t base, uint64_t *to,
							uint32_t groups)
{
	uint32_t pair[4];
	_Alignas(32) uint8_t place[2][32];
	_Alignas(32) uint64_t shift[2][4];
	for (uint32_t j = 0; j < 8; j++) {
		uint32_t from = j * width / 8;
		pair[j / 2] = j % 2 ? pair[j / 2] : from;
		for (uint32_t b = 0; b < 8; b++)
			place[j / 4][j % 4 * 8 + b] = (uint8_t)(from - pair[j / 2] + b);
		shift[j / 4][j % 4] = j * width % 8;
	}
	const __m256i place_low = _mm256_load_si256((const __m256i *)(const void *)place[0]);
	const __m256i place_high = _mm256_load_si256((const __m256i *)(const void *)place[1]);
	const __m256i shift_low = _mm256_load_si256((const __m256i *)(const void *)shift[0]);
	const __m256i shift_high = _mm256_load_si256((const __m256i *)(const void *)shift[1]);
	const __m256i mask = _mm256_set1_epi64x((long long)(((uint64_t)1 << width) - 1));
	const __m256i bases = _mm256_set1_epi64x((long long)base);
	for (uint32_t g = 0; g < groups; g++, at += width, to += 8) {
		__m256i low = _mm256_loadu2_m128i((const __m128i *)(const void *)(at + pair[1]),
						  (const __m128i *)(const void *)(at + pair[0]));
		__m256i high = _mm256_loadu2_m128i((const __m128i *)(const void *)(at + pair[3]),
						   (const __m128i *)(const void *)(at + pair[2]));
		low = _mm256_srlv_epi64(_mm256_shuffle_epi8(low, place_low), shift_low);
		high = _mm256_srlv_epi64(_mm256_shuffle_epi8(high, place_high), shift_high);
		_mm256_storeu_si256((__m256i *)(void *)to, _mm256_add_epi64(_mm256_and_si256(low, mask), bases));
		_mm256_storeu_si256((__m256i *)(void *)(to + 4), _mm256_add_epi64(_mm256_and_si256(high, mask), bases));
	}
	_mm256_zeroupper();
}

__attribute__((target("avx2"))) static inline __m256i unzigzag_avx2(__m256i z)
{
	const __m256i zero = _mm256_setzero_si256();
	return _mm256_xor_si256(_mm256_srli_epi64(z, 1), _mm256_sub_epi64(zero, _mm256_and_si256(z, _mm256_set1_epi64x(1))));
}

/* a, a+b, a+b+c, a+b+c+d */
__attribute__((target("avx2"))) static inline __m256i four_add_up(__m256i four)
{
	const __m256i zero = _mm256_setzero_si256();
	four = _mm256_add_epi64(four, _mm256_blend_epi32(_mm256_permute4x64_epi64(four, 0x90), zero, 0x03));
	return _mm256_add_epi64(four, _mm256_blend_epi32(_mm256_permute4x64_epi64(four, 0x40), zero, 0x0f));
}

__attribute__((target("avx2"))) static uint64_t add_up_avx2(uint64_t *to, uint32_t groups, uint64_t value, bool zigzag)
{
	__m256i before = _mm256_set1_epi64x((long long)value);
	for (uint32_t g = 0; g < 2 * groups; g++, to += 4) {
		__m256i four = _mm256_loadu_si256((const __m256i *)(const void *)to);
		four = four_add_up(zigzag ? unzigzag_avx2(four) : four);
		_mm256_storeu_si256((__m256i *)(void *)to, _mm256_add_epi64(four, before));
		before = _mm256_add_epi64(before, _mm256_permute4x64_epi64(four, 0xff));
	}
	value = (uint64_t)_mm256_extract_epi64(before, 0);
	_mm256_zeroupper();
	return value;
}

/* A group of eight is one load, of no more bytes than are needed. */
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vbmi"))) static void
unpack_avx512(const uint8_t *at, uint32_t width, uint64_t base, uint64_t *to, uint32_t groups)
{
	const __m512i bit = _mm512_mullo_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi64((long long)width));
	const __m512i from = _mm512_mullo_epi64(_mm512_srli_epi64(bit, 3), _mm512_set1_epi64((long long)0x0101010101010101ULL));
	const __m512i place = _mm512_add_epi64(from, _mm512_set1_epi64((long long)0x0706050403020100ULL));
	const __m512i shift = _mm512_and_si512(bit, _mm512_set1_epi64(7));
	const __m512i mask = _mm512_set1_epi64((long long)(((uint64_t)1 << width) - 1));
	const __m512i bases = _mm512_set1_epi64((long long)base);
	const uint32_t bytes = 7 * width / 8 + 8;
	const __mmask64 read = bytes < 64 ? ((uint64_t)1 << bytes) - 1 : UINT64_MAX;
	for (uint32_t g = 0; g < groups; g++, at += width, to += 8) {
		__m512i eight = _mm512_permutexvar_epi8(place, _mm512_maskz_loadu_epi8(read, at));
		eight = _mm512_and_si512(_mm512_srlv_epi64(eight, shift), mask);
		_mm512_storeu_si512(to, _mm512_add_epi64(eight, bases));
	}
	_mm256_zeroupper();
}

__attribute__((target("avx512f"))) static uint64_t add_up_avx512(uint64_t *to, uint32_t groups, uint64_t value, bool zigzag)
{
	const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi64(1), last = _mm512_set1_epi64(7);
	__m512i before = _mm512_set1_epi64((long long)value);
	for (uint32_t g = 0; g < groups; g++, to += 8) {
		__m512i eight = _mm512_loadu_si512(to);
		if (zigzag)
			eight = _mm512_xor_si512(_mm512_srli_epi64(eight, 1), _mm512_sub_epi64(zero, _mm512_and_si512(eight, one)));
		eight = _mm512_add_epi64(eight, _mm512_alignr_epi64(eight, zero, 7));
		eight = _mm512_add_epi64(eight, _mm512_alignr_epi64(eight, zero, 6));
		eight = _mm512_add_epi64(eight, _mm512_alignr_epi64(eight, zero, 4));
		_mm512_storeu_si512(to, _mm512_add_epi64(eight, before));
		before = _mm512_add_epi64(before, _mm512_permutexvar_epi64(last, eight));
	}
	value = (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(before));
	_mm256_zeroupper();
	return value;
}
#endif

const struct column_vectors *column_vectors_all(void)
{
	static const struct column_vectors all[] = {
#ifdef __x86_64__
		{"AVX-512", unpack_avx512, add_up_avx512},
		{"AVX2", unpack_avx2, add_up_avx2},
#endif
		{"none", unpack_plain, add_up_plain},
		{0},
	};
#ifdef __x86_64__
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx2"))
		return all + 2;
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
	    !__builtin_cpu_supports("avx512vbmi"))
		return all + 1;
#endif
	return all;
}

void column_vectors_choose(const struct column_vectors *vectors)
{
	chosen = vectors;
}

static void __attribute__((constructor)) choose(void)
{
	chosen = column_vectors_all();
}

void column_unpack(const uint8_t *at, uint32_t width, uint64_t base, uint64_t *to, uint32_t count)
{
	uint32_t whole = width && width <= NARROW_MAX ? count & ~7u : 0;
	if (!width) {
		for (uint32_t i = 0; i < count; i++)
			to[i] = base;
		return;
	}
	if (whole)
		chosen->unpack(at, width, base, to, whole / 8);
	for (uint32_t i = whole; i < count; i++)
		to[i] = base + column_packed_at(at, width, i);
}

uint64_t column_add_up(uint64_t *to, uint32_t count, uint64_t value, bool zigzag)
{
	const uint32_t whole = count & ~7u;
	value = chosen->add_up(to, whole / 8, value, zigzag);
	for (uint32_t i = whole; i < count; i++)
		to[i] = value += zigzag ? column_unzigzag(to[i]) : to[i];
	return value;
}
