/*
 * The inside of a reader: reader.c keeps it in step with the manifest, reader_sums.c answers from it. Its owner's thread only.
 */
#ifndef STORAGE_READER_STATE_H
#define STORAGE_READER_STATE_H

#include "rollup_file.h"
#include "store_state.h"

struct reader_segment {
	struct sto_segment_info info;
	struct manifest_segment facts;
	struct segment file; /* file.base NULL: not mapped now */
	uint64_t used;       /* reader->clock at the last use */
	bool refused;        /* damaged: told once */
	bool missing;        /* listed, and not there: looked for again at each refresh */
};

struct reader_rollup {
	struct sto_rollup_info info;
	struct manifest_rollup facts;
	struct rollup_file file;
	bool refused, missing; /* as above */
};

struct sto_reader {
	const struct sto_io *io;
	char *data_dir;
	int manifest_fd;           /* -1: there was none yet */
	uint64_t manifest_file[2]; /* its identity */
	struct manifest manifest;
	struct reader_segment *segment; /* ascending by sequence */
	uint32_t segments, segments_max;
	uint32_t mapped; /* segments */
	uint64_t clock;
	struct reader_rollup *rollup; /* by class, then coverage */
	uint32_t rollups, rollups_max;
	bool changed;
};

/* Maps the segment if it is not mapped. -ESTALE: it is gone since the refresh. */
int reader_segment_use(struct sto_reader *reader, uint32_t index);

#endif
