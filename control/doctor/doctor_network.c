/*
 * The doctor's checks of the interfaces under net_af_xdp ports. Ports that DPDK drives itself are not the kernel's any more: what they
 * do is told by `turnpikectl ports`. Sources: ethtool(8), Documentation/networking/af_xdp.rst, Documentation/core-api/irq/irq-affinity.rst.
 */
#include "doctor_check.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 16, IRQS_MAX = 256 };

/* "net_af_xdp0,iface=tp0,…": the interface. */
static bool interface_of(const struct tp_config_ingest *ingest, char name[NAME_BYTES])
{
	const char *at = ingest->driver == TP_DRIVER_DPDK && ingest->device && strncmp(ingest->device, "net_af_xdp", 10) == 0
				 ? strstr(ingest->device, "iface=")
				 : NULL;

	if (!at)
		return false;
	size_t bytes = strcspn(at + 6, ",");
	if (bytes == 0 || bytes >= NAME_BYTES)
		return false;
	for (size_t i = 0; i < bytes; i++) /* it goes into shell commands */
		if (!isalnum((unsigned char)at[6 + i]) && !strchr("-_.@:", at[6 + i]))
			return false;
	snprintf(name, NAME_BYTES, "%.*s", (int)bytes, at + 6);
	return true;
}

static void rings(struct doctor *doctor, const char *name)
{
	struct doctor_rings rings;
	int rc = doctor->ops->rings(name, &rings);

	if (rc != 0) {
		struct doctor_finding *finding = doctor_add(doctor, "rings", DOCTOR_UNKNOWN);
		doctor_say(finding->found, "%s: its driver does not tell its rings (%s)", name, strerror(-rc));
		return;
	}
	bool full = rings.rx >= rings.rx_max || rings.rx >= 4096;
	struct doctor_finding *finding = doctor_add(doctor, "rings", full ? DOCTOR_OK : DOCTOR_WARN);
	doctor_say(finding->found, "%s: %u of %u receive and %u of %u send descriptors", name, rings.rx, rings.rx_max, rings.tx,
		   rings.tx_max);
	if (full)
		return;
	uint32_t want = rings.rx_max < 4096 ? rings.rx_max : 4096;
	doctor_say(finding->cost, "a burst of more than %u packets within one pause of the core is lost in the card", rings.rx);
	doctor_say(finding->fix, "ethtool -G %s rx %u", name, want);
	doctor_say(finding->undo, "ethtool -G %s rx %u", name, rings.rx);
}

static void offloads(struct doctor *doctor, const char *name)
{
	bool on;
	int rc = doctor->ops->lro(name, &on);

	if (rc != 0) {
		doctor_say(doctor_add(doctor, "offloads", DOCTOR_UNKNOWN)->found, "%s: its driver does not tell its offloads (%s)",
			   name, strerror(-rc));
		return;
	}
	struct doctor_finding *finding = doctor_add(doctor, "offloads", on ? DOCTOR_WARN : DOCTOR_OK);
	doctor_say(finding->found, "%s: large receive offload is %s", name, on ? "on" : "off");
	if (!on)
		return;
	doctor_say(finding->cost, "most drivers then refuse XDP in the driver: every packet goes through the slow generic hook");
	doctor_say(finding->fix, "ethtool -K %s lro off", name);
	doctor_say(finding->undo, "ethtool -K %s lro on", name);
}

static void spread(struct doctor *doctor, const char *name)
{
	uint32_t queues, used, cores = doctor->config->rx_count;
	int rc = doctor->ops->spread(name, &queues, &used);

	if (rc != 0) {
		struct doctor_finding *finding = doctor_add(doctor, "spread", cores > 1 ? DOCTOR_WARN : DOCTOR_OK);
		doctor_say(finding->found, "%s: its driver spreads no flows over queues (%s)", name, strerror(-rc));
		if (cores > 1)
			doctor_say(finding->cost, "one of %u rx cores polls it and hands frames to the others over rings", cores);
		return;
	}
	bool fits = used >= cores || cores == 1;
	struct doctor_finding *finding = doctor_add(doctor, "spread", fits ? DOCTOR_OK : DOCTOR_WARN);
	doctor_say(finding->found, "%s: flows are spread over %u of %u queues; %u rx cores", name, used, queues, cores);
	if (fits)
		return;
	doctor_say(finding->cost, "rx cores without a queue get their frames from others over rings: some 50 cycles more a frame");
	if (queues >= cores) {
		doctor_say(finding->fix, "ethtool -X %s equal %u", name, cores);
		doctor_say(finding->undo, "ethtool -X %s equal %u", name, used ? used : 1);
	}
}

