/*
 * What a million of each costs in memory, by the sizes that the node itself allocates by: ids in the id table, open keys (rows of the
 * rollup tables), devices and addresses of the fraud rules. One line each; nothing is measured, so one run is enough.
 */
#include "turnpike/dedup.h"
#include "turnpike/fraud.h"
#include "turnpike/rollup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB(bytes) ((double)(bytes) / (1 << 20))

enum { MILLION = 1000000, TABLE_BYTES = 64 << 20, ENTRIES = 1 << 20, KEY_STRING_BYTES = 50 };

int main(void)
{
	void *memory = aligned_alloc(64, TABLE_BYTES);
	if (!memory)
		return 1;
	memset(memory, 0, TABLE_BYTES);
	const double ids = (double)agg_dedup_ids_max(agg_dedup_create(memory, TABLE_BYTES)) / MILLION;
	/* three generations: one is being cleared, and right after a rotation another is empty */
	printf("%.1f MiB per million ids, at least held; %.1f while both generations are full\n", MIB(TABLE_BYTES) / ids,
	       MIB(TABLE_BYTES) / ids / 2);
	free(memory);
	/* a row, its index slots, and its strings: ad, campaign, advertiser, publisher and region of ten bytes each */
	printf("%.1f MiB per million open keys\n", MIB(tp_rollup_bytes(MILLION, MILLION * KEY_STRING_BYTES)));
	/* entries are what is configured in bytes by memory.fraud: each stands for a device's clicks in an hour, and one impression */
	const double shard = (double)(agg_fraud_shard_bytes(2 * ENTRIES) - agg_fraud_shard_bytes(ENTRIES)) / ENTRIES;
	printf("%.1f MiB per million devices, a shard\n", MIB(shard * MILLION));
	const double address = (double)(agg_fraud_ip_bytes(2 * ENTRIES) - agg_fraud_ip_bytes(ENTRIES)) / ENTRIES;
	printf("%.1f MiB per million addresses, the node\n", MIB(address * MILLION));
	return 0;
}
