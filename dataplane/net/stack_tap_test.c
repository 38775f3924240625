/*
 * The stack against the TCP of Linux: a TAP device in a network namespace of our own, the stack on its file descriptor, a child
 * with kernel sockets (and curl, ping) on its other side. First over a clean link, then over one that loses, doubles and reorders.
 * Needs root for the namespace; without it exits 77 and says why.
 *
 *   child: kernel sockets ── tap0 (10.9.0.2, fd09::2) ── file descriptor ── stack (10.9.0.1, fd09::1) ── app, in the parent
 *
 * The first byte of a connection tells the app what to be: E echo, S slow sink that answers with a digest at the end, L sends two
 * megabytes, C says bye and closes, G or P a little HTTP.
 */
#include "tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MTU = 1500, FRAME_MAX = 1600, LATE_MAX = 64, APPS = 600, LARGE_BYTES = 2 << 20, SLOW_BYTES = 700, SKIP = 77, LIMIT_S = 100 };

/* What parent and child both see. */
static struct {
	_Atomic uint32_t loss; /* of a thousand frames, each way; doubling and reordering as often */
} * shared;

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t mono_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint32_t digest(uint32_t so_far, const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		so_far = (so_far ^ bytes[i]) * 16777619;
	return so_far;
}

static uint8_t large_byte(uint32_t at)
{
	return (uint8_t)(at * 17 + (at >> 11));
}

/* ---- the parent: app and stack ---- */

struct app {
	struct dp_stream *stream;
	char kind;
	bool paused, eof, closing;
	uint32_t held, digest, taken, sent, body, body_left;
	uint8_t buffer[16384];
};

static struct app apps[APPS];
static uint32_t open_now, open_most;

static void app_close(struct app *app)
{
	if (!app->closing)
		app->stream->ops->close(app->stream);
	app->closing = true;
}

static void app_say(struct app *app, const void *bytes, size_t count)
{
	size_t room = sizeof(app->buffer) - app->held;
	if (count > room)
		die("the app's buffer is too small");
	memcpy(app->buffer + app->held, bytes, count);
	app->held += (uint32_t)count;
}

static void app_large(struct app *app)
{
	while (app->sent < LARGE_BYTES) {
		uint8_t piece[5000];
		uint32_t count = dp_min32(sizeof(piece), LARGE_BYTES - app->sent);
		for (uint32_t i = 0; i < count; i++)
			piece[i] = large_byte(app->sent + i);
		size_t taken = app->stream->ops->send(app->stream, piece, count);
		app->sent += (uint32_t)taken;
		if (taken < count)
			return;
	}
	app_close(app);
}

static void app_push(struct app *app)
{
	if (app->closing)
		return;
	if (app->kind == 'L') {
		app_large(app);
		return;
	}
	if (app->held) {
		size_t sent = app->stream->ops->send(app->stream, app->buffer, app->held);
		app->held -= (uint32_t)sent;
		memmove(app->buffer, app->buffer + sent, app->held);
	}
	if (app->paused && app->kind == 'E' && app->held < sizeof(app->buffer) / 2) {
		app->paused = false;
		app->stream->ops->resume(app->stream);
	}
	if (!app->held && (app->eof || app->kind == 'C'))
		app_close(app);
}

bool dp_stream_opened(struct dp_stream *stream)
{
	for (int i = 0; i < APPS; i++) {
		if (apps[i].stream)
			continue;
		memset(&apps[i], 0, offsetof(struct app, buffer));
		apps[i].stream = stream;
		apps[i].digest = 2166136261U;
		stream->app = &apps[i];
		if (++open_now > open_most)
			open_most = open_now;
		return true;
	}
	return false;
}

/* A head with perhaps a Content-Length, whole in one call (it is small), then a body that is counted. */
static void http(struct app *app, const uint8_t *bytes, size_t count)
{
	if (!app->body_left) {
		const char *end = memmem(bytes, count, "\r\n\r\n", 4);
		if (!end)
			die("the request's head came in pieces");
		const char *length = memmem(bytes, (size_t)(end - (const char *)bytes), "Content-Length: ", 16);
		app->body = length ? (uint32_t)atoi(length + 16) : 0;
		app->body_left = app->body;
		size_t head = (size_t)(end + 4 - (const char *)bytes);
		bytes += head;
		count -= head;
	}
	if (count > app->body_left)
		die("bytes after the request");
	app->digest = digest(app->digest, bytes, count);
	app->body_left -= (uint32_t)count;
	if (app->body_left)
		return;
	char text[200], body[64];
	snprintf(body, sizeof(body), "%u %08x\n", app->body, app->digest);
	snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
	app_say(app, text, strlen(text));
	app->digest = 2166136261U;
}

