/* The dashboard's files, put into the program at build time by web/embed.py. */
#ifndef TURNPIKE_CTL_WEB_H
#define TURNPIKE_CTL_WEB_H

#include <stddef.h>

struct ctl_asset {
	const char *name, *type, *etag;
	const unsigned char *bytes;
	size_t count;
};

extern const struct ctl_asset ctl_asset[];
extern const unsigned ctl_assets;

#endif
