/*
 * Login by token for browsers, the audit log's resource, and administrative acts. Worker threads.
 *
 *   POST /login   token=… as a form (303 to "/") or {"token":…} (200), with Set-Cookie; 401; 429
 *   POST /logout  303 or 204: the session has ended
 *   GET  /api/v1/whoami, /api/v1/audit-log
 *
 * The cookie is HttpOnly and SameSite=Strict, holds 256 random bits and nothing else, and says Secure under TLS. A page of a stranger cannot
 * log a visitor in or out: ctl_http_ask.c refuses foreign origins. Sources: RFC 6265 sections 4.1.2 and 8; RFC 6265bis (__Host-).
 */
#include "ctl_login.h"

#include "ctl.h"
#include "ctl_audit_log.h"
#include "ctl_limit.h"
#include "ctl_meter.h"
#include "ctl_web.h"
#include "turnpike/log.h"
#include "turnpike/sha256.h"
#include "turnpike/text.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILED_BURST = 60, FAILED_MS = 1000, TOKEN_BYTES_MAX = 256 };

/* ---- the audit log ---- */

static const char *who_of(const struct ctl *ctl, const struct ctl_asker *asker, char to[64])
{
	if (asker && asker->known)
		snprintf(to, 64, "token %s", asker->token.id);
	else
		snprintf(to, 64, "%s", ctl->gate ? "unknown" : "anybody (auth: none)");
	return to;
}

static int note(struct ctl *ctl, const struct ctl_asker *asker, const char *act, const char *detail, size_t detail_bytes,
		const char *result, uint32_t unlogged)
{
	char who[64], scope[TP_TOKEN_SCOPE_BYTES], from[TP_ADDR_TEXT_BYTES] = "-";

	if (asker && asker->from.family)
		tp_addr_text(&asker->from, from);
	const struct ctl_act line = {
		.who = who_of(ctl, asker, who),
		.scope = asker && asker->known ? tp_scope_text(&asker->token, scope) : NULL,
		.from = from,
		.act = act,
		.result = result,
		.detail = detail,
		.detail_bytes = detail_bytes,
		.unlogged = unlogged,
	};
	int rc = ctl_audit_log_add(ctl->config.control_state_dir, &line);
	if (rc != 0)
		tp_logf(TP_ERROR, "audit log not written", "path=\"%s/audit.log\" error=\"%s\"", ctl->config.control_state_dir,
			strerror(-rc));
	return rc;
}

void ctl_act_note(struct ctl *ctl, const char *who, const char *act, const char *result)
{
	const struct ctl_act line = {.who = who, .from = "-", .act = act, .result = result};
	int rc = ctl_audit_log_add(ctl->config.control_state_dir, &line);

	if (rc != 0)
		tp_logf(TP_ERROR, "audit log not written", "path=\"%s/audit.log\" error=\"%s\"", ctl->config.control_state_dir,
			strerror(-rc));
}

/* "DELETE /api/v1/blocklist/192.0.2.0%2F24?…": as it was asked. */
static void act_name(const struct ctl_target *target, char *to, size_t room)
{
	static const char *const method[] = {[CTL_GET] = "GET", [CTL_POST] = "POST", [CTL_DELETE] = "DELETE"};
	size_t used = (size_t)snprintf(to, room, "%s ", method[target->method]);

	for (uint32_t i = 0; i < target->segments && used < room; i++)
		used += (size_t)snprintf(to + used, room - used, "/%.200s", target->segment[i].at);
	for (uint32_t i = 0; i < target->params && used < room; i++)
		used += (size_t)snprintf(to + used, room - used, "%c%.64s=%.200s", i ? '&' : '?', target->param[i].name.at,
					 target->param[i].value.at);
}

void ctl_act_run(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply,
		 void (*handler)(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply))
{
	char act[512], result[16];

	act_name(target, act, sizeof(act));
	if (note(ctl, target->asker, act, target->body, target->body_bytes, "begun", 0) != 0) {
		ctl_reply_problem(reply, 503, "not-audited", NULL, "the audit log cannot be written, so nothing was changed");
		return;
	}
	handler(ctl, target, reply);
	snprintf(result, sizeof(result), "%u", reply->status);
	(void)note(ctl, target->asker, act, NULL, 0, result, 0);
}

void ctl_audit_log(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	static const char *const names[] = {"limit", "cursor"};
	const struct ctl_text *limit = ctl_target_param(target, "limit"), *cursor = ctl_target_param(target, "cursor");
	int error;

	if (!ctl_target_known(target, names, 2, reply))
		return;
	if (limit && (limit->bytes == 0 || limit->bytes > 4 || strspn(limit->at, "0123456789") != limit->bytes ||
		      atoi(limit->at) < 1 || atoi(limit->at) > CTL_AUDIT_ITEMS_MAX)) {
		ctl_reply_problem(reply, 400, "bad-parameter", "limit", "expected a number from 1 to %d", CTL_AUDIT_ITEMS_MAX);
		return;
	}
	if (cursor && (cursor->bytes == 0 || cursor->bytes > 18 || strspn(cursor->at, "0123456789") != cursor->bytes)) {
		ctl_reply_problem(reply, 400, "bad-parameter", "cursor", "expected the cursor of an answer before");
		return;
	}
	json_t *value = ctl_audit_log_read(ctl->config.control_state_dir, cursor ? strtoull(cursor->at, NULL, 10) : UINT64_MAX,
					   limit ? (uint32_t)atoi(limit->at) : 100, &error);
	if (value)
		ctl_reply_json(reply, value);
	else
		ctl_reply_problem(reply, 500, "audit-log", NULL, "the audit log cannot be read: %s", strerror(error));
}

