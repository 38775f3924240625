/*
 * Reading segments by mapping. Everything in the file is foreign until its checksum and its inner lengths have been checked; each
 * section is checked once, before its first use. Format: segment_format.h.
 *
 * A page of a mapped file that the disk cannot read ends the process by SIGBUS: for the data process that is the fail-stop it
 * wants.
 *
 * Threads: a struct segment belongs to one.
 */
#include "segment.h"

#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

static const char *const section_name[SEGMENT_SECTIONS] = {"rows", "id index", "rollup", "rollup heap"};

static int damage(uint64_t sequence, const char *where, const char *what)
{
	tp_logf(TP_ERROR, "segment is damaged, refusing it", "segment=%016" PRIx64 " part=\"%s\" found=\"%s\"", sequence, where,
		what);
	return -EBADMSG;
}

static bool footer_sane(const struct segment_footer *footer, uint64_t bytes)
{
	static const uint64_t each[SEGMENT_SECTIONS] = {0, sizeof(struct segment_index_entry), sizeof(struct tp_rollup_row), 1};
	uint64_t behind = sizeof(struct segment_header);
	for (int i = 0; i < SEGMENT_SECTIONS; i++) {
		const struct segment_place *place = &footer->section[i];
		if (place->offset < behind || place->offset % SEGMENT_ALIGN || place->offset > bytes ||
		    place->bytes > bytes - place->offset)
			return false;
		if (each[i] && (place->bytes % each[i] || place->bytes / each[i] != place->count))
			return false;
		behind = place->offset + place->bytes;
	}
	const struct segment_totals *totals = &footer->totals;
	return behind <= bytes - sizeof(*footer) && footer->section[SEGMENT_ROWS].count == totals->rows &&
	       footer->section[SEGMENT_INDEX].count == totals->counted && totals->counted <= totals->rows &&
	       totals->conflicts <= totals->rows - totals->counted && footer->section[SEGMENT_ROLLUP].count <= UINT32_MAX &&
	       totals->rows <= bytes / TP_EVENT_FIXED_BYTES;
}

int segment_take(struct segment *segment, const uint8_t *base, uint64_t bytes, uint64_t sequence)
{
	*segment = (struct segment){.base = base, .bytes = bytes, .sequence = sequence};
	if (bytes < sizeof(struct segment_header) + sizeof(struct segment_footer) ||
	    (bytes - sizeof(struct segment_footer)) % SEGMENT_ALIGN)
		return damage(sequence, "file", "its length");
	const struct segment_header *header = (const struct segment_header *)(const void *)base;
	const struct segment_footer *footer =
		(const struct segment_footer *)(const void *)(base + bytes - sizeof(struct segment_footer));
	if (header->magic != SEGMENT_MAGIC || header->checksum != XXH3_64bits(header, offsetof(struct segment_header, checksum)))
		return damage(sequence, "header", "its checksum");
	if (header->version != SEGMENT_VERSION)
		return damage(sequence, "header", "a version that this program does not know");
	if (header->sequence != sequence)
		return damage(sequence, "header", "another segment's sequence");
	if (footer->magic != SEGMENT_MAGIC_END || footer->bytes != sizeof(*footer) || footer->version != SEGMENT_VERSION ||
	    footer->checksum != XXH3_64bits(footer, offsetof(struct segment_footer, checksum)))
		return damage(sequence, "footer", "its checksum");
	if (!footer_sane(footer, bytes))
		return damage(sequence, "footer", "sections that cannot be");
	segment->header = header;
	segment->footer = footer;
	return 0;
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
		rc = damage(facts->sequence, "file", "a length other than the manifest's");
	if (!rc)
		rc = io->map(io, fd, bytes, &base);
	io->close(io, fd);
	if (rc)
		return rc;
	rc = segment_take(segment, base, bytes, facts->sequence);
	segment->io = io;
	if (!rc && (segment->header->file_id != facts->file_id || segment->footer->totals.rows != facts->rows))
		rc = damage(facts->sequence, "header", "another log file or row count than the manifest's");
	if (rc)
		segment_close(segment);
	return rc;
}

void segment_close(struct segment *segment)
{
	if (segment->base && segment->io)
		segment->io->unmap(segment->io, segment->base, segment->bytes);
	*segment = (struct segment){0};
}

