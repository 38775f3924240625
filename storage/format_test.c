/*
 * The byte tables of docs/log-format.md and docs/segment-format.md against the structs: every field is there, at its place, with
 * its size, in order, and nothing else.
 */
#include "column.h"
#include "id_index.h"
#include "log_format.h"
#include "manifest_format.h"
#include "rollup_format.h"
#include "segment_format.h"
#include "segment_v1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct field {
	const char *name;
	size_t at, bytes;
};

#define F(type, member) \
	{ \
#member, offsetof(struct type, member), sizeof(((struct type *)0)->member) \
	}

static const struct field log_block[] = {
	F(log_block, checksum),      F(log_block, magic),
	F(log_block, version),       F(log_block, shard),
	F(log_block, file_id),       F(log_block, salt),
	F(log_block, sequence),      F(log_block, previous),
	F(log_block, watermark_ms),  F(log_block, durable_sequence),
	F(log_block, kind),          F(log_block, block_bytes),
	F(log_block, payload_bytes), F(log_block, records),
	F(log_block, file_bytes),    F(log_block, first_record),
	F(log_block, offset),        F(log_block, made),
	F(log_block, reserved),      {0},
};

static const struct field segment_header[] = {
	F(segment_header, magic),         F(segment_header, version),      F(segment_header, shard),
	F(segment_header, sequence),      F(segment_header, file_id),      F(segment_header, node_id),
	F(segment_header, sealed_ms),     F(segment_header, checksum),     F(segment_header, prev_sha256),
	F(segment_header, footer_offset), F(segment_header, footer_bytes), F(segment_header, footer_checksum),
	F(segment_header, file_bytes),    F(segment_header, hashing),      F(segment_header, block_rows),
	F(segment_header, zeros),         F(segment_header, checksum_two), {0},
};

static const struct field segment_tail[] = {
	F(segment_tail, magic),        F(segment_tail, footer_offset),
	F(segment_tail, footer_bytes), F(segment_tail, footer_checksum),
	F(segment_tail, file_bytes),   F(segment_tail, version),
	F(segment_tail, zero),         F(segment_tail, zero_too),
	F(segment_tail, checksum),     {0},
};

static const struct field segment_place[] = {
	F(segment_place, offset), F(segment_place, bytes), F(segment_place, raw_bytes), F(segment_place, checksum), {0},
};

static const struct field segment_section[] = {
	F(segment_section, kind), F(segment_section, zero), F(segment_section, count), F(segment_section, place), {0},
};

static const struct field segment_column[] = {
	F(segment_column, column), F(segment_column, parent),     F(segment_column, block), F(segment_column, blocks),
	F(segment_column, texts),  F(segment_column, dictionary), F(segment_column, table), {0},
};

static const struct field segment_block[] = {
	F(segment_block, offset), F(segment_block, bytes),    F(segment_block, raw_bytes),
	F(segment_block, count),  F(segment_block, zero),     F(segment_block, min),
	F(segment_block, max),    F(segment_block, checksum), {0},
};

static const struct field column_head[] = {
	F(column_head, encoding),
	F(column_head, width),
	F(column_head, width_patch),
	F(column_head, zero),
	F(column_head, extra),
	F(column_head, base),
	{0},
};

static const struct field id_index_head[] = {
	F(id_index_head, differ),    F(id_index_head, same),     F(id_index_head, count), F(id_index_head, bucket_bits),
	F(id_index_head, rest_bits), F(id_index_head, row_bits), F(id_index_head, zeros), {0},
};

static const struct field segment_v1_index_entry[] = {
	F(segment_v1_index_entry, id),   F(segment_v1_index_entry, fingerprint), F(segment_v1_index_entry, minute),
	F(segment_v1_index_entry, zero), F(segment_v1_index_entry, row_at),      {0},
};

static const struct field tp_rollup_row[] = {
	F(tp_rollup_row, key_hash),          F(tp_rollup_row, minute),      F(tp_rollup_row, string_at),
	F(tp_rollup_row, string_bytes),      F(tp_rollup_row, device),      F(tp_rollup_row, country),
	F(tp_rollup_row, currency),          F(tp_rollup_row, pad),         F(tp_rollup_row, version),
	F(tp_rollup_row, sums.impressions),  F(tp_rollup_row, sums.clicks), F(tp_rollup_row, sums.flagged_clicks),
	F(tp_rollup_row, sums.conversions),  F(tp_rollup_row, sums.late),   F(tp_rollup_row, sums.reserved),
	F(tp_rollup_row, sums.spend_micros), F(tp_rollup_row, head),        {0},
};

