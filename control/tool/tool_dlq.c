/*
 * turnpikectl dlq list|show|replay: dead letters and conflicts. list and show read the data folder, of a running node or a stopped one;
 * replay sends bytes through the front door, by HTTP like anybody, and says what became of them. An event is its id: sending one twice
 * counts it once.
 */
#include "ctl_dlq_json.h"
#include "tool.h"
#include "tool_post.h"

#include "turnpike/text.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REPLAY_BYTES_MAX = 1 << 20, SHOWN_BYTES = 60 };

struct options {
	struct ctl_dlq_query query;
	const char *to, *token, *file;
	bool raw;
};

/* ---- words ---- */

static bool reasons_add(const char *text, uint32_t *reasons)
{
	uint32_t bit = ctl_dlq_reason(text);
	if (!bit)
		fprintf(stderr,
			"turnpikectl: --reason: expected conflict or a reason of rejection such as malformed, found \"%s\"\n",
			text);
	*reasons |= bit;
	return bit;
}

static bool time_read(const char *name, const char *text, uint64_t *ms)
{
	if (!tp_time_parse(text, strlen(text), ms))
		return true;
	fprintf(stderr, "turnpikectl: --%s: expected RFC 3339 or milliseconds, found \"%s\"\n", name, text);
	return false;
}

static bool limit_read(const char *text, uint32_t *limit)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && number >= 1 && number <= CTL_DLQ_LIMIT_MAX) {
		*limit = (uint32_t)number;
		return true;
	}
	fprintf(stderr, "turnpikectl: --limit: expected a whole number from 1 to %d, found \"%s\"\n", CTL_DLQ_LIMIT_MAX, text);
	return false;
}

/* --to is a time for list, an address for replay. What is left are ids, from *first on. */
static int options_read(int words, char **word, bool replay, struct options *o, int *first)
{
	static const struct option options[] = {{"reason", required_argument, NULL, 'r'},
						{"from", required_argument, NULL, 'a'},
						{"to", required_argument, NULL, 'b'},
						{"limit", required_argument, NULL, 'n'},
						{"cursor", required_argument, NULL, 'c'},
						{"raw", no_argument, NULL, 'w'},
						{"file", required_argument, NULL, 'f'},
						{"token", required_argument, NULL, 't'},
						{0}};
	int option;
	bool good = true;
	*o = (struct options){.query = {.limit = CTL_DLQ_LIMIT}};
	optind = 0;
	while (good && (option = getopt_long(words, word, "", options, NULL)) >= 0) {
		switch (option) {
		case 'r':
			good = reasons_add(optarg, &o->query.reasons);
			break;
		case 'a':
			good = time_read("from", optarg, &o->query.from_ms);
			break;
		case 'b':
			o->to = optarg;
			good = replay || time_read("to", optarg, &o->query.to_ms);
			break;
		case 'n':
			good = limit_read(optarg, &o->query.limit);
			break;
		case 'c':
			o->query.has_before = good = ctl_dlq_cursor_parse(optarg, &o->query.before);
			if (!good)
				fprintf(stderr, "turnpikectl: --cursor: expected one that list gave, found \"%s\"\n", optarg);
			break;
		case 'w':
			o->raw = true;
			break;
		case 'f':
			o->file = optarg;
			break;
		case 't':
			o->token = optarg;
			break;
		default:
			good = false;
		}
	}
	*first = optind;
	return good ? 0 : 2;
}

static int read_failed(int rc, const struct ctl_dlq *found)
{
	if (rc == -EBADMSG && found->sequence)
		fprintf(stderr, "turnpikectl: segment %" PRIu64 " is damaged: see turnpikectl segments verify\n", found->sequence);
	else
		fprintf(stderr, "turnpikectl: dead letters cannot be read: %s\n", strerror(-rc));
	return 1;
}

/* ---- list and show ---- */

/* The bytes as one line of text, cut; what is not printable becomes a dot. */
static void shown(const uint8_t *bytes, size_t count, char *to)
{
	size_t shown = count < SHOWN_BYTES ? count : SHOWN_BYTES;
	for (size_t i = 0; i < shown; i++)
		to[i] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? (char)bytes[i] : '.';
	strcpy(to + shown, shown < count ? "…" : "");
}