size_t dp_stream_input(struct dp_stream *stream, const uint8_t *bytes, size_t count)
{
	struct app *app = stream->app;
	size_t taken = count;
	if (!app->kind)
		app->kind = (char)bytes[0];
	switch (app->kind) {
	case 'E':
		if (taken > sizeof(app->buffer) - app->held)
			taken = sizeof(app->buffer) - app->held;
		app_say(app, bytes, taken);
		break;
	case 'S':
		if (taken > SLOW_BYTES)
			taken = SLOW_BYTES;
		app->digest = digest(app->digest, bytes, taken);
		app->taken += (uint32_t)taken;
		break;
	case 'C':
		app_say(app, "bye", 3);
		break;
	case 'G':
	case 'P':
		http(app, bytes, count);
		break;
	default:
		break;
	}
	app->paused = taken < count;
	app_push(app);
	return taken;
}

void dp_stream_eof(struct dp_stream *stream)
{
	struct app *app = stream->app;
	if (app->kind == 'S') {
		char text[64];
		snprintf(text, sizeof(text), "%u %08x", app->taken, app->digest);
		app_say(app, text, strlen(text));
	}
	app->eof = true;
	app_push(app);
}

void dp_stream_writable(struct dp_stream *stream)
{
	app_push(stream->app);
}

void dp_stream_closed(struct dp_stream *stream)
{
	((struct app *)stream->app)->stream = NULL;
	open_now--;
}

void dp_datagram_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	(void)beacon;
	path->send(path, bytes, count);
}

/* ---- the TAP device as a port ---- */

static struct {
	int fd;
	uint8_t out[FRAME_MAX];
	uint8_t late[LATE_MAX][FRAME_MAX]; /* frames to the kernel that others overtake */
	size_t late_bytes[LATE_MAX];
	uint32_t lates;
	uint64_t frames_in, frames_out;
	uint32_t luck;
} port = {.luck = 1};

static bool unlucky(void)
{
	port.luck = port.luck * 1664525 + 1013904223;
	return (port.luck >> 16) % 1000 < shared->loss;
}

static void tap_write(const uint8_t *frame, size_t bytes)
{
	port.frames_out++;
	ssize_t written = write(port.fd, frame, bytes);
	(void)written; /* a full queue loses frames, as wires do */
}

static void *frame_open(void *context, size_t bytes)
{
	(void)context;
	if (bytes > MTU + 18)
		die("a frame of %zu bytes", bytes);
	return port.out;
}

static void frame_send(void *context, void *frame, size_t bytes)
{
	(void)context;
	if (unlucky())
		return;
	if (unlucky() && port.lates < LATE_MAX) {
		memcpy(port.late[port.lates], frame, bytes);
		port.late_bytes[port.lates++] = bytes;
		return;
	}
	tap_write(frame, bytes);
	if (unlucky())
		tap_write(frame, bytes);
}

static void stack_round(struct dp_stack *stack)
{
	uint8_t frame[FRAME_MAX];
	for (int i = 0; i < 64; i++) {
		ssize_t bytes = read(port.fd, frame, sizeof(frame));
		if (bytes <= 0)
			break;
		port.frames_in++;
		if (!unlucky())
			dp_stack_input(stack, frame, (size_t)bytes, mono_ns());
		if (unlucky())
			dp_stack_input(stack, frame, (size_t)bytes, mono_ns());
	}
	for (int i = 0; i < APPS; i++)
		if (apps[i].stream && apps[i].kind == 'S' && apps[i].paused) {
			apps[i].paused = false;
			apps[i].stream->ops->resume(apps[i].stream);
		}
	dp_stack_flush(stack, mono_ns());
	dp_stack_tick(stack, mono_ns());
	for (uint32_t i = 0; i < port.lates; i++)
		tap_write(port.late[i], port.late_bytes[i]);
	port.lates = 0;
}

/* ---- the child: kernel sockets ---- */

static int family;

