/*
 * The kernel's side of a DPDK port: see tap.h. Threads: rx cores enter give, next, done, waits; open and close are the main thread's;
 * tap_main() is the tap's own.
 *
 * Sleep: the tap's thread sets `sleeping`, then a full fence, then looks at the rings once more; an rx core publishes a frame, then a
 * full fence, then looks at `sleeping`. So one of the two always sees the other.
 */
#include "tap.h"

#include "turnpike/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FULL_WAIT_MS = 1, READ_BURST = 64 };

struct slot {
	uint32_t bytes;
	uint8_t frame[DP_TAP_FRAME_BYTES];
};

/* One writer, one reader. Positions only grow. */
struct slot_ring {
	_Alignas(64) _Atomic uint32_t head; /* the writer: next slot to fill */
	_Alignas(64) _Atomic uint32_t tail; /* the reader: next slot to empty */
	_Alignas(64) struct slot slot[DP_TAP_SLOTS];
};

struct dp_tap {
	int fd, wake_fd;
	struct dp_tap_options options;
	pthread_t thread;
	_Alignas(64) _Atomic uint32_t sleeping; /* the tap's thread */
	_Atomic uint32_t stop;                  /* main */
	_Atomic uint64_t write_failed;
	struct slot_ring out;
	struct slot_ring in[]; /* one per rx core */
};

static struct slot *ring_room(struct slot_ring *ring)
{
	const uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	/* acquire: the reader has let go of the slot */
	const uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	return head - tail == DP_TAP_SLOTS ? NULL : &ring->slot[head % DP_TAP_SLOTS];
}

static void ring_publish(struct slot_ring *ring)
{
	/* release: the slot's bytes before the position */
	atomic_store_explicit(&ring->head, atomic_load_explicit(&ring->head, memory_order_relaxed) + 1, memory_order_release);
}

static struct slot *ring_next(struct slot_ring *ring)
{
	const uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	/* acquire: pairs with ring_publish() */
	const uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

	return head == tail ? NULL : &ring->slot[tail % DP_TAP_SLOTS];
}

static void ring_release(struct slot_ring *ring)
{
	atomic_store_explicit(&ring->tail, atomic_load_explicit(&ring->tail, memory_order_relaxed) + 1, memory_order_release);
}

/* ---- rx cores ---- */

bool dp_tap_give(struct dp_tap *tap, uint32_t core, const uint8_t *frame, size_t bytes)
{
	struct slot_ring *ring = &tap->in[core];
	struct slot *slot = bytes <= DP_TAP_FRAME_BYTES ? ring_room(ring) : NULL;

	if (slot == NULL)
		return false;
	slot->bytes = (uint32_t)bytes;
	memcpy(slot->frame, frame, bytes);
	ring_publish(ring);
	/* full fence: see the head of this file */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&tap->sleeping, memory_order_relaxed)) {
		const uint64_t one = 1;

		(void)!write(tap->wake_fd, &one, sizeof(one)); /* full already means awake */
	}
	return true;
}

const uint8_t *dp_tap_next(struct dp_tap *tap, size_t *bytes)
{
	const struct slot *slot = ring_next(&tap->out);

	if (slot == NULL)
		return NULL;
	*bytes = slot->bytes;
	return slot->frame;
}

void dp_tap_done(struct dp_tap *tap)
{
	ring_release(&tap->out);
}

bool dp_tap_waits(const struct dp_tap *tap)
{
	return atomic_load_explicit(&tap->out.head, memory_order_acquire) !=
	       atomic_load_explicit(&tap->out.tail, memory_order_relaxed);
}

/* ---- the tap's thread ---- */

static uint32_t kernel_give(struct dp_tap *tap)
{
	uint32_t done = 0;

	for (uint32_t core = 0; core < tap->options.cores; core++) {
		struct slot *slot;

		while ((slot = ring_next(&tap->in[core])) != NULL) {
			/* A frame that the kernel refuses (interface down, no memory) is lost like on any wire. */
			if (write(tap->fd, slot->frame, slot->bytes) < 0)
				atomic_fetch_add_explicit(&tap->write_failed, 1, memory_order_relaxed);
			ring_release(&tap->in[core]);
			done++;
		}
	}
	return done;
}

static uint32_t kernel_take(struct dp_tap *tap)
{
	const bool was_empty = !dp_tap_waits(tap);
	uint32_t done = 0;

	for (struct slot *slot; done < READ_BURST && (slot = ring_room(&tap->out)) != NULL; done++) {
		const ssize_t bytes = read(tap->fd, slot->frame, sizeof(slot->frame));

		if (bytes <= 0)
			break;
		slot->bytes = (uint32_t)bytes;
		ring_publish(&tap->out);
	}
	if (done > 0 && was_empty && tap->options.wake != NULL)
		tap->options.wake(tap->options.wake_context, 0);
	return done;
}

