/*
 * Rules from files: lists and what is wrong in them, the automaton against a slow search, places from a real MaxMind DB file (made by
 * tests/mmdb.py at the build), the version, and that a broken part leaves no rules.
 */
#include "turnpike/rules.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/rules_test.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static char *path_of(const char *name)
{
	static char path[8][128];
	static int next;
	char *to = path[next++ % 8];
	snprintf(to, sizeof(path[0]), "%s/%s", folder, name);
	return to;
}

static int teardown(void **state)
{
	(void)state;
	static const char *const made[] = {"words", "list", "other", "asns"};
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		unlink(path_of(made[i]));
	return rmdir(folder);
}

static char *bytes_put(const char *name, const char *text, size_t bytes)
{
	char *path = path_of(name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, bytes, file), bytes);
	assert_int_equal(fclose(file), 0);
	return path;
}

static char *file_put(const char *name, const char *text)
{
	return bytes_put(name, text, strlen(text));
}

static int load(const struct tp_config_fraud *config, struct rul_rules **rules)
{
	const struct rul_options options = {.config = config};
	return rul_load(rules, &options);
}

/* The version of rules that load. */
static uint32_t version_of(const struct tp_config_fraud *config)
{
	struct rul_rules *rules;
	assert_int_equal(load(config, &rules), 0);
	uint32_t version = rul_compiled(rules)->version;
	rul_free(rules);
	assert_int_not_equal(version, 0);
	return version;
}

static void the_version_tells_rules_apart(void **state)
{
	(void)state;
	struct tp_config_fraud one = {.clicks_per_ip_hour = 10, .clicks_per_device_hour = 5, .min_ms_since_impression = 500};
	struct tp_config_fraud other = one;
	const uint32_t version = version_of(&one);
	assert_int_equal(version_of(&one), version);
	other.clicks_per_ip_hour = 11;
	assert_int_not_equal(version_of(&other), version);
	other = one;
	other.clicks_per_ip_hour = 5, other.clicks_per_device_hour = 10;
	assert_int_not_equal(version_of(&other), version);
	other = one;
	other.no_mouse = true;
	assert_int_not_equal(version_of(&other), version);
	/* what a list says, not what it is called; and where it ends */
	char *lists[] = {file_put("list", "192.0.2.0/24\n"), file_put("other", "198.51.100.0/24\n")};
	other = one;
	other.bot_addresses = lists;
	other.bot_address_count = 2;
	const uint32_t listed = version_of(&other);
	assert_int_not_equal(listed, version);
	file_put("list", "192.0.2.0/24\n198.51.100.0/24\n");
	file_put("other", "");
	assert_int_not_equal(version_of(&other), listed);
	file_put("list", "192.0.2.0/24\n");
	file_put("other", "198.51.100.0/24\n");
	assert_int_equal(version_of(&other), listed);
}

static uint32_t judged(const struct agg_fraud_rules *rules, const char *agent, const char *address, struct tp_evidence *evidence)
{
	static struct agg_fraud_shard *shard;
	static void *memory, *ip_memory;
	if (!shard) {
		memory = aligned_alloc(64, (agg_fraud_shard_bytes(64) + 63) / 64 * 64);
		ip_memory = aligned_alloc(64, (agg_fraud_ip_bytes(64) + 63) / 64 * 64);
		memset(memory, 0, agg_fraud_shard_bytes(64));
		memset(ip_memory, 0, agg_fraud_ip_bytes(64));
		shard = agg_fraud_shard_init(memory, 64, agg_fraud_ip_init(ip_memory, 64), NULL);
	}
	_Alignas(8) static char record[TP_EVENT_BYTES_MAX];
	struct tp_parsed parsed = {.fixed = {.type = TP_CLICK, .id = {1, 1}, .timestamp_ms = 1700000000000}};
	parsed.string[TP_AD_ID] = (struct tp_str){"ad", 2};
	parsed.string[TP_USER_AGENT] = (struct tp_str){agent, (uint16_t)strlen(agent)};
	if (address) {
		struct tp_addr addr;
		assert_int_equal(tp_addr_parse(address, strlen(address), &addr), 0);
		memcpy(parsed.fixed.ip, addr.byte, 16);
		parsed.fixed.flags = TP_HAS_IP;
	}
	memcpy(parsed.fixed.country, "US", 2);
	tp_event_encode(&parsed, (struct tp_event *)(void *)record);
	agg_fraud_rules_set(shard, rules);
	struct agg_findings findings = {0};
	uint32_t tags = agg_fraud_judge(shard, (const struct tp_event *)(const void *)record, &findings, NULL);
	if (evidence && tags)
		*evidence = findings.entry[__builtin_ctz(tags)];
	agg_fraud_rules_set(shard, NULL);
	return tags;
}

