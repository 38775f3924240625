/* The configuration: the contract's example, each default, and broken files with the exact lines that they get. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "turnpike/config.h"

/* Contract section 3, but that shard core 1 must exist here. */
static const char example[] = "node:\n"
			      "  name: edge-1\n"
			      "  data_dir: /var/lib/turnpike\n"
			      "ingest:\n"
			      "  - driver: socket                      # kernel sockets through io_uring\n"
			      "    http: 127.0.0.1:8080\n"
			      "    udp: 127.0.0.1:7771\n"
			      "  - driver: dpdk                        # any DPDK port\n"
			      "    device: net_af_xdp0,iface=tp0       # an EAL --vdev string or a PCI address\n"
			      "    address: [10.77.0.1/24, \"fd00:77::1/64\"]\n"
			      "    gateway: 10.77.0.2                  # optional\n"
			      "    http_port: 80\n"
			      "    udp_port: 7771\n"
			      "cores:\n"
			      "  rx: [0]                               # poll-mode receive cores\n"
			      "  shard: [%ld]                            # aggregation cores\n"
			      "  background: [0, %ld]                    # sealing, housekeeping\n"
			      "  idle: sleep                           # poll | sleep\n"
			      "durability:\n"
			      "  commit_interval: 1ms\n"
			      "  preallocate: true\n"
			      "time:\n"
			      "  lateness: 60s\n"
			      "  horizon: 15m\n"
			      "  max_future: 60s\n"
			      "retention: { raw: 30d, minute: 45d, hour: 400d, day: 10y }\n"
			      "fraud: { clicks_per_ip_hour: 10, clicks_per_device_hour: 5, min_ms_since_impression: 500 }\n"
			      "control:\n"
			      "  listen: 127.0.0.1:8081\n"
			      "  state_dir: /var/lib/turnpike-control  # the control process's own small state\n"
			      "  auth: tokens                          # tokens | none (none only on a loopback address)\n";

static char said[65536];

/* Loads text[0..bytes) from a file named in `path`; what was said is in `said`, with the path as "F". */
static int load_bytes(const char *text, size_t bytes, struct tp_config *config)
{
	char path[32], *message = NULL;
	size_t message_bytes = 0;
	int fd = memfd_create("config", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, bytes), bytes);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	FILE *to = open_memstream(&message, &message_bytes);
	int rc = tp_config_load(path, config, to);
	fclose(to);
	close(fd);
	said[0] = '\0';
	for (char *line = message, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		assert_memory_equal(line, path, strlen(path));
		assert_true(strlen(said) + (size_t)(end - line) + 2 < sizeof(said));
		strcat(said, "F");
		strncat(said, line + strlen(path), (size_t)(end - line) + 1 - strlen(path));
	}
	free(message);
	return rc;
}

static int load(const char *text, struct tp_config *config)
{
	return load_bytes(text, strlen(text), config);
}

static long last_cpu(void)
{
	return sysconf(_SC_NPROCESSORS_CONF) - 1;
}

static void assert_endpoint(const struct tp_endpoint *endpoint, const char *text)
{
	char found[TP_ENDPOINT_TEXT_BYTES];
	tp_endpoint_text(endpoint, found);
	assert_string_equal(found, text);
}

static void assert_common_values(const struct tp_config *config)
{
	assert_string_equal(config->data_dir, "/var/lib/turnpike");
	assert_int_equal(config->rx_count, 1);
	assert_int_equal(config->rx[0], 0);
	assert_int_equal(config->shard_count, 1);
	assert_true(config->idle_sleep);
	assert_int_equal(config->commit_interval_ns, 1000000);
	assert_true(config->preallocate);
	assert_int_equal(config->lateness_ms, 60000);
	assert_int_equal(config->horizon_ms, 900000);
	assert_int_equal(config->max_future_ms, 60000);
	assert_int_equal(config->retention_raw_ms, 30 * 86400000ULL);
	assert_int_equal(config->retention_minute_ms, 45 * 86400000ULL);
	assert_int_equal(config->retention_hour_ms, 400 * 86400000ULL);
	assert_int_equal(config->retention_day_ms, 3650 * 86400000ULL);
	assert_int_equal(config->fraud.clicks_per_ip_hour, 10);
	assert_int_equal(config->fraud.clicks_per_device_hour, 5);
	assert_int_equal(config->fraud.min_ms_since_impression, 500);
	assert_endpoint(&config->control_listen, "127.0.0.1:8081");
	assert_string_equal(config->control_state_dir, "/var/lib/turnpike-control");
	assert_true(config->control_auth_tokens);
	assert_null(config->control_tls_certificate);
	assert_int_equal(config->control_token_rate_limit, 2000);
	assert_int_equal(config->control_connections, 4096);
	assert_int_equal(config->control_session_ms, 12 * 3600000);
	assert_int_equal(config->memory_dedup_bytes, 256 << 20);
	assert_int_equal(config->memory_hop_bytes, 8 << 20);
	assert_int_equal(config->memory_connections, 16384);
	assert_int_equal(config->dlq_per_second, 1000);
	assert_int_equal(config->dlq_bytes_per_second, 1 << 20);
	assert_int_equal(config->log_file_bytes, 64 << 20);
	assert_int_equal(config->seal_after_ms, 300000);
	assert_int_equal(config->session_gap_ms, 1800000);
	assert_string_equal(config->billing_zone, "UTC");
	assert_int_equal(config->billing_zone_count, 0);
	assert_true(!config->billing_issue_hourly && config->billing_issue_daily && config->billing_issue_monthly);
	assert_int_equal(config->billing_interval_ms, 60000);
	assert_int_equal(config->ingest[0].driver, TP_DRIVER_SOCKET);
	assert_endpoint(&config->ingest[0].http, "127.0.0.1:8080");
	assert_endpoint(&config->ingest[0].udp, "127.0.0.1:7771");
	uint32_t count;
	tp_private_prefixes(&count);
	assert_int_equal(config->ingest[0].trusted_count, count);
	assert_false(config->ingest[0].auth_tokens);
	assert_int_equal(config->ingest[0].rate_limit, 0);
	assert_int_equal(config->ingest[0].token_rate_limit, 0);
	assert_int_equal(config->ingest[0].connections_per_source, 8192);
	assert_int_equal(config->ingest[0].batch_window, 1024);
	assert_null(config->ingest[0].source_keys);
}

