/*
 * The read-only view of a data folder for other processes. The manifest is read on from where the last refresh ended; each segment
 * that it publishes is mapped at once, so that a deletion never surprises: what is mapped stays until the reader lets it go.
 *
 * A writer may be in the middle of an append while we read. A record that is not whole yet is left for the next refresh; what looks
 * like damage is read once more before it is called that, because a copy of a page that is being written may mix old and new.
 *
 * Threads: its owner only. Never writes, never locks.
 */
#include "store_state.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { READ_TRIES = 3 };

struct reader_segment {
	struct sto_segment_info info;
	struct manifest_segment facts;
	struct segment file;
	bool retired;
};

struct sto_reader {
	const struct sto_io *io;
	char *data_dir;
	int manifest_fd;           /* -1: there was none yet */
	uint64_t manifest_file[2]; /* its identity: another file under the name means that the folder was restored */
	struct manifest manifest;
	struct reader_segment *segment; /* ascending by sequence */
	uint32_t segments, segments_max;
	bool changed;
};

static void reader_forget(struct sto_reader *reader)
{
	for (uint32_t i = 0; i < reader->segments; i++)
		segment_close(&reader->segment[i].file);
	reader->segments = 0;
	manifest_fini(&reader->manifest);
	if (reader->manifest_fd >= 0)
		reader->io->close(reader->io, reader->manifest_fd);
	reader->manifest_fd = -1;
}

int reader_open(struct sto_reader **reader, const char *data_dir, const struct sto_io *io)
{
	struct sto_reader *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->io = io;
	r->manifest_fd = -1;
	r->data_dir = strdup(data_dir);
	if (!r->data_dir) {
		free(r);
		return -ENOMEM;
	}
	*reader = r;
	return 0;
}

int sto_reader_open(struct sto_reader **reader, const char *data_dir)
{
	return reader_open(reader, data_dir, sto_io_system());
}

void sto_reader_close(struct sto_reader *reader)
{
	if (!reader)
		return;
	reader_forget(reader);
	free(reader->segment);
	free(reader->data_dir);
	free(reader);
}

static int record_seen(void *context, const struct manifest_record *record)
{
	struct sto_reader *reader = context;
	reader->changed = true;
	if (record->kind == MANIFEST_SEGMENT) {
		if (reader->segments == reader->segments_max) {
			uint32_t max = reader->segments_max ? 2 * reader->segments_max : 64;
			struct reader_segment *larger = realloc(reader->segment, max * sizeof(*larger));
			if (!larger)
				return -ENOMEM;
			reader->segment = larger;
			reader->segments_max = max;
		}
		const struct manifest_segment *facts = &record->segment;
		reader->segment[reader->segments++] = (struct reader_segment){
			.facts = *facts,
			.info = {.sequence = facts->sequence,
				 .file_id = facts->file_id,
				 .rows = facts->rows,
				 .bytes = facts->bytes,
				 .from_ms = facts->from_ms,
				 .to_ms = facts->to_ms,
				 .watermark_ms = facts->watermark_ms,
				 .sealed_ms = facts->sealed_ms,
				 .late = facts->late},
		};
	} else if (record->kind == MANIFEST_RETIRED) {
		uint32_t low = 0, high = reader->segments;
		while (low < high) {
			uint32_t middle = low + (high - low) / 2;
			if (reader->segment[middle].facts.sequence < record->segment.sequence)
				low = middle + 1;
			else
				high = middle;
		}
		if (low == reader->segments || reader->segment[low].facts.sequence != record->segment.sequence ||
		    reader->segment[low].retired)
			return -EBADMSG;
		reader->segment[low].retired = true;
	}
	return 0;
}

