/*
 * Every limit of HTTP that a client can meet, in one place. docs/tuning.md and contract section 5 name them.
 */
#ifndef TURNPIKE_HTTP_LIMITS_H
#define TURNPIKE_HTTP_LIMITS_H

enum {
	DP_HTTP_METHOD_BYTES_MAX = 32,                /* longer is no method of anybody: 400 */
	DP_HTTP_TARGET_BYTES_MAX = 8 * 1024,          /* 414 */
	DP_HTTP_FIELDS_BYTES_MAX = 16 * 1024,         /* header lines with their line ends; trailers too: 431 */
	DP_HTTP_BODY_BYTES_MAX = 1024 * 1024,         /* as sent, and after gzip: 413 */
	DP_HTTP_CHUNK_OVERHEAD_BYTES_MAX = 16 * 1024, /* chunk extensions of one request, in all: 400 */
	DP_HTTP_GZIP_RATIO_MAX = 128,                 /* decoded bytes per compressed byte … : 413 */
	DP_HTTP_GZIP_FREE_BYTES = 64 * 1024,          /* … once it is more than this */
	DP_HTTP_PIPELINE_MAX = 32,        /* requests of a connection whose answers are owed; more wait in TCP's window */
	DP_HTTP_FORWARDED_LINES_MAX = 16, /* X-Forwarded-For lines looked at, the last ones */
	DP_HTTP_BODY_RATE = 256,          /* bytes a second that a body must come at, on average … : 408 */
	DP_HTTP_RETRY_AFTER_S = 1,        /* with 503 and 429 */
	DP_HTTP_PREFLIGHT_AGE_S = 86400,  /* Access-Control-Max-Age */
	DP_HTTP_SMALL_BUFFER_BYTES = 16 * 1024,
	DP_HTTP_LARGE_BUFFER_BYTES = 1024 * 1024 + 64 * 1024, /* holds any body, and any head */
};

#define DP_HTTP_SECOND_NS 1000000000ULL

/* How long a connection may stay in a state without getting on. See enum dp_http_timer in http.h for what ends each. */
#define DP_HTTP_IDLE_NS    (75 * DP_HTTP_SECOND_NS)  /* between requests: closed silently */
#define DP_HTTP_HEAD_NS    (10 * DP_HTTP_SECOND_NS)  /* first byte of a request to the end of its head: 408 */
#define DP_HTTP_BODY_NS    (10 * DP_HTTP_SECOND_NS)  /* from one piece of body to the next: 408 */
#define DP_HTTP_GRACE_NS   (10 * DP_HTTP_SECOND_NS)  /* … after so long */
#define DP_HTTP_REQUEST_NS (120 * DP_HTTP_SECOND_NS) /* first byte of a request to its last: 408 */
#define DP_HTTP_STALL_NS   (5 * DP_HTTP_SECOND_NS)   /* waiting for a ring, a slot or a buffer of ours: 503 */
#define DP_HTTP_SEND_NS    (30 * DP_HTTP_SECOND_NS)  /* the peer takes no byte of its answers: reset */
#define DP_HTTP_LINGER_NS  (5 * DP_HTTP_SECOND_NS)   /* after our FIN, for the peer's: reset */

#endif
