/*
 * Durations and sizes with units, as the configuration and the tool's options write them. Pure; cold; any thread.
 * Whole numbers only: "1.5h" is refused, since "90m" says the same without a question of rounding.
 */
#include "turnpike/text.h"

#include <errno.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t worth;
};

static const struct unit duration_units[] = {
	{"ns", 1},
	{"us", 1000},
	{"ms", 1000000},
	{"s", 1000000000},
	{"m", 60 * 1000000000ULL},
	{"h", 3600 * 1000000000ULL},
	{"d", 86400 * 1000000000ULL},
	{"w", 7 * 86400 * 1000000000ULL},
	{"y", 365 * 86400 * 1000000000ULL},
};

static const struct unit size_units[] = {
	{"", 1}, {"B", 1}, {"KiB", 1ULL << 10}, {"MiB", 1ULL << 20}, {"GiB", 1ULL << 30}, {"TiB", 1ULL << 40},
};

static int parse(const char *text, size_t bytes, const struct unit *unit, size_t units, uint64_t *out)
{
	uint64_t number = 0;
	int overflow = 0;
	size_t at = 0;
	for (; at < bytes && (unsigned char)(text[at] - '0') < 10; at++)
		overflow |= __builtin_mul_overflow(number, 10, &number) ||
			    __builtin_add_overflow(number, (uint64_t)(text[at] - '0'), &number);
	if (at == 0)
		return -EINVAL;
	for (size_t i = 0; i < units; i++) {
		if (strlen(unit[i].name) != bytes - at || memcmp(unit[i].name, text + at, bytes - at) != 0)
			continue;
		uint64_t product;
		if (overflow || __builtin_mul_overflow(number, unit[i].worth, &product))
			return -ERANGE;
		*out = product;
		return 0;
	}
	return -EINVAL;
}

int tp_duration_parse(const char *text, size_t bytes, uint64_t *ns)
{
	if (bytes == 1 && text[0] == '0') {
		*ns = 0;
		return 0;
	}
	return parse(text, bytes, duration_units, sizeof duration_units / sizeof duration_units[0], ns);
}

int tp_size_parse(const char *text, size_t bytes, uint64_t *size)
{
	int status = parse(text, bytes, size_units, sizeof size_units / sizeof size_units[0], size);
	return status ? -EINVAL : 0;
}
