/*
 * Who goes when the table or the buffers are full: scripts (see net_script.h). Tables of 16, so that the hand sees every record.
 */
#include "net_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char text[200000];
static int text_at;

static void line(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void line(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	text_at += vsnprintf(text + text_at, sizeof(text) - (size_t)text_at, format, list);
	va_end(list);
	assert_true(text_at < (int)sizeof(text));
}

static void handshake(int port)
{
	line("< S 0:0 mss 1460 port %d\n> S. 0:0 ack 1 port %d\n< . 1:1 ack 1 port %d\n", port, port, port);
}

/* A request and its answer. */
static void speak(int port)
{
	line("app insend 5 port %d\n< P. 1:11 ack 1 port %d\n> P. 1:6 ack 11 port %d\n< . 11:11 ack 6 port %d\n", port, port, port,
	     port);
}

static void check(const char *name, const struct script_options *options)
{
	const struct script_case script = {name, text};
	script_run(&script, options);
}

static void test_order(void **state)
{
	(void)state;
	for (uint8_t family = 4; family <= 6; family += 2) {
		text_at = 0;
		for (int port = 1; port <= 15; port++)
			handshake(port);
		speak(3);
		line("+10\n");
		for (int port = 1; port <= 15; port++)
			if (port != 3 && port != 9 && port != 5)
				speak(port);
		line("app close port 5\n> F. 1:1 port 5\n< . 1:1 ack 2 port 5\n"); /* and never closes itself */
		line("+1100\ncount CONNECTIONS_EVICTED 0\nconns 15\n");
		/* The 16th fills the table when its handshake is complete. First goes what we have closed: it needs no word any more. */
		line("< S 0:0 mss 1460 port 16\n> S. 0:0 ack 1 port 16\n< . 1:1 ack 1 port 16\n"
		     "conns 15\ncount CONNECTIONS_EVICTED 1\napp closed 1 port 5\n");
		/* Then who never spoke, */
		line("< S 0:0 mss 1460 port 17\n> S. 0:0 ack 1 port 17\n< . 1:1 ack 1 port 17\n> F. 1:1 ack 1 port 9\n"
		     "app closed 1 port 9\n");
		/* then who has been quiet longest. */
		line("< S 0:0 mss 1460 port 18\n> S. 0:0 ack 1 port 18\n< . 1:1 ack 1 port 18\n> F. 6:6 ack 11 port 3\n"
		     "app closed 1 port 3\nconns 15\ncount CONNECTIONS_EVICTED 3\ncount CONNECTIONS_REFUSED 0\n");
		/* The evicted end in the usual way, */
		line("< . 1:1 ack 2 port 9\nnone\n< F. 1:1 ack 2 port 9\n> . 2:2 ack 2 port 9\n+60\n< F. 1:1 ack 2 port 9\n"
		     "> . 2:2 ack 2 port 9\n");
		line("< F. 1:1 ack 2 port 5\n> . 2:2 ack 2 port 5\n");
		/* and a request that crossed the FIN is answered with a reset. */
		line("< P. 11:21 ack 6 port 3\n> R 6:6 port 3\n< P. 11:21 ack 6 port 3\n> R 6:6 port 3\n");
		/* Who spoke lately stays: the new ones are not worth more than those. */
		line("< P. 11:13 ack 6 port 1\n+40\n> . ack 13 port 1\nconns 15\n");
		check("shed: closed by us, then silent, then idle longest",
		      &(struct script_options){.family = family, .vlan = DP_UNTAGGED, .connections_max = 16, .reserve_max = 0});
	}
}

static void test_nobody_idle(void **state)
{
	(void)state;
	text_at = 0;
	for (int port = 1; port <= 15; port++) {
		handshake(port);
		line("< P. 1:11 ack 1 port %d\n", port); /* an answer is owed */
	}
	line("+40\n");
	for (int port = 15; port >= 1; port--) /* as the slot of the wheel has them */
		line("> . ack 11 port %d\n", port);
	line("+2000\n");
	handshake(16);
	line("< P. 1:11 ack 1 port 16\n+40\n> . ack 11 port 16\n");
	line("conns 16\ncount CONNECTIONS_EVICTED 0\n< S 0:0 mss 1460 port 17\nnone\ncount CONNECTIONS_REFUSED 1\n");
	/* Answers still leave. After 5 s half a request is no longer worth more than a new client. */
	line("app send 5 port 2\n> P. 1:6 ack 11 port 2\n< . 11:11 ack 6 port 2\n+900\n");
	line("< S 0:0 mss 1460 port 17\nnone\n+150\n< S 0:0 mss 1460 port 17\n> F. 6:6 port 2\n> S. 0:0 ack 1 port 17\n");
	line("< R 1:1 port 17\n< P. 11:12 ack 1 port 4\n+40\n> . ack 12 port 4\n+2200\n");
	handshake(18);
	line("> F. 1:1 port 1\ncount CONNECTIONS_EVICTED 2\n");
	check("shed: nobody who is served, the newest is refused",
	      &(struct script_options){.family = 4, .vlan = DP_UNTAGGED, .connections_max = 16, .reserve_max = 0});
}

/* One chunk set aside and 64 more; four connections take all of them and do not acknowledge. */
static void test_buffers(void **state)
{
	(void)state;
	text_at = 0;
	for (int port = 1; port <= 7; port++)
		handshake(port);
	for (int port = 1; port <= 5; port++) {
		line("app send 26624 port %d\n", port);
		for (int i = 0; i < 10; i++)
			line("> . port %d\n", port);
	}
	line("app send 200 port 6\nnone\napp send 200 port 7\nnone\napp writable 0 port 6\n");
	/* A brief answer needs none. */
	handshake(8);
	line("app send 104 port 8\n> P. 1:105 port 8\n< . 1:1 ack 105 port 8\n");
	/* A second one on top of it, that is too much: it has to wait for the first one's acknowledgement, then for a buffer. */
	line("app send 50 port 8\n> P. 105:155 port 8\napp send 55 port 8\nnone\n< . 1:1 ack 155 port 8\napp writable 1 port 8\n"
	     "app send 200 port 8\nnone\n");
	/* An acknowledgement frees chunks; those in line get them. */
	line("< . 1:1 ack 14601 port 1\n");
	for (int i = 0; i < 9; i++)
		line("> port 1\n");
	line("app writable 0 port 1\napp writable 1 port 6\napp writable 1 port 7\n");
	line("app send 200 port 6\n> P. 1:201 port 6\n< . 1:1 ack 201 port 6\n");
	line("app send 200 port 7\n> P. 1:201 port 7\n< . 1:1 ack 201 port 7\n");
	for (int port = 2; port <= 5; port++)
		line("app send 32768 port %d\nnone\n", port);
	/* All taken again. Nobody is touched for a second, then one that stalls goes at a time. */
	line("app send 200 port 7\nnone\nframes 0\n+990\ncount CONNECTIONS_EVICTED 0\nconns 8\n+20\nframes -1\n");
	line("count CONNECTIONS_EVICTED 1\nconns 7\napp closed 0 port 6\napp writable 2 port 7\napp send 200 port 7\n> P. 201:401 "
	     "port 7\n");
	check("shed: an answer waits for a buffer, and who stalls is reset",
	      &(struct script_options){.family = 4, .vlan = DP_UNTAGGED, .connections_max = 16, .reserve_max = 1});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_nobody_idle),
		cmocka_unit_test(test_buffers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
