/*
 * Coroutines on stacks of their own, above and below the thread's, that change over in the midst of nested calls. At its
 * second stop it says how many blocks, and of how many bytes, were kept.
 */
#include <sys/mman.h>
#include <ucontext.h>

#include "program.h"

#define COROUTINES 16
#define STACK_BYTES 65536
#define TURNS 4000

static ucontext_t thread, coroutines[COROUTINES];
static long kept_blocks, kept_bytes;
static int ending;

SITE void keeps(size_t bytes)
{
	MUST(keep(malloc(bytes)));
	kept_blocks++;
	kept_bytes += (long)bytes;
}

SITE void *takes(size_t bytes)
{
	return keep(malloc(bytes));
}

static void yield(int self)
{
	MUST(swapcontext(&coroutines[self], &thread) == 0);
}

SITE void nest(int self, int depth, unsigned *seed)
{
	volatile char frame[100];

	memset((char *)frame, depth, sizeof(frame));
	void *block = takes(100 + (size_t)rand_r(seed) % 5000);

	if (depth) {
		nest(self, depth - 1, seed);
	} else {
		yield(self);
		if (rand_r(seed) % 4 == 0)
			keeps(1000 + (size_t)rand_r(seed) % 1000);
		yield(self);
	}
	block = realloc(block, 6000);
	if (depth % 3 == 0)
		yield(self);
	free(block);
}

static void serve(int self)
{
	unsigned seed = (unsigned)self + 1;

	while (!ending)
		nest(self, rand_r(&seed) % 10, &seed);
	for (;;)
		yield(self);
}

int main(void)
{
	for (int i = 0; i < COROUTINES; i++) {
		void *stack = i % 2 ? malloc(STACK_BYTES)
				    : mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		MUST(stack && stack != MAP_FAILED && getcontext(&coroutines[i]) == 0);
		coroutines[i].uc_stack.ss_sp = stack;
		coroutines[i].uc_stack.ss_size = STACK_BYTES;
		makecontext(&coroutines[i], (void (*)(void))serve, 1, i);
	}
	stop("ready");
	unsigned seed = 1;

	for (int i = 0; i < TURNS; i++)
		MUST(swapcontext(&thread, &coroutines[rand_r(&seed) % COROUTINES]) == 0);
	ending = 1;
	for (int round = 0; round < 40; round++) /* every one has come to its end by then */
		for (int i = 0; i < COROUTINES; i++)
			MUST(swapcontext(&thread, &coroutines[i]) == 0);
	char line[64];

	snprintf(line, sizeof(line), "%ld %ld", kept_blocks, kept_bytes);
	stop(line);
	return 0;
}
