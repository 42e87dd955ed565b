/* The library of late.c. */
#include "program.h"

SITE void late_leaf(int bytes)
{
	MUST(keep(malloc((size_t)bytes)));
}

SITE void late_take(int bytes)
{
	char frame[200];

	memset(frame, bytes, sizeof(frame));
	keep(frame);
	late_leaf(bytes);
	__asm__ volatile("" ::: "memory");
}