int segment_peek(const struct sto_io *io, const char *path, uint64_t sequence, uint64_t *file_id)
{
	struct segment_header header;
	int fd = io->open(io, path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	int64_t got = io->read(io, fd, &header, sizeof(header), 0);
	io->close(io, fd);
	if (got < 0)
		return (int)got;
	if (got < (int64_t)sizeof(header) || header.magic != SEGMENT_MAGIC || header.sequence != sequence ||
	    header.checksum != XXH3_64bits(&header, offsetof(struct segment_header, checksum)))
		return -EBADMSG;
	*file_id = header.file_id;
	return 0;
}

/* ---- inner checks, once per section ---- */

static const uint8_t *section_at(const struct segment *segment, enum segment_section section)
{
	return segment->base + segment->footer->section[section].offset;
}

/* The record at offset `at` of the rows, or NULL when there is none that is whole. */
static const struct tp_event *row_at(const struct segment *segment, uint64_t at)
{
	uint64_t room = segment->footer->section[SEGMENT_ROWS].bytes;
	if (at > room || room - at < TP_EVENT_FIXED_BYTES || at % 8)
		return NULL;
	const struct tp_event *event = (const struct tp_event *)(const void *)(section_at(segment, SEGMENT_ROWS) + at);
	return tp_event_valid(event, room - at) ? event : NULL;
}

static const char *rows_check(const struct segment *segment)
{
	uint64_t at = 0;
	for (uint64_t i = 0; i < segment->footer->totals.rows; i++) {
		const struct tp_event *event = row_at(segment, at);
		if (!event)
			return "a malformed row";
		if (!tp_verdict_logged(event->verdict))
			return "a row with a verdict that does not belong into a segment";
		at += event->bytes;
	}
	return at == segment->footer->section[SEGMENT_ROWS].bytes ? NULL : "more bytes than its rows";
}

static const char *rollup_check(const struct segment *segment)
{
	const struct tp_rollup_row *row = (const struct tp_rollup_row *)(const void *)section_at(segment, SEGMENT_ROLLUP);
	uint64_t heap_bytes = segment->footer->section[SEGMENT_HEAP].bytes;
	uint32_t minute = 0;
	for (uint64_t i = 0; i < segment->footer->section[SEGMENT_ROLLUP].count; i++, row++) {
		uint64_t end = row->string_at;
		for (int d = 0; d < TP_DIMENSIONS; d++)
			end += row->string_bytes[d];
		if (end > heap_bytes)
			return "strings beyond the heap";
		if (row->minute < minute || row->device >= TP_DEVICE_TYPES)
			return "rows out of order, or an unknown device";
		minute = row->minute;
	}
	return NULL;
}

int segment_check(struct segment *segment, enum segment_section section)
{
	uint8_t bit = (uint8_t)(1u << section);
	if (segment->checked & bit)
		return 0;
	if (segment->damaged & bit)
		return -EBADMSG;
	const struct segment_place *place = &segment->footer->section[section];
	const char *found = NULL;
	if (place->checksum != XXH3_64bits(section_at(segment, section), place->bytes))
		found = "its checksum";
	else if (section == SEGMENT_ROWS)
		found = rows_check(segment);
	else if (section == SEGMENT_ROLLUP)
		found = rollup_check(segment);
	if (found) {
		segment->damaged |= bit;
		return damage(segment->sequence, section_name[section], found);
	}
	segment->checked |= bit;
	return 0;
}

/* ---- use ---- */

int segment_events(struct segment *segment, sto_event_fn fn, void *context)
{
	int rc = segment_check(segment, SEGMENT_ROWS);
	const uint8_t *at = section_at(segment, SEGMENT_ROWS);
	for (uint64_t i = 0; i < segment->footer->totals.rows && !rc; i++) {
		const struct tp_event *event = (const struct tp_event *)(const void *)at;
		at += event->bytes;
		rc = fn(context, event);
	}
	return rc;
}

int segment_ids(struct segment *segment, sto_id_fn fn, void *context)
{
	int rc = segment_check(segment, SEGMENT_INDEX);
	const struct segment_index_entry *entry =
		(const struct segment_index_entry *)(const void *)section_at(segment, SEGMENT_INDEX);
	for (uint64_t i = 0; i < segment->footer->totals.counted && !rc; i++, entry++)
		rc = fn(context, entry->id, entry->fingerprint, entry->minute);
	return rc;
}

static bool entry_before(const struct segment_index_entry *entry, struct tp_id id, uint32_t minute)
{
	if (entry->id.hi != id.hi)
		return entry->id.hi < id.hi;
	if (entry->id.lo != id.lo)
		return entry->id.lo < id.lo;
	return entry->minute < minute;
}

int segment_lookup(struct segment *segment, struct tp_id id, uint32_t minute, uint64_t fingerprint)
{
	if (!segment->footer->totals.counted || id.hi < segment->footer->id_first || id.hi > segment->footer->id_last)
		return STO_ABSENT;
	int rc = segment_check(segment, SEGMENT_INDEX);
	if (rc)
		return rc;
	const struct segment_index_entry *entry =
		(const struct segment_index_entry *)(const void *)section_at(segment, SEGMENT_INDEX);
	uint64_t low = 0, high = segment->footer->totals.counted;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (entry_before(&entry[middle], id, minute))
			low = middle + 1;
		else
			high = middle;
	}
	if (low == segment->footer->totals.counted || entry[low].id.hi != id.hi || entry[low].id.lo != id.lo ||
	    entry[low].minute != minute)
		return STO_ABSENT;
	return entry[low].fingerprint == fingerprint ? STO_SAME : STO_OTHER;
}

