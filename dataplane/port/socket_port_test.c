/*
 * The socket driver against the kernel's own TCP and UDP on loopback. The test's main thread is the rx core and sleeps on the port's
 * descriptor when there is nothing to do: a missed wake-up is a test that never ends. Clients are threads with plain sockets.
 */
#include "echo_app.h"

#include "turnpike/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MIB = 1 << 20 };

/* ---- the rx core ---- */

static struct tp_config_ingest ingest;
static struct tp_config config;
static struct tp_counters counters;
static uint16_t http_port, udp_port;
static struct dp_port *port;
static bool block_all;
static _Atomic int client_state; /* what the client thread wants the core to see */

static bool blocked(void *context, const struct tp_addr *peer)
{
	(void)context;
	return block_all && peer->family != 0;
}

static struct tp_endpoint endpoint_of(const char *text)
{
	struct tp_endpoint endpoint;

	assert_int_equal(tp_endpoint_parse(text, strlen(text), &endpoint), 0);
	return endpoint;
}

static int port_open(struct dp_port **to, const char *http, const char *udp, uint16_t queue, uint16_t queues)
{
	struct dp_port_options options = {
		.config = &config,
		.ingest = &ingest,
		.queue = queue,
		.queues = queues,
		.counters = &counters,
		.blocked = blocked,
		.http_port = &http_port,
		.udp_port = &udp_port,
	};

	memset(&ingest, 0, sizeof(ingest));
	if (http != NULL)
		ingest.http = endpoint_of(http);
	if (udp != NULL)
		ingest.udp = endpoint_of(udp);
	return dp_port_socket.open(to, &options);
}

static void start(const char *http, const char *udp)
{
	echo_app_reset();
	memset(&counters, 0, sizeof(counters));
	http_port = udp_port = 0;
	block_all = false;
	atomic_store(&client_state, 0);
	assert_int_equal(port_open(&port, http, udp, 0, 1), 0);
}

static uint32_t round_one(void)
{
	return dp_port_socket.poll(port, tp_mono_ns());
}

/* Runs the core until the client has finished, asleep whenever there is nothing to do. */
struct client {
	void (*run)(void);
	int done_fd;
};

static void *client_main(void *context)
{
	struct client *client = context;

	client->run();
	eventfd_write(client->done_fd, 1);
	return NULL;
}

static void serve_with(void (*run)(void), void (*between)(void))
{
	struct client client = {.run = run, .done_fd = eventfd(0, EFD_CLOEXEC)};
	pthread_t thread;

	round_one(); /* listening for sure */
	assert_int_equal(pthread_create(&thread, NULL, client_main, &client), 0);
	for (;;) {
		struct pollfd wait[2] = {{.fd = dp_port_socket.fd(port), .events = POLLIN},
					 {.fd = client.done_fd, .events = POLLIN}};

		if (between != NULL)
			between();
		if (round_one() > 0)
			continue;
		wait[0].fd = dp_port_socket.fd(port);
		/* With something to look after in between, sleep is short; else until a wake-up. */
		assert_true(poll(wait, 2, between != NULL ? 1 : -1) >= 0);
		if (wait[1].revents)
			break;
	}
	pthread_join(thread, NULL);
	close(client.done_fd);
}

static void stop(void)
{
	for (int i = 0; i < 100000 && echo_app.closed < echo_app.opened; i++)
		if (round_one() == 0)
			usleep(100);
	assert_int_equal(echo_app.closed, echo_app.opened);
	assert_int_equal(counters.v[TP_C_CONNECTIONS_OPENED], echo_app.opened);
	assert_int_equal(counters.v[TP_C_CONNECTIONS_CLOSED], echo_app.closed);
	dp_port_socket.close(port);
	port = NULL;
}

/* ---- clients: any failure ends the process, so that no thread has to report ---- */

#define MUST(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s (errno %d, %s)\n", __FILE__, __LINE__, #condition, errno, strerror(errno)); \
			abort(); \
		} \
	} while (0)

static int dial_to(const char *text, uint16_t to_port, int type)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(to_port)};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(to_port)};
	const bool six = strchr(text, ':') != NULL;
	const int fd = socket(six ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);

	MUST(fd >= 0);
	MUST(inet_pton(six ? AF_INET6 : AF_INET, text, six ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr) == 1);
	MUST(connect(fd, six ? (void *)&v6 : (void *)&v4, six ? sizeof(v6) : sizeof(v4)) == 0);
	return fd;
}

