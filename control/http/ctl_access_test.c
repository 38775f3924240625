/*
 * Who may ask for what, of turnpike-control as a process: every row of the table of resources by everybody. A resource without a row of
 * expectations here fails the test. Logins, sessions, limits and the audit log besides. The program's path is in TURNPIKE_CONTROL.
 *
 * Each request may come from an address of its own within 127/8, so that limits per address meet only who means to meet them.
 */
#include "ctl_audit_log.h"
#include "ctl_limit.h"
#include "ctl_route.h"
#include "stand_in.h"
#include "turnpike/token.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { REPLY_BYTES = 1 << 20, WAIT_MS = 20000 };

static struct stand_in stand_in;
static char state_dir[160];
static pid_t pid;
static uint16_t port;
static char reply[REPLY_BYTES];
static uint32_t source; /* the last used one: 127.x.y.z */

/* ---- the process ---- */

static void control_start(const char *auth, const char *more)
{
	char path[128], line[128] = "", rest;
	unsigned got;
	int out[2];

	snprintf(path, sizeof(path), "%s/access.yaml", stand_in.folder);
	FILE *to = fopen(path, "w");
	assert_non_null(to);
	fprintf(to, "node: {name: stand-in, data_dir: %s}\ncontrol: {listen: \"127.0.0.1:0\", auth: %s, state_dir: %s%s}\n",
		stand_in.data_dir, auth, state_dir, more);
	assert_int_equal(fclose(to), 0);
	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		freopen("/dev/null", "w", stderr);
		execl(getenv("TURNPIKE_CONTROL"), "turnpike-control", "-c", path, NULL);
		_exit(127);
	}
	close(out[1]);
	for (size_t have = 0; have + 1 < sizeof(line) && read(out[0], line + have, 1) == 1 && line[have] != '\n'; have++)
		line[have + 1] = '\0';
	close(out[0]);
	line[strcspn(line, "\n")] = '\0';
	assert_int_equal(sscanf(line, "ready listen=127.0.0.1:%u%c", &got, &rest), 1);
	port = (uint16_t)got;
}

static void control_stop(void)
{
	int status;
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- HTTP ---- */

static int dial(uint32_t from)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(0x7f000000U | from)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* Sends bytes from 127.x.y.z and reads to the end, or the end of the head; the status, 0 when the connection ended without one. */
static int exchange(uint32_t from, const char *request, size_t bytes, bool head_only)
{
	int fd = dial(from), status = 0;
	size_t have = 0;

	assert_int_equal(send(fd, request, bytes, MSG_NOSIGNAL), bytes);
	for (;;) {
		struct pollfd poller = {.fd = fd, .events = POLLIN};
		if (poll(&poller, 1, WAIT_MS) != 1)
			fail_msg("no answer to %.200s", request);
		ssize_t n = recv(fd, reply + have, REPLY_BYTES - 1 - have, 0);
		if (n <= 0)
			break;
		have += (size_t)n;
		reply[have] = '\0';
		if (head_only && strstr(reply, "\r\n\r\n"))
			break;
	}
	reply[have] = '\0';
	close(fd);
	sscanf(reply, "HTTP/1.1 %d ", &status);
	return status;
}

/* lines: header lines, each with its end. */
static int ask_from(uint32_t from, const char *method, const char *target, const char *lines, const char *body)
{
	char request[4096];
	int bytes = snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\n%s", method,
			     target, port, lines);

	if (body)
		bytes += snprintf(request + bytes, sizeof(request) - (size_t)bytes, "Content-Length: %zu\r\n\r\n%s", strlen(body),
				  body);
	else
		bytes += snprintf(request + bytes, sizeof(request) - (size_t)bytes, "\r\n");
	return exchange(from, request, (size_t)bytes, strcmp(target, "/api/v1/live") == 0);
}

static int ask(const char *method, const char *target, const char *lines, const char *body)
{
	source = (source + 1) % 60000;
	return ask_from(0x010000 + source, method, target, lines, body);
}

static const char *bearer(const char *text)
{
	static char line[256];
	snprintf(line, sizeof(line), "Authorization: Bearer %.200s\r\n", text);
	return line;
}

static json_t *body_json(void)
{
	const char *body = strstr(reply, "\r\n\r\n");
	json_t *value = body ? json_loads(body + 4, 0, NULL) : NULL;
	if (!value)
		fail_msg("no JSON: %.300s", reply);
	return value;
}

static void token_make(const char *scope, char text[TP_TOKEN_TEXT_BYTES + 1], struct tp_token *token)
{
	assert_int_equal(tp_token_create(state_dir, scope, NULL, 1, 0, text, token), 0);
}

