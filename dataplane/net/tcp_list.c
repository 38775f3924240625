/*
 * Shows TCP connections to an operator. The rx core walks its own table, a few records a round, so that nobody waits for it. Cold,
 * but on the rx core: no allocation, no system call.
 */
#include "tcp.h"

static const char *const state_name[] = {
	[DP_TCP_CLOSED] = "closed",         [DP_TCP_ESTABLISHED] = "established", [DP_TCP_FIN_WAIT_1] = "fin_wait_1",
	[DP_TCP_FIN_WAIT_2] = "fin_wait_2", [DP_TCP_CLOSE_WAIT] = "close_wait",   [DP_TCP_CLOSING] = "closing",
	[DP_TCP_LAST_ACK] = "last_ack",
};

static void row_take(const struct dp_stack *stack, const struct dp_conn *conn, struct dp_connection_list *list)
{
	const uint64_t last_ns = conn->sent_ns > conn->heard_ns ? conn->sent_ns : conn->heard_ns;
	const struct dp_connection row = {
		.peer = conn->stream.peer,
		.ingest = conn->stream.ingest,
		.core = list->core,
		.state = state_name[conn->state],
		.age_ms = (stack->now_ns - conn->opened_ns) / 1000000,
		.idle_ms = (stack->now_ns - last_ns) / 1000000,
		.srtt_us = conn->srtt_ns / 1000,
		.in_bytes = conn->rcv_nxt - conn->first_in,
		.out_bytes = conn->snd_una - conn->first_out,
		.unacknowledged = conn->snd_max - conn->snd_una,
	};
	dp_connection_list_add(list, &row);
}

bool dp_stack_list(const struct dp_stack *stack, struct dp_connection_list *list, uint32_t *cursor, uint32_t most)
{
	const struct dp_tcp *tcp = stack->tcp;

	if (*cursor == 0) {
		dp_connection_list_count(list, "half_open", tcp->halves);
		dp_connection_list_count(list, "time_wait", tcp->waits);
	}
	for (; most && *cursor < tcp->conns_max; most--, ++*cursor) {
		const struct dp_conn *conn = &tcp->conn[*cursor];
		if (conn->state != DP_TCP_CLOSED)
			row_take(stack, conn, list);
	}
	return *cursor == tcp->conns_max;
}
