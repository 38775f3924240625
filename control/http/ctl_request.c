/* Targets, problems and JSON bodies; pure, any thread. See ctl_request.h. */
#include "ctl_request.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hex(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/* Decodes from[0..bytes) to *to, which moves past the terminator. 0 or -EINVAL. */
static int decode(const char *from, size_t bytes, bool plus_is_space, char **to, struct ctl_text *text)
{
	char *out = *to;

	text->at = out;
	for (size_t i = 0; i < bytes; i++) {
		char byte = from[i];
		if (byte == '%') {
			if (bytes - i < 3 || hex(from[i + 1]) < 0 || hex(from[i + 2]) < 0)
				return -EINVAL;
			byte = (char)(hex(from[i + 1]) << 4 | hex(from[i + 2]));
			if (byte == '\0')
				return -EINVAL;
			i += 2;
		} else if (byte == '+' && plus_is_space) {
			byte = ' ';
		}
		*out++ = byte;
	}
	text->bytes = (size_t)(out - text->at);
	*out++ = '\0';
	*to = out;
	return 0;
}

static int path_parse(const char *at, const char *end, char **room, struct ctl_target *target)
{
	if (at == end || *at != '/')
		return -EINVAL;
	while (at < end) {
		const char *from = ++at; /* past the slash */
		while (at < end && *at != '/')
			at++;
		if (target->segments == CTL_SEGMENTS_MAX)
			return -EINVAL;
		if (decode(from, (size_t)(at - from), false, room, &target->segment[target->segments++]) != 0)
			return -EINVAL;
	}
	return 0;
}

static int query_parse(const char *at, const char *end, char **room, struct ctl_target *target)
{
	while (at < end) {
		const char *stop = memchr(at, '&', (size_t)(end - at));
		if (!stop)
			stop = end;
		const char *equals = memchr(at, '=', (size_t)(stop - at));
		if (stop > at) {
			if (target->params == CTL_PARAMS_MAX)
				return -EINVAL;
			struct ctl_param *param = &target->param[target->params++];
			const char *name_end = equals ? equals : stop, *value = equals ? equals + 1 : stop;
			if (decode(at, (size_t)(name_end - at), true, room, &param->name) != 0 ||
			    decode(value, (size_t)(stop - value), true, room, &param->value) != 0)
				return -EINVAL;
		}
		at = stop + 1;
	}
	return 0;
}

int ctl_target_parse(const char *text, struct ctl_target *target)
{
	size_t bytes = strlen(text);
	const char *end = text + bytes, *query = memchr(text, '?', bytes);

	*target = (struct ctl_target){0};
	/* decoding only shrinks; each part adds a terminator, and the parts are bounded */
	target->room = malloc(bytes + CTL_SEGMENTS_MAX + 2 * CTL_PARAMS_MAX + 1);
	if (!target->room)
		return -ENOMEM;
	char *room = target->room;
	int rc = path_parse(text, query ? query : end, &room, target);
	if (rc == 0 && query)
		rc = query_parse(query + 1, end, &room, target);
	if (rc != 0)
		ctl_target_free(target);
	return rc;
}

void ctl_target_free(struct ctl_target *target)
{
	free(target->room);
	*target = (struct ctl_target){0};
}

bool ctl_text_is(const struct ctl_text *text, const char *word)
{
	return text->bytes == strlen(word) && memcmp(text->at, word, text->bytes) == 0;
}

const char *ctl_target_header(const struct ctl_target *target, const char *name)
{
	return target->header ? target->header(target->connection, name) : NULL;
}

const struct ctl_text *ctl_target_param(const struct ctl_target *target, const char *name)
{
	for (uint32_t i = 0; i < target->params; i++) {
		if (ctl_text_is(&target->param[i].name, name))
			return &target->param[i].value;
	}
	return NULL;
}

/* ---- replies ---- */

