/*
 * The doctor's checks of disk and clock. Sources: Documentation/ABI/stable/sysfs-block (write_cache, rotational),
 * Documentation/timers/timekeeping.rst, adjtimex(2).
 */
#include "doctor_check.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static void cache(struct doctor *doctor)
{
	uint32_t major, minor;
	char text[64], spins[8];
	int rc = doctor->ops->device(doctor->config->data_dir, &major, &minor);

	if (rc != 0) {
		doctor_say(doctor_add(doctor, "cache", DOCTOR_UNKNOWN)->found, "cannot tell the disk of %.128s: %s",
			   doctor->config->data_dir, strerror(-rc));
		return;
	}
	/* a partition has its disk's queue */
	if (doctor_read(doctor, text, sizeof(text), "/sys/dev/block/%u:%u/queue/write_cache", major, minor) != 0 &&
	    doctor_read(doctor, text, sizeof(text), "/sys/dev/block/%u:%u/../queue/write_cache", major, minor) != 0) {
		doctor_say(doctor_add(doctor, "cache", DOCTOR_UNKNOWN)->found,
			   "device %u:%u tells no write cache: not a disk of its own (overlay, network, btrfs)", major, minor);
		return;
	}
	bool back = strcmp(text, "write back") == 0;
	struct doctor_finding *finding = doctor_add(doctor, "cache", back ? DOCTOR_WARN : DOCTOR_OK);
	doctor_say(finding->found, "write cache of device %u:%u: %s", major, minor, text);
	if (back)
		doctor_say(finding->cost,
			   "the cache may be volatile, so every commit ends with a flush; a disk that protects its cache "
			   "against power loss says \"write through\" and commits several times as fast");
	if ((doctor_read(doctor, spins, sizeof(spins), "/sys/dev/block/%u:%u/queue/rotational", major, minor) == 0 ||
	     doctor_read(doctor, spins, sizeof(spins), "/sys/dev/block/%u:%u/../queue/rotational", major, minor) == 0) &&
	    strcmp(spins, "1") == 0) {
		finding = doctor_add(doctor, "disk", DOCTOR_WARN);
		doctor_say(finding->found, "device %u:%u says that it spins", major, minor);
		doctor_say(finding->cost,
			   "a commit takes 5 to 15 ms if it does; virtual disks often say so without reason: see sync");
	}
}

static void sync_speed(struct doctor *doctor)
{
	uint64_t median, worst;
	int rc = doctor->ops->sync_ns(doctor->config->data_dir, &median, &worst);

	if (rc != 0) {
		doctor_say(doctor_add(doctor, "sync", DOCTOR_UNKNOWN)->found, "cannot write in %.128s or the folder above: %s",
			   doctor->config->data_dir, strerror(-rc));
		return;
	}
	struct doctor_finding *finding = doctor_add(doctor, "sync",
						    median < 2000000    ? DOCTOR_OK
						    : median < 10000000 ? DOCTOR_WARN
									: DOCTOR_BAD);
	doctor_say(finding->found,
		   "a synced write of 4 KiB takes %" PRIu64 ".%03" PRIu64 " ms (median), %" PRIu64 ".%03" PRIu64 " ms at worst",
		   median / 1000000, median / 1000 % 1000, worst / 1000000, worst / 1000 % 1000);
	if (finding->status != DOCTOR_OK)
		doctor_say(finding->cost,
			   "every acknowledgement waits for one: clients wait at least %" PRIu64 " ms; a disk with power-loss "
			   "protection takes 0.05",
			   median / 1000000);
}

/* Only what is wrong is worth a line: a folder that no node has used yet has no manifest. */
static void logs(struct doctor *doctor)
{
	uint64_t first = 0;
	int lost = doctor->ops->logs_lost(doctor->config->data_dir, &first);

	if (lost == 0 || lost == -ENOENT)
		return;
	struct doctor_finding *finding = doctor_add(doctor, "log", lost > 0 ? DOCTOR_BAD : DOCTOR_UNKNOWN);
	if (lost < 0) {
		doctor_say(finding->found, "cannot tell whether the log files of %.128s are all there: %s",
			   doctor->config->data_dir, strerror(-lost));
		return;
	}
	doctor_say(finding->found, "%d log files are missing or not those that were made, the first %016" PRIx64, lost, first);
	doctor_say(finding->cost, "acknowledged events may be lost, and the node refuses to start: see turnpikectl log show");
}

void doctor_disk(struct doctor *doctor)
{
	cache(doctor);
	sync_speed(doctor);
	logs(doctor);
}

static void source(struct doctor *doctor)
{
	static const char folder[] = "/sys/devices/system/clocksource/clocksource0";
	static const char *const fast[] = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"};
	char text[64], others[256] = "";
	bool good = false;

	if (doctor_read(doctor, text, sizeof(text), "%s/current_clocksource", folder) != 0) {
		doctor_say(doctor_add(doctor, "clocksource", DOCTOR_UNKNOWN)->found, "the kernel does not tell its clock source");
		return;
	}
	for (size_t i = 0; i < sizeof(fast) / sizeof(fast[0]); i++)
		good = good || strcmp(text, fast[i]) == 0;
	struct doctor_finding *finding = doctor_add(doctor, "clocksource", good ? DOCTOR_OK : DOCTOR_BAD);
	doctor_say(finding->found, "%s", text);
	if (good)
		return;
	doctor_say(finding->cost,
		   "reading the clock is a system call of about 1 µs, twice a round of every core: half of the node's speed");
	(void)doctor_read(doctor, others, sizeof(others), "%s/available_clocksource", folder);
	for (char *save = NULL, *word = strtok_r(others, " ", &save); word; word = strtok_r(NULL, " ", &save))
		for (size_t i = 0; i < sizeof(fast) / sizeof(fast[0]) && !finding->fix[0]; i++)
			if (strcmp(word, fast[i]) == 0) {
				doctor_say(finding->fix, "echo %s > %s/current_clocksource", word, folder);
				doctor_say(finding->undo, "echo %s > %s/current_clocksource", text, folder);
			}
}

static void synchronised(struct doctor *doctor)
{
	bool kept;
	uint64_t error_us;
	int rc = doctor->ops->clock(&kept, &error_us);

	if (rc != 0) {
		doctor_say(doctor_add(doctor, "clock", DOCTOR_UNKNOWN)->found, "adjtimex: %s", strerror(-rc));
		return;
	}
	bool good = kept && error_us < 1000000;
	struct doctor_finding *finding = doctor_add(doctor, "clock", good ? DOCTOR_OK : DOCTOR_WARN);
	if (kept)
		doctor_say(finding->found, "kept by NTP or PTP, at most %" PRIu64 " ms off", error_us / 1000);
	else
		doctor_say(finding->found, "nothing keeps it: neither NTP nor PTP");
	if (good)
		return;
	doctor_say(finding->cost,
		   "a clock that runs ahead closes minutes early, so honest events count as late; one that lags rejects them as "
		   "future. On a guest the host may keep it: then ignore this");
	doctor_say(finding->fix, "apt-get install -y chrony");
	doctor_say(finding->undo, "apt-get remove -y chrony");
}

void doctor_time(struct doctor *doctor)
{
	source(doctor);
	synchronised(doctor);
}
