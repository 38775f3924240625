/* The tables of a recount; see ctl_recount_table.h. */
#include "ctl_recount_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* A line has two names at most, and they are short as a rule. */
enum { NAME_BYTES = 24, SLOT_BYTES = sizeof(uint32_t) };

static uint64_t power_below(uint64_t n)
{
	return n < 2 ? 1 : UINT64_C(1) << (63 - __builtin_clzll(n));
}

/* Half of the memory for ids, the rest for lines with their names. */
int recount_table_open(struct recount_table *table, uint64_t bytes)
{
	const uint64_t line_bytes = sizeof(struct recount_line) + 2 * (sizeof(struct recount_name) + NAME_BYTES + 4 * SLOT_BYTES);

	*table = (struct recount_table){0};
	table->id_slots = power_below(bytes / 2 / sizeof(struct recount_id));
	table->ids_max = table->id_slots / 4 * 3;
	uint64_t lines = bytes / 2 / line_bytes;
	table->lines_max = lines > UINT32_MAX / 4 ? UINT32_MAX / 4 : (uint32_t)lines;
	table->names_max = 2 * table->lines_max;
	table->text_bytes_max = table->names_max * NAME_BYTES > UINT32_MAX / 2 ? UINT32_MAX / 2 : table->names_max * NAME_BYTES;
	table->line_slots = 2 * (uint32_t)power_below(table->lines_max);
	table->name_slots = 2 * (uint32_t)power_below(table->names_max);
	table->id = calloc(table->id_slots, sizeof(*table->id));
	table->line = malloc((uint64_t)table->lines_max * sizeof(*table->line) + 1);
	table->line_index = calloc(table->line_slots, SLOT_BYTES);
	table->name = malloc((uint64_t)table->names_max * sizeof(*table->name) + 1);
	table->name_index = calloc(table->name_slots, SLOT_BYTES);
	table->text = malloc((uint64_t)table->text_bytes_max + 1);
	if (!table->id || !table->line || !table->line_index || !table->name || !table->name_index || !table->text ||
	    getrandom(table->key, sizeof(table->key), 0) != (ssize_t)sizeof(table->key)) {
		recount_table_close(table);
		return -ENOMEM;
	}
	return 0;
}

void recount_table_close(struct recount_table *table)
{
	free(table->id);
	free(table->line);
	free(table->line_index);
	free(table->name);
	free(table->name_index);
	free(table->text);
	*table = (struct recount_table){0};
}

void recount_table_clear_ids(struct recount_table *table)
{
	if (table->ids)
		memset(table->id, 0, table->id_slots * sizeof(*table->id));
	table->ids = 0;
}

void recount_table_clear(struct recount_table *table)
{
	recount_table_clear_ids(table);
	memset(table->line_index, 0, (uint64_t)table->line_slots * SLOT_BYTES);
	memset(table->name_index, 0, (uint64_t)table->name_slots * SLOT_BYTES);
	table->lines = table->names = table->text_bytes = 0;
}

/* ---- ids ---- */

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t recount_id_hash(const struct recount_table *table, struct tp_id id, uint32_t minute)
{
	const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
	return fold(fold(id.hi ^ table->key[0], id.lo ^ table->key[1]) ^ minute, odd ^ table->key[0]);
}

struct recount_id *recount_id_find(struct recount_table *table, struct tp_id id, uint32_t minute, uint64_t hash)
{
	uint64_t slot = hash & (table->id_slots - 1);

	for (;; slot = (slot + 1) & (table->id_slots - 1)) {
		struct recount_id *entry = &table->id[slot];
		if (!entry->state)
			break;
		if (entry->hi == id.hi && entry->lo == id.lo && entry->minute == minute)
			return entry;
	}
	if (table->ids >= table->ids_max)
		return NULL;
	table->ids++;
	table->id[slot] = (struct recount_id){.hi = id.hi, .lo = id.lo, .minute = minute};
	return &table->id[slot];
}

