/*
 * Takes memory through a library that it loads after its first stop. `once`: before and after a stop; `loop`: again and
 * again until a byte comes; `anew`: once, and once more after the library was not loaded at a stop.
 */
#include "program.h"

#include <dlfcn.h>
#include <poll.h>

typedef void (*take_function)(int);

static void *load(const char *path, take_function *take)
{
	void *library = dlopen(path, RTLD_NOW);

	MUST(library);
	*take = (take_function)dlsym(library, "late_take");
	MUST(*take);
	return library;
}

int main(int count, char **arguments)
{
	take_function take;

	MUST(count == 3);
	stop("ready");
	void *library = load(arguments[1], &take);

	if (!strcmp(arguments[2], "loop")) {
		struct pollfd input = {.fd = 0, .events = POLLIN};

		while (!poll(&input, 1, 1))
			take(20);
	} else if (!strcmp(arguments[2], "anew")) {
		stop("loaded");
		take(20);
		stop("taken");
		MUST(dlclose(library) == 0);
		stop("unloaded");
		load(arguments[1], &take);
		stop("loaded");
		take(21);
	} else {
		take(20);
		stop("loaded");
		take(21);
	}
	stop("done");
	return 0;
}
