/*
 * Cross checks of the configuration: what takes more than one key to see, or a look at this machine. Each message stands at the line
 * of the key that the reader would change. Cold code, any thread.
 */
#include "config_fill.h"

#include "turnpike/live.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { INGEST_MAX = 32, BACKGROUND_MAX = 1024 };

struct check {
	const struct tp_config *config;
	const struct config_tree *tree;
	struct config_errors *errors;
};

/* The line of the first key that the file has: a default can be at odds with what was written elsewhere. */
static uint32_t line_of(const struct check *check, const char *dotted, const char *other)
{
	uint32_t line = config_tree_line(check->tree, dotted);
	return line || !other ? line : config_tree_line(check->tree, other);
}

#define ERROR(check, other, dotted, ...) config_error((check)->errors, line_of(check, dotted, other), dotted, __VA_ARGS__)

static bool is_loopback(const struct tp_addr *addr)
{
	static const uint8_t six[16] = {[15] = 1};
	return addr->family == 4 ? addr->byte[12] == 127 : memcmp(addr->byte, six, sizeof(six)) == 0;
}

/*
 * The network's own address or its broadcast address (RFC 1122 section 3.2.1.3; RFC 3021 for /31), or IPv6's subnet-router anycast address
 * (RFC 4291 section 2.6.1; RFC 6164 for /127): a slip of the pen that would make a port which nobody reaches.
 */
static bool is_subnet_end(const struct tp_prefix *prefix)
{
	uint32_t family_bits = prefix->addr.family == 4 ? 32 : 128;
	const uint8_t *byte = prefix->addr.byte + (16 - family_bits / 8);
	bool zeros = true, ones = prefix->addr.family == 4;

	if (prefix->bits + 2U > family_bits)
		return false;
	for (uint32_t bit = prefix->bits; bit < family_bits; bit++) {
		bool set = byte[bit / 8] & 0x80 >> bit % 8;
		zeros = zeros && !set;
		ones = ones && set;
	}
	return zeros || ones;
}

static void check_cpus(const struct check *check, const char *dotted, const uint32_t *cpu, uint32_t count, uint32_t count_max)
{
	char inner[CONFIG_DOTTED_BYTES];
	long here = sysconf(_SC_NPROCESSORS_CONF);

	if (count == 0 || count > count_max) {
		ERROR(check, NULL, dotted, "expected 1 to %u CPU numbers, found %u", count_max, count);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		snprintf(inner, sizeof(inner), "%s[%u]", dotted, i);
		if (here > 0 && cpu[i] >= (uint32_t)here)
			ERROR(check, dotted, inner, "expected a CPU of this machine, 0 to %ld, found %u", here - 1, cpu[i]);
		for (uint32_t j = 0; j < i; j++) {
			if (cpu[j] != cpu[i])
				continue;
			ERROR(check, dotted, inner, "expected each CPU once, found %u twice", cpu[i]);
			break;
		}
	}
}

static void check_cores(const struct check *check)
{
	const struct tp_config *config = check->config;
	uint32_t distinct = config->rx_count;

	check_cpus(check, "cores.rx", config->rx, config->rx_count, TP_CORES_MAX);
	check_cpus(check, "cores.shard", config->shard, config->shard_count, TP_SHARDS_MAX);
	check_cpus(check, "cores.background", config->background, config->background_count, BACKGROUND_MAX);
	for (uint32_t i = 0; i < config->shard_count; i++) {
		bool both = false;
		for (uint32_t j = 0; j < config->rx_count; j++)
			both = both || config->rx[j] == config->shard[i];
		distinct += !both;
	}
	if (distinct > TP_CORES_MAX)
		ERROR(check, "cores.shard", "cores", "expected at most %d CPUs in rx and shard together, found %u", TP_CORES_MAX,
		      distinct);
}

/* Keys that the other driver understands. */
static void check_foreign_keys(const struct check *check, uint32_t index, enum tp_driver driver)
{
	static const char *const socket_only[] = {"http", "udp", NULL};
	static const char *const dpdk_only[] = {"device",    "address",  "gateway",           "tap",
						"http_port", "udp_port", "packet_rate_limit", NULL};
	const char *const *foreign = driver == TP_DRIVER_SOCKET ? dpdk_only : socket_only;
	char dotted[CONFIG_DOTTED_BYTES];

	for (; *foreign; foreign++) {
		snprintf(dotted, sizeof(dotted), "ingest[%u].%s", index, *foreign);
		if (config_tree_line(check->tree, dotted))
			ERROR(check, NULL, dotted, "expected only with driver: %s, found driver: %s",
			      driver == TP_DRIVER_SOCKET ? "dpdk" : "socket", driver == TP_DRIVER_SOCKET ? "socket" : "dpdk");
	}
}

