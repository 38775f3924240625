/*
 * What all workers need: pace, ledger, connecting. Each thread has its own; see blast.h.
 *
 * Pace: event k is due at begin + k / rate, whatever became of the events before. Latency counts from there, so a node that stalls
 * is charged for the events that could not be sent meanwhile (no coordinated omission). Without a rate everything is due at once,
 * and latency counts from the first send.
 */
#include "blast.h"

#include "turnpike/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void blast_pace_init(struct blast_worker *worker, uint64_t now_ns)
{
	const struct blast_options *options = worker->options;
	struct blast_pace *pace = &worker->pace;
	*pace = (struct blast_pace){.begin_ns = now_ns, .until_ns = UINT64_MAX, .limit = UINT64_MAX};
	if (options->duration_ns)
		pace->until_ns = now_ns + options->duration_ns;
	if (options->rate > 0)
		pace->ns_per_event = 1e9 * options->threads / options->rate;
	if (options->events) /* the first threads take what does not divide */
		pace->limit = options->events / options->threads + (worker->thread < options->events % options->threads);
	pace->ended = pace->limit == 0;
}

uint64_t blast_pace_due_ns(const struct blast_worker *worker)
{
	return worker->pace.begin_ns + (uint64_t)((double)worker->pace.given * worker->pace.ns_per_event);
}

bool blast_pace_due(struct blast_worker *worker, uint64_t now_ns)
{
	struct blast_pace *pace = &worker->pace;
	if (pace->given >= pace->limit || now_ns >= pace->until_ns || atomic_load_explicit(worker->stop, memory_order_relaxed))
		pace->ended = true;
	return !pace->ended && (pace->ns_per_event <= 0 || blast_pace_due_ns(worker) <= now_ns);
}

bool blast_worker_next(struct blast_worker *worker, struct blast_item *item)
{
	if (!blast_source_next(worker->source, item)) {
		worker->pace.ended = true;
		return false;
	}
	worker->pace.given++;
	blast_add(&worker->tally->sent, 1);
	blast_add(&worker->tally->copies, item->copy);
	return true;
}

bool blast_drain_over(const struct blast_worker *worker, uint64_t ended_ns, uint64_t now_ns)
{
	static const uint64_t stopped_ns = 5000000000ULL;
	uint64_t limit_ns = worker->options->drain_ns ? worker->options->drain_ns : UINT64_MAX;
	if (atomic_load_explicit(worker->stop, memory_order_relaxed) && limit_ns > stopped_ns)
		limit_ns = stopped_ns;
	return now_ns - ended_ns > limit_ns;
}

void blast_ledger_add(struct blast_worker *worker, const char *lines, size_t bytes)
{
	if (worker->ledger_fd < 0 || bytes == 0)
		return;
	if (worker->ledger_bytes + bytes > worker->ledger_room) {
		worker->ledger_room = 2 * (worker->ledger_bytes + bytes);
		worker->ledger = blast_alloc(worker->ledger, worker->ledger_room);
	}
	memcpy(worker->ledger + worker->ledger_bytes, lines, bytes);
	worker->ledger_bytes += bytes;
}

/* One write: whole lines, behind what other threads append. After it the lines outlive this process. */
int blast_ledger_write(struct blast_worker *worker)
{
	size_t done = 0;
	while (done < worker->ledger_bytes) {
		ssize_t wrote = write(worker->ledger_fd, worker->ledger + done, worker->ledger_bytes - done);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0) {
			fprintf(stderr, "turnpike-blast: cannot write the ledger %s: %s\n", worker->options->ledger,
				strerror(errno));
			atomic_store(&worker->broken, true);
			return -errno;
		}
		done += (size_t)wrote;
	}
	worker->ledger_bytes = 0;
	return 0;
}

void blast_lines_clear(struct blast_lines *lines)
{
	lines->bytes = lines->events = 0;
}

void blast_lines_add(struct blast_lines *lines, const char *line, uint32_t bytes)
{
	if (lines->events == lines->events_room) {
		lines->events_room = lines->events_room ? 2 * lines->events_room : 16;
		lines->end = blast_alloc(lines->end, lines->events_room * sizeof *lines->end);
	}
	if (lines->bytes + bytes > lines->room) {
		lines->room = 2 * (lines->bytes + bytes);
		lines->text = blast_alloc(lines->text, lines->room);
	}
	if (bytes > 0)
		memcpy(lines->text + lines->bytes, line, bytes);
	lines->bytes += bytes;
	lines->end[lines->events++] = lines->bytes;
}

void blast_lines_commit(const struct blast_lines *lines, struct blast_worker *worker, const uint32_t *skip, uint32_t skipped)
{
	uint32_t from = 0;
	for (uint32_t i = 0; i < skipped; i++) {
		if (skip[i] >= lines->events)
			break;
		uint32_t begin = skip[i] > 0 ? lines->end[skip[i] - 1] : 0;
		if (begin > from)
			blast_ledger_add(worker, lines->text + from, begin - from);
		from = lines->end[skip[i]];
	}
	if (lines->bytes > from)
		blast_ledger_add(worker, lines->text + from, lines->bytes - from);
}

void blast_lines_free(struct blast_lines *lines)
{
	free(lines->text);
	free(lines->end);
}

int blast_connect(const struct tp_endpoint *to, int type)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(to->port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(to->port)};
	memcpy(&v4.sin_addr, to->addr.byte + 12, 4);
	memcpy(&v6.sin6_addr, to->addr.byte, 16);
	bool is_v4 = to->addr.family == 4;
	int fd = socket(is_v4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM) {
		int on = 1;
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	} else {
		int bytes = 4 << 20;
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	}
	if (connect(fd, is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6, is_v4 ? sizeof v4 : sizeof v6) &&
	    errno != EINPROGRESS) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}
