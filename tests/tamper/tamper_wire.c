/*
 * A bad wire, for tests: carries frames between two interfaces and does to them what --loss, --twice, --late, --cut and --flip say,
 * each way, from one seed. With real programs at both ends it shows what their stacks make of it. Single thread; needs CAP_NET_RAW.
 *
 *   a peer ── veth ── A │ tamper_wire │ B ── veth ── the other peer
 *
 * Chances are of 10,000 frames. A frame that is late waits 1 to 30 ms, so that others overtake it; all frames wait --delay ms. Ends
 * at SIGTERM with a line of what it did on standard output.
 *
 * One bit is flipped, of what IP and TCP have checksums for: two can cancel out, and MAC addresses and ARP have none but the wire's
 * own, so no stack could help there. Frames are seen as the veth has them: offloads must be off at all ends (ethtool -K … tx off gso
 * off tso off gro off), or a frame is larger than any wire carries.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_MAX = 2048, WAITING_MAX = 8192, BURST = 64, LATE_MS_MAX = 30, WHOLE = 10000 };

enum what { LOSS, TWICE, LATE, CUT, FLIP, WHATS };
static const char *const names[WHATS] = {"loss", "twice", "late", "cut", "flip"};

struct frame {
	uint64_t due_ns, order; /* those that are due at once leave as they came */
	uint32_t bytes;
	int next, to; /* list of free ones; which socket */
	uint8_t data[FRAME_MAX];
};

static struct frame frames[WAITING_MAX];
static int heap[WAITING_MAX], waiting, free_first; /* by due_ns */
static uint32_t chance[WHATS], delay_ms;
static uint64_t state, order, seen[2], done[2][WHATS], overflow;
static int sockets[2];
static volatile sig_atomic_t ended;

static void on_signal(int number)
{
	(void)number;
	ended = 1;
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators". */
static uint32_t below(uint32_t limit)
{
	state += 0x9e3779b97f4a7c15ULL;
	uint64_t value = state;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
	return (uint32_t)(((value ^ value >> 31) >> 32) * limit >> 32);
}

static bool happens(int from, enum what what)
{
	if (below(WHOLE) >= chance[what])
		return false;
	done[from][what]++;
	return true;
}

static void heap_swap(int a, int b)
{
	int frame = heap[a];
	heap[a] = heap[b];
	heap[b] = frame;
}

static uint64_t due(int place)
{
	return frames[heap[place]].due_ns;
}

static bool before(int a, int b)
{
	return due(a) < due(b) || (due(a) == due(b) && frames[heap[a]].order < frames[heap[b]].order);
}

static void frame_wait(int to, const uint8_t *data, uint32_t bytes, uint64_t due_ns)
{
	if (free_first < 0) {
		overflow++;
		return;
	}
	int index = free_first;
	free_first = frames[index].next;
	frames[index].due_ns = due_ns;
	frames[index].order = order++;
	frames[index].bytes = bytes;
	frames[index].to = to;
	memcpy(frames[index].data, data, bytes);
	int place = waiting++;
	heap[place] = index;
	for (; place && before(place, (place - 1) / 2); place = (place - 1) / 2)
		heap_swap(place, (place - 1) / 2);
}

static void frame_leave(void)
{
	struct frame *frame = &frames[heap[0]];
	if (send(sockets[frame->to], frame->data, frame->bytes, MSG_DONTWAIT) < 0)
		overflow++;
	frame->next = free_first;
	free_first = heap[0];
	heap[0] = heap[--waiting];
	for (int place = 0;;) {
		int least = place, left = 2 * place + 1;
		if (left < waiting && before(left, least))
			least = left;
		if (left + 1 < waiting && before(left + 1, least))
			least = left + 1;
		if (least == place)
			return;
		heap_swap(place, least);
		place = least;
	}
}

static void frame_came(int from, uint8_t *data, uint32_t bytes, uint64_t now)
{
	seen[from]++;
	if (happens(from, LOSS))
		return;
	int copies = happens(from, TWICE) ? 2 : 1;
	if (happens(from, CUT))
		bytes = 1 + below(bytes - 1);
	bool ip = bytes > ETH_HLEN && ((data[12] == 0x08 && data[13] == 0x00) || (data[12] == 0x86 && data[13] == 0xdd));
	if (ip && happens(from, FLIP))
		data[ETH_HLEN + below(bytes - ETH_HLEN)] ^= (uint8_t)(1U << below(8));
	for (; copies > 0; copies--) {
		uint64_t wait_ms = delay_ms + (happens(from, LATE) ? 1 + below(LATE_MS_MAX) : 0);
		frame_wait(!from, data, bytes, now + wait_ms * 1000000);
	}
}

static void receive(int from)
{
	uint64_t now = now_ns();
	for (int i = 0; i < BURST; i++) {
		uint8_t data[FRAME_MAX];
		struct sockaddr_ll origin;
		socklen_t length = sizeof(origin);
		ssize_t bytes = recvfrom(sockets[from], data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&origin, &length);
		if (bytes < 0)
			return;
		if (origin.sll_pkttype != PACKET_OUTGOING && bytes > 1)
			frame_came(from, data, (uint32_t)bytes, now);
	}
}

static int open_interface(const char *name)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(name)};
	struct packet_mreq all = {.mr_ifindex = at.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
	int room = 8 << 20;
	if (fd < 0 || !at.sll_ifindex || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all))) {
		fprintf(stderr, "tamper_wire: %s: %s\n", name, strerror(errno));
		exit(1);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	return fd;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"loss", 1, NULL, LOSS}, {"twice", 1, NULL, TWICE}, {"late", 1, NULL, LATE},
						{"cut", 1, NULL, CUT},   {"flip", 1, NULL, FLIP},   {"delay", 1, NULL, 'd'},
						{"seed", 1, NULL, 's'},  {NULL, 0, NULL, 0}};
	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
		if (option >= 0 && option < WHATS)
			chance[option] = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'd')
			delay_ms = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 's')
			state = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	if (argc - optind != 2) {
		fprintf(stderr,
			"usage: tamper_wire [--loss N] [--twice N] [--late N] [--cut N] [--flip N] [--delay MS] [--seed N] A B\n");
		return 2;
	}
	for (int i = 0; i < WAITING_MAX; i++)
		frames[i].next = i + 1 < WAITING_MAX ? i + 1 : -1;
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	for (int i = 0; i < 2; i++)
		sockets[i] = open_interface(argv[optind + i]);
	puts("ready");
	fflush(stdout);
	struct pollfd poller[2] = {{.fd = sockets[0], .events = POLLIN}, {.fd = sockets[1], .events = POLLIN}};
	while (!ended) {
		int timeout = 1000;
		if (waiting) {
			uint64_t now = now_ns();
			timeout = due(0) <= now ? 0 : (int)((due(0) - now) / 1000000) + 1;
		}
		poll(poller, 2, timeout);
		for (int i = 0; i < 2; i++)
			receive(i);
		while (waiting && due(0) <= now_ns())
			frame_leave();
	}
	printf("{");
	for (int i = 0; i < 2; i++) {
		printf("\"%s\":{\"frames\":%llu", argv[optind + i], (unsigned long long)seen[i]);
		for (int what = 0; what < WHATS; what++)
			printf(",\"%s\":%llu", names[what], (unsigned long long)done[i][what]);
		printf("},");
	}
	printf("\"overflow\":%llu}\n", (unsigned long long)overflow);
	return 0;
}
