/* What random.c took and gave back, by call site: the books that the tracer has to equal. */
#ifndef RANDOM_BOOKS_H
#define RANDOM_BOOKS_H

#include "random_sites.h"

#define LARGEST_PAGES 32

struct tally {
	long allocations, frees, allocated, freed;
};

struct books {
	struct tally of[2][SITES];
};

/* A mapping that mremap made longer has several parts, by who took each. */
struct part {
	size_t bytes;
	unsigned way, site;
};

struct block {
	void *address;
	size_t bytes;
	unsigned n_parts;
	struct part parts[LARGEST_PAGES];
};

static int is_mapping(unsigned site)
{
	return site / 4 == MMAP || site / 4 == MREMAP;
}

static void book_taken(struct books *books, struct block *block, struct part part)
{
	struct tally *tally = &books->of[part.way][part.site];

	tally->allocations++;
	tally->allocated += (long)part.bytes;
	block->parts[block->n_parts++] = part;
}

static void book_gone(struct books *books, struct part *part, size_t bytes)
{
	struct tally *tally = &books->of[part->way][part->site];

	part->bytes -= bytes;
	tally->freed += (long)bytes;
	tally->frees += !part->bytes;
}

static void book_freed(struct books *books, struct block *block)
{
	for (unsigned i = 0; i < block->n_parts; i++)
		book_gone(books, &block->parts[i], block->parts[i].bytes);
	block->n_parts = 0;
}

/* Some bytes go, fewer than there are, from the first part on or from the last one back. */
static void book_cut(struct books *books, struct block *block, size_t bytes, int from_the_last)
{
	block->bytes -= bytes;
	while (bytes) {
		struct part *part = &block->parts[from_the_last ? block->n_parts - 1 : 0];
		size_t gone = bytes < part->bytes ? bytes : part->bytes;

		book_gone(books, part, gone);
		bytes -= gone;
		if (!part->bytes)
			memmove(part, part + 1, (size_t)(&block->parts[block->n_parts--] - part - 1) * sizeof(*part));
	}
}

#endif
