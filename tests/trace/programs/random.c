/*
 * Eight threads, a million calls, every function of the family, from 88 call stacks, with blocks that change threads.
 * Each thread keeps exact books of its own; their sum is printed at the stop, for the tracer to equal.
 *
 * Arguments: the seed, the number of calls in all, and whether the allocator has pvalloc. Where another one is
 * preloaded that does not, the C library's serves it, and the two must not meet.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#include "random_books.h"

#define THREADS 8
#define HELD 64      /* blocks that a thread holds at a time, at most */
#define EXCHANGED 32 /* places where threads leave blocks for each other */
#define PAGE ((size_t)4096)

struct thread {
	pthread_t id;
	uint64_t random;
	long calls;
	struct block held[HELD];
	unsigned n_held;
	struct books books;
};

static int has_pvalloc;
static struct thread threads[THREADS];
static struct {
	pthread_mutex_t lock;
	struct block block;
} exchange[EXCHANGED];

/* splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014). */
static uint64_t draw(struct thread *thread, uint64_t below)
{
	uint64_t z = thread->random += 0x9E3779B97F4A7C15;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
	return (z ^ (z >> 31)) % below;
}

static size_t draw_bytes(struct thread *thread)
{
	switch (draw(thread, 100)) {
	case 0:
		return (128 << 10) + draw(thread, 1 << 20); /* with a mapping of its own */
	case 1 ... 10:
		return 1024 + draw(thread, 64 << 10);
	default:
		return 8 + draw(thread, 1024);
	}
}

static size_t draw_pages(struct thread *thread)
{
	return (1 + draw(thread, LARGEST_PAGES)) * PAGE;
}

/* One allocating call; what it replaces, where it replaces something, is in *block. 1 where it succeeded. */
static int call_site(struct thread *thread, enum family family, struct block *block, size_t bytes)
{
	struct part taken = {bytes, (unsigned)draw(thread, 2), family * 4 + (unsigned)draw(thread, 4)};
	struct request request = {block->address, block->bytes, 1, bytes, (size_t)16 << draw(thread, 7)};

	if (family == CALLOC || family == REALLOCARRAY) {
		request.count = 1 + draw(thread, 8);
		taken.bytes = request.bytes = bytes / request.count * request.count;
	}
	void *address = ways[taken.way].call(sites[taken.site].call, &request);

	thread->calls--;
	if (!address)
		return 0;
	block->address = address;
	if (family != MREMAP) {
		book_freed(&thread->books, block);
	} else if (bytes > block->bytes) { /* only what it adds is new */
		taken.bytes -= block->bytes;
	} else {
		book_cut(&thread->books, block, block->bytes - bytes, 1);
		return 1;
	}
	block->bytes = request.bytes;
	book_taken(&thread->books, block, taken);
	return 1;
}

static void take(struct thread *thread)
{
	static const enum family often[] = {MALLOC, MALLOC, MALLOC, MALLOC, CALLOC, CALLOC, REALLOC, REALLOC};
	static const enum family rarely[] = {REALLOCARRAY, ALIGNED_ALLOC, MEMALIGN, POSIX_MEMALIGN, VALLOC, PVALLOC, MMAP};
	enum family family = draw(thread, 10) ? often[draw(thread, 8)] : rarely[draw(thread, 7)];

	if (family == PVALLOC && !has_pvalloc)
		family = VALLOC;
	size_t bytes = family == MMAP ? draw_pages(thread) : draw_bytes(thread);
	struct block block = {0};

	MUST(call_site(thread, family, &block, bytes));
	thread->held[thread->n_held++] = block;
}

static void drop(struct thread *thread, unsigned which)
{
	struct block *block = &thread->held[which];
	const int is_mapped = is_mapping(block->parts[0].site);

	/* Counted first: then the table is never older than what another thread could find at the address. */
	book_freed(&thread->books, block);
	if (is_mapped)
		MUST(munmap(block->address, block->bytes) == 0);
	else
		free(block->address);
	thread->calls--;
	*block = thread->held[--thread->n_held];
}

