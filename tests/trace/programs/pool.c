/* A pool that nobody else knows: its functions have the pool as their first argument, and headers before the blocks. */
#include "program.h"

struct pool {
	size_t used;
	char arena[1 << 16];
};

static struct pool pool;

SITE void *pool_take(struct pool *from, size_t bytes)
{
	size_t *header = (size_t *)(from->arena + from->used);

	MUST(from->used + bytes + 16 < sizeof(from->arena));
	from->used += (bytes + 31) / 16 * 16;
	*header = bytes;
	return (char *)header + 16;
}

SITE void pool_give(struct pool *to, void *block)
{
	size_t *header = (size_t *)((char *)block - 16);

	MUST(to == &pool);
	*header = 0;
}

SITE void *pool_resize(struct pool *from, void *block, size_t bytes)
{
	void *larger = pool_take(from, bytes);

	memcpy(larger, block, 10);
	pool_give(from, block);
	return larger;
}

SITE void sessions_kept(void)
{
	for (int i = 0; i < 4; i++)
		keep(pool_take(&pool, 700));
}

SITE void requests_given_back(void)
{
	for (int i = 0; i < 9; i++)
		pool_give(&pool, keep(pool_take(&pool, 100)));
}

SITE void buffers_grow(void)
{
	keep(pool_resize(&pool, keep(pool_take(&pool, 50)), 5000));
}

int main(void)
{
	stop("ready");
	sessions_kept();
	requests_given_back();
	buffers_grow();
	keep(malloc(1));
	stop("done");
	return 0;
}
