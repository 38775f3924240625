/*
 * The doctor's checks of kernel and CPUs. Sources: Documentation/admin-guide/pm/cpufreq.rst, cputopology.rst, kernel-parameters.txt
 * (isolcpus, nohz_full) and sysctl/kernel.rst (io_uring_disabled) of the kernel.
 */
#include "doctor_check.h"

#include <stdlib.h>
#include <string.h>

static void kernel(struct doctor *doctor)
{
	char text[128];
	unsigned major, minor;

	if (doctor_read(doctor, text, sizeof(text), "/proc/sys/kernel/osrelease") != 0 ||
	    sscanf(text, "%u.%u", &major, &minor) != 2) {
		doctor_say(doctor_add(doctor, "kernel", DOCTOR_UNKNOWN)->found, "cannot read /proc/sys/kernel/osrelease");
		return;
	}
	unsigned version = major * 1000 + minor;
	struct doctor_finding *finding = doctor_add(doctor, "kernel",
						    version >= 5010   ? DOCTOR_OK
						    : version >= 5006 ? DOCTOR_WARN
								      : DOCTOR_BAD);
	doctor_say(finding->found, "Linux %s", text);
	if (finding->status == DOCTOR_BAD)
		doctor_say(finding->cost, "io_uring lacks what we use: turnpiked does not start; Linux 5.10 or newer is needed");
	else if (finding->status == DOCTOR_WARN)
		doctor_say(finding->cost, "not tried on kernels before 5.10");
}

static void io_uring(struct doctor *doctor)
{
	char text[16];

	if (doctor_read(doctor, text, sizeof(text), "/proc/sys/kernel/io_uring_disabled") != 0)
		return; /* the switch came with Linux 6.6 */
	struct doctor_finding *finding = doctor_add(doctor, "io_uring", strcmp(text, "0") == 0 ? DOCTOR_OK : DOCTOR_BAD);
	doctor_say(finding->found, "kernel.io_uring_disabled is %s", text);
	if (finding->status == DOCTOR_OK)
		return;
	doctor_say(finding->cost, "turnpiked does not start: log and kernel sockets go through io_uring");
	doctor_say(finding->fix, "sysctl -w kernel.io_uring_disabled=0");
	doctor_say(finding->undo, "sysctl -w kernel.io_uring_disabled=%.8s", text);
}

static void online_each(struct doctor *doctor, uint32_t cpu, void *context)
{
	if (doctor_list_has(context, cpu))
		return;
	struct doctor_finding *finding = doctor_add(doctor, "cpus", DOCTOR_BAD);
	doctor_say(finding->found, "CPU %u of cores is not online (%.64s are)", cpu, (const char *)context);
	doctor_say(finding->cost, "turnpiked does not start");
}

static void online(struct doctor *doctor)
{
	char list[256];
	uint32_t before = doctor->findings;

	if (doctor_read(doctor, list, sizeof(list), "/sys/devices/system/cpu/online") != 0)
		return;
	doctor_cores(doctor, online_each, list);
	if (doctor->findings == before)
		doctor_say(doctor_add(doctor, "cpus", DOCTOR_OK)->found, "all CPUs of cores are online (%s)", list);
}

static void isolated_each(struct doctor *doctor, uint32_t cpu, void *context)
{
	char *outside = context, one[16];

	(void)doctor;
	if (doctor_list_has(outside + 64, cpu))
		return;
	snprintf(one, sizeof(one), "%s%u", outside[0] ? "," : "", cpu);
	if (strlen(outside) + strlen(one) < 64)
		strcat(outside, one);
}

/* A poller that shares its CPU loses a time slice now and then; a sleeper yields anyway. */
static void isolated(struct doctor *doctor)
{
	char text[64 + 256] = ""; /* the CPUs that are not, and from byte 64 on the kernel's list */

	if (doctor_read(doctor, text + 64, 256, "/sys/devices/system/cpu/isolated") != 0) {
		doctor_say(doctor_add(doctor, "isolated", DOCTOR_UNKNOWN)->found, "the kernel does not tell isolated CPUs");
		return;
	}
	doctor_cores(doctor, isolated_each, text);
	struct doctor_finding *finding =
		doctor_add(doctor, "isolated", !text[0] || doctor->config->idle_sleep ? DOCTOR_OK : DOCTOR_WARN);
	doctor_say(finding->found, "isolated CPUs: %s; cores.idle is %s", text[64] ? text + 64 : "none",
		   doctor->config->idle_sleep ? "sleep" : "poll");
	if (finding->status == DOCTOR_OK)
		return;
	/* a kernel parameter: not for a script that must have an undo without a boot */
	doctor_say(finding->cost,
		   "other work interrupts the pollers for up to a time slice (some ms in the p99.9): boot with isolcpus=%s "
		   "nohz_full=%s",
		   text, text);
}

