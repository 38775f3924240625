/*
 * The doctor against recorded trees: a guest with one disk (this is what the reference machine says), a server that is well set up,
 * and the same one with everything wrong. A tree is a table of files and links, written into a temporary folder; what is not a file
 * comes from a table of functions.
 */
#include "doctor.h"

#include <errno.h>
#include <setjmp.h> /* cmocka */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct entry {
	const char *path, *text; /* text "-> X": a link to X */
};

static const struct entry guest[] = {
	{"/proc/sys/kernel/osrelease", "6.18.5\n"},
	{"/proc/sys/kernel/io_uring_disabled", "0\n"},
	{"/sys/devices/system/cpu/online", "0-1\n"},
	{"/sys/devices/system/cpu/isolated", "\n"},
	{"/sys/devices/system/node/node0/cpulist", "0-1\n"},
	{"/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"},
	{"/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1\n"},
	{"/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"},
	{"/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"},
	{"/proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units     \n"
			      "Max open files            1048576              1048576              files     \n"
			      "Max locked memory         unlimited            unlimited            bytes     \n"},
	{"/sys/dev/block/254:0/queue/write_cache", "write through\n"},
	{"/sys/dev/block/254:0/queue/rotational", "0\n"},
	{"/sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock\n"},
	{NULL, NULL},
};

static const struct entry server[] = {
	{"/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"},
	{"/sys/devices/system/cpu/online", "0-15\n"},
	{"/sys/devices/system/cpu/isolated", "2-5\n"},
	{"/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n"},
	{"/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance\n"},
	{"/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2,10\n"},
	{"/sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3,11\n"},
	{"/sys/devices/system/node/node0/cpulist", "0-7\n"},
	{"/sys/devices/system/node/node1/cpulist", "8-15\n"},
	{"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n"},
	{"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "300\n"},
	{"/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"},
	{"/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n"},
	{"/proc/77/limits", "Max open files            65536                65536                files     \n"
			    "Max locked memory         67108864             67108864             bytes     \n"},
	{"/sys/class/net/eth7/flags", "0x1003\n"},
	{"/sys/class/net/eth7/device/driver", "-> ../../../../bus/pci/drivers/ice"},
	{"/sys/class/net/eth7/device/msi_irqs/121", "msix\n"},
	{"/sys/class/net/eth7/device/msi_irqs/120", "msix\n"},
	{"/proc/irq/120/smp_affinity_list", "2\n"},
	{"/proc/irq/121/smp_affinity_list", "0-2\n"},
	{"/sys/dev/block/259:2/../queue/write_cache", "write through\n"},
	{"/sys/dev/block/259:2/partition", "2\n"},
	{"/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"},
	{NULL, NULL},
};

/* What differs from the one above. */
static const struct entry wrong[] = {
	{"/proc/sys/kernel/osrelease", "5.4.0-150-generic\n"},
	{"/proc/sys/kernel/io_uring_disabled", "2\n"},
	{"/sys/devices/system/cpu/online", "0-2\n"},
	{"/sys/devices/system/cpu/isolated", "2\n"},
	{"/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave\n"},
	{"/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2-3\n"},
	{"/sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "2-3\n"},
	{"/sys/devices/system/node/node0/cpulist", "0-2\n"},
	{"/sys/devices/system/node/node1/cpulist", "3-15\n"},
	{"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n"},
	{"/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"},
	{"/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda3 partition 4194304 0 -2\n/swap file 1048576 0 -3\n"},
	{"/proc/77/limits", "Max open files            1024                 4096                 files     \n"
			    "Max locked memory         65536                65536                bytes     \n"},
	{"/sys/class/net/eth7/device/driver", "-> ../drivers/e1000"},
	{"/proc/irq/121/smp_affinity_list", "0-3\n"},
	{"/sys/dev/block/259:2/../queue/write_cache", "write back\n"},
	{"/sys/dev/block/259:2/../queue/rotational", "1\n"},
	{"/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"},
	{"/sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet acpi_pm tsc \n"},
	{NULL, NULL},
};

/* ---- a tree ---- */

static char root[64];

static void shell(const char *command)
{
	assert_int_equal(system(command), 0);
}

static void tree_write(const struct entry *entry)
{
	char path[512], folder[512];

	for (; entry->path; entry++) {
		snprintf(path, sizeof(path), "%s%s", root, entry->path);
		for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); at++) {
			*at = '\0';
			snprintf(folder, sizeof(folder), "%s", path);
			assert_true(mkdir(folder, 0755) == 0 || errno == EEXIST);
			*at = '/';
		}
		unlink(path);
		if (strncmp(entry->text, "-> ", 3) == 0) {
			assert_int_equal(symlink(entry->text + 3, path), 0);
			continue;
		}
		FILE *file = fopen(path, "w");
		assert_non_null(file);
		assert_true(fputs(entry->text, file) >= 0);
		assert_int_equal(fclose(file), 0);
	}
}

