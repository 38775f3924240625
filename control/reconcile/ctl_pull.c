/*
 * The segments for a central system: GET /api/v1/reconcile/segments?after= lists them, …/segments/{id} is the file.
 *
 * An id is the sequence as in the file's name, 16 hex digits; nothing of a request ever becomes a path. A file is opened before it is
 * promised, so retention may delete it meanwhile: what was begun ends well. An archived segment keeps its id and its place in the
 * chain and has another file, hash and ETag; a client that was in the middle of the old one is told by If-Range.
 *
 * Threads: any; each request reads the manifest for itself. Source: RFC 9110, RFC 9530 (Repr-Digest).
 */
#include "ctl_pull.h"
#include "ctl.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT = 100, LIMIT_MAX = 1000, TRIES_MAX = 3, TAG_BYTES = 72, HEX_BYTES = 65, PATH_BYTES = 4096 };

static void hex(const uint8_t hash[32], char to[HEX_BYTES])
{
	for (int i = 0; i < 32; i++)
		snprintf(to + 2 * (size_t)i, 3, "%02x", hash[i]);
}

/* RFC 4648 section 4. */
static void base64(const uint8_t hash[32], char to[48])
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t length = 0;

	for (int i = 0; i < 33; i += 3) {
		uint32_t three = (uint32_t)hash[i] << 16 | (uint32_t)hash[i + 1] << 8 | (i + 2 < 32 ? hash[i + 2] : 0);
		for (int shift = 18; shift >= 0; shift -= 6)
			to[length++] = digit[three >> shift & 63];
	}
	to[length - 1] = '=';
	to[length] = '\0';
}

static void unreadable(struct ctl_reply *reply, const char *what, int rc)
{
	tp_logf(TP_WARN, "cannot serve segments", "what=%s error=\"%s\"", what, strerror(-rc));
	ctl_reply_problem(reply, 503, "unreadable", NULL, "the data folder cannot be read just now");
}

/* A snapshot of the manifest. NULL: the reply says why. */
static struct sto_reader *reader_take(struct ctl *ctl, struct ctl_reply *reply)
{
	struct sto_reader *reader = NULL;
	int rc = sto_reader_open(&reader, ctl->config.data_dir);

	if (!rc) {
		rc = sto_reader_refresh(reader);
		rc = rc > 0 ? 0 : rc;
	}
	if (!rc)
		return reader;
	if (reader)
		sto_reader_close(reader);
	unreadable(reply, "manifest", rc);
	return NULL;
}

/* ---- the list ---- */

static json_t *hash_json(const struct sto_segment_info *info, const uint8_t hash[32])
{
	char text[HEX_BYTES];

	hex(hash, text);
	return info->hashed ? json_string(text) : json_null();
}

static json_t *time_json(bool known, uint64_t ms)
{
	char text[32];

	tp_time_text(ms, text);
	return known ? json_string(text) : json_null();
}

static json_t *segment_json(const struct sto_segment_info *info)
{
	char id[24];
	const bool stamped = info->to_ms != 0; /* not so with conflicts alone */

	snprintf(id, sizeof(id), "%016" PRIx64, info->sequence);
	return json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:I}", "id", id, "sequence",
			 (json_int_t)info->sequence, "rows", (json_int_t)info->rows, "bytes", (json_int_t)info->bytes, "from",
			 time_json(stamped, info->from_ms), "to", time_json(stamped, info->to_ms), "sealed",
			 time_json(true, info->sealed_ms), "sha256", hash_json(info, info->sha256), "prev_sha256",
			 hash_json(info, info->prev_sha256), "chain_sha256", hash_json(info, info->chain_sha256), "generation",
			 (int)info->generation, "late", (json_int_t)info->late);
}

/* A parameter of decimal digits. False: the reply says what is wrong. */
static bool number_param(const struct ctl_target *target, const char *name, uint64_t min, uint64_t max, uint64_t *number,
			 struct ctl_reply *reply)
{
	const struct ctl_text *text = ctl_target_param(target, name);

	if (!text)
		return true;
	char *end = NULL;
	errno = 0;
	unsigned long long value = strtoull(text->at, &end, 10);
	if (!text->bytes || text->at[strspn(text->at, "0123456789")] || errno || *end || value < min || value > max) {
		ctl_reply_problem(reply, 400, "bad-parameter", name,
				  "%s: expected a number from %" PRIu64 " to %" PRIu64 ", found \"%.40s\"", name, min, max,
				  text->at);
		return false;
	}
	*number = value;
	return true;
}

void ctl_pull_list(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	static const char *const names[] = {"after", "limit"};
	uint64_t after = 0, limit = LIMIT;

	if (!ctl_target_known(target, names, 2, reply) || !number_param(target, "after", 0, INT64_MAX, &after, reply) ||
	    !number_param(target, "limit", 1, LIMIT_MAX, &limit, reply))
		return;
	struct sto_reader *reader = reader_take(ctl, reply);
	if (!reader)
		return;
	json_t *items = json_array();
	uint64_t cursor = after;
	for (uint32_t i = 0; i < sto_reader_segments(reader) && json_array_size(items) < limit; i++) {
		const struct sto_segment_info *info = sto_reader_segment(reader, i);
		if (info->sequence <= after)
			continue;
		json_array_append_new(items, segment_json(info));
		cursor = info->sequence;
	}
	sto_reader_close(reader);
	ctl_reply_json(reply, json_pack("{s:o, s:I}", "items", items, "cursor", (json_int_t)cursor));
}

