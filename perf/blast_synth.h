/*
 * Synthetic events: what they are, apart from how they are written down. Seeded: the same options give the same events.
 */
#ifndef TURNPIKE_BLAST_SYNTH_H
#define TURNPIKE_BLAST_SYNTH_H

#include "blast.h"

/* An event, small: everything else follows from these numbers. */
struct blast_event {
	uint64_t id[2];
	uint64_t stamp_ms;
	uint32_t ad, device, bid_micros;
	uint16_t position;
	uint8_t type; /* 0 impression, 1 click, 2 conversion */
};

struct blast_synth;

struct blast_synth *blast_synth_open(const struct blast_options *options, uint32_t thread);
void blast_synth_close(struct blast_synth *synth);
/* `now_ms` is used unless stamps are fixed. *copy: an earlier event, to be sent once more as it was. */
void blast_synth_next(struct blast_synth *synth, uint64_t now_ms, struct blast_event *event, bool *copy);

enum { BLAST_JSON_MAX = 1024 };

/* Writes the event as the seed document's JSON. `to` has room for BLAST_JSON_MAX. Returns the length. */
uint32_t blast_event_json(const struct blast_options *options, const struct blast_event *event, char *to);

/* Texts that the fields point into. */
struct blast_event_text {
	char id[40], ad[16], campaign[16], advertiser[16], publisher[16], user[24], device[24], ip[20], referer[80];
};

void blast_event_fields(const struct blast_options *options, const struct blast_event *event, struct blast_event_text *text,
			struct tpc_event *fields);

/* "id type campaign minute_ms bid_micros\n". Returns the length, at most BLAST_LEDGER_LINE_MAX. */
uint32_t blast_event_ledger(const struct blast_options *options, const struct blast_event *event, char *to);

#endif
