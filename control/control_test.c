/*
 * turnpike-control as a process, beside a stand-in data process: started, asked over HTTP, ended. The program's path is in
 * TURNPIKE_CONTROL. Ports are picked by the kernel, so copies of this test run side by side.
 */
#include "stand_in.h"
#include "turnpike/log.h"
#include "turnpike/text.h"
#include "turnpike/token.h"

#include <arpa/inet.h>
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

enum { REPLY_BYTES = 8 << 20, WAIT_MS = 20000 };

struct control {
	pid_t pid;
	uint16_t port;
};

static struct stand_in stand_in;
static struct control control;
static char *reply; /* the last one, whole */

/* ---- the process ---- */

static void config_write(const char *path, const char *auth, const char *listen)
{
	FILE *to = fopen(path, "w");
	assert_non_null(to);
	fprintf(to, "node: {name: stand-in, data_dir: %s}\ncontrol: {listen: \"%s\", auth: %s, state_dir: %s/state/deep}\n",
		stand_in.data_dir, listen, auth, stand_in.folder);
	assert_int_equal(fclose(to), 0);
}

/* Starts the program; what it prints first is in `line`, empty when it ended without a word. */
static pid_t spawn(const char *config, const char *more, char *line, size_t bytes)
{
	const char *program = getenv("TURNPIKE_CONTROL");
	int out[2];

	assert_non_null(program);
	assert_int_equal(pipe(out), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is killed leaves nothing behind */
		dup2(out[1], STDOUT_FILENO);
		freopen("/dev/null", "w", stderr);
		execl(program, program, "-c", config, more, NULL);
		_exit(127);
	}
	close(out[1]);
	size_t have = 0;
	for (ssize_t n; have + 1 < bytes && (n = read(out[0], line + have, 1)) == 1 && line[have] != '\n';)
		have += (size_t)n;
	line[have] = '\0';
	close(out[0]);
	return pid;
}

