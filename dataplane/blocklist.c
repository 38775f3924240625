/*
 * The blocklist: one list in force, made from several sources, and shown to the cores as one view. The header says who may enter.
 *
 *   operator's store ─┐                                       ┌─► view: prefix set, slots ─► rx cores (hits), shard cores
 *   list file 1 ──────┼─ merge: sorted, each prefix once ─ active ─► hooks.enforce: XDP tries, flow rules
 *   list file 2 ──────┘   the first source stands             └─► each entry's slot: its place among all hit counts
 *
 * A change is prepared whole (change_prepare), stored where it is the operator's, then put in force (change_commit): nothing that can
 * fail for lack of memory comes after what cannot be taken back. An entry keeps its slot as long as its prefix is on the list, from
 * whatever source. A slot that becomes free is handed out again at the next change at the earliest, when nobody can count into it for
 * the former entry any more; `origin` is what it had counted by then.
 */
#include "blocklist_source.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct active {
	const struct dp_block_entry *entry;
	uint32_t slot;
	uint32_t source; /* 0: the operator; n: list file n - 1 */
};

/* What cores see. Immutable. */
struct view {
	struct tp_prefix_set *set;
	uint32_t count;
	uint32_t verdict[]; /* by index in the set's list: slot * 2 + count_only */
};

struct dp_blocklist_reader {
	struct dp_blocklist *list;
	_Atomic uint64_t *hits; /* by slot; the reader's core writes, the command thread reads */
};

struct dp_blocklist {
	char *directory;
	struct dp_blocklist_hooks hooks;
	struct dp_block_entry *own; /* sorted; DP_BLOCKLIST_OWN_MAX of room */
	uint32_t own_count;
	struct dp_block_list file[TP_LIST_FILES_MAX];
	uint32_t files;
	struct active *active; /* sorted by prefix */
	uint32_t active_count;
	struct eb_block *block; /* the same for the hooks */
	uint32_t *free_slot;    /* a stack; below it slots that were never used, from `slots` on */
	uint32_t free_slots, slots;
	uint32_t *retired_slot; /* free from the next change on */
	uint32_t retired_slots;
	uint64_t *origin;
	uint64_t bad_lines;
	struct dp_blocklist_reader *reader;
	uint32_t readers;
	_Atomic(struct view *) view;
};

/* ---- the list in force ---- */

struct change {
	struct active *active;
	struct eb_block *block;
	struct view *view;
	uint32_t count;
	uint32_t free_slots, slots; /* as they were */
};

static void view_free(struct view *view)
{
	if (view)
		tp_prefix_set_free(view->set);
	free(view);
}

static void change_free(struct change *change)
{
	free(change->active);
	free(change->block);
	view_free(change->view);
	*change = (struct change){0};
}

/* All sources side by side, in order; of equal prefixes the first source's. Returns how many; they fit `to` or it is NULL. */
static uint32_t merge(const struct dp_blocklist *list, struct active *to)
{
	const struct dp_block_entry *at[TP_LIST_FILES_MAX + 1], *end[TP_LIST_FILES_MAX + 1];
	uint32_t count = 0;

	at[0] = list->own;
	end[0] = list->own + list->own_count;
	for (uint32_t i = 0; i < list->files; i++) {
		at[i + 1] = list->file[i].entry;
		end[i + 1] = list->file[i].entry + list->file[i].entries;
	}
	for (;;) {
		uint32_t least = UINT32_MAX;
		for (uint32_t i = 0; i <= list->files; i++)
			if (at[i] < end[i] && (least == UINT32_MAX || dp_block_order(&at[i]->prefix, &at[least]->prefix) < 0))
				least = i;
		if (least == UINT32_MAX)
			return count;
		const struct dp_block_entry *entry = at[least];
		if (to)
			to[count] = (struct active){.entry = entry, .source = least};
		count++;
		for (uint32_t i = least; i <= list->files; i++)
			if (at[i] < end[i] && dp_block_order(&at[i]->prefix, &entry->prefix) == 0)
				at[i]++;
	}
}

