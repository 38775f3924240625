/*
 * The common case of JSON events, compiled once per instruction set: json_sse.c, json_avx2.c and json_avx512.c define the vector
 * primitive below and include this file. No include guard, on purpose.
 *
 *   fast_sweep(to, text)    copies 64 bytes; bit i: text[i] is a quote, a backslash, below 0x20 or above 0x7f
 *
 * It makes fast_copy() and fast_run(), for struct dp_json_variant.
 *
 * What makes it fast:
 *   - The copy and the map of stops are made in one sweep, in which nothing waits for anything. A string's end is then one look into
 *     the map, which finds everything unusual in the string at the same time.
 *   - The next key is guessed from the key before (a producer keeps its order) and compared whole, so the position behind it does
 *     not wait for a search; a wrong guess costs one look into the map and one into a table.
 *   - Lengths that hardly ever vary (a UUID, the digits of a stamp) go through a predicted branch, so that the processor need not
 *     wait for them before it looks at the next pair.
 *   - Numbers are digits in one register, whatever their length.
 *
 * Whatever does not fit leaves, before any side effect, to dp_json_pair(), which knows all of the grammar and of the schema.
 * Entered by one rx core. Positions are offsets in s->copy. Bounds: behind the text stands a zero byte, which is a stop and part of no
 * token, so nothing is ever taken from behind it; reads may go DP_JSON_SLACK bytes past it and 64 before the copy.
 *
 * Source: RFC 8259; the idea of a bit map of the text from simdjson (Langdale and Lemire, "Parsing Gigabytes of JSON per Second");
 * the arithmetic on eight digits at once is folklore.
 */

/* Keeps the compiler from turning a predicted branch back into arithmetic on what was being waited for. */
#define FAST_SETTLE(x) __asm__("" : "+r"(x))
#define FAST_LIKELY(x) __builtin_expect(!!(x), 1)

/* True if a key with the field's pattern starts at `text`, its opening quote. */
static inline bool fast_key(const char *text, const struct dp_json_field *field)
{
	__m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)text), _mm_load_si128((const __m128i *)field->pattern));
	return ((unsigned)_mm_movemask_epi8(same) & field->counts) == field->counts;
}

/* How many of the bytes from text are decimal digits; of 16. */
static inline unsigned fast_digits(const char *text)
{
	__m128i bytes = _mm_loadu_si128((const __m128i *)text);
	__m128i above = _mm_subs_epu8(_mm_sub_epi8(bytes, _mm_set1_epi8('0')), _mm_set1_epi8(9)); /* zero for a digit */
	unsigned digits = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(above, _mm_setzero_si128()));
	return (unsigned)__builtin_ctz(~digits); /* bit 16 is clear: never ctz(0) */
}

/* The number that the `count` (<= 16) digits before `end` make. Reads 16 bytes before `end`. */
static inline uint64_t fast_number(const char *end, unsigned count)
{
	static const unsigned char keep[32] = {[16] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
					       0xff,        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	__m128i digits = _mm_loadu_si128((const __m128i *)(end - 16));
	digits = _mm_and_si128(_mm_sub_epi8(digits, _mm_set1_epi8('0')), _mm_loadu_si128((const __m128i *)(keep + count)));
	__m128i twos = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010a)); /* pairs: 10 a + b */
	__m128i fours = _mm_madd_epi16(twos, _mm_set1_epi32(0x00010064)); /* 100 a + b */
	__m128i packed = _mm_packus_epi32(fours, fours);
	__m128i eights = _mm_madd_epi16(packed, _mm_set1_epi32(0x00012710)); /* 10000 a + b */
	uint64_t both = (uint64_t)_mm_cvtsi128_si64(eights);
	return (both & 0xffffffff) * 100000000 + (both >> 32);
}

/* Eight decimal digits (bytes 0 to 9, first most significant) to a number. */
static inline uint64_t fast_eight(uint64_t digits)
{
	digits = (digits * 10 + (digits >> 8)) & 0x00ff00ff00ff00ff;
	digits = (digits * 100 + (digits >> 16)) & 0x0000ffff0000ffff;
	return (digits * 10000 + (digits >> 32)) & 0xffffffff;
}

static inline uint64_t fast_load8(const char *at)
{
	uint64_t word;
	memcpy(&word, at, sizeof word);
	return word;
}

static inline uint32_t fast_load4(const char *at)
{
	uint32_t word;
	memcpy(&word, at, sizeof word);
	return word;
}

static inline uint16_t fast_load2(const char *at)
{
	uint16_t word;
	memcpy(&word, at, sizeof word);
	return word;
}

/* Of the bytes from `at` on: bit i is set if text[at + i] is a stop. Good for 57 bytes. */
static inline uint64_t fast_window(const struct dp_json_scratch *s, size_t at)
{
	return fast_load8((const char *)s->stops + at / 8) >> at % 8;
}