static void governor_each(struct doctor *doctor, uint32_t cpu, void *context)
{
	uint32_t *known = context;
	char text[64];

	if (doctor_read(doctor, text, sizeof(text), "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", cpu) != 0)
		return;
	++*known;
	if (strcmp(text, "performance") == 0)
		return;
	struct doctor_finding *finding = doctor_add(doctor, "governor", DOCTOR_WARN);
	doctor_say(finding->found, "CPU %u: %s", cpu, text);
	doctor_say(finding->cost, "the clock rises only under load: up to twice the time per event in bursts after quiet");
	doctor_say(finding->fix, "echo performance > /sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", cpu);
	doctor_say(finding->undo, "echo %s > /sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", text, cpu);
}

static void governor(struct doctor *doctor)
{
	uint32_t known = 0, before = doctor->findings;

	doctor_cores(doctor, governor_each, &known);
	if (!known)
		doctor_say(doctor_add(doctor, "governor", DOCTOR_UNKNOWN)->found,
			   "no cpufreq: a guest, or the firmware decides; look there");
	else if (doctor->findings == before)
		doctor_say(doctor_add(doctor, "governor", DOCTOR_OK)->found, "performance on all CPUs of cores");
}

/* The memory node of a CPU, -1: not told. */
static int node_of(struct doctor *doctor, uint32_t cpu)
{
	char list[256];

	for (int node = 0; node < 64; node++) {
		if (doctor_read(doctor, list, sizeof(list), "/sys/devices/system/node/node%d/cpulist", node) != 0)
			continue;
		if (doctor_list_has(list, cpu))
			return node;
	}
	return -1;
}

struct nodes {
	uint64_t seen; /* bit per node */
	int first;
};

static void numa_each(struct doctor *doctor, uint32_t cpu, void *context)
{
	struct nodes *nodes = context;
	int node = node_of(doctor, cpu);

	if (node < 0)
		return;
	if (!nodes->seen)
		nodes->first = node;
	nodes->seen |= 1ULL << node;
}

static void numa(struct doctor *doctor)
{
	struct nodes nodes = {0, -1};
	char text[16];

	doctor_cores(doctor, numa_each, &nodes);
	if (!nodes.seen) {
		doctor_say(doctor_add(doctor, "numa", DOCTOR_UNKNOWN)->found, "the kernel tells no memory nodes");
		return;
	}
	bool one = (nodes.seen & (nodes.seen - 1)) == 0;
	struct doctor_finding *finding = doctor_add(doctor, "numa", one ? DOCTOR_OK : DOCTOR_WARN);
	if (one) {
		doctor_say(finding->found, "all CPUs of cores are on memory node %d", nodes.first);
	} else {
		doctor_say(finding->found, "the CPUs of cores lie on %d memory nodes", __builtin_popcountll(nodes.seen));
		doctor_say(finding->cost, "rings and the id table are reached over the link between them: some 100 ns per event. "
					  "Choose cores of one node");
	}
	for (uint32_t i = 0; i < doctor->config->ingest_count; i++) {
		const char *device = doctor->config->ingest[i].device;
		if (!device || strncmp(device, "0000:", 5) != 0 ||
		    doctor_read(doctor, text, sizeof(text), "/sys/bus/pci/devices/%.12s/numa_node", device) != 0)
			continue;
		int node = atoi(text);
		if (node < 0 || nodes.seen & 1ULL << node)
			continue;
		finding = doctor_add(doctor, "numa", DOCTOR_WARN);
		doctor_say(finding->found, "port %.12s is on memory node %d, no CPU of cores is", device, node);
		doctor_say(finding->cost, "each packet crosses the link between the nodes. Choose cores of node %d", node);
	}
}

static void siblings_each(struct doctor *doctor, uint32_t cpu, void *context)
{
	char list[128];

	(void)context;
	if (doctor_read(doctor, list, sizeof(list), "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu) != 0)
		return;
	for (uint32_t i = 0; i < doctor->config->shard_count; i++) {
		uint32_t other = doctor->config->shard[i];
		if (other == cpu || !doctor_list_has(list, other))
			continue;
		bool both = false; /* named once, from the lower one */
		for (uint32_t k = 0; k < doctor->config->shard_count; k++)
			both = both || (doctor->config->shard[k] == cpu && cpu > other);
		if (both)
			continue;
		struct doctor_finding *finding = doctor_add(doctor, "siblings", DOCTOR_WARN);
		doctor_say(finding->found, "CPUs %u and %u are two threads of one core", cpu, other);
		doctor_say(finding->cost, "each gets about 60%% of a core's speed. Put them on cores of their own");
	}
}

static void siblings(struct doctor *doctor)
{
	uint32_t before = doctor->findings;

	doctor_cores(doctor, siblings_each, NULL);
	if (doctor->findings == before)
		doctor_say(doctor_add(doctor, "siblings", DOCTOR_OK)->found,
			   "no two CPUs of cores share a core, as far as is told");
}

void doctor_cpu(struct doctor *doctor)
{
	kernel(doctor);
	io_uring(doctor);
	online(doctor);
	isolated(doctor);
	governor(doctor);
	numa(doctor);
	siblings(doctor);
}
