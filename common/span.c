/* Rings of spans, and the text of a trace context. See turnpike/span.h. An rx core writes, another process reads. */
#include "turnpike/span.h"

#include <assert.h>
#include <string.h>

static_assert((TP_SPANS & (TP_SPANS - 1)) == 0, "a slot's index is a mask");
static_assert(sizeof(struct tp_span) == 80, "the two processes agree");

void tp_span_put(struct tp_span_ring *ring, const struct tp_span *span)
{
	const uint64_t number = atomic_load_explicit(&ring->next, memory_order_relaxed);
	struct tp_span_slot *slot = &ring->slot[number & (TP_SPANS - 1)];

	atomic_store_explicit(&slot->stamp, 2 * number + 1, memory_order_relaxed);
	/* the odd stamp before any byte of the span: a reader in mid-copy notices */
	atomic_thread_fence(memory_order_release);
	slot->span = *span;
	/* release: the span before its stamp, the stamp before the position */
	atomic_store_explicit(&slot->stamp, 2 * number + 2, memory_order_release);
	atomic_store_explicit(&ring->next, number + 1, memory_order_release);
}

int tp_span_take(const struct tp_span_ring *ring, uint64_t *next, uint64_t *lost, struct tp_span *to)
{
	for (;;) {
		const uint64_t written = atomic_load_explicit(&ring->next, memory_order_acquire);
		if (*next >= written)
			return 0;
		if (written - *next > TP_SPANS) {
			*lost += written - *next - TP_SPANS;
			*next = written - TP_SPANS;
		}
		const struct tp_span_slot *slot = &ring->slot[*next & (TP_SPANS - 1)];
		const uint64_t before = atomic_load_explicit(&slot->stamp, memory_order_acquire);
		memcpy(to, &slot->span, sizeof(*to));
		/* acquire: the copy is not moved behind the second look */
		atomic_thread_fence(memory_order_acquire);
		const bool whole = before == 2 * *next + 2 && atomic_load_explicit(&slot->stamp, memory_order_relaxed) == before;
		++*next;
		if (whole)
			return 1;
		++*lost; /* the ring went round meanwhile */
	}
}

/* Lower-case hex digits to bytes. *zero: all of them are. */
static bool hex_bytes(const char *text, unsigned digits, uint8_t *to, bool *zero)
{
	*zero = true;
	for (unsigned i = 0; i < digits; i++) {
		const unsigned char c = (unsigned char)text[i];
		unsigned value = c - '0';
		if (value > 9) {
			value = c - 'a' + 10u;
			if (value < 10 || value > 15)
				return false;
		}
		*zero &= value == 0;
		to[i / 2] = (uint8_t)(i % 2 ? to[i / 2] | value : value << 4);
	}
	return true;
}

bool tp_trace_parse(const char *text, uint64_t bytes, struct tp_trace *trace)
{
	struct tp_trace read = {.given = true};
	uint8_t version;
	bool zero;

	if (bytes < 55 || text[2] != '-' || text[35] != '-' || text[52] != '-')
		return false;
	if (!hex_bytes(text, 2, &version, &zero) || version == 0xff)
		return false;
	if (bytes > 55 && (version == 0 || text[55] != '-'))
		return false;
	if (!hex_bytes(text + 3, 32, read.trace_id, &zero) || zero || !hex_bytes(text + 36, 16, read.span_id, &zero) || zero)
		return false;
	if (!hex_bytes(text + 53, 2, &read.flags, &zero))
		return false;
	*trace = read;
	return true;
}