/* Another size; now and then one that cannot be had, or nothing. */
static void resize(struct thread *thread, unsigned which)
{
	struct block *block = &thread->held[which];
	enum family family = draw(thread, 8) ? REALLOC : REALLOCARRAY;

	if (is_mapping(block->parts[0].site)) {
		if (draw(thread, 2)) {
			MUST(call_site(thread, MREMAP, block, draw(thread, 20) ? draw_pages(thread) : too_large) ||
			     block->address);
		} else if (block->bytes > PAGE) { /* a part of it goes */
			size_t bytes = (1 + draw(thread, block->bytes / PAGE - 1)) * PAGE;

			book_cut(&thread->books, block, bytes, 0);
			MUST(munmap(block->address, bytes) == 0);
			thread->calls--;
			block->address = (char *)block->address + bytes;
		}
		return;
	}
	switch (draw(thread, 50)) {
	case 0:
		MUST(!call_site(thread, family, block, too_large));
		break;
	case 1: /* to nothing: glibc frees, jemalloc gives another block */
		if (!call_site(thread, family, block, 0)) {
			book_freed(&thread->books, block);
			*block = thread->held[--thread->n_held];
		}
		break;
	default:
		MUST(call_site(thread, family, block, draw_bytes(thread)));
	}
}

static void swap(struct thread *thread, unsigned which)
{
	unsigned place = (unsigned)draw(thread, EXCHANGED);
	struct block *mine = &thread->held[which], theirs;

	pthread_mutex_lock(&exchange[place].lock);
	theirs = exchange[place].block;
	exchange[place].block = *mine;
	pthread_mutex_unlock(&exchange[place].lock);
	*mine = theirs.address ? theirs : thread->held[--thread->n_held];
}

static void *work(void *argument)
{
	struct thread *thread = argument;

	while (thread->calls > 0) {
		unsigned action = (unsigned)draw(thread, 100);
		unsigned which = thread->n_held ? (unsigned)draw(thread, thread->n_held) : 0;

		if (!thread->n_held || (action < 45 && thread->n_held < HELD))
			take(thread);
		else if (action < 85)
			drop(thread, which);
		else if (action < 95)
			resize(thread, which);
		else
			swap(thread, which);
	}
	return NULL;
}

static void run(void *(*body)(void *))
{
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i].id, NULL, body, &threads[i]) == 0);
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_join(threads[i].id, NULL) == 0);
}

static void stop_with_books(void)
{
	static char text[1 << 16];
	char *at = text;

	at += sprintf(at, "[");
	for (int way = 0; way < 2; way++) {
		for (size_t site = 0; site < SITES; site++) {
			struct tally sum = {0};

			for (int i = 0; i < THREADS; i++) {
				const struct tally *own = &threads[i].books.of[way][site];
				sum.allocations += own->allocations;
				sum.frees += own->frees;
				sum.allocated += own->allocated;
				sum.freed += own->freed;
			}
			at += sprintf(at, "%s[\"%s\", \"%s\", %ld, %ld, %ld]", at == text + 1 ? "" : ", ", sites[site].name,
				      ways[way].name, sum.allocations, sum.frees, sum.allocated - sum.freed);
		}
	}
	sprintf(at, "]");
	stop(text);
}

int main(int argc, char **argv)
{
	MUST(argc == 4);
	has_pvalloc = !strcmp(argv[3], "pvalloc");
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	for (int i = 0; i < EXCHANGED; i++)
		pthread_mutex_init(&exchange[i].lock, NULL);
	for (int i = 0; i < THREADS; i++) {
		threads[i].random = (uint64_t)strtoull(argv[1], NULL, 10) * THREADS + (uint64_t)i;
		threads[i].calls = strtol(argv[2], NULL, 10) / THREADS;
	}
	stop("ready");
	run(work);
	stop_with_books();
	for (int i = 0; i < THREADS; i++)
		while (threads[i].n_held)
			drop(&threads[i], 0);
	for (int i = 0; i < EXCHANGED; i++)
		if (exchange[i].block.address) {
			threads[0].held[threads[0].n_held++] = exchange[i].block;
			drop(&threads[0], 0);
		}
	stop_with_books();
	return 0;
}