static int dial(uint16_t local_port)
{
	int fd = socket(family, SOCK_STREAM, 0), one = 1;
	if (fd < 0)
		die("socket: %s", strerror(errno));
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(80)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
	inet_pton(AF_INET, "10.9.0.1", &four.sin_addr);
	inet_pton(AF_INET6, "fd09::1", &six.sin6_addr);
	if (local_port) {
		struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(local_port)};
		struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(local_port)};
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, family == AF_INET ? (void *)&any : (void *)&any6, family == AF_INET ? sizeof(any) : sizeof(any6)))
			die("bind: %s", strerror(errno));
	}
	const void *to = family == AF_INET ? (void *)&four : (void *)&six;
	/* EADDRNOTAVAIL: our end of the former connection on this port still waits for its last ACK. */
	for (int i = 0; connect(fd, to, family == AF_INET ? sizeof(four) : sizeof(six)); i++) {
		if (errno != EADDRNOTAVAIL || i == 2000)
			die("connect: %s", strerror(errno));
		usleep(1000);
	}
	return fd;
}

static void say(int fd, const void *bytes, size_t count)
{
	const uint8_t *at = bytes;
	while (count) {
		ssize_t sent = send(fd, at, count, MSG_NOSIGNAL);
		if (sent <= 0)
			die("send: %s", strerror(errno));
		at += sent;
		count -= (size_t)sent;
	}
}

static size_t hear(int fd, void *bytes, size_t count)
{
	size_t got = 0;
	while (got < count) {
		ssize_t read_now = recv(fd, (uint8_t *)bytes + got, count - got, 0);
		if (read_now < 0)
			die("recv: %s", strerror(errno));
		if (!read_now)
			break;
		got += (size_t)read_now;
	}
	return got;
}

static void fill(uint8_t *bytes, size_t count, uint32_t from)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)((from + i) * 7 + ((from + i) >> 9));
	bytes[0] = from ? bytes[0] : 'E';
}

/* Many connections at once, messages of many sizes, each read back whole before the next. */
static void echo_many(uint32_t connections, uint32_t messages)
{
	int fds[500];
	static uint8_t out[9000], in[9000];
	if (connections > 500)
		die("too many");
	for (uint32_t i = 0; i < connections; i++)
		fds[i] = dial(0);
	for (uint32_t m = 0; m < messages; m++) {
		uint32_t sizes[500];
		for (uint32_t i = 0; i < connections; i++) {
			sizes[i] = 1 + (uint32_t)random() % (random() % 4 ? 600 : 8000);
			memset(out, (int)(i + m), sizes[i]);
			out[0] = 'E';
			say(fds[i], out, sizes[i]);
		}
		for (uint32_t i = 0; i < connections; i++) {
			if (hear(fds[i], in, sizes[i]) != sizes[i])
				die("echo: connection %u ended early", i);
			memset(out, (int)(i + m), sizes[i]);
			out[0] = 'E';
			if (memcmp(in, out, sizes[i]))
				die("echo: connection %u, message %u: wrong bytes", i, m);
		}
	}
	for (uint32_t i = 0; i < connections; i++)
		close(fds[i]);
}

/* 300 kB out while they come back, then half-close, then the rest comes back before the end. */
static void half_close(void)
{
	enum { BYTES = 300000 };
	static uint8_t out[BYTES], in[BYTES + 1];
	fill(out, BYTES, 0);
	int fd = dial(0);
	pid_t writer = fork();
	if (!writer) {
		say(fd, out, BYTES);
		shutdown(fd, SHUT_WR);
		_exit(0);
	}
	size_t got = hear(fd, in, BYTES + 1);
	if (got != BYTES || memcmp(in, out, BYTES))
		die("half-close: %zu of %d bytes, or wrong ones", got, BYTES);
	close(fd);
	waitpid(writer, NULL, 0);
}

static void slow_upload(uint32_t bytes)
{
	uint8_t *out = malloc(bytes);
	fill(out, bytes, 1);
	out[0] = 'S';
	int fd = dial(0);
	say(fd, out, bytes);
	shutdown(fd, SHUT_WR);
	char answer[64] = {0}, wanted[64];
	hear(fd, answer, sizeof(answer) - 1);
	snprintf(wanted, sizeof(wanted), "%u %08x", bytes, digest(2166136261U, out, bytes));
	if (strcmp(answer, wanted))
		die("slow upload: \"%s\" instead of \"%s\"", answer, wanted);
	close(fd);
	free(out);
}

