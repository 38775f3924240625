/*
 * The doctor's checks of memory and limits. Sources: Documentation/admin-guide/mm/hugetlbpage.rst, transhuge.rst, proc_pid_limits(5),
 * proc_swaps(5).
 */
#include "doctor_check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGES_WANTED = 128, MIB = 1 << 20 };

static void hugepages(struct doctor *doctor)
{
	char total[32], free[32];
	static const char folder[] = "/sys/kernel/mm/hugepages/hugepages-2048kB";

	if (!doctor_uses_dpdk(doctor)) {
		doctor_say(doctor_add(doctor, "hugepages", DOCTOR_OK)->found, "no DPDK port is configured: none are needed");
		return;
	}
	if (doctor_read(doctor, total, sizeof(total), "%s/nr_hugepages", folder) != 0 ||
	    doctor_read(doctor, free, sizeof(free), "%s/free_hugepages", folder) != 0) {
		struct doctor_finding *finding = doctor_add(doctor, "hugepages", DOCTOR_BAD);
		doctor_say(finding->found, "the kernel has no hugepages of 2 MiB");
		doctor_say(finding->cost, "DPDK ports do not start");
		return;
	}
	bool enough = strtoull(total, NULL, 10) >= PAGES_WANTED;
	struct doctor_finding *finding = doctor_add(doctor, "hugepages", enough ? DOCTOR_OK : DOCTOR_WARN);
	doctor_say(finding->found, "%s pages of 2 MiB, %s free", total, free);
	if (enough)
		return;
	doctor_say(finding->cost,
		   "turnpiked reserves what it lacks at start if it may (root), and that fails when memory is fragmented");
	doctor_say(finding->fix, "echo %d > %s/nr_hugepages", PAGES_WANTED, folder);
	doctor_say(finding->undo, "echo %.20s > %s/nr_hugepages", total, folder);
}

/* "always [madvise] never": the word in brackets. */
static void chosen(const char *text, char word[32])
{
	const char *open = strchr(text, '[');
	size_t bytes = open ? strcspn(open + 1, "]") : 0;

	snprintf(word, 32, "%.*s", (int)(bytes < 31 ? bytes : 31), open ? open + 1 : "");
}

static void thp(struct doctor *doctor)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/enabled";
	char text[128], word[32];

	if (doctor_read(doctor, text, sizeof(text), "%s", path) != 0) {
		doctor_say(doctor_add(doctor, "thp", DOCTOR_OK)->found, "the kernel has no transparent hugepages");
		return;
	}
	chosen(text, word);
	bool always = strcmp(word, "always") == 0;
	struct doctor_finding *finding = doctor_add(doctor, "thp", always ? DOCTOR_WARN : DOCTOR_OK);
	doctor_say(finding->found, "transparent hugepages: %s", word);
	if (!always)
		return;
	doctor_say(finding->cost, "the kernel compacts memory behind our back: pauses of some ms in the background threads");
	doctor_say(finding->fix, "echo madvise > %s", path);
	doctor_say(finding->undo, "echo always > %s", path);
}

static void swap(struct doctor *doctor)
{
	FILE *file = doctor_open(doctor, "/proc/swaps");
	char line[512], name[256];
	uint64_t kib = 0, size;
	uint32_t areas = 0;

	if (!file) {
		doctor_say(doctor_add(doctor, "swap", DOCTOR_UNKNOWN)->found, "cannot read /proc/swaps");
		return;
	}
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%255s %*s %" SCNu64, name, &size) == 2 && strcmp(name, "Filename") != 0) {
			areas++;
			kib += size;
		}
	fclose(file);
	struct doctor_finding *finding = doctor_add(doctor, "swap", areas ? DOCTOR_WARN : DOCTOR_OK);
	if (!areas) {
		doctor_say(finding->found, "none");
		return;
	}
	doctor_say(finding->found, "%u areas, %" PRIu64 " MiB", areas, kib / 1024);
	doctor_say(finding->cost, "a page of the id table that was swapped out costs an event some ms instead of 30 ns");
	doctor_say(finding->fix, "swapoff -a");
	doctor_say(finding->undo, "swapon -a   # those of /etc/fstab");
}