/* Which way AF_XDP will take, by the driver's name: what it offers is in no file. */
static void xdp(struct doctor *doctor, const char *name)
{
	static const char *const zero_copy[] = {"i40e",   "ice", "ixgbe",   "igb", "igc", "mlx5_core",
						"stmmac", "nfp", "bnxt_en", "gve", "idpf"};
	static const char *const native[] = {"veth",      "virtio_net", "ena",     "mlx4_en", "tun",
					     "hv_netvsc", "sfc",        "ixgbevf", "vmxnet3", "netvsc"};
	char driver[64] = "", flags[32];
	enum doctor_status status = DOCTOR_WARN;
	const char *way = "generic";

	if (doctor_read(doctor, flags, sizeof(flags), "/sys/class/net/%s/flags", name) != 0) {
		struct doctor_finding *finding = doctor_add(doctor, "xdp", DOCTOR_BAD);
		doctor_say(finding->found, "there is no interface %s", name);
		doctor_say(finding->cost, "turnpiked does not start");
		return;
	}
	if (doctor_link(doctor, driver, sizeof(driver), "/sys/class/net/%s/device/driver", name) != 0)
		snprintf(driver, sizeof(driver), "veth"); /* no device behind it: a virtual one */
	for (size_t i = 0; i < sizeof(zero_copy) / sizeof(zero_copy[0]); i++)
		if (strcmp(driver, zero_copy[i]) == 0) {
			status = DOCTOR_OK;
			way = "zero copy";
		}
	for (size_t i = 0; i < sizeof(native) / sizeof(native[0]); i++)
		if (strcmp(driver, native[i]) == 0)
			way = "in the driver, with a copy";
	struct doctor_finding *finding = doctor_add(doctor, "xdp", status);
	doctor_say(finding->found, "%s: driver %s takes AF_XDP %s", name, driver, way);
	if (status == DOCTOR_OK)
		return;
	if (strcmp(way, "generic") == 0)
		doctor_say(finding->cost,
			   "the kernel builds a packet of its own first: a third of the packets a second of XDP in the driver");
	else
		doctor_say(finding->cost,
			   "each frame is copied once: about 100 ns. `turnpikectl ports` tells the way that was taken");
}

/* An interrupt of the interface on a shard core interrupts who has nothing to do with it. */
static void interrupt(struct doctor *doctor, const char *name, uint32_t irq, uint32_t *wrong)
{
	char list[256], rx[128] = "", one[16];

	if (doctor_read(doctor, list, sizeof(list), "/proc/irq/%u/smp_affinity_list", irq) != 0)
		return;
	for (uint32_t i = 0; i < doctor->config->rx_count; i++) {
		snprintf(one, sizeof(one), "%s%u", i ? "," : "", doctor->config->rx[i]);
		if (strlen(rx) + strlen(one) < sizeof(rx))
			strcat(rx, one);
	}
	for (uint32_t i = 0; i < doctor->config->shard_count; i++) {
		bool receives = doctor_list_has(rx, doctor->config->shard[i]);
		if (receives || !doctor_list_has(list, doctor->config->shard[i]))
			continue;
		++*wrong;
		if (*wrong > 8)
			return; /* the first ones show it */
		struct doctor_finding *finding = doctor_add(doctor, "interrupts", DOCTOR_WARN);
		doctor_say(finding->found, "%s: interrupt %u may run on CPUs %.64s, shard core %u among them", name, irq, list,
			   doctor->config->shard[i]);
		doctor_say(finding->cost,
			   "the kernel's part of receiving takes time from the shard: stop irqbalance, and give them to rx cores");
		doctor_say(finding->fix, "echo %s > /proc/irq/%u/smp_affinity_list", rx, irq);
		doctor_say(finding->undo, "echo %.64s > /proc/irq/%u/smp_affinity_list", list, irq);
		return;
	}
}

static void interrupts(struct doctor *doctor, const char *name)
{
	char path[512];
	uint32_t count = 0, wrong = 0, irq[IRQS_MAX];

	snprintf(path, sizeof(path), "%s/sys/class/net/%s/device/msi_irqs", doctor->root, name);
	DIR *folder = opendir(path);
	const struct dirent *entry;
	while (folder && (entry = readdir(folder)) && count < IRQS_MAX)
		if (isdigit((unsigned char)entry->d_name[0]))
			irq[count++] = (uint32_t)strtoul(entry->d_name, NULL, 10);
	if (folder)
		closedir(folder);
	for (uint32_t i = 1; i < count; i++) /* in order, whatever the folder's is */
		for (uint32_t k = i; k && irq[k] < irq[k - 1]; k--) {
			uint32_t swap = irq[k];
			irq[k] = irq[k - 1];
			irq[k - 1] = swap;
		}
	for (uint32_t i = 0; i < count; i++)
		interrupt(doctor, name, irq[i], &wrong);
	if (!count)
		doctor_say(doctor_add(doctor, "interrupts", DOCTOR_UNKNOWN)->found, "%s: it has no interrupts of its own", name);
	else if (!wrong)
		doctor_say(doctor_add(doctor, "interrupts", DOCTOR_OK)->found, "%s: none of its %u interrupts runs on a shard core",
			   name, count);
}

void doctor_network(struct doctor *doctor)
{
	char name[NAME_BYTES];

	for (uint32_t i = 0; i < doctor->config->ingest_count; i++) {
		if (!interface_of(&doctor->config->ingest[i], name))
			continue;
		xdp(doctor, name);
		rings(doctor, name);
		offloads(doctor, name);
		spread(doctor, name);
		interrupts(doctor, name);
	}
}
