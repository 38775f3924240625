/*
 * turnpikectl capture FILE: frames of DPDK ports, both ways, as a pcapng file that tshark and Wireshark open, each with its verdict as
 * the packet's comment. Source: draft-ietf-opsawg-pcapng, sections 4.1 (section header), 4.2 (interface), 4.3 (enhanced packet).
 *
 *   section header ─ interface per ingest entry ─ enhanced packet … enhanced packet
 *
 *   block:  │ type 4 │ length 4 │ body, padded to 4 │ length 4 │       option:  │ code 2 │ bytes 2 │ value, padded to 4 │
 * in the byte order of this machine, which the section header tells.
 */
#include "tool_sight.h"

#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	BLOCK_SECTION = 0x0a0d0d0a,
	BLOCK_INTERFACE = 1,
	BLOCK_PACKET = 6,
	BYTE_ORDER_MAGIC = 0x1a2b3c4d,
	LINKTYPE_ETHERNET = 1,
	OPTION_END = 0,
	OPTION_COMMENT = 1,
	OPTION_NAME = 2,  /* of an interface */
	OPTION_FLAGS = 2, /* of a packet */
	OPTION_USER_PROGRAM = 4,
	OPTION_RESOLUTION = 9,
	FLAG_INBOUND = 1,
	FLAG_OUTBOUND = 2,
	NANOSECONDS = 9,
	BLOCK_BYTES_MAX = 8192,
};

struct block {
	uint8_t byte[BLOCK_BYTES_MAX];
	uint32_t bytes;
};

static void put(struct block *block, const void *bytes, uint32_t count)
{
	if (count)
		memcpy(block->byte + block->bytes, bytes, count);
	block->bytes += count;
	while (block->bytes % 4)
		block->byte[block->bytes++] = 0;
}

static void put32(struct block *block, uint32_t value)
{
	put(block, &value, 4);
}

static void put_option(struct block *block, uint16_t code, const void *value, uint16_t bytes)
{
	const uint16_t head[2] = {code, bytes};
	put(block, head, 4);
	put(block, value, bytes);
}

static void block_begin(struct block *block, uint32_t type)
{
	block->bytes = 0;
	put32(block, type);
	put32(block, 0); /* length, at the end */
}

static bool block_write(struct block *block, FILE *file)
{
	const uint32_t bytes = block->bytes + 4;
	memcpy(block->byte + 4, &bytes, 4);
	put32(block, bytes);
	return fwrite(block->byte, 1, block->bytes, file) == block->bytes;
}

static bool head_write(struct block *block, FILE *file, const struct tp_config *config)
{
	static const char program[] = "turnpikectl capture";
	const uint16_t version[2] = {1, 0};
	const int64_t unknown = -1;
	const uint8_t resolution = NANOSECONDS;
	block_begin(block, BLOCK_SECTION);
	put32(block, BYTE_ORDER_MAGIC);
	put(block, version, 4);
	put(block, &unknown, 8);
	put_option(block, OPTION_USER_PROGRAM, program, sizeof(program) - 1);
	put_option(block, OPTION_END, NULL, 0);
	if (!block_write(block, file))
		return false;
	for (uint32_t i = 0; i < config->ingest_count; i++) { /* an interface's number is its ingest entry's */
		const uint16_t link[2] = {LINKTYPE_ETHERNET, 0};
		const char *name = config->ingest[i].device ? config->ingest[i].device : "socket";
		block_begin(block, BLOCK_INTERFACE);
		put(block, link, 4);
		put32(block, TP_SIGHT_DATA_BYTES);
		put_option(block, OPTION_NAME, name, (uint16_t)strnlen(name, 255));
		put_option(block, OPTION_RESOLUTION, &resolution, 1);
		put_option(block, OPTION_END, NULL, 0);
		if (!block_write(block, file))
			return false;
	}
	return true;
}

static bool packet_write(struct block *block, FILE *file, const struct tp_sight_slot *slot)
{
	const struct tp_sight_record *record = &slot->record;
	const uint32_t flags = record->kind == TP_SIGHT_FRAME_OUT ? FLAG_OUTBOUND : FLAG_INBOUND;
	char comment[600];
	int used = snprintf(comment, sizeof(comment), "core %u, ", record->core);
	const size_t bytes = (size_t)used + ctl_sight_verdict(slot, comment + used, sizeof(comment) - (size_t)used);
	block_begin(block, BLOCK_PACKET);
	put32(block, record->ingest);
	put32(block, (uint32_t)(record->wall_ns >> 32));
	put32(block, (uint32_t)record->wall_ns);
	put32(block, record->kept);
	put32(block, record->bytes);
	put(block, slot->data, record->kept);
	put_option(block, OPTION_COMMENT, comment, (uint16_t)bytes);
	put_option(block, OPTION_FLAGS, &flags, 4);
	put_option(block, OPTION_END, NULL, 0);
	return block_write(block, file);
}

int ctl_tool_capture(struct ctl_tool *tool, int words, char **word)
{
	struct ctl_sight_options options = {.kinds = "in,out", .records = 10000, .seconds = 60};
	struct ctl_sight session;
	struct block *block = malloc(sizeof(*block));
	uint64_t packets = 0;
	bool dpdk = false;
	int rc = block ? ctl_sight_arguments(&options, &words, word) : 1;
	if (!rc && (words != 1 || word[0][0] == '-'))
		rc = 2;
	for (uint32_t i = 0; i < tool->config.ingest_count; i++)
		dpdk = dpdk || tool->config.ingest[i].driver == TP_DRIVER_DPDK;
	if (!rc && !dpdk) {
		fprintf(stderr, "turnpikectl: the configuration has no DPDK port; for kernel sockets use tcpdump\n");
		rc = 1;
	}
	if (rc) {
		free(block);
		return rc;
	}
	FILE *file = fopen(word[0], "wbe");
	bool good = file && head_write(block, file, &tool->config) && fflush(file) == 0;
	if (!good)
		fprintf(stderr, "turnpikectl: cannot write %s: %s\n", word[0], strerror(errno));
	rc = good ? ctl_sight_open(&session, tool, &options) : 1;
	if (!rc) {
		struct tp_sight_slot slot;
		while (good && ctl_sight_next(&session, &slot)) {
			good = slot.record.ingest < tool->config.ingest_count && packet_write(block, file, &slot);
			packets += good;
		}
		if (!good)
			fprintf(stderr, "turnpikectl: cannot write %s: %s\n", word[0], strerror(errno));
		ctl_sight_close(&session);
	}
	if (file && fclose(file) != 0 && good) {
		fprintf(stderr, "turnpikectl: cannot write %s: %s\n", word[0], strerror(errno));
		good = false;
	}
	free(block);
	if (rc || !good)
		return 1;
	if (tool->json)
		return ctl_tool_print(json_pack("{s:I, s:I}", "packets", (json_int_t)packets, "lost", (json_int_t)session.lost));
	printf("%" PRIu64 " packets in %s\n", packets, word[0]);
	return 0;
}
