/*
 * The UDP workers. One thread each.
 *
 * Text: datagrams of one or more lines, fire and forget, spread over the sockets in turn.
 * Batch: one client of the library (client/) per connection. What was put into each batch is remembered until its acknowledgement, for
 * the ledger; the numbers of a client only grow and its window is bounded, so a ring by number is enough.
 */
#include "blast.h"

#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TEXT_BURST = 32, TEXT_BYTES_MAX = 65507, FEED_BURST = 256 };
#define MS 1000000ULL

/* ---- text ---- */

struct text {
	char *bytes[TEXT_BURST];
	uint32_t used[TEXT_BURST], events[TEXT_BURST];
	uint32_t count;
	struct blast_item held; /* an event that did not fit into the last datagram */
	bool holds, said;
};

/* Fills datagrams with what is due. */
static void text_fill(struct blast_worker *worker, struct text *text, uint64_t now_ns)
{
	const struct blast_options *options = worker->options;
	for (text->count = 0; text->count < TEXT_BURST; text->count++) {
		uint32_t used = 0, events = 0;
		char *bytes = text->bytes[text->count];
		while (events < options->batch) {
			if (!text->holds && (!blast_pace_due(worker, now_ns) || !blast_worker_next(worker, &text->held)))
				break;
			const struct blast_item *item = &text->held;
			uint32_t room = options->datagram_bytes > item->json_bytes ? options->datagram_bytes : item->json_bytes;
			text->holds = used + item->json_bytes + (used > 0) > room;
			if (text->holds)
				break;
			if (used > 0)
				bytes[used++] = '\n';
			memcpy(bytes + used, item->json, item->json_bytes);
			used += item->json_bytes;
			events++;
		}
		if (events == 0)
			return;
		text->used[text->count] = used;
		text->events[text->count] = events;
	}
}

static void text_send(struct blast_worker *worker, struct text *text, int fd)
{
	struct mmsghdr message[TEXT_BURST];
	struct iovec part[TEXT_BURST];
	memset(message, 0, sizeof message);
	for (uint32_t i = 0; i < text->count; i++) {
		part[i] = (struct iovec){.iov_base = text->bytes[i], .iov_len = text->used[i]};
		message[i].msg_hdr = (struct msghdr){.msg_iov = &part[i], .msg_iovlen = 1};
	}
	for (uint32_t at = 0; at < text->count;) {
		int sent = sendmmsg(fd, message + at, text->count - at, 0);
		if (sent >= 0) {
			blast_add(&worker->tally->sends, (uint64_t)sent);
			at += (uint32_t)sent;
		} else if (errno == EAGAIN || errno == ENOBUFS) {
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 1);
		} else if (errno == ECONNREFUSED && worker->options->retry) {
			blast_add(&worker->tally->lost, 1); /* news of an earlier datagram; this one was not sent: try it again */
			blast_add(&worker->tally->retries, 1);
		} else if (errno != EINTR) {
			if (!text->said)
				fprintf(stderr, "turnpike-blast: cannot send: %s\n", strerror(errno));
			text->said = true;
			blast_add(&worker->tally->failed, text->events[at]);
			at++;
		}
	}
}

