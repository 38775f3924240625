/*
 * SHA-256 against published vectors (FIPS 180-4 examples, NIST CAVP), and its pieces against the whole.
 */
#include "turnpike/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void hex(const uint8_t digest[32], char text[65])
{
	for (int i = 0; i < 32; i++)
		sprintf(text + 2 * i, "%02x", digest[i]);
}

static void test_vectors(void **state)
{
	(void)state;
	static const struct {
		const char *text, *digest;
	} vectors[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
		{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
		 "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
	};
	uint8_t digest[32];
	char text[65];
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
		tp_sha256(vectors[i].text, strlen(vectors[i].text), digest);
		hex(digest, text);
		assert_string_equal(text, vectors[i].digest);
	}
	char *million = malloc(1000000);
	memset(million, 'a', 1000000);
	tp_sha256(million, 1000000, digest);
	hex(digest, text);
	assert_string_equal(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}

static void test_pieces(void **state)
{
	(void)state;
	uint8_t bytes[300], whole[32], parts[32];
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7);
	for (size_t count = 0; count <= sizeof bytes; count++) {
		tp_sha256(bytes, count, whole);
		for (size_t cut = 0; cut <= count; cut += 13) {
			struct tp_sha256 hash;
			tp_sha256_init(&hash);
			tp_sha256_add(&hash, bytes, cut);
			tp_sha256_add(&hash, bytes + cut, count - cut);
			tp_sha256_fini(&hash, parts);
			assert_memory_equal(whole, parts, 32);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors), cmocka_unit_test(test_pieces)};
	return cmocka_run_group_tests_name("sha256", tests, NULL, NULL);
}
