/* Lists of prefixes and of autonomous systems. */
#include "rules_private.h"

#include "turnpike/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIXES_MAX = 4 << 20, LISTS_MAX = 1024 };

struct prefixes {
	const char *path;
	struct tp_prefix *prefix;
	uint16_t *list_of;
	uint32_t count, count_max;
	uint16_t list;
};

static int prefix_take(void *context, char *entry, uint32_t line)
{
	struct prefixes *to = context;
	if (to->count == to->count_max) {
		uint32_t more = to->count_max ? 2 * to->count_max : 1024;
		struct tp_prefix *prefix = realloc(to->prefix, more * sizeof(*prefix));
		if (prefix)
			to->prefix = prefix;
		uint16_t *list_of = realloc(to->list_of, more * sizeof(*list_of));
		if (list_of)
			to->list_of = list_of;
		if (!prefix || !list_of)
			return -ENOMEM;
		to->count_max = more;
	}
	if (to->count == PREFIXES_MAX || tp_prefix_parse(entry, strlen(entry), &to->prefix[to->count])) {
		tp_logf(TP_ERROR,
			"fraud.bot_addresses: expected an IPv4 or IPv6 prefix such as 192.0.2.0/24, at most 4194304 of them",
			"file=%s line=%u found=\"%.64s\"", to->path, line, entry);
		return -EINVAL;
	}
	to->list_of[to->count++] = to->list;
	return 0;
}

/* A list is called by its file's name without folder: that is the evidence. */
static void name_take(char name[8], const char *path)
{
	const char *slash = strrchr(path, '/'), *from = slash ? slash + 1 : path;
	memcpy(name, from, strnlen(from, 8));
}

int rul_ranges_load(char *const *path, uint32_t count, struct agg_ranges **to, XXH3_state_t *version)
{
	if (count > LISTS_MAX)
		return -E2BIG;
	struct prefixes prefixes = {0};
	struct agg_ranges *ranges = calloc(1, sizeof(*ranges));
	char(*name)[8] = calloc(count, sizeof(*name));
	int rc = ranges && name ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < count && !rc; i++) {
		char *text;
		size_t bytes;
		rc = rul_file_read(path[i], RUL_LIST_BYTES_MAX, &text, &bytes);
		if (rc)
			break;
		rul_version_add(version, text, bytes);
		name_take(name[i], path[i]);
		prefixes.path = path[i];
		prefixes.list = (uint16_t)i;
		rc = rul_lines(text, prefix_take, &prefixes);
		free(text);
	}
	if (!rc) {
		ranges->set = tp_prefix_set_build(prefixes.prefix, prefixes.count);
		rc = ranges->set ? 0 : -ENOMEM;
	}
	free(prefixes.prefix);
	if (rc) {
		free(prefixes.list_of);
		free(name);
		free(ranges);
		return rc;
	}
	ranges->list_of = prefixes.list_of;
	ranges->name = (const char(*)[8])name;
	*to = ranges;
	return 0;
}

void rul_ranges_free(struct agg_ranges *ranges)
{
	if (!ranges)
		return;
	tp_prefix_set_free((struct tp_prefix_set *)(uintptr_t)ranges->set);
	free((void *)(uintptr_t)ranges->list_of);
	free((void *)(uintptr_t)ranges->name);
	free(ranges);
}

struct numbers {
	const char *path;
	uint32_t *asn;
	uint32_t count;
};

static int asn_take(void *context, char *entry, uint32_t line)
{
	struct numbers *to = context;
	if ((entry[0] == 'A' || entry[0] == 'a') && (entry[1] == 'S' || entry[1] == 's'))
		entry += 2;
	char *end = entry;
	unsigned long long asn = strspn(entry, "0123456789") == strlen(entry) ? strtoull(entry, &end, 10) : 0;
	if (*end || !asn || asn > UINT32_MAX) {
		tp_logf(TP_ERROR, "fraud.bot_asns: expected an autonomous system number such as 64496 or AS64496",
			"file=%s line=%u", to->path, line);
		return -EINVAL;
	}
	uint32_t *larger = realloc(to->asn, (to->count + 1) * sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	to->asn = larger;
	to->asn[to->count++] = (uint32_t)asn;
	return 0;
}

static int ascending(const void *left, const void *right)
{
	const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	return a < b ? -1 : a > b;
}

int rul_asns_load(const char *path, struct agg_asns **to, XXH3_state_t *version)
{
	char *text;
	size_t bytes;
	int rc = rul_file_read(path, RUL_LIST_BYTES_MAX, &text, &bytes);
	if (rc)
		return rc;
	rul_version_add(version, text, bytes);
	struct numbers numbers = {.path = path};
	rc = rul_lines(text, asn_take, &numbers);
	free(text);
	struct agg_asns *asns = rc ? NULL : calloc(1, sizeof(*asns));
	if (!asns) {
		free(numbers.asn);
		return rc ? rc : -ENOMEM;
	}
	if (numbers.count)
		qsort(numbers.asn, numbers.count, sizeof(numbers.asn[0]), ascending);
	asns->asn = numbers.asn;
	asns->count = numbers.count;
	*to = asns;
	return 0;
}

void rul_asns_free(struct agg_asns *asns)
{
	if (!asns)
		return;
	free((void *)(uintptr_t)asns->asn);
	free(asns);
}