static void the_contracts_example_loads(void **state)
{
	(void)state;
	struct tp_config config;
	char text[sizeof(example) + 64], found[TP_PREFIX_TEXT_BYTES];
	long cpu = last_cpu();

	snprintf(text, sizeof(text), example, cpu, cpu);
	if (cpu == 0)
		memcpy(strstr(text, "[0, 0]"), "[   0]", 6);
	int rc = load(text, &config);
	assert_string_equal(said, "");
	assert_int_equal(rc, 0);
	assert_common_values(&config);
	assert_string_equal(config.node_name, "edge-1");
	assert_int_equal(config.shard[0], cpu);
	assert_int_equal(config.ingest_count, 2);
	const struct tp_config_ingest *dpdk = &config.ingest[1];
	assert_int_equal(dpdk->driver, TP_DRIVER_DPDK);
	assert_string_equal(dpdk->device, "net_af_xdp0,iface=tp0");
	assert_int_equal(dpdk->address_count, 2);
	tp_prefix_text(&dpdk->address[0], found);
	assert_string_equal(found, "10.77.0.1/24");
	tp_prefix_text(&dpdk->address[1], found);
	assert_string_equal(found, "fd00:77::1/64");
	assert_int_equal(dpdk->gateway_count, 1);
	tp_addr_text(&dpdk->gateway[0], found);
	assert_string_equal(found, "10.77.0.2");
	assert_int_equal(dpdk->http_port, 80);
	assert_int_equal(dpdk->udp_port, 7771);
	assert_int_equal(dpdk->http.addr.family, 0);
	tp_config_free(&config);
}

static void an_empty_mapping_is_all_defaults(void **state)
{
	(void)state;
	struct tp_config config;
	char host[64] = "";

	assert_int_equal(load("{}\n", &config), 0);
	assert_common_values(&config);
	gethostname(host, sizeof(host) - 1);
	assert_string_equal(config.node_name, host);
	assert_int_equal(config.ingest_count, 1);
	assert_int_equal(config.shard[0], last_cpu() > 0 ? 1 : 0);
	assert_int_equal(config.background_count, last_cpu() + 1);
	tp_config_free(&config);
}

