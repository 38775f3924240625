/* Periods of refusal; see ctl_refused.h. `lock` guards all but the paths; only the thread that notes writes the file. */
#include "ctl_refused.h"

#include "turnpike/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITE_EVERY_MS = 10000 };

struct period {
	uint64_t from_ms, to_ms; /* to_ms 0: it lasts */
	enum ctl_why why;
};

struct ctl_refused {
	pthread_mutex_t lock;
	struct period period[CTL_REFUSED_MAX];
	uint32_t count;
	uint64_t last_ms, written_ms;
	bool changed, complained;
	char path[4096], fresh[4096];
};

const char *ctl_why_name(enum ctl_why why)
{
	static const char *const name[CTL_WHYS] = {
		[CTL_WHY_NONE] = "none",         [CTL_WHY_UNKNOWN] = "unknown",   [CTL_WHY_NO_SPACE] = "no_space",
		[CTL_WHY_STARTING] = "starting", [CTL_WHY_STOPPING] = "stopping", [CTL_WHY_GONE] = "gone",
		[CTL_WHY_STALLED] = "stalled",   [CTL_WHY_SHED] = "shed",         [CTL_WHY_UNWATCHED] = "unwatched",
	};
	return (uint32_t)why < CTL_WHYS ? name[why] : "unknown";
}

static enum ctl_why why_of(const char *name)
{
	for (int why = CTL_WHY_NO_SPACE; why < CTL_WHYS; why++)
		if (strcmp(name, ctl_why_name((enum ctl_why)why)) == 0)
			return (enum ctl_why)why;
	return CTL_WHY_NONE;
}

/* ---- the file ---- */

/* False: there is none, or it is not ours. */
static bool read_all(struct ctl_refused *refused, FILE *file)
{
	char line[96], name[32];
	uint64_t from_ms, to_ms, before_ms = 0;

	if (!fgets(line, sizeof(line), file) || sscanf(line, "turnpike refused 1 %" SCNu64, &refused->last_ms) != 1)
		return false;
	while (fgets(line, sizeof(line), file)) {
		if (refused->count == CTL_REFUSED_MAX ||
		    sscanf(line, "%" SCNu64 " %" SCNu64 " %31s", &from_ms, &to_ms, name) != 3 || why_of(name) == CTL_WHY_NONE ||
		    from_ms < before_ms || (to_ms && to_ms < from_ms))
			return false;
		before_ms = from_ms;
		refused->period[refused->count++] = (struct period){from_ms, to_ms, why_of(name)};
	}
	return true;
}

static void load(struct ctl_refused *refused)
{
	FILE *file = fopen(refused->path, "re");

	if (!file)
		return;
	if (!read_all(refused, file)) {
		tp_logf(TP_WARN, "the periods of refusal begin anew: their file is damaged", "path=\"%s\"", refused->path);
		refused->count = 0;
		refused->last_ms = 0;
	}
	fclose(file);
}

static void store(struct ctl_refused *refused)
{
	FILE *file = fopen(refused->fresh, "we");
	bool fine = file != NULL;

	if (file) {
		fprintf(file, "turnpike refused 1 %" PRIu64 "\n", refused->last_ms);
		for (uint32_t i = 0; i < refused->count; i++)
			fprintf(file, "%" PRIu64 " %" PRIu64 " %s\n", refused->period[i].from_ms, refused->period[i].to_ms,
				ctl_why_name(refused->period[i].why));
		fine = !ferror(file);
		fine = fclose(file) == 0 && fine && rename(refused->fresh, refused->path) == 0;
	}
	if (!fine && !refused->complained)
		tp_logf(TP_WARN, "the periods of refusal cannot be kept", "path=\"%s\" error=\"%s\"", refused->path,
			strerror(errno));
	refused->complained = !fine;
	refused->written_ms = refused->last_ms;
	refused->changed = false;
}

/* ---- periods ---- */

static struct period *lasting(struct ctl_refused *refused)
{
	struct period *last = refused->count ? &refused->period[refused->count - 1] : NULL;
	return last && last->to_ms == 0 ? last : NULL;
}

