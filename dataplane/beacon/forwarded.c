/*
 * X-Forwarded-For: see forwarded.h. The walk from the right is done from the left in one pass: garbage forgets what was found, a
 * trusted address keeps it, any other replaces it. What is left at the end is what the walk from the right would have met first.
 */
#include "forwarded.h"

#include <string.h>

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80". */
static bool parse_entry(const char *text, size_t bytes, struct tp_addr *addr)
{
	const char *port = NULL;
	size_t addr_bytes = bytes;
	if (bytes > 0 && text[0] == '[') {
		const char *close = memchr(text, ']', bytes);
		if (close == NULL)
			return false;
		port = close + 1 == text + bytes ? NULL : close + 1;
		addr_bytes = (size_t)(close - text) - 1;
		text++;
		if (tp_addr_parse(text, addr_bytes, addr) != 0 || memchr(text, ':', addr_bytes) == NULL)
			return false;
		bytes--;
	} else {
		const char *colon = bytes == 0 ? NULL : memchr(text, ':', bytes);
		/* one colon is a port, two are IPv6 */
		if (colon != NULL && memchr(colon + 1, ':', bytes - (size_t)(colon + 1 - text)) == NULL) {
			port = colon;
			addr_bytes = (size_t)(colon - text);
		}
		if (tp_addr_parse(text, addr_bytes, addr) != 0)
			return false;
	}
	if (port == NULL)
		return true;
	const char *end = text + bytes;
	uint32_t number = 0;
	if (*port != ':' || end - port < 2 || end - port > 6)
		return false;
	for (port++; port < end; port++) {
		if (*port < '0' || *port > '9')
			return false;
		number = number * 10 + (uint32_t)(*port - '0');
	}
	return number <= UINT16_MAX;
}

struct dp_body_source dp_forwarded_source(const struct tp_config_ingest *ingest, const struct tp_addr *peer,
					  const struct dp_http_head *head, const char *bytes)
{
	if (!tp_prefix_list_has(ingest->trusted, ingest->trusted_count, peer))
		return (struct dp_body_source){.has_ip = true, .ip = *peer};
	struct dp_body_source source = {.has_ip = false};
	for (uint32_t i = 0; i < head->forwarded_count; i++) {
		const char *at = bytes + head->forwarded[i].at;
		const char *end = at + head->forwarded[i].bytes;
		while (at <= end) {
			const char *comma = at == end ? NULL : memchr(at, ',', (size_t)(end - at));
			const char *stop = comma == NULL ? end : comma;
			const char *entry = at;
			at = stop + 1;
			while (entry < stop && (*entry == ' ' || *entry == '\t'))
				entry++;
			while (stop > entry && (stop[-1] == ' ' || stop[-1] == '\t'))
				stop--;
			if (entry == stop)
				continue; /* an empty list element says nothing: RFC 9110 section 5.6.1 */
			struct tp_addr addr;
			if (!parse_entry(entry, (size_t)(stop - entry), &addr))
				source.has_ip = false;
			else if (!tp_prefix_list_has(ingest->trusted, ingest->trusted_count, &addr))
				source = (struct dp_body_source){.has_ip = true, .ip = addr};
		}
	}
	return source;
}