/* Hits by slot since the process began: all rx cores' and all hooks'. malloc'ed; NULL: no memory. */
static uint64_t *hits_sum(struct dp_blocklist *list)
{
	uint64_t *sum = calloc(list->slots ? list->slots : 1, sizeof(*sum));

	if (!sum)
		return NULL;
	for (uint32_t r = 0; r < list->readers; r++)
		for (uint32_t slot = 0; slot < list->slots; slot++)
			sum[slot] += atomic_load_explicit(&list->reader[r].hits[slot], memory_order_relaxed);
	const int rc = list->hooks.hits && list->slots ? list->hooks.hits(list->hooks.context, sum, list->slots) : 0;
	if (rc != 0)
		tp_logf(TP_WARN, "hits of the blocklist cannot be read", "error=\"%s\"", strerror(-rc));
	return sum;
}

/* Entries that stay keep their slots, new ones get free ones. 0 or -ENOMEM. */
static int slots_give(struct dp_blocklist *list, struct change *change)
{
	uint64_t *sum = NULL;
	uint32_t old = 0;

	for (uint32_t i = 0; i < change->count; i++) {
		const struct tp_prefix *prefix = &change->active[i].entry->prefix;
		while (old < list->active_count && dp_block_order(&list->block[old].prefix, prefix) < 0)
			old++;
		if (old < list->active_count && dp_block_order(&list->block[old].prefix, prefix) == 0) {
			change->active[i].slot = list->block[old].slot;
		} else if (list->free_slots > 0) {
			const uint32_t slot = list->free_slot[--list->free_slots];
			if (!sum && !(sum = hits_sum(list)))
				return -ENOMEM;
			change->active[i].slot = slot;
			list->origin[slot] = sum[slot];
		} else {
			change->active[i].slot = list->slots++;
		}
	}
	free(sum);
	assert(list->slots <= EB_SLOTS_MAX);
	return 0;
}

static struct view *view_make(const struct change *change)
{
	struct view *view = calloc(1, sizeof(*view) + change->count * sizeof(view->verdict[0]));
	struct tp_prefix *prefix = malloc((change->count ? change->count : 1) * sizeof(*prefix));

	for (uint32_t i = 0; view && prefix && i < change->count; i++) {
		prefix[i] = change->block[i].prefix;
		view->verdict[i] = change->block[i].slot * 2 + change->block[i].count_only;
	}
	if (view && prefix) {
		view->count = change->count;
		view->set = tp_prefix_set_build(prefix, change->count);
	}
	free(prefix);
	if (view && view->set)
		return view;
	view_free(view);
	return NULL;
}

static void change_undo(struct dp_blocklist *list, struct change *change)
{
	/* what was popped still stands above the stack's top */
	list->free_slots = change->free_slots;
	list->slots = change->slots;
	change_free(change);
}

/* Makes what the sources now say into a list that can be put in force. 0, -ENOSPC: too many entries, -ENOMEM. */
static int change_prepare(struct dp_blocklist *list, struct change *change)
{
	int rc = -ENOMEM;

	*change = (struct change){.count = merge(list, NULL)};
	if (change->count > DP_BLOCKLIST_MAX)
		return -ENOSPC;
	/* Whole lists may come and go in one change: hence twice as many slots as entries. */
	while (list->retired_slots > 0)
		list->free_slot[list->free_slots++] = list->retired_slot[--list->retired_slots];
	change->free_slots = list->free_slots;
	change->slots = list->slots;
	change->active = calloc(change->count ? change->count : 1, sizeof(*change->active));
	change->block = calloc(change->count ? change->count : 1, sizeof(*change->block));
	if (change->active && change->block) {
		merge(list, change->active);
		rc = slots_give(list, change);
	}
	for (uint32_t i = 0; rc == 0 && i < change->count; i++) {
		const struct active *active = &change->active[i];
		change->block[i] = (struct eb_block){
			.prefix = active->entry->prefix, .slot = active->slot, .count_only = active->entry->count_only};
	}
	if (rc == 0 && !(change->view = view_make(change)))
		rc = -ENOMEM;
	if (rc != 0)
		change_undo(list, change);
	return rc;
}

