/*
 * The command socket, <data_dir>/turnpike.sock: one line of text there, one line of JSON back, with it possibly a file descriptor.
 * Commands: docs/command-socket.md. Both sides' framing is here; what a command does is the data process's business.
 *
 * A socket address holds 107 bytes of path, a folder may have 4,095: the folder is then opened, and the socket reached through
 * /proc/self/fd/<folder>/turnpike.sock.
 *
 * Cold code; any one thread per connection. Every wait has one deadline, so a stuck peer costs a caller 5 s at most.
 */
#include "turnpike/live.h"
#include "turnpike/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME "turnpike.sock"
#define PEER_NS     5000000000ULL

enum { SOCKET_MODE = 0660, BACKLOG = 16, PASSED_MAX = 8 };

/* 0 or -errno; *dirfd is a folder to close after use, or -1. */
static int address_make(const char *data_dir, struct sockaddr_un *address, int *dirfd)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	*dirfd = -1;
	int n = snprintf(address->sun_path, sizeof(address->sun_path), "%s/" SOCKET_NAME, data_dir);
	if (n >= 0 && (size_t)n < sizeof(address->sun_path))
		return 0;
	*dirfd = open(data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dirfd < 0)
		return -errno;
	snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/" SOCKET_NAME, *dirfd);
	return 0;
}

static int close_both(int fd, int dirfd, int result)
{
	if (fd >= 0)
		close(fd);
	if (dirfd >= 0)
		close(dirfd);
	return result;
}

int tp_command_listen(const char *data_dir)
{
	struct sockaddr_un address;
	int dirfd, rc = address_make(data_dir, &address, &dirfd);
	if (rc != 0)
		return rc;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return close_both(-1, dirfd, -errno);
	/* the lock of the data folder says that no live process owns what lies there */
	if (unlink(address.sun_path) != 0 && errno != ENOENT)
		return close_both(fd, dirfd, -errno);
	/* before bind: the file is never open to more than it will be, whatever the umask; after it: never to less */
	if (fchmod(fd, SOCKET_MODE) != 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    chmod(address.sun_path, SOCKET_MODE) != 0 || listen(fd, BACKLOG) != 0)
		return close_both(fd, dirfd, -errno);
	return close_both(-1, dirfd, fd);
}

int tp_command_connect(const char *data_dir)
{
	struct sockaddr_un address;
	int dirfd, rc = address_make(data_dir, &address, &dirfd);
	if (rc != 0)
		return rc;
	/* without blocking: a full backlog is -EAGAIN, not a wait without end */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return close_both(-1, dirfd, -errno);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return close_both(fd, dirfd, -errno);
	return close_both(-1, dirfd, fd);
}

/* Waits until fd is ready for `events` or the deadline has passed. 0, -ETIMEDOUT or -errno. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		uint64_t now = tp_mono_ns();
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		struct pollfd poller = {.fd = fd, .events = events};
		int n = poll(&poller, 1, (int)((deadline_ns - now) / 1000000) + 1);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* Sends text and a newline, the descriptor with the first byte. The text and its newline go in one call where they fit. */
