/* The library of late_stack.c. */
#include "program.h"

#ifndef FRAME_BYTES
#define FRAME_BYTES 200
#endif

SITE void late_leaf(int bytes)
{
	MUST(keep(malloc((size_t)bytes)));
}

SITE void late_take(int bytes)
{
	char frame[FRAME_BYTES];

	memset(frame, bytes, sizeof(frame));
	keep(frame);
	late_leaf(bytes);
	__asm__ volatile("" ::: "memory");
}
