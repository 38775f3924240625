/*
 * What a segment's sessions, distinct users and sources cost at sealing: the events of a full log file of 64 MiB through a fold, and
 * its sections. One core, memory only.
 */
#include "turnpike/fold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { EVENTS = 220000, USERS = 60000, RECORD_BYTES = 304 };

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* of this thread: the machine may be doing other things */
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void event_make(uint64_t *random, struct tp_event *event)
{
	char text[TP_STRINGS][32] = {{0}};
	memset(event, 0, RECORD_BYTES);
	event->bytes = RECORD_BYTES;
	event->type = random_next(random) % 10 ? TP_IMPRESSION : TP_CLICK;
	event->verdict = TP_ACCEPTED;
	event->flags = TP_HAS_IP;
	event->timestamp_ms = 1700000000000 + random_next(random) % 300000;
	event->ip[12] = 10;
	event->ip[14] = (uint8_t)random_next(random);
	event->ip[15] = (uint8_t)random_next(random);
	snprintf(text[TP_AD_ID], 32, "ad-%u", (unsigned)(random_next(random) % 2000));
	snprintf(text[TP_CAMPAIGN_ID], 32, "campaign-%u", (unsigned)(random_next(random) % 100));
	snprintf(text[TP_ADVERTISER_ID], 32, "advertiser");
	snprintf(text[TP_PUBLISHER_ID], 32, "publisher-%u", (unsigned)(random_next(random) % 300));
	snprintf(text[TP_USER_ID], 32, "user-%016x", (unsigned)(random_next(random) % USERS));
	char *at = (char *)event + sizeof(*event);
	for (int i = 0; i < TP_STRINGS; i++) {
		event->string_bytes[i] = (uint16_t)strlen(text[i]);
		memcpy(at, text[i], event->string_bytes[i]);
		at += event->string_bytes[i];
	}
}

int main(void)
{
	static const struct {
		const char *name;
		uint64_t (*write)(struct agg_fold *fold, void *to);
	} section[] = {{"sessions", agg_fold_sessions}, {"distinct users", agg_fold_distinct}, {"sources", agg_fold_sources}};
	char *records = malloc((size_t)EVENTS * RECORD_BYTES);
	uint64_t random = 88172645463325252ULL, bytes = agg_fold_bytes(EVENTS, (uint64_t)EVENTS * RECORD_BYTES);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!records || memory == MAP_FAILED)
		return 1;
	for (uint32_t i = 0; i < EVENTS; i++)
		event_make(&random, (struct tp_event *)(void *)(records + (size_t)i * RECORD_BYTES));

	uint64_t begin = now_ns(), before = begin;
	struct agg_fold *fold = agg_fold_init(memory, EVENTS, (uint64_t)EVENTS * RECORD_BYTES, 1800000);
	for (uint32_t i = 0; i < EVENTS; i++)
		if (!agg_fold_show(fold, (const struct tp_event *)(const void *)(records + (size_t)i * RECORD_BYTES)))
			return 1;
	printf("%-16s %6.0f ns/event\n", "taken in", (double)(now_ns() - before) / EVENTS);
	for (size_t i = 0; i < sizeof(section) / sizeof(section[0]); i++) {
		before = now_ns();
		uint64_t length = section[i].write(fold, NULL);
		void *to = malloc(length);
		if (!to)
			return 1;
		section[i].write(fold, to);
		printf("%-16s %6.0f ns/event, %llu bytes\n", section[i].name, (double)(now_ns() - before) / EVENTS,
		       (unsigned long long)length);
		free(to);
	}
	printf("together %.0f ns/event\n", (double)(now_ns() - begin) / EVENTS);
	munmap(memory, bytes);
	free(records);
	return 0;
}
