/*
 * The script runner of net_script.h. Tests only.
 */
#include "net_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PORTS_MAX = 128, WORDS_MAX = 48, CLIENT_PORT = 40000 };

/* One client port: its numbers and the app behind it. */
struct peer {
	uint16_t port;
	uint32_t irs, iss, ts_base;
	uint32_t sent_max; /* by the stack: the number after the highest */
	bool iss_known, ts_known;
	struct dp_stream *stream;
	int64_t take;
	uint32_t got, eof, opened, closed, writable;
	uint32_t in_send;
	bool refuse, in_close, in_abort;
};

static struct peer peers[PORTS_MAX];
static uint32_t peers_used;
static char where[512]; /* the case and line, for messages */

static void fault(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fault(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	char text[512];
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	fail_msg("%s\n    %s", where, text);
	abort();
}

static struct peer *peer_of(uint16_t port)
{
	for (uint32_t i = 0; i < peers_used; i++)
		if (peers[i].port == port)
			return &peers[i];
	if (peers_used == PORTS_MAX)
		fault("too many ports");
	struct peer *peer = &peers[peers_used++];
	/* Near the wrap, so that every comparison of numbers meets it. */
	*peer = (struct peer){.port = port, .irs = 0xffffff00U + port % 7, .take = -1};
	return peer;
}

static uint8_t client_byte(uint32_t at)
{
	return (uint8_t)(at * 7 + (at >> 8) * 13 + 1);
}

static uint8_t server_byte(uint32_t at)
{
	return (uint8_t)(at * 11 + (at >> 8) * 5 + 3);
}

/* ---- the app ---- */

static void app_send(struct peer *peer, uint32_t count);

/* How much the app has handed to send() per port, for the pattern. */
static uint32_t app_sent[PORTS_MAX];

static struct peer *peer_of_stream(const struct dp_stream *stream)
{
	return peer_of(stream->peer.port);
}

bool dp_stream_opened(struct dp_stream *stream)
{
	struct peer *peer = peer_of_stream(stream);
	peer->opened++;
	peer->stream = stream;
	peer->got = 0;
	app_sent[peer - peers] = 0;
	return !peer->refuse;
}

size_t dp_stream_input(struct dp_stream *stream, const uint8_t *bytes, size_t count)
{
	struct peer *peer = peer_of_stream(stream);
	size_t taken = peer->take < 0 || (size_t)peer->take > count ? count : (size_t)peer->take;
	for (size_t i = 0; i < taken; i++)
		if (bytes[i] != client_byte(1 + peer->got + (uint32_t)i))
			fault("the app got a wrong byte at %u", 1 + peer->got + (uint32_t)i);
	peer->got += (uint32_t)taken;
	if (peer->take >= 0)
		peer->take -= (int64_t)taken;
	uint32_t send = peer->in_send;
	peer->in_send = 0;
	if (send)
		app_send(peer, send);
	if (peer->in_close)
		stream->ops->close(stream);
	if (peer->in_abort)
		stream->ops->abort(stream);
	return taken;
}

void dp_stream_eof(struct dp_stream *stream)
{
	peer_of_stream(stream)->eof++;
}

void dp_stream_writable(struct dp_stream *stream)
{
	peer_of_stream(stream)->writable++;
}

void dp_stream_closed(struct dp_stream *stream)
{
	struct peer *peer = peer_of_stream(stream);
	if (peer->stream != stream)
		fault("dp_stream_closed() twice");
	peer->stream = NULL;
	peer->closed++;
}

static void app_send(struct peer *peer, uint32_t count)
{
	uint8_t bytes[65536];
	uint32_t from = app_sent[peer - peers];
	if (count > sizeof(bytes))
		fault("too much to send");
	for (uint32_t i = 0; i < count; i++)
		bytes[i] = server_byte(1 + from + i);
	size_t taken = peer->stream->ops->send(peer->stream, bytes, count);
	app_sent[peer - peers] += (uint32_t)taken;
}

/* ---- scripts ---- */

struct segment {
	bool flags_known, range, ack_known, win_known, mss_known, ts_known, ts_any, ws_known, sack_known, opts_known, nots;
	bool badsum, sackok, above;
	uint8_t flags, opts[40];
	uint32_t from, to, ack, win, mss, ts_value, ts_echo, ws, cut, doff, opts_bytes, sacks, sack[8];
	uint16_t vlan, port, dport;
	uint8_t mac;
};

struct run {
	struct script_net net;
	struct script_options options;
	char *word[WORDS_MAX];
	int words, at;
	bool burst;
};

static const char *next_word(struct run *run)
{
	if (run->at == run->words)
		fault("a word is missing");
	return run->word[run->at++];
}

static int64_t next_number(struct run *run)
{
	const char *word = next_word(run);
	char *end;
	long long value = strtoll(word, &end, 0);
	if (*end)
		fault("\"%s\" is no number", word);
	return value;
}

static bool range_word(const char *word, uint32_t *from, uint32_t *to)
{
	return sscanf(word, "%u:%u", from, to) == 2;
}

static bool flags_word(const char *word, uint8_t *flags)
{
	static const char letters[] = "FSRP.";
	uint8_t found = 0;
	for (; *word; word++) {
		const char *letter = strchr(letters, *word);
		if (!letter)
			return false;
		found |= (uint8_t)(1 << (letter - letters));
	}
	*flags = found;
	return true;
}

static void segment_parse(struct run *run, struct segment *s)
{
	*s = (struct segment){
		.win = 65535, .vlan = run->options.vlan, .port = CLIENT_PORT, .dport = SCRIPT_HTTP_PORT, .mac = script_peer_mac[5]};
	while (run->at < run->words) {
		const char *word = next_word(run);
		if (flags_word(word, &s->flags)) {
			s->flags_known = true;
		} else if (range_word(word, &s->from, &s->to)) {
			s->range = true;
		} else if (!strcmp(word, "ack")) {
			s->ack_known = true;
			s->ack = (uint32_t)next_number(run);
		} else if (!strcmp(word, "win")) {
			s->win_known = true;
			s->win = (uint32_t)next_number(run);
		} else if (!strcmp(word, "mss")) {
			s->mss_known = true;
			s->mss = (uint32_t)next_number(run);
		} else if (!strcmp(word, "sackok")) {
			s->sackok = true;
		} else if (!strcmp(word, "nots")) {
			s->nots = true;
		} else if (!strcmp(word, "ws")) {
			s->ws_known = true;
			s->ws = (uint32_t)next_number(run);
		} else if (!strcmp(word, "ts")) {
			s->ts_known = true;
			if (!strcmp(run->word[run->at], "*")) {
				s->ts_any = true;
				run->at++;
			} else {
				s->ts_value = (uint32_t)next_number(run);
			}
			s->ts_echo = (uint32_t)next_number(run);
		} else if (!strcmp(word, "sack")) {
			s->sack_known = true;
			while (run->at < run->words && range_word(run->word[run->at], &s->sack[s->sacks], &s->sack[s->sacks + 1])) {
				s->sacks += 2;
				run->at++;
			}
		} else if (!strcmp(word, "opts")) {
			const char *hex = next_word(run);
			unsigned byte;
			s->opts_known = true;
			for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
				s->opts[s->opts_bytes++] = (uint8_t)byte;
		} else if (!strcmp(word, "above")) {
			s->above = true;
		} else if (!strcmp(word, "badsum")) {
			s->badsum = true;
		} else if (!strcmp(word, "cut")) {
			s->cut = (uint32_t)next_number(run);
		} else if (!strcmp(word, "doff")) {
			s->doff = (uint32_t)next_number(run);
		} else if (!strcmp(word, "vlan")) {
			s->vlan = (uint16_t)next_number(run);
		} else if (!strcmp(word, "mac")) {
			s->mac = (uint8_t)next_number(run);
		} else if (!strcmp(word, "port")) {
			s->port = (uint16_t)next_number(run);
		} else if (!strcmp(word, "dport")) {
			s->dport = (uint16_t)next_number(run);
		} else {
			fault("unknown word \"%s\"", word);
		}
	}
}

static uint32_t options_build(const struct segment *s, const struct peer *peer, uint8_t *options)
{
	uint8_t *at = options;
	if (s->opts_known) {
		memcpy(at, s->opts, s->opts_bytes);
		return s->opts_bytes;
	}
	if (s->mss_known)
		at = script_put(at, 0x02040000U | s->mss, 4);
	if (s->sackok)
		at = script_put(at, 0x01010402, 4);
	if (s->ts_known) {
		at = script_put(at, 0x0101080a, 4);
		at = script_put(at, s->ts_value, 4);
		at = script_put(at, s->ts_echo + peer->ts_base, 4);
	}
	if (s->ws_known)
		at = script_put(at, 0x01030300U | s->ws, 4);
	if (s->sacks) {
		at = script_put(at, 0x01010502U + s->sacks * 4, 4);
		for (uint32_t i = 0; i < s->sacks; i++)
			at = script_put(at, s->sack[i] + peer->iss, 4);
	}
	return (uint32_t)(at - options);
}

static const uint8_t *our_addr(const struct run *run)
{
	return run->options.family == 4 ? script_our4 : script_our6;
}

static const uint8_t *peer_addr(const struct run *run)
{
	return run->options.family == 4 ? script_peer4 : script_peer6;
}

static void do_input(struct run *run)
{
	struct segment s;
	segment_parse(run, &s);
	struct peer *peer = peer_of(s.port);
	if (s.from > s.to || s.to - s.from > 9000)
		fault("bad range");
	uint8_t l4[10000] = {0}, frame[10100];
	uint32_t options_bytes = options_build(&s, peer, l4 + 20), bytes = s.to - s.from;
	uint32_t l4_bytes = 20 + options_bytes + bytes;
	script_put(l4, s.port, 2);
	script_put(l4 + 2, s.dport, 2);
	script_put(l4 + 4, s.from + peer->irs, 4);
	script_put(l4 + 8, s.flags & DP_ACK ? s.ack + peer->iss : 0, 4);
	l4[12] = (uint8_t)((s.doff ? s.doff : (20 + options_bytes) / 4) << 4);
	l4[13] = s.flags;
	script_put(l4 + 14, s.win, 2);
	for (uint32_t i = 0; i < bytes; i++)
		l4[20 + options_bytes + i] = client_byte(s.from + i);
	uint32_t pseudo = script_pseudo(run->options.family, peer_addr(run), our_addr(run), 6, l4_bytes);
	script_put(l4 + 16, script_sum(l4, l4_bytes, pseudo) ^ (s.badsum ? 0x10U : 0U), 2);
	size_t frame_bytes = script_wrap(frame, run->options.family, s.vlan, peer_addr(run), our_addr(run), 6, 64, l4, l4_bytes);
	frame[11] = s.mac;
	script_input(&run->net, frame, frame_bytes - s.cut);
	if (!run->burst)
		dp_stack_flush(run->net.stack, run->net.now_ns);
}

struct seen {
	uint8_t flags;
	uint16_t vlan, window;
	uint32_t seq, ack, bytes, mss, ws, ts_value, ts_echo, sacks, sack[8];
	bool mss_known, sackok, ts, ws_known;
	const uint8_t *data;
};

static void options_see(struct seen *seen, const uint8_t *at, uint32_t left)
{
	while (left && *at) {
		if (*at == 1) {
			at++;
			left--;
			continue;
		}
		if (left < 2 || at[1] < 2 || at[1] > left)
			fault("the stack sent broken options");
		switch (at[0]) {
		case 2:
			seen->mss_known = true;
			seen->mss = script_get(at + 2, 2);
			break;
		case 3:
			seen->ws_known = true;
			seen->ws = at[2];
			break;
		case 4:
			seen->sackok = true;
			break;
		case 5:
			for (int i = 2; i < at[1]; i += 4)
				seen->sack[seen->sacks++] = script_get(at + i, 4);
			break;
		case 8:
			seen->ts = true;
			seen->ts_value = script_get(at + 2, 4);
			seen->ts_echo = script_get(at + 6, 4);
			break;
		default:
			fault("the stack sent option %d", at[0]);
		}
		left -= at[1];
		at += at[1];
	}
}

static void frame_see(struct run *run, const uint8_t *frame, size_t bytes, const struct segment *want, struct seen *seen)
{
	*seen = (struct seen){.vlan = DP_UNTAGGED};
	if (frame[5] != want->mac || memcmp(frame, script_peer_mac, 5) || memcmp(frame + 6, script_our_mac, 6))
		fault("the frame goes to MAC …:%02x", frame[5]);
	const uint8_t *at = frame + 12;
	if (script_get(at, 2) == 0x8100) {
		seen->vlan = (uint16_t)script_get(at + 2, 2);
		at += 4;
	}
	bool four = run->options.family == 4;
	if (script_get(at, 2) != (four ? 0x0800U : 0x86ddU))
		fault("EtherType %x", script_get(at, 2));
	at += 2;
	if (four && (script_sum(at, 20, 0) || at[9] != 6 || at[6] != 0x40 || at[8] != 64))
		fault("bad IPv4 header");
	size_t l4_bytes = four ? script_get(at + 2, 2) - 20 : script_get(at + 4, 2);
	const uint8_t *from = at + (four ? 12 : 8), *to = from + (four ? 4 : 16);
	if (memcmp(from, our_addr(run), four ? 4 : 16) || memcmp(to, peer_addr(run), four ? 4 : 16))
		fault("bad addresses");
	at += four ? 20 : 40;
	if ((size_t)(at - frame) + l4_bytes != bytes)
		fault("IP length %zu does not fit the frame", l4_bytes);
	if (script_sum(at, l4_bytes, script_pseudo(run->options.family, from, to, 6, l4_bytes)))
		fault("bad TCP checksum");
	if (script_get(at + 2, 2) != want->port || script_get(at, 2) != want->dport)
		fault("ports %u > %u", script_get(at, 2), script_get(at + 2, 2));
	seen->seq = script_get(at + 4, 4);
	seen->ack = script_get(at + 8, 4);
	seen->flags = at[13];
	seen->window = (uint16_t)script_get(at + 14, 2);
	uint32_t header_bytes = (uint32_t)(at[12] >> 4) * 4;
	options_see(seen, at + 20, header_bytes - 20);
	seen->data = at + header_bytes;
	seen->bytes = (uint32_t)l4_bytes - header_bytes;
}

static void check(const char *what, uint32_t found, uint32_t wanted)
{
	if (found != wanted)
		fault("%s is %u (%d), expected %u", what, found, (int32_t)found, wanted);
}

static void do_expect(struct run *run)
{
	struct segment s;
	segment_parse(run, &s);
	struct peer *peer = peer_of(s.port);
	size_t bytes;
	const uint8_t *frame = script_next(&run->net, &bytes);
	if (!frame)
		fault("nothing was sent");
	struct seen seen;
	frame_see(run, frame, bytes, &s, &seen);
	if ((seen.flags & (DP_SYN | DP_RST)) == DP_SYN) {
		peer->iss = seen.seq; /* checked to be new where a script cares: another SYN-ACK has its own line */
		peer->iss_known = true;
		if (seen.ts) {
			peer->ts_base = seen.ts_value;
			peer->ts_known = true;
		}
	}
	if (s.above && (int32_t)(seen.seq - peer->sent_max) < 0)
		fault("the number is not above %u", peer->sent_max);
	uint32_t next = seen.seq + seen.bytes + (seen.flags & (DP_SYN | DP_FIN) ? 1 : 0);
	if (seen.flags & DP_SYN || (int32_t)(next - peer->sent_max) > 0)
		peer->sent_max = next;
	if (s.flags_known)
		check("flags", seen.flags, s.flags);
	check("vlan", seen.vlan, s.vlan);
	if (s.range) {
		bool stray = seen.flags & DP_RST && !peer->iss_known; /* to a segment that invented its own numbers */
		check("seq", stray ? seen.seq : seen.seq - peer->iss, s.from);
		check("bytes", seen.bytes, s.to - s.from);
	}
	for (uint32_t i = 0; i < seen.bytes; i++)
		if (seen.data[i] != server_byte(seen.seq - peer->iss + i))
			fault("wrong byte sent at %u", seen.seq - peer->iss + i);
	if (s.ack_known)
		check("ack", seen.ack - peer->irs, s.ack);
	if (s.win_known)
		check("window", seen.window, s.win);
	if (s.mss_known)
		check("mss", seen.mss_known ? seen.mss : 0, s.mss);
	if (seen.flags & DP_SYN)
		check("sackok", seen.sackok, s.sackok);
	if (s.ws_known)
		check("ws", seen.ws_known ? seen.ws : 99, s.ws);
	if (s.nots)
		check("ts", seen.ts, false);
	if (s.ts_known) {
		check("ts", seen.ts, true);
		check("ts echo", seen.ts_echo, s.ts_echo);
		if (!s.ts_any)
			check("ts value", seen.ts_value - peer->ts_base, s.ts_value);
	}
	if (s.sack_known) {
		check("sack blocks", seen.sacks / 2, s.sacks / 2);
		for (uint32_t i = 0; i < s.sacks; i++)
			check("sack edge", seen.sack[i] - peer->irs, s.sack[i]);
	}
}

static void do_app(struct run *run)
{
	struct peer *peer = NULL;
	char verb[32];
	snprintf(verb, sizeof(verb), "%s", next_word(run));
	int64_t number = 0;
	uint16_t port = CLIENT_PORT;
	while (run->at < run->words) {
		if (!strcmp(run->word[run->at], "port")) {
			run->at++;
			port = (uint16_t)next_number(run);
		} else {
			number = next_number(run);
		}
	}
	peer = peer_of(port);
	const struct {
		const char *name;
		uint32_t value;
	} facts[] = {{"opened", peer->opened},
		     {"got", peer->got},
		     {"eof", peer->eof},
		     {"closed", peer->closed},
		     {"writable", peer->writable}};
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		if (!strcmp(verb, facts[i].name)) {
			check(verb, facts[i].value, (uint32_t)number);
			return;
		}
	}
	if (!strcmp(verb, "take")) {
		peer->take = number;
	} else if (!strcmp(verb, "refuse")) {
		peer->refuse = true;
	} else if (!strcmp(verb, "insend")) {
		peer->in_send = (uint32_t)number;
	} else if (!strcmp(verb, "inclose")) {
		peer->in_close = true;
	} else if (!strcmp(verb, "inabort")) {
		peer->in_abort = true;
	} else if (!peer->stream) {
		fault("there is no stream");
	} else if (!strcmp(verb, "send")) {
		app_send(peer, (uint32_t)number);
	} else if (!strcmp(verb, "close")) {
		peer->stream->ops->close(peer->stream);
	} else if (!strcmp(verb, "abort")) {
		peer->stream->ops->abort(peer->stream);
	} else if (!strcmp(verb, "resume")) {
		peer->stream->ops->resume(peer->stream);
	} else {
		fault("unknown app verb \"%s\"", verb);
	}
	if (!run->burst)
		dp_stack_flush(run->net.stack, run->net.now_ns);
}

