/*
 * Opening segments by mapping. Everything in the file is foreign until its checksum and what it says have been checked: header, tail
 * and a footer when it is opened, each section and block before its use. Format: segment_format.h.
 *
 * A page of a mapped file that the disk cannot read ends the process by SIGBUS: for the data process that is the fail-stop it
 * wants.
 *
 * Threads: a struct segment belongs to one.
 */
#include "segment.h"

#include "segment_column.h"
#include "segment_rows.h"
#include "segment_state.h"
#include "segment_v1.h"
#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { RAW_RATIO_MAX = 256, RAW_BLOCK_BYTES_MAX = 1 << 23 };

int segment_damage(uint64_t sequence, const char *where, const char *what)
{
	tp_logf(TP_ERROR, "segment is damaged, refusing it", "segment=%016" PRIx64 " part=\"%s\" found=\"%s\"", sequence, where,
		what);
	return -EBADMSG;
}

/* ---- the footer ---- */

/* Within what lies between header and tail, so that a few bytes more may always be read. */
static bool within(const struct segment *segment, uint64_t offset, uint64_t bytes, uint64_t raw_bytes, uint64_t align)
{
	uint64_t end = segment->bytes - sizeof(struct segment_tail);
	return offset >= sizeof(struct segment_header) && offset % align == 0 && offset <= end && bytes <= end - offset &&
	       raw_bytes / RAW_RATIO_MAX <= bytes;
}

static bool place_sane(const struct segment *segment, const struct segment_place *place)
{
	return within(segment, place->offset, place->bytes, place->raw_bytes, SEGMENT_ALIGN);
}

static bool column_blocks_sane(const struct segment *segment, const struct segment_column *column)
{
	uint64_t rows = segment->totals->rows;
	bool per_row = column->column < SEGMENT_ROW_NUMBERS || column->column >= SEGMENT_TEXT;
	if (column->blocks != (rows + SEGMENT_BLOCK_ROWS - 1) / SEGMENT_BLOCK_ROWS || column->block > segment->footer->blocks ||
	    column->blocks > segment->footer->blocks - column->block)
		return false;
	for (uint32_t i = 0; i < column->blocks; i++, rows -= SEGMENT_BLOCK_ROWS) {
		const struct segment_block *block = &segment->block[column->block + i];
		uint64_t count = rows < SEGMENT_BLOCK_ROWS ? rows : SEGMENT_BLOCK_ROWS;
		if (!within(segment, block->offset, block->bytes, block->raw_bytes, 8) || block->raw_bytes > RAW_BLOCK_BYTES_MAX)
			return false;
		if (per_row ? block->count != count : block->count > count * TP_FRAUD_REASONS)
			return false;
	}
	return true;
}

static bool column_known(const struct segment *segment, uint16_t which)
{
	for (uint32_t i = 0; i < segment->footer->columns; i++)
		if (segment->column[i].column == which)
			return true;
	return false;
}

static bool columns_sane(const struct segment *segment)
{
	uint64_t rows = segment->totals->rows;
	uint32_t texts = 0, evidence = 0;
	for (uint32_t i = 0; i < segment->footer->columns; i++) {
		const struct segment_column *column = &segment->column[i];
		if (column->column >= SEGMENT_COLUMNS || !segment_column_rule[column->column].name ||
		    (i && column->column <= segment->column[i - 1].column) || !column_blocks_sane(segment, column))
			return false;
		bool is_text = column->column >= SEGMENT_TEXT;
		texts += is_text;
		evidence += column->column >= SEGMENT_EVIDENCE && column->column < SEGMENT_NUMBERS;
		if (is_text ? !column->texts || column->texts > rows || !place_sane(segment, &column->dictionary) : column->texts)
			return false;
		if (column->parent != SEGMENT_NO_PARENT &&
		    (!segment_parent_may(column->column, column->parent) || !column_known(segment, column->parent) ||
		     !place_sane(segment, &column->table)))
			return false;
	}
	/* Each row has all strings; evidence comes with all that belongs to it. */
	return texts == (rows ? TP_STRINGS : 0) && (evidence == 0 || evidence == SEGMENT_NUMBERS - SEGMENT_EVIDENCE);
}

