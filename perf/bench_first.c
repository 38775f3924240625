/*
 * How long a node that sleeps takes for a beacon after a pause: one keep-alive connection, a POST each time after a pause at random.
 *
 *   bench_first HOST:PORT COUNT PAUSE_MS_MIN PAUSE_MS_MAX
 *
 * From before the client's write to after its read, with the client asleep in between: what a client of the same machine sees, and two
 * wake-ups of its own in it. Prints quantiles. Exit status 1 when an answer is not a 204.
 */
#include "turnpike/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { COUNT_MAX = 100000 };

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static int node_connect(const char *target)
{
	char host[64] = "";
	const char *colon = strrchr(target, ':');
	struct sockaddr_in to = {.sin_family = AF_INET};
	if (!colon || (size_t)(colon - target) >= sizeof(host))
		return -1;
	memcpy(host, target, (size_t)(colon - target));
	to.sin_port = htons((uint16_t)atoi(colon + 1));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	if (fd < 0 || inet_pton(AF_INET, host, &to.sin_addr) != 1 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* ns, or 0 when it was not answered 204. */
static uint64_t ask(int fd, uint64_t run, uint32_t number)
{
	char body[512], text[1024], answer[1024];
	int bytes = snprintf(body, sizeof(body),
			     "{\"event_id\":\"%016" PRIx64 "-%u\",\"event_type\":\"impression\",\"timestamp\":%" PRIu64
			     ",\"ad_id\":\"a\",\"campaign_id\":\"c\",\"advertiser_id\":\"v\",\"device_id\":\"d%u\"}",
			     run, number, tp_now_ms(), number);
	int all = snprintf(
		text, sizeof(text),
		"POST /api/v1/clicks HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		bytes, body);
	const uint64_t began = tp_mono_ns();
	if (write(fd, text, (size_t)all) != all)
		return 0;
	size_t got = 0;
	do {
		ssize_t count = read(fd, answer + got, sizeof(answer) - 1 - got);
		if (count <= 0)
			return 0;
		got += (size_t)count;
		answer[got] = 0;
	} while (!strstr(answer, "\r\n\r\n"));
	const uint64_t took = tp_mono_ns() - began;
	return strncmp(answer, "HTTP/1.1 204", 12) == 0 ? took : 0;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return fprintf(stderr, "usage: bench_first HOST:PORT COUNT PAUSE_MS_MIN PAUSE_MS_MAX\n"), 2;
	const uint32_t count = (uint32_t)atoi(argv[2]), least = (uint32_t)atoi(argv[3]), most = (uint32_t)atoi(argv[4]);
	static uint64_t took[COUNT_MAX];
	const int fd = node_connect(argv[1]);
	if (fd < 0 || count < 1 || count > COUNT_MAX || most < least)
		return fprintf(stderr, "bench_first: %s\n", fd < 0 ? strerror(errno) : "bad numbers"), 1;
	const uint64_t run = tp_mono_ns() ^ tp_now_ms() << 20;
	unsigned seed = (unsigned)run;
	for (uint32_t i = 0; i < count; i++) {
		usleep((least + (uint32_t)rand_r(&seed) % (most - least + 1)) * 1000);
		took[i] = ask(fd, run, i);
		if (!took[i])
			return fprintf(stderr, "bench_first: beacon %u was not answered 204\n", i), 1;
	}
	qsort(took, count, sizeof(took[0]), compare);
	printf("p50=%.3f ms p90=%.3f ms p99=%.3f ms max=%.3f ms\n", (double)took[count / 2] / 1e6,
	       (double)took[count * 9ULL / 10] / 1e6, (double)took[count * 99ULL / 100] / 1e6, (double)took[count - 1] / 1e6);
	return 0;
}
