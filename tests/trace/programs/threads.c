/* Blocks that one thread takes and another frees, a thread that ends with blocks it holds, and many short threads. */
#include <pthread.h>

#include "program.h"

#define BLOCKS 1000
#define SHORT_THREADS 10000
#define AT_A_TIME 4

static void *handed_over[BLOCKS];
static pthread_barrier_t handed;

SITE void takes(void)
{
	for (int i = 0; i < BLOCKS; i++)
		MUST(handed_over[i] = malloc(200));
}

SITE void frees_of_another(void)
{
	for (int i = 0; i < BLOCKS - 100; i++)
		free(handed_over[i]);
}

/* A block of another thread's arena, and one with a mapping of its own. */
SITE void reallocs_of_another(void)
{
	for (int i = BLOCKS - 100; i < BLOCKS - 50; i++)
		MUST(handed_over[i] = realloc(handed_over[i], i % 2 ? 300 : 1 << 20));
}

static void *taker(void *unused)
{
	takes();
	pthread_barrier_wait(&handed);
	return unused;
}

static void *freer(void *unused)
{
	pthread_barrier_wait(&handed);
	frees_of_another();
	reallocs_of_another();
	return unused;
}

SITE void holds_at_its_end(void)
{
	for (int i = 0; i < 10; i++)
		MUST(keep(malloc(1234)));
}

static void *forgetful(void *unused)
{
	holds_at_its_end();
	return unused;
}

SITE void *taken_in_short_thread(void)
{
	return keep(malloc(32));
}

SITE void kept_by_short_thread(void)
{
	MUST(keep(malloc(24)));
}

static void *short_thread(void *number)
{
	free(taken_in_short_thread());
	if ((size_t)number % 10 == 0)
		kept_by_short_thread();
	return NULL;
}

static pthread_t begin(void *(*body)(void *), void *argument)
{
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, body, argument) == 0);
	return thread;
}

static void end(pthread_t thread)
{
	MUST(pthread_join(thread, NULL) == 0);
}

int main(void)
{
	pthread_barrier_init(&handed, NULL, 2);
	stop("ready");
	pthread_t first = begin(taker, NULL), second = begin(freer, NULL);
	end(first);
	end(second);
	end(begin(forgetful, NULL));
	stop("handed over");
	for (size_t i = 0; i < SHORT_THREADS; i += AT_A_TIME) {
		pthread_t threads[AT_A_TIME];

		for (size_t j = 0; j < AT_A_TIME; j++)
			threads[j] = begin(short_thread, (void *)(i + j));
		for (size_t j = 0; j < AT_A_TIME; j++)
			end(threads[j]);
	}
	stop("done");
	return 0;
}
