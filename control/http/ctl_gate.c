/*
 * The gate: see ctl_gate.h. A file that got broken leaves the tokens in force that were read last: an operator's slip locks nobody out,
 * and lets nobody in. Source: RFC 6750 section 2.1 (the header), RFC 6265 section 4.2 (cookies), contract section 7 (scopes).
 *
 * Secrets are compared by their SHA-256 alone, so how long that takes tells nothing of them. Sessions are kept in memory, by hash.
 */
#include "ctl_gate.h"

#include "ctl_limit.h"
#include "turnpike/log.h"
#include "turnpike/sha256.h"
#include "turnpike/text.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

enum { FAILING_BITS = 10, TOKEN_BITS = 12, FAMILIAR = 1 << 14, BURST_S = 2 };

struct session {
	uint8_t hash[TP_SHA256_BYTES], token_hash[TP_SHA256_BYTES];
	uint64_t opened_ms, expires_ms; /* 0: free */
};

struct ctl_gate {
	pthread_mutex_t lock; /* over all below but what is set once */
	struct tp_tokens *tokens;
	struct tp_file_seen seen;
	char *state_dir;
	char path[4096];
	uint64_t session_ms;
	uint8_t salt[16];            /* for the keys below: nobody may choose whom he meets there */
	struct ctl_limit *rate;      /* of tokens; NULL: off */
	struct ctl_limit *guesses;   /* of addresses */
	struct ctl_limit *anonymous; /* of addresses */
	uint64_t *familiar;          /* token and address that were right together, by hash */
	struct session session[CTL_SESSIONS_MAX];
};

static int random_fill(void *to, size_t bytes)
{
	return getrandom(to, bytes, 0) == (ssize_t)bytes ? 0 : -EIO;
}

int ctl_gate_open(struct ctl_gate **out, const char *state_dir, uint32_t rate, uint64_t session_ms)
{
	struct ctl_gate *gate = calloc(1, sizeof(*gate));

	if (!gate)
		return -ENOMEM;
	pthread_mutex_init(&gate->lock, NULL);
	gate->state_dir = strdup(state_dir);
	gate->session_ms = session_ms;
	gate->rate = rate ? ctl_limit_make(TOKEN_BITS, 1000000000ULL / rate, BURST_S * rate) : NULL;
	gate->guesses = ctl_limit_make(FAILING_BITS, CTL_GUESS_MS * 1000000ULL, CTL_GUESSES);
	gate->anonymous = ctl_limit_make(FAILING_BITS, CTL_ANONYMOUS_MS * 1000000ULL, CTL_ANONYMOUS);
	gate->familiar = calloc(FAMILIAR, sizeof(*gate->familiar));
	int rc = random_fill(gate->salt, sizeof(gate->salt));
	if (rc == 0 && (!gate->state_dir || (rate && !gate->rate) || !gate->guesses || !gate->anonymous || !gate->familiar))
		rc = -ENOMEM;
	if (rc != 0) {
		ctl_gate_close(gate);
		return rc;
	}
	tp_tokens_path(state_dir, gate->path, sizeof(gate->path));
	*out = gate;
	return 0;
}

void ctl_gate_close(struct ctl_gate *gate)
{
	if (!gate)
		return;
	pthread_mutex_destroy(&gate->lock);
	free(gate->tokens);
	free(gate->state_dir);
	free(gate->rate);
	free(gate->guesses);
	free(gate->anonymous);
	free(gate->familiar);
	free(gate);
}

/* With the lock, as all below. */
static void refresh(struct ctl_gate *gate)
{
	struct tp_tokens *fresh;
	uint32_t line;

	if (!tp_file_changed(gate->path, &gate->seen))
		return;
	int rc = tp_tokens_load(gate->state_dir, &fresh, &line);
	if (rc) {
		tp_logf(TP_ERROR, "tokens not read: those read last stay in force", "path=\"%s\" line=%u error=\"%s\"", gate->path,
			line, strerror(-rc));
		return;
	}
	free(gate->tokens);
	gate->tokens = fresh;
}

/* ---- keys ---- */

static uint64_t key_of(const struct ctl_gate *gate, const void *bytes, size_t count, const void *more, size_t more_count)
{
	struct tp_sha256 hash;
	uint8_t digest[TP_SHA256_BYTES];
	uint64_t key;

	tp_sha256_init(&hash);
	tp_sha256_add(&hash, gate->salt, sizeof(gate->salt));
	tp_sha256_add(&hash, bytes, count);
	tp_sha256_add(&hash, more, more_count);
	tp_sha256_fini(&hash, digest);
	memcpy(&key, digest, sizeof(key));
	return key ? key : 1; /* 0 is an empty slot */
}

/* Of IPv6 the /64, which one customer has. */
static size_t source_bytes(const struct tp_addr *from)
{
	return from->family == 4 ? 16 : 8;
}

