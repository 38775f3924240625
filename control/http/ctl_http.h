/*
 * What the parts of the HTTP server share: one request on its way. Private to ctl_http*.c.
 *
 *   ctl_http.c       the library's calls, replies on the wire, listening
 *   ctl_http_ask.c   who asks, and whether he may
 *   ctl_http_seat.c  connections, their number and their deadlines
 *   ctl_http_pool.c  the workers that run handlers
 *   ctl_http_tls.c   certificates
 */
#ifndef TURNPIKE_CTL_HTTP_H
#define TURNPIKE_CTL_HTTP_H

#include "ctl.h"
#include "ctl_gate.h"
#include "ctl_http_pool.h"
#include "ctl_http_seat.h"
#include "ctl_route.h"

#include <stdatomic.h>

struct MHD_Connection;
struct MHD_Daemon;
struct ctl_tls;

struct ctl_http {
	struct MHD_Daemon *daemon;
	struct ctl *ctl;
	struct ctl_seats *seats;
	struct ctl_pool *pool;
	struct ctl_tls *tls; /* NULL: in the clear */
	_Atomic bool closing;
};

enum ctl_stage {
	CTL_STAGE_NEW,      /* the request line is known */
	CTL_STAGE_REFUSED,  /* reply is filled, the library has not called a second time yet */
	CTL_STAGE_BODY,     /* its header lines too, and it may come in */
	CTL_STAGE_WORKING,  /* a worker has it, the connection is suspended */
	CTL_STAGE_ANSWERED, /* reply is filled */
};

/* What is known of one request between the library's calls. The library's threads and one worker have it in turn. */
struct ctl_exchange {
	struct ctl_job job; /* the first member */
	struct ctl_http *http;
	struct MHD_Connection *connection;
	struct ctl_seat *seat;
	enum ctl_stage stage;
	bool parsed; /* the target is well formed */
	bool closes; /* the connection does not go on after the answer */
	bool body_too_large;
	struct ctl_target target;
	struct ctl_asker asker;
	const struct ctl_route *route;
	struct ctl_reply reply;
	uint64_t began_ns; /* the request was whole */
	char *body;        /* of a request that changes something */
	size_t body_bytes;
};

/* ---- ctl_http_ask.c ---- */

/* A header of the connection's request, for ctl_target.header. */
const char *ctl_http_header(void *connection, const char *name);
/* Fills the reply and returns false when the head of the request settles it already. */
bool ctl_http_head_check(struct ctl_exchange *exchange, const char *method, const char *version);
/* The same, for who asks. */
bool ctl_http_asker_check(struct ctl_exchange *exchange);
/* Runs the handler. Worker threads, and the library's for what takes no time. */
void ctl_http_handle(struct ctl_exchange *exchange);

/* ---- ctl_http_tls.c ---- */

/* Reads the files of control.tls. 0 or -errno, said on the log with what was found. */
int ctl_tls_open(struct ctl_tls **tls, const struct tp_config *config);
int ctl_tls_reload(struct ctl_tls *tls); /* the same files anew; on an error those read last stay */
void ctl_tls_close(struct ctl_tls *tls);
/* Before the handshake of a connection. */
void ctl_tls_begin(struct ctl_tls *tls, struct MHD_Connection *connection);
struct MHD_OptionItem;
/* The library's options, ended. */
const struct MHD_OptionItem *ctl_tls_options(struct ctl_tls *tls);

#endif
