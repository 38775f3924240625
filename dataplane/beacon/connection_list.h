/*
 * A list of connections for an operator, filled by rx cores. Made by whoever asks, filled by one core after the other.
 */
#ifndef TURNPIKE_CONNECTION_LIST_H
#define TURNPIKE_CONNECTION_LIST_H

#include "turnpike/addr.h"

#include <string.h>

enum { DP_CONNECTION_STATES = 12, DP_CONNECTION_ROWS_MAX = 1000 };

struct dp_connection {
	struct tp_endpoint peer;
	uint16_t ingest;
	uint16_t core;     /* rx core */
	const char *state; /* "established", "fin_wait_1", … */
	uint64_t age_ms, idle_ms;
	uint64_t srtt_us;
	uint64_t in_bytes, out_bytes; /* on DPDK ports modulo 2^32 */
	uint64_t unacknowledged;      /* bytes sent */
};

struct dp_connection_list {
	/* the asker */
	const char *state; /* only these, "": any */
	bool has_prefix;
	struct tp_prefix prefix; /* only peers inside */
	uint32_t rows_max;
	/* the rx cores */
	uint16_t core;
	uint32_t rows, matched;
	struct {
		const char *state;
		uint64_t count;
	} states[DP_CONNECTION_STATES]; /* all connections, whatever the filter */
	struct dp_connection row[DP_CONNECTION_ROWS_MAX];
};

static inline void dp_connection_list_count(struct dp_connection_list *list, const char *state, uint64_t count)
{
	for (uint32_t i = 0; i < DP_CONNECTION_STATES; i++) {
		if (list->states[i].state && strcmp(list->states[i].state, state) != 0)
			continue;
		list->states[i].state = state;
		list->states[i].count += count;
		return;
	}
}

static inline void dp_connection_list_add(struct dp_connection_list *list, const struct dp_connection *row)
{
	dp_connection_list_count(list, row->state, 1);
	if ((list->state[0] && strcmp(list->state, row->state) != 0) ||
	    (list->has_prefix && !tp_prefix_has(&list->prefix, &row->peer.addr)))
		return;
	list->matched++;
	if (list->rows < list->rows_max)
		list->row[list->rows++] = *row;
}

#endif