static int dial(void)
{
	return dial_to("127.0.0.1", http_port, SOCK_STREAM);
}

/* With a small window, so that what is not read stays with the server. */
static int dial_narrow(void)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(http_port)};
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;

	MUST(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	MUST(connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0);
	return fd;
}

static void write_all(int fd, const uint8_t *bytes, size_t count)
{
	for (size_t done = 0; done < count;) {
		const ssize_t wrote = send(fd, bytes + done, count - done, MSG_NOSIGNAL);

		MUST(wrote > 0);
		done += (size_t)wrote;
	}
}

static void read_all(int fd, uint8_t *bytes, size_t count)
{
	for (size_t done = 0; done < count;) {
		const ssize_t got = recv(fd, bytes + done, count - done, 0);

		MUST(got > 0);
		done += (size_t)got;
	}
}

/* Bytes that tell where they stand; the first is the verb. */
static uint8_t *pattern(size_t count, uint8_t verb)
{
	uint8_t *bytes = malloc(count);

	MUST(bytes != NULL);
	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 13);
	bytes[0] = verb;
	return bytes;
}

static void echo_once(int fd, size_t count)
{
	uint8_t *sent = pattern(count, 'E'), *got = malloc(count);

	write_all(fd, sent, count);
	read_all(fd, got, count);
	MUST(memcmp(sent, got, count) == 0);
	free(sent);
	free(got);
}

/* ---- tests ---- */

static void client_many(void)
{
	enum { CONNECTIONS = 200 };
	static const size_t size[] = {1, 511, 512, 513, 700, 4096, 8191, 8192, 8193, 16384, 40000};
	int fd[CONNECTIONS];

	for (int i = 0; i < CONNECTIONS; i++)
		fd[i] = dial();
	for (size_t round = 0; round < sizeof(size) / sizeof(size[0]); round++) {
		uint8_t *sent = pattern(size[round], 'E'), *got = malloc(size[round]);

		for (int i = 0; i < CONNECTIONS; i++)
			write_all(fd[i], sent, size[round]);
		for (int i = 0; i < CONNECTIONS; i++) {
			memset(got, 0, size[round]);
			read_all(fd[i], got, size[round]);
			MUST(memcmp(sent, got, size[round]) == 0);
		}
		free(sent);
		free(got);
	}
	for (int i = 0; i < CONNECTIONS; i++)
		close(fd[i]);
}

static void many_connections_echo(void **state)
{
	(void)state;
	start("127.0.0.1:0", NULL);
	assert_int_not_equal(http_port, 0);
	serve_with(client_many, NULL);
	stop();
	assert_int_equal(echo_app.opened, 200);
}

static void client_half_close(void)
{
	static uint8_t sink[65536];
	uint8_t *bytes = pattern(8 * MIB, 'E');
	const int fd = dial_narrow();
	size_t sent = 0, got = 0;
	bool finished = false;

	/* Write until the pipe is full both ways, which the core sees as a stall, only then begin to read. */
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (;;) {
		const ssize_t wrote = send(fd, bytes + sent, 8 * MIB - sent, MSG_NOSIGNAL);

		if (wrote < 0) {
			struct pollfd wait = {.fd = fd, .events = POLLOUT};

			MUST(errno == EAGAIN);
			if (poll(&wait, 1, 50) == 0 && atomic_load(&echo_app.stalls) > 0)
				break;
		} else {
			sent += (size_t)wrote;
			MUST(sent < 8 * MIB);
		}
	}
	while (!finished) {
		struct pollfd wait = {.fd = fd, .events = (short)(POLLIN | (sent < 8 * MIB ? POLLOUT : 0))};

		MUST(poll(&wait, 1, -1) == 1);
		if (wait.revents & POLLOUT) {
			const ssize_t wrote = send(fd, bytes + sent, 8 * MIB - sent, MSG_NOSIGNAL);

			MUST(wrote > 0 || errno == EAGAIN);
			sent += wrote > 0 ? (size_t)wrote : 0;
			if (sent == 8 * MIB)
				MUST(shutdown(fd, SHUT_WR) == 0);
		}
		if (wait.revents & (POLLIN | POLLHUP)) {
			const ssize_t n = recv(fd, sink, sizeof(sink), 0);

			MUST(n >= 0);
			MUST(memcmp(sink, bytes + got, (size_t)n) == 0);
			got += (size_t)n;
			finished = n == 0;
		}
	}
	MUST(got == 8 * MIB);
	close(fd);
	free(bytes);
}

