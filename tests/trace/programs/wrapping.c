/*
 * An allocator around the C library's: it keeps a header before each block, or the block is the C library's own. Compiled
 * with -DREPLACES it is malloc and free themselves, as a preloaded library that counts has them.
 */
#include "program.h"

#define HEADER 32

void *__libc_malloc(size_t bytes);
void __libc_free(void *block);

/* By pointers, as dlsym gives them: what they lead to is not in the code. */
static void *(*volatile libc_malloc)(size_t) = __libc_malloc;
static void (*volatile libc_free)(void *) = __libc_free;
static volatile long given;

#ifdef REPLACES
#define headed_take malloc
#define headed_give free
#endif

SITE void *headed_take(size_t bytes)
{
	char *block = libc_malloc(bytes + HEADER);

	MUST(block);
	return block + HEADER;
}

SITE void headed_give(void *block)
{
	if (block)
		libc_free((char *)block - HEADER);
	given++;
}

SITE void *plain_take(size_t bytes)
{
	return libc_malloc(bytes);
}

SITE void plain_give(void *block)
{
	given++;
	libc_free(block);
	given++;
}

/* Its end is a jump. */
SITE __attribute__((optimize("optimize-sibling-calls"))) void jumping_give(void *block)
{
	given++;
	libc_free(block);
}

SITE void headed_kept(void)
{
	for (int i = 0; i < 4; i++)
		keep(headed_take(700));
}

SITE void headed_given_back(void)
{
	for (int i = 0; i < 6; i++)
		headed_give(keep(headed_take(100)));
}

SITE void plain_given_back(void)
{
	for (int i = 0; i < 5; i++)
		plain_give(keep(plain_take(200)));
}

SITE void jumping_given_back(void)
{
	for (int i = 0; i < 3; i++)
		jumping_give(keep(plain_take(300)));
}

SITE void older_given_back(void **blocks)
{
	headed_give(blocks[0]);
	headed_give(blocks[1]);
	plain_give(blocks[2]);
	jumping_give(blocks[3]);
}

int main(void)
{
	void *older[] = {headed_take(10), headed_take(5000), plain_take(20), plain_take(30)};

	stop("ready");
	headed_kept();
	headed_given_back();
	plain_given_back();
	jumping_given_back();
	older_given_back(older);
	stop("done");
	return 0;
}
