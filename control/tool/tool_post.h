/*
 * A small HTTP/1.1 client for the tool: one request a connection to a front door, plain, with deadlines. One thread.
 */
#ifndef TURNPIKE_TOOL_POST_H
#define TURNPIKE_TOOL_POST_H

#include "turnpike/config.h"

enum { CTL_POST_ANSWER_BYTES_MAX = 4 << 20 };

struct ctl_post {
	char url[300]; /* for messages: "http://host:port" */
	char host[256], port[8];
	const char *token; /* NULL: none */
};

/*
 * Where to send: `url` (http://HOST[:PORT]), or without one the node's own address: of the running process, else the first http of its
 * configuration. 0; 1 or 2 (said on stderr): the exit status.
 */
int ctl_post_open(struct ctl_post *post, const struct tp_config *config, const char *url, const char *token);

/* POST as application/json, or GET. 0 with the status and the body, NUL-terminated, to be freed; or -errno. */
int ctl_post_send(const struct ctl_post *post, const char *target, const void *body, size_t bytes, unsigned *status,
		  char **content);
int ctl_post_get(const struct ctl_post *post, const char *target, unsigned *status, char **content);

#endif
