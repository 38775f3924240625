/* A small HTTP/1.1 client: see tool_post.h. `Connection: close`, so the answer ends where the stream does. */
#include "tool_post.h"

#include "turnpike/live.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { TIMEOUT_S = 30 };

/* "HOST:PORT", "[V6]:PORT", or without a port. */
static bool authority_read(struct ctl_post *post, const char *text)
{
	size_t bytes = strcspn(text, "/");
	const char *colon = NULL, *host = text, *end = text + bytes;
	if (*text == '[') {
		const char *close = memchr(text, ']', bytes);
		if (!close)
			return false;
		host = text + 1;
		colon = close[1] == ':' ? close + 1 : NULL;
		end = close;
	} else {
		colon = memchr(text, ':', bytes);
		end = colon ? colon : end;
	}
	size_t port_bytes = colon ? (size_t)(text + bytes - colon - 1) : 0;
	if (end == host || (size_t)(end - host) >= sizeof(post->host) || port_bytes >= sizeof(post->port) || (colon && !port_bytes))
		return false;
	snprintf(post->host, sizeof(post->host), "%.*s", (int)(end - host), host);
	snprintf(post->port, sizeof(post->port), "%.*s", colon ? (int)port_bytes : 2, colon ? colon + 1 : "80");
	snprintf(post->url, sizeof(post->url), strchr(post->host, ':') ? "http://[%s]:%s" : "http://%s:%s", post->host, post->port);
	return strspn(post->port, "0123456789") == strlen(post->port) && strspn(text + bytes, "/") == strlen(text + bytes);
}

/* The first address that the running process listens on. */
static bool running_read(struct ctl_post *post, const struct tp_config *config)
{
	const struct tp_live *live;
	int connection;
	if (tp_live_attach(config->data_dir, &live, &connection))
		return false;
	char first[sizeof(live->http)];
	snprintf(first, sizeof(first), "%.*s", (int)strcspn(live->http, ","), live->http);
	tp_live_unmap((struct tp_live *)(uintptr_t)live);
	close(connection);
	return first[0] && authority_read(post, first);
}

static bool configured_read(struct ctl_post *post, const struct tp_config *config)
{
	for (uint32_t i = 0; i < config->ingest_count; i++) {
		char text[TP_ENDPOINT_TEXT_BYTES];
		if (config->ingest[i].driver != TP_DRIVER_SOCKET || !config->ingest[i].http.addr.family ||
		    !config->ingest[i].http.port)
			continue;
		tp_endpoint_text(&config->ingest[i].http, text);
		return authority_read(post, text);
	}
	return false;
}

int ctl_post_open(struct ctl_post *post, const struct tp_config *config, const char *url, const char *token)
{
	*post = (struct ctl_post){.token = token};
	if (url) {
		if (strncmp(url, "http://", 7) == 0 && authority_read(post, url + 7))
			return 0;
		fprintf(stderr, "turnpikectl: --to: expected a URL such as http://127.0.0.1:8080, found \"%s\"\n", url);
		return 2;
	}
	if (running_read(post, config) || configured_read(post, config))
		return 0;
	fprintf(stderr, "turnpikectl: no HTTP address of the node is known: say --to http://ADDRESS:PORT\n");
	return 1;
}

static int post_connect(const struct ctl_post *post)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	const struct timeval limit = {.tv_sec = TIMEOUT_S};
	struct addrinfo *list = NULL;
	int fd = -1, rc = -EHOSTUNREACH;
	if (getaddrinfo(post->host, post->port, &hints, &list))
		return rc;
	for (const struct addrinfo *at = list; at && fd < 0; at = at->ai_next) {
		fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0) {
			rc = -errno;
			continue;
		}
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		if (connect(fd, at->ai_addr, at->ai_addrlen)) {
			rc = -errno;
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd < 0 ? rc : fd;
}

static int send_whole(int fd, const void *bytes, size_t count)
{
	for (size_t at = 0; at < count;) {
		ssize_t sent = send(fd, (const char *)bytes + at, count - at, MSG_NOSIGNAL);
		if (sent < 0 && errno != EINTR)
			return -errno;
		at += sent > 0 ? (size_t)sent : 0;
	}
	return 0;
}

/* All up to the end of the stream. */
static int receive_whole(int fd, char **text, size_t *count)
{
	size_t room = 64 << 10;
	*count = 0;
	*text = malloc(room);
	while (*text) {
		if (*count + 1 == room) {
			char *larger = room < CTL_POST_ANSWER_BYTES_MAX ? realloc(*text, room *= 2) : NULL;
			if (!larger)
				return -EFBIG;
			*text = larger;
		}
		ssize_t got = recv(fd, *text + *count, room - *count - 1, 0);
		if (got < 0 && errno != EINTR)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (!got) {
			(*text)[*count] = 0;
			return 0;
		}
		*count += got > 0 ? (size_t)got : 0;
	}
	return -ENOMEM;
}

static int exchange(const struct ctl_post *post, const char *head, const void *body, size_t bytes, unsigned *status, char **content)
{
	char *text = NULL;
	size_t count;
	int fd = post_connect(post);
	if (fd < 0)
		return fd;
	int rc = send_whole(fd, head, strlen(head));
	if (!rc && bytes)
		rc = send_whole(fd, body, bytes);
	if (!rc)
		rc = receive_whole(fd, &text, &count);
	close(fd);
	char *end = rc ? NULL : strstr(text, "\r\n\r\n");
	if (!rc && (!end || sscanf(text, "HTTP/1.1 %u", status) != 1))
		rc = -EPROTO;
	*content = rc ? NULL : strdup(end + 4);
	free(text);
	return rc || *content ? rc : -ENOMEM;
}

static int request(const struct ctl_post *post, const char *method, const char *target, const void *body, size_t bytes,
		   unsigned *status, char **content)
{
	char *head;
	char length[96] = "";
	if (body)
		snprintf(length, sizeof(length), "Content-Type: application/json\r\nContent-Length: %zu\r\n", bytes);
	int made = asprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s%s%s%s\r\n", method, target, post->url + 7,
			    post->token ? "Authorization: Bearer " : "", post->token ? post->token : "", post->token ? "\r\n" : "",
			    length);
	if (made < 0)
		return -ENOMEM;
	int rc = exchange(post, head, body, bytes, status, content);
	free(head);
	return rc;
}

int ctl_post_send(const struct ctl_post *post, const char *target, const void *body, size_t bytes, unsigned *status, char **content)
{
	return request(post, "POST", target, body, bytes, status, content);
}

int ctl_post_get(const struct ctl_post *post, const char *target, unsigned *status, char **content)
{
	return request(post, "GET", target, NULL, 0, status, content);
}
