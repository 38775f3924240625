/*
 * The blocklist: see the header for threads and file format.
 */
#include "blocklist.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct entry {
	struct tp_prefix prefix;
	uint64_t added_ms, expires_ms;
	bool count_only;
	char reason[DP_BLOCKLIST_REASON_BYTES];
};

/* What rx cores see. Immutable but for the hit counts. */
struct view {
	struct tp_prefix_set *enforced, *counted;
	_Atomic uint64_t *enforced_hits, *counted_hits;
	uint32_t enforced_count;
	struct tp_prefix *enforced_list;
	uint32_t *enforced_entry, *counted_entry; /* index into the entries, for the listing */
	uint32_t counted_count;
};

struct dp_blocklist {
	char *directory;
	struct dp_blocklist_hooks hooks;
	struct entry *entry;
	uint64_t *hits; /* per entry, of views that are gone */
	uint32_t entries;
	_Atomic(struct view *) view;
};

static void view_free(struct view *view)
{
	if (!view)
		return;
	tp_prefix_set_free(view->enforced);
	tp_prefix_set_free(view->counted);
	free(view->enforced_hits);
	free(view->counted_hits);
	free(view->enforced_list);
	free(view->enforced_entry);
	free(view->counted_entry);
	free(view);
}

static struct view *view_build(const struct dp_blocklist *list)
{
	struct view *view = calloc(1, sizeof(*view));
	uint32_t n = list->entries ? list->entries : 1;
	struct tp_prefix *counted = calloc(n, sizeof(*counted));
	if (!view || !counted)
		goto fail;
	view->enforced_list = calloc(n, sizeof(*view->enforced_list));
	view->enforced_hits = calloc(n, sizeof(*view->enforced_hits));
	view->counted_hits = calloc(n, sizeof(*view->counted_hits));
	view->enforced_entry = calloc(n, sizeof(*view->enforced_entry));
	view->counted_entry = calloc(n, sizeof(*view->counted_entry));
	if (!view->enforced_list || !view->enforced_hits || !view->counted_hits || !view->enforced_entry || !view->counted_entry)
		goto fail;
	for (uint32_t i = 0; i < list->entries; i++) {
		const struct entry *entry = &list->entry[i];
		if (entry->count_only) {
			view->counted_entry[view->counted_count] = i;
			counted[view->counted_count++] = entry->prefix;
		} else {
			view->enforced_entry[view->enforced_count] = i;
			view->enforced_list[view->enforced_count++] = entry->prefix;
		}
	}
	view->enforced = tp_prefix_set_build(view->enforced_list, view->enforced_count);
	view->counted = tp_prefix_set_build(counted, view->counted_count);
	if (!view->enforced || !view->counted)
		goto fail;
	free(counted);
	return view;
fail:
	free(counted);
	view_free(view);
	return NULL;
}

/* Adds the hits of the current view to the entries' own counts. The view's counts start again at zero. */
static void hits_collect(struct dp_blocklist *list, struct view *view)
{
	for (uint32_t i = 0; view && i < view->enforced_count; i++)
		list->hits[view->enforced_entry[i]] += atomic_exchange_explicit(&view->enforced_hits[i], 0, memory_order_relaxed);
	for (uint32_t i = 0; view && i < view->counted_count; i++)
		list->hits[view->counted_entry[i]] += atomic_exchange_explicit(&view->counted_hits[i], 0, memory_order_relaxed);
}

/* Puts the entries as they are now in force, on rx cores and in the hooks. */
static int publish(struct dp_blocklist *list)
{
	struct view *view = view_build(list);
	if (!view)
		return -ENOMEM;
	/* seq_cst: pairs with the fence of a core that wakes up, see core.h */
	struct view *old = atomic_exchange(&list->view, view);
	if (old && list->hooks.synchronize)
		list->hooks.synchronize(list->hooks.context);
	view_free(old);
	return dp_blocklist_enforce(list);
}

int dp_blocklist_enforce(struct dp_blocklist *list)
{
	struct view *view = atomic_load_explicit(&list->view, memory_order_relaxed);
	if (!list->hooks.enforce)
		return 0;
	return list->hooks.enforce(list->hooks.context, view->enforced_list, view->enforced_count);
}

