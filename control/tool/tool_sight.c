/*
 * A session of looking at packets and requests: started over the command socket, read from shared memory. It ends after so many
 * records, so many seconds, with SIGINT, or when the data process goes.
 */
#include "tool_sight.h"

#include "turnpike/event.h"
#include "turnpike/text.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 5, CORES_MAX = 64, SETTLE_NS = 50000000 };

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

static bool number_read(const char *text, uint64_t most, uint64_t *number)
{
	char *end;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && *number >= 1 && *number <= most;
}

static int bad(const char *option, const char *expected, const char *found)
{
	fprintf(stderr, "turnpikectl: %s: expected %s, found \"%s\"\n", option, expected, found);
	return 2;
}

int ctl_sight_arguments(struct ctl_sight_options *options, int *words, char **word)
{
	static const char *const filters[] = {"--prefix", "--port", "--type", "--path"};
	int kept = 0;
	size_t used = 0;
	for (int i = 0; i < *words; i++) {
		uint64_t *number = !strcmp(word[i], "--count")     ? &options->records
				   : !strcmp(word[i], "--seconds") ? &options->seconds
								   : NULL;
		bool filter = false;
		for (size_t k = 0; k < sizeof(filters) / sizeof(filters[0]); k++)
			filter = filter || !strcmp(word[i], filters[k]);
		if (!number && !filter) {
			if (word[i][0] == '-' && strcmp(word[i], "--packets") != 0 && strcmp(word[i], "--requests") != 0)
				return 2;
			word[kept++] = word[i];
			continue;
		}
		if (i + 1 == *words)
			return 2;
		const char *option = word[i] + 2, *value = word[++i];
		if (number &&
		    !number_read(value, number == &options->records ? TP_SIGHT_RECORDS_MAX : TP_SIGHT_SECONDS_MAX, number))
			return bad(word[i - 1],
				   number == &options->records ? "a number from 1 to 1000000" : "a number from 1 to 600", value);
		if (filter) {
			int n = snprintf(options->filter + used, sizeof(options->filter) - used, " %s=%s", option, value);
			if (strpbrk(value, " \n") || n < 0 || (size_t)n >= sizeof(options->filter) - used)
				return bad(word[i - 1], "a word", value);
			used += (size_t)n;
		}
	}
	*words = kept;
	return 0;
}

int ctl_sight_open(struct ctl_sight *session, struct ctl_tool *tool, const struct ctl_sight_options *options)
{
	char line[1024], answer[TP_COMMAND_BYTES_MAX];
	int passed = -1;
	*session = (struct ctl_sight){.left = options->records};
	session->connection = tp_command_connect(tool->config.data_dir);
	if (session->connection < 0) {
		fprintf(stderr, "turnpikectl: no running data process for %s: %s\n", tool->config.data_dir,
			strerror(-session->connection));
		return 1;
	}
	snprintf(line, sizeof(line), "sight start kinds=%s records=%llu seconds=%llu%s", options->kinds,
		 (unsigned long long)options->records, (unsigned long long)options->seconds, options->filter);
	int rc = tp_command_call(session->connection, line, answer, sizeof(answer), &passed);
	json_t *document = rc ? NULL : json_loads(answer, 0, NULL);
	const char *error = rc ? strerror(-rc) : json_string_value(json_object_get(document, "error"));
	if (!rc && json_is_true(json_object_get(document, "ok")))
		rc = passed < 0 ? -EPROTO : tp_sight_map(passed, &session->sight);
	else if (!rc)
		rc = -EINVAL;
	if (!rc && session->sight->cores > CORES_MAX)
		rc = -EPROTO;
	const int status = document ? ctl_tool_refusal(document) : 1;
	if (rc)
		fprintf(stderr, "turnpikectl: %s\n", error ? error : strerror(-rc));
	else
		session->session = (uint32_t)json_integer_value(json_object_get(document, "session"));
	json_decref(document);
	if (passed >= 0)
		close(passed);
	if (rc) {
		close(session->connection);
		return status;
	}
	session->until_ns = tp_mono_ns() + options->seconds * 1000000000ULL + SETTLE_NS;
	fprintf(stderr, "turnpikectl: looking at the next %llu that match, for at most %llu s\n",
		(unsigned long long)options->records, (unsigned long long)options->seconds);
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return 0;
}

bool ctl_sight_next(struct ctl_sight *session, struct tp_sight_slot *slot)
{
	const struct tp_sight *sight = session->sight;
	while (session->left > session->lost) {
		/* Read first, look whether it goes on afterwards: what was written before the end is not missed. */
		bool over = interrupted || tp_mono_ns() > session->until_ns ||
			    !atomic_load_explicit(&sight->active, memory_order_acquire) ||
			    atomic_load_explicit(&sight->session, memory_order_relaxed) != session->session;
		for (uint32_t core = 0; core < sight->cores; core++) {
			if (tp_sight_read(sight, core, &session->next[core], &session->lost, slot)) {
				session->left--;
				return true;
			}
		}
		if (over)
			return false;
		struct pollfd wait = {.fd = session->connection, .events = POLLIN};
		if (poll(&wait, 1, POLL_MS) > 0) {
			fprintf(stderr, "turnpikectl: the data process has gone\n");
			return false;
		}
	}
	return false;
}

void ctl_sight_close(struct ctl_sight *session)
{
	if (session->lost)
		fprintf(stderr, "turnpikectl: %llu records were overtaken before they could be read\n",
			(unsigned long long)session->lost);
	tp_sight_unmap(session->sight);
	close(session->connection); /* which ends the session */
}

