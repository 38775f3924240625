/*
 * The head of an HTTP/1.x request, bytes to meaning. Pure: no allocation, no clock, no connection; any thread.
 *
 * The parser is resumable by line. The caller keeps all bytes of the head together and calls again with more of them; what has been
 * looked at is not looked at again, so a head that arrives byte by byte costs no more than one that arrives whole. Positions are
 * offsets from the first byte of the head: the bytes may move between calls. The outcome depends on the bytes only, never on how
 * they were split.
 *
 *      ┌── empty line ──┐ (skipped)
 *      ▼                │
 *   REQUEST LINE ───────┴──► FIELDS ──── empty line ──► done
 *      └───────── bad ──────────┴──► status and reason; the connection must close
 *
 * Stricter than RFC 9112 asks wherever leniency has been used for request smuggling: bare CR or LF, space before the colon, folded
 * lines, control characters, repeated or combined lengths and hosts are all 400.
 * Source: RFC 9110, RFC 9112 sections 2 to 6; contract section 5.
 */
#ifndef TURNPIKE_HTTP_PARSER_H
#define TURNPIKE_HTTP_PARSER_H

#include "http_limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dp_http_method { DP_HTTP_GET, DP_HTTP_HEAD, DP_HTTP_POST, DP_HTTP_OPTIONS, DP_HTTP_OTHER_METHOD };

enum dp_http_step { DP_HTTP_MORE, DP_HTTP_DONE, DP_HTTP_BAD };

enum dp_http_content { DP_HTTP_CONTENT_NONE, DP_HTTP_CONTENT_TEXT, DP_HTTP_CONTENT_OTHER }; /* TEXT: one of the three we take */
enum dp_http_coding { DP_HTTP_IDENTITY, DP_HTTP_GZIP, DP_HTTP_OTHER_CODING };

/* Bytes of the head, by offset. */
struct dp_http_span {
	uint32_t at, bytes;
};

struct dp_http_head {
	/* the parser's own */
	uint32_t line_at;   /* where the line that is not complete yet begins */
	uint32_t scanned;   /* up to here that line has no control character */
	uint32_t fields_at; /* where the header lines begin; 0: still in the request line */
	uint8_t host_lines, length_lines;
	uint8_t transfer; /* enum transfer in http_parser.c */
	bool connection_close, connection_keep_alive;

	/* the result; valid once DONE */
	uint8_t method;  /* enum dp_http_method */
	uint8_t minor;   /* HTTP/1.minor, 0 or 1 */
	uint8_t content; /* enum dp_http_content */
	uint8_t coding;  /* enum dp_http_coding */
	bool asterisk;   /* "OPTIONS *", or CONNECT's authority: no path */
	bool has_query;
	bool keep_alive; /* the client wants the connection to stay */
	bool chunked;
	bool has_length;
	bool expect_continue, expect_other;
	uint8_t forwarded_count;
	uint16_t status;                  /* when BAD */
	uint32_t bytes;                   /* of the whole head, empty lines before and after included */
	uint32_t length_at, length_bytes; /* where the value of Content-Length is; 0: there is none */
	uint64_t content_length;
	struct dp_http_span path, query;
	struct dp_http_span authorization; /* the field's value; bytes == 0: none */
	struct dp_http_span traceparent;   /* the same */
	const char *why;                   /* when BAD: static text for a person */
	/* X-Forwarded-For values, in order; only the last ones if many. Last here: what they hold is counted, never cleared. */
	struct dp_http_span forwarded[DP_HTTP_FORWARDED_LINES_MAX];
};

/* Before the first byte of a head. */
static inline void dp_http_head_reset(struct dp_http_head *head)
{
	memset(head, 0, offsetof(struct dp_http_head, forwarded));
}

/*
 * Goes on with the head in bytes[0..count), count never less than in the call before. MORE: call again with more bytes. DONE: the
 * result is set and head->bytes were used. BAD: head->status (400, 414, 431, 501, 505) and head->why.
 */
enum dp_http_step dp_http_head_parse(struct dp_http_head *head, const char *bytes, size_t count);

/* True if the bytes hold the beginning of a request, and not just empty lines (or half of one). After a call that said MORE. */
static inline bool dp_http_head_begun(const struct dp_http_head *head, const char *bytes, size_t count)
{
	return head->fields_at != 0 || (head->line_at < count && bytes[head->line_at] != '\r');
}

#endif
