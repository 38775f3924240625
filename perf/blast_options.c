/*
 * The command line of turnpike-blast.
 */
#include "blast.h"

#include "turnpike/text.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: turnpike-blast --to TARGET [options]\n"
	"\n"
	"Sends synthetic ad events, or replays a file of JSON lines, and says how they were acknowledged.\n"
	"\n"
	"  --to TARGET          http://ADDRESS:PORT[/path]   POST, acknowledged\n"
	"                       batch://ADDRESS:PORT         UDP batches, acknowledged\n"
	"                       udp://ADDRESS:PORT           UDP text, fire and forget\n"
	"  --events N           end after N events (default: no limit)\n"
	"  --duration TIME      end after TIME: 30, 30s, 5m (default: no limit)\n"
	"  --rate R             events a second; 0: as fast as possible (default 0)\n"
	"  --connections C      TCP connections or UDP sockets of each thread (default 8)\n"
	"  --pipeline D         HTTP: requests under way on a connection (default 1)\n"
	"  --batch B            events in an HTTP body or a datagram, at most (default 1; batch://: as many as fit)\n"
	"  --threads T          (default 1)\n"
	"  --retry              send what was not acknowledged again, over reconnects and restarts of the node, until it is\n"
	"  --drain TIME         wait so long for acknowledgements at the end (default 10s; with --retry: for ever)\n"
	"  --request-timeout T  HTTP: an answer that takes longer is lost (default 5s)\n"
	"  --ledger FILE        append a line for each acknowledged event: id type campaign minute_ms bid_micros\n"
	"                       (deliberate copies are not listed; other bytes than printable ones as %xx; a last line without\n"
	"                       an end is to be ignored)\n"
	"  --token TOKEN        HTTP: Authorization: Bearer TOKEN\n"
	"  --report             HTTP: ask for ?report=1, which tells new from duplicate\n"
	"  --datagram-bytes N   UDP: largest datagram (default 1400)\n"
	"  --window N           batch://: unacknowledged batches of each socket (default 256)\n"
	"  --source ID          batch://: source id of the first socket (default: random)\n"
	"  --json               print the summary as JSON\n"
	"  --quiet              no line of progress each second\n"
	"\n"
	"  --replay FILE        send the lines of FILE, each as it stands; not with the options below\n"
	"\n"
	"  --seed S             same seed, same events (default 1)\n"
	"  --ads N              (default 10000)\n"
	"  --campaigns N        (default 1000)\n"
	"  --advertisers N      (default 100)\n"
	"  --publishers N       (default 200)\n"
	"  --devices N          (default 1000000)\n"
	"  --zipf S             exponent of the ads' popularity (default 1.0)\n"
	"  --clicks P           share of clicks (default 0.1)\n"
	"  --conversions P      share of conversions (default 0)\n"
	"  --duplicates P       share of events sent once more (default 0)\n"
	"  --out-of-order-ms N  stamps go back up to this far (default 0)\n"
	"  --stamp now|fixed    the clock, or from --start on by 0.1 ms for each event (default now)\n"
	"  --start MS           first stamp, if fixed (default 1640000000000)\n"
	"\n"
	"Exit status: 0 if everything was acknowledged (udp://: sent), 1 if not, 2 for a bad command line.\n";

enum option_code {
	OPT_TO = 256,
	OPT_EVENTS,
	OPT_DURATION,
	OPT_RATE,
	OPT_CONNECTIONS,
	OPT_PIPELINE,
	OPT_BATCH,
	OPT_THREADS,
	OPT_RETRY,
	OPT_DRAIN,
	OPT_REQUEST_TIMEOUT,
	OPT_LEDGER,
	OPT_TOKEN,
	OPT_REPORT,
	OPT_DATAGRAM_BYTES,
	OPT_WINDOW,
	OPT_SOURCE,
	OPT_JSON,
	OPT_QUIET,
	OPT_REPLAY,
	OPT_HELP,
	/* of synthetic events only */
	OPT_SEED,
	OPT_ADS,
	OPT_CAMPAIGNS,
	OPT_ADVERTISERS,
	OPT_PUBLISHERS,
	OPT_DEVICES,
	OPT_ZIPF,
	OPT_CLICKS,
	OPT_CONVERSIONS,
	OPT_DUPLICATES,
	OPT_OUT_OF_ORDER,
	OPT_STAMP,
	OPT_START,
};