static void lists_are_read_with_their_comments(void **state)
{
	(void)state;
	char *lists[] = {file_put("list", "# data centres\n\n  192.0.2.0/24  # one\r\n2001:db8::/32\n203.0.113.7"),
			 file_put("other", "198.51.100.0/25\n")};
	struct tp_config_fraud config = {.bot_addresses = lists,
					 .bot_address_count = 2,
					 .bot_user_agents =
						 file_put("words", "Googlebot # the crawler\n\tHeadlessChrome\n#nothing\n\n")};
	struct rul_rules *rules;
	struct tp_evidence evidence;
	assert_int_equal(load(&config, &rules), 0);
	const struct agg_fraud_rules *compiled = rul_compiled(rules);
	static const struct {
		const char *agent, *address;
		uint32_t tags;
	} row[] = {
		{"Mozilla/5.0", "192.0.2.255", TP_FRAUD_BIT(TP_FRAUD_BOT_ADDRESS)},
		{"Mozilla/5.0", "192.0.3.0", 0},
		{"Mozilla/5.0", "2001:db8:ffff::1", TP_FRAUD_BIT(TP_FRAUD_BOT_ADDRESS)},
		{"Mozilla/5.0", "203.0.113.7", TP_FRAUD_BIT(TP_FRAUD_BOT_ADDRESS)},
		{"Mozilla/5.0", "203.0.113.8", 0},
		{"Mozilla/5.0", "198.51.100.128", 0},
		{"x GOOGLEBOT/2.1", NULL, TP_FRAUD_BIT(TP_FRAUD_BOT_USER_AGENT)},
		{"x headlesschrome", NULL, TP_FRAUD_BIT(TP_FRAUD_BOT_USER_AGENT)},
		{"Googlebo", NULL, 0},
		{"", NULL, 0},
		{"Mozilla/5.0 (the crawler)", NULL, 0},
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		assert_int_equal(judged(compiled, row[i].agent, row[i].address, NULL), row[i].tags);
	judged(compiled, "", "198.51.100.1", &evidence);
	assert_true(evidence.is_text);
	assert_int_equal(evidence.detail, 1);
	assert_memory_equal(&evidence.seen, "other\0\0\0", 8);
	judged(compiled, "googlebot", NULL, &evidence);
	assert_memory_equal(&evidence.seen, "Googlebo", 8);
	rul_free(rules);
}

static void a_broken_list_is_no_list(void **state)
{
	(void)state;
	static const char *const broken[] = {"192.0.2.0/24\n192.0.2.0/33\n", "hello\n", "192.0.2.0/24 198.51.100.0/24\n", "1.2.3\n",
					     "::/129\n"};
	char *lists[] = {path_of("list")};
	struct tp_config_fraud config = {.bot_addresses = lists, .bot_address_count = 1};
	struct rul_rules *rules;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		lists[0] = file_put("list", broken[i]);
		assert_int_equal(load(&config, &rules), -EINVAL);
	}
	/* what lies behind a zero byte must not be lost */
	static const char cut[] = "192.0.2.0/24\n\000198.51.100.0/24\n";
	lists[0] = bytes_put("list", cut, sizeof(cut) - 1);
	assert_int_equal(load(&config, &rules), -EINVAL);
	lists[0] = path_of("absent");
	assert_int_equal(load(&config, &rules), -ENOENT);
	lists[0] = folder;
	assert_int_equal(load(&config, &rules), -EINVAL);
	struct tp_config_fraud words = {.bot_user_agents = file_put("words", "ok\nx\n")};
	assert_int_equal(load(&words, &rules), -EINVAL); /* one letter is in every user agent */
	struct tp_config_fraud systems = {.bot_asns = file_put("asns", "AS64496\n64497\nASx\n")};
	assert_int_equal(load(&systems, &rules), -EINVAL);
	struct tp_config_fraud model = {.model = file_put("other", "{\"learner\": {}}")};
	assert_int_equal(load(&model, &rules), -EINVAL);
	struct tp_config_fraud places = {.geo_database = file_put("other", "no database")};
	assert_int_equal(load(&places, &rules), -EINVAL);
}

/* ---- words ---- */

static int32_t slow_find(const char *const *word, uint32_t count, const char *text)
{
	for (const char *end = text; *end; end++)
		for (uint32_t w = 0; w < count; w++) {
			size_t bytes = strlen(word[w]);
			if ((size_t)(end + 1 - text) >= bytes && strncasecmp(end + 1 - bytes, word[w], bytes) == 0)
				return (int32_t)w;
		}
	return -1;
}

