/*
 * What user agents say, remembered: few different ones send most events, and looking one up costs a tenth of reading it.
 *
 * One memo per rx core, which alone enters it. Zeroed memory is an empty one. A place is found by a hash of the text and holds one text, in
 * full, so the answer is that of tp_device_from_user_agent() always; who sends agents that meet in a place, or new ones for ever, only
 * makes the memo useless for himself and his neighbours there. What is shorter than a vector or longer than a place is not kept.
 */
#ifndef TURNPIKE_AGENT_MEMO_H
#define TURNPIKE_AGENT_MEMO_H

#include "turnpike/event.h"

enum { TP_AGENT_BYTES_LEAST = 16, TP_AGENT_BYTES_MOST = 252, TP_AGENT_PLACES = 2048 };

struct tp_agent {
	uint16_t bytes; /* 0: empty */
	uint8_t device;
	uint8_t zero;
	char text[TP_AGENT_BYTES_MOST];
};
static_assert(sizeof(struct tp_agent) == 256, "four cache lines");

struct tp_agent_memo {
	_Alignas(64) struct tp_agent agent[TP_AGENT_PLACES];
};

#endif