static int store(const struct dp_blocklist *list)
{
	int directory = open(list->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return -errno;
	int rc = 0;
	int fd = openat(directory, "blocklist.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!file) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		close(directory);
		return rc;
	}
	for (uint32_t i = 0; i < list->entries; i++) {
		const struct entry *entry = &list->entry[i];
		char prefix[TP_PREFIX_TEXT_BYTES];
		tp_prefix_text(&entry->prefix, prefix);
		fprintf(file, "%s %" PRIu64 " %" PRIu64 " %d %s\n", prefix, entry->added_ms, entry->expires_ms, entry->count_only,
			entry->reason);
	}
	if (fflush(file) || fsync(fd))
		rc = -errno;
	if (fclose(file) && !rc)
		rc = -errno;
	if (!rc && renameat(directory, "blocklist.new", directory, "blocklist"))
		rc = -errno;
	if (!rc && fsync(directory))
		rc = -errno;
	close(directory);
	return rc;
}

static uint32_t entry_find(const struct dp_blocklist *list, const struct tp_prefix *prefix)
{
	uint32_t i = 0;
	while (i < list->entries &&
	       !(list->entry[i].prefix.bits == prefix->bits && tp_addr_equal(&list->entry[i].prefix.addr, &prefix->addr)))
		i++;
	return i;
}

/* The prefix with its host bits cleared: how it is kept and shown. */
static struct tp_prefix masked(const struct tp_prefix *prefix)
{
	struct tp_prefix out = *prefix;
	uint32_t bits = prefix->bits + (prefix->addr.family == 4 ? 96U : 0U);
	for (uint32_t bit = bits; bit < 128; bit++)
		out.addr.byte[bit / 8] &= (uint8_t) ~(0x80U >> bit % 8);
	return out;
}

static void entry_remove(struct dp_blocklist *list, uint32_t index)
{
	memmove(&list->entry[index], &list->entry[index + 1], (list->entries - index - 1) * sizeof(*list->entry));
	memmove(&list->hits[index], &list->hits[index + 1], (list->entries - index - 1) * sizeof(*list->hits));
	list->entries--;
}

static int load(struct dp_blocklist *list)
{
	char path[4096], line[512];
	snprintf(path, sizeof(path), "%s/blocklist", list->directory);
	FILE *file = fopen(path, "re");
	if (!file)
		return errno == ENOENT ? 0 : -errno;
	uint64_t now_ms = tp_now_ms();
	int rc = 0, number = 0;
	while (!rc && fgets(line, sizeof(line), file)) {
		struct entry entry = {0};
		char prefix[64];
		int count_only, at = 0;
		number++;
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%63s %" SCNu64 " %" SCNu64 " %d %n", prefix, &entry.added_ms, &entry.expires_ms, &count_only,
			   &at) != 4 ||
		    tp_prefix_parse(prefix, strlen(prefix), &entry.prefix) || list->entries == DP_BLOCKLIST_MAX) {
			tp_logf(TP_ERROR, "broken line in the blocklist file", "path=%s line=%d", path, number);
			rc = -EBADMSG;
			break;
		}
		entry.count_only = count_only;
		snprintf(entry.reason, sizeof(entry.reason), "%s", line + at);
		if (!entry.expires_ms || entry.expires_ms > now_ms)
			list->entry[list->entries++] = entry;
	}
	fclose(file);
	return rc;
}

