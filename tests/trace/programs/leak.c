/* A little of everything, for targets that differ in what they are linked with and where they run. */
#include "program.h"

SITE void leak_small(void)
{
	for (int i = 0; i < 10; i++)
		MUST(keep(malloc(4096)));
}

SITE void leak_large(void)
{
	for (int i = 0; i < 2; i++)
		MUST(keep(calloc(1, 1 << 20)));
}

SITE void leak_aligned(void)
{
	void *block;

	MUST(posix_memalign(&block, 512, 1000) == 0);
	keep(block);
}

SITE void *resized(void)
{
	void *block = realloc(keep(malloc(100)), 20000);

	MUST(block);
	return block;
}

SITE void freed(void)
{
	for (int i = 0; i < 100; i++)
		free(keep(malloc((size_t)i * 50)));
}

int main(void)
{
	stop("ready");
	leak_small();
	leak_large();
	leak_aligned();
	resized();
	free(resized());
	freed();
	stop("done");
	return 0;
}
