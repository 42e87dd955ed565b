/* A program with an allocator linked into it behind a prefix, as Rust links jemalloc in, beside the C library's. */
#include "program.h"

static char arena[1 << 16];
static size_t used;

SITE void *_rjem_mallocx(size_t bytes, int flags)
{
	void *block = arena + used;

	used += (bytes + 15) / 16 * 16 + (size_t)flags;
	return used <= sizeof(arena) ? block : NULL;
}

SITE void *_rjem_malloc(size_t bytes)
{
	void *block = arena + used;

	used += (bytes + 15) / 16 * 16;
	return used <= sizeof(arena) ? block : NULL;
}

SITE void _rjem_sdallocx(void *block, size_t bytes, int flags)
{
	__asm__ volatile("" : : "r"(block), "r"(bytes), "r"(flags) : "memory");
}

SITE void boxes_kept(void)
{
	for (int i = 0; i < 4; i++)
		MUST(keep(_rjem_malloc(3000)));
}

SITE void vectors_dropped(void)
{
	for (int i = 0; i < 6; i++)
		_rjem_sdallocx(keep(_rjem_mallocx(200, 0)), 200, 0);
}

SITE void c_library_kept(void)
{
	keep(malloc(100));
}

int main(void)
{
	stop("ready");
	boxes_kept();
	vectors_dropped();
	c_library_kept();
	stop("done");
	return 0;
}
