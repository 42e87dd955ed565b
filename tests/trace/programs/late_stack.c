/* Takes memory through a library that it loads after its first stop; `loop`: again and again until a byte comes. */
#include "program.h"

#include <dlfcn.h>
#include <poll.h>

int main(int count, char **arguments)
{
	MUST(count == 3);
	stop("ready");
	void *library = dlopen(arguments[1], RTLD_NOW);

	MUST(library);
	void (*take)(int) = (void (*)(int))dlsym(library, "late_take");

	MUST(take);
	if (!strcmp(arguments[2], "loop")) {
		struct pollfd input = {.fd = 0, .events = POLLIN};

		while (!poll(&input, 1, 1))
			take(20);
	} else {
		take(20);
		stop("loaded");
		take(21);
	}
	stop("done");
	return 0;
}