static void line_print(const struct ctl_dlq_entry *entry)
{
	char name[CTL_DLQ_NAME_BYTES], time[32], text[SHOWN_BYTES + 4];
	const struct tp_dead_letter *letter = tp_dead_letter_of(entry->record);
	ctl_dlq_name(&entry->key, name);
	tp_time_text(entry->key.received_ms, time);
	if (letter) {
		shown(tp_dead_letter_bytes(letter), letter->kept_bytes, text);
	} else {
		size_t bytes = tp_event_id_text(entry->record, text);
		text[bytes < SHOWN_BYTES ? bytes : SHOWN_BYTES] = 0;
	}
	printf("%-24s %-22s %-14s %-12s %-10s %7u  %s\n", time, name,
	       letter ? tp_reject_name((enum tp_reject)letter->reason) : "conflict",
	       letter ? tp_field_name((enum tp_field)letter->field) : "event_id",
	       letter ? tp_way_name((enum tp_way)letter->way) : "", letter ? letter->sent_bytes : entry->record->bytes, text);
}

static int list(struct ctl_tool *tool, int words, char **word)
{
	struct options o;
	struct ctl_dlq found;
	int first, rc = options_read(words, word, false, &o, &first);
	if (rc || first != words)
		return 2;
	rc = ctl_dlq_read(tool->config.data_dir, &o.query, &found);
	if (rc) {
		rc = read_failed(rc, &found);
	} else if (tool->json) {
		rc = ctl_tool_print(ctl_dlq_json(&found));
	} else {
		printf("%-24s %-22s %-14s %-12s %-10s %7s  %s\n", "RECEIVED", "ID", "REASON", "FIELD", "WAY", "BYTES", "WHAT");
		for (uint32_t i = 0; i < found.count; i++)
			line_print(&found.entry[i]);
		char cursor[CTL_DLQ_CURSOR_BYTES];
		if (found.more && found.count) {
			ctl_dlq_cursor(&found.entry[found.count - 1].key, cursor);
			printf("older ones: --cursor %s\n", cursor);
		}
	}
	ctl_dlq_free(&found);
	return rc;
}

/* The one of that name; *rc tells why there is none. */
static bool find(struct ctl_tool *tool, const char *name, struct ctl_dlq *found, int *rc)
{
	struct ctl_dlq_query query = {.limit = 1, .has_only = true};
	*found = (struct ctl_dlq){0};
	*rc = 2;
	if (!ctl_dlq_name_parse(name, &query.only)) {
		fprintf(stderr, "turnpikectl: expected an id as dlq list shows it, found \"%s\"\n", name);
		return false;
	}
	int failed = ctl_dlq_read(tool->config.data_dir, &query, found);
	*rc = 1;
	if (failed)
		read_failed(failed, found);
	else if (!found->count)
		fprintf(stderr, "turnpikectl: no dead letter %s: never there, or beyond retention.raw\n", name);
	return !failed && found->count;
}

static int show(struct ctl_tool *tool, int words, char **word)
{
	struct options o;
	struct ctl_dlq found;
	int first, rc = options_read(words, word, false, &o, &first);
	if (rc || first + 1 != words)
		return 2;
	if (!find(tool, word[first], &found, &rc)) {
		ctl_dlq_free(&found);
		return rc;
	}
	json_t *entry = ctl_dlq_entry_json(&found.entry[0]);
	const struct tp_dead_letter *letter = tp_dead_letter_of(found.entry[0].record);
	const char *data = json_string_value(json_object_get(entry, "data")), *key;
	json_t *value;
	rc = 0;
	if (o.raw && letter) {
		fwrite(tp_dead_letter_bytes(letter), 1, letter->kept_bytes, stdout);
	} else if (o.raw) {
		fputs(data ? data : "", stdout);
	} else if (tool->json) {
		rc = ctl_tool_print(json_incref(entry));
	} else {
		json_object_foreach(entry, key, value)
		{
			char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
			if (strcmp(key, "data") != 0)
				printf("%-10s %s\n", key, text ? text : json_string_value(value));
			free(text);
		}
		printf("\n%s\n", data ? data : "");
	}
	json_decref(entry);
	ctl_dlq_free(&found);
	return rc || fflush(stdout) ? 1 : 0;
}

/* ---- replay ---- */

struct replay {
	struct ctl_tool *tool;
	struct ctl_post post;
	json_t *lines;    /* with --json */
	uint32_t refused; /* how many were not taken */
};

