/*
 * A server and its workers. At each stop it reads a letter, and does what it stands for: f starts a worker, w lets the
 * youngest one do its work, e ends it, x makes it another program. The worker's pid is in the line.
 */
#include <sys/wait.h>

#include "program.h"

#define WORKERS 8

static struct worker {
	pid_t pid;
	int orders[2], done[2];
} workers[WORKERS];
static int count;

SITE void handle_request(void)
{
	for (int i = 0; i < 10; i++)
		MUST(keep(malloc(3000)));
}

SITE void answer_request(void)
{
	for (int i = 0; i < 5; i++)
		free(keep(malloc(100)));
}

SITE void serve(void)
{
	handle_request();
	answer_request();
}

SITE void master_takes(void)
{
	MUST(keep(malloc(700)));
}

static void work(struct worker *self)
{
	char order;

	while (read(self->orders[0], &order, 1) == 1) {
		if (order == 'e')
			_exit(0);
		if (order == 'x')
			execl("/bin/sleep", "sleep", "60", (char *)NULL);
		serve();
		MUST(write(self->done[1], "", 1) == 1);
	}
	_exit(0);
}

static void start_worker(void)
{
	struct worker *worker = &workers[count++];

	MUST(count <= WORKERS);
	MUST(pipe(worker->orders) == 0 && pipe(worker->done) == 0);
	worker->pid = fork();
	MUST(worker->pid >= 0);
	if (!worker->pid) {
		close(worker->orders[1]);
		work(worker);
	}
	close(worker->orders[0]);
}

static void tell(char order)
{
	struct worker *worker = &workers[count - 1];
	char byte;

	MUST(count > 0 && write(worker->orders[1], &order, 1) == 1);
	if (order == 'w')
		MUST(read(worker->done[0], &byte, 1) == 1);
	if (order == 'e')
		MUST(waitpid(worker->pid, NULL, 0) == worker->pid);
}

static char command_after(const char *line)
{
	char byte, rest;

	MUST(write(1, line, strlen(line)) == (ssize_t)strlen(line) && write(1, "\n", 1) == 1);
	if (read(0, &byte, 1) != 1)
		_exit(0);
	while (read(0, &rest, 1) == 1 && rest != '\n')
		;
	return byte;
}

int main(void)
{
	char line[32] = "ready";

	for (;;) {
		char order = command_after(line);

		if (order == 'f')
			start_worker();
		else if (order == 'm')
			master_takes();
		else
			tell(order);
		snprintf(line, sizeof(line), "%d", count ? (int)workers[count - 1].pid : 0);
	}
}