int segment_rollup(struct segment *segment, const struct tp_rollup_row **rows, uint32_t *count, const char **heap)
{
	int rc = segment_check(segment, SEGMENT_HEAP);
	if (!rc)
		rc = segment_check(segment, SEGMENT_ROLLUP);
	if (rc)
		return rc;
	*rows = (const struct tp_rollup_row *)(const void *)section_at(segment, SEGMENT_ROLLUP);
	*count = (uint32_t)segment->footer->section[SEGMENT_ROLLUP].count;
	*heap = (const char *)section_at(segment, SEGMENT_HEAP);
	return 0;
}

/* Version 1 has none. */
int segment_section(struct segment *segment, uint32_t kind, const void **bytes, uint64_t *length)
{
	(void)segment, (void)kind, (void)bytes, (void)length;
	return -ENOENT;
}

static int totals_take(void *context, const struct tp_event *event)
{
	segment_totals_add(context, event);
	return 0;
}

int segment_verify(struct segment *segment, const struct manifest_segment *facts)
{
	for (enum segment_section s = 0; s < SEGMENT_SECTIONS; s++) {
		int rc = segment_check(segment, s);
		if (rc)
			return rc;
	}
	const struct segment_totals *told = &segment->footer->totals;
	struct segment_totals found;
	segment_totals_init(&found);
	int rc = segment_events(segment, totals_take, &found);
	if (rc)
		return rc;
	found.watermark_ms = told->watermark_ms;
	if (memcmp(&found, told, sizeof(found)))
		return damage(segment->sequence, "footer", "totals other than those of its rows");
	const struct segment_index_entry *entry =
		(const struct segment_index_entry *)(const void *)section_at(segment, SEGMENT_INDEX);
	for (uint64_t i = 0; i < told->counted; i++) {
		const struct tp_event *event = row_at(segment, entry[i].row_at);
		if (!event || !tp_verdict_counts(event->verdict) || memcmp(&event->id, &entry[i].id, sizeof(event->id)) ||
		    event->fingerprint != entry[i].fingerprint || event->timestamp_ms / TP_MINUTE_MS != entry[i].minute ||
		    (i && !entry_before(&entry[i - 1], entry[i].id, entry[i].minute)))
			return damage(segment->sequence, "id index", "an entry that is not its row's");
	}
	struct tp_sums sum = {0};
	const struct tp_rollup_row *row = (const struct tp_rollup_row *)(const void *)section_at(segment, SEGMENT_ROLLUP);
	for (uint64_t i = 0; i < segment->footer->section[SEGMENT_ROLLUP].count; i++, row++) {
		sum.impressions += row->sums.impressions;
		sum.clicks += row->sums.clicks;
		sum.flagged_clicks += row->sums.flagged_clicks;
		sum.conversions += row->sums.conversions;
		sum.late += row->sums.late;
		sum.spend_micros += row->sums.spend_micros;
	}
	if (sum.impressions != told->impressions || sum.clicks != told->clicks || sum.flagged_clicks != told->flagged_clicks ||
	    sum.conversions != told->conversions || sum.late != told->late || sum.spend_micros != told->spend_micros)
		return damage(segment->sequence, "rollup", "sums other than those of the rows");
	if (XXH3_64bits(segment->base, segment->bytes) != facts->hash)
		return damage(segment->sequence, "file", "another hash than the manifest's");
	return 0;
}