static int setup(void **state)
{
	(void)state;
	strcpy(root, "/tmp/turnpike-doctor-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r '%s'", root);
	return system(command);
}

/* ---- what is not a file ---- */

static bool good;
static int refuse;
static uint32_t disk_major, disk_minor;

static int rings(const char *interface, struct doctor_rings *to)
{
	assert_string_equal(interface, "eth7");
	*to = (struct doctor_rings){good ? 4096 : 256, 8160, 256, 8160};
	return refuse;
}

static int lro(const char *interface, bool *on)
{
	(void)interface;
	*on = !good;
	return refuse;
}

static int spread(const char *interface, uint32_t *queues, uint32_t *used)
{
	(void)interface;
	*queues = 8;
	*used = good ? 2 : 1;
	return refuse;
}

static int clock_kept(bool *synchronised, uint64_t *error_us)
{
	*synchronised = good;
	*error_us = 1200;
	return refuse;
}

static int device(const char *path, uint32_t *major, uint32_t *minor)
{
	assert_string_equal(path, "/data");
	*major = disk_major;
	*minor = disk_minor;
	return refuse;
}

static int sync_ns(const char *folder, uint64_t *median, uint64_t *worst)
{
	(void)folder;
	*median = good ? 90000 : 12500000;
	*worst = 31000000;
	return refuse;
}

static int lost;

static int logs_lost(const char *data_dir, uint64_t *first)
{
	assert_string_equal(data_dir, "/data");
	*first = 0x2a;
	return lost;
}

static const struct doctor_ops ops = {.rings = rings,
				      .lro = lro,
				      .spread = spread,
				      .clock = clock_kept,
				      .device = device,
				      .sync_ns = sync_ns,
				      .logs_lost = logs_lost};

static uint32_t rx[] = {2, 2}, shard[] = {3}, low[] = {0}, high[] = {1};
static struct tp_config_ingest card = {.driver = TP_DRIVER_DPDK, .device = (char *)"net_af_xdp0,iface=eth7,start_queue=0"};
static struct tp_config_ingest kernel_socket = {.driver = TP_DRIVER_SOCKET};
static struct tp_config big = {.data_dir = (char *)"/data",
			       .ingest = &card,
			       .ingest_count = 1,
			       .rx = rx,
			       .rx_count = 1,
			       .shard = shard,
			       .shard_count = 1,
			       .memory_connections = 16384};
static struct tp_config small = {.data_dir = (char *)"/data",
				 .ingest = &kernel_socket,
				 .ingest_count = 1,
				 .rx = low,
				 .rx_count = 1,
				 .shard = high,
				 .shard_count = 1,
				 .memory_connections = 16384,
				 .idle_sleep = true};
static struct doctor doctor;

static void examine(const struct tp_config *config, uint32_t pid)
{
	memset(&doctor, 0, sizeof(doctor));
	doctor.root = root;
	doctor.ops = &ops;
	doctor.config = config;
	doctor.pid = pid;
	doctor_run(&doctor);
}

/* The number-th finding of a check. */
static const struct doctor_finding *finding(const char *check, uint32_t number)
{
	for (uint32_t i = 0; i < doctor.findings; i++)
		if (strcmp(doctor.finding[i].check, check) == 0 && number-- == 0)
			return &doctor.finding[i];
	fail_msg("no finding %s", check);
	return NULL;
}

static void expect(const char *check, const char *status, const char *found)
{
	const struct doctor_finding *got = finding(check, 0);

	assert_string_equal(doctor_status_name(got->status), status);
	if (!strstr(got->found, found))
		fail_msg("%s: found \"%s\", wanted \"%s\"", check, got->found, found);
	/* whatever is not fine says what it costs */
	assert_int_equal(got->cost[0] != '\0', got->status == DOCTOR_WARN || got->status == DOCTOR_BAD);
}

