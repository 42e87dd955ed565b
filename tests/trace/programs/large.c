/* Blocks of 128 KiB and more: malloc calls mmap, free calls munmap, and none of that is the program's own. */
#include <malloc.h>

#include "program.h"

#define KIB 1024

static size_t mapped_blocks(void)
{
	return mallinfo2().hblks;
}

SITE void *at_threshold(void)
{
	return keep(malloc(128 * KIB));
}

SITE void kept_large(void)
{
	for (int i = 0; i < 4; i++)
		MUST(keep(malloc(1024 * KIB)));
}

SITE void *freed_large(void)
{
	return keep(malloc(512 * KIB));
}

SITE void *calloc_large(void)
{
	return keep(calloc(256, KIB));
}

SITE void frees(void *block)
{
	free(block);
}

int main(void)
{
	mallopt(M_MMAP_THRESHOLD, 128 * KIB);
	/* A new heap has room for its first block and 128 KiB more: less, before the threshold is looked at. */
	keep(malloc(KIB));
	keep(malloc(16 * KIB));
	stop("ready");
	size_t before = mapped_blocks();
	at_threshold();
	kept_large();
	void *blocks[] = {freed_large(), freed_large(), calloc_large(), calloc_large()};
	MUST(mapped_blocks() == before + 9);
	for (int i = 0; i < 3; i++)
		frees(blocks[i]);
	MUST(mapped_blocks() == before + 6);
	stop("done");
	return 0;
}