static const struct option long_options[] = {
	{"to", required_argument, NULL, OPT_TO},
	{"events", required_argument, NULL, OPT_EVENTS},
	{"duration", required_argument, NULL, OPT_DURATION},
	{"rate", required_argument, NULL, OPT_RATE},
	{"connections", required_argument, NULL, OPT_CONNECTIONS},
	{"pipeline", required_argument, NULL, OPT_PIPELINE},
	{"batch", required_argument, NULL, OPT_BATCH},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"retry", no_argument, NULL, OPT_RETRY},
	{"drain", required_argument, NULL, OPT_DRAIN},
	{"request-timeout", required_argument, NULL, OPT_REQUEST_TIMEOUT},
	{"ledger", required_argument, NULL, OPT_LEDGER},
	{"token", required_argument, NULL, OPT_TOKEN},
	{"report", no_argument, NULL, OPT_REPORT},
	{"datagram-bytes", required_argument, NULL, OPT_DATAGRAM_BYTES},
	{"window", required_argument, NULL, OPT_WINDOW},
	{"source", required_argument, NULL, OPT_SOURCE},
	{"json", no_argument, NULL, OPT_JSON},
	{"quiet", no_argument, NULL, OPT_QUIET},
	{"replay", required_argument, NULL, OPT_REPLAY},
	{"help", no_argument, NULL, OPT_HELP},
	{"seed", required_argument, NULL, OPT_SEED},
	{"ads", required_argument, NULL, OPT_ADS},
	{"campaigns", required_argument, NULL, OPT_CAMPAIGNS},
	{"advertisers", required_argument, NULL, OPT_ADVERTISERS},
	{"publishers", required_argument, NULL, OPT_PUBLISHERS},
	{"devices", required_argument, NULL, OPT_DEVICES},
	{"zipf", required_argument, NULL, OPT_ZIPF},
	{"clicks", required_argument, NULL, OPT_CLICKS},
	{"conversions", required_argument, NULL, OPT_CONVERSIONS},
	{"duplicates", required_argument, NULL, OPT_DUPLICATES},
	{"out-of-order-ms", required_argument, NULL, OPT_OUT_OF_ORDER},
	{"stamp", required_argument, NULL, OPT_STAMP},
	{"start", required_argument, NULL, OPT_START},
	{NULL, 0, NULL, 0},
};

static int bad(const char *option, const char *value, const char *expected)
{
	fprintf(stderr, "turnpike-blast: --%s: expected %s, found \"%s\"\n", option, expected, value);
	return -EINVAL;
}

static int whole(const char *option, const char *value, uint64_t least, uint64_t most, uint64_t *to)
{
	char *end;
	errno = 0;
	unsigned long long number = strtoull(value, &end, 10);
	if (*value < '0' || *value > '9' || *end || errno || number < least || number > most) {
		char expected[80];
		snprintf(expected, sizeof expected, "a number from %llu to %llu", (unsigned long long)least,
			 (unsigned long long)most);
		return bad(option, value, expected);
	}
	*to = number;
	return 0;
}

static int whole32(const char *option, const char *value, uint64_t least, uint64_t most, uint32_t *to)
{
	uint64_t number = 0;
	int fault = whole(option, value, least, most, &number);
	*to = (uint32_t)number;
	return fault;
}

static int real(const char *option, const char *value, double most, double *to)
{
	char *end;
	*to = strtod(value, &end);
	if (end == value || *end || !(*to >= 0 && *to <= most))
		return bad(option, value, most <= 1 ? "a share from 0 to 1" : "a number from 0 on");
	return 0;
}

/* "30s", or plain seconds. */
static int duration(const char *option, const char *value, uint64_t *ns)
{
	double seconds;
	char *end;
	seconds = strtod(value, &end);
	if (end != value && !*end && seconds >= 0 && seconds < 1e9) {
		*ns = (uint64_t)(seconds * 1e9);
		return 0;
	}
	if (tp_duration_parse(value, strlen(value), ns))
		return bad(option, value, "a time such as 30s or 5m");
	return 0;
}

static int target(struct blast_options *options, const char *value)
{
	static const struct {
		const char *prefix;
		enum blast_protocol protocol;
	} schemes[] = {{"http://", BLAST_HTTP}, {"udp://", BLAST_TEXT}, {"batch://", BLAST_BATCH}};
	options->target = value;
	options->path = "/api/v1/clicks";
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
		size_t prefix = strlen(schemes[i].prefix);
		if (strncmp(value, schemes[i].prefix, prefix) != 0)
			continue;
		const char *endpoint = value + prefix, *slash = strchr(endpoint, '/');
		size_t bytes = slash ? (size_t)(slash - endpoint) : strlen(endpoint);
		if (tp_endpoint_parse(endpoint, bytes, &options->to) || options->to.port == 0)
			break;
		options->protocol = schemes[i].protocol;
		if (slash && slash[1])
			options->path = slash;
		if ((slash && slash[1] && options->protocol != BLAST_HTTP) || strlen(options->path) > 1024)
			break;
		return 0;
	}
	return bad("to", value, "http://ADDRESS:PORT[/path], batch://ADDRESS:PORT or udp://ADDRESS:PORT with a numeric address");
}

