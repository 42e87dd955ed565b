/*
 * A host of plugins: it copies an allocator's library, loads the copy, uses it and unloads it again, a number of times.
 * For each copy there is a stop while it is loaded, with its number, and one after it was unloaded.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "program.h"

typedef void *(*take_function)(size_t);
typedef void (*give_function)(void *);

static take_function take;
static give_function give;

SITE void plugin_serves(void)
{
	give(keep(take(1000)));
}

static void copy(const char *from, const char *to)
{
	static char bytes[1 << 20];
	int source = open(from, O_RDONLY), target = open(to, O_WRONLY | O_CREAT | O_EXCL, 0755);
	ssize_t size = read(source, bytes, sizeof(bytes));

	MUST(size > 0 && write(target, bytes, (size_t)size) == size);
	close(source);
	close(target);
}

int main(int argc, char **argv)
{
	MUST(argc == 4);
	const int times = atoi(argv[3]);

	stop("ready");
	for (int i = 0; i < times; i++) {
		copy(argv[1], argv[2]);
		void *plugin = dlopen(argv[2], RTLD_NOW);

		MUST(plugin && unlink(argv[2]) == 0);
		take = (take_function)dlsym(plugin, "mi_malloc");
		give = (give_function)dlsym(plugin, "mi_free");
		MUST(take && give);
		stop("loaded");
		plugin_serves();
		MUST(dlclose(plugin) == 0);
		stop("unloaded");
	}
	stop("done");
	return 0;
}
