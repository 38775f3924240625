/* The workers; see ctl_http_pool.h. `lock` guards all of it. */
#include "ctl_http_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct lane {
	struct ctl_job *first, *last;
	uint32_t jobs;
};

struct ctl_pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	bool stopping;
	uint32_t jobs; /* in all lanes */
	uint32_t turn; /* the lane that was served last */
	uint32_t workers;
	struct lane lane[CTL_LANES];
	pthread_t worker[CTL_WORKERS];
};

/* With the lock, and jobs > 0. */
static struct ctl_job *next_take(struct ctl_pool *pool)
{
	do
		pool->turn = (pool->turn + 1) % CTL_LANES;
	while (pool->lane[pool->turn].jobs == 0);
	struct lane *lane = &pool->lane[pool->turn];
	struct ctl_job *job = lane->first;
	lane->first = job->next;
	lane->jobs--;
	pool->jobs--;
	return job;
}

static void *worker_run(void *context)
{
	struct ctl_pool *pool = context;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (pool->jobs == 0 && !pool->stopping)
			pthread_cond_wait(&pool->work, &pool->lock);
		if (pool->jobs == 0)
			break;
		struct ctl_job *job = next_take(pool);
		pthread_mutex_unlock(&pool->lock);
		job->run(job); /* which may be gone when it returns */
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

int ctl_pool_open(struct ctl_pool **out)
{
	struct ctl_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	while (pool->workers < CTL_WORKERS) {
		int rc = pthread_create(&pool->worker[pool->workers], NULL, worker_run, pool);
		if (rc != 0) {
			ctl_pool_close(pool);
			return -rc;
		}
		pool->workers++;
	}
	*out = pool;
	return 0;
}

void ctl_pool_close(struct ctl_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (uint32_t i = 0; i < pool->workers; i++)
		pthread_join(pool->worker[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

bool ctl_pool_put(struct ctl_pool *pool, struct ctl_job *job, uint64_t who)
{
	struct lane *lane = &pool->lane[who % CTL_LANES];

	pthread_mutex_lock(&pool->lock);
	bool fits = lane->jobs < CTL_LANE_JOBS_MAX && !pool->stopping;
	if (fits) {
		job->next = NULL;
		if (lane->jobs++)
			lane->last->next = job;
		else
			lane->first = job;
		lane->last = job;
		pool->jobs++;
		pthread_cond_signal(&pool->work);
	}
	pthread_mutex_unlock(&pool->lock);
	return fits;
}
