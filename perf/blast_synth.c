/*
 * Synthetic traffic. One thread per generator; no clock of its own.
 *
 *   draw ─┬─ duplicates ─► one of the last 1,024 events again, byte for byte
 *         ├─ clicks ─────► the oldest of the impressions that wait for their click, at least 64 events after it
 *         └─ else ───────► a new impression: ad by Zipf, device uniform. So many of them wait for a click that the share comes out
 *
 * A click has the ad and device of its impression, whose stamp lies 0.6 to 2.6 s before the click's: otherwise every click would be
 * flagged as unseen or too soon. So impressions that will be clicked are stamped that much into the past, and nothing else is out of
 * order, unless it was asked for.
 * Source: xoshiro256++ (Blackman and Vigna 2019), alias method (Walker 1977, Vose 1991).
 */
#include "blast_synth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RECENT = 1024, WAITING = 1 << 12, CLICK_AFTER_EVENTS = 64, CLICK_MS_MIN = 600, CLICK_MS_SPREAD = 2000 };

/* Fixed stamps go on by this much per event: 10,000 events a second. */
enum { FIXED_STEP_US = 100 };

struct waiting {
	struct blast_event event;
	uint64_t ready; /* number of the event from which on it may be clicked */
};

struct blast_synth {
	const struct blast_options *options;
	uint64_t rng[4];
	uint64_t number;
	double waits; /* share of impressions that wait for a click */
	/* alias table of the ads */
	double *keep;
	uint32_t *other;
	struct blast_event recent[RECENT];
	uint64_t recents;
	struct waiting waiting[WAITING];
	uint32_t waiting_head, waiting_count;
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static uint64_t draw(struct blast_synth *synth)
{
	uint64_t *s = synth->rng;
	uint64_t sum = s[0] + s[3];
	uint64_t result = (sum << 23 | sum >> 41) + s[0];
	uint64_t t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = s[3] << 45 | s[3] >> 19;
	return result;
}

/* 0 <= result < below */
static uint32_t draw_below(struct blast_synth *synth, uint32_t below)
{
	return (uint32_t)(((draw(synth) >> 32) * below) >> 32);
}

/* 0 <= result < 1 */
static double draw_share(struct blast_synth *synth)
{
	return (double)(draw(synth) >> 11) * 0x1p-53;
}

/* The ads' probabilities are as 1 / rank^zipf. */
static void alias_make(struct blast_synth *synth, uint32_t count, double zipf)
{
	synth->keep = blast_alloc(NULL, count * sizeof *synth->keep);
	synth->other = blast_alloc(NULL, count * sizeof *synth->other);
	uint32_t *small = blast_alloc(NULL, count * sizeof *small), *large = blast_alloc(NULL, count * sizeof *large);
	uint32_t smalls = 0, larges = 0;
	double sum = 0;
	for (uint32_t i = 0; i < count; i++)
		sum += synth->keep[i] = pow(i + 1.0, -zipf);
	for (uint32_t i = 0; i < count; i++) {
		synth->keep[i] *= count / sum;
		synth->other[i] = i;
		if (synth->keep[i] < 1)
			small[smalls++] = i;
		else
			large[larges++] = i;
	}
	while (smalls > 0 && larges > 0) {
		uint32_t s = small[--smalls], l = large[larges - 1];
		synth->other[s] = l;
		synth->keep[l] -= 1 - synth->keep[s];
		if (synth->keep[l] < 1)
			small[smalls++] = large[--larges];
	}
	while (smalls > 0) /* rounding left them a little below one */
		synth->keep[small[--smalls]] = 1;
	free(small);
	free(large);
}

static uint32_t ad_draw(struct blast_synth *synth)
{
	uint32_t column = draw_below(synth, synth->options->ads);
	return draw_share(synth) < synth->keep[column] ? column : synth->other[column];
}

struct blast_synth *blast_synth_open(const struct blast_options *options, uint32_t thread)
{
	struct blast_synth *synth = blast_alloc(NULL, sizeof *synth);
	memset(synth, 0, sizeof *synth);
	synth->options = options;
	uint64_t state = mix(options->seed + 0x9e3779b97f4a7c15ULL) ^ mix(thread);
	for (int i = 0; i < 4; i++)
		synth->rng[i] = mix(state += 0x9e3779b97f4a7c15ULL);
	/* every click and conversion needs an impression; with more of them than impressions, each waits */
	double others = options->clicks + options->conversions;
	synth->waits = others < 0.5 ? others / (1 - others) : 1;
	alias_make(synth, options->ads, options->zipf);
	return synth;
}

void blast_synth_close(struct blast_synth *synth)
{
	if (!synth)
		return;
	free(synth->keep);
	free(synth->other);
	free(synth);
}

static void id_draw(struct blast_synth *synth, struct blast_event *event)
{
	/* a version 4 UUID; the first byte on the wire is the highest of id[0] */
	event->id[0] = (draw(synth) & ~0xf000ULL) | 0x4000;
	event->id[1] = (draw(synth) & ~(3ULL << 62)) | 2ULL << 62;
}

static bool waiting_ready(const struct blast_synth *synth)
{
	return synth->waiting_count > 0 && synth->waiting[synth->waiting_head].ready <= synth->number;
}

void blast_synth_next(struct blast_synth *synth, uint64_t now_ms, struct blast_event *event, bool *copy)
{
	const struct blast_options *options = synth->options;
	*copy = synth->recents > 0 && draw_share(synth) < options->duplicates;
	if (*copy) {
		uint64_t kept = synth->recents < RECENT ? synth->recents : RECENT;
		*event = synth->recent[draw_below(synth, (uint32_t)kept)];
		return;
	}
	if (options->stamp_fixed)
		now_ms = options->start_ms + synth->number * FIXED_STEP_US / 1000;
	uint64_t stamp_ms = now_ms;
	double others = options->clicks + options->conversions;
	bool want_other = draw_share(synth) < others;
	if (want_other && waiting_ready(synth)) {
		*event = synth->waiting[synth->waiting_head].event;
		synth->waiting_head = (synth->waiting_head + 1) % WAITING;
		synth->waiting_count--;
		event->type = draw_share(synth) * others < options->clicks ? 1 : 2;
	} else {
		event->type = 0;
		event->ad = ad_draw(synth);
		event->device = draw_below(synth, options->devices);
		event->bid_micros = (uint32_t)(1000 + mix(event->ad) % 19000) * 100; /* 0.10 to 2.00, four decimals */
		event->position = (uint16_t)(1 + draw_below(synth, 5));
	}
	id_draw(synth, event);
	if (options->out_of_order_ms > 0)
		stamp_ms -= draw_below(synth, options->out_of_order_ms + 1);
	if (event->type == 0 && synth->waiting_count < WAITING && draw_share(synth) < synth->waits) {
		stamp_ms -= CLICK_MS_MIN + options->out_of_order_ms + draw_below(synth, CLICK_MS_SPREAD);
		uint32_t tail = (synth->waiting_head + synth->waiting_count++) % WAITING;
		synth->waiting[tail] = (struct waiting){.event = *event, .ready = synth->number + CLICK_AFTER_EVENTS};
	}
	event->stamp_ms = stamp_ms;
	synth->recent[synth->recents++ % RECENT] = *event;
	synth->number++;
}