static void do_count(struct run *run)
{
	static const char *const names[] = {
#define X(name, layer, kind, label, help) #name,
		TP_COUNTER_TABLE(X)
#undef X
	};
	const char *name = next_word(run);
	for (int i = 0; i < TP_COUNTERS; i++) {
		if (!strcmp(names[i], name)) {
			check(name, (uint32_t)run->net.counters.v[i], (uint32_t)next_number(run));
			return;
		}
	}
	fault("unknown counter \"%s\"", name);
}

/* ICMP "packet too big" about a segment of ours with number `seq`. */
static void do_too_big(struct run *run)
{
	uint32_t mtu = (uint32_t)next_number(run), seq = (uint32_t)next_number(run);
	const struct peer *peer = peer_of(CLIENT_PORT);
	bool four = run->options.family == 4;
	uint8_t inner[64] = {0}, icmp[128] = {0}, frame[256];
	uint8_t tcp[8];
	script_put(tcp, SCRIPT_HTTP_PORT, 2);
	script_put(tcp + 2, CLIENT_PORT, 2);
	script_put(tcp + 4, seq + peer->iss, 4);
	size_t quote = script_wrap(inner, run->options.family, DP_UNTAGGED, our_addr(run), peer_addr(run), 6, 64, tcp, 8) - 14;
	icmp[0] = four ? 3 : 2;
	icmp[1] = four ? 4 : 0;
	script_put(icmp + 4, mtu, 4);
	memcpy(icmp + 8, inner + 14, quote);
	size_t bytes = 8 + quote;
	uint32_t pseudo = four ? 0 : script_pseudo(6, peer_addr(run), our_addr(run), 58, bytes);
	script_put(icmp + 2, script_sum(icmp, bytes, pseudo), 2);
	size_t frame_bytes = script_wrap(frame, run->options.family, run->options.vlan, peer_addr(run), our_addr(run),
					 four ? 1 : 58, 64, icmp, bytes);
	script_input(&run->net, frame, frame_bytes);
	dp_stack_flush(run->net.stack, run->net.now_ns);
}

