/* Processes that do not leak, though memory comes and goes, or grows for a while. Included once, by kinds.c. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kinds.h"

/* 4,000 orders that live for ten seconds each: as many come as go. */
#define ORDERS 4000
static char *orders[ORDERS];

KEEP static char *order_open(void)
{
	char *order = touched(malloc(6000), 6000);
	AFTER();
	return order;
}

static void equilibrium(void)
{
	for (int i = 0; i < ORDERS; i++)
		orders[i] = order_open();
	ready();
	for (int i = 0;; i = (i + 1) % ORDERS) {
		free(orders[i]);
		orders[i] = order_open();
		usleep(2000);
	}
}

/* A cache of 500 places that is filled at random, and full in well under a second. */
KEEP static void cache_store(char **places, unsigned place)
{
	free(places[place]);
	places[place] = touched(malloc(9000), 9000);
	AFTER();
}

static void cache(void)
{
	static char *places[500];
	unsigned seed = 7;

	ready();
	for (;;) {
		cache_store(places, rand_r(&seed) % 500);
		usleep(500);
	}
}

/* A batch of 100 rows a second, given back at its end. */
KEEP static char *row_add(void)
{
	char *row = touched(malloc(30000), 30000);
	AFTER();
	return row;
}

static void batches(void)
{
	char *rows[100];

	ready();
	for (;;) {
		for (int i = 0; i < 100; i++) {
			rows[i] = row_add();
			usleep(10000);
		}
		for (int i = 0; i < 100; i++)
			free(rows[i]);
	}
}

/* Maps a file again and again and reads one page of it: address space, and pages of the file. */
KEEP static void segment_map(int file)
{
	volatile char *segment = mmap(NULL, 16 * MIB, PROT_READ, MAP_SHARED, file, 0);

	if (segment == MAP_FAILED)
		abort();
	(void)segment[0];
	AFTER();
}

static void files(const char *path)
{
	int file = open(path, O_RDWR | O_CREAT, 0600);

	if (file < 0 || ftruncate(file, 16 * MIB))
		abort();
	ready();
	for (;;) {
		segment_map(file);
		usleep(50000);
	}
}

/* A new thread now and then; each takes 6 MiB of records, frees them, and keeps a little of its arena's end. */
static void *query(void *unused)
{
	char *records[6000], *last = NULL;

	for (;;) {
		for (int i = 0; i < 6000; i++)
			records[i] = touched(malloc(1000), 1000);
		char *next = malloc(40);
		for (int i = 0; i < 6000; i++)
			free(records[i]);
		free(last);
		last = next;
		sleep(3);
	}
	return unused;
}

static void arenas(void)
{
	pthread_t thread;

	ready();
	for (int i = 0; i < 24; i++) {
		pthread_create(&thread, NULL, query, NULL);
		usleep(500000);
	}
	pause();
}
