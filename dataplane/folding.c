/*
 * What a segment gets beside its rows: while sto_seal() reads a log file, a fold (turnpike/fold.h) sees its events, and what it makes
 * of them become sections. Whoever seals enters: the background thread "seal", or the main thread in recovery.
 *
 * Memory is mapped for the first file and kept for the next ones: unmapping interrupts the cores, and pages touched once need not be made
 * again. Only what the events need is touched. A file whose fold would not fit is sealed without sections: readers then fold its rows for themselves.
 */
#include "node.h"

#include "turnpike/fold.h"
#include "turnpike/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A log file beyond this is as large as only a file size set by hand makes it. */
#define FOLD_LOG_BYTES_MAX (UINT64_C(2) << 30)

static const struct {
	uint32_t kind;
	uint64_t (*write)(struct agg_fold *fold, void *to);
} section[] = {
	{STO_SECTION_SESSIONS, agg_fold_sessions},
	{STO_SECTION_DISTINCT, agg_fold_distinct},
	{STO_SECTION_SOURCES, agg_fold_sources},
};

enum { SECTIONS = sizeof(section) / sizeof(section[0]) };

struct sections {
	struct sto_extra extra[SECTIONS];
	void *bytes[SECTIONS];
	uint32_t count;
};

/* A fold on its way through a log file. */
struct folding {
	struct agg_fold *fold; /* NULL: there is none any more */
	struct sections made;
	int rc;
};

static void events_show(void *context, const struct tp_event *const *event, uint32_t count,
			const uint32_t *const string[TP_STRINGS])
{
	struct folding *folding = context;
	if (folding->fold && !agg_fold_show_numbered(folding->fold, event, count, string)) {
		folding->fold = NULL;
		folding->rc = -EOVERFLOW;
	}
}

static void sections_free(struct sections *made)
{
	for (uint32_t i = 0; i < made->count; i++)
		free(made->bytes[i]);
	made->count = 0;
}

static int sections_write(struct agg_fold *fold, struct sections *made)
{
	for (uint32_t i = 0; i < SECTIONS; i++) {
		uint64_t length = section[i].write(fold, NULL);
		if (!length)
			continue;
		void *bytes = malloc(length);
		if (!bytes)
			return -ENOMEM;
		section[i].write(fold, bytes);
		made->bytes[made->count] = bytes;
		made->extra[made->count++] = (struct sto_extra){.kind = section[i].kind, .bytes = bytes, .length = length};
	}
	return 0;
}

static uint32_t sections_give(void *context, const struct sto_extra **extra)
{
	struct folding *folding = context;
	if (folding->fold)
		folding->rc = sections_write(folding->fold, &folding->made);
	if (folding->rc)
		sections_free(&folding->made);
	*extra = folding->made.extra;
	return folding->made.count;
}

/* Memory for the fold of a file of this size: what the file before had, if that is enough. */
static int memory_take(struct dp_fold_memory *memory, uint64_t bytes)
{
	if (memory->bytes >= bytes)
		return 0;
	dp_fold_memory_free(memory);
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return -ENOMEM;
	*memory = (struct dp_fold_memory){.at = at, .bytes = bytes};
	return 0;
}

void dp_fold_memory_free(struct dp_fold_memory *memory)
{
	if (memory->at)
		munmap(memory->at, memory->bytes);
	*memory = (struct dp_fold_memory){0};
}

static int fold_begin(struct dp_node *node, uint64_t file_id, struct folding *folding)
{
	struct sto_log_size size;
	int rc = sto_log_size(node->store, file_id, true, &size);
	if (rc)
		return rc;
	if (size.bytes > FOLD_LOG_BYTES_MAX)
		return -EFBIG;
	rc = memory_take(&node->fold_memory, agg_fold_bytes(size.events_max, size.bytes));
	if (!rc)
		folding->fold = agg_fold_init(node->fold_memory.at, size.events_max, size.bytes, node->config.session_gap_ms);
	if (!rc)
		agg_fold_yield_set(folding->fold, dp_worker_yield, &node->worker[DP_SEAL]);
	return rc;
}

int dp_fold_seal(struct dp_node *node, uint64_t file_id, const struct tp_rollup *table)
{
	struct folding folding = {0};
	folding.rc = fold_begin(node, file_id, &folding);
	const struct sto_seal_options options = {
		.show = events_show,
		.sections = sections_give,
		.show_context = &folding,
		.yield = dp_worker_yield, /* in recovery the worker does not run yet, and shares nothing */
		.yield_context = &node->worker[DP_SEAL],
	};
	int rc = sto_seal(node->store, file_id, table, &options);
	if (folding.rc && !rc)
		tp_logf(TP_WARN, "a log file is sealed without its sessions and sketches", "file=%016" PRIx64 " error=\"%s\"",
			file_id, strerror(-folding.rc));
	sections_free(&folding.made);
	return rc;
}
