/* Dead letters as they lie in logs and segments: see turnpike/dead_letter.h. Pure, any thread. */
#include "turnpike/dead_letter.h"

#include <string.h>

bool tp_dead_letter_valid(const struct tp_dead_letter *letter, uint64_t room)
{
	static const uint8_t zero[sizeof(letter->reserved)];
	if (room < TP_DEAD_FIXED_BYTES || letter->bytes > room || letter->type != TP_RECORD_DEAD_LETTER)
		return false;
	if (letter->reason == TP_OK || letter->reason >= TP_REJECTS || letter->field >= TP_FIELDS || letter->way >= TP_WAYS)
		return false;
	if (letter->part >= TP_DEAD_PARTS || (letter->peer_family && letter->peer_family != 4 && letter->peer_family != 6))
		return false;
	if (letter->kept_bytes > TP_DEAD_KEPT_BYTES_MAX || letter->bytes != tp_dead_letter_record_bytes(letter->kept_bytes))
		return false;
	if (letter->kept_bytes > letter->sent_bytes ||
	    (letter->kept_bytes < letter->sent_bytes && letter->kept_bytes != TP_DEAD_KEPT_BYTES_MAX))
		return false;
	uint32_t padding = letter->bytes - TP_DEAD_FIXED_BYTES - letter->kept_bytes;
	return !memcmp(letter->reserved, zero, sizeof(zero)) &&
	       !memcmp(tp_dead_letter_bytes(letter) + letter->kept_bytes, zero, padding);
}
