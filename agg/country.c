/* Countries: the offsets of their clocks, and roughly where they are. The table is made by devtools/make-countries. Any thread. */
#include "turnpike/fraud_data.h"

#include <math.h>
#include <stddef.h>

#define EARTH_KM 6371.0

static const struct agg_country country[] = {
#include "country_table.h"
};

static int order(const char a[2], const char b[2])
{
	return a[0] != b[0] ? (uint8_t)a[0] - (uint8_t)b[0] : (uint8_t)a[1] - (uint8_t)b[1];
}

const struct agg_country *agg_country_find(const char code[2])
{
	uint32_t low = 0, high = sizeof(country) / sizeof(country[0]);
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		int found = order(country[middle].code, code);
		if (found == 0)
			return &country[middle];
		if (found < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

double agg_distance_km(const float a[3], const float b[3])
{
	double x = (double)a[0] - b[0], y = (double)a[1] - b[1], z = (double)a[2] - b[2];
	double half = sqrt(x * x + y * y + z * z) / 2;
	return 2 * EARTH_KM * asin(half < 1 ? half : 1);
}