static void a_guest_is_understood(void **state)
{
	(void)state;
	tree_write(guest);
	good = true;
	refuse = 0;
	disk_major = 254;
	disk_minor = 0;
	examine(&small, 0);
	expect("kernel", "ok", "6.18.5");
	expect("io_uring", "ok", "0");
	expect("cpus", "ok", "0-1");
	expect("isolated", "ok", "none");
	expect("governor", "unknown", "no cpufreq");
	expect("numa", "ok", "node 0");
	expect("siblings", "ok", "");
	expect("hugepages", "ok", "none are needed");
	expect("thp", "ok", "madvise");
	expect("swap", "ok", "none");
	expect("nofile", "ok", "1048576");
	expect("memlock", "ok", "not limited");
	expect("cache", "ok", "write through");
	expect("sync", "ok", "0.090 ms (median), 31.000 ms at worst");
	expect("clocksource", "ok", "kvm-clock");
	expect("clock", "ok", "1 ms off");
	assert_int_equal(doctor_worst(&doctor), DOCTOR_OK);
}

static void a_good_server_has_nothing_to_mend(void **state)
{
	(void)state;
	tree_write(server);
	good = true;
	refuse = 0;
	disk_major = 259;
	disk_minor = 2;
	examine(&big, 77);
	for (uint32_t i = 0; i < doctor.findings; i++) {
		if (doctor.finding[i].status != DOCTOR_OK)
			fail_msg("%s: %s", doctor.finding[i].check, doctor.finding[i].found);
		assert_string_equal(doctor.finding[i].fix, "");
	}
	expect("xdp", "ok", "driver ice takes AF_XDP zero copy");
	expect("rings", "ok", "4096 of 8160");
	expect("spread", "ok", "2 of 8");
	expect("interrupts", "ok", "none of its 2 interrupts");
	expect("hugepages", "ok", "512 pages of 2 MiB, 300 free");
}

static void what_is_wrong_is_found(void **state)
{
	(void)state;
	tree_write(server);
	tree_write(wrong);
	good = false;
	refuse = 0;
	disk_major = 259;
	disk_minor = 2;
	lost = 2;
	examine(&big, 77);
	expect("kernel", "bad", "5.4.0");
	expect("io_uring", "bad", "2");
	expect("cpus", "bad", "CPU 3");
	expect("isolated", "warn", "isolated CPUs: 2; cores.idle is poll");
	assert_non_null(strstr(finding("isolated", 0)->cost, "isolcpus=3 "));
	expect("governor", "warn", "CPU 3: powersave");
	expect("numa", "warn", "2 memory nodes");
	expect("siblings", "warn", "2 and 3");
	expect("hugepages", "warn", "0 pages");
	expect("thp", "warn", "always");
	expect("swap", "warn", "2 areas, 5120 MiB");
	expect("nofile", "warn", "1024 open files for the data process, 4096 at most");
	expect("memlock", "warn", "64 KiB");
	expect("xdp", "warn", "e1000 takes AF_XDP generic");
	expect("rings", "warn", "256 of 8160");
	expect("offloads", "warn", "on");
	expect("interrupts", "warn", "interrupt 121 may run on CPUs 0-3, shard core 3");
	expect("cache", "warn", "write back");
	expect("disk", "warn", "spins");
	expect("sync", "bad", "12.500 ms (median)");
	expect("clocksource", "bad", "hpet");
	expect("clock", "warn", "nothing keeps it");
	assert_string_equal(finding("clocksource", 0)->fix,
			    "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource");
	assert_string_equal(finding("rings", 0)->fix, "ethtool -G eth7 rx 4096");
	assert_string_equal(finding("rings", 0)->undo, "ethtool -G eth7 rx 256");
	assert_int_equal(doctor_worst(&doctor), DOCTOR_BAD);
	/* nothing is advised that could not be taken back */
	for (uint32_t i = 0; i < doctor.findings; i++)
		assert_int_equal(doctor.finding[i].fix[0] == '\0', doctor.finding[i].undo[0] == '\0');
	expect("log", "bad", "2 log files are missing or not those that were made, the first 000000000000002a");
	lost = 0;
}

