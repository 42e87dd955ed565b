/*
 * A signal handler runs on an alternate stack, above or below its thread's, while an allocator call is under way, and maps
 * memory. posix_memalign is that call: it stores its result in a page without access, whose fault is the signal.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#define TIMES 100
#define STACK_BYTES (1 << 20)

static void **page;

SITE void handler_keeps(void)
{
	MUST(keep(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
}

SITE void handler_unmaps(void)
{
	void *mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(mapped != MAP_FAILED);
	MUST(munmap(mapped, 8192) == 0);
}

static void handle(int number)
{
	(void)number;
	handler_keeps();
	handler_unmaps();
	MUST(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
}

SITE void interrupted_takes(void)
{
	MUST(mprotect(page, 4096, PROT_NONE) == 0);
	MUST(posix_memalign(page, 64, 300) == 0);
	keep(*page);
}

SITE void uninterrupted_takes(void)
{
	MUST(keep(malloc(70)));
}

static void *work(void *stack)
{
	stack_t alternate = {.ss_sp = stack, .ss_size = STACK_BYTES};

	MUST(sigaltstack(&alternate, NULL) == 0);
	for (int i = 0; i < TIMES; i++) {
		interrupted_takes();
		uninterrupted_takes();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
	char *stacks = mmap(NULL, 3 * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attributes;
	pthread_t thread;

	MUST(argc == 2 && stacks != MAP_FAILED);
	const int above = !strcmp(argv[1], "above");
	MUST(above || !strcmp(argv[1], "below"));
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(page != MAP_FAILED);
	MUST(sigaction(SIGSEGV, &action, NULL) == 0);
	MUST(pthread_attr_init(&attributes) == 0);
	MUST(pthread_attr_setstack(&attributes, stacks + (above ? 0 : 2 * STACK_BYTES), STACK_BYTES) == 0);
	stop("ready");
	MUST(pthread_create(&thread, &attributes, work, stacks + (above ? 2 * STACK_BYTES : 0)) == 0);
	MUST(pthread_join(thread, NULL) == 0);
	stop("done");
	return 0;
}