static const struct field segment_footer[] = {
	F(segment_footer, bytes),
	F(segment_footer, version),
	F(segment_footer, file_bytes),
	F(segment_footer, totals.rows),
	F(segment_footer, totals.counted),
	F(segment_footer, totals.late),
	F(segment_footer, totals.conflicts),
	F(segment_footer, totals.from_ms),
	F(segment_footer, totals.to_ms),
	F(segment_footer, totals.minute_min),
	F(segment_footer, totals.minute_max),
	F(segment_footer, totals.watermark_ms),
	F(segment_footer, totals.impressions),
	F(segment_footer, totals.clicks),
	F(segment_footer, totals.flagged_clicks),
	F(segment_footer, totals.conversions),
	F(segment_footer, totals.spend_micros),
	F(segment_footer, raw_records),
	F(segment_footer, sections),
	F(segment_footer, columns),
	F(segment_footer, blocks),
	F(segment_footer, zero),
	F(segment_footer, zeros),
	{0},
};

static const struct field segment_v1_footer[] = {
	F(segment_v1_footer, part),
	F(segment_v1_footer, totals.rows),
	F(segment_v1_footer, totals.counted),
	F(segment_v1_footer, totals.late),
	F(segment_v1_footer, totals.conflicts),
	F(segment_v1_footer, totals.from_ms),
	F(segment_v1_footer, totals.to_ms),
	F(segment_v1_footer, totals.minute_min),
	F(segment_v1_footer, totals.minute_max),
	F(segment_v1_footer, totals.watermark_ms),
	F(segment_v1_footer, totals.impressions),
	F(segment_v1_footer, totals.clicks),
	F(segment_v1_footer, totals.flagged_clicks),
	F(segment_v1_footer, totals.conversions),
	F(segment_v1_footer, totals.spend_micros),
	F(segment_v1_footer, id_first),
	F(segment_v1_footer, id_last),
	F(segment_v1_footer, zeros),
	F(segment_v1_footer, bytes),
	F(segment_v1_footer, version),
	F(segment_v1_footer, magic),
	F(segment_v1_footer, checksum),
	{0},
};

static const struct field manifest_header_unit[] = {
	F(manifest_header_unit, checksum),
	F(manifest_header_unit, magic),
	F(manifest_header_unit, version),
	F(manifest_header_unit, zero),
	F(manifest_header_unit, node_id),
	F(manifest_header_unit, zeros),
	{0},
};

static const struct field manifest_record_unit[] = {
	F(manifest_record_unit, checksum),
	F(manifest_record_unit, sequence),
	F(manifest_record_unit, previous),
	F(manifest_record_unit, kind),
	F(manifest_record_unit, class),
	F(manifest_record_unit, reason),
	F(manifest_record_unit, part),
	F(manifest_record_unit, parts),
	F(manifest_record_unit, level),
	F(manifest_record_unit, file.name),
	F(manifest_record_unit, file.first),
	F(manifest_record_unit, file.rows),
	F(manifest_record_unit, file.late),
	F(manifest_record_unit, file.from_ms),
	F(manifest_record_unit, file.to_ms),
	F(manifest_record_unit, file.minute_min),
	F(manifest_record_unit, file.minute_max),
	F(manifest_record_unit, file.watermark_ms),
	F(manifest_record_unit, file.sealed_ms),
	F(manifest_record_unit, file.bytes),
	F(manifest_record_unit, file.hash),
	F(manifest_record_unit, file.last),
	F(manifest_record_unit, file.sha256),
	F(manifest_record_unit, file.chain_sha256),
	F(manifest_record_unit, file.prev_sha256),
	F(manifest_record_unit, file.sealed_ms_min),
	F(manifest_record_unit, file.zeros),
	{0},
};

/* The same struct in a record of state. */
static const struct field manifest_state[] = {
	F(manifest_record_unit, checksum),
	F(manifest_record_unit, sequence),
	F(manifest_record_unit, previous),
	F(manifest_record_unit, kind),
	F(manifest_record_unit, class),
	F(manifest_record_unit, reason),
	F(manifest_record_unit, part),
	F(manifest_record_unit, parts),
	F(manifest_record_unit, level),
	F(manifest_record_unit, state.watermark_ms),
	F(manifest_record_unit, state.file_id_max),
	F(manifest_record_unit, state.segment_max),
	F(manifest_record_unit, state.rollup_max),
	F(manifest_record_unit, state.covered),
	F(manifest_record_unit, state.minute_gone),
	F(manifest_record_unit, state.zero),
	F(manifest_record_unit, state.chain_sha256),
	F(manifest_record_unit, state.zeros),
	{0},
};

static const struct field rollup_header[] = {
	F(rollup_header, magic),    F(rollup_header, version),      F(rollup_header, class),
	F(rollup_header, sequence), F(rollup_header, from_segment), F(rollup_header, to_segment),
	F(rollup_header, node_id),  F(rollup_header, checksum),     {0},
};