static int ended(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void control_start(const char *auth)
{
	char path[128], line[128], rest;
	unsigned port;

	snprintf(path, sizeof(path), "%s/%s.yaml", stand_in.folder, auth);
	config_write(path, auth, "127.0.0.1:0");
	control.pid = spawn(path, NULL, line, sizeof(line));
	assert_int_equal(sscanf(line, "ready listen=127.0.0.1:%u%c", &port, &rest), 1);
	control.port = (uint16_t)port;
}

static void control_stop(void)
{
	kill(control.pid, SIGTERM);
	assert_int_equal(ended(control.pid), 0);
}

/* ---- HTTP ---- */

static int dial(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(control.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Sends bytes, reads until the end or `stop` appears; the status. */
static int exchange(const char *request, const char *stop)
{
	int fd = dial(), status = 0;
	size_t have = 0;

	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	for (;;) {
		struct pollfd poller = {.fd = fd, .events = POLLIN};
		assert_int_equal(poll(&poller, 1, WAIT_MS), 1);
		ssize_t n = recv(fd, reply + have, REPLY_BYTES - 1 - have, 0);
		if (n <= 0)
			break;
		have += (size_t)n;
		reply[have] = '\0';
		if (stop && strstr(reply, stop))
			break;
	}
	reply[have] = '\0';
	close(fd);
	assert_int_equal(sscanf(reply, "HTTP/1.1 %d ", &status), 1);
	return status;
}

static int ask(const char *method, const char *target)
{
	char request[1024];
	snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", method, target);
	return exchange(request, NULL);
}

static const char *body(void)
{
	const char *end = strstr(reply, "\r\n\r\n");
	assert_non_null(end);
	return end + 4;
}

static json_t *ask_json(const char *target, int status)
{
	assert_int_equal(ask("GET", target), status);
	json_t *value = json_loads(body(), 0, NULL);
	assert_non_null(value);
	return value;
}

static void assert_text(const json_t *object, const char *key, const char *text)
{
	const char *found = json_string_value(json_object_get(object, key));
	assert_non_null(found);
	assert_string_equal(found, text);
}

static void assert_number(const json_t *object, const char *key, json_int_t number)
{
	assert_true(json_is_integer(json_object_get(object, key)));
	assert_int_equal(json_integer_value(json_object_get(object, key)), number);
}

static void assert_keys(const json_t *object, const char *keys)
{
	char found[512] = "";
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		(void)value;
		strcat(found, key);
		strcat(found, " ");
	}
	assert_string_equal(found, keys);
}

/* ---- tests ---- */

#define START_MS 1795305600000ULL /* 2026-11-22T00:00:00Z */

static void add(enum tp_event_type type, uint64_t minute, const char *campaign, const char *ad, const char *currency,
		int64_t micros, bool flagged)
{
	struct stand_in_event event = stand_in_click();
	event.type = type;
	event.timestamp_ms = START_MS + minute * 60000 + 500;
	event.campaign = campaign;
	event.ad = ad;
	event.currency = currency;
	event.bid_micros = micros;
	event.flagged = flagged;
	event.country = "DE";
	event.device = TP_MOBILE;
	stand_in_add(&stand_in, &event);
}

static void analytics_have_the_contracts_fields(void **state)
{
	(void)state;
	add(TP_IMPRESSION, 1, "f/1 ä", "ad-1", "USD", 0, false);
	add(TP_IMPRESSION, 1, "f/1 ä", "ad-1", "USD", 0, false);
	add(TP_IMPRESSION, 2, "f/1 ä", "ad-2", "USD", 0, false);
	add(TP_IMPRESSION, 2, "f/1 ä", "ad-2", "USD", 0, false);
	add(TP_CLICK, 1, "f/1 ä", "ad-1", "EUR", 2500000, false);
	stand_in_seal(&stand_in); /* half of it in a segment, half live */
	add(TP_CLICK, 2, "f/1 ä", "ad-2", "EUR", 1, true);
	add(TP_CLICK, 2, "f/1 ä", "ad-2", "EUR", 1, false);
	add(TP_CONVERSION, 2, "f/1 ä", "ad-2", "EUR", 7, false);
	struct stand_in_event late = stand_in_click();
	late.campaign = "f/1 ä";
	late.timestamp_ms = START_MS + 60000;
	late.verdict = TP_LATE;
	late.currency = "EUR";
	late.bid_micros = 10;
	stand_in_add(&stand_in, &late);
	stand_in_commit(&stand_in);
	atomic_store(&stand_in.live->watermark_ms, START_MS + 2 * 60000);

	json_t *answer =
		ask_json("/api/v1/analytics/campaigns/f%2f1%20%C3%A4?from=2026-11-22T00:00:00Z&to=2026-11-22T00:04:00Z&group_by="
			 "ad,device,country",
			 200);
	assert_non_null(strstr(reply, "Content-Type: application/json\r\n"));
	assert_keys(answer, "id from to step totals series groups groups_total watermark revision final ");
	assert_text(answer, "id", "f/1 ä");
	assert_text(answer, "from", "2026-11-22T00:00:00Z");
	assert_text(answer, "to", "2026-11-22T00:04:00Z");
	assert_text(answer, "step", "1m");
	assert_text(answer, "watermark", "2026-11-22T00:02:00Z");
	assert_number(answer, "revision", 2);
	json_t *totals = json_object_get(answer, "totals");
	assert_keys(totals, "impressions clicks flagged_clicks gross_clicks conversions spend ctr currency users ");
	assert_number(totals, "impressions", 4);
	assert_number(totals, "clicks", 3);
	assert_number(totals, "flagged_clicks", 1);
	assert_number(totals, "gross_clicks", 4);
	assert_number(totals, "conversions", 1);
	assert_text(totals, "spend", "2.500011");
	assert_text(totals, "currency", "EUR");
	assert_true(json_real_value(json_object_get(totals, "ctr")) == 0.75);

	json_t *series = json_object_get(answer, "series");
	assert_int_equal(json_array_size(series), 4);
	static const struct {
		const char *start, *spend;
		int impressions, clicks;
		bool final;
	} expected[] = {
		{"2026-11-22T00:00:00Z", "0.000000", 0, 0, true},
		{"2026-11-22T00:01:00Z", "2.500010", 2, 2, true},
		{"2026-11-22T00:02:00Z", "0.000001", 2, 1, false},
		{"2026-11-22T00:03:00Z", "0.000000", 0, 0, false},
	};
	for (size_t i = 0; i < 4; i++) {
		json_t *bucket = json_array_get(series, i);
		assert_keys(bucket, "start impressions clicks flagged_clicks gross_clicks conversions spend ctr final ");
		assert_text(bucket, "start", expected[i].start);
		assert_text(bucket, "spend", expected[i].spend);
		assert_number(bucket, "impressions", expected[i].impressions);
		assert_number(bucket, "clicks", expected[i].clicks);
		assert_int_equal(json_is_true(json_object_get(bucket, "final")), expected[i].final);
		assert_int_equal(json_is_null(json_object_get(bucket, "ctr")), expected[i].impressions == 0);
	}
	json_t *groups = json_object_get(answer, "groups");
	assert_int_equal(json_array_size(groups), 3);
	json_t *first = json_array_get(groups, 0);
	assert_text(first, "ad", "ad-2");
	assert_text(first, "device", "mobile");
	assert_text(first, "country", "DE");
	assert_number(first, "gross_clicks", 2);
	json_decref(answer);
}

static void currencies_are_told_apart(void **state)
{
	(void)state;
	add(TP_CLICK, 10, "mixed", "ad-1", "USD", 1500000, false);
	add(TP_CLICK, 11, "mixed", "ad-1", "EUR", 2000000, false);
	stand_in_commit(&stand_in);
	json_t *answer = ask_json("/api/v1/analytics/campaigns/mixed?from=1795305600000&to=1795307400000&step=1h", 200);
	json_t *totals = json_object_get(answer, "totals");
	assert_true(json_is_null(json_object_get(totals, "spend")));
	assert_true(json_is_null(json_object_get(totals, "currency")));
	json_t *each = json_object_get(totals, "spend_by_currency");
	assert_keys(each, "EUR USD ");
	assert_text(each, "EUR", "2.000000");
	assert_text(each, "USD", "1.500000");
	json_decref(answer);
	/* the buckets of such an answer say whose money theirs is */
	answer = ask_json("/api/v1/analytics/campaigns/mixed?from=1795305600000&to=1795307400000", 200);
	json_t *bucket = json_array_get(json_object_get(answer, "series"), 11);
	assert_text(bucket, "currency", "EUR");
	assert_text(bucket, "spend", "2.000000");
	json_decref(answer);
}

static void an_id_never_seen_has_zeros(void **state)
{
	(void)state;
	static const char *const kinds[] = {"campaigns", "ads", "advertisers", "publishers"};
	for (size_t i = 0; i < 4; i++) {
		char target[128];
		snprintf(target, sizeof(target), "/api/v1/analytics/%s/never%%20seen", kinds[i]);
		json_t *answer = ask_json(target, 200);
		json_t *totals = json_object_get(answer, "totals");
		assert_number(totals, "clicks", 0);
		assert_text(totals, "spend", "0.000000");
		assert_true(json_array_size(json_object_get(answer, "series")) >= 60);
		json_decref(answer);
	}
}

static void a_new_event_shows_at_once(void **state)
{
	(void)state;
	struct stand_in_event click = stand_in_click();
	click.publisher = "fresh";
	for (json_int_t i = 1; i <= 5; i++) {
		stand_in_add(&stand_in, &click);
		stand_in_commit(&stand_in);
		json_t *answer = ask_json("/api/v1/analytics/publishers/fresh?window=5m", 200);
		assert_number(json_object_get(answer, "totals"), "clicks", i);
		json_decref(answer);
	}
}

static void problems_name_what_is_wrong(void **state)
{
	(void)state;
	static const struct {
		const char *target;
		int status;
		const char *type, *parameter;
	} rows[] = {
		{"/api/v1/analytics/campaigns/x?step=2m", 400, "bad-parameter", "step"},
		{"/api/v1/analytics/campaigns/x?from=0&step=1m", 422, "too-many-buckets", "step"},
		{"/api/v1/analytics/campaigns/%ff", 400, "bad-parameter", "id"},
		{"/api/v1/analytics/campaigns/%zz", 400, "bad-target", NULL},
		{"/api/v1/analytics/clicks/x", 404, "not-found", NULL},
		{"/api/v1/analytics/campaigns/", 404, "not-found", NULL},
		{"/api/v1/analytics/campaigns/x/y", 404, "not-found", NULL},
		{"/api/v2", 404, "not-found", NULL},
		{"/../etc/passwd", 404, "not-found", NULL},
		{"/nothing.js", 404, "not-found", NULL},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char type[64];
		snprintf(type, sizeof(type), "urn:turnpike:problem:%s", rows[i].type);
		json_t *problem = ask_json(rows[i].target, rows[i].status);
		assert_non_null(strstr(reply, "Content-Type: application/problem+json\r\n"));
		assert_text(problem, "type", type);
		if (rows[i].parameter)
			assert_text(problem, "parameter", rows[i].parameter);
		json_decref(problem);
	}
}

/* Whatever a resource takes, it takes nothing else, nothing twice, and no time that it could not show. */
static void parameters_are_checked_everywhere(void **state)
{
	(void)state;
	static const struct {
		const char *target; /* a good one */
		bool ranged;        /* takes from and to */
	} rows[] = {
		{"/api/v1/analytics/campaigns/x?step=1h", true},
		{"/api/v1/analytics/campaigns?id=x", true},
		{"/api/v1/analytics/sessions?user=x", true},
		{"/api/v1/analytics/trending?by=ad", true},
		{"/api/v1/billing/reports?advertiser=x", true},
		{"/api/v1/fraud/flagged?limit=1", true},
		{"/api/v1/fraud/summary?step=1h", true},
		{"/api/v1/dlq?limit=1", true},
		{"/api/v1/live/history?", false},
		{"/api/v1/live/refused?", true},
		{"/api/v1/reconcile/segments?after=0", false},
		{"/api/v1/reconcile/totals?by=campaign", true},
		{"/api/v1/reconcile/runs?limit=1", true},
		{"/api/v1/whoami?", false},
		{"/api/v1/audit-log?limit=1", false},
		{"/api/v1/blocklist?limit=1", false},
	};
	static const struct {
		const char *more;
		int status;
		bool ranged; /* only where there are ranges */
	} more[] = {
		{"&from=1&to=60000", 200, true},     {"&nothing=1", 400, false},
		{"&from=1&from=1", 400, false},      {"&from=", 400, false},
		{"&to=yesterday", 400, false},       {"&to=253370764799999", 200, true},
		{"&to=253370764800000", 400, false}, {"&from=2&to=1", 400, false},
	};
	char target[128];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool is_step = strstr(rows[i].target, "step=1h") != NULL;
		json_decref(ask_json(rows[i].target, 200));
		for (size_t k = 0; k < sizeof(more) / sizeof(more[0]); k++) {
			if (more[k].ranged && (!rows[i].ranged || (is_step && strstr(more[k].more, "2533"))))
				continue;
			snprintf(target, sizeof(target), "%s%s", rows[i].target, more[k].more);
			json_t *answer = ask_json(target, more[k].status);
			if (more[k].status == 400)
				assert_text(answer, "type", "urn:turnpike:problem:bad-parameter");
			json_decref(answer);
		}
	}
	/* a stream is refused in the same way, before it begins */
	json_decref(ask_json("/api/v1/live?since=0", 400));
}

static void methods_are_get_and_head(void **state)
{
	(void)state;
	static const char *const others[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(ask(others[i], "/healthz"), 405);
		assert_non_null(strstr(reply, "\r\nAllow: GET, HEAD\r\n"));
	}
	assert_int_equal(ask("HEAD", "/"), 200);
	assert_string_equal(body(), "");
	assert_null(strstr(reply, "Content-Length: 0\r\n"));
	assert_int_equal(exchange("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", NULL), 405);
}

static void a_connection_is_kept(void **state)
{
	(void)state;
	assert_int_equal(exchange("GET /healthz HTTP/1.1\r\nHost: [::1]:80\r\n\r\nGET /readyz HTTP/1.1\r\nHost: localhost:1\r\n"
				  "Connection: close\r\n\r\n",
				  NULL),
			 200);
	assert_non_null(strstr(reply, "\"status\":\"ok\""));
	assert_non_null(strstr(reply, "\"ready\":true"));
}

static void a_strangers_name_is_not_answered(void **state)
{
	(void)state;
	assert_int_equal(exchange("GET / HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n", NULL), 421);
	assert_int_equal(exchange("GET / HTTP/1.1\r\nHost: 127.0.0.1.example\r\nConnection: close\r\n\r\n", NULL), 421);
	assert_int_equal(exchange("GET / HTTP/1.1\r\nHost: LOCALHOST:99\r\nConnection: close\r\n\r\n", NULL), 200);
}

static void the_dashboard_and_its_parts_are_served(void **state)
{
	(void)state;
	static const struct {
		const char *target, *type, *text;
	} rows[] = {
		{"/", "text/html; charset=utf-8", "<title>Turnpike</title>"},
		{"/app.js", "text/javascript; charset=utf-8", "import"},
		{"/stream.js", "text/javascript; charset=utf-8", "EventSource"},
		{"/chart.js", "text/javascript; charset=utf-8", "class Chart"},
		{"/style.css", "text/css; charset=utf-8", "--amber"},
		{"/favicon.svg", "image/svg+xml", "<svg"},
		{"/openapi.json", "application/json", "\"openapi\""},
	};
	char line[128];
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(ask("GET", rows[i].target), 200);
		snprintf(line, sizeof(line), "Content-Type: %s\r\n", rows[i].type);
		assert_non_null(strstr(reply, line));
		assert_non_null(strstr(body(), rows[i].text));
		assert_non_null(strstr(reply, "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self';"));
		/* nothing inline, nothing from elsewhere */
		assert_null(strstr(body(), "<script>"));
		assert_null(strstr(body(), "style=\""));
		assert_null(strstr(body(), "https://"));
	}
	const char *tag = strstr(reply, "ETag: ");
	char request[256];
	assert_non_null(tag);
	snprintf(request, sizeof(request),
		 "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIf-None-Match: %.18s\r\n\r\n", tag + 6);
	assert_int_equal(exchange(request, NULL), 304);
	assert_string_equal(body(), "");
}

