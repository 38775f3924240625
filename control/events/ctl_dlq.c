/*
 * GET /api/v1/dlq: rejected and conflicting events with their bytes, newest first. One question at a time reads the folder, with a reader of
 * its own, so that nobody who asks for figures waits behind it.
 *
 * Whoever sees one advertiser only sees conflicts of this advertiser: nobody can say whose a rejected event would have been.
 */
#include "ctl.h"
#include "ctl_dlq_json.h"
#include "ctl_param_time.h"

#include "turnpike/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BAD(reply, name, ...) (ctl_reply_problem(reply, 400, "bad-parameter", name, __VA_ARGS__), false)

static bool read_names(const struct ctl_target *target, struct ctl_reply *reply)
{
	static const char *const names[] = {"reason", "from", "to", "limit", "cursor", "advertiser"};
	for (uint32_t i = 0; i < target->params; i++) {
		const struct ctl_text *name = &target->param[i].name;
		bool known = false;
		for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
			known = known || ctl_text_is(name, names[n]);
		if (!known)
			return BAD(reply, name->at,
				   "%.64s: unknown parameter, expected reason, from, to, limit, cursor or advertiser", name->at);
		for (uint32_t j = 0; j < i; j++)
			if (!strcmp(target->param[j].name.at, name->at))
				return BAD(reply, name->at, "%s: expected once, found twice", name->at);
	}
	return true;
}

/* "bad_value,conflict": one reason, or several. */
static bool read_reasons(const struct ctl_text *value, uint32_t *reasons, struct ctl_reply *reply)
{
	for (char *at = value->at;; at++) {
		char word[32];
		size_t bytes = strcspn(at, ",");
		uint32_t bit = 0;
		if (bytes < sizeof(word)) {
			memcpy(word, at, bytes);
			word[bytes] = 0;
			bit = ctl_dlq_reason(word);
		}
		if (!bit)
			return BAD(reply, "reason",
				   "reason: expected malformed, missing_field, bad_type, bad_value, too_long, duplicate_key, "
				   "bad_utf8, future, too_large or conflict, or several with commas, found \"%.64s\"",
				   value->at);
		*reasons |= bit;
		at += bytes;
		if (!*at)
			return true;
	}
}

static bool read_limit(const struct ctl_text *value, uint32_t *limit, struct ctl_reply *reply)
{
	char *end;
	errno = 0;
	unsigned long number = strspn(value->at, "0123456789") == value->bytes ? strtoul(value->at, &end, 10) : 0;
	if (number < 1 || number > CTL_DLQ_LIMIT_MAX || errno)
		return BAD(reply, "limit", "limit: expected a whole number from 1 to %d, found \"%.64s\"", CTL_DLQ_LIMIT_MAX,
			   value->at);
	*limit = (uint32_t)number;
	return true;
}

static bool query_read(const struct ctl_target *target, struct ctl_dlq_query *query, struct ctl_reply *reply)
{
	const struct ctl_text *reason = ctl_target_param(target, "reason");
	const struct ctl_text *limit = ctl_target_param(target, "limit");
	const struct ctl_text *cursor = ctl_target_param(target, "cursor");
	const struct ctl_text *advertiser = ctl_target_param(target, "advertiser");
	*query = (struct ctl_dlq_query){.limit = CTL_DLQ_LIMIT, .advertiser = target->only};
	if (!read_names(target, reply) || (reason && !read_reasons(reason, &query->reasons, reply)) ||
	    !ctl_param_time(target, "from", NULL, &query->from_ms, NULL, reply) ||
	    !ctl_param_time(target, "to", NULL, &query->to_ms, NULL, reply) || (limit && !read_limit(limit, &query->limit, reply)))
		return false;
	if (query->to_ms && query->from_ms > query->to_ms)
		return BAD(reply, "from", "from: expected a time not after to");
	if (cursor && !ctl_dlq_cursor_parse(cursor->at, &query->before))
		return BAD(reply, "cursor", "cursor: expected one that an answer gave, found \"%.64s\"", cursor->at);
	query->has_before = cursor != NULL;
	if (advertiser && target->only && !ctl_text_is(advertiser, target->only)) {
		ctl_reply_problem(reply, 403, "forbidden", NULL, "the token's scope does not reach this");
		return false;
	}
	if (advertiser)
		query->advertiser = advertiser->at;
	return true;
}

void ctl_dlq(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
	struct ctl_dlq_query query;
	struct ctl_dlq found;
	if (!query_read(target, &query, reply))
		return;
	pthread_mutex_lock(&one_at_a_time);
	int rc = ctl_dlq_read(ctl->config.data_dir, &query, &found);
	pthread_mutex_unlock(&one_at_a_time);
	if (!rc)
		ctl_reply_json(reply, ctl_dlq_json(&found));
	else if (rc == -EBADMSG && found.sequence)
		ctl_reply_problem(reply, 500, "damaged-segment", NULL, "segment %llu is damaged: see turnpikectl segments verify",
				  (unsigned long long)found.sequence);
	else if (rc == -ENOMEM)
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
	else
		ctl_reply_problem(reply, 503, "no-snapshot", NULL, "the data folder cannot be read now: %s", strerror(-rc));
	ctl_dlq_free(&found);
}
