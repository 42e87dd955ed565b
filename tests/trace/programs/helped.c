/* An allocator that takes its memory by a library, with a header before each block. */
#include "program.h"

#define HEADER 16

void *checked_take(size_t bytes);
void checked_give(void *block);

SITE void *helped_take(size_t bytes)
{
	return (char *)checked_take(bytes + HEADER) + HEADER;
}

SITE void helped_give(void *block)
{
	checked_give((char *)block - HEADER);
	keep(block);
}

SITE void helped_kept(void)
{
	for (int i = 0; i < 5; i++)
		keep(helped_take(100));
}

SITE void helped_given_back(void)
{
	for (int i = 0; i < 7; i++)
		helped_give(keep(helped_take(100)));
}

int main(void)
{
	void *older = helped_take(3);

	stop("ready");
	helped_kept();
	helped_given_back();
	helped_give(older);
	stop("done");
	return 0;
}