static void other_values_and_styles_load(void **state)
{
	(void)state;
	struct tp_config config;
	static const char text[] = "---\n"
				   "\"node\": {'name': 'edge 2', data_dir: \"/tmp/t/\"}\n"
				   "ingest:\n"
				   "- &first {http: '[::1]:0', trusted: [], rate_limit: 500, auth: tokens}\n"
				   "- udp: 0.0.0.0:0\n"
				   "  trusted:\n"
				   "  - 192.0.2.0/24\n"
				   "  - \"2001:db8::/32\"\n"
				   "  rate_limit: off\n"
				   "  token_rate_limit: 7\n"
				   "  connections_per_source: off\n"
				   "  batch_window: 4096\n"
				   "  source_keys: /etc/keys\n"
				   "- *first\n"
				   "- driver: dpdk\n"
				   "  device: net_af_xdp3,iface=x\n"
				   "  packet_rate_limit: 20000\n"
				   "  address: [10.1.0.1/16, \"fd00::1/64\"]\n"
				   "  gateway: \"10.1.0.2 , fe80::1\"\n"
				   "  udp_port: 1\n"
				   "cores: {rx: [0], shard: [0], background: [0], idle: poll}\n"
				   "durability: {commit_interval: 0, preallocate: false, log_file: 64MiB, seal_after: 10s}\n"
				   "memory: {dedup: 1GiB, hop: \"16MiB\", connections: 1000000}\n"
				   "time: {lateness: 0, horizon: 2h, max_future: 250ms}\n"
				   "windows: {session_gap: 90s}\n"
				   "billing: {zone: Asia/Kolkata, zones: [\"a=b=Europe/Berlin\"], issue: [hourly], interval: 5s}\n"
				   "retention: {raw: 1y}\n"
				   "fraud: {clicks_per_ip_hour: 0, min_ms_since_impression: 4294967295}\n"
				   "control: {listen: \"[::1]:0\", auth: none}\n"
				   "blocklist: {count_only_files: [/c], files: [/a, /b]}\n"
				   "...\n";

	int rc = load(text, &config);
	assert_string_equal(said, "");
	assert_int_equal(rc, 0);
	assert_string_equal(config.node_name, "edge 2");
	assert_string_equal(config.data_dir, "/tmp/t");
	assert_string_equal(config.control_state_dir, "/tmp/t-control");
	assert_int_equal(config.ingest_count, 4);
	assert_endpoint(&config.ingest[0].http, "[::1]:0");
	assert_int_equal(config.ingest[0].udp.addr.family, 0);
	assert_int_equal(config.ingest[0].trusted_count, 0);
	assert_int_equal(config.ingest[0].rate_limit, 500);
	assert_true(config.ingest[0].auth_tokens);
	assert_int_equal(config.ingest[1].trusted_count, 2);
	assert_int_equal(config.ingest[1].rate_limit, 0);
	assert_int_equal(config.ingest[1].token_rate_limit, 7);
	assert_int_equal(config.ingest[1].connections_per_source, 0);
	assert_int_equal(config.ingest[1].batch_window, 4096);
	assert_string_equal(config.ingest[1].source_keys, "/etc/keys");
	assert_int_equal(config.ingest[2].rate_limit, 500);
	assert_int_equal(config.ingest[2].packet_rate_limit, 0);
	assert_int_equal(config.ingest[3].packet_rate_limit, 20000);
	assert_int_equal(config.blocklist_files, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_string_equal(config.blocklist_file[i].path, i == 0 ? "/a" : i == 1 ? "/b" : "/c");
		assert_int_equal(config.blocklist_file[i].count_only, i == 2);
	}
	assert_int_equal(config.ingest[3].gateway_count, 2);
	assert_int_equal(config.ingest[3].http_port, 80);
	assert_int_equal(config.ingest[3].udp_port, 1);
	assert_false(config.idle_sleep);
	assert_int_equal(config.commit_interval_ns, 0);
	assert_false(config.preallocate);
	assert_int_equal(config.log_file_bytes, 64 << 20);
	assert_int_equal(config.seal_after_ms, 10000);
	assert_int_equal(config.session_gap_ms, 90000);
	assert_string_equal(config.billing_zone, "Asia/Kolkata");
	assert_int_equal(config.billing_zone_count, 1);
	assert_string_equal(config.billing_zones[0].advertiser, "a=b");
	assert_string_equal(config.billing_zones[0].zone, "Europe/Berlin");
	assert_true(config.billing_issue_hourly && !config.billing_issue_daily && !config.billing_issue_monthly);
	assert_int_equal(config.billing_interval_ms, 5000);
	assert_int_equal(config.memory_dedup_bytes, 1 << 30);
	assert_int_equal(config.memory_hop_bytes, 16 << 20);
	assert_int_equal(config.memory_connections, 1000000);
	assert_int_equal(config.lateness_ms, 0);
	assert_int_equal(config.horizon_ms, 7200000);
	assert_int_equal(config.max_future_ms, 250);
	assert_int_equal(config.retention_raw_ms, 365 * 86400000ULL);
	assert_int_equal(config.fraud.clicks_per_ip_hour, 0);
	assert_int_equal(config.fraud.clicks_per_device_hour, 5);
	assert_int_equal(config.fraud.min_ms_since_impression, UINT32_MAX);
	assert_false(config.control_auth_tokens);
	tp_config_free(&config);
}

struct broken {
	const char *text, *said;
};

