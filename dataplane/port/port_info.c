/*
 * What an operator sees of DPDK ports: for the command socket, and as telemetry commands that dpdk-telemetry.py shows:
 *   /turnpike/ports          the ports' names
 *   /turnpike/port,NAME      one port: queues, spreading, offloads, tap, what became of its frames
 * Threads: the command thread, DPDK's telemetry thread. Everything read here is fixed while a port is open, or atomic; the driver's
 * statistics are made for being read beside the rx cores. Source: DPDK 22.11, telemetry library.
 */
#include "device.h"
#include "port.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_telemetry.h>

static_assert((int)DP_PORT_VERDICTS == (int)DP_DEVICE_VERDICTS, "one index for both");

static void traffic_take(const struct dp_device *device, struct dp_port_info *info)
{
	struct rte_eth_stats stats;

	if (rte_eth_stats_get(device->port_id, &stats) == 0) {
		info->rx_packets = stats.ipackets;
		info->rx_bytes = stats.ibytes;
		info->rx_missed = stats.imissed;
		info->rx_errors = stats.ierrors;
		info->rx_no_buffer = stats.rx_nombuf;
		info->tx_packets = stats.opackets;
		info->tx_bytes = stats.obytes;
		info->tx_errors = stats.oerrors;
	}
	for (uint32_t core = 0; core < device->cores; core++)
		for (uint32_t i = 0; i < DP_PORT_VERDICTS; i++)
			info->verdict[i] += atomic_load_explicit(&device->verdicts[core].count[i], memory_order_relaxed);
}

int dp_dpdk_port_info(const struct tp_config_ingest *ingest, struct dp_port_info *info)
{
	const struct dp_device *device = dp_device_of(ingest);
	struct rte_eth_dev_info about;
	struct rte_eth_link link = {0};
	struct rte_ether_addr mac;

	*info = (struct dp_port_info){.spread = "none"};
	if (device == NULL || device->queue_pairs == 0)
		return -ENODEV;
	snprintf(info->device, sizeof(info->device), "%.100s", ingest->device);
	snprintf(info->interface, sizeof(info->interface), "%s", device->ifname);
	snprintf(info->tap, sizeof(info->tap), "%.15s", ingest->tap != NULL ? ingest->tap : "");
	if (rte_eth_dev_info_get(device->port_id, &about) == 0)
		snprintf(info->driver, sizeof(info->driver), "%.31s", about.driver_name);
	if (rte_eth_macaddr_get(device->port_id, &mac) == 0)
		rte_ether_format_addr(info->mac, sizeof(info->mac), &mac);
	if (rte_eth_link_get_nowait(device->port_id, &link) == 0) {
		info->link_up = link.link_status == RTE_ETH_LINK_UP;
		info->speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	}
	if (device->xdp != NULL)
		snprintf(info->xdp, sizeof(info->xdp), "%s", eb_xdp_mode(device->xdp));
	info->mtu = device->mtu;
	info->queues = device->queue_pairs;
	info->rx_cores = device->cores;
	if (device->cores > 1)
		info->spread = device->software_spread ? "software" : "device";
	info->rss_symmetric = device->rss_symmetric;
	info->rx_sums = (device->rx_offloads & RTE_ETH_RX_OFFLOAD_TCP_CKSUM) != 0;
	info->tx_sums = device->l4_sum_offload;
	info->card_rules = device->rules.count;
	traffic_take(device, info);
	return 0;
}

/* ---- telemetry ---- */

static int telemetry_ports(const char *command, const char *parameters, struct rte_tel_data *data)
{
	(void)command, (void)parameters;
	rte_tel_data_start_array(data, RTE_TEL_STRING_VAL);
	for (uint32_t i = 0; i < dp_device_count(); i++)
		rte_tel_data_add_array_string(data, dp_device_at(i)->name);
	return 0;
}

static int telemetry_port(const char *command, const char *parameters, struct rte_tel_data *data)
{
	struct dp_port_info info;
	const struct dp_device *device = NULL;

	(void)command;
	for (uint32_t i = 0; i < dp_device_count(); i++)
		if (parameters != NULL && strcmp(parameters, dp_device_at(i)->name) == 0)
			device = dp_device_at(i);
	if (device == NULL || dp_dpdk_port_info(device->ingest, &info) != 0)
		return -EINVAL;
	rte_tel_data_start_dict(data);
	rte_tel_data_add_dict_string(data, "driver", info.driver);
	rte_tel_data_add_dict_string(data, "spread", info.spread);
	rte_tel_data_add_dict_string(data, "xdp", info.xdp);
	rte_tel_data_add_dict_string(data, "tap", info.tap);
	rte_tel_data_add_dict_int(data, "link", info.link_up);
	rte_tel_data_add_dict_int(data, "queues", info.queues);
	rte_tel_data_add_dict_int(data, "rx_cores", info.rx_cores);
	rte_tel_data_add_dict_u64(data, "rx_packets", info.rx_packets);
	rte_tel_data_add_dict_u64(data, "tx_packets", info.tx_packets);
	rte_tel_data_add_dict_u64(data, "rx_missed", info.rx_missed);
	for (uint32_t i = 0; i < DP_PORT_VERDICTS; i++) {
		const struct tp_counter_info *row = &tp_counter_info[TP_C_FRAMES_RECEIVED + i];
		char name[64];

		snprintf(name, sizeof(name), "%s%s%s", tp_kind_name((enum tp_counter_kind)row->kind),
			 row->label[0] != '\0' ? "_" : "", row->label);
		rte_tel_data_add_dict_u64(data, name, info.verdict[i]);
	}
	return 0;
}

void dp_device_telemetry_register(void)
{
	rte_telemetry_register_cmd("/turnpike/ports", telemetry_ports, "Names of the ports. Takes no parameters");
	rte_telemetry_register_cmd("/turnpike/port", telemetry_port, "What became of a port's frames. Parameter: its name");
}
