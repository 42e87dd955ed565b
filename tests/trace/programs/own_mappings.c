/* Memory by other ways than malloc and plain mmap: at each stop each of them took STEP bytes more, and wrote to them. */
#include <fcntl.h>
#include <sys/mman.h>

#include "program.h"

#define STEP ((size_t)256 << 10)
#define GUARD ((size_t)4096)
#define OLDER (4 * STEP)

static char *buffer, *segment;
static size_t buffer_bytes = OLDER, segment_bytes = STEP;
static int file, zeroes;

static char *map(size_t bytes, int flags, int from)
{
	char *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, from, 0);

	MUST(address != MAP_FAILED);
	return address;
}

SITE void grows_buffer(void)
{
	MUST((buffer = mremap(buffer, buffer_bytes, buffer_bytes + STEP, MREMAP_MAYMOVE)) != MAP_FAILED);
	memset(buffer + buffer_bytes, 1, STEP);
	buffer_bytes += STEP;
}

SITE void grows_segment(void)
{
	MUST((segment = mremap(segment, segment_bytes, segment_bytes + STEP, MREMAP_MAYMOVE)) != MAP_FAILED);
	segment_bytes += STEP;
}

SITE void patches_file(void)
{
	memset(map(STEP, MAP_PRIVATE, file), 1, STEP);
}

SITE int reads_file(void)
{
	return map(STEP, MAP_PRIVATE, file)[GUARD];
}

SITE void maps_zeroes(void)
{
	memset(map(STEP, MAP_PRIVATE, zeroes), 1, STEP);
}

SITE void shares(void)
{
	memset(map(STEP, MAP_SHARED | MAP_ANONYMOUS, -1), 1, STEP);
}

SITE void makes_stack(void)
{
	char *stack = map(GUARD + STEP, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1);

	MUST(mprotect(stack, GUARD, PROT_NONE) == 0);
	memset(stack + GUARD, 1, STEP);
}

int main(void)
{
	MUST((file = memfd_create("image", MFD_CLOEXEC)) >= 0);
	MUST(ftruncate(file, (off_t)(64 * STEP)) == 0);
	MUST((zeroes = open("/dev/zero", O_RDWR)) >= 0);
	buffer = map(OLDER, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memset(buffer, 1, OLDER);
	segment = map(STEP, MAP_SHARED, file);
	for (;;) {
		stop("step");
		grows_buffer();
		grows_segment();
		patches_file();
		MUST(reads_file() == 0);
		maps_zeroes();
		shares();
		makes_stack();
	}
}
