/*
 * Builds the automaton that finds many words at once (agg/words.c walks it): a trie of the words in small letters, failure links by
 * breadth first, folded into a table of next states, so that a step is one look-up. Bytes that no word has share class 0.
 * Source: A. Aho, M. Corasick, "Efficient string matching: an aid to bibliographic search", CACM 18(6), 1975.
 */
#include "rules_private.h"

#include "turnpike/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STATES_MAX = UINT16_MAX, WORD_BYTES_MAX = 256, WORDS_MAX = 32768 };

static uint8_t small(uint8_t letter)
{
	return letter >= 'A' && letter <= 'Z' ? (uint8_t)(letter + 'a' - 'A') : letter;
}

static void classes_make(struct agg_words *words, const char *const *word, uint32_t count)
{
	words->classes = 1;
	for (uint32_t w = 0; w < count; w++)
		for (const char *at = word[w]; *at; at++) {
			uint8_t letter = small((uint8_t)*at);
			if (!words->class_of[letter])
				words->class_of[letter] = (uint8_t)words->classes++; /* at most 230 of them: no capitals */
		}
	for (uint32_t letter = 'A'; letter <= 'Z'; letter++)
		words->class_of[letter] = words->class_of[small((uint8_t)letter)];
}

/* The trie; 0 as a next state is "none", because nothing leads to the root. Returns how many states, 0: too many. */
static uint32_t trie_make(struct agg_words *words, uint16_t *next, uint16_t *found, const char *const *word, uint32_t count)
{
	uint32_t states = 1;
	for (uint32_t w = 0; w < count; w++) {
		uint32_t state = 0;
		for (const char *at = word[w]; *at; at++) {
			uint16_t *to = &next[state * words->classes + words->class_of[(uint8_t)*at]];
			if (!*to) {
				if (states == STATES_MAX)
					return 0;
				*to = (uint16_t)states++;
			}
			state = *to;
		}
		if (!found[state])
			found[state] = (uint16_t)(w + 1);
	}
	return states;
}

/* By breadth first: a state's failure state is nearer to the root, so its row is complete already. */
static void failures_fold(struct agg_words *words, uint16_t *next, uint16_t *found, uint16_t *fail, uint16_t *queue)
{
	uint32_t head = 0, tail = 0;
	for (uint32_t c = 0; c < words->classes; c++)
		if (next[c])
			queue[tail++] = next[c]; /* these fail to the root: 0 */
	while (head < tail) {
		uint32_t state = queue[head++];
		if (!found[state])
			found[state] = found[fail[state]];
		for (uint32_t c = 0; c < words->classes; c++) {
			uint16_t *to = &next[state * words->classes + c], other = next[fail[state] * words->classes + c];
			if (*to) {
				fail[*to] = other;
				queue[tail++] = *to;
			} else {
				*to = other;
			}
		}
	}
}

int rul_words_build(const char *const *word, uint32_t count, struct agg_words **to)
{
	size_t letters = 1;
	for (uint32_t w = 0; w < count; w++)
		letters += strlen(word[w]);
	if (letters > STATES_MAX)
		letters = STATES_MAX;
	struct agg_words *words = calloc(1, sizeof(*words));
	if (!words)
		return -ENOMEM;
	classes_make(words, word, count);
	uint16_t *next = calloc(letters * words->classes, sizeof(*next)), *found = calloc(letters, sizeof(*found));
	uint16_t *fail = calloc(2 * letters, sizeof(*fail));
	char(*name)[8] = calloc(count ? count : 1, sizeof(*name));
	words->next = next;
	words->found = found;
	words->name = (const char(*)[8])name;
	words->words = count;
	int rc = next && found && fail && name ? 0 : -ENOMEM;
	if (!rc) {
		words->states = trie_make(words, next, found, word, count);
		rc = words->states ? 0 : -E2BIG;
	}
	if (!rc) {
		failures_fold(words, next, found, fail, fail + letters);
		for (uint32_t w = 0; w < count; w++)
			memcpy(name[w], word[w], strnlen(word[w], sizeof(name[w])));
		*to = words;
	}
	free(fail);
	if (rc)
		rul_words_free(words);
	return rc;
}

void rul_words_free(struct agg_words *words)
{
	if (!words)
		return;
	free((void *)(uintptr_t)words->next);
	free((void *)(uintptr_t)words->found);
	free((void *)(uintptr_t)words->name);
	free(words);
}

struct reading {
	const char *path;
	char **word;
	uint32_t count;
};

static int word_take(void *context, char *entry, uint32_t line)
{
	struct reading *reading = context;
	size_t bytes = strlen(entry);
	if (bytes < 2 || bytes > WORD_BYTES_MAX || reading->count == WORDS_MAX) {
		tp_logf(TP_ERROR, "fraud.bot_user_agents: expected words of 2 to 256 bytes, at most 32768 of them",
			"file=%s line=%u", reading->path, line);
		return -EINVAL;
	}
	char **larger = realloc(reading->word, (reading->count + 1) * sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	reading->word = larger;
	reading->word[reading->count++] = entry;
	return 0;
}

int rul_words_load(const char *path, struct agg_words **words, XXH3_state_t *version)
{
	char *text;
	size_t bytes;
	int rc = rul_file_read(path, RUL_LIST_BYTES_MAX, &text, &bytes);
	if (rc)
		return rc;
	rul_version_add(version, text, bytes);
	struct reading reading = {.path = path};
	rc = rul_lines(text, word_take, &reading);
	if (!rc)
		rc = rul_words_build((const char *const *)reading.word, reading.count, words);
	if (rc == -E2BIG)
		tp_logf(TP_ERROR, "fraud.bot_user_agents: more words than 65534 different beginnings", "file=%s", path);
	free(reading.word);
	free(text);
	return rc;
}
