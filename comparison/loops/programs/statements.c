/* SPDX-License-Identifier: MIT */
/*
 * statements LIBRARY: SQLite as a distribution packages it, under a program that is built without frame pointers as well.
 *
 * Prints "ready" and waits for a line. Then it prepares, runs and finalizes statements, leaves KEPT of them unfinalized,
 * prints its processor time in seconds and 0, as the size of a statement is SQLite's own, and waits for another line.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS 10000
#define KEPT 1000

static int (*prepare)(void *, const char *, int, void **, const char **);
static int (*step)(void *);
static int (*finalize)(void *);
static void *database;

static void *prepared(void)
{
	void *statement = NULL;

	if (prepare(database, "select b, count(*) from t where c > 3 group by b order by 2", -1, &statement, NULL))
		exit(3);
	return statement;
}

__attribute__((noinline)) void keep_statement(void)
{
	void *statement = prepared();

	__asm__ volatile("" ::"r"(statement) : "memory");
}

__attribute__((noinline)) static void work(void)
{
	void *statement = prepared();

	while (step(statement) == 100)
		;
	finalize(statement);
}

int main(int argc, char **argv)
{
	void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
	int (*open)(const char *, void **);
	int (*execute)(void *, const char *, void *, void *, void *);
	struct timespec now;

	if (!library)
		return 2;
	*(void **)&open = dlsym(library, "sqlite3_open");
	*(void **)&execute = dlsym(library, "sqlite3_exec");
	*(void **)&prepare = dlsym(library, "sqlite3_prepare_v2");
	*(void **)&step = dlsym(library, "sqlite3_step");
	*(void **)&finalize = dlsym(library, "sqlite3_finalize");
	if (open(":memory:", &database) || execute(database, "create table t(b, c); insert into t values ('x', 4)", 0, 0, 0))
		return 3;
	work();
	puts("ready");
	fflush(stdout);
	getchar();
	for (int i = 0; i < ROUNDS; i++) {
		work();
		if (i % (ROUNDS / KEPT) == 0)
			keep_statement();
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	printf("%f 0\n", (double)now.tv_sec + (double)now.tv_nsec / 1e9);
	fflush(stdout);
	getchar();
	return 0;
}