static void slow_consumer_and_half_close(void **state)
{
	(void)state;
	start("127.0.0.1:0", NULL);
	serve_with(client_half_close, NULL);
	stop();
	assert_int_equal(echo_app.ended, 1);
	assert_true(echo_app.stalls > 0);
}

enum { STALLED = 1200 }; /* more than there are read buffers */

static void client_stalled(void)
{
	static int fd[STALLED];
	uint8_t *bytes = pattern(20000, 'S'), *got = malloc(20000);
	int other;

	for (int i = 0; i < STALLED; i++) {
		fd[i] = dial();
		write_all(fd[i], bytes, 20000);
	}
	/* All of them wait, with a buffer's worth each; nobody else suffers. */
	for (int i = 0; i < 50; i++) {
		other = dial();
		echo_once(other, 10000);
		close(other);
	}
	atomic_store(&client_state, 1);
	for (int i = 0; i < STALLED; i++) {
		read_all(fd[i], got, 20000);
		MUST(memcmp(bytes, got, 20000) == 0);
		close(fd[i]);
	}
	free(bytes);
	free(got);
}

static void release_when_asked(void)
{
	if (atomic_load(&client_state) == 1) {
		atomic_store(&client_state, 2);
		echo_app_release();
	}
}

static void stalled_connections_starve_nobody(void **state)
{
	(void)state;
	start("127.0.0.1:0", NULL);
	serve_with(client_stalled, release_when_asked);
	assert_true(echo_app.stalls >= STALLED);
	stop();
}

enum { READERS = 700 }; /* more than there are send blocks */

static void client_not_reading(void)
{
	static int fd[READERS];
	static uint8_t sink[65536];
	int other;

	for (int i = 0; i < READERS; i++) {
		fd[i] = dial_narrow();
		for (int k = 0; k < 12; k++)
			write_all(fd[i], (const uint8_t *)"B", 1);
	}
	for (int i = 0; i < 20; i++) {
		other = dial();
		echo_once(other, 3000);
		close(other);
	}
	for (int i = 0; i < READERS; i++) {
		size_t total = 0;
		ssize_t n;

		MUST(shutdown(fd[i], SHUT_WR) == 0);
		while ((n = recv(fd[i], sink, sizeof(sink), 0)) > 0)
			total += (size_t)n;
		/* How many requests the bytes were, depends on how they came together. */
		MUST(n == 0 && total > 0 && total % ECHO_BIG_BYTES == 0);
		close(fd[i]);
	}
}

static void clients_that_do_not_read_starve_nobody(void **state)
{
	(void)state;
	start("127.0.0.1:0", NULL);
	serve_with(client_not_reading, NULL);
	stop();
}

static void client_bye(void)
{
	for (int i = 0; i < 20; i++) {
		uint8_t *bytes = pattern(MIB / 4, 'C'), answer[4];
		socklen_t error_bytes = sizeof(int);
		const int fd = dial();
		int error;

		/* Sends into the closing connection meet no reset, so the answer cannot be lost, and the end is orderly. */
		write_all(fd, bytes, MIB / 4);
		read_all(fd, answer, 3);
		MUST(memcmp(answer, "bye", 3) == 0);
		MUST(recv(fd, answer, sizeof(answer), 0) == 0);
		MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) == 0);
		MUST(error == 0); /* a reset behind the FIN shows only here */
		close(fd);
		free(bytes);
	}
}

static void close_does_not_destroy_the_answer(void **state)
{
	(void)state;
	start("[::1]:0", NULL);
	dp_port_socket.close(port); /* never polled */
	start("127.0.0.1:0", NULL);
	serve_with(client_bye, NULL);
	stop();
}

static void client_abort(void)
{
	uint8_t byte = 'A';
	int fd = dial();

	write_all(fd, &byte, 1);
	MUST(recv(fd, &byte, 1, 0) == -1 && errno == ECONNRESET);
	close(fd);
	/* Our side resets in mid-stream. */
	for (int i = 0; i < 50; i++) {
		const struct linger reset = {.l_onoff = 1};

		fd = dial();
		write_all(fd, (const uint8_t *)"BBBB", 4);
		MUST(recv(fd, &byte, 1, 0) == 1);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
	}
}

static void resets_in_both_directions(void **state)
{
	(void)state;
	start("127.0.0.1:0", NULL);
	serve_with(client_abort, NULL);
	stop();
	assert_int_equal(echo_app.opened, 51);
}

