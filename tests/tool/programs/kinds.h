/* What the kinds of growth share. Included once, by kinds.c. */
#ifndef KINDS_H
#define KINDS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEEP __attribute__((noinline, noclone))
#define AFTER() __asm__ volatile("" ::: "memory")
#define KIB 1024
#define MIB (1024 * KIB)

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static void *touched(void *memory, size_t bytes)
{
	return memory ? memset(memory, 1, bytes) : abort(), memory;
}

#endif