static const struct broken broken[] = {
	/* the document */
	{"", "F: expected a mapping of sections such as \"node:\", found nothing\n"},
	{"# nothing but words\n", "F: expected a mapping of sections such as \"node:\", found nothing\n"},
	{"~\n", "F: expected a mapping of sections such as \"node:\", found nothing\n"},
	{"hello\n", "F:1: expected a mapping of sections such as \"node:\", found \"hello\"\n"},
	{"- node\n", "F:1: expected a mapping of sections such as \"node:\", found a list\n"},
	{"node: {name: a}\n---\nnode: {name: b}\n", "F:3: expected one YAML document, found a second one\n"},
	{"node: [unclosed\n", "F:2: expected YAML, but: while parsing a flow sequence, did not find expected ',' or ']'\n"},
	{"node:\n\tname: a\n",
	 "F:2: expected YAML, but: while scanning for the next token, found character that cannot start any token\n"},
	{"node: {name: *nobody}\n", "F:1: expected YAML, but: found undefined alias\n"},
	{"node: {name: \"\xff\"}\n", "F: expected YAML in UTF-8, found a bad character at byte 14 (invalid leading UTF-8 octet)\n"},
	/* keys */
	{"node:\n  name: a\nnodes:\n  name: b\n", "F:3: nodes: unknown key, expected one of node, ingest, cores, durability, time, "
						  "retention, fraud, control, memory, blocklist, windows, dlq, billing, "
						  "tracing\n"},
	{"node:\n  Name: a\n", "F:2: node.Name: unknown key, expected one of name, data_dir\n"},
	{"ingest:\n  - http: 127.0.0.1:1\n  - http: 127.0.0.1:2\n    port: 3\n",
	 "F:4: ingest[1].port: unknown key, expected one of driver, http, udp, device, address, gateway, tap, http_port, "
	 "udp_port, trusted, auth, rate_limit, packet_rate_limit, token_rate_limit, connections_per_source, batch_window, "
	 "source_keys\n"},
	{"ingest:\n  - http: 127.0.0.1:1\n    token_rate_limit: 0\n",
	 "F:3: ingest[0].token_rate_limit: expected a whole number of requests per second from 1 to 4294967295, or off, found "
	 "\"0\"\n"},
	{"ingest:\n  - http: 127.0.0.1:1\n    connections_per_source: many\n",
	 "F:3: ingest[0].connections_per_source: expected a whole number of connections from 1 to 4294967295, or off, found "
	 "\"many\"\n"},
	{"ingest:\n  - udp: 127.0.0.1:1\n    batch_window: 4097\n",
	 "F:3: ingest[0].batch_window: expected a whole number of batches from 1 to 4096, found \"4097\"\n"},
	{"ingest:\n  - udp: 127.0.0.1:1\n    batch_window: 0\n",
	 "F:3: ingest[0].batch_window: expected a whole number of batches from 1 to 4096, found \"0\"\n"},
	{"ingest:\n  - udp: 127.0.0.1:1\n    source_keys: ''\n",
	 "F:3: ingest[0].source_keys: expected the path of a file with the keys of batch sources, found \"\"\n"},
	{"time: {lateness: 1s, lateness: 2s}\n", "F:1: time.lateness: expected a key once, found it on line 1 too\n"},
	{"time:\n  lateness: 1s\nnode:\n  name: a\ntime:\n  horizon: 1m\n",
	 "F:5: time: expected a key once, found it on line 1 too\n"},
	{"[a]: 1\n", "F:1: expected a key, found a list\n"},
	/* types */
	{"node: edge-1\n", "F:1: node: expected a mapping of keys, found \"edge-1\"\n"},
	{"node:\n", "F:1: node: expected a mapping of keys, found nothing\n"},
	{"ingest: {driver: socket}\n", "F:1: ingest: expected a list, found a mapping\n"},
	{"ingest:\n  - socket\n", "F:2: ingest[0]: expected a mapping of keys, found \"socket\"\n"},
	{"ingest:\n  - driver: kernel\n", "F:2: ingest[0].driver: expected socket or dpdk, found \"kernel\"\n"},
	{"cores: {rx: 0}\n", "F:1: cores.rx: expected a list of CPU numbers such as [0], found \"0\"\n"},
	{"cores: {rx: [zero]}\n", "F:1: cores.rx[0]: expected a whole number from 0 to 4294967295, found \"zero\"\n"},
	{"cores: {rx: [-1]}\n", "F:1: cores.rx[0]: expected a whole number from 0 to 4294967295, found \"-1\"\n"},
	{"cores: {rx: [0x0]}\n", "F:1: cores.rx[0]: expected a whole number from 0 to 4294967295, found \"0x0\"\n"},
	{"cores: {rx: [00]}\n", "F:1: cores.rx[0]: expected a whole number from 0 to 4294967295, found \"00\"\n"},
	{"cores: {idle: nap}\n", "F:1: cores.idle: expected poll or sleep, found \"nap\"\n"},
	{"durability:\n  preallocate: maybe\n", "F:2: durability.preallocate: expected true or false, found \"maybe\"\n"},
	{"durability:\n  preallocate: 'true'\n", "F:2: durability.preallocate: expected true or false, found \"true\"\n"},
	{"durability:\n  preallocate:\n", "F:2: durability.preallocate: expected true or false, found nothing\n"},
	{"fraud: {clicks_per_ip_hour: ten}\n",
	 "F:1: fraud.clicks_per_ip_hour: expected a whole number from 0 to 4294967295, found \"ten\"\n"},
	{"fraud: {clicks_per_ip_hour: '10'}\n",
	 "F:1: fraud.clicks_per_ip_hour: expected a whole number from 0 to 4294967295, found \"10\"\n"},
	{"fraud: {clicks_per_ip_hour: 1.5}\n",
	 "F:1: fraud.clicks_per_ip_hour: expected a whole number from 0 to 4294967295, found \"1.5\"\n"},
	{"fraud: {clicks_per_ip_hour: 4294967296}\n",
	 "F:1: fraud.clicks_per_ip_hour: expected a whole number from 0 to 4294967295, found \"4294967296\"\n"},
	{"fraud: {clicks_per_ip_hour: 99999999999999999999}\n", "F:1: fraud.clicks_per_ip_hour: expected a whole number from 0 to "
								"4294967295, found \"99999999999999999999\"\n"},
	{"time:\n  lateness: [60s]\n", "F:2: time.lateness: expected a duration such as 60s, found a list\n"},
	{"time:\n  lateness: ~\n", "F:2: time.lateness: expected a duration such as 60s, found \"~\"\n"},
	{"node: {name: {a: b}}\n", "F:1: node.name: expected a name of 1 to 63 printable bytes, found a mapping\n"},
	{"node: {name: \"a\\0b\"}\n", "F:1: node.name: expected a name of 1 to 63 printable bytes, found \"a?b\"\n"},
	{"control: {auth: basic}\n", "F:1: control.auth: expected tokens or none, found \"basic\"\n"},
	{"ingest: [{http: '127.0.0.1:1', auth: [tokens]}]\n", "F:1: ingest[0].auth: expected none or tokens, found a list\n"},
	{"ingest: [{driver: dpdk, http_port: 65536}]\n",
	 "F:1: ingest[0].http_port: expected a whole number from 0 to 65535, found \"65536\"\n"},
	/* units, addresses */
	{"durability:\n\n  commit_interval: 1 parsec\n",
	 "F:3: durability.commit_interval: expected a duration such as 1ms, found \"1 parsec\"\n"},
	{"durability: {commit_interval: 10}\n", "F:1: durability.commit_interval: expected a duration such as 1ms, found \"10\"\n"},
	{"durability: {commit_interval: -1ms}\n",
	 "F:1: durability.commit_interval: expected a duration such as 1ms, found \"-1ms\"\n"},
	{"durability: {commit_interval: 2s}\n",
	 "F:1: durability.commit_interval: expected a duration from 0 to 1s, found \"2s\"\n"},
	{"time: {horizon: 1us}\n", "F:1: time.horizon: expected a duration from 1s to 7d in whole ms, found \"1us\"\n"},
	{"time: {max_future: 1500us}\n", "F:1: time.max_future: expected a duration from 0 to 1d in whole ms, found \"1500us\"\n"},
	{"retention: {raw: 900y}\n", "F:1: retention.raw: expected a duration from 1s to 100y in whole ms, found \"900y\"\n"},
	{"retention: {raw: 0}\n", "F:1: retention.raw: expected a duration from 1s to 100y in whole ms, found \"0\"\n"},
	{"retention:\n  day: 10 years\n", "F:2: retention.day: expected a duration such as 10y, found \"10 years\"\n"},
	{"memory: {dedup: 256MB}\n", "F:1: memory.dedup: expected a size such as 256MiB, found \"256MB\"\n"},
	{"memory: {dedup: 1KiB}\n", "F:1: memory.dedup: expected a size of at least 1MiB, found \"1KiB\"\n"},
	{"memory: {hop: 12MiB}\n",
	 "F:1: memory.hop: expected a size from 4MiB to 256MiB that is a power of two, found \"12MiB\"\n"},
	{"dlq: {per_second: 100001}\n", "F:1: dlq.per_second: expected a whole number from 0 to 100000, found 100001\n"},
	{"dlq: {bytes_per_second: 4095}\n", "F:1: dlq.bytes_per_second: expected a size from 4KiB to 1GiB, found \"4095\"\n"},
	{"memory: {connections: 63}\n", "F:1: memory.connections: expected a whole number from 64 to 4194304, found 63\n"},
	{"memory: {connections: 4194305}\n",
	 "F:1: memory.connections: expected a whole number from 64 to 4194304, found 4194305\n"},
	{"memory: {hop: 1MiB}\n", "F:1: memory.hop: expected a size from 4MiB to 256MiB that is a power of two, found \"1MiB\"\n"},
	{"durability: {log_file: 33554433}\n",
	 "F:1: durability.log_file: expected a size from 16MiB to 1GiB in whole MiB (a file is sealed as a whole, in "
	 "memory), found \"33554433\"\n"},
	{"durability: {log_file: 1025MiB}\n",
	 "F:1: durability.log_file: expected a size from 16MiB to 1GiB in whole MiB (a file is sealed as a whole, in "
	 "memory), found \"1025MiB\"\n"},
	{"ingest:\n  - http: localhost:8080\n",
	 "F:2: ingest[0].http: expected an address and port such as 127.0.0.1:8080 or [::1]:8080, found \"localhost:8080\"\n"},
	{"ingest:\n  - udp: 127.0.0.1\n",
	 "F:2: ingest[0].udp: expected an address and port such as 127.0.0.1:7771 or [::1]:7771, found \"127.0.0.1\"\n"},
	{"ingest:\n  - udp: 127.0.0.1:65536\n",
	 "F:2: ingest[0].udp: expected an address and port such as 127.0.0.1:7771 or [::1]:7771, found \"127.0.0.1:65536\"\n"},
	{"tracing: {collector: 127.0.0.1:4318}\n", "F:1: tracing.collector: expected the address of an OTLP collector such as "
						   "http://127.0.0.1:4318, found \"127.0.0.1:4318\"\n"},
	{"tracing: {collector: \"http:///v1\"}\n",
	 "F:1: tracing.collector: expected the address of an OTLP collector such as http://127.0.0.1:4318, found \"http:///v1\"\n"},
	{"tracing: {collector: \"http://a b\"}\n",
	 "F:1: tracing.collector: expected the address of an OTLP collector such as http://127.0.0.1:4318, found \"http://a b\"\n"},
	{"control: {listen: 8081}\n",
	 "F:1: control.listen: expected an address and port such as 127.0.0.1:8081 or [::1]:8081, found \"8081\"\n"},
	{"ingest:\n  - http: 127.0.0.1:1\n    trusted:\n      - 10.0.0.0/8\n      - 10.0.0.0/33\n",
	 "F:5: ingest[0].trusted[1]: expected a prefix such as 10.0.0.0/8 or \"fd00::/8\", found \"10.0.0.0/33\"\n"},
	{"ingest: [{driver: dpdk, device: 'net_af_xdp0,iface=x', address: [10.0.0.1/24], packet_rate_limit: many}]\n",
	 "F:1: ingest[0].packet_rate_limit: expected a whole number of packets per second from 1 to 4294967295, or off, "
	 "found \"many\"\n"},
	{"ingest: [{driver: dpdk, device: net_ring0, address: [10.0.0.1/24], packet_rate_limit: 5}]\n",
	 "F:1: ingest[0].packet_rate_limit: expected only with a net_af_xdp device without xdp_prog=, found device net_ring0\n"},
	{"ingest: [{http: '127.0.0.1:1', packet_rate_limit: 5}]\n",
	 "F:1: ingest[0].packet_rate_limit: expected only with driver: dpdk, found driver: socket\n"},
	{"blocklist: {files: [drop.txt]}\n",
	 "F:1: blocklist.files[0]: expected an absolute path such as /etc/turnpike/drop.txt, found \"drop.txt\"\n"},
	{"blocklist: {files: [/a, /b], count_only_files: [/b]}\n",
	 "F:1: blocklist: expected each list file once, found /b twice\n"},
	{"ingest: [{http: '127.0.0.1:1', rate_limit: fast}]\n", "F:1: ingest[0].rate_limit: expected a whole number of requests "
								"per second from 1 to 4294967295, or off, found \"fast\"\n"},
	{"ingest: [{http: '127.0.0.1:1', rate_limit: 0}]\n",
	 "F:1: ingest[0].rate_limit: expected a whole number of requests per second from 1 to 4294967295, or off, found \"0\"\n"},
	{"node: {name: ''}\n", "F:1: node.name: expected a name of 1 to 63 printable bytes, found \"\"\n"},
	{"node: {data_dir: ''}\n", "F:1: node.data_dir: expected a folder, found \"\"\n"},
	{"node: {name: 0123456789012345678901234567890123456789012345678901234567890123}\n",
	 "F:1: node.name: expected a name of 1 to 63 printable bytes, found "
	 "\"012345678901234567890123456789012345678901234567890123456789...\"\n"},
	/* what only several keys, or this machine, can tell */
	{"ingest: []\n", "F:1: ingest: expected 1 to 32 entries, found 0\n"},
	{"ingest:\n  - driver: socket\n", "F:2: ingest[0]: expected http or udp with an address and port, found neither\n"},
	{"ingest:\n  - driver: socket\n    http: 127.0.0.1:1\n    device: x\n    http_port: 80\n",
	 "F:4: ingest[0].device: expected only with driver: dpdk, found driver: socket\n"
	 "F:5: ingest[0].http_port: expected only with driver: dpdk, found driver: socket\n"},
	{"ingest:\n  - driver: dpdk\n    device: x\n    address: [10.0.0.1/8]\n    http_port: 80\n    http: 127.0.0.1:1\n",
	 "F:6: ingest[0].http: expected only with driver: socket, found driver: dpdk\n"},
	{"ingest:\n  - driver: dpdk\n",
	 "F:2: ingest[0].device: required with driver: dpdk, expected an EAL --vdev string such as net_af_xdp0,iface=tp0, or a PCI "
	 "address\n"
	 "F:2: ingest[0].address: required with driver: dpdk, expected a list of addresses such as [10.77.0.1/24, "
	 "\"fd00:77::1/64\"]\n"},
	{"ingest:\n  - {driver: dpdk, device: x, address: [10.0.0.1/8], http_port: 0, udp_port: 0}\n",
	 "F:2: ingest[0]: expected http_port or udp_port from 1 to 65535, found neither\n"},
	{"ingest: [{driver: dpdk, device: x, address: [10.0.0.1]}]\n",
	 "F:1: ingest[0].address[0]: expected an address with its prefix length, such as 10.77.0.1/24 or \"fd00:77::1/64\", found "
	 "\"10.0.0.1\"\n"},
	{"ingest: [{driver: dpdk, device: x, address: [10.0.0.300/8], udp_port: 1}]\n",
	 "F:1: ingest[0].address[0]: expected an address with its prefix length, such as 10.77.0.1/24 or \"fd00:77::1/64\", found "
	 "\"10.0.0.300/8\"\n"},
	{"ingest: [{driver: dpdk, device: x, address: [224.0.0.1/8, 10.0.0.1/8, 10.0.0.1/16], udp_port: 1}]\n",
	 "F:1: ingest[0].address[0]: expected a unicast address that the port may own, found 224.0.0.1\n"
	 "F:1: ingest[0].address[2]: expected each address once, found 10.0.0.1 twice\n"},
	{"ingest: [{driver: dpdk, device: x, address: [10.0.0.255/24, 10.0.0.128/25, 'fd00::/64', 10.0.1.0/31, 10.0.1.255/22], "
	 "udp_port: 1}]\n",
	 "F:1: ingest[0].address[0]: expected an address of a host, found 10.0.0.255, the first or last of its /24\n"
	 "F:1: ingest[0].address[1]: expected an address of a host, found 10.0.0.128, the first or last of its /25\n"
	 "F:1: ingest[0].address[2]: expected an address of a host, found fd00::, the first or last of its /64\n"},
	{"ingest: [{driver: dpdk, device: x, address: [10.0.0.1/8], udp_port: 1, tap: tp-tap0123456789}]\n",
	 "F:1: ingest[0].tap: expected a name of 1 to 15 letters, digits, -, _ or . for a new network interface, such as tp-tap0, "
	 "found \"tp-tap0123456789\"\n"},
	{"ingest: [{driver: socket, http: '127.0.0.1:1', tap: t}]\n",
	 "F:1: ingest[0].tap: expected only with driver: dpdk, found driver: socket\n"},
	{"ingest: [{driver: dpdk, device: x, address: [10.0.0.1/8], udp_port: 1, gateway: 11.0.0.1}]\n",
	 "F:1: ingest[0].gateway: expected an address inside one of the prefixes of `address`, found 11.0.0.1\n"},
	{"ingest: [{driver: dpdk, device: x, address: [10.0.0.1/8], udp_port: 1, gateway: 10.0.0.1}]\n",
	 "F:1: ingest[0].gateway: expected another machine's address, found our own 10.0.0.1\n"},
	{"ingest: [{driver: dpdk, device: x, address: [10.0.0.1/8], udp_port: 1, gateway: '10.0.0.2, 10.0.0.3'}]\n",
	 "F:1: ingest[0].gateway: expected an address such as 10.77.0.2, or one per family: \"10.77.0.2, fd00:77::2\", found "
	 "\"10.0.0.2, 10.0.0.3\"\n"},
	{"ingest: [{driver: dpdk, device: x, address: [10.0.0.1/8], udp_port: 1, gateway: '10.0.0.2,'}]\n",
	 "F:1: ingest[0].gateway: expected an address such as 10.77.0.2, or one per family: \"10.77.0.2, fd00:77::2\", found "
	 "\"10.0.0.2,\"\n"},
	{"ingest:\n  - http: 127.0.0.1:1\n  - http: 127.0.0.1:1\n",
	 "F:3: ingest[1].http: expected another one than ingest[0].http, found the same\n"},
	{"cores: {rx: []}\n", "F:1: cores.rx: expected 1 to 64 CPU numbers, found 0\n"},
	{"cores:\n  background: [0, 0]\n", "F:2: cores.background[1]: expected each CPU once, found 0 twice\n"},
	{"time: {lateness: 20m}\n", "F:1: time.lateness: expected at most time.horizon, which is 900000ms, found 1200000ms\n"},
	{"time:\n  horizon: 30s\n", "F:2: time.lateness: expected at most time.horizon, which is 30000ms, found 60000ms\n"},
	{"memory:\n  hop: 128MiB\n", "F:2: durability.log_file: expected at least 4 times memory.hop, 512MiB, found 64MiB\n"},
	{"control:\n  listen: 0.0.0.0:8081\n  auth: none\n",
	 "F:3: control.auth: expected tokens unless control.listen is a loopback address, found none with 0.0.0.0:8081\n"},
	{"control:\n  tls: {certificate: a.pem}\n",
	 "F:2: control.tls.key: expected control.tls.certificate and its key, found one alone\n"},
	{"control:\n  tls: {client_ca: a.pem}\n", "F:2: control.tls.client_ca: expected control.tls.certificate beside it\n"},
	{"control: {connections: 15}\n", "F:1: control.connections: expected a whole number from 16 to 65536, found 15\n"},
	{"control: {token_rate_limit: often}\n", "F:1: control.token_rate_limit: expected a whole number of requests per second "
						 "from 1 to 4294967295, or off, found \"often\"\n"},
	{"control: {session: 31d}\n", "F:1: control.session: expected a duration from 1s to 30d in whole ms, found \"31d\"\n"},
	{"node: {data_dir: /a/b}\ncontrol: {state_dir: /a/b/c}\n",
	 "F:2: control.state_dir: expected a folder outside node.data_dir, found /a/b/c\n"},
	{"node: {data_dir: /a/b}\ncontrol: {state_dir: /a/b/}\n",
	 "F:2: control.state_dir: expected a folder outside node.data_dir, found /a/b\n"},
	/* all that is wrong at once */
	{"nod: 1\ntime: {lateness: [], horizon: 5}\n", "F:1: nod: unknown key, expected one of node, ingest, cores, durability, "
						       "time, retention, fraud, control, memory, blocklist, windows, dlq, billing, "
						       "tracing\n"
						       "F:2: time.lateness: expected a duration such as 60s, found a list\n"},
	{"time: {lateness: x, horizon: 5}\n", "F:1: time.lateness: expected a duration such as 60s, found \"x\"\n"
					      "F:1: time.horizon: expected a duration such as 15m, found \"5\"\n"},
};

