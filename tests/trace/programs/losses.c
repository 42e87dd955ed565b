/* What cannot be counted, or not in full. The argument says which. */
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "program.h"

#define BLOCKS 100
#define MAPPINGS 100000

static void *blocks[BLOCKS];
static sigjmp_buf escape;

SITE void take_many(void)
{
	for (int i = 0; i < BLOCKS; i++)
		MUST(blocks[i] = malloc(10));
}

SITE void free_many(void)
{
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
}

/* Thirty-two functions, and with them as many stacks. */
#define ONE(n) \
	SITE void from_##n(void) { MUST(keep(malloc(n))); }
#define EIGHT(n) ONE(n##0) ONE(n##1) ONE(n##2) ONE(n##3) ONE(n##4) ONE(n##5) ONE(n##6) ONE(n##7)
EIGHT(1) EIGHT(2) EIGHT(3) EIGHT(4)
#define CALL_EIGHT(n) \
	from_##n##0(), from_##n##1(), from_##n##2(), from_##n##3(), from_##n##4(), from_##n##5(), from_##n##6(), from_##n##7()

static void many_stacks(void)
{
	CALL_EIGHT(1), CALL_EIGHT(2), CALL_EIGHT(3), CALL_EIGHT(4);
}

SITE void map_many(int count)
{
	for (int i = 0; i < count; i++)
		MUST(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static void leave_call(int number)
{
	(void)number;
	siglongjmp(escape, 1);
}

/* posix_memalign cannot write its result; the handler of that fault does not go back. */
SITE void never_returns(void)
{
	if (!sigsetjmp(escape, 1))
		posix_memalign((void **)16, 64, 100);
}

/* From further down than the next call: that is how the next call shows that this one is over. */
SITE void deeper(int levels)
{
	if (levels)
		deeper(levels - 1);
	else
		never_returns();
	__asm__ volatile("" ::: "memory");
}

SITE void returns(void)
{
	MUST(keep(malloc(70)));
}

/*
 * Functions that use the frame pointer for something else, as compilers let them by default: for a number, and for the
 * address of data that look like frames and lead out of the code.
 */
void *frame_pointer_is_a_number(void);
void *frame_pointer_is_data(void);
__asm__(".pushsection .data\n"
	"astray: .quad 0, astray\n"
	".popsection\n"
	".macro CALLS_WITHOUT_FRAME name, instruction:vararg\n"
	".globl \\name\n"
	".type \\name, @function\n"
	"\\name:\n"
	"push %rbp\n"
	"\\instruction\n"
	"mov $90, %edi\n"
	"call malloc@PLT\n"
	"pop %rbp\n"
	"ret\n"
	".size \\name, . - \\name\n"
	".endm\n"
	"CALLS_WITHOUT_FRAME frame_pointer_is_a_number, mov $12345, %ebp\n"
	"CALLS_WITHOUT_FRAME frame_pointer_is_data, lea astray(%rip), %rbp\n");

SITE void *parent_takes(void)
{
	return keep(malloc(500));
}

int main(int argc, char **argv)
{
	MUST(argc == 2);
	struct sigaction action = {.sa_handler = leave_call};

	stop("ready");
	if (!strcmp(argv[1], "blocks")) {
		take_many();
		stop("full");
		free_many();
		stop("empty");
		take_many();
	} else if (!strcmp(argv[1], "stacks")) {
		many_stacks();
	} else if (!strcmp(argv[1], "mappings")) {
		map_many(MAPPINGS);
		stop("full");
		map_many(100);
	} else if (!strcmp(argv[1], "paced")) {
		for (int i = 0; i < 10; i++) {
			map_many(MAPPINGS / 10);
			usleep(400000);
		}
	} else if (!strcmp(argv[1], "return")) {
		MUST(sigaction(SIGSEGV, &action, NULL) == 0);
		deeper(10);
		returns();
	} else if (!strcmp(argv[1], "frames")) {
		for (int i = 0; i < 3; i++)
			keep(frame_pointer_is_a_number());
		for (int i = 0; i < 4; i++)
			keep(frame_pointer_is_data());
		returns();
	} else if (!strcmp(argv[1], "vfork")) {
		/* Until it execs, a child of vfork works in its parent's memory. It must not call free, and can. */
		void *block = parent_takes();
		pid_t child = vfork();

		if (!child) {
			free(block);
			_exit(0);
		}
		MUST(waitpid(child, NULL, 0) == child);
		MUST(parent_takes() == block);
	} else {
		MUST(!"a case of that name");
	}
	stop("done");
	return 0;
}