int dp_blocklist_open(struct dp_blocklist **out, const char *data_dir, const struct dp_blocklist_hooks *hooks)
{
	struct dp_blocklist *list = calloc(1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	int rc = -ENOMEM;
	list->hooks = *hooks;
	list->directory = strdup(data_dir);
	list->entry = calloc(DP_BLOCKLIST_MAX, sizeof(*list->entry));
	list->hits = calloc(DP_BLOCKLIST_MAX, sizeof(*list->hits));
	if (list->directory && list->entry && list->hits)
		rc = load(list);
	if (!rc) {
		struct view *view = view_build(list);
		atomic_store(&list->view, view);
		rc = view ? 0 : -ENOMEM;
	}
	if (rc) {
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
	free(list->directory);
	free(list->entry);
	free(list->hits);
	free(list);
}

int dp_blocklist_add(struct dp_blocklist *list, const struct tp_prefix *prefix, uint64_t now_ms, uint64_t expires_ms,
		     bool count_only, const char *reason)
{
	struct entry entry = {.prefix = masked(prefix), .added_ms = now_ms, .expires_ms = expires_ms, .count_only = count_only};
	snprintf(entry.reason, sizeof(entry.reason), "%s", reason);
	for (char *c = entry.reason; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
	uint32_t index = entry_find(list, &entry.prefix);
	if (index == DP_BLOCKLIST_MAX)
		return -ENOSPC;
	hits_collect(list, atomic_load_explicit(&list->view, memory_order_relaxed));
	struct entry before = list->entry[index];
	uint32_t entries = list->entries;
	if (index == list->entries)
		list->hits[list->entries++] = 0;
	list->entry[index] = entry;
	int rc = store(list);
	if (rc) { /* what is not kept is not in force either */
		list->entry[index] = before;
		list->entries = entries;
		return rc;
	}
	return publish(list);
}

int dp_blocklist_del(struct dp_blocklist *list, const struct tp_prefix *prefix)
{
	struct tp_prefix wanted = masked(prefix);
	uint32_t index = entry_find(list, &wanted);
	if (index == list->entries)
		return -ENOENT;
	hits_collect(list, atomic_load_explicit(&list->view, memory_order_relaxed));
	entry_remove(list, index);
	int rc = store(list);
	int published = publish(list);
	return rc ? rc : published;
}

int dp_blocklist_expire(struct dp_blocklist *list, uint64_t now_ms)
{
	int expired = 0;
	for (uint32_t i = 0; i < list->entries;) {
		if (!list->entry[i].expires_ms || list->entry[i].expires_ms > now_ms) {
			i++;
			continue;
		}
		if (!expired++)
			hits_collect(list, atomic_load_explicit(&list->view, memory_order_relaxed));
		entry_remove(list, i);
	}
	if (!expired)
		return 0;
	int rc = store(list);
	if (rc)
		tp_logf(TP_WARN, "cannot store the blocklist", "error=\"%s\"", strerror(-rc));
	rc = publish(list);
	return rc ? rc : expired;
}

json_t *dp_blocklist_json(const struct dp_blocklist *list)
{
	struct view *view = atomic_load_explicit(&list->view, memory_order_relaxed);
	hits_collect((struct dp_blocklist *)list, view);
	json_t *items = json_array();
	for (uint32_t i = 0; i < list->entries; i++) {
		const struct entry *entry = &list->entry[i];
		char prefix[TP_PREFIX_TEXT_BYTES];
		tp_prefix_text(&entry->prefix, prefix);
		json_t *reason = json_string(entry->reason);
		json_array_append_new(items,
				      json_pack("{s:s, s:o, s:o, s:b, s:I, s:I}", "prefix", prefix, "reason",
						reason ? reason : json_string("(not UTF-8)"), "expires_ms",
						entry->expires_ms ? json_integer((json_int_t)entry->expires_ms) : json_null(),
						"count_only", entry->count_only, "added_ms", (json_int_t)entry->added_ms, "hits",
						(json_int_t)list->hits[i]));
	}
	return items;
}

uint32_t dp_blocklist_entries(const struct dp_blocklist *list)
{
	return list->entries;
}

bool dp_blocklist_blocked(void *context, const struct tp_addr *peer)
{
	struct dp_blocklist *list = context;
	/* acquire: the view behind the pointer is whole */
	const struct view *view = atomic_load_explicit(&list->view, memory_order_acquire);
	int64_t match = view->counted_count ? tp_prefix_set_match(view->counted, peer) : -1;
	if (match >= 0)
		atomic_fetch_add_explicit(&view->counted_hits[match], 1, memory_order_relaxed);
	match = view->enforced_count ? tp_prefix_set_match(view->enforced, peer) : -1;
	if (match < 0)
		return false;
	atomic_fetch_add_explicit(&view->enforced_hits[match], 1, memory_order_relaxed);
	return true;
}
