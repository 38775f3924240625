/*
 * Questions to a control process at a fixed rate, as an HTTP client asks them: open loop, so that an answer that takes long does not
 * keep the next question back, and each is timed from when it was due (no coordinated omission).
 *
 *   bench_query HOST:PORT RATE SECONDS TARGET…
 *
 * TARGETs take turns. In one, %c is a campaign of make_month, drawn as Zipf has them (exponent 1), %u one of all alike, %a an
 * advertiser. Prints answers a second, p50, p90, p99 and the longest in µs, the median bytes of an answer, and answers that were not 200.
 * 32 connections, kept open; HTTP/1.1.
 */
#include "turnpike/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 32, CAMPAIGNS = 1000, WAITING_MAX = 1 << 16, BUFFER_BYTES = 1 << 22, HEADER_BYTES = 8192 };

struct connection {
	int fd;
	bool busy;
	uint64_t due_ns;
	char *buffer;
	size_t bytes, whole; /* whole: of the answer, 0 while its header is not read */
};

static struct connection connection[CONNECTIONS];
static uint64_t waiting[WAITING_MAX]; /* when each question that found no free connection was due */
static uint32_t waiting_first, waiting_count;
static uint64_t *took_ns, *got_bytes, answers, answers_max, bad;
static uint64_t random_state = 88172645463325252ULL;
static char **target;
static uint32_t targets, turn;
static const char *host;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint32_t zipf(uint32_t n)
{
	double u = (double)(random_next() >> 11) / 9007199254740992.0;
	uint32_t k = (uint32_t)(exp(u * log((double)n + 1)) - 1);
	return k < n ? k : n - 1;
}

static void die(const char *what)
{
	fprintf(stderr, "bench_query: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int connect_to(const char *text)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	char name[64];
	const int one = 1;
	const char *colon = strrchr(text, ':');

	if (!colon || (size_t)(colon - text) >= sizeof(name)) {
		errno = EINVAL;
		die(text);
	}
	memcpy(name, text, (size_t)(colon - text));
	name[colon - text] = '\0';
	to.sin_port = htons((uint16_t)atoi(colon + 1));
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || inet_pton(AF_INET, name, &to.sin_addr) != 1 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		die(text);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void ask(struct connection *c, uint64_t due_ns)
{
	char text[2048];
	int n = snprintf(text, 64, "GET ");

	for (const char *at = target[turn++ % targets]; *at && n < 1500; at++) {
		if (at[0] == '%' && (at[1] == 'c' || at[1] == 'u'))
			n += snprintf(text + n, 32, "camp_%u",
				      *++at == 'c' ? zipf(CAMPAIGNS) : (uint32_t)(random_next() % CAMPAIGNS));
		else if (at[0] == '%' && at[1] == 'a')
			n += snprintf(text + n, 32, "adv_%u", (uint32_t)(random_next() % (CAMPAIGNS / 10))), at++;
		else
			text[n++] = *at;
	}
	n += snprintf(text + n, 256, " HTTP/1.1\r\nHost: %s\r\n\r\n", host);
	c->due_ns = due_ns;
	c->busy = true;
	c->bytes = c->whole = 0;
	if (write(c->fd, text, (size_t)n) != n)
		die("send");
}

/* True once the answer is whole. */
static bool answer_read(struct connection *c)
{
	ssize_t got = read(c->fd, c->buffer + c->bytes, BUFFER_BYTES - 1 - c->bytes);

	if (got < 0 && errno == EAGAIN)
		return false;
	if (got <= 0)
		die("receive");
	c->bytes += (size_t)got;
	if (!c->whole) {
		c->buffer[c->bytes] = '\0';
		const char *end = strstr(c->buffer, "\r\n\r\n"), *length = strcasestr(c->buffer, "\r\nContent-Length:");
		if (!end)
			return false;
		if (!length || length > end) {
			errno = EPROTO;
			die("no Content-Length");
		}
		c->whole = (size_t)(end + 4 - c->buffer) + strtoull(length + 17, NULL, 10);
	}
	return c->bytes >= c->whole;
}

static void answer_done(struct connection *c, uint64_t now_ns)
{
	c->busy = false;
	bad += strncmp(c->buffer, "HTTP/1.1 200", 12) != 0;
	if (answers < answers_max) {
		got_bytes[answers] = c->whole;
		took_ns[answers++] = now_ns - c->due_ns;
	}
	if (waiting_count) {
		ask(c, waiting[waiting_first++ % WAITING_MAX]);
		waiting_count--;
	}
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static void question_due(uint64_t due_ns)
{
	for (uint32_t i = 0; i < CONNECTIONS; i++)
		if (!connection[i].busy) {
			ask(&connection[i], due_ns);
			return;
		}
	if (waiting_count == WAITING_MAX) {
		errno = EOVERFLOW;
		die("the other side does not keep up");
	}
	waiting[(waiting_first + waiting_count++) % WAITING_MAX] = due_ns;
}

int main(int count, char **word)
{
	struct pollfd poller[CONNECTIONS];

	if (count < 5) {
		fprintf(stderr, "usage: bench_query HOST:PORT RATE SECONDS TARGET...\n");
		return 2;
	}
	host = word[1];
	double rate = atof(word[2]), seconds = atof(word[3]);
	target = word + 4;
	targets = (uint32_t)count - 4;
	answers_max = (uint64_t)(rate * seconds);
	took_ns = calloc(answers_max + 1, sizeof(*took_ns));
	got_bytes = calloc(answers_max + 1, sizeof(*got_bytes));
	if (!took_ns || !got_bytes || rate <= 0)
		die("memory");
	for (uint32_t i = 0; i < CONNECTIONS; i++) {
		connection[i] = (struct connection){.fd = connect_to(host), .buffer = malloc(BUFFER_BYTES)};
		poller[i] = (struct pollfd){.fd = connection[i].fd, .events = POLLIN};
	}
	uint64_t begun_ns = tp_mono_ns(), asked = 0;
	while (answers < answers_max) {
		uint64_t now_ns = tp_mono_ns();
		while (asked < answers_max && begun_ns + (uint64_t)((double)asked * 1e9 / rate) <= now_ns) {
			question_due(begun_ns + (uint64_t)((double)asked * 1e9 / rate));
			asked++;
		}
		uint64_t next_ns = begun_ns + (uint64_t)((double)asked * 1e9 / rate);
		const struct timespec until = {
			.tv_nsec = next_ns > now_ns && next_ns - now_ns < 100000000 ? (long)(next_ns - now_ns) : 100000000};
		if (ppoll(poller, CONNECTIONS, &until, NULL) < 0 && errno != EINTR)
			die("poll");
		now_ns = tp_mono_ns();
		for (uint32_t i = 0; i < CONNECTIONS; i++)
			if (poller[i].revents && answer_read(&connection[i]))
				answer_done(&connection[i], now_ns);
	}
	double took = (double)(tp_mono_ns() - begun_ns) / 1e9;
	qsort(took_ns, answers, sizeof(*took_ns), by_number);
	qsort(got_bytes, answers, sizeof(*got_bytes), by_number);
	printf("%.0f answers/s, p50 %.0f us, p90 %.0f us, p99 %.0f us, longest %.0f us, %" PRIu64 " bytes, %" PRIu64 " not 200\n",
	       (double)answers / took, (double)took_ns[answers / 2] / 1e3, (double)took_ns[answers * 9 / 10] / 1e3,
	       (double)took_ns[answers * 99 / 100] / 1e3, (double)took_ns[answers - 1] / 1e3, got_bytes[answers / 2], bad);
	return bad != 0;
}
