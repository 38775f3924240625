/* The command socket, both sides, in a folder of the test's own: long paths, descriptors, broken peers. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "turnpike/live.h"

struct server {
	char folder[512];
	int listener;
	pthread_t thread;
	struct tp_live *live;
	int live_fd;
};

enum { LONG_ANSWER_BYTES = 2 << 20 };

/* One connection after the other; each line gets the answer that its test wants. */
static void *server_run(void *argument)
{
	struct server *server = argument;
	struct pollfd poller = {.fd = server->listener, .events = POLLIN};
	char line[TP_COMMAND_BYTES_MAX];

	for (;;) {
		poll(&poller, 1, -1);
		int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			continue;
		struct pollfd peer = {.fd = fd, .events = POLLIN};
		int n;
		for (;;) {
			poll(&peer, 1, -1);
			n = tp_command_receive(fd, line, sizeof(line));
			if (n == -EAGAIN)
				continue;
			if (n < 0 || strcmp(line, "hang up") == 0)
				break;
			if (strcmp(line, "stop") == 0) {
				tp_command_answer(fd, "{\"ok\":true}", -1);
				close(fd);
				return NULL;
			}
			if (strcmp(line, "attach") == 0) {
				tp_command_answer(fd, "{\"ok\":true,\"pid\":1}", server->live_fd);
			} else if (strcmp(line, "long") == 0) {
				char *text = malloc(LONG_ANSWER_BYTES + 1);
				memset(text, 'x', LONG_ANSWER_BYTES);
				text[LONG_ANSWER_BYTES] = '\0';
				tp_command_answer(fd, text, -1);
				free(text);
			} else {
				tp_command_answer(fd, line, -1);
			}
		}
		close(fd);
	}
}

static int server_start(void **state)
{
	struct server *server = calloc(1, sizeof(*server));
	/* longer than a socket address holds */
	snprintf(server->folder, sizeof(server->folder), "/tmp/turnpike-command-test-XXXXXX");
	if (!mkdtemp(server->folder))
		return -1;
	for (int i = 0; i < 5; i++) {
		strcat(server->folder, "/a-folder-with-a-rather-long-name");
		if (mkdir(server->folder, 0700) != 0)
			return -1;
	}
	server->live_fd = tp_live_create(&server->live, 1, 16, 4096);
	server->listener = tp_command_listen(server->folder);
	if (server->live_fd < 0 || server->listener < 0)
		return -1;
	*state = server;
	return pthread_create(&server->thread, NULL, server_run, server);
}

static int server_stop(void **state)
{
	struct server *server = *state;
	char answer[64], path[600];
	int fd = tp_command_connect(server->folder);

	if (fd < 0 || tp_command_call(fd, "stop", answer, sizeof(answer), NULL) != 0)
		return -1;
	close(fd);
	pthread_join(server->thread, NULL);
	close(server->listener);
	close(server->live_fd);
	tp_live_unmap(server->live);
	snprintf(path, sizeof(path), "%s/turnpike.sock", server->folder);
	unlink(path);
	for (int i = 0; i < 6; i++) {
		rmdir(server->folder);
		*strrchr(server->folder, '/') = '\0';
	}
	free(server);
	return 0;
}

static void lines_go_both_ways(void **state)
{
	struct server *server = *state;
	char answer[256];
	int passed = 5, fd = tp_command_connect(server->folder);

	assert_true(fd >= 0);
	for (int i = 0; i < 50; i++) {
		char line[64];
		snprintf(line, sizeof(line), "blocklist add 192.0.2.%d reason=a b  c", i);
		assert_int_equal(tp_command_call(fd, line, answer, sizeof(answer), &passed), 0);
		assert_string_equal(answer, line);
		assert_int_equal(passed, -1);
	}
	assert_int_equal(tp_command_call(fd, "two\nlines", answer, sizeof(answer), NULL), -EINVAL);
	close(fd);
}

static void the_live_view_comes_over(void **state)
{
	struct server *server = *state;
	const struct tp_live *view;
	int connection;

	atomic_store(&server->live->watermark_ms, 4711);
	assert_int_equal(tp_live_attach(server->folder, &view, &connection), 0);
	assert_int_equal(atomic_load(&view->watermark_ms), 4711);
	tp_live_unmap(view);
	close(connection);
}

