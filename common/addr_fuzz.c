/* Addresses from arbitrary bytes: judged as by the C library, and what is taken comes back from its own text. */
#include "turnpike/addr.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool true_one)
{
	if (!true_one)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	char out[TP_ENDPOINT_TEXT_BYTES], terminated[64];
	struct tp_addr addr, addr_back;
	int status = tp_addr_parse(text, size, &addr);
	if (size < sizeof terminated && !memchr(text, 0, size)) {
		memcpy(terminated, text, size);
		terminated[size] = 0;
		uint8_t bytes[16];
		require((status == 0) ==
			(inet_pton(AF_INET, terminated, bytes) == 1 || inet_pton(AF_INET6, terminated, bytes) == 1));
	}
	if (status == 0) {
		size_t bytes = tp_addr_text(&addr, out);
		require(bytes < TP_ADDR_TEXT_BYTES);
		require(tp_addr_parse(out, bytes, &addr_back) == 0 && tp_addr_equal(&addr, &addr_back));
	}
	struct tp_prefix prefix, prefix_back;
	if (tp_prefix_parse(text, size, &prefix) == 0) {
		size_t bytes = tp_prefix_text(&prefix, out);
		require(bytes < TP_PREFIX_TEXT_BYTES && prefix.bits <= (prefix.addr.family == 4 ? 32 : 128));
		require(tp_prefix_has(&prefix, &prefix.addr));
		require(tp_prefix_parse(out, bytes, &prefix_back) == 0 && prefix_back.bits == prefix.bits);
		struct tp_prefix_set *set = tp_prefix_set_build(&prefix, 1);
		require(set && tp_prefix_set_match(set, &prefix.addr) == 0);
		tp_prefix_set_free(set);
	}
	struct tp_endpoint endpoint, endpoint_back;
	if (tp_endpoint_parse(text, size, &endpoint) == 0) {
		size_t bytes = tp_endpoint_text(&endpoint, out);
		require(bytes < TP_ENDPOINT_TEXT_BYTES);
		require(tp_endpoint_parse(out, bytes, &endpoint_back) == 0 && endpoint_back.port == endpoint.port);
	}
	return 0;
}
