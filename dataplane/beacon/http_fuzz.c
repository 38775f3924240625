/*
 * Fuzzes HTTP as a connection: the first bytes say how the rest is cut, how little the peer takes and how it ends. The same bytes sent in
 * one piece must get the same answers, and the books must balance. Answers must be well-formed.
 */
#include "http_testbed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONTROL_BYTES = 8, INPUT_BYTES_MAX = 1 << 16 };

static uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static void talk(struct bed_stream *s, const uint8_t *bytes, size_t count, uint32_t random, size_t piece_max, size_t send_max,
		 bool eof)
{
	bed.now_ns = 1000000000; /* both runs at the same time: `future` depends on it */
	dp_intake_clock(bed.intake, BED_NOW_MS, bed.now_ns);
	BED_CHECK(bed_connect(s, 1));
	if (send_max != 0)
		s->send_room = send_max;
	for (size_t at = 0; at < count;) {
		size_t piece = piece_max == 0 ? count : 1 + next_random(&random) % piece_max;
		piece = piece < count - at ? piece : count - at;
		bed_input(s, bytes + at, piece);
		at += piece;
		if (send_max != 0)
			bed_transport_turn(s, 1 + next_random(&random) % send_max);
		if (piece_max != 0 && next_random(&random) % 4 == 0)
			bed_shard_turn(next_random(&random) % BED_SHARDS);
	}
	if (eof)
		bed_eof(s);
	bed_settle(s);
	BED_CHECK(!s->blocked);
	bed_check();
}

/* Every answer but the last's body is delimited as HTTP says; a HEAD's is not known here, so only heads are looked at. */
static void check_heads(const struct bed_stream *s)
{
	if (s->sent_bytes != 0)
		BED_CHECK(s->sent_bytes > 13 && memcmp(s->sent, "HTTP/1.1 ", 9) == 0);
	BED_CHECK(!s->abort_called);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < CONTROL_BYTES || size > INPUT_BYTES_MAX)
		return 0;
	if (bed.beacon == NULL)
		bed_open();
	uint32_t random;
	memcpy(&random, data, sizeof(random));
	random |= 1;
	size_t piece_max = 1 + data[4] % 128u * (data[5] % 8u), send_max = data[6] % 64u;
	bool eof = data[7] & 1, trusted = data[7] & 2;
	bed.trusted.bits = trusted ? 0 : 8;
	atomic_store(&bed.refusing, (data[7] & 12) == 12);
	struct bed_stream whole, cut;
	talk(&whole, data + CONTROL_BYTES, size - CONTROL_BYTES, random, 0, 0, eof);
	talk(&cut, data + CONTROL_BYTES, size - CONTROL_BYTES, random, piece_max, send_max, eof);
	check_heads(&whole);
	BED_CHECK(whole.sent_bytes == cut.sent_bytes &&
		  (whole.sent_bytes == 0 || memcmp(whole.sent, cut.sent, cut.sent_bytes) == 0));
	BED_CHECK(whole.close_called == cut.close_called);
	bed_disconnect(&whole);
	bed_disconnect(&cut);
	bed_round(50000);
	bed_check();
	BED_CHECK(bed.counters.v[TP_C_REQUESTS_IN_FLIGHT] == 0 && dp_beacon_owed(bed.beacon) == 0);
	BED_CHECK(bed.beacon->small.free_count == bed.beacon->small.count &&
		  bed.beacon->large.free_count == bed.beacon->large.count);
	return 0;
}