static void pass_time(struct run *run, uint64_t ms)
{
	for (uint64_t i = 0; i < ms; i++) {
		run->net.now_ns += DP_MS;
		dp_stack_tick(run->net.stack, run->net.now_ns);
		dp_stack_flush(run->net.stack, run->net.now_ns);
	}
}

static void do_line(struct run *run)
{
	const char *verb = next_word(run);
	if (!strcmp(verb, "<")) {
		do_input(run);
	} else if (!strcmp(verb, ">")) {
		do_expect(run);
	} else if (verb[0] == '+') {
		pass_time(run, strtoull(verb + 1, NULL, 10));
	} else if (!strcmp(verb, "none")) {
		if (run->net.frames) {
			const uint8_t *frame = run->net.frame[run->net.frames_first];
			fault("%u frames were sent, the first of %zu bytes, flags %02x", run->net.frames,
			      run->net.frame_bytes[run->net.frames_first], frame[run->options.family == 4 ? 47 : 71]);
		}
	} else if (!strcmp(verb, "burst")) {
		run->burst = true;
	} else if (!strcmp(verb, "end")) {
		run->burst = false;
		dp_stack_flush(run->net.stack, run->net.now_ns);
	} else if (!strcmp(verb, "app")) {
		do_app(run);
	} else if (!strcmp(verb, "count")) {
		do_count(run);
	} else if (!strcmp(verb, "conns")) {
		check("connections", dp_stack_connections(run->net.stack), (uint32_t)next_number(run));
	} else if (!strcmp(verb, "drain")) {
		dp_stack_drain(run->net.stack, run->net.now_ns);
	} else if (!strcmp(verb, "frames")) {
		run->net.grant = (int32_t)next_number(run);
	} else if (!strcmp(verb, "blocked")) {
		run->net.blocked = next_number(run);
	} else if (!strcmp(verb, "toobig")) {
		do_too_big(run);
	} else {
		fault("unknown verb \"%s\"", verb);
	}
	script_books(&run->net);
}

