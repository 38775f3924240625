/*
 * Hugepages: see hugepages.h. Source: kernel documentation Documentation/admin-guide/mm/hugetlbpage.rst.
 */
#include "hugepages.h"

#include "turnpike/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_FOLDER   "hugepages-2048kB"
#define RECORD_PREFIX "hugepages."

enum { PAGE_BYTES = 2 << 20, PATH_BYTES = 512, RECORD_BYTES = 64 };
enum { SURPLUS_WAITS = 50, SURPLUS_WAIT_US = 10000 };

void dp_hugepages_init(struct dp_hugepages *hugepages)
{
	*hugepages = (struct dp_hugepages){
		.sysfs = "/sys/kernel/mm/hugepages",
		.run = "/run/turnpike",
		.compact = "/proc/sys/vm/compact_memory",
		.folder_fd = -1,
		.record_fd = -1,
	};
}

static int number_read(const char *sysfs, const char *folder, const char *name, uint64_t *value)
{
	char path[PATH_BYTES];
	FILE *file;
	int matched;

	snprintf(path, sizeof(path), "%s/%s/%s", sysfs, folder, name);
	file = fopen(path, "re");
	if (file == NULL)
		return -errno;
	matched = fscanf(file, "%" SCNu64, value);
	fclose(file);
	return matched == 1 ? 0 : -EINVAL;
}

static int number_write(const char *path, uint64_t value)
{
	char text[24];
	const int bytes = snprintf(text, sizeof(text), "%" PRIu64, value);
	const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, (size_t)bytes) != bytes)
		result = errno != 0 ? -errno : -EIO;
	close(fd);
	return result;
}

/*
 * The pages that the machine keeps: what one writes to nr_hugepages. What one reads there counts surplus pages too, those that were
 * given back while still mapped and go with their last user.
 */
static int pages_total(const struct dp_hugepages *hugepages, uint64_t *pages)
{
	uint64_t surplus = 0;
	const int result = number_read(hugepages->sysfs, PAGE_FOLDER, "nr_hugepages", pages);

	number_read(hugepages->sysfs, PAGE_FOLDER, "surplus_hugepages", &surplus);
	if (result == 0)
		*pages -= surplus < *pages ? surplus : *pages;
	return result;
}

/* An AF_XDP socket lets go of its pages a moment after its process has ended; asking for more would make them stay for good. */
static void surplus_wait(const struct dp_hugepages *hugepages)
{
	uint64_t surplus = 0;

	for (int i = 0; i < SURPLUS_WAITS; i++) {
		if (number_read(hugepages->sysfs, PAGE_FOLDER, "surplus_hugepages", &surplus) != 0 || surplus == 0)
			return;
		usleep(SURPLUS_WAIT_US);
	}
}

static int pages_total_set(const struct dp_hugepages *hugepages, uint64_t pages)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/%s/nr_hugepages", hugepages->sysfs, PAGE_FOLDER);
	return number_write(path, pages);
}

/* Bytes in free pages of every size that nobody has a claim on. */
static uint64_t free_bytes(const struct dp_hugepages *hugepages)
{
	DIR *folder = opendir(hugepages->sysfs);
	uint64_t bytes = 0;

	if (folder == NULL)
		return 0;
	for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
		uint64_t kib, pages, claimed;

		if (sscanf(entry->d_name, "hugepages-%" SCNu64 "kB", &kib) != 1)
			continue;
		if (number_read(hugepages->sysfs, entry->d_name, "free_hugepages", &pages) != 0)
			continue;
		if (number_read(hugepages->sysfs, entry->d_name, "resv_hugepages", &claimed) != 0)
			claimed = 0;
		if (pages > claimed)
			bytes += (pages - claimed) * kib * 1024;
	}
	closedir(folder);
	return bytes;
}

static void pages_give(const struct dp_hugepages *hugepages, uint64_t pages)
{
	uint64_t total;

	if (pages == 0 || pages_total(hugepages, &total) != 0)
		return;
	pages_total_set(hugepages, total > pages ? total - pages : 0);
}

/* Takes the folder's lock. Who leaves last removes the folder, so after waiting for the lock it may be gone: then again. */
static int folder_lock(struct dp_hugepages *hugepages)
{
	for (int attempt = 0; attempt < 8; attempt++) {
		struct stat held, named;
		int fd;

		if (mkdir(hugepages->run, 0755) != 0 && errno != EEXIST)
			return -errno;
		fd = open(hugepages->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX) == 0 && fstat(fd, &held) == 0 && stat(hugepages->run, &named) == 0 &&
		    held.st_ino == named.st_ino && held.st_dev == named.st_dev) {
			hugepages->folder_fd = fd;
			return 0;
		}
		close(fd);
	}
	return -EAGAIN;
}

static void folder_unlock(struct dp_hugepages *hugepages)
{
	if (hugepages->folder_fd < 0)
		return;
	if (hugepages->record_fd < 0)
		rmdir(hugepages->run); /* stays while others have records in it */
	close(hugepages->folder_fd);
	hugepages->folder_fd = -1;
}

static int record_write(const struct dp_hugepages *hugepages, const char *verb, uint64_t pages, uint64_t before)
{
	char text[RECORD_BYTES];
	const int bytes = snprintf(text, sizeof(text), "%s %" PRIu64 " %" PRIu64 "\n", verb, pages, before);

	if (ftruncate(hugepages->record_fd, 0) != 0 || pwrite(hugepages->record_fd, text, (size_t)bytes, 0) != bytes)
		return errno != 0 ? -errno : -EIO;
	return 0;
}