/* Are these bytes a footer of this file? Then the segment's tables point into it. */
static bool footer_take(struct segment *segment, uint64_t offset, uint64_t bytes, uint64_t checksum)
{
	if (offset > segment->bytes || bytes > segment->bytes - offset || bytes < sizeof(struct segment_footer) ||
	    offset % SEGMENT_ALIGN || bytes > UINT32_MAX || XXH3_64bits(segment->base + offset, bytes) != checksum)
		return false;
	const struct segment_footer *footer = (const struct segment_footer *)(const void *)(segment->base + offset);
	if (footer->bytes != bytes || footer->version != segment->version || footer->file_bytes != segment->bytes ||
	    footer->sections > SEGMENT_SECTIONS_MAX || footer->columns > SEGMENT_COLUMNS || footer->blocks > bytes ||
	    bytes != sizeof(*footer) + footer->sections * sizeof(struct segment_section) +
			     footer->columns * sizeof(struct segment_column) + footer->blocks * sizeof(struct segment_block))
		return false;
	const struct segment_totals *totals = &footer->totals;
	/* An id takes 16 bytes in version 2, and at least a bit in version 3. */
	const uint64_t rows_max =
		segment->version == SEGMENT_VERSION_OLD_IDS ? segment->bytes / sizeof(struct tp_id) : 8 * segment->bytes;
	if (totals->rows > rows_max || totals->counted > totals->rows || totals->conflicts > totals->rows - totals->counted)
		return false;
	segment->footer = footer;
	segment->totals = totals;
	segment->section = (const struct segment_section *)(footer + 1);
	segment->column = (const struct segment_column *)(segment->section + footer->sections);
	segment->block = (const struct segment_block *)(segment->column + footer->columns);
	for (uint32_t i = 0; i < footer->sections; i++)
		if (!place_sane(segment, &segment->section[i].place))
			return false;
	return columns_sane(segment);
}

static bool tail_footer_take(struct segment *segment)
{
	const struct segment_tail *tail =
		(const struct segment_tail *)(const void *)(segment->base + segment->bytes - sizeof(struct segment_tail));
	return tail->magic == SEGMENT_MAGIC_END && tail->checksum == XXH3_64bits(tail, offsetof(struct segment_tail, checksum)) &&
	       tail->version == segment->version && tail->file_bytes == segment->bytes &&
	       footer_take(segment, tail->footer_offset, tail->footer_bytes, tail->footer_checksum);
}

bool segment_front_footer_good(const struct segment *segment)
{
	struct segment front = {.base = segment->base, .bytes = segment->bytes, .version = segment->version};
	const struct segment_header *header = segment->header;
	return footer_take(&front, header->footer_offset, header->footer_bytes, header->footer_checksum);
}

static int columnar_take(struct segment *segment)
{
	const struct segment_header *header = segment->header;
	if (segment->bytes < sizeof(*header) + sizeof(struct segment_tail) || segment->bytes % SEGMENT_ALIGN)
		return segment_damage(segment->sequence, "file", "its length");
	if (header->checksum_two !=
	    XXH3_64bits(header->prev_sha256, sizeof(*header) - SEGMENT_HEADER_V1_BYTES - sizeof(header->checksum_two)))
		return segment_damage(segment->sequence, "header", "its second checksum");
	if (header->hashing != SEGMENT_HASHING || header->block_rows != SEGMENT_BLOCK_ROWS)
		return segment_damage(segment->sequence, "header", "a variant that this program does not know");
	if (!tail_footer_take(segment)) {
		if (header->file_bytes != segment->bytes ||
		    !footer_take(segment, header->footer_offset, header->footer_bytes, header->footer_checksum))
			return segment_damage(segment->sequence, "footer", "both copies are damaged");
		segment->footer_damaged = true;
		tp_logf(TP_WARN, "a segment's footer is damaged, reading its front copy", "segment=%016" PRIx64, segment->sequence);
	}
	segment->memory = calloc(1, sizeof(*segment->memory));
	return segment->memory ? 0 : -ENOMEM;
}