static void the_automaton_finds_what_a_slow_search_finds(void **state)
{
	(void)state;
	static char stock[64][8];
	const char *word[64];
	srand(7);
	for (int round = 0; round < 300; round++) {
		uint32_t count = 1 + (uint32_t)rand() % 64;
		for (uint32_t w = 0; w < count; w++) {
			int bytes = 2 + rand() % 5;
			for (int i = 0; i < bytes; i++)
				stock[w][i] = "abAB.\xe9"[rand() % 6];
			stock[w][bytes] = 0;
			word[w] = stock[w];
		}
		struct agg_words *words;
		assert_int_equal(rul_words_build(word, count, &words), 0);
		for (int t = 0; t < 200; t++) {
			char text[64];
			int bytes = rand() % 63;
			for (int i = 0; i < bytes; i++)
				text[i] = "abAB.\xe9xyz"[rand() % 9];
			text[bytes] = 0;
			int32_t fast = agg_words_find(words, text, (uint32_t)bytes), slow = slow_find(word, count, text);
			/* where several end at the same letter any of them is right: they are all there */
			assert_int_equal(fast < 0, slow < 0);
			if (fast >= 0)
				assert_non_null(strcasestr(text, word[fast]));
		}
		rul_words_free(words);
	}
}

static void words_within_words_and_no_words(void **state)
{
	(void)state;
	static const char *const word[] = {"she", "hers", "he", "his"};
	struct agg_words *words;
	assert_int_equal(rul_words_build(word, 4, &words), 0);
	assert_int_equal(agg_words_find(words, "ushers", 6), 0);
	assert_int_equal(agg_words_find(words, "xHEx", 4), 2);
	assert_int_equal(agg_words_find(words, "hi", 2), -1);
	assert_int_equal(agg_words_find(words, "shi", 3), -1);
	assert_int_equal(agg_words_find(words, "shis", 4), 3);
	rul_words_free(words);
	assert_int_equal(rul_words_build(NULL, 0, &words), 0);
	assert_int_equal(agg_words_find(words, "anything", 8), -1);
	rul_words_free(words);
	/* more beginnings than states */
	char **many = calloc(300, sizeof(*many));
	for (int i = 0; i < 300; i++) {
		many[i] = malloc(256);
		memset(many[i], 'a' + i % 26, 255);
		many[i][0] = (char)('a' + i / 26);
		many[i][255] = 0;
	}
	assert_int_equal(rul_words_build((const char *const *)many, 300, &words), -E2BIG);
	for (int i = 0; i < 300; i++)
		free(many[i]);
	free(many);
}

/* ---- places ---- */

static void places_of_a_database(void **state)
{
	(void)state;
	struct tp_config_fraud config = {.geo_mismatch = true,
					 .geo_database = getenv("TURNPIKE_GEO_DATABASE"),
					 .asn_database = getenv("TURNPIKE_ASN_DATABASE"),
					 .bot_asns = file_put("asns", "AS64496")};
	assert_non_null(config.geo_database);
	struct rul_rules *rules;
	assert_int_equal(load(&config, &rules), 0);
	const struct agg_fraud_rules *compiled = rul_compiled(rules);
	struct agg_place place = {0};
	struct tp_addr addr;
	assert_int_equal(tp_addr_parse("192.0.2.77", 10, &addr), 0);
	compiled->places->find(compiled->places->context, addr.byte, &place);
	assert_true(place.has_country && place.has_point);
	assert_memory_equal(place.country, "FR", 2);
	assert_int_equal(place.asn, 0);
	assert_true(place.radius_km == 20);
	/* Paris is 5,837 km from New York */
	struct agg_place other = {0};
	assert_int_equal(tp_addr_parse("2001:db8::1", 11, &addr), 0);
	compiled->places->find(compiled->places->context, addr.byte, &other);
	assert_memory_equal(other.country, "US", 2);
	assert_int_equal(other.asn, 64496);
	double km = agg_distance_km(place.point, other.point);
	assert_true(km > 5827 && km < 5847);
	struct tp_evidence evidence;
	assert_int_equal(judged(compiled, "", "192.0.2.77", &evidence), TP_FRAUD_BIT(TP_FRAUD_GEO_MISMATCH));
	assert_memory_equal(&evidence.seen, "FR/US\0\0\0", 8);
	assert_int_equal(judged(compiled, "", "192.0.2.128", NULL), 0); /* the longer prefix: US */
	assert_int_equal(judged(compiled, "", "203.0.113.1", NULL), 0); /* not in it */
	assert_int_equal(judged(compiled, "", "2001:db8::1", &evidence), TP_FRAUD_BIT(TP_FRAUD_BOT_ADDRESS));
	assert_int_equal(evidence.seen, 64496);
	rul_free(rules);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_version_tells_rules_apart),   TEST(lists_are_read_with_their_comments),
		TEST(a_broken_list_is_no_list),        TEST(the_automaton_finds_what_a_slow_search_finds),
		TEST(words_within_words_and_no_words), TEST(places_of_a_database),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
