/* Children of fork, vfork and posix_spawn. */
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "program.h"

extern char **environ;

static void wait_for(pid_t child)
{
	int status;

	MUST(waitpid(child, &status, 0) == child);
	MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

SITE void *parent_takes(void)
{
	return keep(malloc(500));
}

SITE void parent_frees(void *block)
{
	free(block);
}

SITE void child_takes(void)
{
	for (int i = 0; i < 1000; i++)
		MUST(keep(malloc(64)));
	MUST(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

/* The child's copies of the parent's blocks. */
SITE void child_frees(void *first, void *second)
{
	free(first);
	free(realloc(second, 10));
}

SITE void forks(void)
{
	void *held = parent_takes(), *freed = parent_takes();
	pid_t child = fork();

	MUST(child >= 0);
	if (!child) {
		child_takes();
		child_frees(held, freed);
		child_takes();
		_exit(0);
	}
	wait_for(child);
	parent_frees(freed);
}

SITE void vforks(void)
{
	void *held = parent_takes();
	pid_t child = vfork();

	MUST(child >= 0);
	if (!child) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	wait_for(child);
	parent_frees(held);
	parent_takes();
}

SITE void spawns(void)
{
	char *const arguments[] = {"true", NULL};
	pid_t child;

	MUST(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ) == 0);
	wait_for(child);
	parent_takes();
}

/* A child that is there until its parent ends: its pid is in the line of the stop. */
static void keeps_child(void)
{
	char line[32];
	int ends[2];
	pid_t child;

	MUST(pipe(ends) == 0);
	child = fork();
	MUST(child >= 0);
	if (!child) {
		close(ends[1]);
		_exit((int)read(ends[0], line, 1));
	}
	snprintf(line, sizeof(line), "child %d", (int)child);
	stop(line);
}

int main(int argc, char **argv)
{
	stop("ready");
	if (argc > 1 && !strcmp(argv[1], "stays")) {
		keeps_child();
		return 0;
	}
	forks();
	vforks();
	spawns();
	stop("done");
	return 0;
}