/* A reader with a small buffer that sleeps, so that its window shuts. */
static void large_download(void)
{
	int fd = dial(0), small = 4096;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	say(fd, "L", 1);
	static uint8_t in[20000];
	uint32_t got = 0;
	for (;;) {
		ssize_t count = recv(fd, in, sizeof(in), 0);
		if (count < 0)
			die("large download: %s", strerror(errno));
		if (!count)
			break;
		for (ssize_t i = 0; i < count; i++)
			if (in[i] != large_byte(got + (uint32_t)i))
				die("large download: wrong byte at %zu", got + (size_t)i);
		got += (uint32_t)count;
		if (got / 300000 != (got - (uint32_t)count) / 300000)
			usleep(50000);
	}
	if (got != LARGE_BYTES)
		die("large download: %u bytes", got);
	close(fd);
}

/* The server closes first and keeps TIME_WAIT; the same port at once again must get through. */
static void port_reuse(uint16_t local_port)
{
	for (int i = 0; i < 20; i++) {
		char in[8] = {0};
		int fd = dial(local_port);
		say(fd, "C", 1);
		if (hear(fd, in, sizeof(in)) != 3 || memcmp(in, "bye", 3))
			die("port reuse: round %d", i);
		close(fd);
	}
}

static void churn(uint32_t rounds)
{
	for (uint32_t i = 0; i < rounds; i++) {
		char in[6];
		int fd = dial(0);
		say(fd, "Ehello", 6);
		if (i % 3 == 0) { /* RST instead of FIN */
			struct linger now = {.l_onoff = 1};
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		} else if (hear(fd, in, 6) != 6 || memcmp(in, "Ehello", 6)) {
			die("churn: round %u", i);
		}
		close(fd);
	}
}

static void udp_echo(void)
{
	int fd = socket(family, SOCK_DGRAM, 0);
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(7771)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(7771)};
	inet_pton(AF_INET, "10.9.0.1", &four.sin_addr);
	inet_pton(AF_INET6, "fd09::1", &six.sin6_addr);
	const void *to = family == AF_INET ? (void *)&four : (void *)&six;
	if (connect(fd, to, family == AF_INET ? sizeof(four) : sizeof(six)))
		die("connect: %s", strerror(errno));
	uint8_t out[1400], in[1500];
	for (uint32_t size = 0; size <= sizeof(out); size += 7) {
		memset(out, (int)size, size);
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		if (send(fd, out, size, 0) < 0 || poll(&ready, 1, 2000) != 1)
			die("UDP of %u bytes: no answer", size);
		if (recv(fd, in, sizeof(in), 0) != (ssize_t)size || memcmp(in, out, size))
			die("UDP of %u bytes: another answer", size);
	}
	/* and nothing listens here: ICMP tells */
	four.sin_port = htons(9);
	six.sin6_port = htons(9);
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	if (connect(fd, to, family == AF_INET ? sizeof(four) : sizeof(six)) || send(fd, out, 5, 0) < 0 ||
	    poll(&ready, 1, 2000) != 1 || recv(fd, in, sizeof(in), 0) >= 0 || errno != ECONNREFUSED)
		die("UDP to a port where nothing listens was not refused");
	close(fd);
}

static void shell(const char *command)
{
	fflush(NULL);
	int status = system(command);
	if (status)
		die("failed: %s", command);
}

static void child_tests(void)
{
	srandom(7);
	static const int families[] = {AF_INET, AF_INET6};
	for (int i = 0; i < 2; i++) {
		const char *name = i ? "IPv6" : "IPv4";
		family = families[i];
		shell(i ? "ping -6 -c 3 -i 0.05 -W 2 -s 1000 fd09::1 >/dev/null"
			: "ping -c 3 -i 0.05 -W 2 -s 1000 10.9.0.1 >/dev/null");
		udp_echo();
		echo_many(100, 15);
		half_close();
		slow_upload(1 << 20);
		large_download();
		churn(200);
		port_reuse((uint16_t)(30000 + i));
		shell(i ? "test \"$(curl -sS -g 'http://[fd09::1]/a' 'http://[fd09::1]/b')\" = '0 811c9dc5\n0 811c9dc5'"
			: "test \"$(curl -sS http://10.9.0.1/a http://10.9.0.1/b)\" = '0 811c9dc5\n0 811c9dc5'");
		shell(i ? "head -c 700000 /dev/zero | curl -sS -g -H Expect: --data-binary @- 'http://[fd09::1]/up' | grep -q "
			  "'^700000 '"
			: "head -c 700000 /dev/zero | curl -sS -H Expect: --data-binary @- http://10.9.0.1/up | grep -q '^700000 "
			  "'");
		printf("%s, clean link: fine\n", name);
		shared->loss = 20;
		echo_many(30, 4);
		half_close();
		slow_upload(300000);
		large_download();
		churn(10);
		shared->loss = 0;
		printf("%s, bad link: fine\n", name);
	}
}

