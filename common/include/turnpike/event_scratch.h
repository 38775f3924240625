/*
 * The memory with which one rx core finishes its events (tp_event_finish_with()). Fixed size; zeroed memory is a fresh one; part of
 * whatever that core's parsers own.
 */
#ifndef TURNPIKE_EVENT_SCRATCH_H
#define TURNPIKE_EVENT_SCRATCH_H

#include "turnpike/agent_memo.h"

enum { TP_PAYLOAD_FIXED_BYTES = 88 }; /* what is hashed before the strings: common/event.c */

struct tp_event_scratch {
	struct tp_agent_memo agents;
	/* The payload of the event that was finished last, and room for a string that is copied in whole vectors. */
	_Alignas(64) char payload[TP_PAYLOAD_FIXED_BYTES + TP_SENT_BYTES_MAX - TP_EVENT_FIXED_BYTES + 2 * TP_SLACK_BYTES];
};

#endif