static void record_name(char name[static 32])
{
	snprintf(name, 32, RECORD_PREFIX "%d", (int)getpid());
}

static int record_open(struct dp_hugepages *hugepages)
{
	char name[32];
	int fd;

	record_name(name);
	fd = openat(hugepages->folder_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	hugepages->record_fd = fd;
	return 0;
}

static void record_remove(struct dp_hugepages *hugepages)
{
	char name[32];

	record_name(name);
	unlinkat(hugepages->folder_fd, name, 0);
	close(hugepages->record_fd);
	hugepages->record_fd = -1;
}

/* How many pages a killed process left, by its record. One that was killed while asking may have got none of them. */
static uint64_t record_pages(const struct dp_hugepages *hugepages, int fd)
{
	char text[RECORD_BYTES] = "", verb[8];
	uint64_t pages, before, total;

	if (pread(fd, text, sizeof(text) - 1, 0) <= 0 || sscanf(text, "%7s %" SCNu64 " %" SCNu64, verb, &pages, &before) != 3)
		return 0;
	if (strcmp(verb, "added") == 0)
		return pages;
	if (pages_total(hugepages, &total) != 0 || total <= before)
		return 0;
	return total - before < pages ? total - before : pages;
}

/* Gives back what killed processes left. With the folder's lock. */
static void stale_give(struct dp_hugepages *hugepages)
{
	const int fd = dup(hugepages->folder_fd);
	DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;

	if (folder == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	rewinddir(folder);
	for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
		uint64_t pages;
		int record;

		if (strncmp(entry->d_name, RECORD_PREFIX, strlen(RECORD_PREFIX)) != 0)
			continue;
		record = openat(hugepages->folder_fd, entry->d_name, O_RDONLY | O_CLOEXEC);
		if (record < 0)
			continue;
		if (flock(record, LOCK_EX | LOCK_NB) == 0) {
			pages = record_pages(hugepages, record);
			/* The record goes first: to be killed here costs pages, the other order somebody else's pages. */
			unlinkat(hugepages->folder_fd, entry->d_name, 0);
			pages_give(hugepages, pages);
			tp_logf(TP_INFO, "gave back hugepages that a killed process left", "pages=%" PRIu64 " record=%s", pages,
				entry->d_name);
		}
		close(record);
	}
	closedir(folder);
}

/* Asks the kernel for more pages; returns with what it gave in hugepages->added. */
static int pages_add(struct dp_hugepages *hugepages, uint64_t lack)
{
	uint64_t before, after;
	int result = pages_total(hugepages, &before);

	if (result == 0)
		result = record_write(hugepages, "adding", lack, before);
	if (result == 0)
		result = pages_total_set(hugepages, before + lack);
	if (result != 0)
		return result;
	result = pages_total(hugepages, &after);
	if (result == 0 && after < before + lack && hugepages->compact != NULL) {
		/* Free memory may just lie in too small pieces. */
		number_write(hugepages->compact, 1);
		pages_total_set(hugepages, before + lack);
		result = pages_total(hugepages, &after);
	}
	if (result != 0)
		return result;
	hugepages->added = after > before ? after - before : 0;
	if (hugepages->added > lack)
		hugepages->added = lack;
	return record_write(hugepages, "added", hugepages->added, 0);
}

static void lack_log(const struct dp_hugepages *hugepages, uint64_t bytes, uint64_t have, int error)
{
	const uint64_t lack = bytes > have ? (bytes - have + PAGE_BYTES - 1) / PAGE_BYTES : 0;
	uint64_t total = 0;

	pages_total(hugepages, &total);
	tp_logf(TP_ERROR, "not enough hugepages for DPDK, and none could be added",
		"need_mib=%" PRIu64 " free_mib=%" PRIu64 " error=\"%s\" command=\"echo %" PRIu64 " > %s/" PAGE_FOLDER
		"/nr_hugepages\"",
		bytes >> 20, have >> 20, strerror(error), total + lack, hugepages->sysfs);
}

int dp_hugepages_take(struct dp_hugepages *hugepages, uint64_t bytes)
{
	uint64_t have;
	int result = folder_lock(hugepages);

	if (result == 0)
		stale_give(hugepages);
	surplus_wait(hugepages);
	have = free_bytes(hugepages);
	if (have >= bytes)
		return 0; /* without the folder's lock too: then all pages are the machine's own */
	if (result == 0)
		result = record_open(hugepages);
	if (result == 0)
		result = pages_add(hugepages, (bytes - have + PAGE_BYTES - 1) / PAGE_BYTES);
	have = free_bytes(hugepages);
	if (result == 0 && have >= bytes) {
		tp_logf(TP_INFO, "added hugepages", "pages=%" PRIu64 " size=2MiB", hugepages->added);
		return 0;
	}
	if (result == 0)
		result = -ENOMEM;
	dp_hugepages_give(hugepages);
	lack_log(hugepages, bytes, free_bytes(hugepages), -result);
	return result;
}

void dp_hugepages_settle(struct dp_hugepages *hugepages)
{
	folder_unlock(hugepages);
}

void dp_hugepages_give(struct dp_hugepages *hugepages)
{
	if (hugepages->folder_fd < 0 && hugepages->record_fd < 0)
		return;
	if (hugepages->folder_fd < 0 && folder_lock(hugepages) != 0) {
		/* The record stays and its lock goes: the next start does it. */
		close(hugepages->record_fd);
		hugepages->record_fd = -1;
		return;
	}
	if (hugepages->record_fd >= 0)
		record_remove(hugepages);
	pages_give(hugepages, hugepages->added);
	hugepages->added = 0;
	folder_unlock(hugepages);
}