/* ---- setting up ---- */

static int skip(const char *why)
{
	printf("skipped: %s (%s)\n", why, strerror(errno));
	return SKIP;
}

static struct dp_stack *stack_make(struct tp_counters *counters)
{
	const uint8_t ours4[4] = {10, 9, 0, 1}, ours6[16] = {0xfd, 9, [15] = 1};
	struct tp_prefix address[2] = {{.bits = 24}, {.bits = 64}};
	address[0].addr = dp_addr_from4(ours4);
	address[1].addr = dp_addr_from6(ours6);
	const struct dp_stack_options options = {
		.mac = {2, 9, 0, 0, 0, 1},
		.mtu = MTU,
		.address = address,
		.address_count = 2,
		.http_port = 80,
		.udp_port = 7771,
		.connections_max = 512,
		.send_buffer_bytes = 32768,
		.secret = {mono_ns(), 12345},
		.counters = counters,
		.frame_open = frame_open,
		.frame_send = frame_send,
	};
	struct dp_stack *stack;
	if (dp_stack_create(&stack, &options))
		die("dp_stack_create failed");
	return stack;
}

static void books(const struct tp_counters *counters)
{
	uint64_t ended = 0;
	for (int i = TP_C_FRAMES_ACCEPTED; i <= TP_C_FRAMES_BLOCKLISTED; i++)
		ended += counters->v[i];
	if (ended != counters->v[TP_C_FRAMES_RECEIVED])
		die("%llu frames received, %llu accounted for", (unsigned long long)counters->v[TP_C_FRAMES_RECEIVED],
		    (unsigned long long)ended);
	if (counters->v[TP_C_FRAMES_BAD_L4_CHECKSUM] || counters->v[TP_C_FRAMES_BAD_IP_CHECKSUM])
		die("the kernel's checksums were found wrong");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (geteuid() != 0) {
		errno = EPERM;
		return skip("a network namespace needs root");
	}
	if (unshare(CLONE_NEWNET))
		return skip("no network namespace");
	port.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	memcpy(request.ifr_name, "tap0", 5);
	if (port.fd < 0 || ioctl(port.fd, TUNSETIFF, &request))
		return skip("no TAP device");
	if (ioctl(port.fd, TUNSETOFFLOAD, 0)) /* the kernel shall fill in every checksum */
		return skip("TUNSETOFFLOAD");
	shell("ip link set lo up && ip link set tap0 up txqueuelen 2000 && ip addr add 10.9.0.2/24 dev tap0 && "
	      "ip addr add fd09::2/64 dev tap0 nodad");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	static struct tp_counters counters;
	struct dp_stack *stack = stack_make(&counters);
	pid_t child = fork();
	if (!child) {
		alarm(LIMIT_S);
		child_tests();
		exit(0);
	}
	int status = 0;
	uint64_t give_up_ns = mono_ns() + LIMIT_S * 1000000000ULL;
	while (!waitpid(child, &status, WNOHANG)) {
		struct pollfd ready = {.fd = port.fd, .events = POLLIN};
		poll(&ready, 1, 1);
		stack_round(stack);
		if (mono_ns() > give_up_ns)
			kill(child, SIGKILL);
	}
	for (int i = 0; i < 200; i++) { /* the last FINs */
		stack_round(stack);
		usleep(1000);
	}
	printf("%llu frames in, %llu out, %llu retransmissions, %u connections at once, %llu in all\n",
	       (unsigned long long)port.frames_in, (unsigned long long)port.frames_out,
	       (unsigned long long)counters.v[TP_C_TCP_RETRANSMITS], open_most,
	       (unsigned long long)counters.v[TP_C_CONNECTIONS_OPENED]);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("the child failed");
	books(&counters);
	dp_stack_destroy(stack);
	if (counters.v[TP_C_CONNECTIONS_OPENED] != counters.v[TP_C_CONNECTIONS_CLOSED] || open_now)
		die("connections are left");
	return 0;
}
