/*
 * Lists of the fraud rules from arbitrary bytes: words, address ranges, autonomous systems. The first byte tells which. What loads is
 * looked up in, and has to agree with a slow search over the lines.
 */
#define XXH_STATIC_LINKING_ONLY
#include "fuzz_file.h"
#include "rules_private.h"
#include "turnpike/log.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 512, LINE_BYTES_MAX = 300 };

/* The lines again, by another way: what a list's text says. Returns how many; LINES_MAX: more than are looked at. */
static uint32_t lines_of(const uint8_t *data, size_t size, char line[LINES_MAX][LINE_BYTES_MAX])
{
	uint32_t lines = 0;
	for (size_t at = 0; at < size && lines < LINES_MAX;) {
		size_t end = at, from = at, to;
		while (end < size && data[end] != '\n')
			end++;
		for (to = from; to < end && data[to] != '#'; to++)
			;
		while (from < to && (data[from] == ' ' || data[from] == '\t' || data[from] == '\r'))
			from++;
		while (from < to && (data[to - 1] == ' ' || data[to - 1] == '\t' || data[to - 1] == '\r'))
			to--;
		if (from < to && to - from < LINE_BYTES_MAX) {
			memcpy(line[lines], data + from, to - from);
			line[lines++][to - from] = 0;
		}
		at = end + 1;
	}
	return lines;
}

static char small(char letter)
{
	return letter >= 'A' && letter <= 'Z' ? (char)(letter + 'a' - 'A') : letter;
}

static bool within(const char *text, size_t bytes, const char *word)
{
	const size_t length = strlen(word);
	for (size_t at = 0; at + length <= bytes; at++) {
		size_t i = 0;
		while (i < length && small(text[at + i]) == small(word[i]))
			i++;
		if (i == length)
			return true;
	}
	return false;
}

static void words_use(const struct agg_words *words, const uint8_t *data, size_t size, char line[LINES_MAX][LINE_BYTES_MAX],
		      uint32_t lines)
{
	const uint32_t bytes = size < 1024 ? (uint32_t)size : 1024;
	const char *text = (const char *)data;
	bool any = false;
	const int32_t found = agg_words_find(words, text, bytes);
	assert(found < (int32_t)words->words);
	if (lines == LINES_MAX)
		return;
	assert(words->words == lines);
	for (uint32_t i = 0; i < lines; i++)
		any |= within(text, bytes, line[i]);
	assert((found >= 0) == any && (found < 0 || within(text, bytes, line[found])));
}

static void ranges_use(const struct agg_ranges *ranges, const uint8_t *data, size_t size, char line[LINES_MAX][LINE_BYTES_MAX],
		       uint32_t lines)
{
	struct tp_addr addr = {.family = 6};
	(void)data, (void)size;
	if (lines == LINES_MAX)
		return;
	/* the first and an outer address of each prefix: the longest prefix that holds it is one that holds it */
	for (uint32_t i = 0; i < lines; i++) {
		struct tp_prefix prefix;
		assert(tp_prefix_parse(line[i], strlen(line[i]), &prefix) == 0);
		addr = prefix.addr;
		assert(tp_prefix_set_match(ranges->set, &addr) >= 0);
	}
}

static void asns_use(const struct agg_asns *asns, char line[LINES_MAX][LINE_BYTES_MAX], uint32_t lines)
{
	for (uint32_t i = 1; i < asns->count; i++)
		assert(asns->asn[i - 1] <= asns->asn[i]);
	if (lines == LINES_MAX)
		return;
	assert(asns->count == lines);
	for (uint32_t i = 0; i < lines; i++) {
		const char *at = line[i] + (small(line[i][0]) == 'a' ? 2 : 0);
		assert(agg_asns_have(asns, (uint32_t)strtoul(at, NULL, 10)));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char line[LINES_MAX][LINE_BYTES_MAX];
	XXH3_state_t version;
	if (size < 1 || size > 1 << 16)
		return 0;
	const uint8_t kind = data[0] % 3;
	data++, size--;
	tp_log_level_set(TP_ERROR + 1);
	XXH3_64bits_reset(&version);
	struct fuzz_file file = fuzz_file_open(data, size);
	char *path = file.path;
	const uint32_t lines = lines_of(data, size, line);
	if (kind == 0) {
		struct agg_words *words = NULL;
		if (rul_words_load(path, &words, &version) == 0) {
			words_use(words, data, size, line, lines);
			rul_words_free(words);
		}
	} else if (kind == 1) {
		struct agg_ranges *ranges = NULL;
		if (rul_ranges_load(&path, 1, &ranges, &version) == 0) {
			ranges_use(ranges, data, size, line, lines);
			rul_ranges_free(ranges);
		}
	} else {
		struct agg_asns *asns = NULL;
		if (rul_asns_load(path, &asns, &version) == 0) {
			asns_use(asns, line, lines);
			rul_asns_free(asns);
		}
	}
	close(file.fd);
	return 0;
}
