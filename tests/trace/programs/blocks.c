/* malloc, calloc and free, and their failures. */
#include "program.h"

SITE void malloc_kept(void)
{
	for (int i = 0; i < 3; i++)
		MUST(keep(malloc(100)));
}

SITE void malloc_freed(void)
{
	for (int i = 0; i < 5; i++)
		free(keep(malloc(64)));
}

SITE void *malloc_freed_elsewhere(void)
{
	return keep(malloc(48));
}

SITE void frees_only(void *block)
{
	free(block);
}

SITE void malloc_of_nothing(void)
{
	MUST(keep(malloc(0)));
}

SITE void malloc_fails(void)
{
	MUST(!keep(malloc(too_large)));
}

/* Two places in one function: two stacks. */
SITE void malloc_twice(void)
{
	free(keep(malloc(10)));
	MUST(keep(malloc(20)));
}

SITE void calloc_kept(void)
{
	MUST(keep(calloc(10, 30)));
}

SITE void calloc_freed(void)
{
	free(keep(calloc(7, 9)));
}

SITE void calloc_fails(void)
{
	MUST(!keep(calloc(too_large, 2)));
	MUST(!keep(calloc((size_t)1 << 32, (size_t)1 << 32)));
}

SITE void free_of_null(void)
{
	free(NULL);
}

int main(void)
{
	void *before = malloc(1000);

	stop("ready");
	malloc_kept();
	malloc_freed();
	frees_only(malloc_freed_elsewhere());
	malloc_of_nothing();
	malloc_fails();
	malloc_twice();
	calloc_kept();
	calloc_freed();
	calloc_fails();
	free_of_null();
	frees_only(before);
	stop("done");
	return 0;
}