/* Puts it in force: cores and hooks have the new list when this returns. What a hook cannot take, the rx cores look up themselves. */
static void change_commit(struct dp_blocklist *list, struct change *change)
{
	uint32_t now = 0;

	for (uint32_t old = 0; old < list->active_count; old++) {
		while (now < change->count && dp_block_order(&change->block[now].prefix, &list->block[old].prefix) < 0)
			now++;
		if (now == change->count || dp_block_order(&change->block[now].prefix, &list->block[old].prefix) != 0)
			list->retired_slot[list->retired_slots++] = list->block[old].slot;
	}
	/* seq_cst: pairs with the fence of a core that wakes up, see core.h */
	struct view *before = atomic_exchange(&list->view, change->view);
	if (before && list->hooks.synchronize)
		list->hooks.synchronize(list->hooks.context);
	view_free(before);
	free(list->active);
	free(list->block);
	list->active = change->active;
	list->block = change->block;
	list->active_count = change->count;
	const int rc = dp_blocklist_enforce(list);
	if (rc != 0)
		tp_logf(TP_WARN, "blocklist could not be pushed to where packets come in", "error=\"%s\"", strerror(-rc));
}

int dp_blocklist_enforce(struct dp_blocklist *list)
{
	return list->hooks.enforce ? list->hooks.enforce(list->hooks.context, list->block, list->active_count) : 0;
}

/* ---- the operator's entries ---- */

/* Where the prefix is or would be among the operator's. */
static uint32_t own_find(const struct dp_blocklist *list, const struct tp_prefix *prefix, bool *there)
{
	uint32_t first = 0, behind = list->own_count;

	while (first < behind) {
		const uint32_t middle = first + (behind - first) / 2;
		if (dp_block_order(&list->own[middle].prefix, prefix) < 0)
			first = middle + 1;
		else
			behind = middle;
	}
	*there = first < list->own_count && dp_block_order(&list->own[first].prefix, prefix) == 0;
	return first;
}

static void own_insert(struct dp_blocklist *list, uint32_t index, struct dp_block_entry entry)
{
	memmove(&list->own[index + 1], &list->own[index], (list->own_count - index) * sizeof(*list->own));
	list->own[index] = entry;
	list->own_count++;
}

static struct dp_block_entry own_remove(struct dp_blocklist *list, uint32_t index)
{
	const struct dp_block_entry entry = list->own[index];

	memmove(&list->own[index], &list->own[index + 1], (list->own_count - index - 1) * sizeof(*list->own));
	list->own_count--;
	return entry;
}

/* Prepares what the sources say, stores the operator's, puts it in force. After an error nothing has changed but the sources. */
static int own_change(struct dp_blocklist *list)
{
	struct change change;
	int rc = change_prepare(list, &change);

	if (rc != 0)
		return rc;
	rc = dp_block_store_write(list->directory, list->own, list->own_count);
	if (rc != 0) { /* what is not kept is not in force either */
		change_undo(list, &change);
		return rc;
	}
	change_commit(list, &change);
	return 0;
}

int dp_blocklist_add(struct dp_blocklist *list, const struct tp_prefix *prefix, uint64_t now_ms, uint64_t expires_ms,
		     bool count_only, const char *reason)
{
	struct dp_block_entry entry = {
		.prefix = dp_block_masked(prefix), .added_ms = now_ms, .expires_ms = expires_ms, .count_only = count_only};
	struct dp_block_entry before = {0};
	char *text = strndup(reason, DP_BLOCKLIST_REASON_BYTES - 1);
	bool there;
	const uint32_t index = own_find(list, &entry.prefix, &there);

	if (!text)
		return -ENOMEM;
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
	entry.reason = text;
	int rc = !there && list->own_count == DP_BLOCKLIST_OWN_MAX ? -ENOSPC : 0;
	if (rc == 0) {
		if (there)
			before = own_remove(list, index);
		own_insert(list, index, entry);
		rc = own_change(list);
		if (rc != 0) {
			own_remove(list, index);
			if (there)
				own_insert(list, index, before);
		}
	}
	free((char *)(uintptr_t)(rc ? text : before.reason));
	return rc;
}

int dp_blocklist_del(struct dp_blocklist *list, const struct tp_prefix *prefix)
{
	const struct tp_prefix wanted = dp_block_masked(prefix);
	bool there;
	const uint32_t index = own_find(list, &wanted, &there);

	if (!there) {
		for (uint32_t i = 0; i < list->active_count; i++)
			if (dp_block_order(&list->block[i].prefix, &wanted) == 0)
				return -EPERM;
		return -ENOENT;
	}
	const struct dp_block_entry entry = own_remove(list, index);
	const int rc = own_change(list);
	if (rc != 0)
		own_insert(list, index, entry);
	else
		free((char *)(uintptr_t)entry.reason);
	return rc;
}

