/*
 * A process whose first thread ends, and whose others go on: "before" the first stop, or "meanwhile". With "other" the
 * oldest of the others ends meanwhile as well.
 */
#include <pthread.h>

#include "program.h"

static const char *mode;
static pthread_t main_thread, other_thread;
static int let_main_end[2], let_other_end[2];

static int is(const char *name)
{
	return !strcmp(mode, name);
}

static void wait_at(const int *ends)
{
	char byte;

	MUST(read(ends[0], &byte, 1) == 1);
}

static void end(const int *ends, pthread_t thread)
{
	MUST(write(ends[1], "", 1) == 1);
	MUST(pthread_join(thread, NULL) == 0);
}

SITE void leak_in_thread(void)
{
	for (int i = 0; i < 5; i++)
		MUST(keep(malloc(2000)));
}

SITE void freed_in_thread(void)
{
	free(keep(malloc(3000)));
}

static void *works(void *unused)
{
	if (!is("meanwhile"))
		end(let_main_end, main_thread);
	stop("ready");
	if (is("meanwhile"))
		end(let_main_end, main_thread);
	if (is("other"))
		end(let_other_end, other_thread);
	if (!is("before"))
		stop("ended");
	leak_in_thread();
	freed_in_thread();
	stop("done");
	_exit(0);
	return unused;
}

static void *waits(void *unused)
{
	wait_at(let_other_end);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t worker;

	MUST(argc == 2);
	mode = argv[1];
	main_thread = pthread_self();
	MUST(pipe(let_main_end) == 0 && pipe(let_other_end) == 0);
	MUST(pthread_create(&other_thread, NULL, waits, NULL) == 0);
	MUST(pthread_create(&worker, NULL, works, NULL) == 0);
	wait_at(let_main_end);
	pthread_exit(NULL);
}
