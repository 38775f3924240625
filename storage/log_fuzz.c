/*
 * Fuzzes the reading of log files. The first byte of the input says whether checksums are put right before reading, block by block
 * from the front, so that what lies behind a checksum is reached too; or that the input is a recipe for records of every kind, which
 * then lie in a good block, whole or with a byte changed. Asserts what must hold for any bytes: reading twice says the same; and that
 * whole records come out as they went in.
 */
#include "io_sim.h"
#include "log_format.h"
#include "log_read.h"
#include "sample.h"
#include "turnpike/dead_letter.h"
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

static int on_other(void *context, const struct tp_event *record)
{
	uint64_t *sum = context;
	const struct tp_dead_letter *letter = tp_dead_letter_of(record);
	assert(record->bytes >= sizeof(uint64_t) && record->bytes % 8 == 0 && record->bytes <= TP_RECORD_BYTES_MAX);
	bool good = letter && tp_dead_letter_valid(letter, record->bytes);
	*sum = *sum * 31 + record->bytes + record->type + (good ? letter->kept_bytes : 0);
	return 0;
}

enum { RECIPE_BYTES = 8, RECIPE_RECORDS_MAX = 7, RECIPE_UNITS = 3 };

/* A record of kind recipe[0]: an event of any verdict, a dead letter, or something that this program does not know. Its length. */
static uint32_t record_make(const uint8_t recipe[RECIPE_BYTES], uint8_t room[TP_RECORD_BYTES_MAX])
{
	static const uint8_t verdict[] = {TP_ACCEPTED, TP_LATE, TP_CONFLICT, TP_AMENDED};
	uint32_t number = recipe[2] | (uint32_t)recipe[3] << 8, kept = number % (TP_DEAD_KEPT_BYTES_MAX + 1);
	struct tp_dead_letter letter = {
		.bytes = tp_dead_letter_record_bytes(kept),
		.type = TP_RECORD_DEAD_LETTER,
		.reason = (uint8_t)(1 + recipe[1] % (TP_REJECTS - 1)),
		.sent_bytes = kept,
		.kept_bytes = kept,
	};
	memset(room, 0, TP_RECORD_BYTES_MAX);
	if (recipe[0] % 4 < 2) {
		struct tp_event *event = sample_event(room, number);
		event->verdict = verdict[recipe[1] % sizeof(verdict)];
		return event->bytes;
	}
	if (recipe[0] % 4 == 3)
		letter.type = (uint8_t)(TP_RECORD_DEAD_LETTER + 1 + recipe[1] % 127);
	memcpy(room, &letter, sizeof(letter));
	return letter.bytes;
}

/* A file of one block with the records of the recipe. Returns how many there are; *whole: none has a byte changed. */
static uint32_t records_file(const uint8_t *recipe, size_t size, uint8_t file[(1 + RECIPE_UNITS) * LOG_UNIT], bool *whole)
{
	_Alignas(8) static uint8_t room[TP_RECORD_BYTES_MAX];
	struct log_block head = {.block_bytes = RECIPE_UNITS - 1}; /* as repair() takes it */
	*whole = true;
	for (; size >= RECIPE_BYTES && head.records < RECIPE_RECORDS_MAX; recipe += RECIPE_BYTES, size -= RECIPE_BYTES) {
		uint32_t bytes = record_make(recipe, room);
		if (LOG_HEADER_BYTES + head.payload_bytes + bytes >= RECIPE_UNITS * LOG_UNIT)
			break;
		room[(recipe[4] | (uint32_t)recipe[5] << 8) % bytes] ^= recipe[6];
		*whole &= !recipe[6];
		memcpy(file + LOG_UNIT + LOG_HEADER_BYTES + head.payload_bytes, room, bytes);
		head.payload_bytes += bytes;
		head.records++;
	}
	memcpy(file + LOG_UNIT, &head, sizeof(head));
	return head.records;
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
	bool recipe = data[0] & 4, whole = false;
	uint32_t records = 0;
	/* Inputs of a few bytes should reach far: each 64 of them become the start of a unit of the file. */
	size_t units = (size - 1 + 63) / 64, bytes = data[0] & 2 ? units * LOG_UNIT : size - 1;
	if (recipe)
		bytes = (1 + RECIPE_UNITS) * LOG_UNIT;
	uint8_t *file = calloc(1, bytes + 1);
	if (recipe) {
		records = records_file(data + 1, size - 1, file, &whole);
	} else if (data[0] & 2) {
		for (size_t i = 0; i < units; i++) {
			size_t left = size - 1 - i * 64, take = left < 64 ? left : 64;
			memcpy(file + i * LOG_UNIT + (i % 2 ? 72 : LOG_HEADER_BYTES), data + 1 + i * 64, take);
		}
	} else {
		memcpy(file, data + 1, bytes);
	}
	if (recipe || data[0] & 1)
		repair(file, bytes);
	static struct sim_disk *disk; /* making one takes longer than a run */
	if (!disk)
		disk = sim_disk_new(1);
	sim_file_put(disk, "log", file, bytes);
	struct sto_log_facts facts, again;
	uint64_t sum = 0, sum_again = 0;
	const struct sto_record_fns fns = {.event = on_event, .other = on_other, .context = &sum},
				    fns_again = {.event = on_event, .other = on_other, .context = &sum_again};
	int rc = log_scan_records(sim_disk_io(disk), "log", 1, true, &fns, &facts, NULL);
	assert(log_scan_records(sim_disk_io(disk), "log", 1, false, &fns_again, &again, NULL) == rc);
	assert(sum == sum_again && !memcmp(&facts, &again, sizeof(facts)));
	/* Who wants events alone is told the same of the file. */
	assert(log_scan(sim_disk_io(disk), "log", 1, false, on_event, &sum_again, &again, NULL) == rc);
	assert(!memcmp(&facts, &again, sizeof(facts)));
	assert(rc == 0 || rc == -EBADMSG);
	assert(!whole || (rc == 0 && facts.events + facts.others == records));
	free(file);
	return 0;
}