/* ---- verdicts, step by step ---- */

enum { STEPS_MAX = 8, STEP_BYTES = 64 };

struct steps {
	uint32_t count;
	char step[STEPS_MAX][STEP_BYTES], verdict[STEPS_MAX][STEP_BYTES];
};

static void step_add(struct steps *steps, const char *step, const char *verdict)
{
	snprintf(steps->step[steps->count], STEP_BYTES, "%s", step);
	snprintf(steps->verdict[steps->count++], STEP_BYTES, "%s", verdict);
}

/* What a frame passed before it ended. Those that XDP drops never come here; its counters tell of them. */
static void frame_steps(const struct tp_sight_slot *slot, struct steps *steps)
{
	static const char *const order[] = {"link", "ip", "blocklist", "transport"};
	const struct tp_counter_info *info = &tp_counter_info[slot->record.verdict];
	const char *end = tp_sight_step((enum tp_counter)slot->record.verdict);
	struct tp_sight_flow flow;
	if (slot->record.kind == TP_SIGHT_FRAME_OUT) {
		step_add(steps, "transmit", "given to the port");
		return;
	}
	tp_sight_flow(slot->data, slot->record.kept, &flow);
	bool ended = !strcmp(end, "tap") || !strcmp(end, "spread");
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]) && !ended; i++) {
		ended = !strcmp(order[i], end);
		if (flow.type == TP_SIGHT_ARP && (!strcmp(order[i], "ip") || !strcmp(order[i], "blocklist")))
			continue;
		const char *name =
			strcmp(order[i], "transport") != 0 || flow.type == TP_SIGHT_ANY ? order[i] : tp_sight_type_name(flow.type);
		step_add(steps, name, !ended ? "ok" : info->kind == TP_KIND_ACCEPTED ? "accepted" : info->label);
	}
	if (!strcmp(end, "tap"))
		step_add(steps, "tap", slot->record.verdict == TP_C_FRAMES_TO_TAP ? "passed to the kernel" : "full");
	if (!strcmp(end, "spread"))
		step_add(steps, "spread", "ring full");
}

static void request_steps(const struct tp_sight_slot *slot, struct steps *steps)
{
	const struct tp_sight_record *record = &slot->record;
	const uint64_t decided = (uint64_t)record->accepted + record->duplicates + record->late + record->conflicts;
	char text[STEP_BYTES];
	snprintf(text, sizeof(text), "%u", record->status);
	step_add(steps, "http", text);
	if (record->reason)
		snprintf(text, sizeof(text), "%s%s%s%s", tp_reject_name((enum tp_reject)record->reason),
			 record->field ? " of " : "", record->field ? tp_field_name((enum tp_field)record->field) : "",
			 record->rejected > 1 ? ", first of several" : "");
	else
		snprintf(text, sizeof(text), "%s", decided ? "ok" : "none");
	step_add(steps, "parse", text);
	if (!decided)
		return;
	snprintf(text, sizeof(text), "accepted %u, duplicates %u, late %u, conflicts %u", record->accepted, record->duplicates,
		 record->late, record->conflicts);
	step_add(steps, "shard", text);
	snprintf(text, sizeof(text), "after %.3f ms", (double)record->durable_ns / 1e6);
	step_add(steps, "durable", text);
}

/* Its events' way to the log is not followed: what is shown is what was found at once. */
static void datagram_parsed(const struct tp_sight_slot *slot, struct steps *steps)
{
	const struct tp_sight_record *record = &slot->record;
	char text[STEP_BYTES];
	if (!record->reason)
		snprintf(text, sizeof(text), "ok");
	else if (record->rejected == 1)
		snprintf(text, sizeof(text), "%s", tp_reject_name((enum tp_reject)record->reason));
	else
		snprintf(text, sizeof(text), "%s, one of %u rejected", tp_reject_name((enum tp_reject)record->reason),
			 record->rejected);
	step_add(steps, "parse", text);
}

static void steps_make(const struct tp_sight_slot *slot, struct steps *steps)
{
	steps->count = 0;
	if (slot->record.kind == TP_SIGHT_REQUEST) {
		request_steps(slot, steps);
	} else if (slot->record.kind == TP_SIGHT_DATAGRAM) {
		const struct tp_counter_info *info = &tp_counter_info[slot->record.verdict];
		step_add(steps, "datagram", info->kind == TP_KIND_ACCEPTED ? "accepted" : info->label);
		if (info->kind == TP_KIND_ACCEPTED)
			datagram_parsed(slot, steps);
	} else {
		frame_steps(slot, steps);
	}
}

size_t ctl_sight_verdict(const struct tp_sight_slot *slot, char *to, size_t bytes)
{
	struct steps steps;
	size_t used = 0;
	steps_make(slot, &steps);
	to[0] = '\0';
	for (uint32_t i = 0; i < steps.count && used < bytes; i++)
		used += (size_t)snprintf(to + used, bytes - used, "%s%s: %s", i ? ", " : "", steps.step[i], steps.verdict[i]);
	return used < bytes ? used : bytes - 1;
}

json_t *ctl_sight_steps(const struct tp_sight_slot *slot)
{
	struct steps steps;
	json_t *array = json_array();
	steps_make(slot, &steps);
	for (uint32_t i = 0; i < steps.count; i++)
		json_array_append_new(array, json_pack("{s:s, s:s}", "step", steps.step[i], "verdict", steps.verdict[i]));
	return array;
}
