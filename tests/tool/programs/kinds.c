/*
 * One process for each kind of growth that a diagnosis has to tell apart; the first argument says which. It prints a line
 * when it has come to its everyday state, and goes on until it is killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))
#define AFTER() __asm__ volatile("" ::: "memory")
#define KIB 1024
#define MIB (1024 * KIB)

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static void *touched(void *memory, size_t bytes)
{
	return memory ? memset(memory, 1, bytes) : abort(), memory;
}

/* --- no leak --- */

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

/* --- growth --- */

/* One buffer that grows by half of itself whenever it is full. */
static char *journal;
static size_t journal_used, journal_size;

KEEP static void journal_write(const char *entry, size_t bytes)
{
	if (journal_used + bytes > journal_size) {
		journal_size = journal_size ? journal_size * 3 / 2 : 64 * KIB;
		journal = realloc(journal, journal_size);
	}
	memcpy(journal + journal_used, entry, bytes);
	journal_used += bytes;
}

static void buffer(void)
{
	static char entry[8000];

	ready();
	for (;;) {
		journal_write(entry, sizeof entry);
		usleep(2000);
	}
}

/* 20 MiB at once, never given back, every three seconds. */
KEEP static void report_load(void)
{
	for (int i = 0; i < 2000; i++)
		touched(malloc(10000), 10000);
	AFTER();
}

static void bursts(void)
{
	ready();
	for (;;) {
		sleep(1);
		report_load();
		sleep(2);
	}
}

/* A heap of its own: reserved at the start, made accessible piece by piece. */
KEEP static void heap_extend(char *at)
{
	mprotect(at, MIB, PROT_READ | PROT_WRITE);
	memset(at, 1, MIB);
	AFTER();
}

static void commit(void)
{
	char *heap = mmap(NULL, 4096UL * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ready();
	for (size_t used = 0;; used += MIB) {
		heap_extend(heap + used);
		usleep(100000);
	}
}

/* Memory from the kernel without the C library's mmap. */
KEEP static void pool_grow(void)
{
	touched(sbrk(256 * KIB), 256 * KIB);
	AFTER();
}

KEEP static void pool_map(void)
{
	touched((void *)syscall(SYS_mmap, 0, 256 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 256 * KIB);
	AFTER();
}

static void pools(void)
{
	ready();
	for (;;) {
		pool_grow();
		pool_map();
		usleep(100000);
	}
}

/* Segments that nobody detaches, and memfds that nobody closes. */
KEEP static void message_post(void)
{
	int id = shmget(IPC_PRIVATE, MIB, 0600 | IPC_CREAT);

	touched(shmat(id, NULL, 0), MIB);
	shmctl(id, IPC_RMID, NULL);
	AFTER();
}

KEEP static void memfd_fill(void)
{
	int file = memfd_create("frame", 0);

	if (ftruncate(file, MIB))
		abort();
	void *memory = touched(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), MIB);
	munmap(memory, MIB);
	AFTER();
}

static void shared(void)
{
	ready();
	for (int i = 0; i < 300; i++) {
		message_post();
		memfd_fill();
		usleep(100000);
	}
}

/* Threads that end and that nobody joins: their stacks stay. */
static void *job(void *unused)
{
	char scratch[128 * KIB];

	memset(scratch, 1, sizeof scratch);
	__asm__ volatile("" ::"r"(scratch) : "memory");
	return unused;
}

KEEP static void job_start(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, job, NULL))
		abort();
	AFTER();
}

static void stacks(void)
{
	ready();
	for (;;) {
		job_start();
		usleep(10000);
	}
}

/* A wrapper of malloc that two functions use; one of them forgets. */
KEEP static void *xmalloc(size_t bytes)
{
	void *block = malloc(bytes);

	AFTER();
	return block;
}

KEEP static char *value_make(void)
{
	char *value = touched(xmalloc(1500), 1500);
	AFTER();
	return value;
}

KEEP static void value_get(void)
{
	free(value_make());
	AFTER();
}

KEEP static void value_put(void)
{
	value_make();
	AFTER();
}

static void wrapper(void)
{
	ready();
	for (;;) {
		value_get();
		value_put();
		usleep(1000);
	}
}

int main(int count, char **arguments)
{
	const char *kind = count > 1 ? arguments[1] : "";

#define KIND(name) \
	if (!strcmp(kind, #name)) \
		name()
	KIND(equilibrium);
	KIND(cache);
	KIND(batches);
	KIND(arenas);
	KIND(buffer);
	KIND(bursts);
	KIND(commit);
	KIND(pools);
	KIND(shared);
	KIND(stacks);
	KIND(wrapper);
	if (!strcmp(kind, "files") && count > 2)
		files(arguments[2]);
	fprintf(stderr, "usage: kinds KIND [FILE]\n");
	return 2;
}