/* What stands for a path that cannot be asked for as it is described. */
static const struct {
	const char *path, *target;
	int status;
} path_example[] = {
	{"/api/v1/analytics/sessions", "/api/v1/analytics/sessions?user=x", 200},
	{"/api/v1/billing/reports", "/api/v1/billing/reports?advertiser=x", 200},
	{"/api/v1/billing/reports/{id}", "/api/v1/billing/reports/00112233445566778899", 404},
};

static void every_path_of_the_description_answers(void **state)
{
	(void)state;
	json_t *api = ask_json("/openapi.json", 200);
	const char *path;
	json_t *item;
	json_object_foreach(json_object_get(api, "paths"), path, item)
	{
		(void)item;
		char request[256];
		if (strstr(path, "/blocklist/{") || strcmp(path, "/login") == 0 || strcmp(path, "/logout") == 0)
			continue; /* ctl_access_test asks for what is no plain page */
		const char *target = strchr(path, '{') ? "/api/v1/analytics/ads/x" : path;
		int status = 200;
		for (size_t i = 0; i < sizeof(path_example) / sizeof(path_example[0]); i++) {
			if (strcmp(path, path_example[i].path) != 0)
				continue;
			target = path_example[i].target;
			status = path_example[i].status;
		}
		snprintf(request, sizeof(request), "HEAD %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", target);
		assert_int_equal(exchange(request, "\r\n\r\n"), status);
	}
	json_decref(api);
}

