/* Gives back, and resizes, what it took before the trace. Prints how many usable bytes the freed blocks had. */
#include "program.h"

#include <malloc.h>

#define BLOCKS 50
#define LARGE (1 << 20)

static void *old[BLOCKS], *old_large, *old_grown;

SITE void frees_older(void)
{
	for (int i = 0; i < BLOCKS; i++)
		free(old[i]);
}

SITE void frees_older_large(void)
{
	free(old_large);
}

SITE void grows_older(void)
{
	MUST(keep(old_grown = realloc(old_grown, 4000)));
}

SITE void grows_again(void)
{
	MUST(keep(old_grown = realloc(old_grown, 9000)));
}

SITE void takes_and_gives(void)
{
	free(keep(malloc(500)));
}

int main(void)
{
	size_t usable = 0;

	for (int i = 0; i < BLOCKS; i++) {
		MUST(old[i] = malloc(1000));
		usable += malloc_usable_size(old[i]);
	}
	MUST(old_large = malloc(LARGE));
	MUST(old_grown = malloc(200));
	char line[64];
	snprintf(line, sizeof(line), "%zu %zu %zu", usable, malloc_usable_size(old_large), malloc_usable_size(old_grown));
	stop(line);
	frees_older();
	frees_older_large();
	grows_older();
	takes_and_gives();
	stop("freed");
	grows_again();
	stop("done");
	return 0;
}
