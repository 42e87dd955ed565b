/* SPDX-License-Identifier: MIT */
/*
 * Waits for a line on stdin, calls every function of the allocator from a function of its own name, says so on stdout,
 * and waits for the end of stdin. What each of them takes and gives back is in program.py.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CASE __attribute__((noinline, noclone, used))
#define KEEP_CALL() __asm__ volatile("" ::: "memory")
#define THREADS 4
#define PAIRS 2000

static void *volatile sink;
static volatile size_t large = 1ULL << 32; /* volatile: the compiler would object to the product */
static pthread_barrier_t paired;

CASE void by_malloc(void) { sink = malloc(1000); KEEP_CALL(); }
CASE void by_malloc_of_nothing(void) { sink = malloc(0); KEEP_CALL(); }
CASE void by_malloc_of_a_mapping(void) { sink = malloc(1 << 20); KEEP_CALL(); }
CASE void by_malloc_that_fails(void) { sink = malloc(PTRDIFF_MAX); KEEP_CALL(); }
CASE void by_calloc(void) { sink = calloc(30, 100); KEEP_CALL(); }
CASE void by_aligned_alloc(void) { sink = aligned_alloc(64, 4096); KEEP_CALL(); }
CASE void by_memalign(void) { sink = memalign(128, 5000); KEEP_CALL(); }
CASE void by_valloc(void) { sink = valloc(6000); KEEP_CALL(); }
CASE void by_pvalloc(void) { sink = pvalloc(7000); KEEP_CALL(); }
CASE void by_reallocarray(void) { sink = reallocarray(NULL, 80, 100); KEEP_CALL(); }
CASE void by_posix_memalign(void) { void *block; if (!posix_memalign(&block, 256, 9000)) sink = block; KEEP_CALL(); }
CASE void by_posix_memalign_that_fails(void) { void *block; if (!posix_memalign(&block, 3, 9000)) sink = block; KEEP_CALL(); }

CASE void *taken_to_grow(void) { sink = malloc(100); KEEP_CALL(); return sink; }
CASE void by_realloc(void *old) { sink = realloc(old, 200000); KEEP_CALL(); }

CASE void *taken_to_stay(void) { sink = malloc(300); KEEP_CALL(); return sink; }
CASE void by_realloc_that_fails(void *old) { sink = realloc(old, PTRDIFF_MAX); KEEP_CALL(); }

CASE void *taken_to_stay_too(void) { sink = malloc(500); KEEP_CALL(); return sink; }
CASE void by_reallocarray_that_overflows(void *old) { sink = reallocarray(old, large, large); KEEP_CALL(); }

CASE void *taken_to_vanish(void) { sink = malloc(400); KEEP_CALL(); return sink; }
CASE void by_realloc_to_nothing(void *old) { sink = realloc(old, 0); KEEP_CALL(); }

CASE void *mapped(void) { sink = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); KEEP_CALL(); return sink; }
CASE void by_mremap(void *old) { sink = mremap(old, 1 << 16, 1 << 18, MREMAP_MAYMOVE); KEEP_CALL(); }
CASE void by_mmap_that_fails(void) { sink = mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); KEEP_CALL(); }
CASE void *mapped_for_a_while(void) { sink = mmap(NULL, 1 << 14, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); KEEP_CALL(); return sink; }

CASE void *pairs(void *nothing)
{
	for (int i = 0; i < PAIRS; i++) {
		void *volatile block = malloc(64 + i % 64);
		free(block);
	}
	pthread_barrier_wait(&paired);
	/* A thread that has ended has no names for its addresses in older tools. */
	for (;;)
		pause();
	return nothing;
}

int main(void)
{
	pthread_t threads[THREADS];

	if (getchar() == EOF)
		return 1;
	by_malloc();
	by_malloc_of_nothing();
	by_malloc_of_a_mapping();
	by_malloc_that_fails();
	by_calloc();
	by_aligned_alloc();
	by_memalign();
	by_valloc();
	by_pvalloc();
	by_reallocarray();
	by_posix_memalign();
	by_posix_memalign_that_fails();
	by_realloc(taken_to_grow());
	by_realloc_that_fails(taken_to_stay());
	by_reallocarray_that_overflows(taken_to_stay_too());
	by_realloc_to_nothing(taken_to_vanish());
	by_mremap(mapped());
	by_mmap_that_fails();
	munmap(mapped_for_a_while(), 1 << 14);
	free(NULL);
	pthread_barrier_init(&paired, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, pairs, NULL);
	pthread_barrier_wait(&paired);
	puts("done");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
