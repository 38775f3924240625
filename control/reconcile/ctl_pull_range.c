/* Range, If-Range, If-None-Match and ids; see ctl_pull.h. Source: RFC 9110 sections 13.1 and 14. */
#include "ctl_pull.h"

#include <string.h>
#include <strings.h>

static const char *space_skip(const char *at)
{
	return at + strspn(at, " \t");
}

/* Digits; false without any. More than fit are as much as fits: past every file's end. */
static bool number_read(const char **at, uint64_t *number)
{
	const char *from = *at;

	*number = 0;
	for (; **at >= '0' && **at <= '9'; (*at)++) {
		uint64_t digit = (uint64_t)(**at - '0');
		*number = *number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *number * 10 + digit;
	}
	return *at != from;
}

enum ctl_range ctl_range_read(const char *header, uint64_t bytes, uint64_t *first, uint64_t *last)
{
	uint64_t one, other;

	*first = 0;
	*last = bytes ? bytes - 1 : 0;
	if (!header || strncasecmp(header, "bytes=", 6) != 0)
		return CTL_RANGE_WHOLE;
	const char *at = space_skip(header + 6);
	const bool begins = number_read(&at, &one);
	if (*at++ != '-')
		return CTL_RANGE_WHOLE;
	const bool ends = number_read(&at, &other);
	if (*space_skip(at) != '\0' || (!begins && !ends) || (begins && ends && one > other))
		return CTL_RANGE_WHOLE;
	if (begins ? one >= bytes : other == 0 || !bytes)
		return CTL_RANGE_NONE;
	if (!begins) {
		*first = other >= bytes ? 0 : bytes - other;
		return CTL_RANGE_PART;
	}
	*first = one;
	if (ends && other < bytes)
		*last = other;
	return CTL_RANGE_PART;
}

bool ctl_range_counts(const char *if_range, const char *etag)
{
	return !if_range || strcmp(if_range, etag) == 0;
}

bool ctl_tag_listed(const char *if_none_match, const char *etag)
{
	const size_t bytes = strlen(etag);

	if (!if_none_match)
		return false;
	const char *at = space_skip(if_none_match);
	if (strcmp(at, "*") == 0)
		return true;
	while (*at) {
		if (at[0] == 'W' && at[1] == '/') /* weak comparison is what this header asks for */
			at += 2;
		if (strncmp(at, etag, bytes) == 0 && (at[bytes] == '\0' || strchr(", \t", at[bytes])))
			return true;
		/* over this tag, which may hold a comma */
		const char *end = *at == '"' ? strchr(at + 1, '"') : NULL;
		at = end ? end + 1 : at + strcspn(at, ",");
		at += strspn(at, ", \t");
	}
	return false;
}

bool ctl_pull_id(const char *text, uint64_t text_bytes, uint64_t *sequence)
{
	static const char digits[] = "0123456789abcdef";

	*sequence = 0;
	for (uint64_t i = 0; i < text_bytes; i++) {
		const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
		if (!digit || i == 16)
			return false;
		*sequence = *sequence << 4 | (uint64_t)(digit - digits);
	}
	return text_bytes == 16;
}
