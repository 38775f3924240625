/*
 * Read-only access to the data folder for other processes: the manifest as a snapshot, files by mmap, every block verified before
 * its first use. Never writes, never locks. Owned by one thread.
 *
 * A snapshot holds from one refresh to the next. Rollup files, and the segments that they do not cover yet, are mapped by the
 * refresh, so that no deletion surprises a question for sums. The other segments, of which there may be many, are mapped when they
 * are first asked for; one that was deleted since the refresh gives -ESTALE: refresh, and it is gone from the list. What a call
 * returned stays valid until the next refresh.
 */
#ifndef TURNPIKE_READER_H
#define TURNPIKE_READER_H

#include "turnpike/dead_letter.h"
#include "turnpike/rollup.h"
#include "turnpike/store.h"

struct sto_reader;

struct sto_segment_info {
	uint64_t sequence;
	uint64_t file_id; /* of the log file it was made from */
	uint64_t rows;    /* counted events and conflicts */
	uint64_t bytes;
	uint64_t from_ms, to_ms; /* stamps, half-open; 0,0 when only conflicts */
	uint64_t watermark_ms;
	uint64_t sealed_ms;
	uint64_t late;            /* late events in it */
	uint32_t generation;      /* how often its file has been replaced (archived) */
	bool hashed;              /* false: published by a program that did not know SHA-256 yet; the three below are zeros */
	uint8_t sha256[32];       /* of its file */
	uint8_t chain_sha256[32]; /* of the file that was published first: what the next segment has as its previous */
	uint8_t prev_sha256[32];  /* chain_sha256 of the segment published before */
};

/* A file of sums. */
struct sto_rollup_info {
	uint64_t sequence;
	enum sto_retention_class class; /* STO_RETAIN_MINUTE, _HOUR or _DAY */
	uint32_t level;                 /* merges behind it */
	uint64_t from_segment, to_segment;
	uint64_t rows, bytes;
	uint64_t from_ms, to_ms; /* of its buckets, half-open; 0,0 without any */
	uint64_t sealed_ms_min, sealed_ms_max;
	uint8_t sha256[32];
};

int sto_reader_open(struct sto_reader **reader, const char *data_dir); /* works before the data process ever ran */
void sto_reader_close(struct sto_reader *reader);

/*
 * Takes the folder's secret for the hashes of ids (tp_id_secret_set), so that a text finds the id that its event has there. For a process
 * that serves one folder. 0; -ENOENT: the data process has not made one yet; -EBADMSG.
 */
int sto_reader_secret(const char *data_dir);

/* Takes in what the manifest has gained; maps what is new. Returns 1 when something changed, 0 when not, or -errno. */
int sto_reader_refresh(struct sto_reader *reader);

/* What the last refresh saw: two readers with the same state answer the same. All zeros before there is a manifest. */
enum { STO_READER_STATE = 3 };
void sto_reader_state(const struct sto_reader *reader, uint64_t state[STO_READER_STATE]);

/* True if log file file_id is sealed as of the last refresh (also when it was empty, or has been retired since). */
bool sto_reader_sealed(const struct sto_reader *reader, uint64_t file_id);
uint64_t sto_reader_watermark(const struct sto_reader *reader);
uint32_t sto_reader_segments(const struct sto_reader *reader);
const struct sto_segment_info *sto_reader_segment(const struct sto_reader *reader, uint32_t index);
/* Path of its file below data_dir: "segments/….seg". `to` has 64 bytes. */
void sto_reader_segment_name(const struct sto_reader *reader, uint32_t index, char *to);

/* The same of a segment that the reader has told of, without the reader. */
void sto_segment_file_name(const struct sto_segment_info *info, char *to);

/* Rollup files, by class, then coverage; and up to which segment they reach. */
uint32_t sto_reader_rollups(const struct sto_reader *reader);
const struct sto_rollup_info *sto_reader_rollup_info(const struct sto_reader *reader, uint32_t index);
void sto_reader_rollup_name(const struct sto_reader *reader, uint32_t index, char *to);
uint64_t sto_reader_covered(const struct sto_reader *reader);