/* The script does every fix, and with undo takes all back: tried on the tree itself. */
static void the_script_mends_and_takes_back(void **state)
{
	char path[128], command[1024], before[64], text[64];

	(void)state;
	what_is_wrong_is_found(NULL);
	snprintf(path, sizeof(path), "%s/fix.sh", root);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	doctor_script(&doctor, file);
	assert_int_equal(fclose(file), 0);
	/* paths into the tree; commands that would reach the machine are only noted */
	snprintf(command, sizeof(command),
		 "cd '%s' && sed -i 's# /\\(sys\\|proc\\)/# %s/\\1/#' fix.sh && mkdir bin && for tool in sysctl swapoff swapon "
		 "ethtool prlimit "
		 "apt-get; do printf '#!/bin/sh\\necho \"%%s $*\" >>%s/did\\n' $tool >bin/$tool; chmod +x bin/$tool; done",
		 root, root, root);
	shell(command);
	doctor_read(&doctor, before, sizeof(before), "/sys/kernel/mm/transparent_hugepage/enabled");
	snprintf(command, sizeof(command), "PATH='%s/bin':$PATH sh '%s/fix.sh'", root, root);
	shell(command);
	assert_int_equal(doctor_read(&doctor, text, sizeof(text), "/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor"), 0);
	assert_string_equal(text, "performance");
	doctor_read(&doctor, text, sizeof(text), "/proc/irq/121/smp_affinity_list");
	assert_string_equal(text, "2");
	doctor_read(&doctor, text, sizeof(text), "/did");
	assert_string_equal(text, "sysctl -w kernel.io_uring_disabled=0");
	snprintf(command, sizeof(command), "PATH='%s/bin':$PATH sh '%s/fix.sh' undo", root, root);
	shell(command);
	doctor_read(&doctor, text, sizeof(text), "/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor");
	assert_string_equal(text, "powersave");
	doctor_read(&doctor, text, sizeof(text), "/proc/irq/121/smp_affinity_list");
	assert_string_equal(text, "0-3");
	doctor_read(&doctor, text, sizeof(text), "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
	assert_string_equal(text, "0");
	snprintf(command, sizeof(command), "grep -qx 'swapon -a' '%s/did' && grep -qx 'ethtool -G eth7 rx 256' '%s/did'", root,
		 root);
	shell(command);
	snprintf(command, sizeof(command), "sh '%s/fix.sh' nonsense 2>/dev/null", root);
	assert_int_equal(WEXITSTATUS(system(command)), 2);
}

/* An empty machine, or one that tells nobody anything: nothing breaks, nothing is called bad that is not known. */
static void what_cannot_be_seen_is_unknown(void **state)
{
	(void)state;
	good = false;
	refuse = -EPERM;
	examine(&small, 0);
	assert_int_equal(doctor_worst(&doctor), DOCTOR_OK);
	assert_int_equal(finding("kernel", 0)->status, DOCTOR_UNKNOWN);
	assert_int_equal(finding("sync", 0)->status, DOCTOR_UNKNOWN);
	assert_int_equal(finding("clock", 0)->status, DOCTOR_UNKNOWN);
	assert_int_equal(finding("memlock", 0)->status, DOCTOR_UNKNOWN);
	tree_write(server);
	examine(&big, 77);
	assert_int_equal(finding("rings", 0)->status, DOCTOR_UNKNOWN);
	assert_int_equal(finding("offloads", 0)->status, DOCTOR_UNKNOWN);
}

/* An interface's name goes into a script that root runs. */
static void a_name_cannot_be_a_command(void **state)
{
	struct tp_config_ingest hostile = {.driver = TP_DRIVER_DPDK, .device = (char *)"net_af_xdp0,iface=a;reboot"};
	struct tp_config config = big;

	(void)state;
	tree_write(server);
	config.ingest = &hostile;
	good = false;
	refuse = 0;
	examine(&config, 0);
	for (uint32_t i = 0; i < doctor.findings; i++)
		assert_null(strstr(doctor.finding[i].fix, "reboot"));
}

static void lists_are_read(void **state)
{
	(void)state;
	assert_true(doctor_list_has("0-3,8,10-11", 8));
	assert_true(doctor_list_has("0-3,8,10-11", 2));
	assert_true(doctor_list_has("0-3,8,10-11", 11));
	assert_false(doctor_list_has("0-3,8,10-11", 9));
	assert_false(doctor_list_has("", 0));
	assert_false(doctor_list_has("(null)", 0));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_guest_is_understood),           TEST(a_good_server_has_nothing_to_mend), TEST(what_is_wrong_is_found),
		TEST(the_script_mends_and_takes_back), TEST(what_cannot_be_seen_is_unknown),    TEST(a_name_cannot_be_a_command),
		cmocka_unit_test(lists_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
