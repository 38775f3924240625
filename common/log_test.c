/* Log lines: one line whatever is in them, one write each, cut cleanly when too long; and the word to a service manager. */
#include "turnpike/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static int standard_error, pipe_fd[2];

static int setup(void **state)
{
	(void)state;
	standard_error = dup(STDERR_FILENO);
	return standard_error < 0 || pipe(pipe_fd) || dup2(pipe_fd[1], STDERR_FILENO) < 0;
}

static int teardown(void **state)
{
	(void)state;
	dup2(standard_error, STDERR_FILENO);
	close(standard_error);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	tp_log_level_set(TP_INFO);
	tp_log_program_set("");
	return 0;
}

static char line[8192];

/* What one read gives: a pipe keeps one write together. */
static const char *line_read(void)
{
	ssize_t bytes = read(pipe_fd[0], line, sizeof line - 1);
	line[bytes > 0 ? bytes : 0] = 0;
	return line;
}

static void a_line_has_level_message_and_pairs(void **state)
{
	(void)state;
	tp_logf(TP_INFO, "ready", "http=%s port=%d", "127.0.0.1", 8080);
	assert_string_equal(line_read(), "level=info msg=\"ready\" http=127.0.0.1 port=8080\n");
	tp_log_program_set("turnpiked");
	tp_logf(TP_ERROR, "log write failed", NULL);
	assert_string_equal(line_read(), "level=error msg=\"log write failed\" program=turnpiked\n");
	tp_logf(TP_WARN, "nothing to add", "%s", "");
	assert_string_equal(line_read(), "level=warn msg=\"nothing to add\" program=turnpiked \n");
}

static void the_level_holds_back_what_is_below(void **state)
{
	(void)state;
	tp_logf(TP_DEBUG, "unseen", NULL);
	tp_log_level_set(TP_ERROR);
	tp_logf(TP_WARN, "unseen", NULL);
	tp_logf(TP_ERROR, "seen", NULL);
	assert_string_equal(line_read(), "level=error msg=\"seen\"\n");
	tp_log_level_set(TP_DEBUG);
	tp_logf(TP_DEBUG, "seen", NULL);
	assert_string_equal(line_read(), "level=debug msg=\"seen\"\n");
}

static void hostile_text_stays_in_its_line(void **state)
{
	(void)state;
	tp_logf(TP_INFO, "a \"quoted\" \\ one\nlevel=error", "peer=%s", "x\r\nlevel=error msg=forged\x1b[2J");
	assert_string_equal(line_read(),
			    "level=info msg=\"a \\\"quoted\\\" \\\\ one level=error\" peer=\"x  level=error msg=forged [2J\"\n");
}

/* A client's bytes in a pair stay that pair's value: they cannot make another pair, whether the caller quoted them or not. */
static void hostile_values_stay_values(void **state)
{
	(void)state;
	static const struct {
		const char *value, *bare, *quoted;
	} row[] = {
		{"plain", "v=plain", "v=\"plain\""},
		{"", "v=\"\"", "v=\"\""},
		{"two words", "v=\"two words\"", "v=\"two words\""},
		{"\" level=error msg=\"forged", "v=\"\\\" level=error msg=\\\"forged\"", "v=\"\\\" level=error msg=\\\"forged\""},
		{"a=b", "v=\"a=b\"", "v=\"a=b\""},
		{"back\\", "v=\"back\\\\\"", "v=\"back\\\\\""},
		{"line\nlevel=x", "v=\"line level=x\"", "v=\"line level=x\""},
		{"%s%n%d", "v=%s%n%d", "v=\"%s%n%d\""},
	};
	char want[256];
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		tp_logf(TP_INFO, "m", "v=%s n=%d", row[i].value, -7);
		snprintf(want, sizeof(want), "level=info msg=\"m\" %s n=-7\n", row[i].bare);
		assert_string_equal(line_read(), want);
		tp_logf(TP_INFO, "m", "v=\"%s\" n=%d", row[i].value, -7);
		snprintf(want, sizeof(want), "level=info msg=\"m\" %s n=-7\n", row[i].quoted);
		assert_string_equal(line_read(), want);
	}
	tp_logf(TP_INFO, "m", "a=%.3s b=%.*s c=%zu d=%llu e=%02x f=%ld g=%%", "abcdef", 2, "xyz", (size_t)1 << 40, ~0ULL, 10, -1L);
	assert_string_equal(line_read(), "level=info msg=\"m\" a=abc b=xy c=1099511627776 d=18446744073709551615 e=0a f=-1 g=%\n");
}

static void a_long_line_is_cut_between_characters(void **state)
{
	(void)state;
	char text[6000];
	for (size_t shift = 0; shift < 4; shift++) {
		memset(text, 'x', shift);
		for (size_t i = shift; i + 2 < sizeof text; i += 2)
			memcpy(text + i, "ä", 3);
		tp_logf(TP_INFO, "long", "text=%s", text);
		const char *got = line_read();
		size_t bytes = strlen(got);
		assert_in_range(bytes, 1900, 2048);
		assert_string_equal(got + bytes - 6, "ä…\n");
		tp_logf(TP_INFO, text, "never=%s", "seen");
		got = line_read();
		bytes = strlen(got);
		assert_in_range(bytes, 1900, 2048);
		assert_int_equal(got[bytes - 1], '\n');
		assert_null(strstr(got, "never"));
	}
}

static void errno_is_left_alone(void **state)
{
	(void)state;
	errno = EXDEV;
	tp_logf(TP_INFO, "x", NULL);
	line_read();
	assert_int_equal(errno, EXDEV);
}

static void the_service_manager_is_told(void **state)
{
	(void)state;
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(manager >= 0);
	/* an abstract name, so that nothing is left behind */
	int bytes = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "turnpike-log-test-%ld", (long)getpid());
	socklen_t name_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)bytes);
	assert_int_equal(bind(manager, (struct sockaddr *)&name, name_bytes), 0);
	char path[sizeof name.sun_path + 1];
	snprintf(path, sizeof path, "@%s", name.sun_path + 1);
	setenv("NOTIFY_SOCKET", path, 1);
	tp_notify("READY=1");
	char got[64] = {0};
	assert_int_equal(recv(manager, got, sizeof got - 1, MSG_DONTWAIT), 7);
	assert_string_equal(got, "READY=1");
	close(manager);
	/* nobody there, or no usable name: a warning, or nothing, but no crash */
	tp_notify("READY=1");
	assert_non_null(strstr(line_read(), "level=warn"));
	memset(path, 'x', sizeof path - 1);
	path[0] = '/';
	path[sizeof path - 1] = 0;
	setenv("NOTIFY_SOCKET", path, 1);
	tp_notify("READY=1");
	assert_non_null(strstr(line_read(), "level=warn"));
	setenv("NOTIFY_SOCKET", "", 1);
	tp_notify("READY=1");
	unsetenv("NOTIFY_SOCKET");
	tp_notify("READY=1");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_line_has_level_message_and_pairs),    TEST(the_level_holds_back_what_is_below),
		TEST(hostile_text_stays_in_its_line),        TEST(hostile_values_stay_values),
		TEST(a_long_line_is_cut_between_characters), TEST(errno_is_left_alone),
		TEST(the_service_manager_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
