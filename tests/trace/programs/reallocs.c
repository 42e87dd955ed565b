/* realloc and reallocarray: the old block is one function's, the new one another's. */
#include <malloc.h>

#include "program.h"

/* The function that takes the old block of a case. */
#define OLD(name)                                 \
	SITE void *old_##name(size_t bytes)       \
	{                                         \
		void *block = keep(malloc(bytes)); \
		MUST(block);                      \
		return block;                     \
	}

OLD(grown_in_place)
SITE void grown_in_place(void *old)
{
	MUST(keep(realloc(old, 2000)) == old);
}

OLD(shrunk_in_place)
SITE void shrunk_in_place(void *old)
{
	MUST(keep(realloc(old, 500)) == old);
}

OLD(moved)
SITE void *moved(void *old)
{
	void *block = keep(realloc(old, 5000));

	MUST(block && block != old);
	return block;
}

OLD(moved_and_freed)
SITE void *moved_and_freed(void *old)
{
	return keep(realloc(old, 7000));
}

SITE void of_null(void)
{
	MUST(keep(realloc(NULL, 70)));
}

OLD(to_nothing)
SITE void to_nothing(void *old)
{
	MUST(!keep(realloc(old, 0)));
}

OLD(fails)
SITE void fails(void *old)
{
	MUST(!keep(realloc(old, too_large)));
}

OLD(fails_then_freed)
SITE void fails_then_freed(void *old)
{
	MUST(!keep(realloc(old, too_large)));
	free(old);
}

/* Blocks of mmap_threshold and more have a mapping each, which realloc moves with mremap. */
OLD(large_grown)
SITE void large_grown(void *old)
{
	MUST(keep(realloc(old, 4 << 20)));
}

OLD(large_shrunk)
SITE void large_shrunk(void *old)
{
	MUST(keep(realloc(old, 1 << 20)));
}

OLD(large_to_small)
SITE void large_to_small(void *old)
{
	MUST(keep(realloc(old, 40)));
}

OLD(small_to_large)
SITE void small_to_large(void *old)
{
	void *block = keep(realloc(old, 2 << 20));

	MUST(block && block != old);
}

OLD(array_grown)
SITE void array_grown(void *old)
{
	MUST(keep(reallocarray(old, 30, 11)));
}

SITE void array_of_null(void)
{
	MUST(keep(reallocarray(NULL, 6, 7)));
}

OLD(array_to_nothing)
SITE void array_to_nothing(void *old)
{
	MUST(!keep(reallocarray(old, 0, 8)));
}

OLD(array_overflows)
SITE void array_overflows(void *old)
{
	MUST(!keep(reallocarray(old, ((size_t)1 << 63) + 1, 2)));
}

/* 2^64 is 0 in a register, and a reallocarray of 0 bytes frees: this one does not. */
OLD(array_overflows_to_nothing)
SITE void array_overflows_to_nothing(void *old)
{
	MUST(!keep(reallocarray(old, (size_t)1 << 32, (size_t)1 << 32)));
}

int main(void)
{
	mallopt(M_MMAP_THRESHOLD, 128 << 10); /* a threshold that is set does not adapt */
	stop("ready");
	grown_in_place(old_grown_in_place(1000));
	shrunk_in_place(old_shrunk_in_place(1500));
	void *old = old_moved(200);
	malloc(16); /* main's own: it lies behind the block, which then has no room to grow */
	moved(old);
	old = old_moved_and_freed(200);
	malloc(16);
	free(moved_and_freed(old));
	of_null();
	to_nothing(old_to_nothing(300));
	fails(old_fails(310));
	fails_then_freed(old_fails_then_freed(320));
	large_grown(old_large_grown(1 << 20));
	large_shrunk(old_large_shrunk(4 << 20));
	large_to_small(old_large_to_small(1 << 20));
	small_to_large(old_small_to_large(400));
	array_grown(old_array_grown(50));
	array_of_null();
	array_to_nothing(old_array_to_nothing(60));
	array_overflows(old_array_overflows(70));
	array_overflows_to_nothing(old_array_overflows_to_nothing(80));
	stop("done");
	return 0;
}
