/*
 * A DPDK device before EAL knows it: see device.h. Main thread, cold.
 *
 * What net_af_xdp of DPDK 22.11 needs to be told or kept from, found in its source:
 *   - It loads xdp_prog= through libbpf and attaches it without a mode flag (native where the driver can) and without a bpf_link.
 *     At close it detaches whatever is attached to the interface, even when its own attach had failed. So we look first.
 *   - With busy_budget above zero each empty receive is a system call. With zero it is none where the kernel copies frames (veth),
 *     but a poll() of up to a second where a driver in zero-copy mode asks to be woken. So only veth gets zero.
 *   - It binds `queue_count` queues from `start_queue`, by the interface's count of combined channels. veth has none, and one queue
 *     only can be bound: frames of its other queues would go to the kernel.
 */
#include "device.h"

#include "turnpike/log.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void release_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* [domain:]bus:device.function */
static bool is_pci(const char *text)
{
	unsigned int domain, bus, slot, function;
	int used = 0;

	if (sscanf(text, "%x:%x:%x.%x%n", &domain, &bus, &slot, &function, &used) == 4 && (text[used] == '\0' || text[used] == ','))
		return true;
	used = 0;
	return sscanf(text, "%x:%x.%x%n", &bus, &slot, &function, &used) == 3 && (text[used] == '\0' || text[used] == ',');
}

/* The value of `key=` among the comma-separated arguments, or NULL. */
static const char *argument_find(const char *arguments, const char *key)
{
	const size_t bytes = strlen(key);

	for (const char *at = strchr(arguments, ','); at != NULL; at = strchr(at, ',')) {
		at++;
		if (strncmp(at, key, bytes) == 0 && at[bytes] == '=')
			return at + bytes + 1;
	}
	return NULL;
}

static int argument_add(struct dp_device *device, const char *key, const char *value)
{
	const size_t used = strlen(device->argument), room = sizeof(device->argument) - used;

	if (argument_find(device->argument, key) != NULL)
		return 0; /* the user knows better */
	return (size_t)snprintf(device->argument + used, room, ",%s=%s", key, value) < room ? 0 : -ENAMETOOLONG;
}

static int argument_add_number(struct dp_device *device, const char *key, uint32_t value)
{
	char text[12];

	snprintf(text, sizeof(text), "%u", value);
	return argument_add(device, key, text);
}

/* MTU, driver and receive queues of the interface. */
static int interface_look(struct dp_device *device)
{
	struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq request = {0};
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint32_t queues = 1;
	int result = 0;

	if (fd < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device->ifname);
	if (ioctl(fd, SIOCGIFMTU, &request) != 0) {
		result = -errno;
		tp_logf(TP_ERROR, "network interface of a DPDK device cannot be used", "device=\"%s\" interface=%s error=\"%s\"",
			device->ingest->device, device->ifname, strerror(-result));
		goto out;
	}
	device->mtu = request.ifr_mtu > DP_MTU_MAX ? DP_MTU_MAX : (uint16_t)request.ifr_mtu;
	if (ioctl(fd, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP))
		tp_logf(TP_WARN, "network interface is down, nothing will arrive", "interface=%s command=\"ip link set %s up\"",
			device->ifname, device->ifname);
	request.ifr_data = (void *)&driver;
	if (ioctl(fd, SIOCETHTOOL, &request) == 0)
		device->veth = strcmp(driver.driver, "veth") == 0;
	request.ifr_data = (void *)&channels;
	if (ioctl(fd, SIOCETHTOOL, &request) == 0) {
		queues = channels.max_combined > 0 ? channels.combined_count : 1;
		if (channels.max_combined == 0 && channels.rx_count > 1) {
			tp_logf(TP_ERROR, "interface has several receive queues, and net_af_xdp can bind one",
				"interface=%s queues=%u command=\"ethtool -L %s rx 1 tx 1\"", device->ifname, channels.rx_count,
				device->ifname);
			result = -EINVAL;
			goto out;
		}
	}
	device->interface_queues = (uint16_t)(queues < 1 ? 1 : queues > DP_DEVICE_QUEUES_MAX ? DP_DEVICE_QUEUES_MAX : queues);
	if (queues > DP_DEVICE_QUEUES_MAX)
		tp_logf(TP_WARN, "interface has more receive queues than can be bound, the rest goes to the kernel",
			"interface=%s queues=%u bound=%d", device->ifname, queues, DP_DEVICE_QUEUES_MAX);
out:
	close(fd);
	return result;
}

