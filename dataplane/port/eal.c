/*
 * DPDK's environment (EAL): one per process, with exactly the devices of the configuration. Main thread; the blocklist and the
 * counters of the XDP programs are the command thread's.
 *
 *   prepare devices ─ take hugepages ─ rte_eal_init ─ settle ── ports open, run, close ── rte_eal_cleanup ─ give hugepages
 *
 * EAL is told: --in-memory (no files of memory, so several instances run beside each other and a killed one leaves none), all
 * memory at start (-m), no PCI scan unless a PCI device is named. It pins the calling thread to its main lcore, which we undo: our
 * rx threads are plain threads that register themselves. Its log lines become ours. Its telemetry socket lies in its runtime folder,
 * /var/run/dpdk/turnpike for root; the library removes it at exit, and replaces one that a killed process left.
 *
 * Drivers are plug-ins: EAL loads every one in its driver folder (Debian: pmds-23.0), net_af_xdp among them. A missing one shows as
 * a device that cannot be probed, and the message names the package.
 * Source: DPDK 22.11, "EAL parameters" and lib/eal/linux/eal.c.
 */
#include "device.h"
#include "hugepages.h"
#include "port.h"

#include "turnpike/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_log.h>

enum { EAL_ARGUMENTS_MAX = 16 + 2 * DP_DEVICES_MAX, EAL_ARGUMENT_BYTES = DP_DEVICE_ARGUMENT_BYTES + 16 };
enum { EAL_OWN_BYTES = 12 << 20 }; /* what EAL, ethdev and the drivers take beside our mempools; measured 6 MiB with net_af_xdp */

static struct {
	struct dp_device device[DP_DEVICES_MAX];
	uint32_t devices;
	struct dp_hugepages hugepages;
	bool running;
	char describe[512];
} dpdk;

uint32_t dp_device_room_bytes(uint16_t mtu)
{
	const uint32_t frame = (uint32_t)mtu + 14 + 4 + 4; /* Ethernet, VLAN, FCS */

	return RTE_PKTMBUF_HEADROOM + (frame > 2048 ? frame : 2048);
}

struct dp_device *dp_device_of(const struct tp_config_ingest *ingest)
{
	for (uint32_t i = 0; i < dpdk.devices; i++)
		if (dpdk.device[i].ingest == ingest)
			return &dpdk.device[i];
	return NULL;
}

uint32_t dp_device_count(void)
{
	return dpdk.devices;
}

const struct dp_device *dp_device_at(uint32_t index)
{
	return &dpdk.device[index];
}

/* EAL writes whole lines through this stream. */
static ssize_t log_take(void *cookie, const char *text, size_t bytes)
{
	const int level = rte_log_cur_msg_loglevel();
	size_t shown = bytes;

	(void)cookie;
	while (shown > 0 && (text[shown - 1] == '\n' || text[shown - 1] == ' '))
		shown--;
	/* A machine without pages of 1 GiB is no news. */
	if (shown > 0 && memmem(text, shown, "EAL: No free", strlen("EAL: No free")) == NULL)
		tp_logf(level <= (int)RTE_LOG_ERR       ? TP_ERROR
			: level <= (int)RTE_LOG_WARNING ? TP_WARN
							: TP_DEBUG,
			"DPDK says", "text=\"%.*s\"", (int)shown, text);
	return (ssize_t)bytes;
}

static void log_redirect(void)
{
	FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = log_take});

	if (stream == NULL)
		return;
	setvbuf(stream, NULL, _IOLBF, 1024);
	rte_openlog_stream(stream);
}

/* Any CPU that we may run on: the main lcore is only a name here. */
static int first_cpu(const cpu_set_t *allowed)
{
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, allowed))
			return cpu;
	return 0;
}

