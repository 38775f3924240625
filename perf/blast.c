/*
 * turnpike-blast: the load generator and replayer. Starts the workers, prints progress once a second on standard error, and a summary
 * on standard output. See blast.h for how the parts go together, blast_options.c for the command line.
 */
#include "blast.h"

#include "turnpike/text.h"
#include "turnpike/version.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic bool stop;
static _Atomic uint32_t running;

static void on_signal(int number)
{
	(void)number;
	if (atomic_exchange(&stop, true)) /* the second time: at once */
		_exit(1);
}

static void *worker_thread(void *argument)
{
	struct blast_worker *worker = argument;
	switch (worker->options->protocol) {
	case BLAST_HTTP:
		blast_http_run(worker);
		break;
	case BLAST_TEXT:
		blast_text_run(worker);
		break;
	case BLAST_BATCH:
		blast_batch_run(worker);
		break;
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

/* The sum of all workers at one moment. */
static struct blast_tally *total(const struct blast_worker *workers, uint32_t count)
{
	struct blast_tally *sum = blast_alloc(NULL, sizeof *sum);
	memset(sum, 0, sizeof *sum);
	for (uint32_t i = 0; i < count; i++) {
		const struct blast_tally *t = workers[i].tally;
		blast_add(&sum->sent, blast_get(&t->sent));
		blast_add(&sum->copies, blast_get(&t->copies));
		blast_add(&sum->acked, blast_get(&t->acked));
		blast_add(&sum->rejected, blast_get(&t->rejected));
		blast_add(&sum->failed, blast_get(&t->failed));
		blast_add(&sum->sends, blast_get(&t->sends));
		blast_add(&sum->retries, blast_get(&t->retries));
		blast_add(&sum->lost, blast_get(&t->lost));
		blast_add(&sum->accepted, blast_get(&t->accepted));
		blast_add(&sum->duplicates, blast_get(&t->duplicates));
		blast_add(&sum->late, blast_get(&t->late));
		blast_add(&sum->conflicts, blast_get(&t->conflicts));
		for (int status = 0; status < 600; status++)
			blast_add(&sum->status[status], blast_get(&t->status[status]));
		blast_histogram_merge(&sum->latency, &t->latency);
	}
	return sum;
}

static double at_us(const struct blast_tally *sum, double share)
{
	return (double)blast_histogram_at(&sum->latency, share) / 1000;
}

/* A line a second until all workers have ended. */
static void progress(const struct blast_options *options, const struct blast_worker *workers, uint64_t begin_ns)
{
	uint64_t last_ns = begin_ns, last_events = 0;
	while (atomic_load(&running) > 0) {
		usleep(20000);
		uint64_t now_ns = tp_mono_ns();
		if (now_ns - last_ns < 1000000000ULL || options->quiet)
			continue;
		struct blast_tally *sum = total(workers, options->threads);
		uint64_t events = options->protocol == BLAST_TEXT ? blast_get(&sum->sent) : blast_get(&sum->acked);
		fprintf(stderr,
			"%.0fs sent=%" PRIu64 " acknowledged=%" PRIu64 " rate=%.0f/s p50=%.0fus p99=%.0fus retries=%" PRIu64
			" lost=%" PRIu64 " failed=%" PRIu64 "\n",
			(double)(now_ns - begin_ns) / 1e9, blast_get(&sum->sent), blast_get(&sum->acked),
			(double)(events - last_events) * 1e9 / (double)(now_ns - last_ns), at_us(sum, 0.5), at_us(sum, 0.99),
			blast_get(&sum->retries), blast_get(&sum->lost), blast_get(&sum->failed) + blast_get(&sum->rejected));
		last_ns = now_ns;
		last_events = events;
		free(sum);
	}
}

struct summary {
	const struct blast_options *options;
	const struct blast_tally *sum;
	uint64_t unacknowledged, invalid;
	double seconds, rate;
};

static void summary_text(const struct summary *s)
{
	const struct blast_tally *sum = s->sum;
	printf("sent %" PRIu64 " events (%" PRIu64 " of them copies) in %.3f s, %.0f events/s\n", blast_get(&sum->sent),
	       blast_get(&sum->copies), s->seconds, s->rate);
	if (s->options->protocol != BLAST_TEXT)
		printf("acknowledged %" PRIu64 ", rejected %" PRIu64 ", failed %" PRIu64 ", unacknowledged %" PRIu64 "\n",
		       blast_get(&sum->acked), blast_get(&sum->rejected), blast_get(&sum->failed), s->unacknowledged);
	else if (blast_get(&sum->failed))
		printf("failed %" PRIu64 "\n", blast_get(&sum->failed));
	if (s->options->protocol == BLAST_BATCH || s->options->report)
		printf("accepted %" PRIu64 ", duplicates %" PRIu64 ", late %" PRIu64 ", conflicts %" PRIu64 "\n",
		       blast_get(&sum->accepted), blast_get(&sum->duplicates), blast_get(&sum->late), blast_get(&sum->conflicts));
	printf("%s %" PRIu64 ", sent again %" PRIu64 ", connections lost %" PRIu64 "\n",
	       s->options->protocol == BLAST_HTTP ? "requests" : "datagrams", blast_get(&sum->sends), blast_get(&sum->retries),
	       blast_get(&sum->lost));
	for (int status = 100; status < 600; status++)
		if (blast_get(&sum->status[status]))
			printf("HTTP %d: %" PRIu64 "\n", status, blast_get(&sum->status[status]));
	if (blast_histogram_count(&sum->latency))
		printf("latency us: p50 %.0f, p90 %.0f, p99 %.0f, p99.9 %.0f, max %.0f\n", at_us(sum, 0.5), at_us(sum, 0.9),
		       at_us(sum, 0.99), at_us(sum, 0.999), (double)blast_get(&sum->latency.max) / 1000);
	if (s->invalid)
		printf("left out %" PRIu64 " lines that hold no valid event\n", s->invalid);
}

static void json_text(const char *name, const char *text)
{
	printf("\"%s\":\"", name);
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			printf("\\u%04x", *text);
		else
			putchar(*text);
	printf("\",");
}

static void summary_json(const struct summary *s)
{
	const struct blast_tally *sum = s->sum;
	putchar('{');
	json_text("target", s->options->target);
	printf("\"seconds\":%.6f,\"sent\":%" PRIu64 ",\"copies\":%" PRIu64 ",", s->seconds, blast_get(&sum->sent),
	       blast_get(&sum->copies));
	if (s->options->protocol != BLAST_TEXT)
		printf("\"acknowledged\":%" PRIu64 ",\"unacknowledged\":%" PRIu64 ",", blast_get(&sum->acked), s->unacknowledged);
	else
		printf("\"acknowledged\":null,\"unacknowledged\":null,");
	printf("\"rejected\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"invalid_lines\":%" PRIu64 ",\"rate\":%.1f,",
	       blast_get(&sum->rejected), blast_get(&sum->failed), s->invalid, s->rate);
	printf("\"%s\":%" PRIu64 ",\"retries\":%" PRIu64 ",\"lost\":%" PRIu64 ",",
	       s->options->protocol == BLAST_HTTP ? "requests" : "datagrams", blast_get(&sum->sends), blast_get(&sum->retries),
	       blast_get(&sum->lost));
	printf("\"verdicts\":{\"accepted\":%" PRIu64 ",\"duplicates\":%" PRIu64 ",\"late\":%" PRIu64 ",\"conflicts\":%" PRIu64 "},",
	       blast_get(&sum->accepted), blast_get(&sum->duplicates), blast_get(&sum->late), blast_get(&sum->conflicts));
	printf("\"statuses\":{");
	const char *comma = "";
	for (int status = 100; status < 600; status++) {
		if (blast_get(&sum->status[status])) {
			printf("%s\"%d\":%" PRIu64, comma, status, blast_get(&sum->status[status]));
			comma = ",";
		}
	}
	printf("},\"latency_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"mean\":%.1f}}\n",
	       at_us(sum, 0.5), at_us(sum, 0.9), at_us(sum, 0.99), at_us(sum, 0.999), (double)blast_get(&sum->latency.max) / 1000,
	       (double)blast_histogram_mean(&sum->latency) / 1000);
}

static bool worker_init(struct blast_worker *worker, const struct blast_options *options, uint32_t thread, int ledger_fd)
{
	*worker = (struct blast_worker){.options = options, .thread = thread, .stop = &stop, .ledger_fd = ledger_fd};
	worker->tally = blast_alloc(NULL, sizeof *worker->tally);
	memset(worker->tally, 0, sizeof *worker->tally);
	unsigned want =
		(options->protocol == BLAST_BATCH ? BLAST_WANT_FIELDS : BLAST_WANT_JSON) | (ledger_fd >= 0 ? BLAST_WANT_LEDGER : 0);
	worker->source = blast_source_open(options, thread, want);
	return worker->source;
}

static int run(const struct blast_options *options, int ledger_fd)
{
	struct blast_worker *workers = blast_alloc(NULL, options->threads * sizeof *workers);
	pthread_t *threads = blast_alloc(NULL, options->threads * sizeof *threads);
	for (uint32_t i = 0; i < options->threads; i++) {
		if (worker_init(&workers[i], options, i, ledger_fd))
			continue;
		free(workers[i].tally);
		while (i-- > 0) {
			blast_source_close(workers[i].source);
			free(workers[i].tally);
		}
		free(workers);
		free(threads);
		return 1;
	}
	uint64_t begin_ns = tp_mono_ns();
	atomic_store(&running, options->threads);
	for (uint32_t i = 0; i < options->threads; i++) {
		int error = pthread_create(&threads[i], NULL, worker_thread, &workers[i]);
		if (error) {
			fprintf(stderr, "turnpike-blast: cannot start a thread: %s\n", strerror(error));
			_exit(1);
		}
	}
	progress(options, workers, begin_ns);
	for (uint32_t i = 0; i < options->threads; i++)
		pthread_join(threads[i], NULL);

	struct blast_tally *sum = total(workers, options->threads);
	struct summary s = {.options = options, .sum = sum, .seconds = (double)(tp_mono_ns() - begin_ns) / 1e9};
	uint64_t settled = blast_get(&sum->acked) + blast_get(&sum->rejected) + blast_get(&sum->failed);
	uint64_t done = options->protocol == BLAST_TEXT ? blast_get(&sum->sent) : blast_get(&sum->acked);
	s.unacknowledged = blast_get(&sum->sent) - settled;
	s.rate = s.seconds > 0 ? (double)done / s.seconds : 0;
	bool broken = false;
	for (uint32_t i = 0; i < options->threads; i++) {
		s.invalid += blast_source_invalid(workers[i].source);
		broken |= atomic_load(&workers[i].broken);
		blast_source_close(workers[i].source);
		free(workers[i].ledger);
		free(workers[i].tally);
	}
	if (options->json)
		summary_json(&s);
	else
		summary_text(&s);
	bool good = !broken && s.invalid == 0 && blast_get(&sum->rejected) == 0 && blast_get(&sum->failed) == 0 &&
		    (options->protocol == BLAST_TEXT || s.unacknowledged == 0);
	free(sum);
	free(workers);
	free(threads);
	return good ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct blast_options options;
	if (argc == 2 && !strcmp(argv[1], "--version")) {
		printf("turnpike-blast %s\n", tp_version);
		return 0;
	}
	int parsed = blast_options_parse(&options, argc, argv);
	if (parsed)
		return parsed > 0 ? 0 : 2;
	int ledger_fd = -1;
	if (options.ledger) {
		ledger_fd = open(options.ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (ledger_fd < 0) {
			fprintf(stderr, "turnpike-blast: cannot open the ledger %s: %s\n", options.ledger, strerror(errno));
			return 1;
		}
	}
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	int status = run(&options, ledger_fd);
	if (ledger_fd >= 0 && close(ledger_fd)) {
		fprintf(stderr, "turnpike-blast: cannot write the ledger %s: %s\n", options.ledger, strerror(errno));
		status = 1;
	}
	return status;
}