/* ---- the page ---- */

static const struct ctl_asset *page(void)
{
	for (unsigned i = 0; i < ctl_assets; i++)
		if (strcmp(ctl_asset[i].name, "login.html") == 0)
			return &ctl_asset[i];
	abort();
}

/* The page's one style is inline, because no other file is open to somebody unknown: the policy names it by its hash. */
static char policy[256];
static pthread_once_t policy_once = PTHREAD_ONCE_INIT;

static void policy_make(void)
{
	static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const struct ctl_asset *asset = page();
	const char *text = (const char *)asset->bytes;
	const char *from = memmem(text, asset->count, "<style>", 7), *to = memmem(text, asset->count, "</style>", 8);
	uint8_t hash[TP_SHA256_BYTES + 1] = {0};
	char base64[45];

	assert(from && to && from < to);
	from += 7;
	tp_sha256(from, (size_t)(to - from), hash);
	for (int i = 0; i < 43; i++) {
		int bit = 6 * i;
		uint32_t pair = (uint32_t)hash[bit / 8] << 8 | hash[bit / 8 + 1];
		base64[i] = letter[pair >> (10 - bit % 8) & 63];
	}
	memcpy(base64 + 43, "=", 2);
	snprintf(policy, sizeof(policy),
		 "default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'", base64);
}

void ctl_login_page(struct ctl_reply *reply, uint16_t status, const char *message)
{
	static const char mark[] = "<!--message-->";
	const struct ctl_asset *asset = page();
	const char *text = (const char *)asset->bytes, *at = memmem(text, asset->count, mark, sizeof(mark) - 1);
	size_t room = asset->count + (message ? strlen(message) : 0) + 64;

	assert(at);
	pthread_once(&policy_once, policy_make);
	*reply = (struct ctl_reply){.status = status, .type = "text/html; charset=utf-8", .policy = policy};
	reply->body = malloc(room);
	if (!reply->body) {
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
		return;
	}
	size_t head = (size_t)(at - text), tail = asset->count - head - (sizeof(mark) - 1);
	memcpy(reply->body, text, head);
	reply->body_bytes = head;
	if (message) /* of ours: it needs no escape */
		reply->body_bytes += (size_t)sprintf(reply->body + head, "<p role=\"alert\">%s</p>", message);
	memcpy(reply->body + reply->body_bytes, at + sizeof(mark) - 1, tail);
	reply->body_bytes += tail;
}

/* ---- login ---- */

static bool is_form(const struct ctl_target *target)
{
	const char *type = ctl_target_header(target, "Content-Type");

	return type && strncasecmp(type, "application/x-www-form-urlencoded", 33) == 0;
}

/* The token of the body, without blanks around it. False: there is none that could be one. */
static bool token_take(const struct ctl_target *target, char to[TOKEN_BYTES_MAX + 1])
{
	const char *from = NULL;
	size_t bytes = 0;
	struct ctl_target form = {0};
	json_t *body = NULL;
	char *query = NULL;

	if (is_form(target)) {
		if (target->body && !memchr(target->body, '\0', target->body_bytes) &&
		    asprintf(&query, "/?%.*s", (int)target->body_bytes, target->body) > 0 && ctl_target_parse(query, &form) == 0) {
			const struct ctl_text *text = ctl_target_param(&form, "token");
			from = text ? text->at : NULL;
			bytes = text ? text->bytes : 0;
		}
	} else {
		const json_t *text = json_object_get(
			body = json_loadb(target->body ? target->body : "", target->body_bytes, JSON_REJECT_DUPLICATES, NULL),
			"token");
		from = json_string_value(text);
		bytes = from ? json_string_length(text) : 0;
	}
	while (bytes && strchr(" \t\r\n", from[bytes - 1]))
		bytes--;
	for (; bytes && strchr(" \t\r\n", *from); from++)
		bytes--;
	bool fits = bytes > 0 && bytes <= TOKEN_BYTES_MAX;
	if (fits) {
		memcpy(to, from, bytes);
		to[bytes] = '\0';
	}
	if (form.room)
		ctl_target_free(&form);
	free(query);
	json_decref(body);
	return fits;
}

static void cookie_set(struct ctl *ctl, struct ctl_reply *reply, const char *value, uint64_t age_s)
{
	bool tls = ctl->config.control_tls_certificate != NULL;

	ctl_reply_header(reply, "Set-Cookie", "%s=%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%" PRIu64 "%s",
			 tls ? "__Host-turnpike" : "turnpike", value, age_s, tls ? "; Secure" : "");
}

