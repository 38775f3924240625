/*
 * An HTTP/1.1 answer, as much of it as a load generator must understand. Pure.
 */
#ifndef TURNPIKE_BLAST_ANSWER_H
#define TURNPIKE_BLAST_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blast_answer {
	uint32_t status;
	uint32_t retry_after_s; /* 0: not said */
	bool close;             /* the connection ends behind it */
	size_t body_at, body_bytes;
	size_t bytes; /* of the whole answer */
};

/* Reads the answer at text[0]. 1: done; 0: more bytes are needed; -EPROTO: this is no answer whose end can be known. */
int blast_answer_read(const char *text, size_t bytes, struct blast_answer *answer);

/* The body of a report (contract section 5). */
struct blast_report {
	uint64_t accepted, duplicates, late, conflicts;
	uint32_t rejected;
	uint32_t *index; /* of each rejected event, ascending; free() it */
	char first[160]; /* why the first was rejected */
};

/* 0, or -EPROTO if the body is no report. */
int blast_report_read(const char *body, size_t bytes, struct blast_report *report);

#endif