/* The first stop at or behind `at`: there always is one. */
static inline size_t fast_stop(const struct dp_json_scratch *s, size_t at)
{
	uint64_t stops = fast_window(s, at);
	while (!FAST_LIKELY(stops)) {
		at += 57;
		stops = fast_window(s, at);
	}
	return at + (unsigned)__builtin_ctzll(stops);
}

static void fast_copy(struct dp_json_scratch *s, const char *text, size_t bytes)
{
	size_t whole = bytes / 64, rest = bytes % 64;
	for (size_t i = 0; i < whole; i++)
		s->stops[i] = fast_sweep(s->copy + 64 * i, text + 64 * i);
	uint64_t stops = 0;
	if (rest > 0 && whole > 0) { /* the last 64 bytes once more, most of which are known already */
		stops = fast_sweep(s->copy + bytes - 64, text + bytes - 64) >> (64 - rest);
	} else if (rest > 0) {
		char last[64] = {0};
		memcpy(last, text, rest);
		stops = fast_sweep(s->copy, last);
	}
	s->copy[bytes] = 0;
	s->stops[whole] = stops | ~0ULL << rest;
	s->stops[whole + 1] = ~0ULL;
}

/* "12", "0.50": at most 7 digits before the point and 6 behind it. Sets *micros, returns the end; NULL: not of this kind. */
static inline const char *fast_price(const char *at, int64_t *micros)
{
	unsigned whole = fast_digits(at), fraction = 0;
	const char *end = at + whole;
	if (whole - 1 > 6 || (at[0] == '0' && whole > 1))
		return NULL;
	uint64_t sum = fast_eight(fast_load8(end - 8) & 0x0f0f0f0f0f0f0f0f & ~0ULL << (64 - 8 * whole)) * 1000000;
	if (*end == '.') {
		fraction = fast_digits(end + 1);
		if (fraction - 1 > 5)
			return NULL;
		uint64_t digits = fast_load8(end + 1) & 0x0f0f0f0f0f0f0f0f & ((1ULL << 8 * fraction) - 1);
		sum += fast_eight(digits << 16); /* two leading zeros, then six places */
		end += 1 + fraction;
	}
	if ((*end | 0x20) == 'e' || sum > TP_BID_MICROS_MAX)
		return NULL;
	*micros = (int64_t)sum;
	return end;
}

static inline bool fast_upper(uint64_t c)
{
	return (unsigned)(c & 0xff) - 'A' < 26;
}

/* parsed->string[field->string], without the multiplication. */
static inline void fast_store(struct tp_parsed *parsed, const struct dp_json_field *field, const char *at, size_t bytes)
{
	struct tp_str *string = (struct tp_str *)((char *)parsed + field->string_at);
	string->at = at;
	string->bytes = (uint16_t)bytes;
}

/*
 * A string value at `value`, its opening quote: moves `value` behind it and sets `end` to the closing one, or leaves. A macro, since it jumps.
 */
#define FAST_STRING(value, end) \
	do { \
		if (text[(value)++] != '"') \
			goto leave; \
		(end) = fast_stop(s, value); \
		if (!FAST_LIKELY(text[end] == '"')) \
			goto leave; /* an escape, not ASCII, a control character, or the text's end */ \
	} while (0)

static enum dp_json_state fast_run(struct dp_json_scratch *s, struct tp_parsed *parsed, enum dp_json_state state)
{
	const char *const text = s->copy;
	size_t at = (size_t)(s->at - text);
	uint32_t seen = s->seen;
	size_t previous = s->previous;

