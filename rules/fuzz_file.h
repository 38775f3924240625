/* A fuzzer's input as a file that has a path, in memory. */
#ifndef RULES_FUZZ_FILE_H
#define RULES_FUZZ_FILE_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct fuzz_file {
	int fd;
	char path[32];
};

static inline struct fuzz_file fuzz_file_open(const uint8_t *data, size_t size)
{
	struct fuzz_file file = {.fd = memfd_create("fuzz", MFD_CLOEXEC)};
	for (size_t have = 0; file.fd >= 0 && have < size;) {
		ssize_t n = write(file.fd, data + have, size - have);
		if (n <= 0)
			abort();
		have += (size_t)n;
	}
	if (file.fd < 0)
		abort();
	snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
	return file;
}

#endif