/* The exposition format, as far as it binds: HELP and TYPE once per family and before its samples, samples of known families. */
static void metrics_are_well_formed(void **state)
{
	(void)state;
	static struct tp_counters counters;
	TP_COUNT_ADD(&counters, EVENTS_RECEIVED, 12);
	TP_COUNT_ADD(&counters, EVENTS_FUTURE, 3);
	TP_COUNT_ADD(&counters, CORE_BUSY_NS, 5);
	tp_counters_publish(&stand_in.live->core[0].counters, &counters);
	tp_counters_publish(&stand_in.live->housekeeping, &counters);
	atomic_store(&stand_in.live->core[0].ack_latency[20], 4);
	atomic_store(&stand_in.live->core[0].ack_latency[TP_LATENCY_BUCKETS - 1], 1);

	assert_int_equal(ask("GET", "/metrics"), 200);
	assert_non_null(strstr(reply, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	assert_non_null(strstr(body(), "\nturnpike_up 1\n"));
	assert_non_null(strstr(body(), "\nturnpike_ready 1\n"));
	assert_non_null(strstr(body(), "\nturnpike_events_total{state=\"received\"} 24\n"));
	assert_non_null(strstr(body(), "\nturnpike_events_total{state=\"rejected\",reason=\"future\"} 6\n"));
	assert_non_null(strstr(body(), "\nturnpike_core_busy_seconds_total{core=\"0\"} 0.000000005\n"));
	assert_non_null(strstr(body(), "\nturnpike_events_in_flight 0\n"));
	assert_non_null(strstr(body(), "\nturnpike_ack_latency_seconds_bucket{le=\"0.001048576\"} 0\n"));
	assert_non_null(strstr(body(), "\nturnpike_ack_latency_seconds_bucket{le=\"0.002097152\"} 4\n"));
	assert_non_null(strstr(body(), "\nturnpike_ack_latency_seconds_bucket{le=\"+Inf\"} 5\n"));
	assert_non_null(strstr(body(), "\nturnpike_ack_latency_seconds_count 5\n"));

	char family[128] = "", seen[16384] = " ", name[128], word[132];
	for (char *line = strtok((char *)(uintptr_t)body(), "\n"); line; line = strtok(NULL, "\n")) {
		if (sscanf(line, "# HELP %127s", name) == 1) {
			snprintf(word, sizeof(word), " %s ", name);
			assert_null(strstr(seen, word));
			strcat(seen, word + 1);
			snprintf(family, sizeof(family), "%s", name);
			line = strtok(NULL, "\n");
			assert_int_equal(sscanf(line, "# TYPE %127s %127s", name, word), 2);
			assert_string_equal(name, family);
			assert_true(strcmp(word, "counter") == 0 || strcmp(word, "gauge") == 0 || strcmp(word, "histogram") == 0);
			assert_int_equal(strcmp(word, "counter") == 0,
					 strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0);
			continue;
		}
		assert_int_equal(strncmp(line, family, strlen(family)), 0);
		const char *rest = line + strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789_"), *value = strrchr(line, ' ');
		assert_true(*rest == '{' || *rest == ' ');
		char *end;
		strtod(value + 1, &end);
		assert_true(end > value + 1 && *end == '\0');
	}
}

static void the_live_stream_sends_messages(void **state)
{
	(void)state;
	assert_int_equal(exchange("GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n", "top\":["), 200);
	assert_non_null(strstr(reply, "Content-Type: text/event-stream\r\n"));
	assert_non_null(strstr(reply, "retry: "));
	const char *data = strstr(reply, "data: ");
	assert_non_null(data);
	assert_non_null(strstr(data, "\"state\":\"taking\""));
	assert_non_null(strstr(data, "\"node\":\"stand-in\""));
	json_t *history = ask_json("/api/v1/live/history", 200);
	assert_true(json_array_size(json_object_get(history, "samples")) >= 1);
	json_decref(history);
}

static void answers_stay_when_the_data_process_goes(void **state)
{
	(void)state;
	static const char target[] = "/api/v1/analytics/ads/kept?from=2026-11-22T00:00:00Z&to=2026-11-22T01:00:00Z";
	add(TP_CLICK, 20, "c", "kept", "USD", 1000000, false);
	stand_in_commit(&stand_in);
	for (int round = 0; round < 4; round++) {
		json_t *answer = ask_json(target, 200);
		assert_number(json_object_get(answer, "totals"), "clicks", 1);
		json_decref(answer);
		if (round == 0) {
			stand_in_stop(&stand_in);
			for (bool up = true; up; up = strstr(body(), "\nturnpike_up 1\n") != NULL)
				assert_int_equal(ask("GET", "/metrics"), 200);
			json_t *ready = ask_json("/readyz", 200);
			assert_true(json_is_false(json_object_get(ready, "data_process")));
			json_decref(ready);
		} else if (round == 1) {
			stand_in_start(&stand_in);
		} else if (round == 2) {
			for (bool up = false; !up; up = strstr(body(), "\nturnpike_up 1\n") != NULL)
				assert_int_equal(ask("GET", "/metrics"), 200);
		}
	}
}

static void it_ends_while_it_is_watched(void **state)
{
	(void)state;
	int fd = dial();
	static const char request[] = "GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
	assert_int_equal(send(fd, request, sizeof(request) - 1, 0), sizeof(request) - 1);
	assert_true(recv(fd, reply, 100, 0) > 0);
	control_stop();
	close(fd);
	control_start("none");
	kill(control.pid, SIGHUP); /* nothing to reload, and no reason to die */
	assert_int_equal(ask("GET", "/healthz"), 200);
	kill(control.pid, SIGINT);
	assert_int_equal(ended(control.pid), 0);
	control_start("none");
}

static void without_tokens_only_the_open_pages_answer(void **state)
{
	(void)state;
	control_stop();
	control_start("tokens");
	static const char *const closed[] = {"/metrics", "/api/v1/live",  "/api/v1/analytics/ads/x",
					     "/app.js",  "/openapi.json", "/x"};
	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
		assert_int_equal(ask("GET", closed[i]), 401);
		assert_non_null(strstr(reply, "\r\nWWW-Authenticate: Bearer\r\n"));
	}
	assert_int_equal(ask("GET", "/healthz"), 200);
	assert_int_equal(ask("GET", "/readyz"), 200);
	assert_int_equal(ask("GET", "/"), 200);
	assert_non_null(strstr(body(), "name=\"token\" type=\"password\""));
	control_stop();
	control_start("none");
}

static int ask_with(const char *target, const char *authorization)
{
	char request[1024];
	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: %s\r\nConnection: close\r\n\r\n",
		 target, authorization);
	return exchange(request, NULL);
}

