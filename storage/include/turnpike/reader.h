/*
 * Read-only access to the data folder for other processes: the manifest as a snapshot, segments by mmap, every block verified
 * before its first use. Never writes, never locks. Owned by one thread; segments stay mapped until the reader lets them go, so that
 * a deletion never surprises it: what a call returned stays valid until the next refresh.
 */
#ifndef TURNPIKE_READER_H
#define TURNPIKE_READER_H

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
	uint64_t late; /* late events in it */
};

int sto_reader_open(struct sto_reader **reader, const char *data_dir); /* works before the data process ever ran */
void sto_reader_close(struct sto_reader *reader);

/* Takes in what the manifest has gained; maps new segments. Returns 1 when something changed, 0 when not, or -errno. */
int sto_reader_refresh(struct sto_reader *reader);

/* True if log file file_id is sealed as of the last refresh (also when it was empty, or has been retired since). */
bool sto_reader_sealed(const struct sto_reader *reader, uint64_t file_id);
uint64_t sto_reader_watermark(const struct sto_reader *reader);
uint32_t sto_reader_segments(const struct sto_reader *reader);
const struct sto_segment_info *sto_reader_segment(const struct sto_reader *reader, uint32_t index);

/* The rollup rows of a segment, sorted by minute then key; and their string heap. 0 or -EBADMSG on damage. */
int sto_reader_rollup(struct sto_reader *reader, uint32_t index, const struct tp_rollup_row **rows, uint32_t *count,
		      const char **heap);
/*
 * Each row of a segment: counted events, conflicts, amendments; in the order in which they were received, to the millisecond. A
 * record is valid only inside fn. Its fingerprint is that of this process' key (tp_id_secret_set).
 */
int sto_reader_events(struct sto_reader *reader, uint32_t index, sto_event_fn fn, void *context);
/* The verified bytes of an extra section (enum sto_section_kind). 0, -ENOENT: the segment has none of that kind, -EBADMSG. */
int sto_reader_section(struct sto_reader *reader, uint32_t index, uint32_t kind, const void **bytes, uint64_t *length);

/*
 * Checks the whole folder of a stopped node: node file, manifest, each published segment down to its totals, each log file that is
 * not sealed. Calls fn once for each damaged or missing file. Returns how many there were; -EBUSY: a data process is using the
 * folder; -ENOENT: no data folder; other -errno. Details go to the log.
 */
typedef void (*sto_fault_fn)(void *context, const char *path, const char *what);
int sto_verify(const char *data_dir, sto_fault_fn fn, void *context);

#endif
