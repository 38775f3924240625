/* Arbitrary bytes as a record from a disk: what tp_event_valid() takes can be read to its end. Ids and user agents likewise. */
#include "turnpike/event.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tp_device_from_user_agent((const char *)data, size);
	if (size >= 1 && size <= TP_ID_BYTES_MAX) {
		int uuid;
		struct tp_id id = tp_id_from_text((const char *)data, size, &uuid);
		if ((id.hi | id.lo) == 0)
			abort();
	}
	if (size < TP_EVENT_FIXED_BYTES)
		return 0;
	struct tp_event *event = malloc(size); /* aligned, and exact for the address sanitizer */
	if (!event)
		return 0;
	memcpy(event, data, size);
	/* so that more inputs get past the sum: the length that the strings ask for */
	uint32_t bytes = TP_EVENT_FIXED_BYTES;
	for (int i = 0; i < TP_STRINGS; i++)
		bytes += event->string_bytes[i];
	event->bytes = (bytes + 7) & ~7u;
	if (tp_event_valid(event, size)) {
		uint32_t sum = 0;
		for (int i = 0; i < TP_STRINGS; i++) {
			struct tp_str string = tp_event_string(event, (enum tp_string)i);
			for (uint16_t k = 0; k < string.bytes; k++)
				sum += (uint8_t)string.at[k];
		}
		char id[TP_ID_BYTES_MAX + 1];
		if (tp_event_id_text(event, id) == 0 || sum == UINT32_MAX)
			abort();
	}
	free(event);
	return 0;
}
