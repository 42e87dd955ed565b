/* C that leaks what Go asks it for, and that calls Go. */
#include "keeps.h"

#include <stdlib.h>

static void *volatile kept;

extern void comesBack(void);

__attribute__((noinline)) void keeps(size_t size)
{
	kept = malloc(size);
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) void calls_go(void)
{
	comesBack();
	__asm__ volatile("" ::: "memory");
}
