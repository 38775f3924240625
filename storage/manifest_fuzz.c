/*
 * Fuzzes the manifest. With the first bit set, checksums and the chain are put right first. Asserts that reading in two pieces says
 * the same as reading at once, and that the set of sealed files stays in order.
 */
#include "manifest.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_record(void *context, const struct manifest_record *record)
{
	uint64_t *sum = context;
	*sum = *sum * 31 + record->kind + record->segment.sequence + record->file_id;
	return 0;
}

static void repair(uint8_t *bytes, size_t size)
{
	uint64_t previous = 0;
	for (size_t at = 0; at + MANIFEST_UNIT <= size; at += MANIFEST_UNIT) {
		uint64_t sequence = at / MANIFEST_UNIT;
		if (at) {
			memcpy(bytes + at + 8, &sequence, 8);
			memcpy(bytes + at + 16, &previous, 8);
			bytes[at + 24] %= 10;
			bytes[at + 25] = 0;
			/* A transaction of up to four, from where the last one ended. */
			static uint8_t part, parts;
			if (at == MANIFEST_UNIT || part == parts) {
				part = 0;
				parts = (uint8_t)(1 + bytes[at + 29] % 4);
			}
			bytes[at + 28] = part++;
			bytes[at + 29] = parts;
		} else {
			manifest_header_write(bytes, bytes + 40);
		}
		previous = XXH3_64bits(bytes + at + 8, MANIFEST_UNIT - 8);
		memcpy(bytes + at, &previous, 8);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 1 << 20)
		return 0;
	size_t bytes = size - 1;
	uint8_t *file = malloc(bytes + 1);
	memcpy(file, data + 1, bytes);
	if (data[0] & 1)
		repair(file, bytes);
	struct manifest once = {0}, twice = {0};
	uint64_t sum = 0, sum_twice = 0;
	int rc = manifest_feed(&once, file, bytes, on_record, &sum);
	assert(rc == 0 || rc == 1 || rc == -EBADMSG);
	uint64_t middle = bytes / MANIFEST_UNIT / 2 * MANIFEST_UNIT;
	if (once.bytes) /* somewhere between two transactions, or in the middle of one */
		middle = middle > once.bytes ? once.bytes : middle;
	int first = manifest_feed(&twice, file, middle, on_record, &sum_twice);
	if (first >= 0)
		first = manifest_feed(&twice, file + twice.bytes, bytes - twice.bytes, on_record, &sum_twice);
	assert(once.bytes == twice.bytes || first != rc);
	if (first == rc && rc != -EBADMSG)
		assert(sum == sum_twice);
	for (uint32_t i = 0; i < once.sealed_ranges; i++) {
		assert(once.sealed[i].from < once.sealed[i].to);
		assert(i == 0 || once.sealed[i - 1].to < once.sealed[i].from);
		assert(manifest_sealed(&once, once.sealed[i].from) && !manifest_sealed(&once, once.sealed[i].to));
	}
	manifest_fini(&once);
	manifest_fini(&twice);
	free(file);
	return 0;
}
