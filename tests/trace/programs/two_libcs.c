/* A second C library in the process: the same file mapped a second time, or another file. */
#include <dlfcn.h>
#include <stdint.h>
#include <sys/mman.h>

#include "program.h"

static void *(*second_malloc)(size_t);
static void (*second_free)(void *);
static void *(*second_mmap)(void *, size_t, int, int, int, off_t);

SITE void first_kept(void)
{
	MUST(keep(malloc(100)));
}

SITE void second_kept(void)
{
	for (int i = 0; i < 2; i++)
		MUST(keep(second_malloc(1000)));
}

SITE void second_freed(void)
{
	second_free(keep(second_malloc(500)));
}

SITE void second_mapped(void)
{
	MUST(second_mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static void open_second(const char *library)
{
	void *handle = dlmopen(LM_ID_NEWLM, library, RTLD_NOW);

	MUST(handle);
	second_malloc = (void *(*)(size_t))(uintptr_t)dlsym(handle, "malloc");
	second_free = (void (*)(void *))(uintptr_t)dlsym(handle, "free");
	second_mmap = (void *(*)(void *, size_t, int, int, int, off_t))(uintptr_t)dlsym(handle, "mmap");
	MUST(second_malloc && second_malloc != malloc);
}

int main(int argc, char **argv)
{
	MUST(argc == 3);
	int early = !strcmp(argv[2], "early");

	if (early)
		open_second(argv[1]);
	stop("ready");
	if (!early)
		open_second(argv[1]);
	first_kept();
	second_kept();
	second_freed();
	second_mapped();
	stop("done");
	return 0;
}
