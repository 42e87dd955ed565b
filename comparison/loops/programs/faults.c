/* SPDX-License-Identifier: MIT */
/*
 * faults ROUNDS: maps, touches and unmaps 64 MiB, again and again; nearly all of its time is page faults.
 *
 * Prints "ready", waits for a line, and prints the processor time of one fault in ns.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define BYTES (64UL << 20)
#define PAGE 4096UL

int main(int argc, char **argv)
{
	struct timespec began, ended;
	const long rounds = argc > 1 ? atol(argv[1]) : 1;

	puts("ready");
	fflush(stdout);
	getchar();
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
	for (long round = 0; round < rounds; round++) {
		volatile char *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED)
			return 1;
		madvise((void *)memory, BYTES, MADV_NOHUGEPAGE);
		for (unsigned long at = 0; at < BYTES; at += PAGE)
			memory[at] = 1;
		munmap((void *)memory, BYTES);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
	const double ns = (double)(ended.tv_sec - began.tv_sec) * 1e9 + (double)(ended.tv_nsec - began.tv_nsec);
	printf("%.2f\n", ns / (double)rounds / (BYTES / PAGE));
	return 0;
}
