/* Rust's way of another allocator: jemalloc is linked in behind the prefix _rjem_, beside the C library's. */
#include "program.h"

void *_rjem_malloc(size_t bytes);
void *_rjem_mallocx(size_t bytes, int flags);
void *_rjem_rallocx(void *block, size_t bytes, int flags);
void _rjem_sdallocx(void *block, size_t bytes, int flags);

SITE void sessions_cached(void)
{
	for (int i = 0; i < 5; i++)
		MUST(keep(_rjem_malloc(3000)));
}

SITE void vectors_grown_and_dropped(void)
{
	for (int i = 0; i < 7; i++) {
		void *block = keep(_rjem_mallocx(200, 0));

		block = keep(_rjem_rallocx(block, 100000, 0));
		_rjem_sdallocx(block, 100000, 0);
	}
}

SITE void c_library_kept(void)
{
	keep(malloc(100));
}

int main(void)
{
	_rjem_sdallocx(keep(_rjem_mallocx(1, 0)), 1, 0); /* what it sets up for itself is over */
	stop("ready");
	sessions_cached();
	vectors_grown_and_dropped();
	c_library_kept();
	stop("done");
	return 0;
}
