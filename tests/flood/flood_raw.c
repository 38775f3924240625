/*
 * Raw frames from a packet socket, past the queueing discipline, some dozen a system call. Sources and ports are random, within a
 * prefix; one seed, so each run sends the same.
 */
#include "flood.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 64, FRAME_BYTES = 60, IP_AT = 14, TCP_AT = 34 };

static uint64_t seed = 88172645463325252ULL;

static uint32_t random_next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint32_t sum16(const uint8_t *at, size_t bytes, uint32_t sum)
{
	for (size_t i = 0; i + 1 < bytes; i += 2)
		sum += (uint32_t)at[i] << 8 | at[i + 1];
	return sum;
}

static uint16_t folded(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void sums_put(uint8_t *frame, uint32_t transport_bytes)
{
	uint8_t *ip = frame + IP_AT, *transport = frame + TCP_AT;
	const uint32_t at = ip[9] == 6 ? 16 : 6;

	put16(ip + 10, 0);
	put16(ip + 10, folded(sum16(ip, 20, 0)));
	put16(transport + at, 0);
	put16(transport + at, folded(sum16(transport, transport_bytes, sum16(ip + 12, 8, ip[9] + transport_bytes))));
}

/* A SYN with an MSS option, or a UDP datagram of ten bytes that is no event. */
static size_t honest_build(const struct flood_options *options, const uint8_t our_mac[6], bool tcp, uint8_t *frame)
{
	const uint32_t transport_bytes = tcp ? 24 : 18;
	uint8_t *ip = frame + IP_AT, *transport = frame + TCP_AT;
	uint32_t host = options->from.bits >= 32 ? 0 : random_next() & (0xffffffffU >> options->from.bits), base;

	memset(frame, 0, FRAME_BYTES);
	memcpy(frame, options->mac, 6);
	memcpy(frame + 6, our_mac, 6);
	put16(frame + 12, ETH_P_IP);
	ip[0] = 0x45;
	put16(ip + 2, 20 + transport_bytes);
	put16(ip + 4, random_next());
	ip[8] = 64;
	ip[9] = tcp ? 6 : 17;
	memcpy(&base, options->from.addr.byte + 12, 4);
	base = htonl(ntohl(base) | host);
	memcpy(ip + 12, &base, 4);
	memcpy(ip + 16, options->to.addr.byte + 12, 4);
	put16(transport, 1024 + random_next() % 60000);
	put16(transport + 2, options->to.port);
	if (tcp) {
		put16(transport + 4, random_next());
		put16(transport + 6, random_next());
		transport[12] = 0x60;
		transport[13] = 0x02;
		put16(transport + 14, 64240);
		memcpy(transport + 20, (const uint8_t[4]){2, 4, 5, 180}, 4);
	} else {
		put16(transport + 4, transport_bytes);
		memcpy(transport + 8, "{\"flood\":1", 10);
	}
	sums_put(frame, transport_bytes);
	return FRAME_BYTES;
}

/* What XDP sees through, and what only the stack does, in turn. */
static size_t malformed_build(const struct flood_options *options, const uint8_t our_mac[6], uint64_t number, uint8_t *frame)
{
	const bool tcp = number & 1;
	size_t bytes = honest_build(options, our_mac, tcp, frame);
	uint8_t *ip = frame + IP_AT, *transport = frame + TCP_AT;

	switch (number / 2 % 16) {
	case 0:
		ip[0] = 0x65;
		break;
	case 1:
		ip[0] = 0x43;
		break;
	case 2:
		put16(ip + 2, 1400);
		break;
	case 3:
		put16(ip + 2, 19);
		break;
	case 4:
		bytes = 14 + random_next() % 20;
		break;
	case 5:
		ip[12] = 127;
		break;
	case 6:
		memcpy(ip + 12, ip + 16, 4);
		break;
	case 7:
		ip[10] ^= 1;
		break; /* the header's checksum, for the stack */
	case 8:
		transport[16] ^= 1;
		break; /* TCP's, or UDP's content: for the stack */
	case 9:
		put16(ip + 6, 0x2000);
		break;
	case 10:
		put16(frame + 12, 0x88b5);
		break;
	case 11:
		ip[9] = 132;
		break;
	case 12:
		transport[tcp ? 13 : 5] = tcp ? 0x03 : 3;
		break;
	case 13:
		transport[tcp ? 12 : 4] = tcp ? 0x10 : 255;
		break;
	case 14:
		put16(frame + 12, ETH_P_IPV6);
		break;
	default: /* noise behind the addresses */
		for (size_t i = 12; i < FRAME_BYTES; i++)
			frame[i] = (uint8_t)random_next();
	}
	return bytes;
}

static int socket_open(const struct flood_options *options, uint8_t our_mac[6])
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(options->interface)};
	const int one = 1, buffer = 8 << 20, fd = socket(AF_PACKET, SOCK_RAW, 0);
	struct ifreq request = {0};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", options->interface);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request) != 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		fprintf(stderr, "flood: %s: %s\n", options->interface, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	memcpy(our_mac, request.ifr_hwaddr.sa_data, 6);
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
	return fd;
}

static void sleep_until(double when)
{
	const double left = when - flood_now();

	if (left > 0)
		nanosleep(&(const struct timespec){.tv_sec = (time_t)left, .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)},
			  NULL);
}

int flood_raw(const struct flood_options *options)
{
	static uint8_t frame[BURST][FRAME_BYTES];
	struct mmsghdr message[BURST];
	struct iovec part[BURST];
	uint64_t sent = 0, refused = 0;
	uint8_t our_mac[6];
	const int fd = socket_open(options, our_mac);
	const bool malformed = strcmp(options->kind, "malformed") == 0, tcp = strcmp(options->kind, "syn") == 0;
	const double began = flood_now();
	double now = began;

	if (fd < 0)
		return 1;
	while (now - began < options->seconds) {
		memset(message, 0, sizeof(message));
		for (uint32_t i = 0; i < BURST; i++) {
			const size_t bytes = malformed ? malformed_build(options, our_mac, sent + i, frame[i])
						       : honest_build(options, our_mac, tcp, frame[i]);
			part[i] = (struct iovec){.iov_base = frame[i], .iov_len = bytes};
			message[i].msg_hdr = (struct msghdr){.msg_iov = &part[i], .msg_iovlen = 1};
		}
		const int done = sendmmsg(fd, message, BURST, 0);
		if (done < 0)
			refused++;
		else
			sent += (uint64_t)done;
		if (options->rate)
			sleep_until(began + (double)sent / (double)options->rate);
		now = flood_now();
	}
	close(fd);
	printf("{\"kind\":\"%s\",\"sent\":%llu,\"refused_calls\":%llu,\"seconds\":%.3f,\"per_second\":%.0f}\n", options->kind,
	       (unsigned long long)sent, (unsigned long long)refused, now - began, (double)sent / (now - began));
	return 0;
}