static int one(struct blast_options *options, int code, const char *name, const char *value)
{
	switch (code) {
	case OPT_TO:
		return target(options, value);
	case OPT_EVENTS:
		return whole(name, value, 1, UINT64_MAX / 2, &options->events);
	case OPT_DURATION:
		return duration(name, value, &options->duration_ns);
	case OPT_RATE:
		return real(name, value, 1e12, &options->rate);
	case OPT_CONNECTIONS:
		return whole32(name, value, 1, 65536, &options->connections);
	case OPT_PIPELINE:
		return whole32(name, value, 1, 1024, &options->pipeline);
	case OPT_BATCH:
		return whole32(name, value, 1, 16384, &options->batch);
	case OPT_THREADS:
		return whole32(name, value, 1, 256, &options->threads);
	case OPT_RETRY:
		options->retry = true;
		return 0;
	case OPT_DRAIN:
		return duration(name, value, &options->drain_ns);
	case OPT_REQUEST_TIMEOUT:
		return duration(name, value, &options->request_timeout_ns);
	case OPT_LEDGER:
		options->ledger = value;
		return 0;
	case OPT_TOKEN:
		options->token = value;
		return strlen(value) <= 1024 ? 0 : bad(name, value, "up to 1024 bytes");
	case OPT_REPORT:
		options->report = true;
		return 0;
	case OPT_DATAGRAM_BYTES:
		return whole32(name, value, 64, 65507, &options->datagram_bytes);
	case OPT_WINDOW:
		return whole32(name, value, 1, 1 << 16, &options->window);
	case OPT_SOURCE:
		return whole(name, value, 1, UINT64_MAX, &options->source_id);
	case OPT_JSON:
		options->json = true;
		return 0;
	case OPT_QUIET:
		options->quiet = true;
		return 0;
	case OPT_REPLAY:
		options->replay = value;
		return 0;
	case OPT_SEED:
		return whole(name, value, 0, UINT64_MAX, &options->seed);
	case OPT_ADS:
		return whole32(name, value, 1, 100000000, &options->ads);
	case OPT_CAMPAIGNS:
		return whole32(name, value, 1, 100000000, &options->campaigns);
	case OPT_ADVERTISERS:
		return whole32(name, value, 1, 100000000, &options->advertisers);
	case OPT_PUBLISHERS:
		return whole32(name, value, 1, 100000000, &options->publishers);
	case OPT_DEVICES:
		return whole32(name, value, 1, UINT32_MAX, &options->devices);
	case OPT_ZIPF:
		return real(name, value, 10, &options->zipf);
	case OPT_CLICKS:
		return real(name, value, 1, &options->clicks);
	case OPT_CONVERSIONS:
		return real(name, value, 1, &options->conversions);
	case OPT_DUPLICATES:
		return real(name, value, 1, &options->duplicates);
	case OPT_OUT_OF_ORDER:
		return whole32(name, value, 0, 3600000, &options->out_of_order_ms);
	case OPT_STAMP:
		options->stamp_fixed = strcmp(value, "fixed") == 0;
		return options->stamp_fixed || strcmp(value, "now") == 0 ? 0 : bad(name, value, "now or fixed");
	case OPT_START:
		return whole(name, value, 86400000, 1ULL << 53, &options->start_ms);
	default:
		return -EINVAL; /* getopt has said why */
	}
}

/* What does not go together, and the defaults that depend on others. */
static int check(struct blast_options *options, bool synthetic, bool drain_given)
{
	const char *fault = NULL;
	if (!options->target)
		fault = "--to is missing; --help tells more";
	else if (options->replay && synthetic)
		fault = "--replay sends what the file holds: options of synthetic events do not go with it";
	else if (options->ledger && options->protocol == BLAST_TEXT)
		fault = "--ledger needs acknowledgements, which udp:// has none of; use batch:// or http://";
	else if (options->protocol != BLAST_HTTP && (options->token || options->report))
		fault = "--token and --report are for http://";
	else if (options->clicks + options->conversions > 1)
		fault = "--clicks and --conversions are shares of one whole";
	if (fault) {
		fprintf(stderr, "turnpike-blast: %s\n", fault);
		return -EINVAL;
	}
	if (options->batch == 0)
		options->batch = options->protocol == BLAST_BATCH ? UINT16_MAX : 1;
	if (!drain_given)
		options->drain_ns = options->retry ? 0 : 10000000000ULL;
	return 0;
}

int blast_options_parse(struct blast_options *options, int argc, char **argv)
{
	*options = (struct blast_options){
		.connections = 8,
		.pipeline = 1,
		.threads = 1,
		.datagram_bytes = 1400,
		.window = 256,
		.request_timeout_ns = 5000000000ULL,
		.seed = 1,
		.ads = 10000,
		.campaigns = 1000,
		.advertisers = 100,
		.publishers = 200,
		.devices = 1000000,
		.zipf = 1.0,
		.clicks = 0.1,
		.start_ms = 1640000000000ULL,
	};
	bool synthetic = false, drain_given = false;
	int which = 0;
	optind = 0; /* from the beginning, also when a test parses twice */
	for (int code; (code = getopt_long(argc, argv, "", long_options, &which)) != -1;) {
		if (code == OPT_HELP) {
			fputs(help, stdout);
			return 1;
		}
		if (one(options, code, code >= OPT_TO ? long_options[which].name : "", optarg))
			return -EINVAL;
		synthetic |= code >= OPT_SEED;
		drain_given |= code == OPT_DRAIN;
	}
	if (optind < argc) {
		fprintf(stderr, "turnpike-blast: unexpected \"%s\"; --help tells more\n", argv[optind]);
		return -EINVAL;
	}
	return check(options, synthetic, drain_given);
}
