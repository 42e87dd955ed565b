/* A library between an allocator and the C library: it has no allocator of its own. */
#include <stdlib.h>

void *checked_take(size_t bytes)
{
	void *block = malloc(bytes);

	if (!block)
		abort();
	return block;
}

void checked_give(void *block)
{
	static volatile long given;

	free(block);
	given++;
}
