/*
 * Money as text: decimal digits to integer micros and back, never through a float. Pure; any thread; tp_micros_parse() runs
 * once per event with a bid.
 *
 * A number is seen as digits d1 d2 … dn with the decimal point after position p (p may lie outside of 1..n):
 *
 *    "12.50e-1"   digits 1 2 5 0, p = 2 - 1 = 1   ->  1.250
 *
 * Leading and trailing zeros do not change the value, so what is left between the first and the last non-zero digit decides: more
 * than six decimals, or more than seven digits before the point, is out of range however the number was spelled.
 * Source: RFC 8259 section 6 (grammar); contract section 4 (`bid_price`).
 */
#include "turnpike/event.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdbool.h>

enum { DECIMALS = 6 };

static inline bool is_digit(char c)
{
	return (unsigned char)(c - '0') < 10;
}

int tp_micros_parse(const char *text, size_t bytes, int64_t *micros)
{
	size_t at = 0;
	bool negative = at < bytes && text[at] == '-';
	at += negative;

	/* grammar: int */
	size_t whole_start = at;
	while (at < bytes && is_digit(text[at]))
		at++;
	size_t whole_count = at - whole_start;
	if (whole_count == 0 || (whole_count > 1 && text[whole_start] == '0'))
		return -EINVAL;

	/* grammar: [ frac ] */
	size_t fraction_start = at, fraction_count = 0;
	if (at < bytes && text[at] == '.') {
		fraction_start = ++at;
		while (at < bytes && is_digit(text[at]))
			at++;
		fraction_count = at - fraction_start;
		if (fraction_count == 0)
			return -EINVAL;
	}

	/* grammar: [ exp ]; it saturates far beyond any text's length, where only its sign matters */
	const int64_t exponent_max = INT64_C(1) << 60;
	int64_t exponent = 0;
	if (at < bytes && (text[at] | 0x20) == 'e') {
		at++;
		bool down = at < bytes && text[at] == '-';
		if (at < bytes && (text[at] == '-' || text[at] == '+'))
			at++;
		size_t exponent_start = at;
		for (; at < bytes && is_digit(text[at]); at++)
			if (exponent < exponent_max / 16)
				exponent = exponent * 10 + (text[at] - '0');
			else
				exponent = exponent_max;
		if (at == exponent_start)
			return -EINVAL;
		if (down)
			exponent = -exponent;
	}
	if (at != bytes)
		return -EINVAL;

	/* digit i (from 0) is worth 10^(whole_count - 1 - i + exponent) */
	const char *const digit_whole = text + whole_start, *const digit_fraction = text + fraction_start;
	size_t count = whole_count + fraction_count;
#define DIGIT(i) ((i) < whole_count ? digit_whole[i] : digit_fraction[(i)-whole_count])
	size_t first = 0, end = count;
	while (first < count && DIGIT(first) == '0')
		first++;
	if (first == count) {
		*micros = 0;
		return 0;
	}
	if (negative)
		return -ERANGE;
	while (DIGIT(end - 1) == '0')
		end--;

	/* powers of ten, in micros, of the first and last digit that count */
	int64_t power_first = (int64_t)whole_count - 1 - (int64_t)first + exponent + DECIMALS;
	int64_t power_last = (int64_t)whole_count - 1 - (int64_t)(end - 1) + exponent + DECIMALS;
	if (power_last < 0 || power_first > 12)
		return -ERANGE;
	int64_t sum = 0;
	for (size_t i = first; i < end; i++)
		sum = sum * 10 + (DIGIT(i) - '0');
#undef DIGIT
	while (power_last-- > 0)
		sum *= 10;
	if (sum > TP_BID_MICROS_MAX)
		return -ERANGE;
	*micros = sum;
	return 0;
}

size_t tp_micros_text(__int128 micros, char *to)
{
	/* the most negative number has no positive twin, hence unsigned */
	unsigned __int128 rest = micros < 0 ? -(unsigned __int128)micros : (unsigned __int128)micros;
	char digit[48]; /* 39 digits and the point, from the last */
	size_t count = 0;
	do {
		if (count == DECIMALS)
			digit[count++] = '.';
		digit[count++] = (char)('0' + (int)(rest % 10));
		rest /= 10;
	} while (rest > 0 || count < DECIMALS + 2);
	size_t bytes = 0;
	if (micros < 0)
		to[bytes++] = '-';
	while (count > 0)
		to[bytes++] = digit[--count];
	to[bytes] = 0;
	return bytes;
}
