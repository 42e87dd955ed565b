/* A program that loads an allocator while it is traced. */
#include <dlfcn.h>

#include "program.h"

typedef void *(*take_function)(size_t);
typedef void (*give_function)(void *);

static take_function take;
static give_function give;

SITE void plugin_keeps(void)
{
	for (int i = 0; i < 3; i++)
		MUST(keep(take(1000)));
}

SITE void plugin_gives_back(void)
{
	give(keep(take(500)));
}

SITE void program_keeps(void)
{
	MUST(keep(malloc(200)));
}

int main(int argc, char **argv)
{
	MUST(argc == 2);
	stop("ready");
	void *plugin = dlopen(argv[1], RTLD_NOW);

	MUST(plugin);
	take = (take_function)dlsym(plugin, "mi_malloc");
	give = (give_function)dlsym(plugin, "mi_free");
	MUST(take && give);
	stop("loaded");
	plugin_keeps();
	plugin_gives_back();
	program_keeps();
	stop("done");
	return 0;
}
