/*
 * HTTP answers and reports. The node sends a length with every answer that has a body; anything else cannot be pipelined and is
 * treated as a broken connection. Source: RFC 9112 section 4 and 6.
 */
#include "blast_answer.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEAD_BYTES_MAX = 64 << 10 };

/* The value of a header line, if its name is `name`; *bytes is its length. */
static const char *header_value(const char *line, const char *end, const char *name, size_t *bytes)
{
	size_t name_bytes = strlen(name);
	if ((size_t)(end - line) <= name_bytes || strncasecmp(line, name, name_bytes) != 0 || line[name_bytes] != ':')
		return NULL;
	line += name_bytes + 1;
	while (line < end && (*line == ' ' || *line == '\t'))
		line++;
	*bytes = (size_t)(end - line);
	return line;
}

static int number_read(const char *text, size_t bytes, uint64_t *value)
{
	*value = 0;
	if (bytes == 0 || bytes > 15)
		return -EPROTO;
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EPROTO;
		*value = *value * 10 + (uint64_t)(text[i] - '0');
	}
	return 0;
}

int blast_answer_read(const char *text, size_t bytes, struct blast_answer *answer)
{
	const char *head_end = memmem(text, bytes, "\r\n\r\n", 4);
	if (!head_end)
		return bytes > HEAD_BYTES_MAX ? -EPROTO : 0;
	uint64_t number;
	if (head_end - text < 12 || memcmp(text, "HTTP/1.1 ", 9) != 0 || number_read(text + 9, 3, &number) || number < 100 ||
	    number > 599)
		return -EPROTO;
	*answer = (struct blast_answer){.status = (uint32_t)number};
	bool has_length = false;
	uint64_t length = 0;
	const char *line = memmem(text, (size_t)(head_end - text) + 2, "\r\n", 2);
	for (line += 2; line < head_end;) {
		const char *end = memmem(line, (size_t)(head_end - line) + 2, "\r\n", 2);
		size_t value_bytes;
		const char *value;
		if ((value = header_value(line, end, "content-length", &value_bytes))) {
			if (number_read(value, value_bytes, &length))
				return -EPROTO;
			has_length = true;
		} else if ((value = header_value(line, end, "connection", &value_bytes))) {
			answer->close |= value_bytes == 5 && strncasecmp(value, "close", 5) == 0;
		} else if ((value = header_value(line, end, "retry-after", &value_bytes))) {
			if (number_read(value, value_bytes, &number) == 0)
				answer->retry_after_s = number < 3600 ? (uint32_t)number : 3600;
		} else if ((value = header_value(line, end, "transfer-encoding", &value_bytes))) {
			return -EPROTO;
		}
		line = end + 2;
	}
	bool bodiless = answer->status < 200 || answer->status == 204 || answer->status == 304;
	if (!bodiless && !has_length)
		return -EPROTO;
	answer->body_at = (size_t)(head_end - text) + 4;
	answer->body_bytes = bodiless ? 0 : length;
	answer->bytes = answer->body_at + answer->body_bytes;
	return bytes >= answer->bytes;
}

static int index_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

int blast_report_read(const char *body, size_t bytes, struct blast_report *report)
{
	memset(report, 0, sizeof *report);
	json_t *root = json_loadb(body, bytes, 0, NULL);
	json_t *rejected = json_object_get(root, "rejected");
	if (!json_is_integer(json_object_get(root, "accepted")) || !json_is_array(rejected)) {
		json_decref(root);
		return -EPROTO;
	}
	report->accepted = (uint64_t)json_integer_value(json_object_get(root, "accepted"));
	report->duplicates = (uint64_t)json_integer_value(json_object_get(root, "duplicates"));
	report->late = (uint64_t)json_integer_value(json_object_get(root, "late"));
	report->conflicts = (uint64_t)json_integer_value(json_object_get(root, "conflicts"));
	report->rejected = (uint32_t)json_array_size(rejected);
	report->index = calloc(report->rejected + 1, sizeof *report->index);
	if (!report->index) {
		json_decref(root);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < report->rejected; i++) {
		json_t *entry = json_array_get(rejected, i);
		report->index[i] = (uint32_t)json_integer_value(json_object_get(entry, "index"));
		if (i == 0) {
			const char *reason = json_string_value(json_object_get(entry, "reason"));
			const char *detail = json_string_value(json_object_get(entry, "detail"));
			snprintf(report->first, sizeof report->first, "%s: %s", reason ? reason : "?", detail ? detail : "");
		}
	}
	qsort(report->index, report->rejected, sizeof *report->index, index_compare);
	json_decref(root);
	return 0;
}