static void client_unwelcome(void)
{
	const int fd = dial();
	uint8_t byte;

	MUST(recv(fd, &byte, 1, 0) == -1 && errno == ECONNRESET);
	close(fd);
}

static void blocked_and_refused_peers_are_reset(void **state)
{
	(void)state;
	start("127.0.0.1:0", NULL);
	block_all = true;
	serve_with(client_unwelcome, NULL);
	assert_int_equal(counters.v[TP_C_CONNECTIONS_BLOCKLISTED], 1);
	assert_int_equal(counters.v[TP_C_CONNECTIONS_REFUSED], 0);
	block_all = false;
	echo_app.refuse = true;
	serve_with(client_unwelcome, NULL);
	assert_int_equal(counters.v[TP_C_CONNECTIONS_REFUSED], 1);
	assert_int_equal(echo_app.opened, 0);
	stop();
}

static void out_of_descriptors_is_survived(void **state)
{
	struct rlimit limit, tight;
	struct sockaddr_in name = {.sin_family = AF_INET};
	uint8_t byte = 'E';
	int client, next;

	(void)state;
	start("127.0.0.1:0", NULL);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(client >= 0);
	/* The lowest free descriptor: nothing at or above it may be opened. The kernel takes the limit when accept is armed: no round yet. */
	next = dup(client);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	tight = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	name.sin_port = htons(http_port);
	name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(client, (struct sockaddr *)&name, sizeof(name)), 0);
	while (counters.v[TP_C_CONNECTIONS_REFUSED] == 0)
		round_one();
	assert_int_equal(echo_app.opened, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(send(client, &byte, 1, 0), 1);
	while (recv(client, &byte, 1, MSG_DONTWAIT) != 1)
		round_one();
	close(client);
	stop();
}

static void client_datagrams(void)
{
	static const size_t size[] = {0, 1, 512, 1400, 1536, 1537, 9000, 65507};
	static uint8_t got[65536];

	for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		/* Connected to one of several addresses: an answer from another one would not get through. */
		const int fd = dial_to(i % 2 ? "127.0.0.7" : "127.0.0.1", udp_port, SOCK_DGRAM);
		uint8_t *bytes = pattern(size[i] + 1, 'D');

		MUST(send(fd, bytes, size[i], 0) == (ssize_t)size[i]);
		MUST(recv(fd, got, sizeof(got), 0) == (ssize_t)size[i]);
		MUST(memcmp(bytes, got, size[i]) == 0);
		free(bytes);
		close(fd);
	}
}

static void client_datagrams_v6(void)
{
	const int fd = dial_to("::1", udp_port, SOCK_DGRAM);
	uint8_t bytes[100] = {1}, got[200];

	for (int i = 0; i < 1000; i++) {
		MUST(send(fd, bytes, sizeof(bytes), 0) == sizeof(bytes));
		MUST(recv(fd, got, sizeof(got), 0) == sizeof(bytes));
	}
	close(fd);
}

static void datagrams_echo(void **state)
{
	(void)state;
	start(NULL, "0.0.0.0:0");
	serve_with(client_datagrams, NULL);
	assert_int_equal(echo_app.datagrams, 8);
	stop();
	start(NULL, "[::]:0"); /* IPv4 too */
	serve_with(client_datagrams, NULL);
	serve_with(client_datagrams_v6, NULL);
	assert_int_equal(echo_app.datagrams, 1008);
	stop();
	start(NULL, "[::1]:0");
	serve_with(client_datagrams_v6, NULL);
	stop();
}

