/*
 * Foreign bytes to the batch decoder. Most inputs would die at the checksum, so the first byte says whether to repair header and
 * checksum first; then every event is decoded, completed and encoded as a record, as the data path would.
 */
#include "batch_format.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > DP_BATCH_BYTES_MAX)
		return 0;
	bool repair = data[0] & 1;
	size_t count = size - 1;
	uint8_t *bytes = malloc(count + 1); /* a copy of its own, so that the sanitizer sees where it ends */
	memcpy(bytes, data + 1, count);
	if (repair && count >= DP_BATCH_BYTES_MIN) {
		uint16_t bytes16 = (uint16_t)count;
		memcpy(bytes, dp_batch_magic, sizeof dp_batch_magic);
		bytes[DP_BATCH_AT_VERSION] = DP_BATCH_VERSION;
		bytes[DP_BATCH_AT_KIND] = DP_BATCH_KIND_EVENTS;
		bytes[DP_BATCH_AT_FLAGS] &= DP_BATCH_FLAG_TAG;
		bytes[DP_BATCH_AT_FLAGS + 1] = 0;
		memcpy(bytes + DP_BATCH_AT_BYTES, &bytes16, 2);
		memset(bytes + DP_BATCH_AT_CHECKSUM, 0, 4);
		uint32_t crc = dp_crc32c(0, bytes, count);
		memcpy(bytes + DP_BATCH_AT_CHECKSUM, &crc, 4);
	}

	static const struct dp_json_limits limits = {.now_ms = 1ULL << 41, .max_future_ms = 60000};
	struct dp_batch batch;
	if (dp_batch_open(bytes, count, &batch) == DP_BATCH_OK) {
		const uint8_t *at = bytes + batch.events_at;
		struct dp_batch_reject reject[DP_BATCH_REJECTS_LISTED];
		struct dp_batch_counts counts = {0};
		uint32_t listed = 0, room = dp_batch_ack_room(&batch);
		for (uint32_t i = 0; i < batch.events; i++) {
			struct tp_parsed parsed;
			struct dp_batch_event event = dp_batch_event(at, &limits, &parsed);
			at += event.bytes;
			if (event.reason == TP_OK) {
				counts.accepted++;
				tp_event_finish(&parsed);
				uint64_t record[TP_EVENT_BYTES_MAX / 8];
				tp_event_encode(&parsed, (struct tp_event *)record);
				if (!tp_event_valid((struct tp_event *)record, sizeof record))
					abort();
			} else {
				counts.rejected++;
				if (listed < room)
					reject[listed++] = (struct dp_batch_reject){.index = (uint16_t)i,
										    .reason = (uint8_t)event.reason,
										    .field = (uint8_t)event.field};
			}
		}
		uint8_t ack[DP_BATCH_ACK_BYTES_MAX];
		static const uint64_t key[2] = {1, 2};
		struct dp_batch_told told = {.window = 7};
		if (at != bytes + count || dp_batch_ack(ack, &batch, &counts, &told, reject, listed, key) > count)
			abort();
	}
	free(bytes);
	return 0;
}
