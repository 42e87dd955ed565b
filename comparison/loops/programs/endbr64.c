/* SPDX-License-Identifier: MIT */
/*
 * An allocator whose functions begin with endbr64, as on Ubuntu and Fedora, where the whole system is built with
 * -fcf-protection. Preloaded, it serves the loop of blocks of one small size: freed blocks are kept for the next malloc.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK 4096
#define BLOCKS 8192

static _Alignas(16) unsigned char memory[BLOCKS][BLOCK];
static size_t used;
static __thread void *spare;

void *malloc(size_t size)
{
	void *block = spare;

	if (block && size <= BLOCK) {
		spare = *(void **)block;
		return block;
	}
	const size_t next = size <= BLOCK ? __atomic_fetch_add(&used, 1, __ATOMIC_RELAXED) : BLOCKS;
	if (next < BLOCKS)
		return memory[next];
	errno = ENOMEM;
	return NULL;
}

void free(void *block)
{
	if (!block)
		return;
	*(void **)block = spare;
	spare = block;
}

void *calloc(size_t count, size_t size)
{
	unsigned char *block = malloc(count * size);

	for (size_t i = 0; block && i < count * size; i++)
		block[i] = 0;
	return block;
}

void *realloc(void *old, size_t size)
{
	unsigned char *block = malloc(size);

	for (size_t i = 0; old && block && i < BLOCK; i++)
		block[i] = ((unsigned char *)old)[i];
	free(old);
	return block;
}