void script_run(const struct script_case *script, const struct script_options *options)
{
	static struct run run;
	if (getenv("SCRIPT_LIST")) {
		printf("case: %s\n", script->name);
		return;
	}
	run = (struct run){.options = *options};
	peers_used = 0;
	snprintf(where, sizeof(where), "%s", script->name);
	script_open(&run.net, options);
	char *copy = strdup(script->text), *rest = copy, *line;
	int number = 0;
	while ((line = strsep(&rest, "\n"))) {
		snprintf(where, sizeof(where), "%s (IPv%d), line %d: %s", script->name, options->family, ++number, line);
		run.words = run.at = 0;
		char *word;
		while ((word = strsep(&line, " \t")) && *word != '#')
			if (*word && run.words < WORDS_MAX)
				run.word[run.words++] = word;
		if (run.words)
			do_line(&run);
	}
	snprintf(where, sizeof(where), "%s (IPv%d), at the end", script->name, options->family);
	if (run.net.frames)
		fault("%u frames were sent that the script does not expect", run.net.frames);
	free(copy);
	script_close(&run.net);
	for (uint32_t i = 0; i < peers_used; i++) /* a refused one is never closed */
		if (!peers[i].refuse && peers[i].opened != peers[i].closed)
			fault("opened %u times, closed %u times", peers[i].opened, peers[i].closed);
}

void script_run_all(const struct script_case *cases, size_t count)
{
	const struct script_options four = {.family = 4, .vlan = DP_UNTAGGED}, six = {.family = 6, .vlan = 0x2064};
	for (size_t i = 0; i < count; i++) {
		script_run(&cases[i], &four);
		script_run(&cases[i], &six);
	}
}
