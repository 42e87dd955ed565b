/* A timer's signal that interrupts allocator calls anywhere, on the thread's stack or on one of its own. */
#include <signal.h>
#include <sys/time.h>

#include "program.h"

#define ROUNDS 20000

static volatile sig_atomic_t handled;

static void handler(int number)
{
	(void)number;
	handled++;
}

SITE void interrupted(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		void *block = malloc(i % 700);
		block = realloc(block, i % 900 + 1);
		free(block);
	}
}

SITE void interrupted_and_kept(void)
{
	for (int i = 0; i < ROUNDS; i++)
		MUST(keep(calloc(1, 50)));
}

int main(int argc, char **argv)
{
	static char other_stack[1 << 16];
	stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof(other_stack)};
	struct sigaction action = {.sa_handler = handler};
	struct itimerval often = {.it_interval = {.tv_usec = 200}, .it_value = {.tv_usec = 200}};

	if (argc > 1 && !strcmp(argv[1], "other-stack")) {
		MUST(sigaltstack(&stack, NULL) == 0);
		action.sa_flags = SA_ONSTACK;
	}
	action.sa_flags |= SA_RESTART;
	MUST(sigaction(SIGALRM, &action, NULL) == 0);
	stop("ready");
	MUST(setitimer(ITIMER_REAL, &often, NULL) == 0);
	interrupted();
	interrupted_and_kept();
	often = (struct itimerval){0};
	MUST(setitimer(ITIMER_REAL, &often, NULL) == 0);
	MUST(handled >= 10);
	stop("done");
	return 0;
}
