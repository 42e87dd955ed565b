/* Stacks deeper than what is kept of one. */
#include "program.h"

SITE void at_the_bottom(void)
{
	MUST(keep(malloc(100)));
}

SITE void descends(int levels)
{
	if (levels)
		descends(levels - 1);
	else
		at_the_bottom();
	__asm__ volatile("" ::: "memory");
}

int main(void)
{
	stop("ready");
	descends(20);
	for (int i = 0; i < 3; i++)
		descends(600);
	descends(1000);
	stop("done");
	return 0;
}
