/*
 * Folders: see folder.h.
 */
#include "turnpike/folder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int tp_folder_make(const char *path, mode_t mode)
{
	char *copy = strdup(path);
	int rc = 0;

	if (!copy)
		return -ENOMEM;
	for (char *slash = copy + 1; rc == 0; slash++) {
		slash += strcspn(slash, "/");
		char was = *slash;
		*slash = '\0';
		if (mkdir(copy, mode) != 0 && errno != EEXIST)
			rc = -errno;
		*slash = was;
		if (was == '\0')
			break;
	}
	struct stat found;
	if (rc == 0 && (stat(path, &found) != 0 || !S_ISDIR(found.st_mode)))
		rc = -ENOTDIR;
	free(copy);
	return rc;
}
