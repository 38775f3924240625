/*
 * Tags of batches: see batch_tag.h. Entered by rx cores with foreign bytes; no state.
 */
#include "batch_tag.h"

#include "batch_format.h"
#include "turnpike/siphash.h"

void dp_tag_compute(const uint64_t key[2], const uint8_t *bytes, size_t count, size_t tag_at, bool wide, uint64_t tag[2])
{
	uint64_t v[4];
	size_t tag_end = tag_at + (wide ? 16 : 8), at = 0;
	tp_sip_begin(v, key);
	if (wide)
		v[1] ^= 0xee;
	for (; at + 8 <= count; at += 8) {
		uint64_t word = dp_batch_u64(bytes + at);
		if (at == DP_BATCH_AT_CHECKSUM - 4)
			word &= 0xffffffff; /* little endian: the checksum is its upper half */
		else if (at >= tag_at && at < tag_end)
			word = 0;
		tp_sip_word(v, word, 2);
	}
	uint64_t last = (uint64_t)(count & 0xff) << 56;
	for (size_t i = 0; at + i < count; i++)
		last |= (uint64_t)bytes[at + i] << 8 * i;
	tp_sip_word(v, last, 2);
	v[2] ^= wide ? 0xee : 0xff;
	tag[0] = tp_sip_end(v, 4);
	tag[1] = 0;
	if (wide) {
		v[1] ^= 0xdd;
		tag[1] = tp_sip_end(v, 4);
	}
}

static_assert(DP_BATCH_AT_CHECKSUM % 8 == 4, "the checksum is the upper half of a word");

static bool key_is_for(const struct dp_source_keys *keys, const struct dp_source_key *entry, const struct tp_addr *peer)
{
	return entry->prefix_count == 0 || tp_prefix_list_has(keys->prefix + entry->prefix_at, entry->prefix_count, peer);
}

enum dp_tag_fault dp_tag_check(const struct dp_source_keys *keys, const struct dp_batch *batch, const uint8_t *bytes,
			       const struct tp_addr *peer, uint64_t key[2])
{
	uint32_t slot = dp_source_slot(batch->source, keys->mask), at;
	while ((at = keys->slot[slot]) != 0 && keys->entry[at - 1].source != batch->source)
		slot = (slot + 1) & keys->mask;
	if (at == 0)
		return DP_TAG_UNKNOWN;
	bool known = false;
	for (at--; at < keys->count && keys->entry[at].source == batch->source; at++) {
		const struct dp_source_key *entry = &keys->entry[at];
		uint64_t tag[2];
		if (!key_is_for(keys, entry, peer))
			continue;
		known = true;
		if (!batch->tagged)
			continue;
		dp_tag_compute(entry->key, bytes, batch->bytes, DP_BATCH_AT_TAG, batch->version != 1, tag);
		/* one comparison of all bits: its time tells nothing of how many were right */
		uint64_t off = tag[0] ^ dp_batch_u64(bytes + DP_BATCH_AT_TAG);
		if (batch->version != 1)
			off |= tag[1] ^ dp_batch_u64(bytes + DP_BATCH_AT_TAG + 8);
		if (off != 0)
			continue;
		memcpy(key, entry->key, sizeof entry->key);
		return DP_TAG_OK;
	}
	return known ? DP_TAG_BAD : DP_TAG_UNKNOWN;
}