/* ---- the file ---- */

/* The segment with this sequence, opened. fd; -ENOENT: there is none (any more); -EBADMSG: it is not as it was published; -errno. */
static int segment_open(struct ctl *ctl, struct sto_reader *reader, uint64_t sequence, struct sto_segment_info *info)
{
	char path[PATH_BYTES], name[64];
	struct stat stat;

	for (uint32_t i = 0; i < sto_reader_segments(reader); i++) {
		const struct sto_segment_info *one = sto_reader_segment(reader, i);
		if (one->sequence != sequence)
			continue;
		*info = *one;
		sto_reader_segment_name(reader, i, name);
		if ((size_t)snprintf(path, sizeof(path), "%s/%s", ctl->config.data_dir, name) >= sizeof(path))
			return -ENAMETOOLONG;
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			return errno == ENOENT ? -ESTALE : -errno;
		if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && (uint64_t)stat.st_size == info->bytes)
			return fd;
		close(fd);
		return -EBADMSG;
	}
	return -ENOENT;
}

/* Headers that stand on every answer about the file. */
static void headers_set(struct ctl_reply *reply, const struct sto_segment_info *info, const char *etag)
{
	char digest[48];

	base64(info->sha256, digest);
	reply->cache = "private, no-cache"; /* to be kept, and asked about each time: archiving replaces files */
	ctl_reply_header(reply, "ETag", "%s", etag);
	ctl_reply_header(reply, "Accept-Ranges", "bytes");
	if (info->hashed)
		ctl_reply_header(reply, "Repr-Digest", "sha-256=:%s:", digest);
}

static void file_reply(const struct ctl_target *target, int fd, const struct sto_segment_info *info, struct ctl_reply *reply)
{
	char tag[TAG_BYTES], hash[HEX_BYTES];
	uint64_t first, last;

	hex(info->sha256, hash);
	if (info->hashed)
		snprintf(tag, sizeof(tag), "\"%s\"", hash);
	else
		snprintf(tag, sizeof(tag), "\"%" PRIx64 "-%u\"", info->sequence, info->generation);
	if (ctl_tag_listed(ctl_target_header(target, "If-None-Match"), tag)) {
		close(fd);
		reply->status = 304;
		reply->fixed = "";
		headers_set(reply, info, tag);
		return;
	}
	/* Range is of GET alone (RFC 9110 section 14.2) */
	const char *range = target->head || !ctl_range_counts(ctl_target_header(target, "If-Range"), tag)
				    ? NULL
				    : ctl_target_header(target, "Range");
	enum ctl_range kind = ctl_range_read(range, info->bytes, &first, &last);
	if (kind == CTL_RANGE_NONE) {
		close(fd);
		ctl_reply_problem(reply, 416, "range", NULL, "the file has %" PRIu64 " bytes", info->bytes);
		headers_set(reply, info, tag);
		ctl_reply_header(reply, "Content-Range", "bytes */%" PRIu64, info->bytes);
		return;
	}
	reply->stream = MHD_create_response_from_fd_at_offset64(last - first + 1, fd, first);
	if (!reply->stream) {
		close(fd);
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
		return;
	}
	reply->status = kind == CTL_RANGE_PART ? 206 : 200;
	reply->type = "application/octet-stream";
	headers_set(reply, info, tag);
	ctl_reply_header(reply, "Content-Disposition", "attachment; filename=\"%016" PRIx64 ".seg\"", info->sequence);
	if (kind == CTL_RANGE_PART)
		ctl_reply_header(reply, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first, last, info->bytes);
}

void ctl_pull_file(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	const struct ctl_text *id = &target->segment[target->segments - 1];
	struct sto_segment_info info;
	uint64_t sequence;
	int fd = -ENOENT;

	if (!ctl_target_known(target, NULL, 0, reply))
		return;
	if (ctl_pull_id(id->at, id->bytes, &sequence)) {
		struct sto_reader *reader = reader_take(ctl, reply);
		if (!reader)
			return;
		fd = segment_open(ctl, reader, sequence, &info);
		/* gone since the manifest was read: deleted, or archived under another name */
		for (int tries = 0; fd == -ESTALE && tries < TRIES_MAX; tries++)
			fd = sto_reader_refresh(reader) < 0 ? -EIO : segment_open(ctl, reader, sequence, &info);
		sto_reader_close(reader);
	}
	if (fd == -ENOENT || fd == -ESTALE)
		ctl_reply_problem(reply, 404, "not-found", NULL, "there is no such segment, or it has been deleted");
	else if (fd == -EBADMSG)
		ctl_reply_problem(reply, 500, "damaged", NULL, "the file of segment %" PRIu64 " is not as it was published",
				  sequence);
	else if (fd < 0)
		unreadable(reply, "segment", fd);
	else
		file_reply(target, fd, &info, reply);
}
