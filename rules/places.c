/*
 * Places of addresses from MaxMind DB files, by libmaxminddb: country and coordinates from one, the autonomous system from the same or
 * another one. Files are mapped; a look-up walks the tree and decodes a few fields, without allocation and without a lock, so shard
 * cores make it (behind agg/fraud_place.c's cache). A file must be replaced by rename, never written in place.
 */
#include "rules_private.h"

#include "turnpike/log.h"

#include <errno.h>
#include <math.h>
#include <maxminddb.h>
#include <stdlib.h>
#include <string.h>

enum { RADIUS_KM_UNKNOWN = 500 };

struct databases {
	struct agg_places places;
	MMDB_s geo, asn;
	bool has_geo, has_asn;
};

static bool lookup(const MMDB_s *database, const uint8_t ip[16], MMDB_entry_s *entry)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	bool is_four = memcmp(ip, mapped, sizeof(mapped)) == 0;
	if (is_four)
		memcpy(&four.sin_addr, ip + 12, 4);
	else
		memcpy(&six.sin6_addr, ip, 16);
	int error = MMDB_SUCCESS;
	const struct sockaddr *address = is_four ? (const struct sockaddr *)&four : (const struct sockaddr *)&six;
	MMDB_lookup_result_s found = MMDB_lookup_sockaddr(database, address, &error);
	*entry = found.entry;
	return error == MMDB_SUCCESS && found.found_entry;
}

static bool number(MMDB_entry_s *entry, const char *const *path, double *to)
{
	MMDB_entry_data_s data;
	if (MMDB_aget_value(entry, &data, path) != MMDB_SUCCESS || !data.has_data)
		return false;
	switch (data.type) {
	case MMDB_DATA_TYPE_DOUBLE:
		*to = data.double_value;
		return true;
	case MMDB_DATA_TYPE_FLOAT:
		*to = (double)data.float_value;
		return true;
	case MMDB_DATA_TYPE_UINT16:
		*to = data.uint16;
		return true;
	case MMDB_DATA_TYPE_UINT32:
		*to = data.uint32;
		return true;
	case MMDB_DATA_TYPE_INT32:
		*to = data.int32;
		return true;
	default:
		return false;
	}
}

static void country_find(MMDB_entry_s *entry, struct agg_place *place)
{
	static const char *const country[] = {"country", "iso_code", NULL};
	MMDB_entry_data_s data;
	if (MMDB_aget_value(entry, &data, country) != MMDB_SUCCESS || !data.has_data || data.type != MMDB_DATA_TYPE_UTF8_STRING ||
	    data.data_size != 2)
		return;
	memcpy(place->country, data.utf8_string, 2);
	place->has_country = true;
}

static void point_find(MMDB_entry_s *entry, struct agg_place *place)
{
	static const char *const latitude[] = {"location", "latitude", NULL}, *const longitude[] = {"location", "longitude", NULL},
				 *const radius[] = {"location", "accuracy_radius", NULL};
	double lat, lon, km;
	if (!number(entry, latitude, &lat) || !number(entry, longitude, &lon) || !(fabs(lat) <= 90) || !(fabs(lon) <= 180))
		return;
	lat *= M_PI / 180;
	lon *= M_PI / 180;
	place->point[0] = (float)(cos(lat) * cos(lon));
	place->point[1] = (float)(cos(lat) * sin(lon));
	place->point[2] = (float)sin(lat);
	place->radius_km = number(entry, radius, &km) && km >= 0 && km <= 20000 ? (float)km : RADIUS_KM_UNKNOWN;
	place->has_point = true;
}

static void find(const void *context, const uint8_t ip[16], struct agg_place *place)
{
	static const char *const system[] = {"autonomous_system_number", NULL};
	const struct databases *databases = context;
	MMDB_entry_s entry;
	double asn;
	if (databases->has_geo && lookup(&databases->geo, ip, &entry)) {
		country_find(&entry, place);
		point_find(&entry, place);
	}
	if (databases->has_asn && lookup(&databases->asn, ip, &entry) && number(&entry, system, &asn) && asn >= 0 &&
	    asn <= UINT32_MAX)
		place->asn = (uint32_t)asn;
}

static int database_open(const char *path, const char *key, MMDB_s *database, XXH3_state_t *version)
{
	int error = MMDB_open(path, MMDB_MODE_MMAP, database);
	if (error != MMDB_SUCCESS) {
		tp_logf(TP_ERROR, "cannot open a MaxMind database", "key=%s file=%s error=\"%s\"", key, path,
			error == MMDB_IO_ERROR ? strerror(errno) : MMDB_strerror(error));
		return -EINVAL;
	}
	/* which database, and from when: not its hundred megabytes */
	const uint64_t identity[] = {database->metadata.build_epoch, database->metadata.node_count, database->file_size};
	rul_version_add(version, identity, sizeof(identity));
	tp_logf(TP_INFO, "MaxMind database", "key=%s file=%s type=\"%s\" built=%llu", key, path, database->metadata.database_type,
		(unsigned long long)database->metadata.build_epoch);
	return 0;
}

int rul_places_open(const char *geo_path, const char *asn_path, struct agg_places **places, XXH3_state_t *version)
{
	struct databases *databases = calloc(1, sizeof(*databases));
	if (!databases)
		return -ENOMEM;
	int rc = geo_path ? database_open(geo_path, "fraud.geo_database", &databases->geo, version) : 0;
	databases->has_geo = geo_path && !rc;
	if (!rc && asn_path) {
		rc = database_open(asn_path, "fraud.asn_database", &databases->asn, version);
		databases->has_asn = !rc;
	}
	databases->places = (struct agg_places){.find = find, .context = databases};
	if (rc)
		rul_places_close(&databases->places);
	else
		*places = &databases->places;
	return rc;
}

void rul_places_close(struct agg_places *places)
{
	if (!places)
		return;
	struct databases *databases = (struct databases *)(void *)places; /* its first member */
	if (databases->has_geo)
		MMDB_close(&databases->geo);
	if (databases->has_asn)
		MMDB_close(&databases->asn);
	free(databases);
}