static void datagram_bursts_are_read_and_counted(void **state)
{
	uint8_t bytes[700] = {1};
	int fd;

	(void)state;
	start(NULL, "127.0.0.1:0");
	round_one();
	/* Far more than there are buffers, and more than the socket holds: what is missing is in a counter. */
	fd = dial_to("127.0.0.1", udp_port, SOCK_DGRAM);
	for (int i = 0; i < 30000; i++)
		assert_int_equal(send(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	while (round_one() > 0)
		;
	usleep(1000);
	dp_port_socket.poll(port, tp_mono_ns() + 2000000000); /* the time to look at the kernel's count */
	while (round_one() > 0)
		;
	assert_true(echo_app.datagrams > 1000);
	assert_int_equal(echo_app.datagrams + counters.v[TP_C_DATAGRAMS_SOCKET_FULL], 30000);
	assert_int_equal(counters.v[TP_C_DATAGRAMS_RECEIVED], counters.v[TP_C_DATAGRAMS_SOCKET_FULL]);
	close(fd);
	stop();
}

static void drain_reads_what_is_queued(void **state)
{
	uint8_t bytes[700] = {1};
	struct sockaddr_in name = {.sin_family = AF_INET};
	int fd, late;

	(void)state;
	start("127.0.0.1:0", "127.0.0.1:0");
	round_one();
	fd = dial_to("127.0.0.1", udp_port, SOCK_DGRAM);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(send(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	do {
		dp_port_socket.poll(port, tp_mono_ns());
		for (int i = 0; i < 3; i++) /* too late from the first drain on */
			send(fd, bytes, counters.v[0] == 0 && echo_app.datagrams == 0 ? 1 : sizeof(bytes), MSG_DONTWAIT);
	} while (dp_port_socket.drain(port, tp_mono_ns()) > 0);
	for (int i = 0; i < 10; i++)
		round_one();
	assert_in_range(echo_app.datagrams, 1000, 1003); /* three came before the first drain */
	late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	name.sin_port = htons(http_port);
	name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(late, (struct sockaddr *)&name, sizeof(name)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(late);
	close(fd);
	stop();
}

static void cores_share_a_port_and_nobody_else_does(void **state)
{
	struct dp_port *second, *stranger;
	char text[32];

	(void)state;
	echo_app_reset();
	http_port = udp_port = 0;
	assert_int_equal(port_open(&port, "127.0.0.1:0", "127.0.0.1:0", 0, 2), 0);
	assert_int_not_equal(http_port, 0);
	assert_int_not_equal(udp_port, 0);
	assert_int_equal(port_open(&second, "127.0.0.1:0", "127.0.0.1:0", 1, 2), 0);
	snprintf(text, sizeof(text), "127.0.0.1:%u", http_port);
	assert_int_equal(port_open(&stranger, text, NULL, 0, 2), -EADDRINUSE);
	assert_int_equal(port_open(&stranger, text, NULL, 0, 1), -EADDRINUSE);
	snprintf(text, sizeof(text), "127.0.0.1:%u", udp_port);
	assert_int_equal(port_open(&stranger, NULL, text, 0, 2), -EADDRINUSE);
	dp_port_socket.close(second);
	dp_port_socket.close(port);
}

static void *poll_elsewhere(void *context)
{
	struct dp_port *other = context;

	while (atomic_load(&client_state) == 0)
		if (dp_port_socket.poll(other, tp_mono_ns()) == 0) {
			struct pollfd wait = {.fd = dp_port_socket.fd(other), .events = POLLIN};

			poll(&wait, 1, 10);
		}
	return NULL;
}

static void opened_here_polled_there_closed_here(void **state)
{
	pthread_t thread;
	int fd;

	(void)state;
	start("127.0.0.1:0", "127.0.0.1:0");
	assert_int_equal(pthread_create(&thread, NULL, poll_elsewhere, port), 0);
	fd = dial();
	echo_once(fd, 100000);
	atomic_store(&client_state, 1);
	pthread_join(thread, NULL);
	/* With a connection open, and a read in the kernel. */
	dp_port_socket.close(port);
	assert_int_equal(echo_app.closed, 1);
	assert_int_equal(recv(fd, (char[1]){0}, 1, 0), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_connections_echo),
		cmocka_unit_test(slow_consumer_and_half_close),
		cmocka_unit_test(stalled_connections_starve_nobody),
		cmocka_unit_test(clients_that_do_not_read_starve_nobody),
		cmocka_unit_test(close_does_not_destroy_the_answer),
		cmocka_unit_test(resets_in_both_directions),
		cmocka_unit_test(blocked_and_refused_peers_are_reset),
		cmocka_unit_test(out_of_descriptors_is_survived),
		cmocka_unit_test(datagrams_echo),
		cmocka_unit_test(datagram_bursts_are_read_and_counted),
		cmocka_unit_test(drain_reads_what_is_queued),
		cmocka_unit_test(cores_share_a_port_and_nobody_else_does),
		cmocka_unit_test(opened_here_polled_there_closed_here),
	};
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < 8192) {
		printf("skipped: needs 8192 open files, the hard limit is %llu\n", (unsigned long long)limit.rlim_max);
		return 77;
	}
	http_port = udp_port = 0;
	if (port_open(&port, "127.0.0.1:0", NULL, 0, 1) == -EPERM) {
		printf("skipped: io_uring is not permitted here\n");
		return 77;
	}
	dp_port_socket.close(port);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