static void see_other(struct ctl_reply *reply, const char *where)
{
	*reply = (struct ctl_reply){.status = 303, .fixed = "", .type = "text/plain"};
	ctl_reply_header(reply, "Location", "%s", where);
}

static json_t *who_json(const struct ctl_asker *asker)
{
	char scope[TP_TOKEN_SCOPE_BYTES];

	if (!asker || !asker->known)
		return json_pack("{s:n, s:n, s:s, s:n, s:s}", "token", "name", "scope", "admin", "advertiser", "by", "none");
	const struct tp_token *token = &asker->token;
	tp_scope_text(token, scope);
	return json_pack("{s:s, s:o, s:o, s:o, s:s}", "token", token->id, "name", ctl_json_text(token->name, strlen(token->name)),
			 "scope", ctl_json_text(scope, strlen(scope)), "advertiser",
			 token->scope == TP_SCOPE_READ_ADVERTISER ? ctl_json_text(token->advertiser, strlen(token->advertiser))
								  : json_null(),
			 "by", asker->by_cookie ? "cookie" : "bearer");
}

/* A flood of wrong tokens must not fill the disk: beyond some the lines are left out, and counted in the next one. */
static void failed_note(struct ctl *ctl, const struct ctl_asker *asker, const char *why)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct ctl_limit *limit;
	static uint32_t unlogged;
	uint32_t before = 0;

	pthread_mutex_lock(&lock);
	if (!limit)
		limit = ctl_limit_make(0, FAILED_MS * 1000000ULL, FAILED_BURST);
	bool logs = limit && ctl_limit_take(limit, 1, tp_mono_ns()) == 0;
	if (logs)
		before = unlogged;
	unlogged = logs ? 0 : unlogged + 1;
	pthread_mutex_unlock(&lock);
	if (logs)
		(void)note(ctl, asker, "login", NULL, 0, why, before);
}

static void refuse(struct ctl_reply *reply, bool form, uint16_t status, const char *slug, const char *message)
{
	if (form)
		ctl_login_page(reply, status, message);
	else
		ctl_reply_problem(reply, status, slug, NULL, "%s", message);
}

void ctl_login(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	char text[TOKEN_BYTES_MAX + 1], cookie[CTL_COOKIE_BYTES + 1];
	struct ctl_asker asker = {.from = target->asker->from};
	bool form = is_form(target);
	uint32_t wait_ms = 0;

	if (target->method == CTL_GET || !ctl->gate) { /* with auth: none there is nothing to log in to */
		see_other(reply, "/");
		return;
	}
	bool sent = token_take(target, text);
	enum ctl_verdict verdict = ctl_gate_know(ctl->gate, sent ? text : "", sent ? strlen(text) : 0, &asker, &wait_ms);
	explicit_bzero(text, sizeof(text));
	if (verdict == CTL_SLOWER) {
		ctl_meter_turn(ctl->meter, asker.known ? CTL_THROTTLED_TOKEN : CTL_THROTTLED_SOURCE);
		refuse(reply, form, 429, "too-many-attempts", "Too many attempts from your address: try again in a while.");
		ctl_reply_header(reply, "Retry-After", "%u", (wait_ms + 999) / 1000);
		return;
	}
	if (verdict != CTL_MAY) {
		failed_note(ctl, &asker, "refused: no such token");
		refuse(reply, form, 401, "unauthorized", "That is not a token that counts here.");
		return;
	}
	if (ctl_gate_judge(&asker.token, CTL_NEED_OWN) != CTL_MAY) {
		failed_note(ctl, &asker, "refused: scope");
		refuse(reply, form, 403, "forbidden", "That token's scope does not reach the dashboard.");
		return;
	}
	int rc = ctl_gate_session_open(ctl->gate, &asker, cookie);
	if (rc != 0) {
		ctl_reply_problem(reply, 500, "no-session", NULL, "no session could be opened: %s", strerror(-rc));
		return;
	}
	(void)note(ctl, &asker, "login", NULL, 0, "done", 0);
	if (form)
		see_other(reply, "/");
	else
		ctl_reply_json(reply, who_json(&asker));
	cookie_set(ctl, reply, cookie, ctl_gate_session_ms(ctl->gate) / 1000);
}

void ctl_logout(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	if (target->method == CTL_GET) {
		see_other(reply, "/");
		return;
	}
	if (ctl->gate && target->asker->by_cookie) {
		ctl_gate_session_end(ctl->gate, target->asker);
		(void)note(ctl, target->asker, "logout", NULL, 0, "done", 0);
	}
	if (is_form(target))
		see_other(reply, "/");
	else
		reply->status = 204;
	cookie_set(ctl, reply, "", 0);
}

void ctl_whoami(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	(void)ctl;
	if (!ctl_target_known(target, NULL, 0, reply))
		return;
	ctl_reply_json(reply, who_json(target->asker));
}
