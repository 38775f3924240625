/* Parked watchers; see ctl_watch.h. `lock` guards the list; a connection is suspended and resumed under it, so each exactly once. */
#include "ctl_watch.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>

struct ctl_watch {
	struct ctl_pulse *pulse;
	pthread_t thread;
	pthread_mutex_t lock;
	uint64_t sequence; /* of the newest message that was told */
	bool stopped;
	uint32_t watchers, parked;
	struct MHD_Connection *place[CTL_WATCHERS_MAX];
};

/* With the lock. */
static void all_go(struct ctl_watch *watch)
{
	for (uint32_t i = 0; i < watch->parked; i++)
		MHD_resume_connection(watch->place[i]);
	watch->parked = 0;
}

static void *watch_run(void *context)
{
	struct ctl_watch *watch = context;
	bool stopped = false;

	while (!stopped) {
		struct ctl_message *message = ctl_pulse_wait(watch->pulse, watch->sequence, CTL_WATCH_QUIET_MS, &stopped);
		pthread_mutex_lock(&watch->lock);
		if (message)
			watch->sequence = message->sequence;
		watch->stopped = stopped;
		all_go(watch);
		pthread_mutex_unlock(&watch->lock);
		if (message)
			ctl_message_give(watch->pulse, message);
	}
	return NULL;
}

int ctl_watch_open(struct ctl_watch **out, struct ctl_pulse *pulse)
{
	struct ctl_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return -ENOMEM;
	watch->pulse = pulse;
	pthread_mutex_init(&watch->lock, NULL);
	int rc = pthread_create(&watch->thread, NULL, watch_run, watch);
	if (rc != 0) {
		free(watch);
		return -rc;
	}
	*out = watch;
	return 0;
}

void ctl_watch_stop(struct ctl_watch *watch)
{
	if (watch)
		pthread_join(watch->thread, NULL);
}

void ctl_watch_close(struct ctl_watch *watch)
{
	if (!watch)
		return;
	pthread_mutex_destroy(&watch->lock);
	free(watch);
}

bool ctl_watch_take(struct ctl_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	bool fits = watch->watchers < CTL_WATCHERS_MAX;
	watch->watchers += fits;
	pthread_mutex_unlock(&watch->lock);
	return fits;
}

void ctl_watch_give(struct ctl_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->watchers--;
	pthread_mutex_unlock(&watch->lock);
}

bool ctl_watch_park(struct ctl_watch *watch, struct MHD_Connection *connection, uint64_t sequence)
{
	pthread_mutex_lock(&watch->lock);
	bool parks = !watch->stopped && watch->sequence <= sequence && watch->parked < CTL_WATCHERS_MAX;
	if (parks) {
		watch->place[watch->parked++] = connection;
		MHD_suspend_connection(connection);
	}
	pthread_mutex_unlock(&watch->lock);
	return parks;
}
