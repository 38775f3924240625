/* See bench_folder.h. */
#include "bench_folder.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path);
}

static void folder_clear(const char *folder, const char *const *names, bool made)
{
	char path[4096];
	for (; *names; names++) {
		snprintf(path, sizeof(path), "%s/%s", folder, *names);
		nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	}
	if (made)
		rmdir(folder);
}

int bench_folder_hold(const char *folder, const char *const *names)
{
	const bool made = mkdir(folder, 0700) == 0;
	if (!made && errno != EEXIST) {
		fprintf(stderr, "cannot make %s: %s\n", folder, strerror(errno));
		return -1;
	}
	sigset_t ended, before;
	sigemptyset(&ended);
	sigaddset(&ended, SIGINT);
	sigaddset(&ended, SIGTERM);
	sigaddset(&ended, SIGHUP);
	sigaddset(&ended, SIGCHLD);
	sigprocmask(SIG_BLOCK, &ended, &before);
	const pid_t self = getpid(), child = fork();
	if (child < 0) {
		fprintf(stderr, "cannot fork: %s\n", strerror(errno));
		return -1;
	}
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != self)
			_exit(1); /* it died before that took hold */
		sigprocmask(SIG_SETMASK, &before, NULL);
		return 0;
	}
	int status, number = 0;
	for (;;) {
		sigwait(&ended, &number);
		if (number != SIGCHLD) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			break;
		}
		if (waitpid(child, &status, WNOHANG) == child && (WIFEXITED(status) || WIFSIGNALED(status)))
			break;
	}
	const bool well = number == SIGCHLD && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	if (!well)
		folder_clear(folder, names, made);
	exit(well ? 0 : number != SIGCHLD ? 128 + number : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