/* Expired entries end also where the disk takes no write: at the next start they would be left out anyhow. */
static void own_expire(struct dp_blocklist *list, uint64_t now_ms)
{
	uint32_t kept = 0, expired = 0;

	for (uint32_t i = 0; i < list->own_count && !expired; i++)
		expired += list->own[i].expires_ms && list->own[i].expires_ms <= now_ms;
	if (!expired)
		return;
	/* The entries in force point here, so they change places only once their successors are made. */
	struct dp_block_entry *gone = malloc(list->own_count * sizeof(*gone));
	if (!gone)
		return; /* at the next tick */
	expired = 0;
	for (uint32_t i = 0; i < list->own_count; i++) {
		if (list->own[i].expires_ms && list->own[i].expires_ms <= now_ms)
			gone[expired++] = list->own[i];
		else
			list->own[kept++] = list->own[i];
	}
	list->own_count = kept;
	struct change change;
	int rc = change_prepare(list, &change);
	if (rc != 0) { /* at the next tick */
		bool there;
		for (uint32_t i = 0; i < expired; i++)
			own_insert(list, own_find(list, &gone[i].prefix, &there), gone[i]);
	} else {
		change_commit(list, &change);
		for (uint32_t i = 0; i < expired; i++)
			free((char *)(uintptr_t)gone[i].reason);
		rc = dp_block_store_write(list->directory, list->own, list->own_count);
	}
	free(gone);
	if (rc != 0)
		tp_logf(TP_WARN, "cannot store the blocklist without its expired entries", "error=\"%s\"", strerror(-rc));
}

/* ---- the list files ---- */

/* Puts a file that was read in the place of its former self. -ENOSPC, -ENOMEM: not, and it is still the caller's. */
static int file_replace(struct dp_blocklist *list, uint32_t index, struct dp_block_list *fresh)
{
	struct dp_block_list former = list->file[index];
	struct change change;

	list->file[index] = *fresh;
	const int rc = change_prepare(list, &change);
	if (rc != 0) {
		list->file[index] = former;
		return rc;
	}
	change_commit(list, &change);
	dp_block_list_free(&former);
	return 0;
}

static void file_say(const struct dp_block_list *file, int rc)
{
	if (rc == 0)
		tp_logf(TP_INFO, "blocklist file in force", "file=%s entries=%u bad_lines=%u count_only=%d", file->path,
			file->entries, file->bad_lines, file->count_only);
	else if (rc == -E2BIG || rc == -ENOSPC)
		tp_logf(TP_ERROR, "blocklist file has too many entries", "file=%s entries_max=%d", file->path, DP_BLOCKLIST_MAX);
	else
		tp_logf(TP_ERROR, "blocklist file cannot be read", "file=%s error=\"%s\"", file->path, strerror(-rc));
}

/* Looks whether one file has changed and stood still, and takes it over. */
static void file_tick(struct dp_blocklist *list, uint32_t index, uint64_t now_ms)
{
	struct dp_block_list *file = &list->file[index], fresh;
	struct dp_block_stamp stamp;
	int rc = dp_block_stamp_look(file->path, &stamp);

	if (rc != 0) {
		if (file->error != rc)
			tp_logf(TP_ERROR, "blocklist file is gone, its entries stay in force", "file=%s entries=%u error=\"%s\"",
				file->path, file->entries, strerror(-rc));
		file->error = rc;
		return;
	}
	if (dp_block_stamp_equal(&stamp, &file->stamp)) {
		if (file->error == -ENOENT || file->error == -EACCES)
			file->error = 0; /* it is back as it was */
		return;
	}
	if (!dp_block_stamp_equal(&stamp, &file->waiting)) {
		file->waiting = stamp; /* perhaps half written */
		return;
	}
	rc = dp_block_list_read(&fresh, file->path, file->count_only, now_ms);
	if (rc == 0)
		rc = file_replace(list, index, &fresh);
	if (rc == 0) {
		list->bad_lines += fresh.bad_lines;
		file_say(file, 0);
		return;
	}
	if (rc != -EAGAIN) { /* once; the former entries stay */
		file_say(&fresh, rc);
		file->stamp = fresh.stamp;
		file->error = rc;
	}
	dp_block_list_free(&fresh);
}