void blast_text_run(struct blast_worker *worker)
{
	const struct blast_options *options = worker->options;
	int *fd = blast_alloc(NULL, options->connections * sizeof *fd);
	for (uint32_t i = 0; i < options->connections; i++) {
		fd[i] = blast_connect(&options->to, SOCK_DGRAM);
		if (fd[i] < 0) {
			fprintf(stderr, "turnpike-blast: cannot open a socket to %s: %s\n", options->target, strerror(-fd[i]));
			atomic_store(&worker->broken, true);
		}
	}
	struct text text = {0};
	for (int i = 0; i < TEXT_BURST; i++)
		text.bytes[i] = blast_alloc(NULL, 2 * (TEXT_BYTES_MAX + 1));
	blast_pace_init(worker, tp_mono_ns());
	for (uint32_t turn = 0; !atomic_load(&worker->broken); turn++) {
		uint64_t now_ns = tp_mono_ns();
		text_fill(worker, &text, now_ns);
		if (text.count > 0) {
			text_send(worker, &text, fd[turn % options->connections]);
		} else if (worker->pace.ended) {
			break;
		} else {
			uint64_t due_ns = blast_pace_due_ns(worker);
			if (due_ns > now_ns)
				poll(NULL, 0, (int)((due_ns - now_ns) / MS) + 1);
		}
	}
	for (int i = 0; i < TEXT_BURST; i++)
		free(text.bytes[i]);
	for (uint32_t i = 0; i < options->connections; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	free(fd);
}

/* ---- batches ---- */

/* What a batch holds, until it is acknowledged. */
struct batch {
	uint64_t number, due_ns;
	struct blast_lines lines;
	bool used;
};

struct sender {
	struct blast_worker *worker;
	struct tpc_client *client;
	struct batch *batch;
	uint32_t batch_mask;
	bool said;
};

static struct batch *batch_at(struct sender *sender, uint64_t number)
{
	return &sender->batch[number & sender->batch_mask];
}

static void batch_acknowledged(void *context, const struct tpc_ack *ack)
{
	struct sender *sender = context;
	struct blast_tally *tally = sender->worker->tally;
	struct batch *batch = batch_at(sender, ack->batch);
	if (!batch->used || batch->number != ack->batch || batch->lines.events != ack->events)
		abort(); /* the ring and the client's window have lost each other */
	batch->used = false;
	uint32_t skip[64], skipped = 0;
	for (; skipped < ack->listed && skipped < 64; skipped++)
		skip[skipped] = ack->rejects[skipped].index;
	/* which others were rejected is not known: then none of this batch is in the ledger */
	if (skipped == ack->rejected)
		blast_lines_commit(&batch->lines, sender->worker, skip, skipped);
	if (ack->rejected > 0 && !sender->said) {
		fprintf(stderr, "turnpike-blast: %" PRIu32 " of %" PRIu32 " events of a batch were rejected", ack->rejected,
			ack->events);
		if (ack->listed > 0)
			fprintf(stderr, ", the first for reason %u, field %u (docs/protocol.md)", ack->rejects[0].reason,
				ack->rejects[0].field);
		fprintf(stderr, "\n");
		sender->said = true;
	}
	blast_add(&tally->acked, ack->events - ack->rejected);
	blast_add(&tally->rejected, ack->rejected);
	blast_add(&tally->accepted, ack->accepted);
	blast_add(&tally->duplicates, ack->duplicates);
	blast_add(&tally->late, ack->late);
	blast_add(&tally->conflicts, ack->conflicts);
	blast_add(&tally->sends, ack->sends);
	blast_add(&tally->retries, ack->sends - 1);
	uint64_t latency_ns = ack->latency_ns;
	if (sender->worker->pace.ns_per_event > 0)
		latency_ns = tp_mono_ns() - batch->due_ns;
	blast_histogram_add(&tally->latency, latency_ns);
}

static bool sender_open(struct sender *sender, struct blast_worker *worker, uint32_t which)
{
	const struct blast_options *options = worker->options;
	char host[TP_ADDR_TEXT_BYTES];
	tp_addr_text(&options->to.addr, host);
	struct tpc_options client = {.host = host,
				     .port = options->to.port,
				     .window = options->window,
				     .datagram_bytes = options->datagram_bytes,
				     .source_id = options->source_id ? options->source_id + which : 0};
	*sender = (struct sender){.worker = worker};
	uint32_t ring = 64;
	while (ring < 8 * options->window)
		ring *= 2;
	sender->batch_mask = ring - 1;
	sender->batch = blast_alloc(NULL, ring * sizeof *sender->batch);
	memset(sender->batch, 0, ring * sizeof *sender->batch);
	sender->client = tpc_open(&client, batch_acknowledged, sender);
	if (!sender->client)
		fprintf(stderr, "turnpike-blast: cannot open a client to %s: %s\n", options->target, strerror(errno));
	return sender->client;
}

static void sender_close(struct sender *sender)
{
	tpc_close(sender->client);
	for (uint32_t i = 0; i <= sender->batch_mask; i++)
		blast_lines_free(&sender->batch[i].lines);
	free(sender->batch);
}

/* Notes what tpc_add() has just put into a batch. */
static void batch_note(struct sender *sender, const struct blast_item *item, uint64_t due_ns)
{
	uint64_t number = tpc_batch(sender->client);
	struct batch *batch = batch_at(sender, number);
	if (!batch->used) {
		batch->used = true;
		batch->number = number;
		blast_lines_clear(&batch->lines);
	}
	batch->due_ns = due_ns;
	blast_lines_add(&batch->lines, item->ledger, item->ledger_bytes);
}

struct batch_loop {
	struct blast_worker *worker;
	struct sender *sender;
	struct blast_item item;
	bool holds; /* item waits for room in a window */
	uint64_t item_due_ns;
};

/* Gives due events to one client, a burst. True if any. */
static bool sender_feed(struct batch_loop *loop, struct sender *sender, uint64_t now_ns)
{
	struct blast_worker *worker = loop->worker;
	bool fed = false;
	for (int i = 0; i < FEED_BURST; i++) {
		if (!loop->holds) {
			if (!blast_pace_due(worker, now_ns))
				break;
			loop->item_due_ns = blast_pace_due_ns(worker);
			if (!blast_worker_next(worker, &loop->item))
				break;
		}
		int fault = tpc_add(sender->client, &loop->item.fields);
		loop->holds = fault == -EAGAIN;
		if (loop->holds)
			break;
		fed = true;
		if (fault) {
			if (!sender->said)
				fprintf(stderr, "turnpike-blast: event %s cannot be sent as a batch: %s\n",
					loop->item.fields.event_id, strerror(-fault));
			sender->said = true;
			blast_add(&worker->tally->failed, 1);
			continue;
		}
		batch_note(sender, &loop->item, loop->item_due_ns);
		if (tpc_pending(sender->client) >= worker->options->batch) {
			tpc_flush(sender->client);
			break; /* the next client's turn */
		}
	}
	return fed;
}

/* Waits for an acknowledgement, or for the next event to be due. */
static void batch_wait(const struct batch_loop *loop, uint64_t now_ns)
{
	const struct blast_worker *worker = loop->worker;
	uint64_t wait_ns = 2 * MS; /* so that overdue batches are sent again */
	if (!worker->pace.ended && !loop->holds) {
		uint64_t due_ns = blast_pace_due_ns(worker);
		if (due_ns < now_ns + wait_ns)
			wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	}
	struct pollfd fd[64];
	uint32_t count = worker->options->connections < 64 ? worker->options->connections : 64;
	for (uint32_t i = 0; i < count; i++)
		fd[i] = (struct pollfd){.fd = tpc_fd(loop->sender[i].client), .events = POLLIN};
	struct timespec wait = {.tv_nsec = (long)wait_ns};
	(void)ppoll(fd, count, &wait, NULL);
}

static void batch_run(struct batch_loop *loop)
{
	struct blast_worker *worker = loop->worker;
	const struct blast_options *options = worker->options;
	uint64_t ended_ns = 0;
	while (!atomic_load_explicit(&worker->broken, memory_order_relaxed)) {
		uint64_t now_ns = tp_mono_ns();
		bool fed = false;
		uint64_t owed = 0, acked = blast_get(&worker->tally->acked);
		for (uint32_t i = 0; i < options->connections; i++) {
			struct sender *sender = &loop->sender[i];
			fed |= sender_feed(loop, sender, now_ns);
			/* nothing more is due: an open batch must not wait for company */
			if (worker->pace.ended || (worker->pace.ns_per_event > 0 && blast_pace_due_ns(worker) > now_ns + 2 * MS))
				tpc_flush(sender->client);
			int unacknowledged = tpc_poll(sender->client, 0);
			if (unacknowledged < 0) {
				fprintf(stderr, "turnpike-blast: the socket failed: %s\n", strerror(-unacknowledged));
				atomic_store(&worker->broken, true);
				break;
			}
			owed += (uint64_t)unacknowledged + (tpc_pending(sender->client) > 0);
		}
		if (worker->ledger_bytes > 0 && blast_ledger_write(worker))
			return;
		if (worker->pace.ended && !loop->holds) {
			if (owed == 0)
				return;
			if (!ended_ns)
				ended_ns = now_ns;
			if (blast_drain_over(worker, ended_ns, now_ns))
				return;
		}
		if (!fed && acked == blast_get(&worker->tally->acked))
			batch_wait(loop, now_ns);
	}
}

void blast_batch_run(struct blast_worker *worker)
{
	const struct blast_options *options = worker->options;
	struct batch_loop loop = {.worker = worker};
	loop.sender = blast_alloc(NULL, options->connections * sizeof *loop.sender);
	uint32_t opened = 0;
	while (opened < options->connections &&
	       sender_open(&loop.sender[opened], worker, worker->thread * options->connections + opened))
		opened++;
	blast_pace_init(worker, tp_mono_ns());
	if (opened == options->connections) {
		batch_run(&loop);
	} else {
		atomic_store(&worker->broken, true);
		sender_close(&loop.sender[opened]);
	}
	for (uint32_t i = 0; i < opened; i++)
		sender_close(&loop.sender[i]);
	free(loop.sender);
}
