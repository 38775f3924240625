/*
 * Fuzzes the reading of log files. The first byte of the input says whether checksums are put right before reading, block by block
 * from the front, so that what lies behind a checksum is reached too. Asserts what must hold for any bytes: reading twice says the
 * same.
 */
#include "io_sim.h"
#include "log_format.h"
#include "log_read.h"
#include "turnpike/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_event(void *context, const struct tp_event *event)
{
	uint64_t *sum = context;
	assert(tp_event_valid(event, event->bytes));
	*sum = *sum * 31 + event->id.lo + event->bytes;
	return 0;
}

/* What a writer would have put into the fields that tie blocks together. */
static void repair(uint8_t *file, size_t bytes)
{
	uint64_t previous = 0, sequence = 0, records = 0;
	for (size_t at = 0; at + LOG_UNIT <= bytes;) {
		struct log_block head;
		memcpy(&head, file + at, sizeof(head));
		head.magic = LOG_MAGIC;
		head.version = LOG_VERSION;
		head.file_id = 1;
		head.salt = 2;
		head.shard = 0;
		head.kind = sequence ? head.kind % 2 + LOG_EVENTS : LOG_FILE;
		head.sequence = sequence++;
		head.previous = previous;
		head.offset = at;
		head.watermark_ms = at;
		head.first_record = records;
		head.file_bytes = 0;
		head.block_bytes = LOG_UNIT * (1 + head.block_bytes % 3);
		if (!at || head.block_bytes > bytes - at)
			head.block_bytes = LOG_UNIT;
		head.payload_bytes = at ? head.payload_bytes % (head.block_bytes - LOG_HEADER_BYTES) : 0;
		head.records = at ? head.records % 8 : 0;
		records += head.records;
		_Alignas(8) static uint8_t whole[3 * LOG_UNIT];
		memcpy(whole, file + at, head.block_bytes);
		memcpy(whole, &head, sizeof(head));
		head.checksum = log_checksum((const struct log_block *)(const void *)whole);
		memcpy(file + at, &head, sizeof(head));
		previous = head.checksum;
		at += head.block_bytes;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 1 << 20)
		return 0;
	tp_log_level_set(TP_ERROR + 1);
	/* Inputs of a few bytes should reach far: each 64 of them become the start of a unit of the file. */
	size_t units = (size - 1 + 63) / 64, bytes = data[0] & 2 ? units * LOG_UNIT : size - 1;
	uint8_t *file = calloc(1, bytes + 1);
	if (data[0] & 2) {
		for (size_t i = 0; i < units; i++) {
			size_t left = size - 1 - i * 64, take = left < 64 ? left : 64;
			memcpy(file + i * LOG_UNIT + (i % 2 ? 72 : LOG_HEADER_BYTES), data + 1 + i * 64, take);
		}
	} else {
		memcpy(file, data + 1, bytes);
	}
	if (data[0] & 1)
		repair(file, bytes);
	static struct sim_disk *disk; /* making one takes longer than a run */
	if (!disk)
		disk = sim_disk_new(1);
	sim_file_put(disk, "log", file, bytes);
	struct sto_log_facts facts, again;
	uint64_t sum = 0, sum_again = 0;
	int rc = log_scan(sim_disk_io(disk), "log", 1, true, on_event, &sum, &facts, NULL);
	assert(log_scan(sim_disk_io(disk), "log", 1, false, on_event, &sum_again, &again, NULL) == rc);
	assert(sum == sum_again && !memcmp(&facts, &again, sizeof(facts)));
	assert(rc == 0 || rc == -EBADMSG);
	free(file);
	return 0;
}