/* The rollup rows of a segment, sorted by minute then key; and their string heap. 0, -ESTALE or -EBADMSG on damage. */
int sto_reader_rollup(struct sto_reader *reader, uint32_t index, const struct tp_rollup_row **rows, uint32_t *count,
		      const char **heap);
/* What was returned of this segment is not needed any more: for those who walk over very many. */
void sto_reader_release(struct sto_reader *reader, uint32_t index);
/*
 * Each row of a segment: counted events, conflicts, amendments; in the order in which they were received, to the millisecond. A
 * record is valid only inside fn. Its fingerprint is that of this process' key (tp_id_secret_set).
 */
int sto_reader_events(struct sto_reader *reader, uint32_t index, sto_event_fn fn, void *context);
/*
 * Each dead letter of a segment, in the order of the log. 0, what fn returned, -ESTALE or -EBADMSG. One that is damaged behind a good
 * checksum is -EBADMSG; records of kinds that this program does not know are passed over.
 */
typedef int (*sto_dead_letter_fn)(void *context, const struct tp_dead_letter *letter);
int sto_reader_dead_letters(struct sto_reader *reader, uint32_t index, sto_dead_letter_fn fn, void *context);
/* The verified bytes of an extra section (enum sto_section_kind). 0, -ENOENT: the segment has none of that kind, -EBADMSG. */
int sto_reader_section(struct sto_reader *reader, uint32_t index, uint32_t kind, const void **bytes, uint64_t *length);

enum sto_grain { STO_MINUTES, STO_HOURS, STO_DAYS };

struct sto_sums_query {
	uint64_t from_minute, to_minute; /* half-open */
	enum sto_grain grain;            /* the coarsest buckets that serve; the range need not be whole ones */
	enum tp_dimension dimension;     /* with `id`: only rows that have it there */
	const char *id;                  /* NULL: all rows */
	size_t id_bytes;
	bool alone; /* with `id`: only that dimension, currency, bucket and sums are looked at; the rest of a row may be empty */
};

/* One row; row->minute is where its bucket starts. Valid during the call. False ends the question. */
typedef bool (*sto_sums_fn)(void *context, const struct tp_rollup_row *row, const char *heap);

/* Which file is damaged. */
struct sto_damage {
	bool rollup; /* a rollup file; else a segment */
	uint64_t sequence;
};

/*
 * The sums of all sealed events with minutes in [from, to), as rows in no order; several may be of the same key and bucket, and are
 * to be added up, modulo 2^64. Taken from days where whole days are asked for and days will do, else from hours, else from minutes;
 * what no rollup file covers yet comes from its segment, by minutes. Where minutes are beyond their retention, hours stand for them,
 * and count where they start; so do days for hours.
 *
 * 0; -ECANCELED: fn returned false; -EBADMSG: damage, *damage tells where (damage may be NULL).
 */
int sto_reader_sums(struct sto_reader *reader, const struct sto_sums_query *query, sto_sums_fn fn, void *context,
		    struct sto_damage *damage);

/*
 * What retention will delete: for each file when it is due. `fn` gets the class, the path below data_dir, bytes, and due_ms; files
 * that wait for their sums to be taken have due_ms UINT64_MAX. In order of deletion: by class, oldest first.
 */
typedef void (*sto_due_fn)(void *context, enum sto_retention_class class, const char *name, uint64_t bytes, uint64_t due_ms);
void sto_reader_retention(const struct sto_reader *reader, const struct sto_retention *retention, sto_due_fn fn, void *context);

/*
 * Checks the whole folder of a stopped node: node file, manifest, each published segment and rollup file down to its totals, each log
 * file that is not sealed. Segments are checked on all CPUs that the process may use. Calls fn once for each damaged or missing file. Returns how many there were; -EBUSY: a data process is using the
 * folder; -ENOENT: no data folder; other -errno. Details go to the log.
 */
typedef void (*sto_fault_fn)(void *context, const char *path, const char *what);
int sto_verify(const char *data_dir, sto_fault_fn fn, void *context);

#endif