static uint64_t source_key(const struct ctl_gate *gate, const struct tp_addr *from)
{
	return key_of(gate, from->byte, source_bytes(from), NULL, 0);
}

static uint64_t pair_key(const struct ctl_gate *gate, const struct tp_addr *from, const struct tp_token *token)
{
	return key_of(gate, from->byte, source_bytes(from), token->hash, sizeof(token->hash));
}

/* ---- tokens and sessions ---- */

static const struct tp_token *token_by_hash(const struct ctl_gate *gate, const uint8_t hash[TP_SHA256_BYTES], uint64_t now_ms)
{
	uint32_t low = 0, high = gate->tokens ? gate->tokens->count : 0;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct tp_token *token = &gate->tokens->token[middle];
		int order = memcmp(hash, token->hash, TP_SHA256_BYTES);
		if (order == 0)
			return token->expires_ms == 0 || now_ms < token->expires_ms ? token : NULL;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static struct session *session_by_hash(struct ctl_gate *gate, const uint8_t hash[TP_SHA256_BYTES], uint64_t now_ms)
{
	for (uint32_t i = 0; i < CTL_SESSIONS_MAX; i++) {
		struct session *session = &gate->session[i];
		if (session->expires_ms > now_ms && memcmp(session->hash, hash, TP_SHA256_BYTES) == 0)
			return session;
	}
	return NULL;
}

/* The value of our cookie: its bytes in the header line, or NULL. */
static const char *cookie_find(const char *line)
{
	static const char *const names[] = {"__Host-turnpike=", "turnpike="};

	while (line) {
		line += strspn(line, " \t;");
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			size_t bytes = strlen(names[i]);
			if (strncmp(line, names[i], bytes) == 0 && strcspn(line + bytes, "; \t") == CTL_COOKIE_BYTES)
				return line + bytes;
		}
		line = strchr(line, ';');
	}
	return NULL;
}

