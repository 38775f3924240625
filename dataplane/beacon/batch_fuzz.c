/*
 * Foreign bytes to the batch decoder. Most inputs would die at the checksum, so the first byte says whether to repair header, tag and
 * checksum first, and for which version; then every event is decoded, completed and encoded as a record, as the data path would, and
 * every answer is made: none may be larger than what it answers.
 */
#include "batch_format.h"
#include "batch_tag.h"
#include "turnpike/event_scratch.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint64_t key[2] = {1, 2};

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
		bool wide = data[0] & 2, hello = wide && bytes[DP_BATCH_AT_KIND] == DP_BATCH_KIND_HELLO;
		bytes[DP_BATCH_AT_VERSION] = wide ? 2 : 1;
		bytes[DP_BATCH_AT_KIND] = hello ? DP_BATCH_KIND_HELLO : DP_BATCH_KIND_EVENTS;
		bytes[DP_BATCH_AT_FLAGS] &= DP_BATCH_FLAG_TAG;
		bytes[DP_BATCH_AT_FLAGS + 1] = 0;
		memcpy(bytes + DP_BATCH_AT_BYTES, &bytes16, 2);
		if (bytes[DP_BATCH_AT_FLAGS] && !(data[0] & 4)) {
			uint64_t tag[2];
			dp_tag_compute(key, bytes, count, DP_BATCH_AT_TAG, wide, tag);
			memcpy(bytes + DP_BATCH_AT_TAG, tag, wide ? 16 : 8);
		}
		memset(bytes + DP_BATCH_AT_CHECKSUM, 0, 4);
		uint32_t crc = dp_crc32c(0, bytes, count);
		memcpy(bytes + DP_BATCH_AT_CHECKSUM, &crc, 4);
	}

	static const struct dp_json_limits limits = {.now_ms = 1ULL << 41, .max_future_ms = 60000};
	struct dp_batch batch;
	enum dp_batch_fault fault = dp_batch_open(bytes, count, &batch);
	if (fault == DP_BATCH_OK) {
		/* one source with one key: a good tag is found to be good, whatever else is in the datagram */
		struct dp_source_key entry = {.source = batch.source, .key = {key[0], key[1]}};
		uint32_t slot[2] = {1, 1};
		struct dp_source_keys keys = {.count = 1, .mask = 0, .slot = slot, .entry = &entry};
		struct tp_addr peer = {.family = 4};
		uint64_t used[2];
		enum dp_tag_fault tag = dp_tag_check(&keys, &batch, bytes, &peer, used);
		if (repair && tag != (batch.tagged && !(data[0] & 4) ? DP_TAG_OK : DP_TAG_BAD) && !(batch.tagged && (data[0] & 4)))
			abort();
	}
	if (fault == DP_BATCH_OK && batch.kind == DP_BATCH_KIND_HELLO) {
		static const uint8_t core[DP_BATCH_SHARDS_MAX];
		struct dp_batch_layout layout = {.shards = DP_BATCH_SHARDS_MAX, .shard_core = core};
		struct dp_batch_told told = {.window = 7};
		uint8_t answer[256];
		if (dp_batch_layout(answer, &batch, &told, &layout, key) > count)
			abort();
	} else if (fault == DP_BATCH_OK) {
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
				static struct tp_event_scratch scratch;
				struct tp_parsed packed = parsed; /* as an rx core goes on */
				tp_event_finish(&parsed);
				tp_event_finish_with(&scratch, &packed);
				uint64_t record[TP_EVENT_BYTES_MAX / 8], other[TP_EVENT_BYTES_MAX / 8];
				tp_event_encode(&parsed, (struct tp_event *)record);
				tp_event_encode(&packed, (struct tp_event *)other);
				if (!tp_event_valid((struct tp_event *)record, sizeof record) ||
				    memcmp(record, other, ((struct tp_event *)record)->bytes) != 0)
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
		struct dp_batch_told told = {.window = 7};
		if (batch.version != 1 && dp_batch_later(ack, &batch, &told, 20, DP_BATCH_WHY_FULL, key) > count)
			abort();
		if (at != bytes + count || dp_batch_ack(ack, &batch, &counts, &told, reject, listed, key) > count)
			abort();
	}
	free(bytes);
	return 0;
}