/* Claims the interface and clears it of what a killed process left. */
static int interface_claim(struct dp_device *device)
{
	int result;

	device->claim_fd = eb_interface_claim(device->ifname);
	if (device->claim_fd == -EBUSY) {
		tp_logf(TP_ERROR, "another running turnpiked serves this interface", "interface=%s", device->ifname);
		return -EBUSY;
	}
	if (device->claim_fd < 0) {
		result = device->claim_fd;
		tp_logf(TP_ERROR, "cannot claim the interface", "interface=%s error=\"%s\"", device->ifname, strerror(-result));
		return result;
	}
	result = eb_stale_detach(device->ifname);
	if (result == -EEXIST)
		tp_logf(TP_ERROR, "another XDP program sits on the interface, and is left alone",
			"interface=%s command=\"ip link set dev %s xdp off\"", device->ifname, device->ifname);
	else if (result != 0)
		tp_logf(TP_ERROR, "cannot look at the XDP program of the interface", "interface=%s error=\"%s\"%s", device->ifname,
			strerror(-result),
			result == -EPERM || result == -EACCES ? " need=\"root, or CAP_NET_ADMIN and CAP_BPF\"" : "");
	return result;
}

/* All multicast, for neighbour discovery; ends by itself with the socket. veth and most virtual interfaces deliver it anyway. */
static void interface_take_multicast(struct dp_device *device)
{
	struct packet_mreq membership = {.mr_ifindex = (int)if_nametoindex(device->ifname), .mr_type = PACKET_MR_ALLMULTI};

	device->multicast_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (device->multicast_fd >= 0 &&
	    setsockopt(device->multicast_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof(membership)) == 0)
		return;
	tp_logf(TP_WARN, "cannot ask the interface for all multicast, IPv6 neighbours may not find us", "interface=%s error=\"%s\"",
		device->ifname, strerror(errno));
	release_fd(&device->multicast_fd);
}

static bool has_ipv6(const struct tp_config_ingest *ingest)
{
	for (uint32_t i = 0; i < ingest->address_count; i++)
		if (ingest->address[i].addr.family == 6)
			return true;
	return false;
}

static int af_xdp_prepare(struct dp_device *device)
{
	const char *ifname = argument_find(device->argument, "iface");
	size_t bytes;
	char path[32];
	int result;

	bytes = ifname != NULL ? strcspn(ifname, ",") : 0;
	if (bytes == 0 || bytes >= sizeof(device->ifname)) {
		tp_logf(TP_ERROR, "a net_af_xdp device needs iface=NAME", "device=\"%s\"", device->ingest->device);
		return -EINVAL;
	}
	memcpy(device->ifname, ifname, bytes);
	device->own_program = argument_find(device->argument, "xdp_prog") == NULL;
	result = interface_look(device);
	if (result == 0)
		result = interface_claim(device);
	if (result != 0)
		return result;
	if (device->own_program) {
		device->object_fd = eb_object_fd();
		if (device->object_fd < 0)
			return device->object_fd;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", device->object_fd);
		result = argument_add(device, "xdp_prog", path);
	}
	if (result == 0 && device->veth)
		result = argument_add(device, "busy_budget", "0");
	if (result == 0 && device->interface_queues > 1)
		result = argument_add_number(device, "queue_count", device->interface_queues);
	if (result == 0 && has_ipv6(device->ingest))
		interface_take_multicast(device);
	return result;
}

int dp_device_prepare(struct dp_device *device, const struct tp_config_ingest *ingest, uint32_t rx_cores)
{
	const char *text = ingest->device;
	size_t name_bytes;
	int result = 0;

	*device = (struct dp_device){.ingest = ingest,
				     .object_fd = -1,
				     .claim_fd = -1,
				     .multicast_fd = -1,
				     .mtu = DP_MTU_DEFAULT,
				     .interface_queues = (uint16_t)rx_cores,
				     .port_id = UINT16_MAX};
	for (uint32_t i = 0; i < DP_DEVICE_QUEUES_MAX; i++)
		device->socket_fd[i] = -1;
	name_bytes = strcspn(text, ",");
	if (name_bytes == 0 || name_bytes >= sizeof(device->name) || strlen(text) >= sizeof(device->argument)) {
		tp_logf(TP_ERROR, "device string is empty or too long", "device=\"%s\"", text);
		return -EINVAL;
	}
	memcpy(device->name, text, name_bytes);
	strcpy(device->argument, text);
	device->pci = is_pci(text);
	device->af_xdp = strncmp(device->name, "net_af_xdp", strlen("net_af_xdp")) == 0;
	if (device->af_xdp)
		result = af_xdp_prepare(device);
	if (result != 0)
		dp_device_release(device);
	return result;
}

void dp_device_release(struct dp_device *device)
{
	free(device->verdicts); /* not before EAL has ended: its telemetry reads them */
	device->verdicts = NULL;
	release_fd(&device->object_fd);
	release_fd(&device->multicast_fd);
	release_fd(&device->claim_fd);
}