int segment_take(struct segment *segment, const uint8_t *base, uint64_t bytes, uint64_t sequence)
{
	*segment = (struct segment){.base = base, .bytes = bytes, .sequence = sequence};
	if (bytes < SEGMENT_HEADER_V1_BYTES)
		return segment_damage(sequence, "file", "its length");
	const struct segment_header *header = segment->header = (const struct segment_header *)(const void *)base;
	if (header->magic != SEGMENT_MAGIC || header->checksum != XXH3_64bits(header, offsetof(struct segment_header, checksum)))
		return segment_damage(sequence, "header", "its checksum");
	if (header->sequence != sequence)
		return segment_damage(sequence, "header", "another segment's sequence");
	segment->version = header->version;
	if (header->version == 1)
		return segment_v1_take(segment);
	if (header->version == SEGMENT_VERSION || header->version == SEGMENT_VERSION_OLD_IDS)
		return columnar_take(segment);
	tp_logf(TP_ERROR, "a segment has a version that this program does not know",
		"segment=%016" PRIx64 " version=%u known=\"1 to 3\"", sequence, header->version);
	return -ENOTSUP;
}

void segment_fetch_ends(const struct sto_io *io, const uint8_t *base, uint64_t bytes)
{
	enum { TAIL_BYTES = 16384 }; /* the tail, and most footers with it */
	if (!io->fetch || bytes < TAIL_BYTES)
		return;
	io->fetch(io, base, sizeof(struct segment_header));
	io->fetch(io, base + bytes - TAIL_BYTES, TAIL_BYTES);
}

