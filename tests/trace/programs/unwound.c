/* One function takes memory at the end of every kind of call path, in code that keeps no frame pointers. */
#include "program.h"

#include <alloca.h>
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#define AFTER __asm__ volatile("" ::: "memory") /* the call before it is no tail call */

/* --- plain calls, and calls through libraries --- */

SITE void plain_leaf(void)
{
	MUST(keep(malloc(100)));
}

SITE void plain_middle(int depth)
{
	char frame[300];

	memset(frame, depth, sizeof(frame));
	keep(frame);
	plain_leaf();
	AFTER;
}

SITE void plain(void)
{
	plain_middle(3);
	AFTER;
}

SITE void in_strdup(void)
{
	MUST(keep(strdup("a text of the C library's")));
}

SITE void in_fopen(void)
{
	MUST(keep(fopen("/dev/null", "r")));
}

SITE void through_libraries(void)
{
	in_strdup();
	in_fopen();
	AFTER;
}

/* --- frames of a size that is known at run time only: they are found by the frame pointer --- */

SITE void variable_leaf(void)
{
	MUST(keep(malloc(101)));
}

SITE void variable(size_t size)
{
	char *block = alloca(size);

	memset(block, 1, size);
	keep(block);
	variable_leaf();
	AFTER;
}

/* A frame that the table finds by an expression alone, as compilers write it for stacks aligned anew. */
SITE void realigned_leaf(void)
{
	MUST(keep(malloc(102)));
}

SITE void realigned(size_t size)
{
	char aligned[64] __attribute__((aligned(64)));
	char *block = alloca(size);

	MUST(!((uintptr_t)aligned & 63));
	keep(aligned);
	keep(block);
	realigned_leaf();
	AFTER;
}

/* --- recursion --- */

SITE void descent_end(void)
{
	MUST(keep(malloc(103)));
}

SITE void descends(int levels)
{
	if (levels > 1)
		descends(levels - 1);
	else
		descent_end();
	AFTER;
}

/* --- signals --- */

SITE void handler_leaf(void)
{
	MUST(keep(malloc(104)));
}

SITE void handler(int signal)
{
	(void)signal;
	handler_leaf();
	AFTER;
}

SITE void interrupted(void)
{
	MUST(!raise(SIGUSR1));
	AFTER;
}

SITE void alternate_leaf(void)
{
	MUST(keep(malloc(105)));
}

SITE void on_alternate_stack(int signal)
{
	(void)signal;
	alternate_leaf();
	AFTER;
}

SITE void interrupted_elsewhere(void)
{
	MUST(!raise(SIGUSR2));
	AFTER;
}

static void set_signals(void)
{
	static char space[65536];
	stack_t alternate = {.ss_sp = space, .ss_size = sizeof(space)};
	struct sigaction action = {.sa_handler = handler};

	MUST(!sigaltstack(&alternate, NULL));
	MUST(!sigaction(SIGUSR1, &action, NULL));
	action.sa_handler = on_alternate_stack;
	action.sa_flags = SA_ONSTACK;
	MUST(!sigaction(SIGUSR2, &action, NULL));
}

/* --- a jump out of deeper frames --- */

static jmp_buf landing;

SITE void jumps(void)
{
	longjmp(landing, 1);
}

SITE void landed(void)
{
	MUST(keep(malloc(106)));
}

SITE void jumper(void)
{
	if (!setjmp(landing))
		jumps();
	else
		landed();
	AFTER;
}

/* --- a stack of its own, that ends in a guard page --- */

static ucontext_t back, coroutine;

SITE void coroutine_leaf(void)
{
	MUST(keep(malloc(107)));
}

SITE void coroutine_body(void)
{
	coroutine_leaf();
	AFTER;
}

SITE void switches(void)
{
	char *space = mmap(NULL, 5 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(space != MAP_FAILED);
	MUST(!mprotect(space, 4 * 4096, PROT_READ | PROT_WRITE));
	MUST(!getcontext(&coroutine));
	coroutine.uc_stack.ss_sp = space;
	coroutine.uc_stack.ss_size = 4 * 4096;
	coroutine.uc_link = &back;
	makecontext(&coroutine, coroutine_body, 0);
	MUST(!swapcontext(&back, &coroutine));
}

/* --- threads --- */

SITE void thread_leaf(void)
{
	MUST(keep(malloc(108)));
}

static void *thread(void *argument)
{
	thread_leaf();
	AFTER;
	return argument;
}

SITE void in_thread(void)
{
	pthread_t other;

	MUST(!pthread_create(&other, NULL, thread, NULL));
	MUST(!pthread_join(other, NULL));
}

/* --- code that is made at run time, and keeps frame pointers --- */

SITE void generated_leaf(void)
{
	MUST(keep(malloc(109)));
}

static void (*generated_code)(void (*)(void));

static void generate(void)
{
#ifdef __x86_64__
	/* push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret */
	static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
#else
	/* stp x29, x30, [sp, #-16]!; mov x29, sp; blr x0; ldp x29, x30, [sp], #16; ret */
	static const unsigned int code[] = {0xa9bf7bfd, 0x910003fd, 0xd63f0000, 0xa8c17bfd, 0xd65f03c0};
#endif
	char *space = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(space != MAP_FAILED);
	memcpy(space, code, sizeof(code));
	MUST(!mprotect(space, 4096, PROT_READ | PROT_EXEC));
	__builtin___clear_cache(space, space + sizeof(code));
	generated_code = (void (*)(void (*)(void)))(uintptr_t)space;
}

SITE void generated(void)
{
	generated_code(generated_leaf);
	AFTER;
}

int main(int count, char **arguments)
{
	int levels = count > 1 ? atoi(arguments[1]) : 20;

	set_signals();
	generate();
	stop("ready");
	for (int i = 0; i < 3; i++) { /* the second and third time the memo knows them */
		plain();
		through_libraries();
		variable((size_t)64 * 20);
		realigned((size_t)64 * 20);
		descends(levels);
		interrupted();
		interrupted_elsewhere();
		jumper();
		switches();
		in_thread();
		generated();
	}
	stop("done");
	return 0;
}
