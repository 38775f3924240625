/*
 * Whether a backup and a data folder lie apart. One inside the other would be backed up, cleared away or deleted along with it.
 *
 * Threads: any; all state is local.
 */
#include "backup.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The real path of `path`, of which the last parts need not exist yet. 0 or -errno. */
static int real_path(const char *path, char to[PATH_MAX])
{
	char part[PATH_MAX];
	size_t length = strlen(path);
	if (length >= sizeof(part))
		return -ENAMETOOLONG;
	memcpy(part, path, length + 1);
	/* Cut parts off from the end until what is left exists; an empty rest is the working folder, or the root. */
	while (!realpath(*part ? part : path[0] == '/' ? "/" : ".", to)) {
		if (errno != ENOENT)
			return -errno;
		while (length && part[length - 1] == '/')
			length--;
		while (length && part[length - 1] != '/')
			length--;
		part[length] = 0;
	}
	const char *rest = path + length;
	size_t had = strlen(to);
	if (!*rest)
		return 0;
	if (had + 1 + strlen(rest) >= PATH_MAX)
		return -ENAMETOOLONG;
	if (had > 1)
		to[had++] = '/';
	strcpy(to + had, rest);
	return 0;
}

/* True if `path` is `folder` or lies below it. */
static bool lies_in(const char *path, const char *folder)
{
	size_t length = strlen(folder);
	while (length > 1 && folder[length - 1] == '/')
		length--;
	return !strncmp(path, folder, length) && (!path[length] || path[length] == '/' || length == 1);
}

int backup_places_apart(const char *one, const char *other)
{
	char a[PATH_MAX], b[PATH_MAX];
	int rc = real_path(one, a);
	if (!rc)
		rc = real_path(other, b);
	return rc ? rc : lies_in(a, b) || lies_in(b, a) ? -EINVAL : 0;
}
