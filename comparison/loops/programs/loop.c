/* SPDX-License-Identifier: MIT */
/*
 * loop SIZE THREADS SECONDS: allocates and frees blocks of SIZE on THREADS threads.
 *
 * Prints "ready" and waits for a line, so that a tracer can be attached. Then it loops, keeps KEPT blocks, prints the
 * processor time of one pair in ns and the bytes that it keeps, and waits for another line.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEPT 1000
#define BATCH 256

static size_t size;
static _Atomic int stop;
static _Atomic long pairs;

__attribute__((noinline)) static void *take(void)
{
	void *block = malloc(size);

	__asm__ volatile("" ::"r"(block) : "memory");
	return block;
}

__attribute__((noinline)) void *keep_block(void)
{
	void *block = malloc(size);

	__asm__ volatile("" ::"r"(block) : "memory");
	return block;
}

static void *work(void *unused)
{
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		for (int i = 0; i < BATCH; i++)
			free(take());
		atomic_fetch_add_explicit(&pairs, BATCH, memory_order_relaxed);
	}
	return unused;
}

static double cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	size = strtoul(argv[1], NULL, 10);
	const int threads = atoi(argv[2]);
	const double seconds = atof(argv[3]);
	const struct timespec duration = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
	pthread_t thread[threads];

	puts("ready");
	fflush(stdout);
	getchar();
	const double began = cpu_ns();
	for (int i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, work, NULL);
	nanosleep(&duration, NULL);
	atomic_store(&stop, 1);
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	const double spent = cpu_ns() - began;
	for (int i = 0; i < KEPT; i++)
		keep_block();
	printf("%.2f %zu\n", spent / (double)pairs, KEPT * size);
	fflush(stdout);
	getchar();
	return 0;
}