/* Opens the manifest if that was not done, or again if it is another file now. 0, 1: there is none, or -errno. */
static int manifest_find(struct sto_reader *reader)
{
	char path[STORE_PATH_BYTES];
	uint64_t identity[2];
	int rc = folder_path(path, reader->data_dir, "manifest");
	if (!rc)
		rc = reader->io->identity(reader->io, path, -1, identity);
	if (rc == -ENOENT || rc == -ENOTDIR)
		return 1; /* what was seen stays true until there is something else to see */
	if (rc)
		return rc;
	if (reader->manifest_fd >= 0 && !memcmp(identity, reader->manifest_file, sizeof(identity)))
		return 0;
	if (reader->manifest_fd >= 0) {
		tp_logf(TP_WARN, "the manifest is another file now, reading all of it again", "file=%s", path);
		reader_forget(reader);
		reader->changed = true;
	}
	int fd = reader->io->open(reader->io, path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	reader->manifest_fd = fd;
	return reader->io->identity(reader->io, NULL, fd, reader->manifest_file);
}

/* Takes in what is new. */
static int manifest_read(struct sto_reader *reader)
{
	int rc = -EBADMSG;
	for (int tries = 0; tries < READ_TRIES && rc == -EBADMSG; tries++) {
		uint64_t bytes, from = reader->manifest.bytes;
		rc = reader->io->size(reader->io, reader->manifest_fd, &bytes);
		if (rc)
			return rc;
		if (bytes <= from && from)
			return 0;
		uint8_t *piece = malloc(bytes - from + 1);
		if (!piece)
			return -ENOMEM;
		int64_t got = reader->io->read(reader->io, reader->manifest_fd, piece, bytes - from, from);
		rc = got < 0 ? (int)got : manifest_feed(&reader->manifest, piece, (uint64_t)got, record_seen, reader);
		free(piece);
		if (rc >= 0 && !reader->manifest.bytes)
			rc = -EBADMSG;
	}
	if (rc == -EBADMSG)
		tp_logf(TP_ERROR, "the manifest is damaged", "data_dir=%s offset=%" PRIu64, reader->data_dir,
			reader->manifest.bytes);
	return rc < 0 ? rc : 0;
}

/* Lets the retired go and maps the new. -ENOENT: one was retired this moment, read on in the manifest. */
static int segments_map(struct sto_reader *reader)
{
	uint32_t kept = 0;
	int rc = 0;
	for (uint32_t i = 0; i < reader->segments; i++) {
		struct reader_segment *segment = &reader->segment[i];
		if (segment->retired) {
			segment_close(&segment->file);
			continue;
		}
		if (!segment->file.base && !rc) {
			char path[STORE_PATH_BYTES];
			rc = folder_segment_path(path, reader->data_dir, segment->facts.sequence, segment->facts.generation);
			if (!rc)
				rc = segment_open(&segment->file, reader->io, path, &segment->facts);
		}
		if (kept != i)
			reader->segment[kept] = *segment;
		kept++;
	}
	reader->segments = kept;
	return rc;
}

int sto_reader_refresh(struct sto_reader *reader)
{
	int rc = manifest_find(reader);
	if (rc)
		return rc < 0 ? rc : 0;
	for (int tries = 0; tries < READ_TRIES; tries++) {
		rc = manifest_read(reader);
		if (rc)
			return rc;
		rc = segments_map(reader);
		if (rc != -ENOENT)
			break;
	}
	if (rc == -ENOENT) {
		tp_logf(TP_ERROR, "a published segment is missing", "data_dir=%s", reader->data_dir);
		rc = -EBADMSG;
	}
	if (rc)
		return rc;
	bool changed = reader->changed;
	reader->changed = false;
	return changed;
}

bool sto_reader_sealed(const struct sto_reader *reader, uint64_t file_id)
{
	return manifest_sealed(&reader->manifest, file_id);
}

uint64_t sto_reader_watermark(const struct sto_reader *reader)
{
	return reader->manifest.facts.watermark_ms;
}

uint32_t sto_reader_segments(const struct sto_reader *reader)
{
	return reader->segments;
}

const struct sto_segment_info *sto_reader_segment(const struct sto_reader *reader, uint32_t index)
{
	return &reader->segment[index].info;
}

int sto_reader_rollup(struct sto_reader *reader, uint32_t index, const struct tp_rollup_row **rows, uint32_t *count,
		      const char **heap)
{
	struct segment *file = &reader->segment[index].file;
	return file->base ? segment_rollup(file, rows, count, heap) : -EBADMSG;
}

int sto_reader_events(struct sto_reader *reader, uint32_t index, sto_event_fn fn, void *context)
{
	struct segment *file = &reader->segment[index].file;
	return file->base ? segment_events(file, fn, context) : -EBADMSG;
}

int sto_reader_section(struct sto_reader *reader, uint32_t index, uint32_t kind, const void **bytes, uint64_t *length)
{
	struct segment *file = &reader->segment[index].file;
	return file->base ? segment_section(file, kind, bytes, length) : -EBADMSG;
}