static void add(struct ctl_refused *refused, uint64_t from_ms, uint64_t to_ms, enum ctl_why why)
{
	struct period *last = refused->count ? &refused->period[refused->count - 1] : NULL;

	refused->changed = true;
	if (last && last->why == why && last->to_ms + CTL_REFUSED_JOIN_MS >= from_ms) {
		last->to_ms = to_ms;
		return;
	}
	if (refused->count == CTL_REFUSED_MAX) {
		refused->count--;
		memmove(refused->period, refused->period + 1, refused->count * sizeof(refused->period[0]));
	}
	refused->period[refused->count++] = (struct period){from_ms, to_ms, why};
}

static void finish(struct ctl_refused *refused, uint64_t to_ms)
{
	struct period *last = lasting(refused);

	if (!last)
		return;
	last->to_ms = to_ms > last->from_ms ? to_ms : last->from_ms + 1;
	refused->changed = true;
}

/* The clock was set back: what lies ahead of it now has no place on any chart. */
static void set_back(struct ctl_refused *refused, uint64_t now_ms)
{
	while (refused->count && refused->period[refused->count - 1].from_ms >= now_ms)
		refused->count--;
	if (refused->count && refused->period[refused->count - 1].to_ms > now_ms)
		refused->period[refused->count - 1].to_ms = now_ms;
	refused->changed = true;
}

void ctl_refused_note(struct ctl_refused *refused, uint64_t now_ms, enum ctl_why why)
{
	pthread_mutex_lock(&refused->lock);
	if (now_ms < refused->last_ms)
		set_back(refused, now_ms);
	if (why != CTL_WHY_UNKNOWN) {
		const struct period *last = lasting(refused);
		if (!last || last->why != why) {
			finish(refused, now_ms);
			if (why != CTL_WHY_NONE)
				add(refused, now_ms, 0, why);
		}
	}
	refused->last_ms = now_ms;
	bool due = refused->changed || now_ms > refused->written_ms + WRITE_EVERY_MS || now_ms < refused->written_ms;
	if (due)
		store(refused);
	pthread_mutex_unlock(&refused->lock);
}

int ctl_refused_open(struct ctl_refused **out, const char *state_dir, uint64_t now_ms)
{
	struct ctl_refused *refused = calloc(1, sizeof(*refused));

	if (!refused)
		return -ENOMEM;
	pthread_mutex_init(&refused->lock, NULL);
	snprintf(refused->path, sizeof(refused->path), "%s/refused", state_dir);
	snprintf(refused->fresh, sizeof(refused->fresh), "%.4080s/refused.new", state_dir);
	load(refused);
	if (refused->last_ms && now_ms > refused->last_ms) {
		finish(refused, refused->last_ms);
		if (now_ms - refused->last_ms > CTL_UNWATCHED_MS)
			add(refused, refused->last_ms, now_ms, CTL_WHY_UNWATCHED);
	}
	*out = refused;
	return 0;
}

void ctl_refused_close(struct ctl_refused *refused)
{
	if (!refused)
		return;
	if (refused->last_ms)
		store(refused);
	pthread_mutex_destroy(&refused->lock);
	free(refused);
}

json_t *ctl_refused_json(struct ctl_refused *refused, uint64_t from_ms, uint64_t to_ms)
{
	json_t *items = json_array();

	pthread_mutex_lock(&refused->lock);
	for (uint32_t i = 0; i < refused->count; i++) {
		const struct period *period = &refused->period[i];
		if (period->from_ms >= to_ms || (period->to_ms && period->to_ms <= from_ms))
			continue;
		json_array_append_new(items, json_pack("{s:I, s:o, s:s}", "from_ms", (json_int_t)period->from_ms, "to_ms",
						       period->to_ms ? json_integer((json_int_t)period->to_ms) : json_null(),
						       "reason", ctl_why_name(period->why)));
	}
	json_int_t watched_ms = (json_int_t)refused->last_ms;
	pthread_mutex_unlock(&refused->lock);
	return json_pack("{s:o, s:I}", "items", items, "watched_ms", watched_ms);
}
