/* A child reads shared memory that its parent has filled: it becomes resident in the child, and nobody takes a page.
 * With "fills" the parent has not, and the child's touch is what takes the pages. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (96UL << 20)
#define STEP (64UL << 10)

int main(int count, char **words)
{
	int fills = count > 1 && !strcmp(words[1], "fills");
	char *shared = mmap(0, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return 1;
	if (!fills)
		memset(shared, 1, BYTES);
	if (!fork()) {
		printf("%d\n", getpid());
		fflush(stdout);
		for (unsigned long at = 0; at < BYTES; at += STEP) {
			for (unsigned long page = at; page < at + STEP; page += 4096) {
				volatile char *byte = shared + page;
				*byte = fills ? 1 : *byte;
			}
			usleep(10000);
		}
		pause();
	}
	wait(0);
	return 0;
}