/* What a report or a problem says, in a line. True: all of it was taken. */
static bool verdict_text(unsigned status, const json_t *answer, char *to, size_t room)
{
	static const char *const counts[] = {"accepted", "duplicates", "late", "conflicts"};
	const char *detail = json_string_value(json_object_get(answer, "detail"));
	const char *reason = json_string_value(json_object_get(answer, "reason"));
	if (status != 200) {
		if (status == 204)
			snprintf(to, room, "accepted");
		else
			snprintf(to, room, "%u%s%s%s%s", status, reason ? " " : "", reason ? reason : "", detail ? ": " : "",
				 detail ? detail : "");
		return status == 204;
	}
	size_t at = 0, rejected = json_array_size(json_object_get(answer, "rejected"));
	to[0] = 0;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		json_int_t count = json_integer_value(json_object_get(answer, counts[i]));
		if (count && at < room)
			at += (size_t)snprintf(to + at, room - at, "%s%" JSON_INTEGER_FORMAT " %s", at ? ", " : "", count,
					       counts[i]);
	}
	for (size_t i = 0; i < rejected && at < room; i++) {
		const json_t *one = json_array_get(json_object_get(answer, "rejected"), i);
		at += (size_t)snprintf(to + at, room - at, "%sindex %" JSON_INTEGER_FORMAT " rejected, %s: %s", at ? ", " : "",
				       json_integer_value(json_object_get(one, "index")),
				       json_string_value(json_object_get(one, "reason")),
				       json_string_value(json_object_get(one, "detail")));
	}
	if (!at)
		snprintf(to, room, "accepted");
	return !rejected;
}

static void say(struct replay *r, const char *name, bool taken, unsigned status, const char *text, json_t *answer)
{
	r->refused += !taken;
	if (r->lines) {
		json_t *line =
			json_pack("{s:s, s:b, s:i, s:s}", "id", name, "taken", taken, "status", (int)status, "verdict", text);
		if (answer)
			json_object_set(line, "report", answer);
		json_array_append_new(r->lines, line);
	} else {
		printf("%-22s %s\n", name, text);
	}
}

/* Sends one body or pixel. False: the node cannot be reached; there is no use in going on. */
static bool send_one(struct replay *r, const char *name, const char *query, const void *body, size_t bytes)
{
	char text[2048];
	unsigned status;
	char *content = NULL;
	int rc = query ? ctl_post_get(&r->post, query, &status, &content)
		       : ctl_post_send(&r->post, "/api/v1/clicks?report=1", body, bytes, &status, &content);
	if (rc) {
		fprintf(stderr, "turnpikectl: %s: %s\n", r->post.url, strerror(-rc));
		r->refused++;
		return false;
	}
	json_t *answer = query && status == 200 ? NULL : json_loads(content ? content : "", 0, NULL);
	bool taken = query && status == 200;
	if (taken)
		snprintf(text, sizeof(text), "taken (a pixel's answer does not tell new from known)");
	else
		taken = verdict_text(status, answer, text, sizeof(text));
	say(r, name, taken, status, text, answer);
	json_decref(answer);
	free(content);
	return status != 503;
}

/* True if the query names a parameter with a value. */
static bool query_has(const char *query, size_t bytes, const char *name)
{
	size_t length = strlen(name);
	for (size_t at = 0; at < bytes;) {
		const char *stop = memchr(query + at, '&', bytes - at);
		size_t end = stop ? (size_t)(stop - query) : bytes;
		if (end - at > length + 1 && !memcmp(query + at, name, length) && query[at + length] == '=')
			return true;
		at = end + 1;
	}
	return false;
}

/*
 * A pixel as it came. An id that it lacked, which would be minted anew each time, becomes the dead letter's own name; a time that it lacked
 * is that of its receipt: so it, too, may be sent twice.
 */
static bool send_pixel(struct replay *r, const char *name, const struct tp_dead_letter *letter)
{
	const char *query = (const char *)tp_dead_letter_bytes(letter);
	char *target = malloc(letter->kept_bytes + 256);
	if (!target)
		return false;
	for (uint32_t i = 0; i < letter->kept_bytes; i++)
		if (query[i] <= ' ' || query[i] > '~') {
			say(r, name, false, 0, "not sent: its query cannot stand in a request line", NULL);
			free(target);
			return true;
		}
	int at = sprintf(target, "/api/v1/pixel.gif?%.*s", (int)letter->kept_bytes, query);
	if (!query_has(query, letter->kept_bytes, "event_id"))
		at += sprintf(target + at, "&event_id=dlq-%s-%s", r->tool->config.node_name, name);
	if (!query_has(query, letter->kept_bytes, "timestamp"))
		sprintf(target + at, "&timestamp=%" PRIu64, letter->received_ms);
	bool reached = send_one(r, name, target, NULL, 0);
	free(target);
	return reached;
}

