/*
 * The common case of JSON events, compiled once per instruction set: json_sse.c, json_avx2.c and json_avx512.c define the vector
 * primitives below and include this file. No include guard, on purpose.
 *
 *   fast_stops(text)        bit i: text[i] is a quote, a backslash, below 0x20 or above 0x7f; of FAST_BYTES bytes, up to 64
 *   FAST_RUN                the name of the function made here
 *
 * What makes it fast:
 *   - The next key is guessed from the key before (a producer keeps its order) and compared whole, so the position behind it does
 *     not wait for a search; a wrong guess costs one search and a table look-up.
 *   - A string costs one scan that finds its end and everything unusual in it at the same time.
 *   - Lengths that hardly ever vary (a UUID, the digits of a stamp) go through a predicted branch, so that the processor need not
 *     wait for the scan before it looks at the next pair.
 *   - Numbers are digits in one register, whatever their length.
 *
 * Whatever does not fit leaves, before any side effect, to dp_json_pair(), which knows all of the grammar and of the schema.
 * Entered by one rx core. Reads up to DP_JSON_SLACK bytes past a key at or before fast_end, and 16 bytes before a number.
 *
 * Source: RFC 8259; the arithmetic on eight digits at once is folklore.
 */

/* Keeps the compiler from turning a predicted branch back into arithmetic on what was being waited for. */
#define FAST_SETTLE(x) __asm__("" : "+r"(x))
#define FAST_LIKELY(x) __builtin_expect(!!(x), 1)

/* True if the key at `text` starts with the field's pattern. */
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

