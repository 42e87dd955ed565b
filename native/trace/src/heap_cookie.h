/* SPDX-License-Identifier: MIT */
#ifndef HEAP_COOKIE_H
#define HEAP_COOKIE_H

/*
 * A probe's cookie: its kind, its number among the trace's probes, in which arguments (from 1; 0: none) it finds what,
 * and how the result is given.
 */
#define HEAP_COOKIE_KIND(cookie) ((unsigned int)((cookie) & 0xff))
#define HEAP_COOKIE_PROBE(cookie) ((unsigned int)((cookie) >> 8 & 0xffff))
#define HEAP_COOKIE_SIZE(cookie) ((unsigned int)((cookie) >> 24 & 0xf))
#define HEAP_COOKIE_COUNT(cookie) ((unsigned int)((cookie) >> 28 & 0xf))
#define HEAP_COOKIE_POINTER(cookie) ((unsigned int)((cookie) >> 32 & 0xf))
#define HEAP_STORES_RESULT (1ULL << 36) /* the block is stored through the pointer, and 0 returned */
#define HEAP_EXIT_PROBED (1ULL << 37)   /* no return probe: HEAP_EXIT probes stand on its `ret` instructions */
#define HEAP_CHUNK_HEADER (1ULL << 38)  /* glibc: a block's size is in the word before it */
#define HEAP_COPIES_STRING (1ULL << 39) /* the block is a string: its length is read, for no argument has it */
#define HEAP_ENCLOSES (1ULL << 40) /* what is called inside is its own, whichever code calls: the user has named it */
#define HEAP_COOKIE(kind, probe, size, count, pointer, flags)                                                    \
	((unsigned long long)(kind) | (unsigned long long)(probe) << 8 | (unsigned long long)(size) << 24 |       \
	 (unsigned long long)(count) << 28 | (unsigned long long)(pointer) << 32 | (flags))

#endif
