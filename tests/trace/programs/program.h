/*
 * What the traced programs share: the stops between which they are traced, and what keeps a call site on the stack.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A function that is neither inlined nor copied: its name is the key of the expected table. */
#define SITE __attribute__((noinline, noclone, used))

/* The program's own assumptions. Where one does not hold, its expected table would be worth nothing. */
#define MUST(condition)                                                                    \
	do {                                                                               \
		if (!(condition)) {                                                        \
			static const char text[] = __FILE__ ": does not hold: " #condition "\n"; \
			(void)!write(2, text, sizeof(text) - 1);                           \
			_exit(3);                                                          \
		}                                                                          \
	} while (0)

/* Larger than any object can be, and not known to the compiler, which would warn of it or answer for the library. */
static volatile size_t too_large __attribute__((unused)) = (size_t)-1 / 2 + 4096;

/* Says that a stop is reached, with one line, and waits for the byte that lets the program go on. Takes no memory. */
static inline void stop(const char *line)
{
	char byte;

	MUST(write(1, line, strlen(line)) == (ssize_t)strlen(line));
	MUST(write(1, "\n", 1) == 1);
	MUST(read(0, &byte, 1) == 1);
}

/* What a program takes has to be used, or a compiler may drop the call. */
static void *volatile kept __attribute__((unused));

static inline void *keep(void *block)
{
	kept = block;
	return block;
}

#endif