/* A row of /proc/PID/limits: the soft and the hard limit, UINT64_MAX for unlimited. */
static bool limit_of(struct doctor *doctor, const char *row, uint64_t *soft, uint64_t *hard)
{
	char path[64], line[256], first[32], second[32];
	bool found = false;

	if (doctor->pid)
		snprintf(path, sizeof(path), "/proc/%u/limits", doctor->pid);
	else
		snprintf(path, sizeof(path), "/proc/self/limits");
	FILE *file = doctor_open(doctor, path);
	while (file && !found && fgets(line, sizeof(line), file))
		found = strncmp(line, row, strlen(row)) == 0 && sscanf(line + strlen(row), " %31s %31s", first, second) == 2;
	if (file)
		fclose(file);
	if (!found)
		return false;
	*soft = strcmp(first, "unlimited") == 0 ? UINT64_MAX : strtoull(first, NULL, 10);
	*hard = strcmp(second, "unlimited") == 0 ? UINT64_MAX : strtoull(second, NULL, 10);
	return true;
}

static void nofile(struct doctor *doctor)
{
	uint64_t soft, hard;
	/* a socket per connection on kernel sockets; logs, segments and the rest beside */
	const uint64_t wanted = doctor_uses_dpdk(doctor) ? 4096 : (uint64_t)doctor->config->memory_connections + 1024;

	if (!limit_of(doctor, "Max open files", &soft, &hard)) {
		doctor_say(doctor_add(doctor, "nofile", DOCTOR_UNKNOWN)->found, "cannot read the limits");
		return;
	}
	struct doctor_finding *finding = doctor_add(doctor, "nofile", soft >= wanted ? DOCTOR_OK : DOCTOR_WARN);
	doctor_say(finding->found, "%" PRIu64 " open files %s, %" PRIu64 " at most", soft,
		   doctor->pid ? "for the data process" : "for a process started from here", hard);
	if (soft < wanted) {
		doctor_say(finding->cost, "%" PRIu64 " may be needed: connections beyond are refused", wanted);
		if (doctor->pid) {
			doctor_say(finding->fix,
				   "prlimit --pid %u --nofile=%" PRIu64 ":%" PRIu64 "   # for good: LimitNOFILE= of the unit",
				   doctor->pid, wanted, hard > wanted ? hard : wanted);
			doctor_say(finding->undo, "prlimit --pid %u --nofile=%" PRIu64 ":%" PRIu64, doctor->pid, soft, hard);
		}
	}
}

static void memlock(struct doctor *doctor)
{
	uint64_t soft, hard;

	if (!limit_of(doctor, "Max locked memory", &soft, &hard)) {
		doctor_say(doctor_add(doctor, "memlock", DOCTOR_UNKNOWN)->found, "cannot read the limits");
		return;
	}
	/* io_uring's registered buffers, AF_XDP's frames */
	bool enough = soft >= 64ULL * MIB;
	struct doctor_finding *finding = doctor_add(doctor, "memlock", enough ? DOCTOR_OK : DOCTOR_WARN);
	if (soft == UINT64_MAX)
		doctor_say(finding->found, "locked memory is not limited");
	else
		doctor_say(finding->found, "%" PRIu64 " KiB of locked memory", soft / 1024);
	if (enough)
		return;
	doctor_say(finding->cost,
		   "without CAP_IPC_LOCK buffers cannot be registered with io_uring and AF_XDP: LimitMEMLOCK=infinity in the unit");
	if (doctor->pid) {
		doctor_say(finding->fix, "prlimit --pid %u --memlock=unlimited", doctor->pid);
		doctor_say(finding->undo, "prlimit --pid %u --memlock=%" PRIu64, doctor->pid, soft);
	}
}

void doctor_memory(struct doctor *doctor)
{
	hugepages(doctor);
	thp(doctor);
	swap(doctor);
	nofile(doctor);
	memlock(doctor);
}