static bool send_entry(struct replay *r, const struct ctl_dlq_entry *entry)
{
	char name[CTL_DLQ_NAME_BYTES];
	const struct tp_dead_letter *letter = tp_dead_letter_of(entry->record);
	ctl_dlq_name(&entry->key, name);
	if (!letter) {
		json_t *event = ctl_dlq_event_json(entry->record);
		char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
		bool reached = text && send_one(r, name, NULL, text, strlen(text));
		free(text);
		json_decref(event);
		return reached;
	}
	if (letter->kept_bytes < letter->sent_bytes) {
		say(r, name, false, 0, "not sent: only its first bytes were kept; send it mended, with --file", NULL);
		return true;
	}
	if (letter->way == TP_WAY_UDP_BATCH) {
		say(r, name, false, 0, "not sent: an event of a binary batch; send it as JSON, with --file", NULL);
		return true;
	}
	return letter->way == TP_WAY_PIXEL ? send_pixel(r, name, letter)
					   : send_one(r, name, NULL, tp_dead_letter_bytes(letter), letter->kept_bytes);
}

/* A file of mended events: whatever a body may be. */
static int send_file(struct replay *r, const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
	char *bytes = file ? malloc(REPLAY_BYTES_MAX + 1) : NULL;
	if (!bytes) {
		fprintf(stderr, "turnpikectl: %s: %s\n", path, strerror(errno));
		if (file && file != stdin)
			fclose(file);
		return 1;
	}
	size_t count = fread(bytes, 1, REPLAY_BYTES_MAX + 1, file);
	int rc = 0;
	if (ferror(file) || count > REPLAY_BYTES_MAX) {
		fprintf(stderr, "turnpikectl: %s: %s\n", path,
			ferror(file) ? strerror(errno) : "expected at most 1 MiB, found more");
		rc = 1;
	} else {
		rc = send_one(r, path, NULL, bytes, count) ? 0 : 1;
	}
	if (file != stdin)
		fclose(file);
	free(bytes);
	return rc;
}

/* All of a question, newest first, page by page; what comes in meanwhile is newer than the first page and not looked at. */
static int send_all(struct replay *r, struct ctl_dlq_query *query)
{
	for (;;) {
		struct ctl_dlq found;
		int rc = ctl_dlq_read(r->tool->config.data_dir, query, &found);
		bool more = !rc && found.more && found.count;
		if (rc)
			rc = read_failed(rc, &found);
		for (uint32_t i = 0; i < found.count && !rc; i++) {
			rc = send_entry(r, &found.entry[i]) ? 0 : 1;
			query->before = found.entry[i].key;
		}
		ctl_dlq_free(&found);
		if (rc || !more)
			return rc;
		query->has_before = true;
	}
}

static int replay(struct ctl_tool *tool, int words, char **word)
{
	struct options o;
	int first, rc = options_read(words, word, true, &o, &first);
	if (rc || (first == words && !o.query.reasons && !o.file) || (first < words && (o.query.reasons || o.file)) ||
	    (o.file && o.query.reasons))
		return 2;
	struct replay r = {.tool = tool, .lines = tool->json ? json_array() : NULL};
	rc = ctl_post_open(&r.post, &tool->config, o.to, o.token);
	if (!rc && o.file)
		rc = send_file(&r, o.file);
	else if (!rc && o.query.reasons)
		rc = send_all(&r, &o.query);
	for (int i = first; i < words && !rc; i++) {
		struct ctl_dlq found;
		if (find(tool, word[i], &found, &rc))
			rc = send_entry(&r, &found.entry[0]) ? 0 : 1;
		ctl_dlq_free(&found);
	}
	if (r.lines && rc != 2)
		ctl_tool_print(json_incref(r.lines));
	json_decref(r.lines);
	return rc ? rc : r.refused ? 1 : 0;
}

int ctl_tool_dlq(struct ctl_tool *tool, int words, char **word)
{
	if (words && !strcmp(word[0], "list"))
		return list(tool, words, word);
	if (words && !strcmp(word[0], "show"))
		return show(tool, words, word);
	if (words && !strcmp(word[0], "replay"))
		return replay(tool, words, word);
	return 2;
}