/* Logs in; "Cookie: …\r\n". */
static void cookie_take(const char *text, char line[128])
{
	char body[256];
	snprintf(body, sizeof(body), "{\"token\":\"%s\"}", text);
	assert_int_equal(ask("POST", "/login", "Content-Type: application/json\r\n", body), 200);
	const char *set = strstr(reply, "Set-Cookie: turnpike=");
	assert_non_null(set);
	snprintf(line, 128, "Cookie: other=1; %.*s; last=2\r\n", (int)strcspn(set + 12, ";"), set + 12);
}

/* ---- every resource, everybody ---- */

enum { ADMIN, READ, OWN, INGEST, NOBODY, EXPIRED, REVOKED, COOKIE, OWN_COOKIE, ENDED, ASKERS };
static const char *const asker_name[ASKERS] = {
	"admin",   "read",           "read:advertiser",           "ingest",      "nobody", "expired",
	"revoked", "cookie of read", "cookie of read:advertiser", "ended cookie"};

/*
 * What a resource needs is said here anew, not taken from the table: a slip there must show. `target` reaches the row; any status but those of
 * a refusal will do for who may, since what the handler says of it is the business of other tests.
 */
enum reach { ALL, OWNERS, READERS, ADMINS, LOGIN_PAGE };
static const struct expectation {
	const char *row, *target;
	enum reach reach;
} expectations[] = {
#define X(row, target, reach) {row, target, reach},
#include "ctl_access_test.h"
#undef X
};

static void row_name(const struct ctl_route *route, char to[256])
{
	to[0] = '\0';
	for (int i = 0; i < CTL_SEGMENTS_MAX && route->segment[i]; i++) {
		strcat(to, "/");
		strcat(to, route->segment[i]);
	}
}

static int expected(enum reach reach, int asker, int status)
{
	static const bool may[][ASKERS] = {
		[ALL] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1},        [OWNERS] = {1, 1, 1, 0, 0, 0, 0, 1, 1, 0},
		[READERS] = {1, 1, 0, 0, 0, 0, 0, 1, 0, 0},    [ADMINS] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		[LOGIN_PAGE] = {1, 1, 1, 0, 0, 0, 0, 1, 1, 0},
	};
	bool is_known = asker < NOBODY || asker == COOKIE || asker == OWN_COOKIE;
	if (may[reach][asker])
		return status == 0 || status == 401 || status == 403 || status == 429 || status >= 502 ? 200 : status;
	return is_known ? 403 : reach == LOGIN_PAGE ? 200 : 401;
}

static void every_resource_by_everybody(void **state)
{
	(void)state;
	char text[ASKERS][TP_TOKEN_TEXT_BYTES + 1], lines[ASKERS][256], name[256];
	struct tp_token token;
	uint32_t faults = 0;

	control_start("tokens", "");
	token_make("admin", text[ADMIN], &token);
	token_make("read", text[READ], &token);
	token_make("read:advertiser:a/1", text[OWN], &token);
	token_make("ingest", text[INGEST], &token);
	token_make("admin", text[REVOKED], &token);
	assert_int_equal(tp_token_revoke(state_dir, token.id), 0);
	assert_int_equal(tp_token_create(state_dir, "admin", NULL, 1, 1, text[EXPIRED], &token), 0);
	for (int i = 0; i < ASKERS; i++)
		strcpy(lines[i], i < NOBODY || i == EXPIRED || i == REVOKED ? bearer(text[i]) : "");
	cookie_take(text[READ], lines[COOKIE]);
	cookie_take(text[OWN], lines[OWN_COOKIE]);
	cookie_take(text[READ], lines[ENDED]);
	char with_type[512];
	snprintf(with_type, sizeof(with_type), "%sContent-Type: application/json\r\n", lines[ENDED]);
	assert_int_equal(ask("POST", "/logout", with_type, "{}"), 204);

	for (uint32_t at = 0; at < ctl_routes(); at++) {
		const struct ctl_route *route = ctl_route_at(at);
		const struct expectation *row = NULL;
		row_name(route, name);
		for (size_t i = 0; i < sizeof(expectations) / sizeof(expectations[0]); i++)
			if (strcmp(expectations[i].row, name) == 0)
				row = &expectations[i];
		if (!row)
			fail_msg("%s: a resource without a line in ctl_access_test.h", name);
		struct ctl_target target;
		assert_int_equal(ctl_target_parse(row->target, &target), 0);
		if (ctl_route_find(&target) != route)
			fail_msg("%s does not lead to %s", row->target, name);
		ctl_target_free(&target);
		for (int i = 0; i < ASKERS; i++) {
			int status = ask("GET", row->target, lines[i], NULL), want = expected(row->reach, i, status);
			if (status != want) {
				print_error("GET %s by %s: %d, expected %d\n", row->target, asker_name[i], status, want);
				faults++;
			}
			if (row->reach == LOGIN_PAGE && want == 200)
				assert_true((strstr(reply, "action=\"login\"") == NULL) ==
					    (i < INGEST || i == COOKIE || i == OWN_COOKIE));
			/* what changes something is for admins, but for login and logout, which change nothing of the node's */
			if (!(route->takes & (CTL_POSTS | CTL_DELETES)) || row->reach == ALL || i == ADMIN)
				continue;
			snprintf(with_type, sizeof(with_type), "%sContent-Type: application/json\r\n", lines[i]);
			const char *method = route->takes & CTL_POSTS ? "POST" : "DELETE";
			status = ask(method, row->target, with_type, "{}");
			want = i < NOBODY || i == COOKIE || i == OWN_COOKIE ? 403 : 401;
			if (status != want) {
				print_error("%s %s by %s: %d, expected %d\n", method, row->target, asker_name[i], status, want);
				faults++;
			}
		}
	}
	/* what is not there says so to nobody unknown */
	for (int i = 0; i < ASKERS; i++) {
		int want = i == INGEST ? 403 : i < NOBODY || i == COOKIE || i == OWN_COOKIE ? 404 : 401;
		if (ask("GET", "/nothing", lines[i], NULL) != want) {
			print_error("GET /nothing by %s: expected %d\n", asker_name[i], want);
			faults++;
		}
	}
	control_stop();
	assert_int_equal(faults, 0);
}

