/*
 * A MaxMind database from arbitrary bytes, as both databases: refused, or looked up in without harm. A place is within its ranges, whatever the
 * file says.
 */
#define XXH_STATIC_LINKING_ONLY
#include "fuzz_file.h"
#include "rules_private.h"
#include "turnpike/log.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libmaxminddb 1.7 does not free all of what it has read of a description or of languages when the rest turns out broken. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libmaxminddb";
}

static void look(const struct agg_places *places, const uint8_t ip[16])
{
	struct agg_place place = {0};
	places->find(places->context, ip, &place);
	if (!place.has_point)
		return;
	float length = 0;
	for (int i = 0; i < 3; i++)
		length += place.point[i] * place.point[i];
	assert(length > 0.99f && length < 1.01f);
	assert(place.radius_km >= 0 && place.radius_km <= 20000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct agg_places *places = NULL;
	XXH3_state_t version;
	uint8_t ip[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1};
	if (size > 1 << 16)
		return 0;
	tp_log_level_set(TP_ERROR + 1);
	XXH3_64bits_reset(&version);
	struct fuzz_file file = fuzz_file_open(data, size);
	if (rul_places_open(file.path, file.path, &places, &version) == 0) {
		look(places, ip);
		ip[15] = 200;
		look(places, ip);
		ip[12] = 10;
		look(places, ip);
		static const uint8_t six[2][16] = {{0x20, 0x01, 0x0d, 0xb8, [15] = 1}, {0x20, 0x02}};
		look(places, six[0]);
		look(places, six[1]);
		rul_places_close(places);
	}
	close(file.fd);
	return 0;
}
