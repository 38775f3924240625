/* What the checks of turnpikectl doctor look with and say it with. See doctor_check.h. */
#include "doctor_check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

struct doctor_finding *doctor_add(struct doctor *doctor, const char *check, enum doctor_status status)
{
	struct doctor_finding *finding = &doctor->finding[doctor->findings];

	if (doctor->findings == DOCTOR_FINDINGS_MAX - 1) {
		*finding = (struct doctor_finding){.check = "doctor", .status = DOCTOR_UNKNOWN};
		doctor_say(finding->found, "more findings than %d: not all are shown", DOCTOR_FINDINGS_MAX - 1);
		return finding;
	}
	*finding = (struct doctor_finding){.check = check, .status = status};
	doctor->findings++;
	return finding;
}

void doctor_say(char to[DOCTOR_TEXT_BYTES], const char *format, ...)
{
	va_list values;

	va_start(values, format);
	vsnprintf(to, DOCTOR_TEXT_BYTES, format, values);
	va_end(values);
}

static void path_make(const struct doctor *doctor, char path[PATH_BYTES], const char *format, va_list values)
{
	int at = snprintf(path, PATH_BYTES, "%s", doctor->root);

	if (at >= 0 && at < PATH_BYTES)
		vsnprintf(path + at, PATH_BYTES - (size_t)at, format, values);
}

int doctor_read(const struct doctor *doctor, char *text, size_t bytes, const char *format, ...)
{
	char path[PATH_BYTES];
	va_list values;

	va_start(values, format);
	path_make(doctor, path, format, values);
	va_end(values);
	FILE *file = fopen(path, "re");
	if (!file)
		return -errno;
	bool got = fgets(text, (int)bytes, file) != NULL;
	fclose(file);
	if (!got)
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

int doctor_link(const struct doctor *doctor, char *text, size_t bytes, const char *format, ...)
{
	char path[PATH_BYTES], target[PATH_BYTES];
	va_list values;

	va_start(values, format);
	path_make(doctor, path, format, values);
	va_end(values);
	ssize_t got = readlink(path, target, sizeof(target) - 1);
	if (got < 0)
		return -errno;
	target[got] = '\0';
	const char *name = strrchr(target, '/');
	snprintf(text, bytes, "%s", name ? name + 1 : target);
	return 0;
}

FILE *doctor_open(const struct doctor *doctor, const char *path)
{
	char full[PATH_BYTES];

	snprintf(full, sizeof(full), "%s%s", doctor->root, path);
	return fopen(full, "re");
}

bool doctor_list_has(const char *list, uint32_t cpu)
{
	while (*list >= '0' && *list <= '9') {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = first;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (cpu >= first && cpu <= last)
			return true;
		list = *end == ',' ? end + 1 : end;
	}
	return false;
}

void doctor_cores(const struct doctor *doctor, void (*each)(struct doctor *doctor, uint32_t cpu, void *context), void *context)
{
	const struct tp_config *config = doctor->config;

	for (uint32_t i = 0; i < config->rx_count; i++)
		each((struct doctor *)(uintptr_t)doctor, config->rx[i], context);
	for (uint32_t i = 0; i < config->shard_count; i++) {
		bool again = false;
		for (uint32_t k = 0; k < config->rx_count; k++)
			again = again || config->rx[k] == config->shard[i];
		if (!again)
			each((struct doctor *)(uintptr_t)doctor, config->shard[i], context);
	}
}

bool doctor_uses_dpdk(const struct doctor *doctor)
{
	for (uint32_t i = 0; i < doctor->config->ingest_count; i++)
		if (doctor->config->ingest[i].driver == TP_DRIVER_DPDK)
			return true;
	return false;
}