static int eal_start(uint64_t bytes)
{
	char text[EAL_ARGUMENTS_MAX][EAL_ARGUMENT_BYTES];
	char *argument[EAL_ARGUMENTS_MAX + 1];
	int arguments = 0, result;
	bool pci = false;
	cpu_set_t allowed;

	result = -pthread_getaffinity_np(pthread_self(), sizeof(allowed), &allowed);
	if (result != 0)
		return result;
#define ARGUMENT(...) snprintf(text[arguments++], EAL_ARGUMENT_BYTES, __VA_ARGS__)
	ARGUMENT("turnpiked");
	ARGUMENT("--in-memory");
	ARGUMENT("--file-prefix=turnpike");
	ARGUMENT("--log-level=*:warning");
	ARGUMENT("--lcores=0@%d", first_cpu(&allowed));
	ARGUMENT("-m");
	ARGUMENT("%" PRIu64, (bytes + (1 << 20) - 1) >> 20);
	for (uint32_t i = 0; i < dpdk.devices; i++) {
		ARGUMENT("--%s=%s", dpdk.device[i].pci ? "allow" : "vdev", dpdk.device[i].argument);
		pci |= dpdk.device[i].pci;
	}
	if (!pci) {
		/* Virtual devices need no physical addresses, and mempools in one piece are easier to get without. */
		ARGUMENT("--no-pci");
		ARGUMENT("--iova-mode=va");
	}
#undef ARGUMENT
	for (int i = 0; i < arguments; i++)
		argument[i] = text[i];
	argument[arguments] = NULL;
	log_redirect();
	result = rte_eal_init(arguments, argument);
	if (result < 0)
		result = rte_errno != 0 ? -rte_errno : -EIO;
	pthread_setaffinity_np(pthread_self(), sizeof(allowed), &allowed);
	return result < 0 ? result : 0;
}

/* EAL makes a runtime folder even when it keeps no file in it. */
static void runtime_folder_remove(void)
{
	char path[128];
	char *last;

	snprintf(path, sizeof(path), "%s", rte_eal_get_runtime_dir());
	if (rmdir(path) == 0 && (last = strrchr(path, '/')) != NULL) {
		*last = '\0';
		rmdir(path); /* "dpdk": stays when others use it */
	}
}

static int devices_prepare(const struct tp_config *config, uint64_t *bytes)
{
	*bytes = EAL_OWN_BYTES;
	for (uint32_t i = 0; i < config->ingest_count; i++) {
		const struct tp_config_ingest *ingest = &config->ingest[i];
		struct dp_device *device = &dpdk.device[dpdk.devices];
		int result;

		if (ingest->driver != TP_DRIVER_DPDK)
			continue;
		if (dpdk.devices == DP_DEVICES_MAX) {
			tp_logf(TP_ERROR, "too many DPDK devices", "max=%d", DP_DEVICES_MAX);
			return -EINVAL;
		}
		result = dp_device_prepare(device, ingest, config->rx_count);
		if (result != 0)
			return result;
		for (uint32_t j = 0; j < dpdk.devices; j++)
			if (strcmp(dpdk.device[j].name, device->name) == 0) {
				tp_logf(TP_ERROR, "two ingest entries name the same DPDK device", "device=%s", device->name);
				dp_device_release(device);
				return -EINVAL;
			}
		dpdk.devices++;
		/* An mbuf's headers, the mempool's own header and the gap at the end of a page come to less than 512 bytes. */
		*bytes += (uint64_t)device->interface_queues * (DP_DEVICE_MBUFS + 1) * (dp_device_room_bytes(device->mtu) + 512);
	}
	return 0;
}

/* A device that EAL did not bring up, most often because its driver is not installed. */
static int devices_check(void)
{
	for (uint32_t i = 0; i < dpdk.devices; i++) {
		struct dp_device *device = &dpdk.device[i];
		struct rte_dev_iterator iterator;
		uint16_t port;

		if (!device->pci && rte_eth_dev_get_port_by_name(device->name, &port) == 0) {
			device->port_id = port;
			continue;
		}
		if (device->pci)
			RTE_ETH_FOREACH_MATCHING_DEV(port, device->name, &iterator)
		if (device->port_id == UINT16_MAX)
			device->port_id = port;
		if (device->port_id != UINT16_MAX)
			continue;
		tp_logf(TP_ERROR, "DPDK has no port for this device",
			"device=\"%s\" hint=\"is the driver's package installed, such as librte-net-af-xdp23%s?\"",
			device->ingest->device, device->pci ? ", and the device bound to vfio-pci" : "");
		return -ENODEV;
	}
	return 0;
}

int dp_dpdk_init(const struct tp_config *config)
{
	uint64_t bytes;
	int result;

	dp_hugepages_init(&dpdk.hugepages);
	result = devices_prepare(config, &bytes);
	if (result != 0)
		goto release;
	result = dp_hugepages_take(&dpdk.hugepages, bytes);
	if (result != 0)
		goto release;
	result = eal_start(bytes);
	if (result != 0) {
		tp_logf(TP_ERROR, "DPDK did not start", "error=\"%s\"", rte_strerror(-result));
		runtime_folder_remove();
		goto give;
	}
	dp_hugepages_settle(&dpdk.hugepages);
	dpdk.running = true;
	dp_device_telemetry_register();
	result = devices_check();
	if (result == 0)
		return 0;
	dp_dpdk_fini();
	return result;
give:
	dp_hugepages_give(&dpdk.hugepages);
release:
	while (dpdk.devices > 0)
		dp_device_release(&dpdk.device[--dpdk.devices]);
	return result;
}

