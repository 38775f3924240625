/*
 * The folder of a benchmark that writes a log: gone when the benchmark fails or is ended, whatever it died of. The process that was started
 * holds the folder and waits; a child does the work, and dies with it.
 */
#ifndef TURNPIKE_BENCH_FOLDER_H
#define TURNPIKE_BENCH_FOLDER_H

/*
 * Makes `folder` if it is not there. Returns in the child, 0, or -1 with a message in the only process. Before any thread. What is removed after a failure: what is
 * called `names` (ended by NULL) in it, and the folder itself if it was made here.
 */
int bench_folder_hold(const char *folder, const char *const *names);

#endif