/* Every scope at every kind of resource; tokens made and revoked while it runs count at once. */
static void scopes_say_who_may_read_what(void **state)
{
	(void)state;
	static const char *const scope[] = {"admin", "read", "read:advertiser:a/1", "ingest"};
	static const struct {
		const char *target;
		int status[4]; /* by scope */
	} rows[] = {
		{"/metrics", {200, 200, 403, 403}},
		{"/api/v1/analytics/ads/x?window=1h", {200, 200, 200, 403}},
		{"/api/v1/analytics/advertisers/a%2F1?window=1h", {200, 200, 200, 403}},
		{"/api/v1/analytics/advertisers/a%2F1/?window=1h", {404, 404, 403, 403}},
		{"/api/v1/analytics/clicks?id=a%2F1", {404, 404, 404, 403}},
		{"/api/v1/analytics/advertisers/a%2F11?window=1h", {200, 200, 403, 403}},
		{"/api/v1/analytics/campaigns/a%2F1?window=1h", {200, 200, 200, 403}},
		{"/api/v1/analytics/ads/x?filter=advertiser:a/1", {200, 200, 200, 403}},
		{"/api/v1/analytics/ads/x?filter=advertiser:a", {200, 200, 403, 403}},
		{"/api/v1/analytics/advertisers?id=a%2F1", {200, 200, 200, 403}},
		{"/api/v1/analytics/advertisers?id=a%2F1&id=a", {200, 200, 403, 403}},
		{"/api/v1/analytics/sessions?user=u", {200, 200, 200, 403}},
		{"/api/v1/analytics/trending", {200, 200, 200, 403}},
		{"/api/v1/analytics/trending?by=source", {200, 200, 200, 403}},
		{"/healthz", {200, 200, 200, 200}},
		{"/", {200, 200, 200, 403}},
		{"/nothing", {404, 404, 404, 403}},
	};
	char folder[160], text[4][TP_TOKEN_TEXT_BYTES + 1], header[256];
	struct tp_token token[4], old;

	control_stop();
	snprintf(folder, sizeof(folder), "%s/state/deep", stand_in.folder);
	assert_int_equal(tp_token_create(folder, "read", NULL, 1, 1, text[0], &old), 0); /* expired long ago */
	control_start("tokens");
	snprintf(header, sizeof(header), "Bearer %s", text[0]);
	assert_int_equal(ask_with("/metrics", header), 401);
	for (int i = 0; i < 4; i++)
		assert_int_equal(tp_token_create(folder, scope[i], NULL, 1, 0, text[i], &token[i]), 0);
	for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		for (int i = 0; i < 4; i++) {
			snprintf(header, sizeof(header), "%s %s", row % 2 ? "bearer" : "Bearer", text[i]);
			int status = ask_with(rows[row].target, header);
			if (status != rows[row].status[i])
				fail_msg("%s with %s: %d", rows[row].target, scope[i], status);
		}
	}
	snprintf(header, sizeof(header), "Basic %s", text[0]);
	assert_int_equal(ask_with("/metrics", header), 401);
	snprintf(header, sizeof(header), "Bearer %.46s", text[0]);
	assert_int_equal(ask_with("/metrics", header), 401);
	assert_int_equal(ask_with("/metrics", "Bearer"), 401);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(tp_token_revoke(folder, token[i].id), 0);
		snprintf(header, sizeof(header), "Bearer %s", text[i]);
		assert_int_equal(ask_with("/metrics", header), 401);
	}
	assert_int_equal(tp_token_revoke(folder, old.id), 0);
	control_stop();
	control_start("none");
}

