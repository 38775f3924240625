/*
 * GET /api/v1/live: Server-Sent Events (WHATWG HTML, section 9.2), one message a second with the node's totals. A watcher is a
 * connection that is parked between two messages (ctl_watch.h); a slow one misses messages and gets the newest.
 */
#include "ctl.h"
#include "ctl_gate.h"
#include "ctl_param_time.h"
#include "ctl_pulse.h"
#include "ctl_refused.h"
#include "ctl_watch.h"
#include "turnpike/text.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16384 };

struct watcher {
	struct ctl_pulse *pulse;
	struct ctl_watch *watch;
	struct MHD_Connection *connection;
	struct ctl_gate *gate; /* NULL: anybody may */
	struct ctl_asker asker;
	struct ctl_message *message; /* being sent */
	size_t sent;                 /* of it */
	uint64_t sequence;           /* of the last one */
	bool greeted, was_parked;
};

static ssize_t text(const char *line, char *to, size_t room)
{
	size_t bytes = strlen(line) < room ? strlen(line) : room;
	memcpy(to, line, bytes);
	return (ssize_t)bytes;
}

static ssize_t watcher_read(void *context, uint64_t position, char *to, size_t room)
{
	struct watcher *watcher = context;
	bool stopped;

	(void)position;
	if (!watcher->greeted) {
		watcher->greeted = true;
		return text("retry: 2000\n\n", to, room);
	}
	if (!watcher->message) {
		watcher->message = ctl_pulse_wait(watcher->pulse, watcher->sequence, 0, &stopped);
		watcher->sent = 0;
		/* who lost his token sees no more from that second on */
		if (stopped || (watcher->message && watcher->gate && !ctl_gate_holds(watcher->gate, &watcher->asker)))
			return MHD_CONTENT_READER_END_OF_STREAM;
		bool was_parked = watcher->was_parked;
		watcher->was_parked = !watcher->message && !was_parked;
		if (watcher->was_parked && ctl_watch_park(watcher->watch, watcher->connection, watcher->sequence))
			return 0; /* … and called again when there is news, or has been none for long */
		if (!watcher->message)
			return text(": waiting\n\n", to, room);
		watcher->sequence = watcher->message->sequence;
	}
	size_t bytes = watcher->message->bytes - watcher->sent;
	if (bytes > room)
		bytes = room;
	memcpy(to, watcher->message->text + watcher->sent, bytes);
	watcher->sent += bytes;
	if (watcher->sent == watcher->message->bytes) {
		ctl_message_give(watcher->pulse, watcher->message);
		watcher->message = NULL;
	}
	return (ssize_t)bytes;
}

static void watcher_free(void *context)
{
	struct watcher *watcher = context;
	if (watcher->message)
		ctl_message_give(watcher->pulse, watcher->message);
	ctl_watch_give(watcher->watch);
	free(watcher);
}

void ctl_live(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct watcher *watcher;

	if (!ctl_target_known(target, NULL, 0, reply))
		return;
	if (!ctl_watch_take(ctl->watch)) {
		ctl_reply_problem(reply, 503, "too-many-watchers", NULL, "there are %d watchers already", CTL_WATCHERS_MAX);
		return;
	}
	watcher = calloc(1, sizeof(*watcher));
	if (watcher) {
		watcher->pulse = ctl->pulse;
		watcher->watch = ctl->watch;
		watcher->connection = target->connection;
		watcher->gate = ctl->gate;
		watcher->asker = *target->asker;
		reply->stream =
			MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, watcher_read, watcher, watcher_free);
	}
	if (!reply->stream) {
		ctl_watch_give(ctl->watch);
		free(watcher);
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for a watcher");
		return;
	}
	reply->status = 200;
	reply->type = "text/event-stream";
}

void ctl_live_history(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	if (!ctl_target_known(target, NULL, 0, reply))
		return;
	ctl_reply_json(reply, ctl_pulse_history(ctl->pulse));
}

/* GET /api/v1/live/refused?from=&to=: when beacons were refused; without them, all that is known. */
void ctl_live_refused(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	static const char *const names[2] = {"from", "to"};
	uint64_t limit[2] = {0, UINT64_MAX};

	if (!ctl_target_known(target, names, 2, reply))
		return;
	for (int i = 0; i < 2; i++)
		if (!ctl_param_time(target, names[i], NULL, &limit[i], NULL, reply))
			return;
	if (limit[0] > limit[1]) {
		ctl_reply_problem(reply, 400, "bad-parameter", "from", "from: expected a time not after to");
		return;
	}
	ctl_reply_json(reply, ctl_refused_json(ctl_pulse_refused(ctl->pulse), limit[0], limit[1]));
}