/* ---- tokens and logins ---- */

static void tokens_of_every_wrong_kind(void **state)
{
	(void)state;
	char text[TP_TOKEN_TEXT_BYTES + 1], line[4096], longer[2000];
	struct tp_token token;

	control_start("tokens", "");
	token_make("admin", text, &token);
	assert_int_equal(ask("GET", "/metrics", bearer(text), NULL), 200);
	snprintf(line, sizeof(line), "authorization:\tbEARER   %s \r\n", text);
	assert_int_equal(ask("GET", "/metrics", line, NULL), 200);

	memset(longer, 'A', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	char swapped[TP_TOKEN_TEXT_BYTES + 1];
	for (int i = 0; text[i]; i++)
		swapped[i] = (char)(isalpha(text[i]) ? text[i] ^ 0x20 : text[i]);
	swapped[TP_TOKEN_TEXT_BYTES] = '\0';
	const struct {
		const char *format, *value;
	} wrong[] = {
		{"Authorization:\r\n%.0s", ""},
		{"Authorization: Bearer\r\n%.0s", ""},
		{"Authorization: Bearer \r\n%.0s", ""},
		{"Authorization: Basic %s\r\n", text},
		{"Authorization: %s\r\n", text},
		{"Authorization: Bearer%s\r\n", text},
		{"Authorization: Bearer %.46s\r\n", text},
		{"Authorization: Bearer %sA\r\n", text},
		{"Authorization: Bearer %s", "tpt_%00\r\n"},
		{"Authorization: Bearer \"%s\"\r\n", text},
		{"Authorization: Bearer %s, Bearer x\r\n", text},
		{"Authorization: Bearer %s\r\n", swapped},
		{"Authorization: Bearer %s\r\n", longer},
		{"Authorization: Bearer tpt_\xff\xfe%s\r\n", "\xc3\x28"},
		{"Authorization: Bearer %s\r\n", token.id},
		{"Cookie: turnpike=%s\r\n", text},
		{"Cookie: turnpike=%.43s\r\n", text},
		{"Cookie: %s\r\n", longer},
		{"Proxy-Authorization: Bearer %s\r\n", text},
		{"X-Token: %s\r\n", text},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(line, sizeof(line), wrong[i].format, wrong[i].value);
		int status = ask("GET", "/metrics", line, NULL);
		if (status != 401)
			fail_msg("%zu: %.80s: %d", i, line, status);
	}
	snprintf(line, sizeof(line), "/metrics?token=%s&access_token=%s", text, text);
	assert_int_equal(ask("GET", line, "", NULL), 401);
	snprintf(line, sizeof(line), "Authorization: Bearer %s\r\nAuthorization: Bearer %s\r\n", text, text);
	assert_int_equal(ask("GET", "/metrics", line, NULL), 400);
	control_stop();
}

static void a_login_is_its_token_in_another_form(void **state)
{
	(void)state;
	static const char form[] = "Content-Type: application/x-www-form-urlencoded\r\n";
	char text[TP_TOKEN_TEXT_BYTES + 1], body[512], cookie[128], second[128], lines[1024];
	struct tp_token token;

	control_start("tokens", "");
	token_make("read:advertiser:a/1", text, &token);
	/* the page: no script, one style that the policy names, a form that may only go to us */
	assert_int_equal(ask("GET", "/", "", NULL), 200);
	assert_non_null(strstr(reply, "style-src 'sha256-"));
	assert_non_null(strstr(reply, "form-action 'self'; frame-ancestors 'none'"));
	assert_null(strstr(reply, "<script"));
	assert_null(strstr(reply, "role=\"alert\""));
	/* as a browser without JavaScript */
	snprintf(body, sizeof(body), "x=1&token=%%20%s+%%0d%%0A", text);
	snprintf(lines, sizeof(lines), "%sOrigin: http://127.0.0.1:%u\r\n", form, port);
	assert_int_equal(ask("POST", "/login", lines, body), 303);
	assert_non_null(strstr(reply, "\r\nLocation: /\r\n"));
	const char *set = strstr(reply, "\r\nSet-Cookie: turnpike=");
	assert_non_null(set);
	assert_non_null(strstr(set, "; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200\r\n"));
	/* wrong ones say so on the page */
	assert_int_equal(ask("POST", "/login", form, "token=tpt_no"), 401);
	assert_non_null(strstr(reply, "role=\"alert\""));
	assert_null(strstr(reply, "Set-Cookie"));
	static const char *const no_token[] = {"", "token=", "token", "tok%65n=%zz", "token=%00", "{\"token\":1}"};
	for (size_t i = 0; i < sizeof(no_token) / sizeof(no_token[0]); i++)
		assert_int_equal(ask("POST", "/login", form, no_token[i]), 401);
	assert_int_equal(ask("POST", "/login", "Content-Type: application/json\r\n", "{\"token\":[]}"), 401);
	assert_int_equal(ask("POST", "/login", "Content-Type: application/json\r\n", "\xff"), 401);
	/* strangers' pages log nobody in or out */
	assert_int_equal(ask("POST", "/login", "Content-Type: text/plain\r\n", body), 415);
	snprintf(lines, sizeof(lines), "%sOrigin: http://evil.example\r\n", form);
	assert_int_equal(ask("POST", "/login", lines, body), 403);
	snprintf(lines, sizeof(lines), "%sOrigin: null\r\n", form);
	assert_int_equal(ask("POST", "/login", lines, body), 403);

	cookie_take(text, cookie);
	cookie_take(text, second);
	assert_int_equal(ask("GET", "/api/v1/whoami", cookie, NULL), 200);
	json_t *who = body_json();
	assert_string_equal(json_string_value(json_object_get(who, "token")), token.id);
	assert_string_equal(json_string_value(json_object_get(who, "scope")), "read:advertiser:a/1");
	assert_string_equal(json_string_value(json_object_get(who, "advertiser")), "a/1");
	assert_string_equal(json_string_value(json_object_get(who, "by")), "cookie");
	json_decref(who);
	assert_int_equal(ask("GET", "/api/v1/analytics/advertisers/a%2F1?window=1h", cookie, NULL), 200);
	assert_int_equal(ask("GET", "/api/v1/analytics/advertisers/b?window=1h", cookie, NULL), 403);
	/* a header line outweighs it */
	snprintf(lines, sizeof(lines), "%sAuthorization: Bearer no\r\n", cookie);
	assert_int_equal(ask("GET", "/api/v1/whoami", lines, NULL), 401);
	/* it ends with logout, alone */
	snprintf(lines, sizeof(lines), "%s%s", cookie, form);
	assert_int_equal(ask("POST", "/logout", lines, "x=1"), 303);
	assert_non_null(strstr(reply, "Set-Cookie: turnpike=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0\r\n"));
	assert_int_equal(ask("GET", "/api/v1/whoami", cookie, NULL), 401);
	assert_int_equal(ask("GET", "/api/v1/whoami", second, NULL), 200);
	/* … and with its token */
	assert_int_equal(tp_token_revoke(state_dir, token.id), 0);
	assert_int_equal(ask("GET", "/api/v1/whoami", second, NULL), 401);
	/* who can see nothing has nothing to log in to */
	token_make("ingest", text, &token);
	snprintf(body, sizeof(body), "token=%s", text);
	assert_int_equal(ask("POST", "/login", form, body), 403);
	control_stop();

	/* it ends with time */
	control_start("tokens", ", session: 1s");
	token_make("read", text, &token);
	cookie_take(text, cookie);
	int status = 200;
	for (int i = 0; i < 400 && status == 200; i++) {
		usleep(50000);
		status = ask("GET", "/api/v1/whoami", cookie, NULL);
	}
	assert_int_equal(status, 401);
	control_stop();
	control_start("none", "");
	assert_int_equal(ask("GET", "/api/v1/whoami", "", NULL), 200);
	who = body_json();
	assert_string_equal(json_string_value(json_object_get(who, "scope")), "admin");
	json_decref(who);
	control_stop();
}

/* The watcher of the live stream is let go when its token is. */
static void a_revoked_token_watches_no_longer(void **state)
{
	(void)state;
	char text[TP_TOKEN_TEXT_BYTES + 1], request[512];
	struct tp_token token;

	control_start("tokens", "");
	token_make("read", text, &token);
	int fd = dial(77);
	int bytes = snprintf(request, sizeof(request), "GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", bearer(text));
	assert_int_equal(send(fd, request, (size_t)bytes, MSG_NOSIGNAL), bytes);
	bool revoked = false;
	for (size_t have = 0;;) {
		struct pollfd poller = {.fd = fd, .events = POLLIN};
		assert_int_equal(poll(&poller, 1, WAIT_MS), 1);
		ssize_t n = recv(fd, reply + have, REPLY_BYTES - 1 - have, 0);
		if (n <= 0 || strstr(reply, "\r\n0\r\n"))
			break;
		have += (size_t)n;
		reply[have] = '\0';
		assert_true(have < REPLY_BYTES / 2); /* it would go on for ever */
		if (!revoked && strstr(reply, "data: {")) {
			revoked = true;
			assert_int_equal(tp_token_revoke(state_dir, token.id), 0);
		}
	}
	close(fd);
	assert_true(revoked);
	control_stop();
}

/* ---- limits ---- */

static void guessing_gets_slow(void **state)
{
	(void)state;
	char good[TP_TOKEN_TEXT_BYTES + 1], other[TP_TOKEN_TEXT_BYTES + 1], body[256];
	struct tp_token token;
	int statuses[2] = {0, 0};

	control_start("tokens", "");
	token_make("read", good, &token);
	token_make("read", other, &token);
	assert_int_equal(ask_from(9, "GET", "/metrics", bearer(good), NULL), 200);
	for (int i = 0; i < 3 * CTL_GUESSES; i++) {
		int status = ask_from(9, "GET", "/metrics", bearer("tpt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), NULL);
		assert_true(status == 401 || status == 429);
		statuses[status == 429]++;
		if (status == 429)
			assert_non_null(strstr(reply, "\r\nRetry-After: "));
	}
	assert_true(statuses[0] >= CTL_GUESSES && statuses[1] >= CTL_GUESSES);
	/* a right one that was not right from there before has to wait too; what worked goes on; elsewhere nothing has changed */
	assert_int_equal(ask_from(9, "GET", "/metrics", bearer(other), NULL), 429);
	assert_int_equal(ask_from(9, "GET", "/metrics", bearer(good), NULL), 200);
	assert_int_equal(ask_from(10, "GET", "/metrics", bearer(other), NULL), 200);
	snprintf(body, sizeof(body), "token=%s", other);
	assert_int_equal(ask_from(9, "POST", "/login", "Content-Type: application/x-www-form-urlencoded\r\n", body), 429);
	assert_int_equal(ask_from(9, "GET", "/healthz", "", NULL), 200);
	/* each is counted */
	char counted[96];
	snprintf(counted, sizeof(counted), "\nturnpike_http_throttled_total{by=\"source\"} %d\n", statuses[1] + 2);
	assert_int_equal(ask_from(10, "GET", "/metrics", bearer(good), NULL), 200);
	assert_non_null(strstr(reply, counted));
	assert_non_null(strstr(reply, "\nturnpike_http_throttled_total{by=\"token\"} 0\n"));
	control_stop();
}

static void a_token_has_a_rate(void **state)
{
	(void)state;
	char fast[TP_TOKEN_TEXT_BYTES + 1], other[TP_TOKEN_TEXT_BYTES + 1];
	struct tp_token token;
	int passed = 0, refused = 0;

	control_start("tokens", ", token_rate_limit: 1");
	token_make("read", fast, &token);
	token_make("read", other, &token);
	/* two at once, then one a second, wherever they come from: of forty in a row most are too many on any machine */
	for (int i = 0; i < 40; i++) {
		int status = ask("GET", "/api/v1/whoami", bearer(fast), NULL);
		assert_true(status == 200 || status == 429);
		passed += status == 200;
		refused += status == 429;
		if (status == 429)
			assert_non_null(strstr(reply, "\r\nRetry-After: 1\r\n"));
	}
	assert_true(passed >= 2 && refused >= 1);
	assert_int_equal(ask("GET", "/api/v1/whoami", bearer(other), NULL), 200);
	control_stop();
}

/* The bucket by itself, on a clock of our own. */
static void a_bucket_fills_again(void **state)
{
	(void)state;
	struct ctl_limit *limit = ctl_limit_make(0, 100, 3);
	assert_non_null(limit);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ctl_limit_take(limit, 7, 1000), 0);
	assert_int_equal(ctl_limit_take(limit, 7, 1000), 100);
	assert_int_equal(ctl_limit_ask(limit, 7, 1099), 1);
	assert_int_equal(ctl_limit_take(limit, 7, 1100), 0);
	assert_int_equal(ctl_limit_take(limit, 7, 1100), 100);
	assert_int_equal(ctl_limit_take(limit, 8, 1100), 0); /* another's */
	for (int i = 0; i < 3; i++)
		assert_int_equal(ctl_limit_take(limit, 7, 5000), 0); /* full again, and no fuller */
	assert_int_not_equal(ctl_limit_take(limit, 7, 5000), 0);
	for (uint64_t key = 20; key < 26; key++) /* more than a row holds: one is forgotten, none is refused */
		assert_int_equal(ctl_limit_take(limit, key, 5001), 0);
	free(limit);
}

/* ---- the audit log ---- */

static const char *field(const json_t *item, const char *key)
{
	const char *text = json_string_value(json_object_get(item, key));
	return text ? text : "";
}

static void acts_are_in_the_audit_log(void **state)
{
	(void)state;
	char admin[TP_TOKEN_TEXT_BYTES + 1], path[256], lines[512], who[32];
	struct tp_token token;
	struct stat found;

	snprintf(path, sizeof(path), "%s/audit.log", state_dir);
	unlink(path);
	control_start("tokens", "");
	token_make("admin", admin, &token);
	snprintf(lines, sizeof(lines), "%sContent-Type: application/json\r\n", bearer(admin));
	/* the stand-in has no blocklist: that it was tried is logged all the same */
	int status = ask("POST", "/api/v1/blocklist", lines, "{\"prefix\":\"198.51.100.0/24\",\"reason\":\"\xc3\xa9\"}");
	assert_int_not_equal(ask("DELETE", "/api/v1/blocklist/198.51.100.0%2F24", bearer(admin), NULL), 405);
	assert_int_equal(ask("GET", "/api/v1/blocklist/198.51.100.0%2F24", bearer(admin), NULL), 404);
	assert_int_equal(ask("POST", "/login", "Content-Type: application/json\r\n", "{\"token\":\"tpt_wrong\"}"), 401);
	kill(pid, SIGHUP);
	json_t *page = NULL;
	for (int i = 0; i < 200; i++) {
		assert_int_equal(ask("GET", "/api/v1/audit-log", bearer(admin), NULL), 200);
		json_decref(page);
		page = body_json();
		if (json_array_size(json_object_get(page, "items")) >= 6)
			break;
		usleep(50000);
	}
	const json_t *items = json_object_get(page, "items");
	assert_int_equal(json_array_size(items), 6);
	assert_true(json_is_null(json_object_get(page, "cursor")));
	snprintf(who, sizeof(who), "token %s", token.id);
	const json_t *added = json_array_get(items, 5), *result = json_array_get(items, 4);
	assert_string_equal(field(added, "act"), "POST /api/v1/blocklist");
	assert_string_equal(field(added, "who"), who);
	assert_string_equal(field(added, "scope"), "admin");
	assert_memory_equal(field(added, "from"), "127.", 4);
	assert_string_equal(field(added, "result"), "begun");
	assert_string_equal(field(added, "detail"), "{\"prefix\":\"198.51.100.0/24\",\"reason\":\"\xc3\xa9\"}");
	assert_int_equal(atoi(field(result, "result")), status);
	assert_string_equal(field(json_array_get(items, 3), "act"), "DELETE /api/v1/blocklist/198.51.100.0/24");
	assert_string_equal(field(json_array_get(items, 1), "act"), "login");
	assert_memory_equal(field(json_array_get(items, 1), "result"), "refused", 7);
	assert_string_equal(field(json_array_get(items, 0), "act"), "reload");
	json_decref(page);
	assert_int_equal(stat(path, &found), 0);
	assert_int_equal(found.st_mode & 07777, 0600);
	/* pages meet without a gap */
	uint32_t seen = 0;
	char target[128] = "/api/v1/audit-log?limit=4";
	while (target[0]) {
		assert_int_equal(ask("GET", target, bearer(admin), NULL), 200);
		page = body_json();
		seen += (uint32_t)json_array_size(json_object_get(page, "items"));
		const char *cursor = json_string_value(json_object_get(page, "cursor"));
		if (cursor)
			snprintf(target, sizeof(target), "/api/v1/audit-log?limit=4&cursor=%.20s", cursor);
		else
			target[0] = '\0';
		json_decref(page);
	}
	assert_int_equal(seen, 6);
	assert_int_equal(ask("GET", "/api/v1/audit-log?limit=0", bearer(admin), NULL), 400);
	assert_int_equal(ask("GET", "/api/v1/audit-log?cursor=-1", bearer(admin), NULL), 400);
	/* a torn line stays alone */
	FILE *to = fopen(path, "a");
	fputs("{\"time\":\"to", to);
	fclose(to);
	assert_int_not_equal(ask("DELETE", "/api/v1/blocklist?prefix=192.0.2.1", bearer(admin), NULL), 0);
	assert_int_equal(ask("GET", "/api/v1/audit-log?limit=3", bearer(admin), NULL), 200);
	page = body_json();
	items = json_object_get(page, "items");
	assert_string_equal(field(json_array_get(items, 1), "result"), "begun");
	assert_string_equal(field(json_array_get(items, 2), "damaged"), "{\"time\":\"to");
	json_decref(page);
	/* what cannot be logged is not done */
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(ask("DELETE", "/api/v1/blocklist?prefix=192.0.2.1", bearer(admin), NULL), 503);
	assert_non_null(strstr(reply, "urn:turnpike:problem:not-audited"));
	rmdir(path);
	control_stop();
}

/* ---- framing, and paths ---- */

static void hostile_requests_are_refused_whole(void **state)
{
	(void)state;
	static const char second[] = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
	static const struct {
		const char *text;
		int least, most; /* of the status; 0: the connection may end without one */
	} rows[] = {
#define HOST "Host: 127.0.0.1\r\n"
		{"GET /healthz HTTP/1.1\r\n" HOST "Content-Length: 34\r\nContent-Length: 0\r\n\r\n", 400, 400},
		{"GET /healthz HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400, 400},
		{"POST /login HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, 400},
		{"POST /login HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, 501},
		{"POST /login HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400,
		 501},
		{"POST /login HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nabcde", 400, 400},
		{"POST /login HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nabcde", 400, 400},
		{"POST /login HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", 400, 413},
		{"POST /login HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", 400, 413},
		{"POST /login HTTP/1.1\r\n" HOST "Content-Length : 5\r\n\r\nabcde", 400, 415},
		{"GET /healthz HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, 400},
		{"GET /healthz HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 400, 400},
		{"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, 400},
		{"GET /healthz HTTP/1.1\r\n\r\n", 400, 400},
		{"GET http://127.0.0.1/healthz HTTP/1.1\r\n" HOST "\r\n", 400, 400},
		{"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 400, 405},
		{"GET * HTTP/1.1\r\n" HOST "\r\n", 400, 400},
		{"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" HOST "\r\n", 400, 405},
		{"TRACE / HTTP/1.1\r\n" HOST "\r\n", 405, 405},
		{"GET healthz HTTP/1.1\r\n" HOST "\r\n", 400, 400},
		{"GET /%00 HTTP/1.1\r\n" HOST "\r\n", 400, 400},
		/* a line that a lone line feed ends is a line like others, so it cannot hide one; a lone carriage return ends nothing */
		{"GET /healthz HTTP/1.1\r\n" HOST "X: a\nContent-Length: 3\r\n\r\nabc", 400, 400},
		{"GET /healthz HTTP/1.1\r\n" HOST "X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, 400},
		{"GET /healthz HTTP/1.1\r\n" HOST "X: a\nHost: b\r\n\r\n", 400, 400},
		{"GET /healthz HTTP/1.1\r\n" HOST "X: a\rContent-Length: 3\r\n\r\n", 400, 400},
		{"GET /healthz HTTP/1.1\r\n" HOST " X: folded\r\n\r\n", 400, 400},
		{"GET /%zz HTTP/1.1\r\n" HOST "\r\n", 400, 400},
		{"GET /a/b/c/d/e/f/g/h/i HTTP/1.1\r\n" HOST "\r\n", 400, 400},
		{"GET /../../etc/passwd HTTP/1.1\r\n" HOST "\r\n", 401, 401},
		{"GET /..%2f..%2fetc%2fpasswd HTTP/1.1\r\n" HOST "\r\n", 401, 401},
		{"GET /healthz/../metrics HTTP/1.1\r\n" HOST "\r\n", 401, 401},
		{"GET //metrics HTTP/1.1\r\n" HOST "\r\n", 401, 401},
		{"GET /metrics/ HTTP/1.1\r\n" HOST "\r\n", 401, 401},
		{"GET /metrics%20 HTTP/1.1\r\n" HOST "\r\n", 401, 401},
		{"GET /METRICS HTTP/1.1\r\n" HOST "\r\n", 401, 401},
		{"GET /metrics;x=1 HTTP/1.1\r\n" HOST "\r\n", 401, 401},
		{"GET /\xff\xfe HTTP/1.1\r\n" HOST "\r\n", 400, 401},
		{"GET /healthz HTTP/9.9\r\n" HOST "\r\n", 0, 505},
		{"GET /healthz\r\n\r\n", 0, 505},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 0, 505},
		{"\r\n\r\n\r\n\r\nGARBAGE\r\n\r\n", 0, 505},
#undef HOST
	};
	char request[1024], *huge = malloc(200000);
	uint32_t faults = 0;

	control_start("tokens", "");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* what follows must not be taken for a request of its own when the framing was in doubt */
		int bytes = snprintf(request, sizeof(request), "%s%s", rows[i].text, rows[i].most <= 400 ? second : "");
		if (rows[i].most > 400 || rows[i].least == 401)
			bytes = snprintf(request, sizeof(request), "%.*sConnection: close\r\n%s",
					 (int)(strstr(rows[i].text, "\r\n") ? strstr(rows[i].text, "\r\n") + 2 - rows[i].text : 0),
					 rows[i].text,
					 strstr(rows[i].text, "\r\n") ? strstr(rows[i].text, "\r\n") + 2 : rows[i].text);
		source++;
		int fd = dial(0x020000 + source), status = 0;
		assert_int_equal(send(fd, request, (size_t)bytes, MSG_NOSIGNAL), bytes);
		shutdown(fd, SHUT_WR);
		size_t have = 0;
		for (;;) {
			struct pollfd poller = {.fd = fd, .events = POLLIN};
			if (poll(&poller, 1, WAIT_MS) != 1)
				fail_msg("row %zu: %.100s: no end; so far: %.200s", i, rows[i].text, reply);
			ssize_t n = recv(fd, reply + have, REPLY_BYTES - 1 - have, 0);
			if (n <= 0)
				break;
			have += (size_t)n;
			reply[have] = '\0';
		}
		reply[have] = '\0';
		close(fd);
		sscanf(reply, "HTTP/1.1 %d ", &status);
		bool fits = (status >= rows[i].least && status <= rows[i].most) || (status == 0 && rows[i].least == 0);
		const char *next = strstr(reply, "{\"status\":\"ok\"}");
		bool doubtful = strstr(rows[i].text, "Content-Length") || strstr(rows[i].text, "Transfer-Encoding");
		if (!fits || (next && doubtful)) {
			print_error("row %zu: %.100s: %d%s\n", i, rows[i].text, status, next ? ", and a second answer" : "");
			faults++;
		}
	}
	/* sizes */
	memset(huge, 'a', 200000);
	memcpy(huge, "GET /", 5);
	memcpy(huge + 100000, " HTTP/1.1\r\nHost: a\r\n\r\n", 23);
	int status = exchange(31, huge, 100022, false);
	assert_true(status == 414 || status == 431 || status == 0);
	int at = sprintf(huge, "GET /healthz HTTP/1.1\r\nHost: a\r\n");
	while (at < 190000)
		at += sprintf(huge + at, "X-%d: %d\r\n", at, at);
	at += sprintf(huge + at, "\r\n");
	status = exchange(32, huge, (size_t)at, false);
	assert_true(status == 431 || status == 400 || status == 0);
	at = sprintf(huge, "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: "
			   "close\r\nContent-Length: 100000\r\n\r\n");
	memset(huge + at, '[', 100000);
	assert_int_equal(exchange(33, huge, (size_t)at + 100000, false), 413);
	free(huge);
	/* none of them has cost anybody else anything */
	assert_int_equal(ask("GET", "/healthz", "", NULL), 200);
	control_stop();
	assert_int_equal(faults, 0);
}

static int group_setup(void **state)
{
	(void)state;
	stand_in_open(&stand_in);
	snprintf(state_dir, sizeof(state_dir), "%s/access", stand_in.folder);
	assert_int_equal(mkdir(state_dir, 0700), 0);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	stand_in_close(&stand_in);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_resource_by_everybody),
		cmocka_unit_test(tokens_of_every_wrong_kind),
		cmocka_unit_test(a_login_is_its_token_in_another_form),
		cmocka_unit_test(a_revoked_token_watches_no_longer),
		cmocka_unit_test(guessing_gets_slow),
		cmocka_unit_test(a_token_has_a_rate),
		cmocka_unit_test(a_bucket_fills_again),
		cmocka_unit_test(acts_are_in_the_audit_log),
		cmocka_unit_test(hostile_requests_are_refused_whole),
	};
	return cmocka_run_group_tests_name("access", tests, group_setup, group_teardown);
}