static const struct field rollup_block[] = {
	F(rollup_block, offset),     F(rollup_block, bytes),      F(rollup_block, rows),
	F(rollup_block, minute_min), F(rollup_block, minute_max), F(rollup_block, code_min),
	F(rollup_block, code_max),   F(rollup_block, checksum),   {0},
};

static const struct field rollup_section[] = {
	F(rollup_section, kind),
	F(rollup_section, zero),
	F(rollup_section, offset),
	F(rollup_section, bytes),
	F(rollup_section, count),
	F(rollup_section, checksum),
	{0},
};

static const struct field rollup_footer[] = {
	F(rollup_footer, rows),
	F(rollup_footer, blocks),
	F(rollup_footer, minute_min),
	F(rollup_footer, minute_max),
	F(rollup_footer, sections_at),
	F(rollup_footer, sections),
	F(rollup_footer, zero),
	F(rollup_footer, sections_checksum),
	F(rollup_footer, totals),
	F(rollup_footer, zeros),
	F(rollup_footer, bytes),
	F(rollup_footer, version),
	F(rollup_footer, magic),
	F(rollup_footer, checksum),
	{0},
};

static void check_table(const char *page, const char *name, const struct field *field, size_t whole)
{
	char path[4096], line[1024], wanted[128];
	snprintf(path, sizeof(path), "%s/%s", DOCS, page);
	snprintf(wanted, sizeof(wanted), "<!-- struct %s -->\n", name);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	bool found = false, inside = false;
	size_t behind = 0;
	while (fgets(line, sizeof(line), file)) {
		if (!strcmp(line, wanted)) {
			found = inside = true;
			continue;
		}
		if (!inside)
			continue;
		size_t at, bytes;
		char member[64];
		if (line[0] != '|')
			break;
		if (sscanf(line, "| %zu | %zu | %63[^ ] |", &at, &bytes, member) != 3)
			continue; /* the heading */
		if (!field->name)
			fail_msg("%s: struct %s has no %s", page, name, member);
		if (strcmp(member, field->name) != 0 || at != field->at || bytes != field->bytes)
			fail_msg("%s: struct %s: the page has %s at %zu with %zu bytes, the code %s at %zu with %zu", page, name,
				 member, at, bytes, field->name, field->at, field->bytes);
		assert_int_equal(at, behind);
		behind = at + bytes;
		field++;
	}
	fclose(file);
	if (!found || field->name)
		fail_msg("%s: struct %s: %s is missing", page, name, found ? field->name : "the table");
	assert_int_equal(behind, whole);
}

static void test_tables(void **state)
{
	(void)state;
#define CHECK(page, name) check_table(page, #name, name, sizeof(struct name))
	CHECK("log-format.md", log_block);
	CHECK("segment-format.md", segment_header);
	CHECK("segment-format.md", segment_footer);
	CHECK("segment-format.md", segment_tail);
	CHECK("segment-format.md", segment_place);
	CHECK("segment-format.md", segment_section);
	CHECK("segment-format.md", segment_column);
	CHECK("segment-format.md", segment_block);
	CHECK("segment-format.md", column_head);
	CHECK("segment-format.md", id_index_head);
	CHECK("segment-format.md", tp_rollup_row);
	CHECK("segment-format.md", segment_v1_index_entry);
	CHECK("segment-format.md", segment_v1_footer);
	CHECK("storage.md", manifest_header_unit);
	CHECK("storage.md", manifest_record_unit);
	CHECK("storage.md", rollup_header);
	CHECK("storage.md", rollup_block);
	CHECK("storage.md", rollup_section);
	CHECK("storage.md", rollup_footer);
	check_table("storage.md", "manifest_state", manifest_state, sizeof(struct manifest_record_unit));
}

/* A log is read by whatever processor there is: each way to hash a block says what the specification of XXH3 does. */
static void test_hash(void **state)
{
	(void)state;
	static uint8_t bytes[(256 << 10) + 1];
	static const uint64_t lengths[] = {0, 1, 16, 120, 128, 129, 240, 241, 1023, 1024, 1025, 4088, 65536 - 8, sizeof(bytes) - 1};
	uint64_t next = 1;
	for (uint64_t i = 0; i < sizeof(bytes); i++, next = next * 6364136223846793005 + 1442695040888963407)
		bytes[i] = (uint8_t)(next >> 56);
	uint32_t ways = 0;
	for (const log_hash_fn *way = log_hash_all(); *way; way++, ways++)
		for (uint32_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
			for (uint64_t seed = 0; seed < 3; seed++)
				assert_int_equal((*way)(bytes + 1, lengths[i], seed << 62 | seed),
						 XXH3_64bits_withSeed(bytes + 1, lengths[i], seed << 62 | seed));
	assert_true(ways >= 1);
	assert_int_equal(log_hash(bytes, 4088, 7), XXH3_64bits_withSeed(bytes, 4088, 7));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_tables), cmocka_unit_test(test_hash)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
