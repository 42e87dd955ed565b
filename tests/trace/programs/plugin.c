/* A shared object with an allocator of its own, as mimalloc's is called. */
#include <stddef.h>

static char arena[1 << 16];
static size_t used;

__attribute__((noinline)) void *mi_malloc(size_t bytes)
{
	void *block = arena + used;

	used += (bytes + 15) / 16 * 16;
	return used <= sizeof(arena) ? block : NULL;
}

__attribute__((noinline)) void mi_free(void *block)
{
	__asm__ volatile("" : : "r"(block) : "memory");
}
