/*
 * Worker threads that run handlers, and the queue before them. Jobs wait in lanes, by who asks; the lanes are served in turn, so that one
 * who asks much waits for himself. Source: McKenney, Stochastic Fairness Queueing, INFOCOM 1990.
 */
#ifndef TURNPIKE_CTL_HTTP_POOL_H
#define TURNPIKE_CTL_HTTP_POOL_H

#include <stdbool.h>
#include <stdint.h>

enum { CTL_WORKERS = 6, CTL_LANES = 64, CTL_LANE_JOBS_MAX = 128 };

/* Lies in what is to be done. */
struct ctl_job {
	struct ctl_job *next;
	void (*run)(struct ctl_job *job);
};

struct ctl_pool;

int ctl_pool_open(struct ctl_pool **pool); /* 0 or -errno */
/* What waits still runs; then the threads end. From its beginning on nothing more is taken. */
void ctl_pool_close(struct ctl_pool *pool);
/* False: the lane of `who` is full, or the pool closes. Else job->run() is called by a worker, once. */
bool ctl_pool_put(struct ctl_pool *pool, struct ctl_job *job, uint64_t who);

#endif
