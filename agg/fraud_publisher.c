/*
 * Click-through rates of publishers against their own history. A window of five minutes of event time with enough impressions gives a
 * rate; the median of the last windows' rates and their median absolute deviation say what is usual. A rate further off than
 * `ctr_deviations` robust deviations is told as a signal, for people to look at; nothing is tagged.
 *
 *   deviation = max(1.4826 · MAD, what chance alone does to a rate of n impressions)
 *
 * Each shard looks at its own share of a publisher's events, which the shard hash takes evenly; two shards may tell the same thing.
 * A window ends with the first event of a later one. What comes for a window that has ended is not looked at.
 * Source: P. Rousseeuw, C. Croux, "Alternatives to the median absolute deviation", 1993 (the factor).
 */
#include "fraud_state.h"

enum { WINDOW_MS = 300000, PAST_MIN = 8, PAST_MAX = 24, IMPRESSIONS_MIN = 200, MILLION = 1000000 };
static_assert(sizeof(((struct publisher *)0)->rate) / sizeof(uint32_t) == PAST_MAX, "one rate a window");

static struct publisher *publisher_of(struct agg_fraud_shard *shard, struct tp_str name, uint32_t window)
{
	uint64_t key = hash_bytes(shard->seed, name.at, name.bytes);
	struct publisher *set = &shard->publishers[(key >> 32 & (PUBLISHERS / PUBLISHER_WAYS - 1)) * PUBLISHER_WAYS], *oldest = set;
	for (int i = 0; i < PUBLISHER_WAYS; i++) {
		if (set[i].key == key)
			return &set[i];
		if (oldest->key && (!set[i].key || set[i].window < oldest->window))
			oldest = &set[i];
	}
	if (oldest->key && oldest->window >= window)
		return NULL; /* all of them are busy now: this one is not watched */
	*oldest = (struct publisher){.key = key, .window = window, .text_bytes = (uint8_t)name.bytes};
	memcpy(oldest->text, name.at, name.bytes);
	return oldest;
}

static uint32_t median(uint32_t *value, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++)
		for (uint32_t k = i; k && value[k] < value[k - 1]; k--) {
			uint32_t other = value[k];
			value[k] = value[k - 1];
			value[k - 1] = other;
		}
	return count % 2 ? value[count / 2] : (value[count / 2 - 1] + value[count / 2]) / 2;
}

static void window_close(struct agg_fraud_shard *shard, struct publisher *publisher, uint32_t deviations)
{
	if (publisher->impressions < IMPRESSIONS_MIN)
		return;
	uint64_t exact = (uint64_t)publisher->clicks * MILLION / publisher->impressions;
	const uint32_t rate = exact < 1000 * (uint64_t)MILLION ? (uint32_t)exact : 1000u * MILLION;
	if (publisher->past >= PAST_MIN) {
		uint32_t sorted[PAST_MAX], off[PAST_MAX], count = publisher->past;
		memcpy(sorted, publisher->rate, count * sizeof(sorted[0]));
		const uint32_t usual = median(sorted, count);
		for (uint32_t i = 0; i < count; i++)
			off[i] = sorted[i] > usual ? sorted[i] - usual : usual - sorted[i];
		const double mad = 1.4826 * median(off, count), p = usual < MILLION ? usual : MILLION;
		/* one click in the window is chance, even for who never had any */
		const double chance = sqrt((p * (MILLION - p) + MILLION) / publisher->impressions);
		const double deviation = mad > chance ? mad : chance;
		const double distance = rate > usual ? rate - usual : usual - rate;
		if (distance > deviations * deviation) {
			struct agg_signal signal = {.kind = AGG_SIGNAL_PUBLISHER,
						    .limit = deviations,
						    .when_ms = (uint64_t)publisher->window * WINDOW_MS,
						    .seen = rate,
						    .usual = usual,
						    .text_bytes = publisher->text_bytes};
			memcpy(signal.text, publisher->text, publisher->text_bytes);
			fraud_signal(shard, &signal);
		}
	}
	publisher->rate[publisher->past_next] = rate;
	publisher->past_next = (uint8_t)((publisher->past_next + 1) % PAST_MAX);
	if (publisher->past < PAST_MAX)
		publisher->past++;
}

void fraud_publisher_see(struct agg_fraud_shard *shard, struct subject *subject)
{
	if (!subject->publisher.bytes)
		return;
	const uint32_t window = (uint32_t)(subject->stamp_ms / WINDOW_MS);
	struct publisher *publisher = publisher_of(shard, subject->publisher, window);
	if (!publisher || window < publisher->window)
		return;
	if (window > publisher->window) {
		window_close(shard, publisher, subject->rules->ctr_deviations);
		publisher->window = window;
		publisher->impressions = publisher->clicks = 0;
	}
	if (subject->click)
		publisher->clicks++;
	else
		publisher->impressions++;
}