static void each_broken_file_gets_its_line(void **state)
{
	(void)state;
	int wrong = 0;

	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct tp_config config;
		int rc = load(broken[i].text, &config);
		if (rc == -EINVAL && strcmp(said, broken[i].said) == 0)
			continue;
		print_error("%s\nexpected %sfound %d %s\n", broken[i].text, broken[i].said, rc, said);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

static void a_cpu_that_is_not_here_is_told(void **state)
{
	(void)state;
	struct tp_config config;
	char text[64], expected[160];
	long cpu = last_cpu();

	snprintf(text, sizeof(text), "cores:\n  shard: [%ld]\n", cpu + 1);
	snprintf(expected, sizeof(expected), "F:2: cores.shard[0]: expected a CPU of this machine, 0 to %ld, found %ld\n", cpu,
		 cpu + 1);
	assert_int_equal(load(text, &config), -EINVAL);
	assert_string_equal(said, expected);
}

static void a_file_that_cannot_be_read_is_told(void **state)
{
	(void)state;
	struct tp_config config;
	char *message = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&message, &bytes);

	assert_int_equal(tp_config_load("/nowhere/at-all.yaml", &config, to), -ENOENT);
	assert_int_equal(tp_config_load("/tmp", &config, to), -EISDIR);
	fclose(to);
	assert_string_equal(message,
			    "/nowhere/at-all.yaml: cannot read: No such file or directory\n/tmp: cannot read: Is a directory\n");
	free(message);

	char *big = malloc((1 << 20) + 1);
	memset(big, '#', (1 << 20) + 1);
	assert_int_equal(load_bytes(big, (1 << 20) + 1, &config), -EFBIG);
	free(big);
}

