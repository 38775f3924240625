/*
 * Heads that were parsed before. A client that keeps its connection open sends the same head with every request, but for the digits of
 * Content-Length; so a connection remembers which head its last one was, and compares before it parses.
 *
 *   connection ── place ──► text of a head, and what the parser made of it
 *
 *   hit    every byte of the text is there again, but for the digits, of which there are as many and nothing else: what the parser
 *          would say is what it said, with another content_length. It looks at no byte behind the head.
 *   miss   it is parsed, and noted at the place that its text hashes to, digits left out: one place for all connections with that head.
 *          Who was noted there before is overwritten.
 *
 * Heads that change with every request (a trace, a proxy's X-Forwarded-For) are not noted, nor are long ones.
 *
 * One rx core. Memory is the owner's and fixed.
 */
#ifndef TURNPIKE_HTTP_MEMO_H
#define TURNPIKE_HTTP_MEMO_H

#include "http_parser.h"

enum { DP_MEMO_PLACES = 256, DP_MEMO_TEXT_BYTES = 896, DP_MEMO_DIGITS_MAX = 7 };

struct dp_memo_head {
	struct dp_http_head head; /* bytes == 0: none is noted; forwarded[] is not used */
	char text[DP_MEMO_TEXT_BYTES];
};

struct dp_http_memo {
	struct dp_memo_head place[DP_MEMO_PLACES];
};

/* Is the head noted at `place` the one at the start of bytes[0..count)? Then *head, fresh before, is as dp_http_head_parse() leaves it when DONE. */
bool dp_memo_find(const struct dp_http_memo *memo, uint16_t place, struct dp_http_head *head, const char *bytes, size_t count);
/* Notes a head that was parsed from `bytes`, all at once, and is DONE. Returns its place, or `place` when it is not worth noting. */
uint16_t dp_memo_note(struct dp_http_memo *memo, uint16_t place, const struct dp_http_head *head, const char *bytes);

#endif