void dp_dpdk_fini(void)
{
	if (!dpdk.running)
		return;
	dpdk.running = false;
	runtime_folder_remove();
	rte_eal_cleanup();
	dp_hugepages_give(&dpdk.hugepages);
	while (dpdk.devices > 0)
		dp_device_release(&dpdk.device[--dpdk.devices]);
}

const char *dp_dpdk_describe(void)
{
	size_t at = 0;

	dpdk.describe[0] = '\0';
	for (uint32_t i = 0; i < dpdk.devices && at < sizeof(dpdk.describe); i++) {
		const struct dp_device *device = &dpdk.device[i];
		const size_t room = sizeof(dpdk.describe) - at;
		const char *gap = i > 0 ? "; " : "";

		if (!device->af_xdp)
			at += (size_t)snprintf(dpdk.describe + at, room, "%s%s", gap, device->name);
		else if (device->xdp != NULL)
			at += (size_t)snprintf(dpdk.describe + at, room, "%s%s on %s, XDP %s, our program", gap, device->name,
					       device->ifname, eb_xdp_mode(device->xdp));
		else
			at += (size_t)snprintf(dpdk.describe + at, room, "%s%s on %s, %s", gap, device->name, device->ifname,
					       device->own_program ? "not started" : "XDP program of xdp_prog=");
	}
	return dpdk.describe;
}

/* Until the card holds the whole list, the rx cores look. */
static int rules_apply(struct dp_device *device, const struct eb_block *list, uint32_t count)
{
	const int result = dp_rules_apply(&device->rules, list, count);

	if (result == -ENOTSUP) {
		tp_logf(TP_DEBUG, "card takes no drop rules, rx cores check the blocklist", "device=%s", device->name);
		atomic_store_explicit(&device->covered, false, memory_order_relaxed);
	}
	return result;
}

/* What the maps cannot take, the rx cores check: a listed source is refused in any case, and this never fails. */
int dp_dpdk_blocklist(const struct eb_block *list, uint32_t count)
{
	for (uint32_t i = 0; i < dpdk.devices; i++) {
		struct dp_device *device = &dpdk.device[i];
		int one;

		if (device->xdp != NULL)
			one = eb_xdp_blocklist(device->xdp, list, count);
		else if (device->rules.rule != NULL)
			one = rules_apply(device, list, count);
		else
			continue;
		/* relaxed: the flag stands alone, and rx cores only choose by it whether to look themselves */
		atomic_store_explicit(&device->covered, one == 0, memory_order_relaxed);
		if (one < 0 && one != -ENOTSUP)
			tp_logf(TP_WARN, "blocklist does not fit the XDP program or card, rx cores check it instead",
				"device=%s entries=%u error=\"%s\"", device->name, count, strerror(-one));
	}
	return 0;
}

int dp_dpdk_blocklist_hits(uint64_t *hits, uint32_t slots)
{
	int result = 0;

	for (uint32_t i = 0; i < dpdk.devices && result == 0; i++)
		if (dpdk.device[i].xdp != NULL)
			result = eb_xdp_hits(dpdk.device[i].xdp, hits, slots);
	return result;
}

void dp_dpdk_packet_rates(const struct tp_config *config)
{
	for (uint32_t i = 0; i < dpdk.devices; i++) {
		struct dp_device *device = &dpdk.device[i];

		for (uint32_t k = 0; k < config->ingest_count && device->xdp != NULL; k++) {
			const struct tp_config_ingest *ingest = &config->ingest[k];
			int result;

			if (ingest->device == NULL || strcmp(ingest->device, device->ingest->device) != 0)
				continue;
			result = eb_xdp_packet_rate(device->xdp, ingest->packet_rate_limit);
			if (result != 0)
				tp_logf(TP_WARN, "cannot set the packet rate limit", "interface=%s error=\"%s\"", device->ifname,
					strerror(-result));
		}
	}
}

int dp_dpdk_xdp_counters(uint64_t counters[EB_COUNTERS])
{
	bool found = false;

	memset(counters, 0, EB_COUNTERS * sizeof(*counters));
	for (uint32_t i = 0; i < dpdk.devices; i++) {
		uint64_t one[EB_COUNTERS];
		int result;

		if (dpdk.device[i].xdp == NULL)
			continue;
		result = eb_xdp_counters(dpdk.device[i].xdp, one);
		if (result != 0)
			return result;
		for (uint32_t which = 0; which < EB_COUNTERS; which++)
			counters[which] += one[which];
		found = true;
	}
	return found ? 0 : -ENOENT;
}
