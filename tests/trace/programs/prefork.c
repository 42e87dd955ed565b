/*
 * A server that keeps workers, and starts a new one for each that ends after its requests. Once it reads a byte it
 * starts no more; when all have ended it says how many there were, and how many requests they served.
 */
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "program.h"

#define WORKERS 3
#define REQUESTS 300 /* a worker lives for a third of a second */

static struct {
	int workers, requests;
} *served;
static void *of_the_master;

SITE void handle_request(void)
{
	MUST(keep(malloc(3000)));
}

/* The memory is a copy of its own: the master keeps its block. */
SITE void free_what_was_inherited(void)
{
	free(of_the_master);
}

SITE void serve(void)
{
	for (int i = 0; i < REQUESTS; i++) {
		handle_request();
		__atomic_fetch_add(&served->requests, 1, __ATOMIC_RELAXED);
		usleep(1000);
	}
	free_what_was_inherited();
	_exit(0);
}

static void start_worker(void)
{
	served->workers++;
	pid_t pid = fork();

	MUST(pid >= 0);
	if (!pid)
		serve();
}

int main(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};

	served = mmap(NULL, sizeof(*served), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(served != MAP_FAILED);
	MUST((of_the_master = keep(malloc(5000))));
	stop("ready");
	for (int i = 0; i < WORKERS; i++)
		start_worker();
	while (!poll(&input, 1, 0)) {
		MUST(wait(NULL) > 0);
		start_worker();
	}
	while (wait(NULL) > 0)
		;
	char line[64];

	snprintf(line, sizeof(line), "%d %d", served->workers, served->requests);
	MUST(getchar() == '\n');
	stop(line);
}