static const struct tp_token *plea_find(struct ctl_gate *gate, const struct ctl_plea *plea, struct ctl_asker *asker, bool *shown,
					uint64_t now_ms)
{
	const char *secret = cookie_find(plea->cookie);

	*shown = plea->authorization || secret;
	if (plea->authorization) { /* a header line outweighs a cookie, which browsers send unasked */
		if (strncasecmp(plea->authorization, "Bearer ", 7) != 0)
			return NULL;
		const char *text = plea->authorization + 7 + strspn(plea->authorization + 7, " ");
		size_t bytes = strlen(text);
		while (bytes && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t')) /* which belongs to the line */
			bytes--;
		return gate->tokens ? tp_token_find(gate->tokens, text, bytes, now_ms) : NULL;
	}
	if (!secret)
		return NULL;
	tp_sha256(secret, CTL_COOKIE_BYTES, asker->session);
	asker->by_cookie = true;
	const struct session *session = session_by_hash(gate, asker->session, now_ms);
	return session ? token_by_hash(gate, session->token_hash, now_ms) : NULL;
}

enum ctl_verdict ctl_gate_judge(const struct tp_token *token, enum ctl_need need)
{
	switch (token->scope) {
	case TP_SCOPE_ADMIN:
		return CTL_MAY;
	case TP_SCOPE_READ:
		return need == CTL_NEED_ADMIN ? CTL_NARROW : CTL_MAY;
	case TP_SCOPE_READ_ADVERTISER:
		return need == CTL_NEED_OWN || need == CTL_NEED_NONE ? CTL_MAY : CTL_NARROW;
	default:
		return need == CTL_NEED_NONE ? CTL_MAY : CTL_NARROW;
	}
}

static enum ctl_verdict slower(uint64_t wait_ns, uint32_t *wait_ms)
{
	*wait_ms = (uint32_t)((wait_ns + 999999) / 1000000);
	return CTL_SLOWER;
}

/* A token was shown, and is this one (NULL: none that is known). */
static enum ctl_verdict weigh(struct ctl_gate *gate, const struct tp_token *found, struct ctl_asker *asker, uint32_t *wait_ms)
{
	uint64_t now_ns = tp_mono_ns(), source = source_key(gate, &asker->from), wait_ns;

	if (!found) {
		wait_ns = ctl_limit_take(gate->guesses, source, now_ns);
		return wait_ns ? slower(wait_ns, wait_ms) : CTL_UNKNOWN;
	}
	uint64_t pair = pair_key(gate, &asker->from, found), *familiar = &gate->familiar[pair % FAMILIAR];
	wait_ns = ctl_limit_ask(gate->guesses, source, now_ns);
	if (wait_ns && *familiar != pair)
		return slower(wait_ns, wait_ms);
	*familiar = pair;
	asker->known = true;
	asker->token = *found;
	wait_ns = gate->rate ? ctl_limit_take(gate->rate, key_of(gate, found->hash, sizeof(found->hash), NULL, 0), now_ns) : 0;
	return wait_ns ? slower(wait_ns, wait_ms) : CTL_MAY;
}

enum ctl_verdict ctl_gate_ask(struct ctl_gate *gate, const struct ctl_plea *plea, enum ctl_need need, struct ctl_asker *asker,
			      uint32_t *wait_ms)
{
	enum ctl_verdict verdict;
	bool shown;

	pthread_mutex_lock(&gate->lock);
	refresh(gate);
	const struct tp_token *found = plea_find(gate, plea, asker, &shown, tp_now_ms());
	if (need == CTL_NEED_NONE) { /* whoever asks: nothing is won by guessing here */
		asker->known = found != NULL;
		if (found)
			asker->token = *found;
		verdict = CTL_MAY;
	} else if (found ||
		   (shown && !asker->by_cookie)) { /* a browser may show the cookie of a session that has ended: no guess */
		verdict = weigh(gate, found, asker, wait_ms);
		if (verdict == CTL_MAY)
			verdict = ctl_gate_judge(&asker->token, need);
	} else {
		uint64_t wait_ns = ctl_limit_take(gate->anonymous, source_key(gate, &asker->from), tp_mono_ns());
		verdict = wait_ns ? slower(wait_ns, wait_ms) : CTL_UNKNOWN;
	}
	pthread_mutex_unlock(&gate->lock);
	return verdict;
}

bool ctl_gate_holds(struct ctl_gate *gate, const struct ctl_asker *asker)
{
	uint64_t now_ms = tp_now_ms();

	pthread_mutex_lock(&gate->lock);
	refresh(gate);
	bool holds = token_by_hash(gate, asker->token.hash, now_ms) &&
		     (!asker->by_cookie || session_by_hash(gate, asker->session, now_ms));
	pthread_mutex_unlock(&gate->lock);
	return holds;
}

enum ctl_verdict ctl_gate_know(struct ctl_gate *gate, const char *text, size_t bytes, struct ctl_asker *asker, uint32_t *wait_ms)
{
	pthread_mutex_lock(&gate->lock);
	refresh(gate);
	enum ctl_verdict verdict =
		weigh(gate, gate->tokens ? tp_token_find(gate->tokens, text, bytes, tp_now_ms()) : NULL, asker, wait_ms);
	pthread_mutex_unlock(&gate->lock);
	return verdict;
}

/* ---- sessions ---- */

/* A free one; else the oldest of a token that has too many; else the oldest of all. */
static struct session *session_room(struct ctl_gate *gate, const uint8_t token_hash[TP_SHA256_BYTES], uint64_t now_ms)
{
	struct session *empty = NULL, *oldest = &gate->session[0], *own = NULL;
	uint32_t own_count = 0;

	for (uint32_t i = 0; i < CTL_SESSIONS_MAX; i++) {
		struct session *session = &gate->session[i];
		if (session->expires_ms <= now_ms) {
			empty = session;
			continue;
		}
		if (session->opened_ms < oldest->opened_ms)
			oldest = session;
		if (memcmp(session->token_hash, token_hash, TP_SHA256_BYTES) != 0)
			continue;
		own_count++;
		if (!own || session->opened_ms < own->opened_ms)
			own = session;
	}
	return own_count >= CTL_SESSIONS_OF_TOKEN_MAX ? own : empty ? empty : oldest;
}

int ctl_gate_session_open(struct ctl_gate *gate, const struct ctl_asker *asker, char cookie[CTL_COOKIE_BYTES + 1])
{
	static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint8_t secret[33] = {0};
	uint64_t now_ms = tp_now_ms();

	int rc = random_fill(secret, 32);
	if (rc != 0)
		return rc;
	for (int i = 0; i < CTL_COOKIE_BYTES; i++) {
		int bit = 6 * i;
		uint32_t pair = (uint32_t)secret[bit / 8] << 8 | secret[bit / 8 + 1];
		cookie[i] = letter[pair >> (10 - bit % 8) & 63];
	}
	cookie[CTL_COOKIE_BYTES] = '\0';
	explicit_bzero(secret, sizeof(secret));
	pthread_mutex_lock(&gate->lock);
	struct session *session = session_room(gate, asker->token.hash, now_ms);
	tp_sha256(cookie, CTL_COOKIE_BYTES, session->hash);
	memcpy(session->token_hash, asker->token.hash, TP_SHA256_BYTES);
	session->opened_ms = now_ms;
	session->expires_ms = now_ms + gate->session_ms;
	pthread_mutex_unlock(&gate->lock);
	return 0;
}

void ctl_gate_session_end(struct ctl_gate *gate, const struct ctl_asker *asker)
{
	pthread_mutex_lock(&gate->lock);
	struct session *session = asker->by_cookie ? session_by_hash(gate, asker->session, 0) : NULL;
	if (session)
		memset(session, 0, sizeof(*session));
	pthread_mutex_unlock(&gate->lock);
}

uint64_t ctl_gate_session_ms(const struct ctl_gate *gate)
{
	return gate->session_ms;
}