static void check_address(const struct check *check, uint32_t index, const struct tp_config_ingest *ingest, uint32_t which)
{
	const struct tp_addr *addr = &ingest->address[which].addr;
	static const uint8_t none[16];
	char dotted[CONFIG_DOTTED_BYTES], list[CONFIG_DOTTED_BYTES], text[TP_ADDR_TEXT_BYTES];
	bool four = addr->family == 4;
	bool multicast = four ? addr->byte[12] >= 224 : addr->byte[0] == 0xff;
	bool unspecified = four ? memcmp(addr->byte + 12, none, 4) == 0 : memcmp(addr->byte, none, 16) == 0;

	snprintf(list, sizeof(list), "ingest[%u].address", index);
	snprintf(dotted, sizeof(dotted), "ingest[%u].address[%u]", index, which);
	tp_addr_text(addr, text);
	if (multicast || unspecified || is_loopback(addr))
		ERROR(check, list, dotted, "expected a unicast address that the port may own, found %s", text);
	if (is_subnet_end(&ingest->address[which]))
		ERROR(check, list, dotted, "expected an address of a host, found %s, the first or last of its /%u", text,
		      ingest->address[which].bits);
	for (uint32_t i = 0; i < which; i++) {
		if (tp_addr_equal(&ingest->address[i].addr, addr))
			ERROR(check, list, dotted, "expected each address once, found %s twice", text);
	}
}

static void check_gateway(const struct check *check, uint32_t index, const struct tp_config_ingest *ingest,
			  const struct tp_addr *addr)
{
	char dotted[CONFIG_DOTTED_BYTES], text[TP_ADDR_TEXT_BYTES];
	bool link_local = addr->family == 6 && addr->byte[0] == 0xfe && (addr->byte[1] & 0xc0) == 0x80;
	bool near = link_local, ours = false;

	for (uint32_t i = 0; i < ingest->address_count; i++) {
		near = near || tp_prefix_has(&ingest->address[i], addr);
		ours = ours || tp_addr_equal(&ingest->address[i].addr, addr);
	}
	snprintf(dotted, sizeof(dotted), "ingest[%u].gateway", index);
	tp_addr_text(addr, text);
	if (!near)
		ERROR(check, NULL, dotted, "expected an address inside one of the prefixes of `address`, found %s", text);
	if (ours)
		ERROR(check, NULL, dotted, "expected another machine's address, found our own %s", text);
}

static void check_tap(const struct check *check, uint32_t index, const struct tp_config *config)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	const char *name = config->ingest[index].tap;
	char dotted[CONFIG_DOTTED_BYTES];
	size_t bytes = name ? strlen(name) : 0;

	if (!name)
		return;
	snprintf(dotted, sizeof(dotted), "ingest[%u].tap", index);
	if (bytes < 1 || bytes > 15 || strspn(name, letters) != bytes || name[0] == '.' || name[0] == '-')
		ERROR(check, NULL, dotted, "expected %s, found \"%.40s\"", tp_config_expected(dotted), name);
	for (uint32_t i = 0; i < index; i++)
		if (config->ingest[i].tap && strcmp(config->ingest[i].tap, name) == 0)
			ERROR(check, NULL, dotted, "expected each tap once, found %.40s twice", name);
}

static void check_dpdk(const struct check *check, uint32_t index, const struct tp_config_ingest *ingest)
{
	char dotted[CONFIG_DOTTED_BYTES], entry[24];

	snprintf(entry, sizeof(entry), "ingest[%u]", index);
	if (!ingest->device || ingest->device[0] == '\0') {
		snprintf(dotted, sizeof(dotted), "%s.device", entry);
		ERROR(check, entry, dotted, "required with driver: dpdk, expected %s", tp_config_expected(dotted));
	}
	if (ingest->address_count == 0) {
		snprintf(dotted, sizeof(dotted), "%s.address", entry);
		ERROR(check, entry, dotted, "required with driver: dpdk, expected %s", tp_config_expected(dotted));
	}
	if (!ingest->http_port && !ingest->udp_port)
		ERROR(check, NULL, entry, "expected http_port or udp_port from 1 to 65535, found neither");
	for (uint32_t i = 0; i < ingest->address_count; i++)
		check_address(check, index, ingest, i);
	for (uint32_t i = 0; i < ingest->gateway_count; i++)
		check_gateway(check, index, ingest, &ingest->gateway[i]);
}

/* Our XDP program counts the packets of a source: only a port that has it can hold the limit. */
static void check_packet_rate(const struct check *check, uint32_t index, const struct tp_config_ingest *ingest)
{
	char dotted[CONFIG_DOTTED_BYTES];

	if (!ingest->packet_rate_limit || !ingest->device ||
	    (strncmp(ingest->device, "net_af_xdp", strlen("net_af_xdp")) == 0 && !strstr(ingest->device, "xdp_prog=")))
		return;
	snprintf(dotted, sizeof(dotted), "ingest[%u].packet_rate_limit", index);
	ERROR(check, NULL, dotted, "expected only with a net_af_xdp device without xdp_prog=, found device %s", ingest->device);
}

