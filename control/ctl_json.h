/*
 * JSON as text, written from front to back: for answers of thousands of numbers, where a tree of values would cost more than the
 * question. RFC 8259. Memory grows as needed; once it cannot, `failed` stays set and nothing more is written.
 *
 * One thread. Who writes keeps to the grammar: members inside of objects, values inside of arrays; commas come by themselves.
 */
#ifndef TURNPIKE_CTL_JSON_H
#define TURNPIKE_CTL_JSON_H

#include "ctl_request.h"

struct ctl_json {
	char *at;
	size_t bytes, max;
	bool comma; /* a value stands before the next one */
	bool failed;
};

void ctl_json_free(struct ctl_json *json);

void ctl_json_open(struct ctl_json *json, char bracket);  /* '{' or '[' */
void ctl_json_close(struct ctl_json *json, char bracket); /* '}' or ']' */
/* A member's name, which needs no escape; its value follows. */
void ctl_json_name(struct ctl_json *json, const char *name);
/* The same with the bytes as they are: "\"clicks\":", to be counted by the compiler. */
#define CTL_JSON_NAME(json, literal) ctl_json_raw_name(json, "\"" literal "\":", sizeof(literal) + 2)
void ctl_json_raw_name(struct ctl_json *json, const char *text, size_t bytes);

/* A count; one beyond INT64_MAX is a negative one, modulo 2^64. */
void ctl_json_number(struct ctl_json *json, uint64_t number);
/* Money: "12.345678". */
void ctl_json_micros(struct ctl_json *json, __int128 micros);
/* part / whole with twelve decimals at most; 0.0, 1.0. `whole` > 0. */
void ctl_json_ratio(struct ctl_json *json, uint64_t part, uint64_t whole);
/* The same below zero. */
void ctl_json_minus_ratio(struct ctl_json *json, uint64_t part, uint64_t whole);
/* Text that should be UTF-8; what is not becomes "?". */
void ctl_json_string(struct ctl_json *json, const char *text, size_t bytes);
/* Text that needs no escape. */
void ctl_json_plain(struct ctl_json *json, const char *text, size_t bytes);
void ctl_json_bool(struct ctl_json *json, bool value);
void ctl_json_none(struct ctl_json *json);

/* Makes the text the body of a 200, or of a 500 for want of memory. The writer is empty afterwards. */
void ctl_json_reply(struct ctl_json *json, struct ctl_reply *reply);

#endif
