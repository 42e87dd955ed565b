/* A program that brings its own allocator: the C library's is never asked. */
#include "program.h"

static char arena[1 << 16];
static size_t used;

SITE void *malloc(size_t bytes)
{
	void *block = arena + used;

	used += (bytes + 15) / 16 * 16;
	return used <= sizeof(arena) ? block : NULL;
}

SITE void free(void *block)
{
	__asm__ volatile("" : : "r"(block) : "memory"); /* a function without any effect would not be called */
}

SITE void taken_from_arena(void)
{
	for (int i = 0; i < 3; i++)
		MUST(keep(malloc(100)));
}

SITE void given_back_to_arena(void)
{
	free(keep(malloc(50)));
}

int main(void)
{
	stop("ready");
	taken_from_arena();
	given_back_to_arena();
	stop("done");
	return 0;
}
