/*
 * The functions that an allocator has beside malloc's, as the preloaded library has them: jemalloc's or mimalloc's.
 */
#include <dlfcn.h>

#include "program.h"

static void *function(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	MUST(found);
	return found;
}

#define ALLOCX(name) ((void *(*)(size_t, int))function(name))

SITE void jobs_end_sized(void)
{
	void (*give)(void *, size_t, int) = (void (*)(void *, size_t, int))function("sdallocx");

	for (int i = 0; i < 5; i++)
		give(keep(malloc(40000)), 40000, 0);
}

SITE void jobs_end(void)
{
	void (*give)(void *, int) = (void (*)(void *, int))function("dallocx");

	for (int i = 0; i < 5; i++)
		give(keep(malloc(300)), 0);
}

SITE void leaks_extended(void)
{
	for (int i = 0; i < 3; i++)
		keep(ALLOCX("mallocx")(9000, 0));
}

SITE void grows(void)
{
	void *(*resize)(void *, size_t, int) = (void *(*)(void *, size_t, int))function("rallocx");

	keep(resize(keep(ALLOCX("mallocx")(100, 0)), 70000, 0));
}

/* In place: jemalloc rounds 65 KiB up to 80 KiB, so that 70 KiB find room. */
SITE void grows_in_place(void)
{
	size_t (*resize)(void *, size_t, size_t, int) = (size_t (*)(void *, size_t, size_t, int))function("xallocx");
	void *block = keep(ALLOCX("mallocx")(65 << 10, 0));

	MUST(resize(block, 70 << 10, 0, 0) >= 70 << 10);
	MUST(resize(block, (size_t)1 << 40, 0, 0) < (size_t)1 << 40); /* no room for that: nothing changes */
}

static void jemalloc(void)
{
	jobs_end_sized();
	jobs_end();
	leaks_extended();
	grows();
	grows_in_place();
}

SITE void aligned(void)
{
	void *(*take)(size_t, size_t) = (void *(*)(size_t, size_t))function("mi_malloc_aligned");
	void (*give)(void *, size_t, size_t) = (void (*)(void *, size_t, size_t))function("mi_free_size_aligned");

	keep(take(700, 64));
	give(keep(take(900, 128)), 900, 128);
}

SITE void counted(void)
{
	void *(*take)(size_t, size_t) = (void *(*)(size_t, size_t))function("mi_mallocn");

	keep(take(7, 100));
}

SITE void heap_of_its_own(void)
{
	void *heap = ((void *(*)(void))function("mi_heap_get_default"))();
	void *(*take)(void *, size_t, size_t) = (void *(*)(void *, size_t, size_t))function("mi_heap_calloc");
	void *(*resize)(void *, void *, size_t) = (void *(*)(void *, void *, size_t))function("mi_heap_realloc");

	keep(take(heap, 11, 20));
	keep(resize(heap, keep(take(heap, 2, 20)), 500));
}

SITE void grows_by_pointer(void)
{
	int (*resize)(void *, size_t, size_t) = (int (*)(void *, size_t, size_t))function("mi_reallocarr");
	void *block = keep(malloc(60));

	MUST(!resize(&block, 30, 20));
}

SITE void copies(void)
{
	char *(*copy)(const char *) = (char *(*)(const char *))function("mi_strdup");
	void (*give)(void *) = (void (*)(void *))function("mi_free");

	char longer[3000];

	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = 0;
	keep(copy("a copy is kept"));
	keep(copy(longer));
	give(keep(copy("another is not")));
}

/* The block is freed all the same. */
SITE void fails_and_frees(void)
{
	void *(*resize)(void *, size_t) = (void *(*)(void *, size_t))function("mi_reallocf");

	MUST(!keep(resize(keep(malloc(800)), too_large)));
}

/* Nothing says which blocks go with it. */
SITE void destroyed_with_their_heap(void)
{
	void *heap = ((void *(*)(void))function("mi_heap_new"))();
	void *(*take)(void *, size_t) = (void *(*)(void *, size_t))function("mi_heap_malloc");
	void (*destroy)(void *) = (void (*)(void *))function("mi_heap_destroy");

	for (int i = 0; i < 3; i++)
		keep(take(heap, 40));
	destroy(heap);
}

/* Its block lives on in the heap that the thread had from its start. */
SITE void left_by_its_heap(void)
{
	void *heap = ((void *(*)(void))function("mi_heap_new"))();
	void *(*take)(void *, size_t) = (void *(*)(void *, size_t))function("mi_heap_malloc");
	void *block = keep(take(heap, 50));

	((void (*)(void *))function("mi_heap_delete"))(heap);
	free(block);
}

static void mimalloc(void)
{
	aligned();
	counted();
	heap_of_its_own();
	grows_by_pointer();
	copies();
	fails_and_frees();
	left_by_its_heap();
	destroyed_with_their_heap(); /* the last: their addresses are not taken again */
}

int main(int argc, char **argv)
{
	MUST(argc == 2);
	free(keep(malloc(1))); /* an allocator prepares itself */
	stop("ready");
	if (!strcmp(argv[1], "jemalloc"))
		jemalloc();
	else
		mimalloc();
	stop("done");
	return 0;
}