static void it_fails_clearly(void **state)
{
	(void)state;
	char path[128], line[128], listen[32];

	snprintf(path, sizeof(path), "%s/taken.yaml", stand_in.folder);
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", control.port);
	config_write(path, "none", listen);
	assert_int_equal(ended(spawn(path, NULL, line, sizeof(line))), 1); /* the port is taken */
	assert_string_equal(line, "");
	assert_int_equal(ended(spawn(path, "--check", line, sizeof(line))), 0);
	assert_int_equal(ended(spawn(path, "--chekc", line, sizeof(line))), 2);
	assert_int_equal(ended(spawn("/nowhere.yaml", NULL, line, sizeof(line))), 2);
	config_write(path, "sometimes", listen);
	assert_int_equal(ended(spawn(path, NULL, line, sizeof(line))), 2);
}

static void the_data_folder_is_left_alone(void **state)
{
	(void)state;
	struct stat stat_now;
	char path[160];

	snprintf(path, sizeof(path), "%s/state/deep", stand_in.folder);
	assert_int_equal(stat(path, &stat_now), 0);
	assert_true(S_ISDIR(stat_now.st_mode));
	snprintf(path, sizeof(path), "%s-control", stand_in.data_dir);
	assert_int_equal(stat(path, &stat_now), -1);
}