static void check_blocklist(const struct check *check)
{
	const struct tp_config *config = check->config;

	if (config->blocklist_files > TP_LIST_FILES_MAX)
		ERROR(check, NULL, "blocklist", "expected at most %d list files, found %u", TP_LIST_FILES_MAX,
		      config->blocklist_files);
	for (uint32_t i = 0; i < config->blocklist_files; i++)
		for (uint32_t k = 0; k < i; k++)
			if (strcmp(config->blocklist_file[i].path, config->blocklist_file[k].path) == 0)
				ERROR(check, NULL, "blocklist", "expected each list file once, found %s twice",
				      config->blocklist_file[i].path);
}

static bool same_endpoint(const struct tp_endpoint *a, const struct tp_endpoint *b)
{
	/* port 0 picks a free one each time */
	return a->addr.family && a->port && a->port == b->port && tp_addr_equal(&a->addr, &b->addr);
}

static void check_twice(const struct check *check, uint32_t index)
{
	const struct tp_config_ingest *ingest = &check->config->ingest[index];
	char dotted[CONFIG_DOTTED_BYTES];

	for (uint32_t i = 0; i < index; i++) {
		const struct tp_config_ingest *other = &check->config->ingest[i];
		const char *key = NULL;
		if (same_endpoint(&ingest->http, &other->http))
			key = "http";
		else if (same_endpoint(&ingest->udp, &other->udp))
			key = "udp";
		else if (ingest->device && other->device && strcmp(ingest->device, other->device) == 0)
			key = "device";
		if (!key)
			continue;
		snprintf(dotted, sizeof(dotted), "ingest[%u].%s", index, key);
		ERROR(check, NULL, dotted, "expected another one than ingest[%u].%s, found the same", i, key);
	}
}

static void check_ingest(const struct check *check)
{
	const struct tp_config *config = check->config;
	char dotted[CONFIG_DOTTED_BYTES];

	if (config->ingest_count == 0 || config->ingest_count > INGEST_MAX) {
		ERROR(check, NULL, "ingest", "expected 1 to %d entries, found %u", INGEST_MAX, config->ingest_count);
		return;
	}
	for (uint32_t i = 0; i < config->ingest_count; i++) {
		const struct tp_config_ingest *ingest = &config->ingest[i];
		check_foreign_keys(check, i, ingest->driver);
		check_twice(check, i);
		if (ingest->driver == TP_DRIVER_DPDK) {
			check_dpdk(check, i, ingest);
			check_tap(check, i, config);
			check_packet_rate(check, i, ingest);
		} else if (!ingest->http.addr.family && !ingest->udp.addr.family) {
			snprintf(dotted, sizeof(dotted), "ingest[%u]", i);
			ERROR(check, NULL, dotted, "expected http or udp with an address and port, found neither");
		}
	}
}

/* True if `path` is `folder` or lies below it, by their text. */
static bool is_inside(const char *path, const char *folder)
{
	size_t bytes = strlen(folder);
	return strncmp(path, folder, bytes) == 0 && (path[bytes] == '\0' || path[bytes] == '/' || strcmp(folder, "/") == 0);
}

int config_check(const struct tp_config *config, const struct config_tree *tree, struct config_errors *errors)
{
	const struct check check = {.config = config, .tree = tree, .errors = errors};
	char text[TP_ENDPOINT_TEXT_BYTES];

	check_ingest(&check);
	check_cores(&check);
	check_blocklist(&check);
	if (config->lateness_ms > config->horizon_ms)
		ERROR(&check, "time.horizon", "time.lateness", "expected at most time.horizon, which is %llums, found %llums",
		      (unsigned long long)config->horizon_ms, (unsigned long long)config->lateness_ms);
	if (config->log_file_bytes / 4 < config->memory_hop_bytes)
		ERROR(&check, "memory.hop", "durability.log_file", "expected at least 4 times memory.hop, %lluMiB, found %lluMiB",
		      (unsigned long long)(config->memory_hop_bytes >> 18), (unsigned long long)(config->log_file_bytes >> 20));
	if (!config->control_auth_tokens && !is_loopback(&config->control_listen.addr)) {
		tp_endpoint_text(&config->control_listen, text);
		ERROR(&check, "control.listen", "control.auth",
		      "expected tokens unless control.listen is a loopback address, found none with %s", text);
	}
	if (!config->control_tls_certificate != !config->control_tls_key)
		ERROR(&check, "control.tls.certificate", "control.tls.key",
		      "expected control.tls.certificate and its key, found one alone");
	if (config->control_tls_client_ca && !config->control_tls_certificate)
		ERROR(&check, NULL, "control.tls.client_ca", "expected control.tls.certificate beside it");
	if (is_inside(config->control_state_dir, config->data_dir))
		ERROR(&check, "node.data_dir", "control.state_dir", "expected a folder outside node.data_dir, found %s",
		      config->control_state_dir);
	return errors->count ? -EINVAL : 0;
}
