/*
 * Attaching to the data process, again and again; see ctl_view.h. One watching thread; `lock` guards all fields below it and the
 * reference counts. Nothing is waited for under the lock.
 */
#include "ctl_view.h"

#include "turnpike/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WATCH_MS = 200, RETRY_MS = 300 };

struct ctl_mapping {
	const struct tp_live *live;
	uint32_t held;
};

struct ctl_views {
	const char *data_dir;
	pthread_t thread;
	int stop_fd;
	/* the watching thread's own */
	int connection; /* -1: none */
	int last_error; /* so that a data process that is down is logged once */
	pthread_mutex_t lock;
	struct ctl_mapping *now, *figures;
	bool connected;
};

/* Under the lock. */
static void hold(struct ctl_mapping *mapping)
{
	if (mapping)
		mapping->held++;
}

/* Under the lock; what it returns is to be unmapped outside of it, or NULL. */
static struct ctl_mapping *let_go(struct ctl_mapping *mapping)
{
	return mapping && --mapping->held == 0 ? mapping : NULL;
}

static void mapping_free(struct ctl_mapping *mapping)
{
	if (!mapping)
		return;
	tp_live_unmap(mapping->live);
	free(mapping);
}

void ctl_look_take(struct ctl_views *views, struct ctl_look *look)
{
	pthread_mutex_lock(&views->lock);
	*look = (struct ctl_look){.now_held = views->now, .figures_held = views->figures, .connected = views->connected};
	hold(look->now_held);
	hold(look->figures_held);
	pthread_mutex_unlock(&views->lock);
	look->now = look->now_held ? look->now_held->live : NULL;
	look->figures = look->figures_held ? look->figures_held->live : NULL;
}

void ctl_look_give(struct ctl_views *views, struct ctl_look *look)
{
	pthread_mutex_lock(&views->lock);
	struct ctl_mapping *first = let_go(look->now_held), *second = let_go(look->figures_held);
	pthread_mutex_unlock(&views->lock);
	mapping_free(first);
	mapping_free(second);
	*look = (struct ctl_look){0};
}

/* Once a new data process has sealed or replayed what the old one left, the old one's tables are not needed any more. */
static void figures_follow(struct ctl_views *views)
{
	struct ctl_mapping *gone = NULL;

	pthread_mutex_lock(&views->lock);
	if (views->now != views->figures &&
	    atomic_load_explicit(&views->now->live->refusing, memory_order_acquire) != TP_STARTING) {
		gone = let_go(views->figures);
		views->figures = views->now;
		hold(views->figures);
	}
	pthread_mutex_unlock(&views->lock);
	mapping_free(gone);
}

static void attach(struct ctl_views *views)
{
	const struct tp_live *live;
	struct ctl_mapping *mapping = calloc(1, sizeof(*mapping));

	if (!mapping)
		return;
	int rc = tp_live_attach(views->data_dir, &live, &views->connection);
	if (rc != 0) {
		free(mapping);
		views->connection = -1;
		if (rc != views->last_error)
			tp_logf(TP_INFO, "no data process to attach to", "data_dir=\"%s\" error=\"%s\"", views->data_dir,
				strerror(-rc));
		views->last_error = rc;
		return;
	}
	views->last_error = 0;
	mapping->live = live;
	mapping->held = 1;
	tp_logf(TP_INFO, "attached to the data process", "pid=%u", live->pid);
	pthread_mutex_lock(&views->lock);
	struct ctl_mapping *gone = let_go(views->now);
	views->now = mapping;
	views->connected = true;
	pthread_mutex_unlock(&views->lock);
	mapping_free(gone);
}

static void detach(struct ctl_views *views)
{
	tp_logf(TP_WARN, "the data process is gone; its last figures stay", "data_dir=\"%s\"", views->data_dir);
	close(views->connection);
	views->connection = -1;
	pthread_mutex_lock(&views->lock);
	views->connected = false;
	pthread_mutex_unlock(&views->lock);
}

static void *watch(void *context)
{
	struct ctl_views *views = context;

	for (;;) {
		if (views->connection < 0)
			attach(views);
		if (views->connection >= 0)
			figures_follow(views);
		struct pollfd poller[2] = {
			{.fd = views->stop_fd, .events = POLLIN},
			{.fd = views->connection, .events = POLLIN}, /* a negative one is skipped */
		};
		int n = poll(poller, 2, views->connection >= 0 ? WATCH_MS : RETRY_MS);
		if (n < 0 && errno != EINTR)
			break;
		if (n <= 0)
			continue;
		if (poller[0].revents)
			break;
		/* nobody sends unasked: readable means end of file, or a peer that is none of ours */
		if (poller[1].revents)
			detach(views);
	}
	return NULL;
}

int ctl_views_open(struct ctl_views **views, const char *data_dir)
{
	struct ctl_views *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->data_dir = data_dir;
	made->connection = -1;
	pthread_mutex_init(&made->lock, NULL);
	made->stop_fd = eventfd(0, EFD_CLOEXEC);
	int rc = made->stop_fd < 0 ? -errno : 0;
	if (rc == 0) {
		/* the first try before anybody asks, so that a start beside a running data process is complete at once */
		attach(made);
		if (made->now)
			figures_follow(made);
		rc = -pthread_create(&made->thread, NULL, watch, made);
	}
	if (rc != 0) {
		if (made->stop_fd >= 0)
			close(made->stop_fd);
		free(made);
		return rc;
	}
	*views = made;
	return 0;
}

void ctl_views_close(struct ctl_views *views)
{
	const uint64_t one = 1;

	if (write(views->stop_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
		return; /* cannot happen: the counter is at 0 */
	pthread_join(views->thread, NULL);
	if (views->connection >= 0)
		close(views->connection);
	close(views->stop_fd);
	mapping_free(let_go(views->figures));
	mapping_free(let_go(views->now));
	pthread_mutex_destroy(&views->lock);
	free(views);
}