void dp_blocklist_tick(struct dp_blocklist *list, uint64_t now_ms)
{
	own_expire(list, now_ms);
	for (uint32_t i = 0; i < list->files; i++)
		file_tick(list, i, now_ms);
}

static void files_free(struct dp_block_list *file, uint32_t files)
{
	for (uint32_t i = 0; i < files; i++)
		dp_block_list_free(&file[i]);
}

int dp_blocklist_files(struct dp_blocklist *list, const struct tp_config_list_file *file, uint32_t files)
{
	struct dp_block_list *fresh = calloc(TP_LIST_FILES_MAX, sizeof(*fresh));
	struct change change;
	uint32_t read = 0;
	int rc = !fresh ? -ENOMEM : files > TP_LIST_FILES_MAX ? -E2BIG : 0;

	for (; rc == 0 && read < files; read++) {
		rc = dp_block_list_read(&fresh[read], file[read].path, file[read].count_only, tp_now_ms());
		if (rc != 0)
			file_say(&fresh[read], rc);
	}
	if (rc == 0) {
		struct dp_block_list former[TP_LIST_FILES_MAX];
		const uint32_t formers = list->files;
		memcpy(former, list->file, sizeof(former));
		memcpy(list->file, fresh, sizeof(list->file));
		list->files = files;
		rc = change_prepare(list, &change);
		if (rc != 0) {
			tp_logf(TP_ERROR, "blocklist files have too many entries together", "entries_max=%d error=\"%s\"",
				DP_BLOCKLIST_MAX, strerror(-rc));
			memcpy(list->file, former, sizeof(former));
			list->files = formers;
		} else {
			change_commit(list, &change);
			files_free(former, formers);
			for (uint32_t i = 0; i < files; i++) {
				list->bad_lines += list->file[i].bad_lines;
				file_say(&list->file[i], 0);
			}
			read = 0; /* they are the list's now */
		}
	}
	if (fresh)
		files_free(fresh, read);
	free(fresh);
	return rc;
}

/* ---- from start to end ---- */

static int reader_make(struct dp_blocklist_reader *reader, struct dp_blocklist *list)
{
	const size_t bytes = EB_SLOTS_MAX * sizeof(reader->hits[0]);

	reader->list = list;
	reader->hits = malloc(bytes);
	if (!reader->hits)
		return -ENOMEM;
	/* touched now, not by the rx core's first hits */
	memset((void *)reader->hits, 0, bytes);
	return 0;
}

int dp_blocklist_open(struct dp_blocklist **out, const struct dp_blocklist_options *options)
{
	struct dp_blocklist *list = calloc(1, sizeof(*list));
	int rc = list ? 0 : -ENOMEM;

	if (rc == 0) {
		list->hooks = options->hooks;
		list->directory = strdup(options->data_dir);
		list->own = calloc(DP_BLOCKLIST_OWN_MAX + 1, sizeof(*list->own));
		list->free_slot = calloc(EB_SLOTS_MAX, sizeof(*list->free_slot));
		list->retired_slot = calloc(EB_SLOTS_MAX, sizeof(*list->retired_slot));
		list->origin = calloc(EB_SLOTS_MAX, sizeof(*list->origin));
		list->reader = calloc(options->readers ? options->readers : 1, sizeof(*list->reader));
		if (!list->directory || !list->own || !list->free_slot || !list->retired_slot || !list->origin || !list->reader)
			rc = -ENOMEM;
	}
	for (; rc == 0 && list->readers < options->readers; list->readers++)
		rc = reader_make(&list->reader[list->readers], list);
	if (rc == 0)
		rc = dp_block_store_read(list->directory, tp_now_ms(), list->own, &list->own_count);
	if (rc == 0)
		rc = dp_blocklist_files(list, options->file, options->files);
	if (rc != 0) {
		dp_blocklist_close(list);
		return rc;
	}
	*out = list;
	return 0;
}

void dp_blocklist_close(struct dp_blocklist *list)
{
	if (!list)
		return;
	view_free(atomic_load(&list->view));
	for (uint32_t i = 0; i < list->own_count; i++)
		free((char *)(uintptr_t)list->own[i].reason);
	files_free(list->file, list->files);
	for (uint32_t i = 0; i < list->readers; i++)
		free((void *)list->reader[i].hits);
	free(list->reader);
	free(list->directory);
	free(list->own);
	free(list->active);
	free(list->block);
	free(list->free_slot);
	free(list->retired_slot);
	free(list->origin);
	free(list);
}

