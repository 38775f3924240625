/* Seats: see ctl_http_seat.h. `lock` guards all of it; it is held for a walk over the seats at most, and only when they are all taken. */
#include "ctl_http_seat.h"

#include "ctl_meter.h"
#include "turnpike/text.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { TICK_MS = 250, SHARES = 4 /* an address has a quarter of the seats before it has to shed its own */ };

struct ctl_seats {
	pthread_mutex_t lock;
	pthread_cond_t stop;
	pthread_t reaper;
	bool stopping;
	uint32_t max, room;   /* room: with those that are closing */
	uint32_t live;        /* taken and not told to go */
	size_t sending_bytes; /* of answers in memory */
	struct ctl_meter *meter;
	struct ctl_seat *free;
	struct ctl_seat seat[];
};

static uint64_t now_ms(void)
{
	return tp_mono_ns() / 1000000;
}

/* With the lock, so that the descriptor is still the connection's: it is given before it is closed. */
static void end(struct ctl_seats *seats, struct ctl_seat *seat, enum ctl_turned why)
{
	ctl_meter_turn(seats->meter, why);
	seat->ended = true;
	seats->live--;
	shutdown(seat->fd, SHUT_RDWR);
}

static bool is_idle(const struct ctl_seat *seat)
{
	return seat->state == CTL_SEAT_WAITING || seat->state == CTL_SEAT_READING;
}

/* An IPv6 customer has a /64. */
static bool same_source(const struct tp_addr *a, const struct tp_addr *b)
{
	return a->family == b->family && memcmp(a->byte, b->byte, a->family == 4 ? 16 : 8) == 0;
}

/* Makes room for one from `from`. With the lock. */
static void shed(struct ctl_seats *seats, const struct tp_addr *from)
{
	struct ctl_seat *idle = NULL, *own = NULL, *busy = NULL;
	uint32_t own_count = 0;

	for (uint32_t i = 0; i < seats->room; i++) {
		struct ctl_seat *seat = &seats->seat[i];
		if (seat->fd < 0 || seat->ended || seat->state == CTL_SEAT_WORKING)
			continue;
		bool is_own = same_source(&seat->from, from);
		own_count += is_own;
		if (!is_idle(seat)) {
			if (!busy || seat->since_ms < busy->since_ms)
				busy = seat;
			continue;
		}
		if (!idle || seat->since_ms < idle->since_ms)
			idle = seat;
		if (is_own && (!own || seat->since_ms < own->since_ms))
			own = seat;
	}
	struct ctl_seat *victim = own && own_count >= seats->max / SHARES ? own : idle ? idle : busy;
	if (victim)
		end(seats, victim, CTL_TURNED_SHED);
}

/* With the lock. */
static void reap(struct ctl_seats *seats, uint64_t now)
{
	bool hurry = seats->sending_bytes > CTL_SEAT_BUDGET_BYTES / 2;

	for (uint32_t i = 0; i < seats->room; i++) {
		struct ctl_seat *seat = &seats->seat[i];
		if (seat->fd < 0 || seat->ended)
			continue;
		bool over = seat->until_ms && now >= seat->until_ms;
		bool slow = hurry && seat->state == CTL_SEAT_SENDING && seat->bytes >= CTL_SEAT_LARGE_BYTES &&
			    now - seat->since_ms >= CTL_SEAT_HURRY_MS;
		if (over || slow)
			end(seats, seat, CTL_TURNED_SLOW);
	}
}

static void *reaper_run(void *context)
{
	struct ctl_seats *seats = context;
	struct timespec until;

	pthread_mutex_lock(&seats->lock);
	while (!seats->stopping) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += TICK_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&seats->stop, &seats->lock, &until);
		reap(seats, now_ms());
	}
	pthread_mutex_unlock(&seats->lock);
	return NULL;
}

int ctl_seats_open(struct ctl_seats **out, uint32_t max, struct ctl_meter *meter)
{
	uint32_t room = max + max / 4 + 16;
	struct ctl_seats *seats = calloc(1, sizeof(*seats) + room * sizeof(seats->seat[0]));
	pthread_condattr_t monotonic;

	if (!seats)
		return -ENOMEM;
	seats->max = max;
	seats->meter = meter;
	seats->room = room;
	for (uint32_t i = room; i-- > 0;) {
		seats->seat[i].fd = -1;
		seats->seat[i].next_free = seats->free;
		seats->free = &seats->seat[i];
	}
	pthread_mutex_init(&seats->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&seats->stop, &monotonic);
	pthread_condattr_destroy(&monotonic);
	int rc = pthread_create(&seats->reaper, NULL, reaper_run, seats);
	if (rc != 0) {
		free(seats);
		return -rc;
	}
	*out = seats;
	return 0;
}

void ctl_seats_close(struct ctl_seats *seats)
{
	pthread_mutex_lock(&seats->lock);
	seats->stopping = true;
	pthread_cond_signal(&seats->stop);
	pthread_mutex_unlock(&seats->lock);
	pthread_join(seats->reaper, NULL);
	pthread_cond_destroy(&seats->stop);
	pthread_mutex_destroy(&seats->lock);
	free(seats);
}

struct ctl_seat *ctl_seat_take(struct ctl_seats *seats, int fd, const struct tp_addr *from)
{
	pthread_mutex_lock(&seats->lock);
	struct ctl_seat *seat = seats->free;
	if (seat) {
		if (seats->live >= seats->max)
			shed(seats, from);
		seats->free = seat->next_free;
		*seat = (struct ctl_seat){.fd = fd, .from = *from, .since_ms = now_ms()};
		seat->until_ms = seat->since_ms + CTL_SEAT_FIRST_MS;
		seats->live++;
	} else {
		ctl_meter_turn(seats->meter, CTL_TURNED_FULL);
	}
	pthread_mutex_unlock(&seats->lock);
	return seat;
}

void ctl_seat_give(struct ctl_seats *seats, struct ctl_seat *seat)
{
	pthread_mutex_lock(&seats->lock);
	assert(seat->fd >= 0);
	seats->live -= !seat->ended;
	seats->sending_bytes -= seat->bytes;
	*seat = (struct ctl_seat){.fd = -1, .next_free = seats->free};
	seats->free = seat;
	pthread_mutex_unlock(&seats->lock);
}

void ctl_seat_move(struct ctl_seats *seats, struct ctl_seat *seat, enum ctl_seat_state state, size_t bytes)
{
	static const uint32_t allowed_ms[] = {
		[CTL_SEAT_WAITING] = CTL_SEAT_IDLE_MS,
		[CTL_SEAT_READING] = CTL_SEAT_READ_MS,
		[CTL_SEAT_WORKING] = 0,
		[CTL_SEAT_SENDING] = CTL_SEAT_SEND_MS,
		[CTL_SEAT_STREAMING] = 0,
	};
	pthread_mutex_lock(&seats->lock);
	seat->state = (uint8_t)state;
	seat->since_ms = now_ms();
	seat->until_ms = allowed_ms[state] ? seat->since_ms + allowed_ms[state] + bytes / (CTL_SEAT_SEND_BYTES_S / 1000) : 0;
	seats->sending_bytes += bytes - seat->bytes;
	seat->bytes = bytes;
	pthread_mutex_unlock(&seats->lock);
}

bool ctl_seats_have_room(struct ctl_seats *seats, size_t bytes)
{
	pthread_mutex_lock(&seats->lock);
	bool has = bytes < CTL_SEAT_LARGE_BYTES || seats->sending_bytes + bytes <= CTL_SEAT_BUDGET_BYTES;
	pthread_mutex_unlock(&seats->lock);
	return has;
}
