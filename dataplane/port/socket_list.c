/*
 * Shows connections on kernel sockets to an operator; the kernel tells what it knows of each that is listed. On the rx core, a few
 * records a round: the only place where it makes a system call per connection, while somebody asks.
 */
#include "socket_port.h"

#include <linux/tcp.h> /* netinet/tcp.h has an older struct tcp_info */
#include <netinet/in.h>

/* include/net/tcp_states.h: the numbers are the kernel's interface. RFC 9293 has the names. */
enum {
	TCP_ESTABLISHED = 1,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_TIME_WAIT = 6,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_CLOSING = 11,
};

static const char *state_of(uint8_t state)
{
	static const char *const name[] = {
		[TCP_ESTABLISHED] = "established", [TCP_FIN_WAIT1] = "fin_wait_1", [TCP_FIN_WAIT2] = "fin_wait_2",
		[TCP_CLOSE_WAIT] = "close_wait",   [TCP_LAST_ACK] = "last_ack",    [TCP_CLOSING] = "closing",
		[TCP_TIME_WAIT] = "time_wait",     [TCP_CLOSE] = "closed",
	};
	return state < sizeof(name) / sizeof(name[0]) && name[state] ? name[state] : "other";
}

static void row_take(const struct dp_socket_connection *connection, struct dp_connection_list *list)
{
	struct tcp_info info = {0};
	socklen_t bytes = sizeof(info);
	struct dp_connection row = {.peer = connection->stream.peer, .ingest = connection->stream.ingest, .core = list->core};

	if (getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0)
		return; /* gone in this very moment */
	row.state = state_of(info.tcpi_state);
	row.age_ms = (connection->port->now_ns - connection->opened_ns) / 1000000;
	row.idle_ms = info.tcpi_last_data_recv < info.tcpi_last_data_sent ? info.tcpi_last_data_recv : info.tcpi_last_data_sent;
	row.srtt_us = info.tcpi_rtt;
	row.in_bytes = info.tcpi_bytes_received;
	row.out_bytes = info.tcpi_bytes_acked;
	row.unacknowledged = (uint64_t)info.tcpi_unacked * info.tcpi_snd_mss;
	dp_connection_list_add(list, &row);
}

bool dp_socket_list(struct dp_port *port, struct dp_connection_list *list, uint32_t *cursor, uint32_t most)
{
	for (; most > 0 && *cursor < port->connections_max; most--, ++*cursor)
		if (port->connection[*cursor].fd >= 0)
			row_take(&port->connection[*cursor], list);
	return *cursor == port->connections_max;
}
