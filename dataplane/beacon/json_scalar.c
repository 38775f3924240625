/*
 * JSON events byte by byte: the oracle of the vector variants. All pairs go through json_pair.c. Any rx core; pure.
 */
#include "json_parse.h"

static const char *find_stop(const char *at, const char *end)
{
	while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20 && (unsigned char)*at < 0x80)
		at++;
	return at;
}

const struct dp_json_variant dp_json_scalar = {.name = "scalar", .find_stop = find_stop};