static int start(void **state)
{
	(void)state;
	reply = malloc(REPLY_BYTES);
	stand_in_open(&stand_in);
	control_start("none");
	return reply ? 0 : -1;
}

static int stop(void **state)
{
	(void)state;
	control_stop();
	stand_in_close(&stand_in);
	free(reply);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(analytics_have_the_contracts_fields),
		cmocka_unit_test(currencies_are_told_apart),
		cmocka_unit_test(an_id_never_seen_has_zeros),
		cmocka_unit_test(a_new_event_shows_at_once),
		cmocka_unit_test(problems_name_what_is_wrong),
		cmocka_unit_test(parameters_are_checked_everywhere),
		cmocka_unit_test(methods_are_get_and_head),
		cmocka_unit_test(a_connection_is_kept),
		cmocka_unit_test(a_strangers_name_is_not_answered),
		cmocka_unit_test(the_dashboard_and_its_parts_are_served),
		cmocka_unit_test(every_path_of_the_description_answers),
		cmocka_unit_test(metrics_are_well_formed),
		cmocka_unit_test(the_live_stream_sends_messages),
		cmocka_unit_test(answers_stay_when_the_data_process_goes),
		cmocka_unit_test(it_ends_while_it_is_watched),
		cmocka_unit_test(without_tokens_only_the_open_pages_answer),
		cmocka_unit_test(scopes_say_who_may_read_what),
		cmocka_unit_test(it_fails_clearly),
		cmocka_unit_test(the_data_folder_is_left_alone),
	};
	if (!getenv("TURNPIKE_CONTROL")) {
		puts("TURNPIKE_CONTROL has to name the program");
		return 1;
	}
	tp_log_level_set(TP_ERROR + 1);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, stop);
}