/* Whatever the damage: it loads or it says why; under a sanitizer, without a fault or a leak. */
static void damage_is_told_or_harmless(void **state)
{
	(void)state;
	char whole[sizeof(example) + 64], text[sizeof(whole)];
	size_t bytes = (size_t)snprintf(whole, sizeof(whole), example, 0L, 0L);
	static const char signs[] = "{}[]:-,&*\"'\n\t #0a~\xc3";
	unsigned seed = 5;

	for (int round = 0; round < 2000; round++) {
		struct tp_config config;
		size_t cut = bytes;
		memcpy(text, whole, bytes);
		if (round % 4 == 0)
			cut = (size_t)rand_r(&seed) % bytes;
		for (int i = rand_r(&seed) % 3; i >= 0; i--)
			text[(size_t)rand_r(&seed) % bytes] = signs[(size_t)rand_r(&seed) % (sizeof(signs) - 1)];
		int rc = load_bytes(text, cut, &config);
		assert_int_equal(rc == 0, said[0] == '\0');
		if (rc == 0)
			tp_config_free(&config);
		else
			assert_int_equal(rc, -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_contracts_example_loads),    cmocka_unit_test(an_empty_mapping_is_all_defaults),
		cmocka_unit_test(other_values_and_styles_load),   cmocka_unit_test(each_broken_file_gets_its_line),
		cmocka_unit_test(a_cpu_that_is_not_here_is_told), cmocka_unit_test(a_file_that_cannot_be_read_is_told),
		cmocka_unit_test(damage_is_told_or_harmless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
