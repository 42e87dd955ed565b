/*
 * One process for each kind of growth that a diagnosis has to tell apart; the first argument says which. It prints a line
 * when it has come to its everyday state, and goes on until it is killed.
 */
#define _GNU_SOURCE
#include "kinds_growth.h"
#include "kinds_no_leak.h"

int main(int count, char **arguments)
{
	const char *kind = count > 1 ? arguments[1] : "";

#define KIND(name) \
	if (!strcmp(kind, #name)) \
		name()
	KIND(equilibrium);
	KIND(cache);
	KIND(batches);
	KIND(arenas);
	KIND(buffer);
	KIND(bursts);
	KIND(commit);
	KIND(pools);
	KIND(shared);
	KIND(stacks);
	KIND(wrapper);
	if (!strcmp(kind, "files") && count > 2)
		files(arguments[2]);
	fprintf(stderr, "usage: kinds KIND [FILE]\n");
	return 2;
}