	if (state == DP_JSON_SEPARATOR)
		goto separator;
	for (;;) {
		/* the key */
		state = DP_JSON_KEY;
		size_t guess = s->next[previous];
		const struct dp_json_field *field = &dp_json_fields[guess];
		if (!FAST_LIKELY(fast_key(text + at, field))) {
			if (text[at] != '"')
				break;
			size_t bytes = fast_stop(s, at + 1) - at - 1;
			if (bytes - 1 >= DP_JSON_NAME_MAX)
				break;
			guess = dp_json_field_guess[bytes][text[at + 1] & 31];
			field = &dp_json_fields[guess];
			if (field->geo != dp_json_fields[previous].geo || !fast_key(text + at, field))
				break;
			s->next[previous] = (uint8_t)guess;
		}
		if (seen & field->bit)
			break;
		size_t value = at + field->behind;
		if ((unsigned char)text[value] <= ' ') {
			if (text[value] != ' ')
				break;
			value++;
		}

		/* the value; `end` is behind it */
		size_t end;
		unsigned digits;
		uint64_t number;
		switch (field->kind) {
		case DP_JSON_ID:
			FAST_STRING(value, end);
			if (FAST_LIKELY(end - value == 36)) {
				end = value + 36;
				FAST_SETTLE(end);
			}
			if (end - value - 1 >= TP_ID_BYTES_MAX)
				goto leave;
			parsed->string[TP_EVENT_ID] = (struct tp_str){.at = text + value, .bytes = (uint16_t)(end - value)};
			end++;
			break;
		case DP_JSON_STRING:
			FAST_STRING(value, end);
			if (end - value < field->bytes_min || end - value > field->bytes_max)
				goto leave;
			fast_store(parsed, field, text + value, end - value);
			end++;
			break;
		case DP_JSON_TYPE:
			if ((fast_load8(text + value) & 0x00ffffffffffffff) == 0x00226b63696c6322) { /* "click" */
				parsed->fixed.type = TP_CLICK;
				end = value + 7;
			} else if (memcmp(text + value, "\"impression\"", 12) == 0) {
				parsed->fixed.type = TP_IMPRESSION;
				end = value + 12;
			} else {
				goto leave;
			}
			break;
		case DP_JSON_TIMESTAMP:
			digits = fast_digits(text + value);
			end = value + digits;
			if (FAST_LIKELY(digits == 13)) {
				end = value + 13;
				FAST_SETTLE(end);
			}
			if (digits - 1 > 14 || (text[value] == '0' && digits > 1) || text[end] == '.' || (text[end] | 0x20) == 'e')
				goto leave;
			number = fast_number(text + end, digits);
			if (number > s->latest_ms)
				goto leave;
			parsed->fixed.timestamp_ms = number;
			break;
		case DP_JSON_POSITION:
			if (text[at + 16] != ':')
				goto leave;
			digits = fast_digits(text + value);
			end = value + digits;
			if (digits - 1 > 4 || (text[value] == '0' && digits > 1) || text[end] == '.' || (text[end] | 0x20) == 'e')
				goto leave;
			number = fast_number(text + end, digits);
			if (number > UINT16_MAX)
				goto leave;
			parsed->fixed.click_position = (uint16_t)number;
			parsed->fixed.flags |= TP_HAS_POSITION;
			break;
		case DP_JSON_BID: {
			const char *behind = fast_price(text + value, &parsed->fixed.bid_micros);
			if (!behind)
				goto leave;
			end = (size_t)(behind - text);
			parsed->fixed.flags |= TP_HAS_BID;
			break;
		}
		case DP_JSON_IP:
			FAST_STRING(value, end);
			if (end - value - 1 >= field->bytes_max)
				goto leave;
			s->ip = (struct dp_json_span){
				.at = text + value,
				.bytes = (uint32_t)(end - value),
				.offset = (uint32_t)(value - 1),
			};
			end++;
			break;
		case DP_JSON_COUNTRY: {
			uint32_t word = fast_load4(text + value);
			unsigned first = word >> 8 & 0xdf, second = word >> 16 & 0xdf;
			if ((word & 0xff0000ff) != 0x22000022 || first - 'A' > 25 || second - 'A' > 25)
				goto leave;
			parsed->fixed.country[0] = (char)first;
			parsed->fixed.country[1] = (char)second;
			end = value + 4;
			break;
		}
		case DP_JSON_GEO:
			if (text[value] != '{')
				goto leave;
			seen |= 1u << TP_FIELD_GEO;
			previous = DP_JSON_OPEN_GEO;
			s->geo_keys = s->keys_count;
			at = value + 1;
			continue;
		case DP_JSON_CURRENCY: {
			uint64_t word = fast_load8(text + value);
			if ((word & 0xff000000ff) != 0x2200000022 || !fast_upper(word >> 8) || !fast_upper(word >> 16) ||
			    !fast_upper(word >> 24))
				goto leave;
			memcpy(parsed->fixed.currency, text + value + 1, 3);
			end = value + 5;
			break;
		}
		case DP_JSON_DEVICE:
			FAST_STRING(value, end);
			if (end - value - 1 >= field->bytes_max)
				goto leave;
			parsed->fixed.device = dp_json_device(text + value, end - value);
			parsed->fixed.flags |= TP_DEVICE_SENT;
			end++;
			break;
		case DP_JSON_INT32:
		case DP_JSON_TRACE:
		case DP_JSON_NEVER:
			goto leave;
		default:
			__builtin_unreachable();
		}
		seen |= field->bit;
		previous = guess;
		at = end;

	separator:
		if (FAST_LIKELY(fast_load2(text + at) == (',' | '"' << 8))) {
			at++;
			continue;
		}
		if (text[at] == '}' && dp_json_fields[previous].geo && s->keys_count == s->geo_keys) {
			previous = TP_FIELD_GEO;
			at++;
			goto separator;
		}
		if (text[at] == '}' && !dp_json_fields[previous].geo && s->keys_count == 0) {
			at++;
			state = DP_JSON_DONE;
			break;
		}
		if (fast_load2(text + at) == (',' | ' ' << 8)) {
			at += 2;
			continue;
		}
		state = DP_JSON_SEPARATOR;
		break;
	}
leave:
	s->at = text + at;
	s->seen = seen;
	s->previous = (uint32_t)previous;
	return state;
}