/* The end of the plain string at `at` (behind its quote), or NULL: an escape, not ASCII, a control character, or out of reach. */
static inline const char *fast_string(const struct dp_json_scratch *s, const char *at)
{
	uint64_t stops = fast_stops(at);
	while (!FAST_LIKELY(stops)) {
		at += FAST_BYTES;
		if (at > s->fast_end)
			return NULL;
		stops = fast_stops(at);
	}
	at += __builtin_ctzll(stops);
	return FAST_LIKELY(*at == '"') ? at : NULL;
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

enum dp_json_state FAST_RUN(struct dp_json_scratch *s, struct tp_parsed *parsed, enum dp_json_state state)
{
	const char *at = s->at;
	uint32_t seen = s->seen;
	unsigned previous = s->previous;

	if (state == DP_JSON_SEPARATOR)
		goto separator;
	for (;;) {
		/* the key */
		state = DP_JSON_KEY;
		if (at > s->fast_end || *at != '"')
			break;
		unsigned guess = s->next[previous];
		const struct dp_json_field *field = &dp_json_fields[guess];
		if (!FAST_LIKELY(fast_key(at + 1, field))) {
			const char *quote = fast_string(s, at + 1);
			size_t bytes = quote ? (size_t)(quote - at - 1) : 0;
			if (bytes == 0 || bytes > DP_JSON_NAME_MAX)
				break;
			unsigned found = dp_json_field_guess[bytes][at[1] & 31];
			field = &dp_json_fields[found];
			if (field->geo != dp_json_fields[previous].geo || !fast_key(at + 1, field))
				break;
			s->next[previous] = (uint8_t)found;
			guess = found;
		}
		if (seen & 1u << guess)
			break;
		const char *value = at + 2 + field->name_bytes;
		if (*value != ':')
			break;
		value++;
		if ((unsigned char)*value <= ' ') {
			if (*value != ' ')
				break;
			value++;
		}

		/* the value; `end` is behind it */
		const char *end;
		unsigned digits;
		uint64_t number;
		switch (field->kind) {
		case DP_JSON_ID:
			if (*value++ != '"')
				goto leave;
			end = fast_string(s, value);
			if (!end)
				goto leave;
			if (FAST_LIKELY(end - value == 36)) {
				end = value + 36;
				FAST_SETTLE(end);
			}
			if ((size_t)(end - value) - 1 >= TP_ID_BYTES_MAX)
				goto leave;
			parsed->string[TP_EVENT_ID] = (struct tp_str){.at = value, .bytes = (uint16_t)(end - value)};
			end++;
			break;
		case DP_JSON_STRING:
		case DP_JSON_LONG:
			if (*value++ != '"')
				goto leave;
			end = fast_string(s, value);
			if (!end)
				goto leave;
			if (end - value < field->bytes_min || end - value > field->bytes_max)
				goto leave;
			parsed->string[field->string] = (struct tp_str){.at = value, .bytes = (uint16_t)(end - value)};
			end++;
			break;
		case DP_JSON_TYPE:
			if (FAST_LIKELY((fast_load8(value) & 0x00ffffffffffffff) == 0x00226b63696c6322)) { /* "click" */
				parsed->fixed.type = TP_CLICK;
				end = value + 7;
			} else if (memcmp(value, "\"impression\"", 12) == 0) {
				parsed->fixed.type = TP_IMPRESSION;
				end = value + 12;
			} else {
				goto leave;
			}
			break;
		case DP_JSON_TIMESTAMP:
			digits = fast_digits(value);
			end = value + digits;
			if (FAST_LIKELY(digits == 13)) {
				end = value + 13;
				FAST_SETTLE(end);
			}
			if (digits - 1 > 14 || (*value == '0' && digits > 1) || *end == '.' || (*end | 0x20) == 'e' ||
			    end - s->text < 16)
				goto leave;
			number = fast_number(end, digits);
			if (number > s->latest_ms)
				goto leave;
			parsed->fixed.timestamp_ms = number;
			break;
		case DP_JSON_POSITION:
			digits = fast_digits(value);
			end = value + digits;
			if (digits - 1 > 4 || (*value == '0' && digits > 1) || *end == '.' || (*end | 0x20) == 'e')
				goto leave;
			number = fast_number(end, digits);
			if (number > UINT16_MAX)
				goto leave;
			parsed->fixed.click_position = (uint16_t)number;
			parsed->fixed.flags |= TP_HAS_POSITION;
			break;
		case DP_JSON_BID:
			end = fast_price(value, &parsed->fixed.bid_micros);
			if (!end)
				goto leave;
			parsed->fixed.flags |= TP_HAS_BID;
			break;
		case DP_JSON_IP:
			if (*value++ != '"')
				goto leave;
			end = fast_string(s, value);
			if (!end || end - value > field->bytes_max || end == value)
				goto leave;
			s->ip = (struct dp_json_span){
				.at = value, .bytes = (uint32_t)(end - value), .offset = (uint32_t)(value - 1 - s->text)};
			end++;
			break;
		case DP_JSON_COUNTRY: {
			uint32_t word = fast_load4(value);
			unsigned first = word >> 8 & 0xdf, second = word >> 16 & 0xdf;
			if ((word & 0xff0000ff) != 0x22000022 || first - 'A' > 25 || second - 'A' > 25)
				goto leave;
			parsed->fixed.country[0] = (char)first;
			parsed->fixed.country[1] = (char)second;
			end = value + 4;
			break;
		}
		case DP_JSON_GEO:
			if (*value != '{')
				goto leave;
			seen |= 1u << TP_FIELD_GEO;
			previous = DP_JSON_OPEN_GEO;
			s->geo_keys = s->keys_count;
			at = value + 1;
			continue;
		default:
			goto leave;
		}
		seen |= 1u << guess;
		previous = guess;
		at = end;

	separator:
		if (FAST_LIKELY(fast_load2(at) == (',' | '"' << 8))) {
			at++;
			continue;
		}
		if (*at == '}' && dp_json_fields[previous].geo && s->keys_count == s->geo_keys) {
			previous = TP_FIELD_GEO;
			at++;
			goto separator;
		}
		if (*at == '}' && !dp_json_fields[previous].geo && s->keys_count == 0) {
			at++;
			state = DP_JSON_DONE;
			break;
		}
		if (fast_load2(at) == (',' | ' ' << 8)) {
			at += 2;
			continue;
		}
		state = DP_JSON_SEPARATOR;
		break;
	}
leave:
	s->at = at;
	s->seen = seen;
	s->previous = previous;
	return state;
}
