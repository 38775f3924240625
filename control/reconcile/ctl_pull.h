/*
 * Parts of pulling that a test can hold against RFC 9110 without a socket: which bytes of a file a request gets. Pure; any thread.
 */
#ifndef TURNPIKE_CTL_PULL_H
#define TURNPIKE_CTL_PULL_H

#include <stdbool.h>
#include <stdint.h>

enum ctl_range {
	CTL_RANGE_WHOLE, /* no Range, one that is not of bytes or not well formed, or several: 200 */
	CTL_RANGE_PART,  /* 206: *first … *last, both included */
	CTL_RANGE_NONE,  /* 416 */
};

/*
 * Reads a Range header (NULL: none) for a file of `bytes` bytes (RFC 9110 section 14.1.2). Several ranges are answered with the whole
 * file, which section 14.2 leaves to the server: a client that pulls has no use for multipart.
 */
enum ctl_range ctl_range_read(const char *header, uint64_t bytes, uint64_t *first, uint64_t *last);

/* If-Range (NULL: none): whether Range counts. Strong comparison; a date never matches, since files are told apart by their hash. */
bool ctl_range_counts(const char *if_range, const char *etag);
/* If-None-Match (NULL: none) with this tag among its list, or "*". */
bool ctl_tag_listed(const char *if_none_match, const char *etag);

/* The sequence of "000000000000002a", 16 lower-case hex digits and nothing else. False: it is no id. */
bool ctl_pull_id(const char *text, uint64_t text_bytes, uint64_t *sequence);

#endif
