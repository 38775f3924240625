/*
 * What the doctor asks the kernel: ethtool's ioctl, adjtimex, a few synced writes. Needs no privilege but what the answers need; what is
 * refused is unknown. Sources: linux/ethtool.h, adjtimex(2), open(2) (O_TMPFILE).
 */
#include "doctor_check.h"
#include "turnpike/log_show.h"
#include "turnpike/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <unistd.h>

enum { SYNCS = 64, BLOCK_BYTES = 4096, TABLE_MAX = 4096 };
#define SYNC_NS_MAX 1000000000ULL

static int ethtool(const char *interface, void *command)
{
	struct ifreq request = {.ifr_data = command};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	int rc = ioctl(fd, SIOCETHTOOL, &request) != 0 ? -errno : 0;
	close(fd);
	return rc;
}

static int rings(const char *interface, struct doctor_rings *rings)
{
	struct ethtool_ringparam ask = {.cmd = ETHTOOL_GRINGPARAM};
	int rc = ethtool(interface, &ask);

	*rings = (struct doctor_rings){ask.rx_pending, ask.rx_max_pending, ask.tx_pending, ask.tx_max_pending};
	return rc == 0 && ask.rx_max_pending == 0 ? -EOPNOTSUPP : rc;
}

static int lro(const char *interface, bool *on)
{
	struct ethtool_value ask = {.cmd = ETHTOOL_GFLAGS};
	int rc = ethtool(interface, &ask);

	*on = ask.data & ETH_FLAG_LRO;
	return rc;
}

static int spread(const char *interface, uint32_t *queues, uint32_t *used)
{
	struct ethtool_rxnfc count = {.cmd = ETHTOOL_GRXRINGS};
	struct ethtool_rxfh_indir size = {.cmd = ETHTOOL_GRXFHINDIR};
	uint64_t seen[16] = {0};
	int rc = ethtool(interface, &count);

	if (rc == 0)
		rc = ethtool(interface, &size);
	if (rc != 0)
		return rc;
	if (size.size == 0 || size.size > TABLE_MAX)
		return -EOPNOTSUPP;
	struct ethtool_rxfh_indir *table = calloc(1, sizeof(*table) + size.size * sizeof(uint32_t));
	if (!table)
		return -ENOMEM;
	table->cmd = ETHTOOL_GRXFHINDIR;
	table->size = size.size;
	rc = ethtool(interface, table);
	for (uint32_t i = 0; rc == 0 && i < table->size && i < size.size; i++)
		if (table->ring_index[i] < sizeof(seen) * 8)
			seen[table->ring_index[i] / 64] |= 1ULL << table->ring_index[i] % 64;
	free(table);
	*queues = (uint32_t)count.data;
	*used = 0;
	for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++)
		*used += (uint32_t)__builtin_popcountll(seen[i]);
	return rc;
}

static int clock_kept(bool *synchronised, uint64_t *error_us)
{
	struct timex ask = {0};
	int state = adjtimex(&ask);

	if (state < 0)
		return -errno;
	*synchronised = state != TIME_ERROR && !(ask.status & STA_UNSYNC);
	*error_us = (uint64_t)ask.maxerror;
	return 0;
}

/* The folder, or the nearest one above it that is there: before the first start there is none. */
static int nearest(const char *path, char found[4096], struct stat *stat_to)
{
	snprintf(found, 4096, "%s", path);
	while (stat(found, stat_to) != 0) {
		char *slash = strrchr(found, '/');
		if (errno != ENOENT || !slash)
			return -errno;
		slash[slash == found] = '\0';
	}
	return 0;
}

static int device(const char *path, uint32_t *major_to, uint32_t *minor_to)
{
	char found[4096];
	struct stat at;
	int rc = nearest(path, found, &at);

	if (rc != 0)
		return rc;
	*major_to = major(at.st_dev);
	*minor_to = minor(at.st_dev);
	return 0;
}

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static int sync_ns(const char *folder, uint64_t *median, uint64_t *worst)
{
	char found[4096];
	struct stat at;
	uint64_t ns[SYNCS], began_ns = tp_mono_ns();
	size_t count = 0;
	int rc = nearest(folder, found, &at);

	if (rc != 0)
		return rc;
	int fd = open(found, O_TMPFILE | O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC, 0600); /* it never has a name */
	if (fd < 0)
		return -errno;
	void *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	if (!block) {
		close(fd);
		return -ENOMEM;
	}
	memset(block, 0x5a, BLOCK_BYTES);
	/* written over, as the log is: preallocated blocks need no journal commit */
	for (; count < SYNCS && rc == 0 && tp_mono_ns() - began_ns < SYNC_NS_MAX; count++) {
		uint64_t from_ns = tp_mono_ns();
		if (pwrite(fd, block, BLOCK_BYTES, 0) != BLOCK_BYTES)
			rc = errno ? -errno : -EIO;
		ns[count] = tp_mono_ns() - from_ns;
	}
	free(block);
	close(fd);
	if (rc != 0 || count < 2)
		return rc != 0 ? rc : -ETIMEDOUT;
	/* the first one allocates */
	qsort(ns + 1, count - 1, sizeof(ns[0]), compare);
	*median = ns[1 + (count - 1) / 2];
	*worst = ns[count - 1];
	return 0;
}

static void first_lost(void *context, uint64_t file_id, uint32_t shard, const char *found)
{
	uint64_t *first = context;
	(void)shard;
	(void)found;
	*first = *first ? *first : file_id;
}

static int logs_lost(const char *data_dir, uint64_t *first)
{
	return sto_logs_lost(data_dir, first_lost, first);
}

const struct doctor_ops doctor_machine = {.rings = rings,
					  .lro = lro,
					  .spread = spread,
					  .clock = clock_kept,
					  .device = device,
					  .sync_ns = sync_ns,
					  .logs_lost = logs_lost};
