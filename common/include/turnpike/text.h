/*
 * Numbers, money, time and durations as text. Pure; any thread; no allocation.
 */
#ifndef TURNPIKE_TEXT_H
#define TURNPIKE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/*
 * JSON number grammar (RFC 8259 section 6) in text[0..bytes) to integer micros, through decimal digits only, never a float.
 * 0 and *micros; -EINVAL: not the grammar; -ERANGE: negative (but -0 is 0), more than 1,000,000, or a value that needs more than
 * six decimals. "1e2", "0.5000000", "1e-6", "0.0000001e1" and "1E+0" are fine. Any exponent length is handled.
 */
int tp_micros_parse(const char *text, size_t bytes, int64_t *micros);

/* "12.345678", always six decimals; negative sums too. `to` has room for 64 bytes. Returns the length, NUL-terminated. */
size_t tp_micros_text(__int128 micros, char *to);

/* RFC 3339 in UTC with milliseconds only when not zero: "2026-11-21T23:25:30Z", "…30.250Z". `to` has room for 32. */
size_t tp_time_text(uint64_t ms, char *to);
/* RFC 3339 (any offset, fraction up to ns, 'T'/'t'/' ', 'Z'/'z') or plain milliseconds. 0 or -EINVAL. */
int tp_time_parse(const char *text, size_t bytes, uint64_t *ms);

/* "250us", "1ms", "60s", "15m", "1h", "30d", "10y" (365 days); a bare 0. To nanoseconds. 0 or -EINVAL, -ERANGE on overflow. */
int tp_duration_parse(const char *text, size_t bytes, uint64_t *ns);
/* "64KiB", "256MiB", "1GiB", "4096". 0 or -EINVAL. */
int tp_size_parse(const char *text, size_t bytes, uint64_t *size);

/* Clocks. Real time for stamps, monotonic for intervals. */
uint64_t tp_now_ms(void);
uint64_t tp_mono_ns(void);

#endif
