/*
 * The XDP program on an interface: the object to attach, whose it is that sits there, and taking away what a killed process left.
 * Main thread, at start and end.
 *
 *   eb_interface_claim ─ eb_stale_detach ─ (net_af_xdp loads and attaches) ─ … ─ (net_af_xdp detaches) ─ close the claim
 *
 * A program is ours when the kernel's record of it carries EB_PROGRAM_NAME. Any other is never touched: net_af_xdp would remove
 * whatever sits on the interface when it closes a port whose set-up failed, so we refuse before it gets that far.
 */
#include "turnpike/xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

extern const unsigned char eb_object[];
extern const size_t eb_object_bytes;

int eb_object_fd(void)
{
	int fd = memfd_create(EB_PROGRAM_NAME, MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < eb_object_bytes;) {
		ssize_t wrote = write(fd, eb_object + done, eb_object_bytes - done);

		if (wrote < 0) {
			int error = errno;

			close(fd);
			return -error;
		}
		done += (size_t)wrote;
	}
	return fd;
}

/*
 * An abstract socket address is the lock: it belongs to the network namespace, as interfaces do, and the kernel frees it with the
 * process. A file would outlive a kill.
 */
int eb_interface_claim(const char *ifname)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int length = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "turnpike/interface/%s", ifname);
	int fd, error;

	if (length < 0 || (size_t)length >= sizeof(name.sun_path) - 1)
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0)
		return fd;
	error = errno;
	close(fd);
	return error == EADDRINUSE ? -EBUSY : -error;
}

static int stale_detach_mode(int ifindex, uint32_t id, uint32_t mode_flag)
{
	struct bpf_prog_info info = {0};
	uint32_t bytes = sizeof(info);
	int fd, result;

	if (id == 0)
		return 0;
	fd = bpf_prog_get_fd_by_id(id);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (bpf_obj_get_info_by_fd(fd, &info, &bytes) != 0) {
		result = -errno;
	} else if (strcmp(info.name, EB_PROGRAM_NAME) != 0) {
		result = -EEXIST;
	} else {
		/* With the old program named, nobody's newer one can be hit. */
		LIBBPF_OPTS(bpf_xdp_attach_opts, options, .old_prog_fd = fd);
		result = bpf_xdp_detach(ifindex, mode_flag | XDP_FLAGS_REPLACE, &options);
	}
	close(fd);
	return result;
}

int eb_stale_detach(const char *ifname)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	unsigned int ifindex = if_nametoindex(ifname);
	int result;

	if (ifindex == 0)
		return -ENODEV;
	result = bpf_xdp_query((int)ifindex, 0, &query);
	if (result != 0)
		return result;
	if (query.hw_prog_id != 0)
		return -EEXIST; /* we never offload */
	/* With one program attached libbpf leaves the per-mode ids filled too; with several, only they tell. */
	result = stale_detach_mode((int)ifindex, query.drv_prog_id, XDP_FLAGS_DRV_MODE);
	if (result == 0)
		result = stale_detach_mode((int)ifindex, query.skb_prog_id, XDP_FLAGS_SKB_MODE);
	return result;
}
