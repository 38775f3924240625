/*
 * What a segment gets beside its rows: a log file's events are shown to a fold (turnpike/fold.h), and what it makes of them goes to
 * sto_seal() as sections. Whoever seals enters: the background thread "seal", or the main thread in recovery.
 *
 * Memory is mapped for the file that is being sealed and given back behind it; only what its events need is touched. A file whose
 * fold would not fit is sealed without sections: readers then fold its rows for themselves.
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

enum { YIELD_EVENTS = 1024 };

struct showing {
	struct agg_fold *fold;
	struct dp_worker *worker;
	uint64_t events;
};

static int event_show(void *context, const struct tp_event *event)
{
	struct showing *showing = context;
	if (++showing->events % YIELD_EVENTS == 0)
		dp_worker_yield(showing->worker);
	return agg_fold_show(showing->fold, event) ? 0 : -EOVERFLOW;
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

static int file_fold(struct dp_node *node, uint64_t file_id, struct sections *made)
{
	struct sto_log_size size;
	int rc = sto_log_size(node->store, file_id, true, &size);
	if (rc)
		return rc;
	if (size.bytes > FOLD_LOG_BYTES_MAX)
		return -EFBIG;
	uint64_t bytes = agg_fold_bytes(size.events_max, size.bytes);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	struct sto_log_facts facts;
	struct agg_fold *fold = agg_fold_init(memory, size.events_max, size.bytes, node->config.session_gap_ms);
	struct showing showing = {.fold = fold, .worker = &node->worker[DP_SEAL]};
	rc = sto_log_read(node->store, file_id, event_show, &showing, &facts);
	if (!rc)
		rc = sections_write(fold, made);
	munmap(memory, bytes);
	return rc;
}

int dp_fold_seal(struct dp_node *node, uint64_t file_id, const struct tp_rollup *table)
{
	struct sections made = {0};
	int rc = file_fold(node, file_id, &made);
	if (rc) {
		/* What is wrong with the file itself, sto_seal() says. */
		sections_free(&made);
		tp_logf(TP_WARN, "a log file is sealed without its sessions and sketches", "file=%016" PRIx64 " error=\"%s\"",
			file_id, strerror(-rc));
	}
	const struct sto_seal_options options = {
		.extra = made.extra,
		.extras = made.count,
		.yield = dp_worker_yield, /* in recovery the worker does not run yet, and shares nothing */
		.yield_context = &node->worker[DP_SEAL],
	};
	rc = sto_seal(node->store, file_id, table, &options);
	sections_free(&made);
	return rc;
}
