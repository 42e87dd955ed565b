/*
 * Threads that are at it when the tracer comes: blocks and mappings, taken, resized and given back all the time. On
 * request they give back everything and rest; then the program goes on.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "program.h"

#define THREADS 3
#define HELD 32
#define PAGE ((size_t)4096)

static atomic_int resting;
static pthread_barrier_t barrier;

SITE void *busy_malloc(size_t bytes)
{
	return keep(malloc(bytes));
}

SITE void *busy_realloc(void *old, size_t bytes)
{
	return keep(realloc(old, bytes));
}

SITE void *busy_reallocarray(void *old, size_t bytes)
{
	return keep(reallocarray(old, 2, bytes));
}

SITE void *busy_memalign(size_t bytes)
{
	return keep(aligned_alloc(64, bytes));
}

SITE void *busy_mmap(void)
{
	return mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

SITE void *busy_mremap(void *old)
{
	return mremap(old, 2 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
}

/* Taken in one turn, resized in the next, given back in the last. */
static void turn(void **blocks, void **mapping, unsigned round)
{
	size_t bytes = 16 + round % 997;

	for (int i = 0; i < HELD; i++)
		blocks[i] = i % 2 ? busy_malloc(bytes) : busy_memalign(bytes);
	for (int i = 0; i < HELD; i++)
		blocks[i] = i % 4 ? busy_realloc(blocks[i], 2 * bytes) : busy_reallocarray(blocks[i], bytes);
	if (*mapping)
		MUST(munmap(*mapping, 5 * PAGE) == 0);
	MUST((*mapping = busy_mmap()) != MAP_FAILED);
	MUST((*mapping = busy_mremap(*mapping)) != MAP_FAILED);
	for (int i = 0; i < HELD; i++)
		free(blocks[i]);
}

static void *work(void *unused)
{
	void *blocks[HELD], *mapping = NULL;

	for (;;) {
		for (unsigned round = 0; !atomic_load(&resting); round++)
			turn(blocks, &mapping, round);
		if (mapping)
			munmap(mapping, 5 * PAGE);
		mapping = NULL;
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
	}
	return unused;
}

SITE void kept_afterwards(void)
{
	MUST(keep(malloc(321)));
}

int main(void)
{
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_create(&thread, NULL, work, NULL) == 0);
	for (;;) {
		stop("busy");
		atomic_store(&resting, 1);
		pthread_barrier_wait(&barrier);
		kept_afterwards();
		stop("resting");
		atomic_store(&resting, 0);
		pthread_barrier_wait(&barrier);
	}
}
