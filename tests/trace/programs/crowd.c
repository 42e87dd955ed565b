/* Many threads that take, give back and keep at once. */
#include <pthread.h>

#include "program.h"

#define THREADS 200
#define TURNS 100

SITE void keeps(void)
{
	MUST(keep(malloc(300)));
}

SITE void gives_back(int i)
{
	free(keep(malloc(64 + (size_t)i)));
}

SITE void moves(void)
{
	void *block = keep(malloc(10));

	free(keep(realloc(block, 90000)));
}

static pthread_barrier_t together;

static void *serve(void *nothing)
{
	pthread_barrier_wait(&together);
	for (int i = 0; i < TURNS; i++) {
		keeps();
		gives_back(i);
		moves();
	}
	return nothing;
}

int main(void)
{
	pthread_t threads[THREADS];
	pthread_attr_t small;

	MUST(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 65536) == 0);
	MUST(pthread_barrier_init(&together, NULL, THREADS) == 0);
	stop("ready");
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], &small, serve, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_join(threads[i], NULL) == 0);
	stop("done");
	return 0;
}