static void a_long_answer_is_whole_or_refused(void **state)
{
	struct server *server = *state;
	char *answer = malloc(LONG_ANSWER_BYTES + 1);
	int fd = tp_command_connect(server->folder);

	assert_int_equal(tp_command_call(fd, "long", answer, LONG_ANSWER_BYTES + 1, NULL), 0);
	assert_int_equal(strlen(answer), LONG_ANSWER_BYTES);
	assert_int_equal(tp_command_call(fd, "long", answer, 1000, NULL), -EMSGSIZE);
	close(fd);
	free(answer);
}

static void a_server_that_goes_is_an_error(void **state)
{
	struct server *server = *state;
	char answer[64];
	int fd = tp_command_connect(server->folder);

	assert_int_equal(tp_command_call(fd, "hang up", answer, sizeof(answer), NULL), -ECONNRESET);
	close(fd);
}

static void broken_peers_are_told_apart(void **state)
{
	(void)state;
	int pair[2];
	char line[16];

#define SEND(text) assert_int_equal(send(pair[0], text, sizeof(text) - 1, 0), sizeof(text) - 1)
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(tp_command_receive(pair[1], line, sizeof(line)), -EAGAIN);
	SEND("one\ntwo\n");
	assert_int_equal(tp_command_receive(pair[1], line, sizeof(line)), 3);
	assert_string_equal(line, "one");
	assert_int_equal(tp_command_receive(pair[1], line, sizeof(line)), 3);
	assert_string_equal(line, "two");
	SEND("\n");
	assert_int_equal(tp_command_receive(pair[1], line, sizeof(line)), 0);
	assert_string_equal(line, "");
	SEND("half");
	assert_int_equal(tp_command_receive(pair[1], line, sizeof(line)), -EPROTO);
	SEND("-and-more-than-fits");
	assert_int_equal(tp_command_receive(pair[1], line, sizeof(line)), -EMSGSIZE);
	close(pair[0]);
	close(pair[1]);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	SEND("nul\0!\n");
	assert_int_equal(tp_command_receive(pair[1], line, sizeof(line)), -EPROTO);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	SEND("123456789012345\n"); /* fifteen and its newline: just fits */
	assert_int_equal(tp_command_receive(pair[1], line, sizeof(line)), 15);
	close(pair[0]);
	assert_int_equal(tp_command_receive(pair[1], line, sizeof(line)), -ECONNRESET);
	close(pair[1]);
#undef SEND
}

static void a_stale_socket_is_replaced(void **state)
{
	(void)state;
	char folder[] = "/tmp/turnpike-command-test-XXXXXX", path[64];
	struct stat stat_now;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/turnpike.sock", folder);
	assert_int_equal(tp_command_connect(folder), -ENOENT);
	int first = tp_command_listen(folder);
	assert_true(first >= 0);
	assert_int_equal(stat(path, &stat_now), 0);
	assert_int_equal(stat_now.st_mode & 07777, 0660);
	close(first);
	assert_int_equal(tp_command_connect(folder), -ECONNREFUSED);
	mode_t was = umask(0777);
	int second = tp_command_listen(folder);
	umask(was);
	assert_true(second >= 0);
	assert_int_equal(stat(path, &stat_now), 0);
	assert_int_equal(stat_now.st_mode & 07777, 0660);
	int fd = tp_command_connect(folder);
	assert_true(fd >= 0);
	close(fd);
	close(second);
	unlink(path);
	rmdir(folder);
	assert_true(tp_command_listen(folder) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_go_both_ways),
		cmocka_unit_test(the_live_view_comes_over),
		cmocka_unit_test(a_long_answer_is_whole_or_refused),
		cmocka_unit_test(a_server_that_goes_is_an_error),
		cmocka_unit_test(broken_peers_are_told_apart),
		cmocka_unit_test(a_stale_socket_is_replaced),
	};
	return cmocka_run_group_tests(tests, server_start, server_stop);
}
