/* Arbitrary bytes as a record from a disk: what tp_dead_letter_valid() takes can be read to its end, and is never an event too. */
#include "turnpike/dead_letter.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct tp_dead_letter *letter, size_t size)
{
	if (!tp_dead_letter_valid(letter, size))
		return;
	uint32_t sum = 0;
	for (uint32_t i = 0; i < letter->kept_bytes; i++)
		sum += tp_dead_letter_bytes(letter)[i];
	if (letter->bytes > size || letter->bytes > TP_RECORD_BYTES_MAX || sum == UINT32_MAX)
		abort();
	if (!tp_reject_detail((enum tp_reject)letter->reason, (enum tp_field)letter->field) ||
	    !tp_way_name((enum tp_way)letter->way))
		abort();
	if (size >= TP_EVENT_FIXED_BYTES && tp_event_valid((const struct tp_event *)(const void *)letter, size))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tp_dead_letter *letter = malloc(size ? size : 1); /* aligned, and exact for the address sanitizer */
	if (!letter)
		return 0;
	memcpy(letter, data, size);
	check(letter, size);
	if (size >= TP_DEAD_FIXED_BYTES) {
		/* so that more inputs get past the lengths and the enums */
		uint32_t kept = (uint32_t)size - TP_DEAD_FIXED_BYTES;
		letter->type = TP_RECORD_DEAD_LETTER;
		letter->reason = (uint8_t)(1 + letter->reason % (TP_REJECTS - 1));
		letter->field %= TP_FIELDS;
		letter->way %= TP_WAYS;
		letter->part %= TP_DEAD_PARTS;
		letter->peer_family = letter->peer_family & 1 ? 4 : 6;
		memset(letter->reserved, 0, sizeof(letter->reserved));
		kept = kept < TP_DEAD_KEPT_BYTES_MAX ? kept & ~7U : TP_DEAD_KEPT_BYTES_MAX;
		letter->sent_bytes = letter->kept_bytes = kept;
		letter->bytes = tp_dead_letter_record_bytes(kept);
		check(letter, size);
	}
	free(letter);
	return 0;
}
