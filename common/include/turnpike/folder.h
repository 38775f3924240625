/*
 * Folders of our own. Cold code.
 */
#ifndef TURNPIKE_FOLDER_H
#define TURNPIKE_FOLDER_H

#include <sys/types.h>

/* Makes the folder and what leads to it, where they are missing. 0 or -errno; -ENOTDIR: something else is there. */
int tp_folder_make(const char *path, mode_t mode);

#endif
