/*
 * A request and its reply as the handlers see them, without the HTTP library: the decoded target, and what to send back.
 */
#ifndef TURNPIKE_CTL_REQUEST_H
#define TURNPIKE_CTL_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decoded bytes, NUL-terminated for convenience; they hold no NUL themselves. */
struct ctl_text {
	char *at;
	size_t bytes;
};

struct ctl_param {
	struct ctl_text name, value;
};

enum { CTL_SEGMENTS_MAX = 8, CTL_PARAMS_MAX = 32 };

enum ctl_method { CTL_GET, CTL_POST, CTL_DELETE }; /* GET stands for HEAD too */

struct ctl_asker;

/* The target "/api/v1/ads/a%2Fb?x=1" has the segments api, v1, ads, "a/b" and the parameter x. "/" has one, empty. */
struct ctl_target {
	char *room; /* the decoded bytes of all below */
	struct ctl_text segment[CTL_SEGMENTS_MAX];
	uint32_t segments;
	struct ctl_param param[CTL_PARAMS_MAX];
	uint32_t params;
	/* of the request that has this target; ctl_target_parse() leaves them zero */
	enum ctl_method method;
	bool head; /* of CTL_GET: the body is not wanted */
	const char *body;
	size_t body_bytes;
	/* The asker may see this advertiser's rows and no others; NULL: all. A handler of CTL_NEED_OWN has to keep to it. */
	const char *only;
	const struct ctl_asker *asker;                             /* who asks: ctl_gate.h */
	const char *(*header)(void *connection, const char *name); /* NULL: there are none */
	void *connection;
};

/* The value of a request header, NULL when there is none of that name. Valid as long as the target. */
const char *ctl_target_header(const struct ctl_target *target, const char *name);

/*
 * Splits and percent-decodes an origin-form target (RFC 9112 section 3.2.1), with '+' as a space in the query part (WHATWG URL,
 * application/x-www-form-urlencoded). 0; -EINVAL: a bad escape, an escaped NUL, too many parts, not origin-form; -ENOMEM.
 */
int ctl_target_parse(const char *text, struct ctl_target *target);
void ctl_target_free(struct ctl_target *target);

bool ctl_text_is(const struct ctl_text *text, const char *word);
/* The value of a parameter, NULL if it is not there. */
const struct ctl_text *ctl_target_param(const struct ctl_target *target, const char *name);

struct MHD_Response;

enum { CTL_HEADERS_MAX = 8 };

/* A header beyond those that have a place of their own below. */
struct ctl_header {
	const char *name; /* lives for ever */
	char value[248];
};

struct ctl_reply {
	uint16_t status;
	const char *type;  /* content type */
	char *body;        /* malloc'ed, owned by the reply; or NULL */
	const void *fixed; /* a body that lives for ever, instead */
	size_t body_bytes;
	const char *allow;           /* with 405 */
	const char *etag, *cache;    /* NULL: "no-store" */
	const char *policy;          /* Content-Security-Policy */
	struct MHD_Response *stream; /* instead of a body; its reader must not wait: the library's threads call it */
	struct ctl_header header[CTL_HEADERS_MAX];
	uint32_t headers;
};

/* Adds a header; the value is cut to its room. */
void ctl_reply_header(struct ctl_reply *reply, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Takes over a JSON value as the body of a 200; gone wrong (no memory): a 500. */
void ctl_reply_json(struct ctl_reply *reply, json_t *value);

/*
 * A problem (RFC 9457): type urn:turnpike:problem:<slug>, and the parameter at fault where there is one (an extension member).
 * Replaces what the reply had.
 */
void ctl_reply_problem(struct ctl_reply *reply, uint16_t status, const char *slug, const char *parameter, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

/* JSON text from bytes that should be UTF-8; what is not becomes "?". */
json_t *ctl_json_text(const char *bytes, size_t count);

/* Whether a request has only these parameters, each at most once. False: the reply is the 400 to send. At most 32 names. */
bool ctl_target_known(const struct ctl_target *target, const char *const *names, uint32_t count, struct ctl_reply *reply);

#endif