int segment_open(struct segment *segment, const struct sto_io *io, const char *path, const struct manifest_segment *facts)
{
	*segment = (struct segment){0};
	int fd = io->open(io, path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	uint64_t bytes;
	const uint8_t *base = NULL;
	int rc = io->size(io, fd, &bytes);
	if (!rc && bytes != facts->bytes)
		rc = segment_damage(facts->sequence, "file", "a length other than the manifest's");
	if (!rc)
		rc = io->map(io, fd, bytes, &base);
	io->close(io, fd);
	if (rc)
		return rc;
	segment_fetch_ends(io, base, bytes);
	rc = segment_take(segment, base, bytes, facts->sequence);
	segment->io = io;
	if (!rc && (segment->header->file_id != facts->file_id || segment->totals->rows != facts->rows))
		rc = segment_damage(facts->sequence, "header", "another log file or row count than the manifest's");
	if (rc)
		segment_close(segment);
	return rc;
}

void segment_close(struct segment *segment)
{
	if (segment->base && segment->io)
		segment->io->unmap(segment->io, segment->base, segment->bytes);
	if (segment->memory) {
		for (int i = 0; i < SEGMENT_SECTIONS_MAX; i++)
			buffer_fini(&segment->memory->section[i]);
		id_index_close(&segment->memory->id_index);
		free(segment->memory->rollup);
		free(segment->memory->heap);
		free(segment->memory);
	}
	*segment = (struct segment){0};
}

int segment_peek(const struct sto_io *io, const char *path, uint64_t sequence, uint64_t *file_id)
{
	struct segment_header header;
	int fd = io->open(io, path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	int64_t got = io->read(io, fd, &header, SEGMENT_HEADER_V1_BYTES, 0);
	io->close(io, fd);
	if (got < 0)
		return (int)got;
	if (got < SEGMENT_HEADER_V1_BYTES || header.magic != SEGMENT_MAGIC || header.sequence != sequence ||
	    header.checksum != XXH3_64bits(&header, offsetof(struct segment_header, checksum)))
		return -EBADMSG;
	*file_id = header.file_id;
	return 0;
}

/* ---- sections ---- */

int segment_section_read(struct segment *segment, uint32_t kind, const void **bytes, uint64_t *length)
{
	uint32_t index = 0, count = segment->version == 1 ? 0 : segment->footer->sections;
	while (index < count && segment->section[index].kind != kind)
		index++;
	if (index == count)
		return -ENOENT;
	const struct segment_place *place = &segment->section[index].place;
	struct segment_memory *memory = segment->memory;
	uint64_t bit = (uint64_t)1 << index;
	if (memory->bad & bit)
		return -EBADMSG;
	if (!(memory->good & bit)) {
		const uint8_t *at;
		uint64_t got;
		char name[32];
		int rc = segment_place_read(segment, place, &memory->section[index], &at, &got);
		if (rc == -EBADMSG) {
			memory->bad |= bit;
			snprintf(name, sizeof(name), "section %u", kind);
			segment_damage(segment->sequence, name, "its checksum");
		}
		if (rc)
			return rc;
		memory->good |= bit;
	}
	*bytes = place->raw_bytes ? memory->section[index].at : segment->base + place->offset;
	*length = place->raw_bytes ? place->raw_bytes : place->bytes;
	return 0;
}

int segment_id_index(struct segment *segment, const struct id_index **index)
{
	struct id_index *kept = &segment->memory->id_index;
	if (!kept->count) {
		const void *bytes;
		uint64_t length;
		int rc = segment_section_read(segment, SEGMENT_ID_INDEX, &bytes, &length);
		if (!rc)
			rc = id_index_open(kept, bytes, length, segment->totals->rows);
		else if (rc == -ENOENT)
			rc = -EBADMSG;
		if (rc)
			return rc == -EBADMSG ? segment_damage(segment->sequence, "id index", "none of its rows") : rc;
	}
	*index = kept;
	return 0;
}

int segment_raw(struct segment *segment, sto_event_fn fn, void *context)
{
	const void *bytes;
	uint64_t length, records = segment->version == 1 ? 0 : segment->footer->raw_records;
	int rc = segment_section_read(segment, SEGMENT_RAW, &bytes, &length);
	if (rc)
		return rc == -ENOENT && !records ? 0 : rc == -ENOENT ? -EBADMSG : rc;
	const uint8_t *at = bytes;
	for (uint64_t i = 0; i < records && !rc; i++) {
		const struct tp_event *event = (const struct tp_event *)(const void *)at;
		if (length < sizeof(uint64_t) || event->bytes < sizeof(uint64_t) || event->bytes % 8 || event->bytes > length)
			return segment_damage(segment->sequence, "raw records", "a record that is not whole");
		at += event->bytes;
		length -= event->bytes;
		rc = fn(context, event);
	}
	return rc;
}

/* ---- events ---- */

int segment_events_sorted(struct segment *segment, sto_event_fn fn, void *context)
{
	if (segment->version == 1)
		return segment_v1_events(segment, fn, context);
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	struct segment_rows rows = {0};
	int rc = segment_rows_open(&rows, segment);
	if (rc)
		return rc;
	rc = segment_rows_prepare(&rows, segment);
	for (uint32_t b = 0; b < rows.blocks && !rc; b++) {
		rc = segment_rows_load(&rows, b);
		for (uint32_t i = 0; i < segment_rows_count(&rows, b) && !rc; i++) {
			rc = segment_rows_event(&rows, b, i, event);
			if (!rc)
				rc = fn(context, event);
		}
	}
	segment_rows_close(&rows);
	return rc;
}

struct received {
	uint64_t received_ms;
	uint64_t at; /* in the records */
};

struct keeping {
	struct buffer records, order;
};

static int record_keep(void *context, const struct tp_event *event)
{
	struct keeping *keeping = context;
	const struct received one = {.received_ms = event->received_ms, .at = keeping->records.bytes};
	buffer_put(&keeping->records, event, event->bytes);
	buffer_put(&keeping->order, &one, sizeof(one));
	return keeping->records.failed || keeping->order.failed ? -ENOMEM : 0;
}

/* Records of one stamp of receipt stay in the order of the file: those of one id and time so in that of the log. */
static int received_compare(const void *left, const void *right)
{
	const struct received *a = left, *b = right;
	if (a->received_ms != b->received_ms)
		return a->received_ms < b->received_ms ? -1 : 1;
	return a->at < b->at ? -1 : a->at > b->at;
}

int segment_events(struct segment *segment, sto_event_fn fn, void *context)
{
	if (segment->version == 1)
		return segment_v1_events(segment, fn, context);
	struct keeping keeping = {0};
	int rc = segment_events_sorted(segment, record_keep, &keeping);
	uint64_t count = keeping.order.bytes / sizeof(struct received);
	struct received *order = (struct received *)(void *)keeping.order.at;
	if (!rc && count)
		qsort(order, count, sizeof(*order), received_compare);
	for (uint64_t i = 0; i < count && !rc; i++)
		rc = fn(context, (const struct tp_event *)(const void *)(keeping.records.at + order[i].at));
	buffer_fini(&keeping.records);
	buffer_fini(&keeping.order);
	return rc;
}
