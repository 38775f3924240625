/*
 * The peer of the shard path: a Redis server that does `SET id 1 NX EX 900` and `HINCRBY minute:campaign impressions 1` for each event,
 * from CONNECTIONS connections on a Unix socket with DEPTH events each on their way. The client writes ready-made bytes and only counts
 * the lines of the answers, so that it is not the limit. The ids are distinct. Prints events per second, when all is answered.
 *
 * The second command does not wait for the answer to the first, as it would have to where duplicates must not count: a script or a second
 * round trip would cost Redis more.
 *
 * bench_redis SOCKET [million events, default 1] [connections, default 64] [events on their way in each, default 64]
 * Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP 2).
 */
#include "turnpike/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, DEPTH_MAX = 256, EVENT_BYTES_MAX = 192, CAMPAIGNS = 100, MILLION = 1000000 };

struct connection {
	int fd;
	uint32_t filled, written; /* of `out` */
	uint32_t lines_due;       /* two an event */
	char out[DEPTH_MAX * EVENT_BYTES_MAX];
};

static struct connection connection[CONNECTIONS_MAX];
static uint64_t given, answered;

/* The next `depth` events' commands; nobody waits for anything on this connection. */
static void batch_fill(struct connection *c, uint32_t depth, uint64_t count)
{
	c->filled = c->written = 0;
	for (uint32_t i = 0; i < depth && given < count; i++, given++) {
		char *at = c->out + c->filled;
		/* a UUID's 36 bytes; 16 hexadecimal digits of a number that every event has another of */
		uint64_t id = given * 0x9e3779b97f4a7c15;
		int bytes = snprintf(at, EVENT_BYTES_MAX,
				     "*6\r\n$3\r\nSET\r\n$36\r\n%08" PRIx64 "-0000-4000-8000-0000%08" PRIx64
				     "\r\n$1\r\n1\r\n$2\r\nNX\r\n$2\r\nEX\r\n$3\r\n900\r\n"
				     "*4\r\n$7\r\nHINCRBY\r\n$12\r\n28333333:%03u\r\n$11\r\nimpressions\r\n$1\r\n1\r\n",
				     id >> 32, id & UINT32_MAX, (unsigned)(given % CAMPAIGNS));
		if (bytes < 0 || bytes >= EVENT_BYTES_MAX)
			abort();
		c->filled += (uint32_t)bytes;
		c->lines_due += 2;
	}
}

static bool connection_write(struct connection *c)
{
	while (c->written < c->filled) {
		ssize_t wrote = write(c->fd, c->out + c->written, c->filled - c->written);
		if (wrote < 0)
			return errno == EAGAIN;
		c->written += (uint32_t)wrote;
	}
	return true;
}

/* Every answer is a line: +OK or :n. Anything else means that the server did not do what was asked. */
static bool connection_read(struct connection *c)
{
	char in[16384];
	ssize_t got = read(c->fd, in, sizeof(in));
	if (got <= 0)
		return got < 0 && errno == EAGAIN;
	if (memchr(in, '-', (size_t)got) || memchr(in, '$', (size_t)got)) {
		fprintf(stderr, "bench_redis: an error or an id that was there: %.*s\n", (int)got, in);
		return false;
	}
	for (const char *at = in; (at = memchr(at, '\n', (size_t)(in + got - at))) != NULL; at++)
		c->lines_due--, answered++;
	return true;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	const uint64_t count = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1) * MILLION;
	const uint32_t connections = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 64;
	const uint32_t depth = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 64;
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	if (!count || !connections || connections > CONNECTIONS_MAX || !depth || depth > DEPTH_MAX ||
	    strlen(argv[1]) >= sizeof(to.sun_path))
		return 2;
	memcpy(to.sun_path, argv[1], strlen(argv[1]));
	struct pollfd poller[CONNECTIONS_MAX];
	for (uint32_t i = 0; i < connections; i++) {
		struct connection *c = &connection[i];
		c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) || fcntl(c->fd, F_SETFL, O_NONBLOCK)) {
			fprintf(stderr, "bench_redis: %s: %s\n", argv[1], strerror(errno));
			return 1;
		}
		poller[i] = (struct pollfd){.fd = c->fd, .events = POLLIN};
	}
	const uint64_t began_ns = tp_mono_ns();
	while (answered < 2 * count) {
		for (uint32_t i = 0; i < connections; i++) {
			struct connection *c = &connection[i];
			if (!c->lines_due)
				batch_fill(c, depth, count);
			if (!connection_write(c))
				return 1;
			poller[i].events = (short)(POLLIN | (c->written < c->filled ? POLLOUT : 0));
		}
		if (poll(poller, connections, 10000) <= 0) {
			fprintf(stderr, "bench_redis: no answer for ten seconds\n");
			return 1;
		}
		for (uint32_t i = 0; i < connections; i++)
			if (poller[i].revents && !connection_read(&connection[i]))
				return 1;
	}
	const uint64_t took_ns = tp_mono_ns() - began_ns;
	printf("%.0f events/s events=%" PRIu64 " connections=%u depth=%u\n", (double)count * 1e9 / (double)took_ns, count,
	       connections, depth);
	return 0;
}
