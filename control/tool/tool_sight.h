/*
 * A session of looking at packets and requests (turnpike/sight.h), for the verbs trace and capture.
 */
#ifndef TURNPIKE_TOOL_SIGHT_H
#define TURNPIKE_TOOL_SIGHT_H

#include "tool.h"
#include "turnpike/sight.h"

struct ctl_sight {
	const struct tp_sight *sight;
	int connection;
	uint32_t session;
	uint64_t left; /* records still wanted */
	uint64_t until_ns;
	uint64_t lost;
	uint64_t next[64]; /* per core */
};

struct ctl_sight_options {
	const char *kinds; /* "in,out" */
	uint64_t records, seconds;
	char filter[512]; /* further words of the command */
};

/*
 * Reads --count, --seconds, --prefix, --port, --type, --path and leaves the other words in word[0 .. *words). 0, or 2 with a message.
 */
int ctl_sight_arguments(struct ctl_sight_options *options, int *words, char **word);
/* 0, or 1 with a message. */
int ctl_sight_open(struct ctl_sight *session, struct ctl_tool *tool, const struct ctl_sight_options *options);
/* The next record of any core, in order of time as far as it can be known. False: the session is over. Waits; SIGINT ends it. */
bool ctl_sight_next(struct ctl_sight *session, struct tp_sight_slot *slot);
void ctl_sight_close(struct ctl_sight *session);

/* The verdict in words, step by step: "xdp passed, link ok, ip ok, blocklist ok, tcp accepted". Returns the length. */
size_t ctl_sight_verdict(const struct tp_sight_slot *slot, char *to, size_t bytes);
/* The same as an array of {"step","verdict"}. */
json_t *ctl_sight_steps(const struct tp_sight_slot *slot);

#endif
