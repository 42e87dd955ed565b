/* aligned_alloc, memalign, posix_memalign, valloc and pvalloc, and their failures. */
#include <errno.h>
#include <malloc.h>

#include "program.h"

SITE void aligned_alloc_kept(void)
{
	MUST(keep(aligned_alloc(64, 640)));
}

SITE void aligned_alloc_freed(void)
{
	free(keep(aligned_alloc(4096, 8192)));
}

SITE void aligned_alloc_fails(void)
{
	MUST(!keep(aligned_alloc(64, too_large)));
}

SITE void memalign_kept(void)
{
	MUST(keep(memalign(256, 1000)));
}

SITE void memalign_freed(void)
{
	free(keep(memalign(32, 33)));
}

SITE void posix_memalign_kept(void)
{
	void *block;

	MUST(posix_memalign(&block, 128, 777) == 0);
	keep(block);
}

SITE void posix_memalign_freed(void)
{
	void *block;

	MUST(posix_memalign(&block, 4096, 4096) == 0);
	free(keep(block));
}

/* It fails by its result and leaves its first argument as it was: what that points at is no new block. */
SITE void posix_memalign_fails(void *other)
{
	void *block = other;

	MUST(posix_memalign(&block, 3, 100) == EINVAL);
	MUST(posix_memalign(&block, 64, too_large) == ENOMEM);
	MUST(block == other);
}

SITE void *malloc_beside(void)
{
	return keep(malloc(11));
}

SITE void valloc_kept(void)
{
	MUST(keep(valloc(5000)));
}

SITE void valloc_freed(void)
{
	free(keep(valloc(100)));
}

/* It rounds up to whole pages; what the program asked for is what counts. */
SITE void pvalloc_kept(void)
{
	MUST(keep(pvalloc(6000)));
}

SITE void pvalloc_freed(void)
{
	free(keep(pvalloc(1)));
}

SITE void valloc_fails(void)
{
	MUST(!keep(valloc(too_large)));
	MUST(!keep(pvalloc(too_large)));
}

/* Above mmap_threshold: a mapping with room for the alignment, of which the ends are given back. */
SITE void aligned_large_kept(void)
{
	MUST(keep(aligned_alloc(1 << 20, 3 << 20)));
}

/* Little of it is asked for, and much is passed over. */
SITE void aligned_far_freed(void)
{
	free(keep(aligned_alloc(1 << 20, 100)));
}

SITE void aligned_large_freed(void)
{
	free(keep(aligned_alloc(1 << 20, 3 << 20)));
}

int main(void)
{
	stop("ready");
	aligned_alloc_kept();
	aligned_alloc_freed();
	aligned_alloc_fails();
	memalign_kept();
	memalign_freed();
	posix_memalign_kept();
	posix_memalign_freed();
	posix_memalign_fails(malloc_beside());
	valloc_kept();
	valloc_freed();
	pvalloc_kept();
	pvalloc_freed();
	valloc_fails();
	aligned_large_kept();
	aligned_large_freed();
	aligned_far_freed();
	stop("done");
	return 0;
}
