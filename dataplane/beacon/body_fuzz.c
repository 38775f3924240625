/*
 * libFuzzer: any bytes as a beacon's body. The first byte says how much room the hop rings have. The books must balance whatever
 * comes out, and every staged event must make a valid record. The intake here only checks and counts.
 */
#include "body.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct dp_intake {
	struct tp_counters counters;
	uint32_t room;
	uint32_t staged;
};

static void check(bool good)
{
	if (!good)
		abort();
}

int dp_intake_stage(struct dp_intake *intake, struct dp_request *request, const struct tp_parsed *parsed, uint32_t index)
{
	static _Alignas(8) char record[TP_EVENT_BYTES_MAX];
	check(request && index < DP_BODY_EVENTS_MAX);
	if (intake->room == 0)
		return -EAGAIN;
	intake->room--;
	intake->staged++;
	uint32_t bytes = tp_event_encoded_bytes(parsed);
	check(bytes <= sizeof record);
	tp_event_encode(parsed, (struct tp_event *)record);
	check(tp_event_valid((struct tp_event *)record, bytes));
	return 0;
}

struct tp_meter *dp_intake_meter(struct dp_intake *intake)
{
	static struct tp_meter never;
	(void)intake;
	return &never;
}

struct tp_counters *dp_intake_counters(struct dp_intake *intake)
{
	return &intake->counters;
}

uint64_t dp_intake_now_ms(const struct dp_intake *intake)
{
	(void)intake;
	return 1700000000000;
}

/* What is kept of a rejected event lies within the body, and is a valid record. */
struct dp_dead *dp_intake_dead(struct dp_intake *intake)
{
	static struct tp_hop ring;
	static struct dp_dead dead;
	if (!ring.base) {
		check(tp_hop_init(&ring, DP_DEAD_RING_BYTES) == 0);
		dp_dead_init(&dead, &ring, &intake->counters, 100000, 1 << 30);
	}
	dead.counters = &intake->counters;
	return &dead;
}

void dp_intake_dead_commit(struct dp_intake *intake)
{
	struct dp_dead *dead = dp_intake_dead(intake);
	dp_dead_commit(dead);
	for (struct tp_slot *slot; (slot = tp_hop_take(dead->ring)) != NULL;)
		check(tp_dead_letter_valid(tp_dead_letter_of(&slot->event), slot->bytes - TP_SLOT_HEADER_BYTES));
	tp_hop_durable(dead->ring, dead->ring->taken);
	dp_dead_poll(dead);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct dp_json_scratch *scratch;
	static struct dp_body_reject *rejects;
	static const struct dp_json_limits limits = {.now_ms = 1700000000000, .max_future_ms = 60000};
	static const struct dp_body_source source = {.has_ip = true, .ip = {.family = 4}};
	if (!scratch) {
		scratch = dp_json_scratch_new();
		rejects = malloc(DP_BODY_EVENTS_MAX * sizeof *rejects);
	}
	check(scratch && rejects);
	if (bytes == 0)
		return 0;
	struct dp_intake intake = {.room = data[0] < 16 ? data[0] : UINT32_MAX};
	struct dp_request request = {0};
	struct dp_body_result result =
		dp_body_stage(&intake, scratch, &request, (const char *)data + 1, bytes - 1, &limits, &source, rejects);
	const uint64_t *v = intake.counters.v;
	uint64_t rejected = 0;
	for (int counter = TP_C_EVENTS_MALFORMED; counter <= TP_C_EVENTS_TOO_LARGE; counter++)
		rejected += v[counter];
	switch (result.outcome) {
	case DP_BODY_STAGED:
		check(v[TP_C_EVENTS_RECEIVED] == rejected + intake.staged && rejected == result.rejects &&
		      v[TP_C_EVENTS_ROLLED_BACK] == 0);
		break;
	case DP_BODY_REFUSED:
		check(v[TP_C_EVENTS_RECEIVED] == rejected + intake.staged && rejected > 0 &&
		      v[TP_C_EVENTS_ROLLED_BACK] == intake.staged);
		check(result.rejects == 1);
		break;
	case DP_BODY_FULL:
		check(v[TP_C_EVENTS_RECEIVED] + rejected + v[TP_C_EVENTS_ROLLED_BACK] == 0 && intake.room == 0);
		return 0;
	}
	check(result.events == v[TP_C_EVENTS_RECEIVED]);
	for (uint32_t i = 0; i < result.rejects; i++)
		check(rejects[i].reason > TP_OK && rejects[i].reason < TP_REJECTS && rejects[i].field < TP_FIELDS);
	return 0;
}
