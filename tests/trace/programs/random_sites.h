/* The call sites of random.c: every function of the family, from four places each, and two ways to each place. */
#include <malloc.h>
#include <sys/mman.h>

#include "program.h"

/* What a call is asked for. */
struct request {
	void *old;
	size_t old_bytes, count, bytes, alignment;
};

typedef void *(*site)(const struct request *);

/* Four functions of one body. */
#define FOUR(family, body)                                                 \
	SITE void *family##_0(const struct request *r) { return body; } \
	SITE void *family##_1(const struct request *r) { return body; } \
	SITE void *family##_2(const struct request *r) { return body; } \
	SITE void *family##_3(const struct request *r) { return body; }

static inline void *posix(const struct request *r)
{
	void *block;

	return posix_memalign(&block, r->alignment, r->bytes) ? NULL : block;
}

static inline void *mapped(void *address)
{
	return address == MAP_FAILED ? NULL : address;
}

FOUR(malloc, malloc(r->bytes))
FOUR(calloc, calloc(r->count, r->bytes / r->count))
FOUR(realloc, realloc(r->old, r->bytes))
FOUR(reallocarray, reallocarray(r->old, r->count, r->bytes / r->count))
FOUR(aligned_alloc, aligned_alloc(r->alignment, r->bytes))
FOUR(memalign, memalign(r->alignment, r->bytes))
FOUR(posix_memalign, posix(r))
FOUR(valloc, valloc(r->bytes))
FOUR(pvalloc, pvalloc(r->bytes))
FOUR(mmap, mapped(mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)))
FOUR(mremap, mapped(mremap(r->old, r->old_bytes, r->bytes, MREMAP_MAYMOVE)))

enum family { MALLOC, CALLOC, REALLOC, REALLOCARRAY, ALIGNED_ALLOC, MEMALIGN, POSIX_MEMALIGN, VALLOC, PVALLOC, MMAP, MREMAP };

#define NAMES(family) {family##_0, #family "_0"}, {family##_1, #family "_1"}, {family##_2, #family "_2"}, {family##_3, #family "_3"}

static const struct {
	site call;
	const char *name;
} sites[] = {
	NAMES(malloc), NAMES(calloc), NAMES(realloc), NAMES(reallocarray), NAMES(aligned_alloc), NAMES(memalign),
	NAMES(posix_memalign), NAMES(valloc), NAMES(pvalloc), NAMES(mmap), NAMES(mremap),
};
#define SITES (sizeof(sites) / sizeof(*sites))

/* Two ways to each site. */
SITE void *from_left(site call, const struct request *request)
{
	void *block = call(request);

	__asm__ volatile("" ::: "memory");
	return block;
}

SITE void *from_right(site call, const struct request *request)
{
	void *block = call(request);

	__asm__ volatile("" ::: "memory");
	return block;
}

static const struct {
	void *(*call)(site, const struct request *);
	const char *name;
} ways[] = {{from_left, "from_left"}, {from_right, "from_right"}};