/* ---- names ---- */

static uint64_t text_hash(const struct recount_table *table, struct tp_str text)
{
	uint64_t hash = table->key[0] ^ text.bytes, word;

	for (uint32_t at = 0; at < text.bytes; at += 8) {
		uint32_t rest = text.bytes - at;
		word = 0;
		memcpy(&word, text.at + at, rest < 8 ? rest : 8);
		hash = fold(hash ^ word, table->key[1] | 1) + word;
	}
	return hash;
}

struct tp_str recount_name_text(const struct recount_table *table, uint32_t number)
{
	return (struct tp_str){.at = table->text + table->name[number].at, .bytes = table->name[number].bytes};
}

bool recount_name_find(struct recount_table *table, struct tp_str name, uint32_t *number)
{
	uint32_t slot = (uint32_t)text_hash(table, name) & (table->name_slots - 1);

	for (; table->name_index[slot]; slot = (slot + 1) & (table->name_slots - 1)) {
		*number = table->name_index[slot] - 1;
		struct tp_str there = recount_name_text(table, *number);
		if (there.bytes == name.bytes && !memcmp(there.at, name.at, name.bytes))
			return true;
	}
	if (table->names == table->names_max || name.bytes > table->text_bytes_max - table->text_bytes)
		return false;
	*number = table->names++;
	table->name[*number] = (struct recount_name){.at = table->text_bytes, .bytes = name.bytes};
	memcpy(table->text + table->text_bytes, name.at, name.bytes);
	table->text_bytes += name.bytes;
	table->name_index[slot] = *number + 1;
	return true;
}

/* ---- lines ---- */

struct recount_line *recount_line_find(struct recount_table *table, uint32_t advertiser, uint32_t campaign, uint32_t minute,
				       const char currency[3])
{
	uint64_t money = (uint8_t)currency[0] | (uint64_t)(uint8_t)currency[1] << 8 | (uint64_t)(uint8_t)currency[2] << 16;
	uint64_t hash = fold((((uint64_t)advertiser << 32) | campaign) ^ table->key[0], (minute | money << 32) ^ table->key[1]);
	uint32_t slot = (uint32_t)hash & (table->line_slots - 1);

	for (; table->line_index[slot]; slot = (slot + 1) & (table->line_slots - 1)) {
		struct recount_line *line = &table->line[table->line_index[slot] - 1];
		if (line->campaign == campaign && line->minute == minute && line->advertiser == advertiser &&
		    !memcmp(line->currency, currency, 3))
			return line;
	}
	if (table->lines == table->lines_max)
		return NULL;
	struct recount_line *line = &table->line[table->lines++];
	*line = (struct recount_line){.advertiser = advertiser, .campaign = campaign, .minute = minute};
	memcpy(line->currency, currency, 3);
	table->line_index[slot] = table->lines;
	return line;
}

static int text_compare(struct tp_str a, struct tp_str b)
{
	int order = memcmp(a.at, b.at, a.bytes < b.bytes ? a.bytes : b.bytes);
	return order ? order : (int)a.bytes - (int)b.bytes;
}

static int line_compare(const void *one, const void *other, void *context)
{
	const struct recount_line *a = one, *b = other;
	const struct recount_table *table = context;

	if (a->minute != b->minute)
		return a->minute < b->minute ? -1 : 1;
	int order = a->advertiser == b->advertiser
			    ? 0
			    : text_compare(recount_name_text(table, a->advertiser), recount_name_text(table, b->advertiser));
	if (!order && a->campaign != b->campaign)
		order = text_compare(recount_name_text(table, a->campaign), recount_name_text(table, b->campaign));
	return order ? order : memcmp(a->currency, b->currency, 3);
}

void recount_table_sort(struct recount_table *table)
{
	qsort_r(table->line, table->lines, sizeof(*table->line), line_compare, table);
}
