/*
 * The read-only view of a data folder for other processes. The manifest is read on from where the last refresh ended; rollup files
 * and the segments that they do not cover are mapped at once, so that a deletion never surprises a question for sums; other
 * segments when they are asked for.
 *
 * A writer may be in the middle of an append while we read. A record that is not whole yet is left for the next refresh; what looks
 * like damage is read once more before it is called that, because a copy of a page that is being written may mix old and new.
 *
 * The manifest may be another file than before: it was written anew, or the folder was restored. Then all of it is read again; what
 * is mapped and is still listed, with the same bytes, is kept.
 *
 * Threads: its owner only. Never writes, never locks.
 */
#include "reader_state.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_TRIES = 3, KEEP_MAPPED = 4096, MAPPED_MAX = 32768 };

/* Lets go of all; the lists are empty, the manifest is unread. */
static void reader_forget(struct sto_reader *reader)
{
	for (uint32_t i = 0; i < reader->segments; i++)
		segment_close(&reader->segment[i].file);
	for (uint32_t i = 0; i < reader->rollups; i++)
		rollup_file_close(&reader->rollup[i].file);
	reader->segments = reader->rollups = 0;
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
	free(reader->rollup);
	free(reader->data_dir);
	free(reader);
}

static uint32_t segment_at(const struct sto_reader *reader, uint64_t sequence)
{
	uint32_t low = 0, high = reader->segments;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (reader->segment[middle].facts.sequence < sequence)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void segment_info(struct reader_segment *segment)
{
	const struct manifest_segment *facts = &segment->facts;
	static const uint8_t zeros[MANIFEST_HASH_BYTES];
	segment->info = (struct sto_segment_info){.sequence = facts->sequence,
						  .file_id = facts->file_id,
						  .rows = facts->rows,
						  .bytes = facts->bytes,
						  .from_ms = facts->from_ms,
						  .to_ms = facts->to_ms,
						  .watermark_ms = facts->watermark_ms,
						  .sealed_ms = facts->sealed_ms,
						  .late = facts->late,
						  .generation = facts->generation,
						  .hashed = memcmp(facts->sha256, zeros, sizeof(zeros)) != 0};
	memcpy(segment->info.sha256, facts->sha256, MANIFEST_HASH_BYTES);
	memcpy(segment->info.chain_sha256, facts->chain_sha256, MANIFEST_HASH_BYTES);
	memcpy(segment->info.prev_sha256, facts->prev_sha256, MANIFEST_HASH_BYTES);
}

static int segment_seen(struct sto_reader *reader, const struct manifest_record *record)
{
	uint32_t at = segment_at(reader, record->segment.sequence);
	bool known = at < reader->segments && reader->segment[at].facts.sequence == record->segment.sequence;
	if (known != (record->kind != MANIFEST_SEGMENT) || (!known && at != reader->segments))
		return -EBADMSG;
	if (record->kind == MANIFEST_RETIRED) {
		segment_close(&reader->segment[at].file);
		memmove(&reader->segment[at], &reader->segment[at + 1], (--reader->segments - at) * sizeof(reader->segment[0]));
		return 0;
	}
	if (record->kind == MANIFEST_REPLACED) {
		segment_close(&reader->segment[at].file);
	} else if (reader->segments == reader->segments_max) {
		uint32_t max = reader->segments_max ? 2 * reader->segments_max : 64;
		struct reader_segment *larger = realloc(reader->segment, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		reader->segment = larger;
		reader->segments_max = max;
	}
	reader->segments += !known;
	reader->segment[at] = (struct reader_segment){.facts = record->segment};
	segment_info(&reader->segment[at]);
	return 0;
}

static void rollup_info(struct reader_rollup *rollup)
{
	const struct manifest_rollup *facts = &rollup->facts;
	bool any = facts->minute_min <= facts->minute_max;
	uint64_t unit = manifest_class_minutes((enum manifest_class)facts->class);
	rollup->info = (struct sto_rollup_info){
		.sequence = facts->sequence,
		.class = (enum sto_retention_class)(STO_RETAIN_MINUTE + facts->class),
		.level = facts->level,
		.from_segment = facts->from_segment,
		.to_segment = facts->to_segment,
		.rows = facts->rows,
		.bytes = facts->bytes,
		.from_ms = any ? facts->minute_min * TP_MINUTE_MS : 0,
		.to_ms = any ? (facts->minute_max + unit) * TP_MINUTE_MS : 0,
		.sealed_ms_min = facts->sealed_ms_min,
		.sealed_ms_max = facts->sealed_ms_max,
	};
	memcpy(rollup->info.sha256, facts->sha256, MANIFEST_HASH_BYTES);
}

static int rollup_seen(struct sto_reader *reader, const struct manifest_record *record)
{
	const struct manifest_rollup *facts = &record->rollup;
	uint32_t at = 0;
	if (record->kind == MANIFEST_ROLLUP_GONE) {
		while (at < reader->rollups && reader->rollup[at].facts.sequence != facts->sequence)
			at++;
		if (at == reader->rollups)
			return -EBADMSG;
		rollup_file_close(&reader->rollup[at].file);
		memmove(&reader->rollup[at], &reader->rollup[at + 1], (--reader->rollups - at) * sizeof(reader->rollup[0]));
		return 0;
	}
	if (reader->rollups == reader->rollups_max) {
		uint32_t max = reader->rollups_max ? 2 * reader->rollups_max : 64;
		struct reader_rollup *larger = realloc(reader->rollup, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		reader->rollup = larger;
		reader->rollups_max = max;
	}
	while (at < reader->rollups &&
	       (reader->rollup[at].facts.class < facts->class ||
		(reader->rollup[at].facts.class == facts->class && reader->rollup[at].facts.from_segment < facts->from_segment)))
		at++;
	memmove(&reader->rollup[at + 1], &reader->rollup[at], (reader->rollups++ - at) * sizeof(reader->rollup[0]));
	reader->rollup[at] = (struct reader_rollup){.facts = *facts};
	rollup_info(&reader->rollup[at]);
	return 0;
}

static int record_seen(void *context, const struct manifest_record *record)
{
	struct sto_reader *reader = context;
	/* That a log file was made is nothing to who reads what is published. */
	reader->changed |= record->kind != MANIFEST_LOG_OPENED;
	switch (record->kind) {
	case MANIFEST_SEGMENT:
	case MANIFEST_RETIRED:
	case MANIFEST_REPLACED:
		return segment_seen(reader, record);
	case MANIFEST_ROLLUP:
	case MANIFEST_ROLLUP_GONE:
		return rollup_seen(reader, record);
	case MANIFEST_LOG_EMPTY:
	case MANIFEST_STATE:
	case MANIFEST_SEALED_RANGE:
	case MANIFEST_LOG_OPENED:
	case MANIFEST_LOG_LEFT:
		break;
	}
	return 0;
}

/* Opens the manifest if that was not done, or again if it is another file now. 0, 1: there is none, 2: another one, or -errno. */
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
	/* The open file keeps its identity: no new one can have the same. */
	if (reader->manifest_fd >= 0 && !memcmp(identity, reader->manifest_file, sizeof(identity)))
		return 0;
	if (reader->manifest_fd >= 0)
		return 2;
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

static int segment_map(struct sto_reader *reader, struct reader_segment *segment)
{
	segment->used = ++reader->clock;
	if (segment->file.base || segment->refused)
		return segment->refused ? -EBADMSG : 0;
	if (reader->mapped >= MAPPED_MAX)
		return -EMFILE;
	char path[STORE_PATH_BYTES];
	int rc = folder_segment_path(path, reader->data_dir, segment->facts.sequence, segment->facts.generation);
	if (!rc)
		rc = segment_open(&segment->file, reader->io, path, &segment->facts);
	segment->refused = rc == -EBADMSG;
	segment->missing = segment->missing && rc == -ENOENT;
	reader->mapped += !rc;
	return segment->missing ? -EBADMSG : rc;
}

static int used_compare(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;
	return *a < *b ? -1 : *a > *b;
}

/* Lets the mappings go that were not used for longest, when there are many. */
static void segments_trim(struct sto_reader *reader)
{
	uint32_t mapped = 0;
	for (uint32_t i = 0; i < reader->segments; i++)
		mapped += reader->segment[i].file.base != NULL;
	reader->mapped = mapped;
	uint64_t *used = mapped > KEEP_MAPPED ? malloc(mapped * sizeof(*used)) : NULL;
	if (!used)
		return;
	for (uint32_t i = 0, n = 0; i < reader->segments; i++)
		if (reader->segment[i].file.base)
			used[n++] = reader->segment[i].used;
	qsort(used, mapped, sizeof(*used), used_compare);
	uint64_t limit = used[mapped - KEEP_MAPPED];
	for (uint32_t i = 0; i < reader->segments; i++) {
		struct reader_segment *segment = &reader->segment[i];
		if (!segment->file.base || segment->used >= limit || segment->facts.sequence > reader->manifest.facts.covered)
			continue;
		segment_close(&segment->file);
		reader->mapped--;
	}
	free(used);
}

/* Notes a file that the manifest lists and that is not there; told once. */
static int file_miss(bool *missing, const char *kind, uint64_t sequence)
{
	if (!*missing)
		tp_logf(TP_ERROR, "a published file is missing: put it back from a backup", "%s=%016" PRIx64, kind, sequence);
	*missing = true;
	return 0;
}

/*
 * Maps what sums come from. -ENOENT: a file was let go this moment, read on in the manifest. `last`: that was done as often as it helps,
 * so what is not there now is lost, which is damage.
 */
static int files_map(struct sto_reader *reader, bool last)
{
	int rc = 0;
	segments_trim(reader);
	/* A damaged one stays unmapped: who needs it is told. */
	for (uint32_t i = segment_at(reader, reader->manifest.facts.covered + 1); i < reader->segments && !rc; i++) {
		struct reader_segment *segment = &reader->segment[i];
		rc = segment_map(reader, segment);
		if (rc == -ENOENT && last)
			rc = file_miss(&segment->missing, "segment", segment->facts.sequence);
		rc = rc == -EBADMSG ? 0 : rc;
	}
	for (uint32_t i = 0; i < reader->rollups && !rc; i++) {
		struct reader_rollup *rollup = &reader->rollup[i];
		char path[STORE_PATH_BYTES];
		if (rollup->file.base || rollup->refused)
			continue;
		rc = folder_rollup_path(path, reader->data_dir, rollup->facts.sequence, false);
		if (!rc)
			rc = rollup_file_open(&rollup->file, reader->io, path, &rollup->facts);
		rollup->refused = rc == -EBADMSG;
		if (rc == -ENOENT && (last || rollup->missing))
			rc = file_miss(&rollup->missing, "rollup", rollup->facts.sequence);
		rollup->missing = rollup->missing && !rollup->file.base;
		rc = rollup->refused ? 0 : rc;
	}
	return rc;
}

/* What `old` had mapped, and `reader` lists too, with the same bytes. */
static void mappings_keep(struct sto_reader *reader, struct sto_reader *old)
{
	for (uint32_t i = 0; i < old->segments; i++) {
		struct reader_segment *from = &old->segment[i];
		uint32_t at = segment_at(reader, from->facts.sequence);
		if (!from->file.base || at == reader->segments)
			continue;
		struct reader_segment *to = &reader->segment[at];
		if (to->facts.sequence != from->facts.sequence || to->facts.generation != from->facts.generation ||
		    to->facts.hash != from->facts.hash || to->facts.bytes != from->facts.bytes || to->file.base)
			continue;
		to->file = from->file;
		to->used = from->used;
		memset(&from->file, 0, sizeof(from->file));
	}
	for (uint32_t i = 0; i < old->rollups; i++)
		for (uint32_t at = 0; at < reader->rollups && old->rollup[i].file.base; at++)
			if (reader->rollup[at].facts.sequence == old->rollup[i].facts.sequence &&
			    reader->rollup[at].facts.hash == old->rollup[i].facts.hash &&
			    reader->rollup[at].facts.bytes == old->rollup[i].facts.bytes && !reader->rollup[at].file.base) {
				reader->rollup[at].file = old->rollup[i].file;
				memset(&old->rollup[i].file, 0, sizeof(old->rollup[i].file));
			}
}

/* Another manifest has the name: read it whole, as if newly opened, but keep what is mapped. */
static int manifest_follow(struct sto_reader *reader)
{
	struct sto_reader *made;
	int rc = reader_open(&made, reader->data_dir, reader->io);
	if (rc)
		return rc;
	rc = manifest_find(made);
	if (!rc)
		rc = manifest_read(made);
	if (rc) {
		sto_reader_close(made);
		return rc < 0 ? rc : 0;
	}
	mappings_keep(made, reader);
	struct sto_reader swap = *reader;
	made->clock = reader->clock;
	*reader = *made;
	*made = swap;
	sto_reader_close(made);
	reader->changed = true;
	return 0;
}

int sto_reader_refresh(struct sto_reader *reader)
{
	int rc = 0;
	for (int tries = 0; tries < READ_TRIES; tries++) {
		rc = manifest_find(reader);
		if (rc == 1)
			return 0;
		if (rc == 2)
			rc = manifest_follow(reader);
		if (!rc)
			rc = manifest_read(reader);
		if (rc)
			return rc;
		rc = files_map(reader, tries == READ_TRIES - 1);
		if (rc != -ENOENT)
			break;
	}
	if (rc)
		return rc;
	bool changed = reader->changed;
	reader->changed = false;
	return changed;
}

void sto_reader_state(const struct sto_reader *reader, uint64_t state[STO_READER_STATE])
{
	state[0] = reader->manifest_fd >= 0 ? reader->manifest_file[0] : 0;
	state[1] = reader->manifest_fd >= 0 ? reader->manifest_file[1] : 0;
	state[2] = reader->manifest.bytes;
}

int sto_reader_secret(const char *data_dir)
{
	uint8_t node_id[16];
	uint64_t secret[2];
	int rc = node_file_load(sto_io_system(), data_dir, false, node_id, secret);
	if (!rc)
		tp_id_secret_set(secret);
	return rc;
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

void sto_reader_segment_name(const struct sto_reader *reader, uint32_t index, char *to)
{
	const struct manifest_segment *facts = &reader->segment[index].facts;
	folder_segment_name(to, facts->sequence, facts->generation);
}

void sto_segment_file_name(const struct sto_segment_info *info, char *to)
{
	folder_segment_name(to, info->sequence, info->generation);
}

uint32_t sto_reader_rollups(const struct sto_reader *reader)
{
	return reader->rollups;
}

const struct sto_rollup_info *sto_reader_rollup_info(const struct sto_reader *reader, uint32_t index)
{
	return &reader->rollup[index].info;
}

void sto_reader_rollup_name(const struct sto_reader *reader, uint32_t index, char *to)
{
	snprintf(to, FOLDER_NAME_BYTES, "rollups/%016" PRIx64 ".rol", reader->rollup[index].facts.sequence);
}

uint64_t sto_reader_covered(const struct sto_reader *reader)
{
	return reader->manifest.facts.covered;
}

int reader_segment_use(struct sto_reader *reader, uint32_t index)
{
	int rc = segment_map(reader, &reader->segment[index]);
	return rc == -ENOENT ? -ESTALE : rc;
}

void sto_reader_release(struct sto_reader *reader, uint32_t index)
{
	struct reader_segment *segment = &reader->segment[index];
	if (!segment->file.base || segment->facts.sequence > reader->manifest.facts.covered || reader->mapped <= KEEP_MAPPED)
		return;
	segment_close(&segment->file);
	reader->mapped--;
}

int sto_reader_rollup(struct sto_reader *reader, uint32_t index, const struct tp_rollup_row **rows, uint32_t *count,
		      const char **heap)
{
	int rc = reader_segment_use(reader, index);
	return rc ? rc : segment_rollup(&reader->segment[index].file, rows, count, heap);
}

int sto_reader_events(struct sto_reader *reader, uint32_t index, sto_event_fn fn, void *context)
{
	int rc = reader_segment_use(reader, index);
	return rc ? rc : segment_events(&reader->segment[index].file, fn, context);
}

struct letters {
	sto_dead_letter_fn fn;
	void *context;
	uint64_t sequence;
};

static int letter_give(void *context, const struct tp_event *record)
{
	const struct letters *letters = context;
	const struct tp_dead_letter *letter = tp_dead_letter_of(record);
	if (!letter)
		return 0;
	if (!tp_dead_letter_valid(letter, letter->bytes))
		return segment_damage(letters->sequence, "raw records", "a malformed dead letter");
	return letters->fn(letters->context, letter);
}

int sto_reader_dead_letters(struct sto_reader *reader, uint32_t index, sto_dead_letter_fn fn, void *context)
{
	struct letters letters = {.fn = fn, .context = context, .sequence = reader->segment[index].info.sequence};
	int rc = reader_segment_use(reader, index);
	return rc ? rc : segment_raw(&reader->segment[index].file, letter_give, &letters);
}

int sto_reader_section(struct sto_reader *reader, uint32_t index, uint32_t kind, const void **bytes, uint64_t *length)
{
	int rc = reader_segment_use(reader, index);
	return rc ? rc : segment_section_read(&reader->segment[index].file, kind, bytes, length);
}
