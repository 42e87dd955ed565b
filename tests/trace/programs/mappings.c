/* mmap, mremap and munmap: whole mappings, parts of them, several at once, and what fails. */
#include <errno.h>
#include <sys/mman.h>

#include "program.h"

#define PAGE ((size_t)4096)

static char *map_at(void *address, size_t bytes, int flags)
{
	return mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}
#define MAP(bytes) ((char *)mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))

/* The function that takes a mapping whose later fate is a case of its own. */
#define MAPS(name)                              \
	SITE char *name(size_t bytes)           \
	{                                       \
		char *address = MAP(bytes);     \
		MUST(address != MAP_FAILED);    \
		return address;                 \
	}

MAPS(whole_kept)
MAPS(odd_length)
MAPS(whole_unmapped)
MAPS(head_unmapped)
MAPS(tail_unmapped)
MAPS(middle_unmapped)
MAPS(unmapped_piecemeal)
MAPS(unmap_fails)
MAPS(old_grown)
MAPS(old_shrunk)
MAPS(old_moved)
MAPS(old_fails)
MAPS(old_left_behind)
MAPS(reserve)
MAPS(replaced)
MAPS(torn)
MAPS(given_back_by_reserving)

SITE void unmaps(void *address, size_t bytes)
{
	MUST(munmap(address, bytes) == 0);
}

SITE void fails_to_unmap(char *address)
{
	MUST(munmap(address + 1, PAGE) == -1 && errno == EINVAL);
	MUST(munmap(address, 0) == -1 && errno == EINVAL);
}

SITE void fails_to_map(void)
{
	MUST(MAP(0) == MAP_FAILED);
	MUST(MAP(too_large) == MAP_FAILED);
}

SITE void maps_shared(void)
{
	MUST(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

SITE void grows(void *old)
{
	MUST(mremap(old, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE) != MAP_FAILED);
}

SITE void shrinks(void *old)
{
	MUST(mremap(old, 8 * PAGE, 3 * PAGE, 0) == old);
}

SITE void moves(void *old, void *onto)
{
	MUST(mremap(old, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, onto) == onto);
}

SITE void fails_to_grow(void *old)
{
	MUST(mremap(old, 2 * PAGE, too_large, MREMAP_MAYMOVE) == MAP_FAILED);
	MUST(mremap((char *)old + 1, PAGE, PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
}

/* The pages move, the old range stays mapped and empty. */
SITE void leaves_behind(void *old)
{
	MUST(mremap(old, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL) != MAP_FAILED);
}

/* Without access, address space is no memory. */
SITE char *reserves_only(void *address, int flags)
{
	return mmap(address, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

SITE void fixed_over_reservation(char *base)
{
	MUST(mmap(base + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	     base + PAGE);
}

SITE void fixed_over_reserve(char *base)
{
	for (int i = 0; i < 3; i++)
		MUST(mmap(base + (1 + 2 * i) * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			  0) != MAP_FAILED);
}

SITE void fixed_over_all(char *address)
{
	MUST(mmap(address, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == address);
}

int main(void)
{
	char *before = map_at(NULL, 4 * PAGE, 0);
	char *onto = map_at(NULL, 2 * PAGE, 0);
	char *address;

	stop("ready");
	whole_kept(3 * PAGE);
	odd_length(PAGE + 904);
	unmaps(whole_unmapped(5 * PAGE), 5 * PAGE);
	unmaps(whole_unmapped(2 * PAGE), PAGE + 1); /* the kernel takes whole pages */
	unmaps(head_unmapped(4 * PAGE), PAGE);
	unmaps(tail_unmapped(4 * PAGE) + 2 * PAGE, 2 * PAGE);
	unmaps(middle_unmapped(6 * PAGE) + 2 * PAGE, PAGE);

	address = unmapped_piecemeal(6 * PAGE);
	unmaps(address + 2 * PAGE, 2 * PAGE);
	unmaps(address, 2 * PAGE);
	unmaps(address + 2 * PAGE, 2 * PAGE); /* gone already: that is no error, and no second free */
	unmaps(address + 4 * PAGE, 2 * PAGE);

	fails_to_unmap(unmap_fails(2 * PAGE));
	fails_to_map();
	maps_shared();
	grows(old_grown(2 * PAGE));
	shrinks(old_shrunk(8 * PAGE));
	moves(old_moved(2 * PAGE), onto);
	fails_to_grow(old_fails(2 * PAGE));
	leaves_behind(old_left_behind(2 * PAGE));

	address = reserve(8 * PAGE);
	fixed_over_reserve(address);
	unmaps(address + PAGE, 5 * PAGE); /* two of the three, and half of the last */
	fixed_over_all(replaced(4 * PAGE));

	address = reserves_only(NULL, 0);
	MUST(address != MAP_FAILED);
	fixed_over_reservation(address);
	address = given_back_by_reserving(16 * PAGE);
	MUST(reserves_only(address, MAP_FIXED) == address);

	/* A partial munmap that spans the ends of two mappings and the gap between them. */
	address = torn(6 * PAGE);
	unmaps(address + 2 * PAGE, PAGE);
	unmaps(address + PAGE, 3 * PAGE);

	unmaps(before, 4 * PAGE);
	stop("done");
	return 0;
}
