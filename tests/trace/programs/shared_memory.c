/*
 * A process that shares its memory with another one, which is no thread of it: what the first takes the second frees.
 * With "late" the second is started under the trace.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "program.h"

#define STACK_BYTES (1 << 20)
#define BLOCKS 100

static void *_Atomic box;

SITE void take_and_hand_over(void)
{
	while (box)
		usleep(100);
	void *block = keep(malloc(3000));

	MUST(block);
	box = block;
}

SITE void free_what_is_handed_over(void)
{
	free(box);
	box = NULL;
}

static int consume(void *nothing)
{
	(void)nothing;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		if (box)
			free_what_is_handed_over();
		else
			usleep(100);
	}
	return 0;
}

static void start_consumer(void)
{
	char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(stack != MAP_FAILED);
	MUST(clone(consume, stack + STACK_BYTES, CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, NULL) > 0);
}

int main(int argc, char **argv)
{
	const int late = argc > 1 && !strcmp(argv[1], "late");

	if (!late)
		start_consumer();
	stop("ready");
	if (late) {
		start_consumer();
		stop("started");
	}
	for (int i = 0; i < BLOCKS; i++)
		take_and_hand_over();
	while (box)
		usleep(100);
	stop("done");
	return 0;
}