struct dp_blocklist_reader *dp_blocklist_reader(struct dp_blocklist *list, uint32_t rx)
{
	return rx < list->readers ? &list->reader[rx] : NULL;
}

/* ---- what is shown ---- */

static json_t *text_json(const char *text)
{
	json_t *value = json_string(text);

	return value ? value : json_string("(not UTF-8)");
}

static json_t *item_json(const struct dp_blocklist *list, const struct active *active, const uint64_t *sum)
{
	const struct dp_block_entry *entry = active->entry;
	const uint64_t hits = sum[active->slot] - list->origin[active->slot];
	char prefix[TP_PREFIX_TEXT_BYTES];

	tp_prefix_text(&entry->prefix, prefix);
	return json_pack("{s:s, s:o, s:o, s:b, s:I, s:I, s:o}", "prefix", prefix, "reason", text_json(entry->reason), "expires_ms",
			 entry->expires_ms ? json_integer((json_int_t)entry->expires_ms) : json_null(), "count_only",
			 entry->count_only, "added_ms", (json_int_t)entry->added_ms, "hits", (json_int_t)hits, "file",
			 active->source ? text_json(list->file[active->source - 1].path) : json_null());
}

static json_t *files_json(const struct dp_blocklist *list)
{
	json_t *files = json_array();

	for (uint32_t i = 0; i < list->files; i++) {
		const struct dp_block_list *file = &list->file[i];
		json_array_append_new(files, json_pack("{s:o, s:I, s:I, s:b, s:I, s:o}", "file", text_json(file->path), "entries",
						       (json_int_t)file->entries, "bad_lines", (json_int_t)file->bad_lines,
						       "count_only", file->count_only, "loaded_ms", (json_int_t)file->loaded_ms,
						       "error", file->error ? json_string(strerror(-file->error)) : json_null()));
	}
	return files;
}

json_t *dp_blocklist_json(struct dp_blocklist *list, const struct tp_prefix *after, uint32_t limit)
{
	uint64_t *sum = hits_sum(list);
	json_t *items = json_array(), *next = json_null();
	uint32_t first = 0, shown = 0;

	if (!sum) {
		json_decref(items);
		return NULL;
	}
	if (after) {
		const struct tp_prefix from = dp_block_masked(after);
		while (first < list->active_count && dp_block_order(&list->block[first].prefix, &from) <= 0)
			first++;
	}
	for (; first + shown < list->active_count && shown < limit; shown++)
		json_array_append_new(items, item_json(list, &list->active[first + shown], sum));
	free(sum);
	if (shown > 0 && first + shown < list->active_count) {
		char prefix[TP_PREFIX_TEXT_BYTES];
		tp_prefix_text(&list->block[first + shown - 1].prefix, prefix);
		next = json_string(prefix);
	}
	return json_pack("{s:o, s:o, s:I, s:o}", "items", items, "next", next, "total", (json_int_t)list->active_count, "files",
			 files_json(list));
}

uint32_t dp_blocklist_entries(const struct dp_blocklist *list)
{
	return list->active_count;
}

uint64_t dp_blocklist_bad_lines(const struct dp_blocklist *list)
{
	return list->bad_lines;
}

/* ---- cores ---- */

bool dp_blocklist_blocked(void *context, const struct tp_addr *peer)
{
	struct dp_blocklist_reader *reader = context;
	/* acquire: the view behind the pointer is whole */
	const struct view *view = atomic_load_explicit(&reader->list->view, memory_order_acquire);
	const int64_t match = view->count ? tp_prefix_set_match(view->set, peer) : -1;
	if (match < 0)
		return false;
	_Atomic uint64_t *hits = &reader->hits[view->verdict[match] / 2];
	/* one writer: the core of this reader */
	atomic_store_explicit(hits, atomic_load_explicit(hits, memory_order_relaxed) + 1, memory_order_relaxed);
	return view->verdict[match] % 2 == 0;
}

bool dp_blocklist_listed(const void *context, const struct tp_addr *addr)
{
	const struct dp_blocklist *list = context;
	const struct view *view = atomic_load_explicit(&list->view, memory_order_acquire);
	const int64_t match = view->count ? tp_prefix_set_match(view->set, addr) : -1;

	return match >= 0 && view->verdict[match] % 2 == 0;
}