static int line_send(int fd, const char *text, int passed_fd, uint64_t deadline_ns)
{
	size_t bytes = strlen(text) + 1, sent = 0;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;

	while (sent < bytes) {
		char newline = '\n';
		struct iovec part[2] = {
			{.iov_base = (void *)(uintptr_t)(text + sent), .iov_len = bytes - 1 - sent},
			{.iov_base = &newline, .iov_len = 1},
		};
		struct msghdr message = {.msg_iov = part, .msg_iovlen = 2};
		if (passed_fd >= 0 && sent == 0) {
			memset(&control, 0, sizeof(control));
			message.msg_control = &control;
			message.msg_controllen = sizeof(control);
			struct cmsghdr *header = CMSG_FIRSTHDR(&message);
			header->cmsg_level = SOL_SOCKET;
			header->cmsg_type = SCM_RIGHTS;
			header->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(header), &passed_fd, sizeof(int));
		}
		ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			sent += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		int rc = wait_for(fd, POLLOUT, deadline_ns);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int tp_command_answer(int fd, const char *json, int passed_fd)
{
	return line_send(fd, json, passed_fd, tp_mono_ns() + PEER_NS);
}

int tp_command_receive(int fd, char *line, size_t bytes)
{
	assert(bytes > 1);
	ssize_t n = recv(fd, line, bytes, MSG_PEEK | MSG_DONTWAIT);
	if (n == 0)
		return -ECONNRESET;
	if (n < 0)
		return errno == EINTR || errno == EWOULDBLOCK ? -EAGAIN : -errno;
	char *end = memchr(line, '\n', (size_t)n);
	if (!end)
		return (size_t)n == bytes ? -EMSGSIZE : -EPROTO;
	size_t length = (size_t)(end - line);
	if (memchr(line, '\0', length))
		return -EPROTO;
	/* the peeked line is there, so this neither waits nor falls short */
	if (recv(fd, line, length + 1, MSG_DONTWAIT) != (ssize_t)length + 1)
		return -EPROTO;
	line[length] = '\0';
	return (int)length;
}

/* Keeps the first descriptor of a message for *passed_fd, closes all others. */
static void passed_take(struct msghdr *message, int *passed_fd)
{
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
			if (*passed_fd < 0)
				*passed_fd = fd;
			else
				close(fd);
		}
	}
}

static int answer_receive(int fd, char *answer, size_t answer_bytes, int *passed_fd, uint64_t deadline_ns)
{
	size_t have = 0;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(PASSED_MAX * sizeof(int))];
	} control;

	for (;;) {
		if (have == answer_bytes)
			return -EMSGSIZE;
		struct iovec part = {.iov_base = answer + have, .iov_len = answer_bytes - have};
		struct msghdr message = {
			.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				return -errno;
			int rc = wait_for(fd, POLLIN, deadline_ns);
			if (rc != 0)
				return rc;
			continue;
		}
		passed_take(&message, passed_fd);
		char *end = memchr(answer + have, '\n', (size_t)n);
		have += (size_t)n;
		if (!end)
			continue;
		if (end + 1 != answer + have)
			return -EPROTO;
		*end = '\0';
		return 0;
	}
}

static int call(int fd, const char *line, char *answer, size_t answer_bytes, int *passed_fd, uint64_t wait_ns)
{
	uint64_t now_ns = tp_mono_ns();
	int passed = -1;

	if (passed_fd)
		*passed_fd = -1;
	if (strchr(line, '\n') || strlen(line) >= TP_COMMAND_BYTES_MAX)
		return -EINVAL;
	int rc = line_send(fd, line, -1, now_ns + PEER_NS);
	if (rc == 0)
		rc = answer_receive(fd, answer, answer_bytes, &passed, now_ns + wait_ns);
	if (rc == 0 && passed_fd)
		*passed_fd = passed;
	else if (passed >= 0)
		close(passed);
	return rc;
}

int tp_command_call(int fd, const char *line, char *answer, size_t answer_bytes, int *passed_fd)
{
	return call(fd, line, answer, answer_bytes, passed_fd, PEER_NS);
}

int tp_command_call_long(int fd, const char *line, char *answer, size_t answer_bytes, uint32_t wait_ms)
{
	return call(fd, line, answer, answer_bytes, NULL, wait_ms * 1000000ULL);
}

int tp_live_attach(const char *data_dir, const struct tp_live **live, int *connection)
{
	char answer[TP_COMMAND_BYTES_MAX];
	int passed = -1;

	int fd = tp_command_connect(data_dir);
	if (fd < 0)
		return fd;
	int rc = tp_command_call(fd, "attach", answer, sizeof(answer), &passed);
	if (rc == 0)
		rc = passed < 0 ? -EPROTO : tp_live_map(passed, live);
	if (passed >= 0)
		close(passed);
	if (rc != 0)
		return close_both(fd, -1, rc);
	*connection = fd;
	return 0;
}
