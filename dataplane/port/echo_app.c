/*
 * For tests: see echo_app.h.
 */
#include "echo_app.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct echo {
	struct dp_stream *stream;
	char verb;    /* 0: nothing came yet */
	bool waiting; /* took less than offered, and will resume */
	bool ended;
	uint32_t big_left;
};

struct echo_app echo_app;
static struct echo echo[ECHO_STREAMS_MAX];

void echo_app_reset(void)
{
	memset(&echo_app, 0, sizeof(echo_app));
	memset(echo, 0, sizeof(echo));
	echo_app.hold = true;
}

void echo_app_release(void)
{
	echo_app.hold = false;
	for (uint32_t i = 0; i < ECHO_STREAMS_MAX; i++)
		if (echo[i].stream != NULL && echo[i].verb == 'S' && echo[i].waiting) {
			echo[i].waiting = false;
			echo[i].stream->ops->resume(echo[i].stream);
		}
}

bool dp_stream_opened(struct dp_stream *stream)
{
	if (echo_app.refuse)
		return false;
	for (uint32_t i = 0; i < ECHO_STREAMS_MAX; i++)
		if (echo[i].stream == NULL) {
			echo[i] = (struct echo){.stream = stream};
			stream->app = &echo[i];
			echo_app.opened++;
			return true;
		}
	return false;
}

/* All of it goes out, or its rest with the next dp_stream_writable(). */
static void big_send(struct echo *app)
{
	static const uint8_t bytes[4096] = {'b'};

	while (app->big_left > 0) {
		const size_t wanted = app->big_left < sizeof(bytes) ? app->big_left : sizeof(bytes);
		const size_t taken = app->stream->ops->send(app->stream, bytes, wanted);

		app->big_left -= (uint32_t)taken;
		if (taken < wanted)
			return;
	}
}

size_t dp_stream_input(struct dp_stream *stream, const uint8_t *bytes, size_t count)
{
	struct echo *app = stream->app;
	size_t taken;

	assert(app->stream == stream && count > 0 && !app->ended);
	if (app->verb == 0)
		app->verb = (char)bytes[0];
	switch (app->verb) {
	case 'A':
		stream->ops->abort(stream);
		return 0;
	case 'B':
		app->big_left += ECHO_BIG_BYTES;
		big_send(app);
		return count;
	case 'C':
		stream->ops->send(stream, "bye", 3);
		stream->ops->close(stream);
		return count;
	case 'S':
		if (echo_app.hold) {
			app->waiting = true;
			echo_app.stalls++;
			return 0;
		}
		break;
	default:
		break;
	}
	taken = stream->ops->send(stream, bytes, count);
	if (taken < count) {
		app->waiting = true;
		echo_app.stalls++;
	}
	return taken;
}

void dp_stream_eof(struct dp_stream *stream)
{
	struct echo *app = stream->app;

	assert(!app->ended);
	app->ended = true;
	echo_app.ended++;
	if (app->big_left == 0)
		stream->ops->close(stream);
}

void dp_stream_writable(struct dp_stream *stream)
{
	struct echo *app = stream->app;

	assert(app->stream == stream);
	if (app->verb == 'B') {
		big_send(app);
		if (app->big_left == 0 && app->ended)
			stream->ops->close(stream);
	} else if (app->waiting && !(app->verb == 'S' && echo_app.hold)) {
		app->waiting = false;
		stream->ops->resume(stream);
	}
}

void dp_stream_closed(struct dp_stream *stream)
{
	struct echo *app = stream->app;

	assert(app->stream == stream);
	app->stream = NULL;
	echo_app.closed++;
}

void dp_datagram_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	(void)beacon;
	echo_app.datagrams++;
	echo_app.datagram_bytes += count;
	path->send(path, bytes, count);
}