static const char *title_of(uint16_t status)
{
	static const struct {
		uint16_t status;
		const char *title;
	} titles[] = {
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{416, "Range Not Satisfiable"},
		{421, "Misdirected Request"},
		{422, "Unprocessable Content"},
		{403, "Forbidden"},
		{409, "Conflict"},
		{413, "Content Too Large"},
		{415, "Unsupported Media Type"},
		{429, "Too Many Requests"},
		{501, "Not Implemented"},
		{507, "Insufficient Storage"},
		{500, "Internal Server Error"},
		{503, "Service Unavailable"},
	};
	for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++) {
		if (titles[i].status == status)
			return titles[i].title;
	}
	return "Error";
}

json_t *ctl_json_text(const char *bytes, size_t count)
{
	json_t *text = json_stringn(bytes, count);
	if (text)
		return text;
	char *ascii = malloc(count ? count : 1);
	if (!ascii)
		return NULL;
	for (size_t i = 0; i < count; i++)
		ascii[i] = (unsigned char)bytes[i] < 0x80 ? bytes[i] : '?';
	text = json_stringn(ascii, count);
	free(ascii);
	return text;
}

static void reply_clear(struct ctl_reply *reply)
{
	free(reply->body);
	*reply = (struct ctl_reply){0};
}

static bool body_set(struct ctl_reply *reply, json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
	json_decref(value);
	size_t bytes = text ? strlen(text) : 0;
	char *line = text ? realloc(text, bytes + 2) : NULL;
	if (!line) {
		free(text);
		return false;
	}
	memcpy(line + bytes, "\n", 2);
	reply->body = line;
	reply->body_bytes = bytes + 1;
	return true;
}

void ctl_reply_header(struct ctl_reply *reply, const char *name, const char *format, ...)
{
	va_list arguments;

	assert(reply->headers < CTL_HEADERS_MAX);
	struct ctl_header *header = &reply->header[reply->headers++];
	header->name = name;
	va_start(arguments, format);
	vsnprintf(header->value, sizeof(header->value), format, arguments);
	va_end(arguments);
}

void ctl_reply_json(struct ctl_reply *reply, json_t *value)
{
	reply_clear(reply);
	if (!body_set(reply, value)) {
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
		return;
	}
	reply->status = 200;
	reply->type = "application/json";
}

void ctl_reply_problem(struct ctl_reply *reply, uint16_t status, const char *slug, const char *parameter, const char *format, ...)
{
	char detail[512], type[64];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(detail, sizeof(detail), format, arguments);
	va_end(arguments);
	snprintf(type, sizeof(type), "urn:turnpike:problem:%s", slug);
	reply_clear(reply);
	reply->status = status;
	reply->type = "application/problem+json";
	json_t *problem = json_pack("{s:s, s:s, s:i, s:o}", "type", type, "title", title_of(status), "status", (int)status,
				    "detail", ctl_json_text(detail, strlen(detail)));
	if (problem && parameter)
		json_object_set_new(problem, "parameter", ctl_json_text(parameter, strlen(parameter)));
	if (!body_set(reply, problem)) {
		static const char bare[] = "{\"type\":\"about:blank\",\"title\":\"Out of memory\"}\n";
		reply->fixed = bare;
		reply->body_bytes = sizeof(bare) - 1;
	}
}

bool ctl_target_known(const struct ctl_target *target, const char *const *names, uint32_t count, struct ctl_reply *reply)
{
	uint32_t seen = 0;

	for (uint32_t i = 0; i < target->params; i++) {
		const char *name = target->param[i].name.at;
		uint32_t n = 0;
		while (n < count && !ctl_text_is(&target->param[i].name, names[n]))
			n++;
		if (n < count && !(seen >> n & 1)) {
			seen |= 1U << n;
			continue;
		}
		ctl_reply_problem(reply, 400, "bad-parameter", name,
				  n == count ? "%.64s: unknown parameter" : "%.64s: expected once, found twice", name);
		return false;
	}
	return true;
}