static void tap_sleep(struct dp_tap *tap)
{
	const bool room = ring_room(&tap->out) != NULL;
	struct pollfd wait[2] = {{.fd = tap->wake_fd, .events = POLLIN}, {.fd = tap->fd, .events = POLLIN}};
	bool work = false;
	uint64_t count;

	atomic_store_explicit(&tap->sleeping, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t core = 0; core < tap->options.cores; core++)
		work = work || ring_next(&tap->in[core]) != NULL;
	if (!work && !atomic_load_explicit(&tap->stop, memory_order_relaxed) &&
	    poll(wait, room ? 2 : 1, room ? -1 : FULL_WAIT_MS) > 0 && wait[0].revents != 0)
		(void)!read(tap->wake_fd, &count, sizeof(count));
	atomic_store_explicit(&tap->sleeping, 0, memory_order_relaxed);
}

static void *tap_main(void *context)
{
	struct dp_tap *tap = context;

	pthread_setname_np(pthread_self(), "tap");
	while (!atomic_load_explicit(&tap->stop, memory_order_acquire))
		if (kernel_give(tap) + kernel_take(tap) == 0)
			tap_sleep(tap);
	kernel_give(tap);
	return NULL;
}

/* ---- open and close ---- */

/* The kernel shall not make itself a link-local address: with our MAC it would be our stack's own. */
static void address_generation_off(const char *name)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/addr_gen_mode", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return; /* no IPv6 here */
	(void)!write(fd, "1", 1);
	close(fd);
}

static int interface_set(const struct dp_tap_options *options)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {0};
	int result = 0;

	if (fd < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", options->name);
	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, options->mac, 6);
	if (ioctl(fd, SIOCSIFHWADDR, &request) != 0)
		result = -errno;
	request.ifr_mtu = options->mtu;
	if (result == 0 && ioctl(fd, SIOCSIFMTU, &request) != 0)
		result = -errno;
	address_generation_off(options->name);
	if (result == 0 && ioctl(fd, SIOCGIFFLAGS, &request) != 0)
		result = -errno;
	request.ifr_flags |= IFF_UP;
	if (result == 0 && ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		result = -errno;
	close(fd);
	return result;
}

static int interface_make(struct dp_tap *tap)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap->options.name);
	tap->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->fd < 0 || ioctl(tap->fd, TUNSETIFF, &request) != 0)
		return -errno;
	return interface_set(&tap->options);
}

int dp_tap_open(struct dp_tap **out, const struct dp_tap_options *options)
{
	const size_t bytes = sizeof(struct dp_tap) + options->cores * sizeof(struct slot_ring);
	struct dp_tap *tap = aligned_alloc(64, bytes);
	int result;

	if (tap == NULL)
		return -ENOMEM;
	memset(tap, 0, bytes); /* touched now */
	tap->options = *options;
	tap->fd = -1;
	tap->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	result = tap->wake_fd < 0 ? -errno : interface_make(tap);
	if (result == 0)
		result = -pthread_create(&tap->thread, NULL, tap_main, tap);
	if (result == 0) {
		*out = tap;
		return 0;
	}
	tp_logf(TP_ERROR, "cannot make the tap interface", "tap=%s error=\"%s\"%s", options->name, strerror(-result),
		result == -EBUSY                        ? " hint=\"an interface of that name exists\""
		: result == -EPERM || result == -EACCES ? " need=\"root or CAP_NET_ADMIN\""
		: result == -ENOENT                     ? " need=\"the tun module: modprobe tun\""
							: "");
	if (tap->fd >= 0)
		close(tap->fd);
	if (tap->wake_fd >= 0)
		close(tap->wake_fd);
	free(tap);
	return result;
}

void dp_tap_close(struct dp_tap *tap)
{
	const uint64_t one = 1;
	uint64_t failed;

	if (tap == NULL)
		return;
	atomic_store_explicit(&tap->stop, 1, memory_order_release);
	(void)!write(tap->wake_fd, &one, sizeof(one));
	pthread_join(tap->thread, NULL);
	failed = atomic_load_explicit(&tap->write_failed, memory_order_relaxed);
	if (failed > 0)
		tp_logf(TP_INFO, "the kernel refused frames at the tap", "tap=%s frames=%llu", tap->options.name,
			(unsigned long long)failed);
	close(tap->fd);
	close(tap->wake_fd);
	free(tap);
}
