/* Processes that grow, each in another way. Included once, by kinds.c. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kinds.h"

/* One buffer that grows by half of itself whenever it is full, from the moment when it is asked to. */
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
	char line[8];

	ready();
	if (!fgets(line, sizeof line, stdin))
		return;
	puts("done");
	fflush(stdout);
	for (;;) {
		journal_write(entry, sizeof entry);
		usleep(2000);
	}
}

/* 20 MiB at once, never given back, for each line that is read. */
KEEP static void report_load(void)
{
	for (int i = 0; i < 2000; i++)
		touched(malloc(10000), 10000);
	AFTER();
}

static void bursts(void)
{
	char line[16];

	ready();
	while (fgets(line, sizeof line, stdin)) {
		report_load();
		puts("done");
		fflush(stdout);
	}
	pause();
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
