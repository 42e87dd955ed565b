/*
 * Says that it is a Python 3.11, and keeps what an interpreter keeps: lists of threads and of frames. Its argument says
 * what is wrong with them. "loop": both lead back to themselves; "astray": the frames lead into memory that is not
 * mapped; "changing": the newest thread's state is not complete while the first blocks are taken; "starting": the newest
 * thread's state still has the number of the thread that starts it.
 */
#include <sys/syscall.h>

#include "program.h"

#define WORDS 64

unsigned long Py_Version = 0x030b02f0;
unsigned long _PyRuntime[WORDS];

static unsigned long interpreter[WORDS], newest[WORDS], thread[WORDS], calls[WORDS], frame[WORDS], code[WORDS];

SITE void takes(void)
{
	for (int i = 0; i < 1000; i++)
		MUST(keep(malloc(100)));
}

SITE void takes_more(void)
{
	for (int i = 0; i < 1000; i++)
		MUST(keep(malloc(100)));
}

static void set_state(unsigned long *state, unsigned long *next, unsigned long id)
{
	state[8 / 8] = (unsigned long)next;
	if (next)
		next[0] = (unsigned long)state;
	state[16 / 8] = (unsigned long)interpreter;
	state[160 / 8] = id;
}

int main(int argc, char **argv)
{
	unsigned long id = (unsigned long)syscall(SYS_gettid);

	MUST(argc == 2);
	int loop = !strcmp(argv[1], "loop"), astray = !strcmp(argv[1], "astray");
	int endless = loop || astray, starting = !strcmp(argv[1], "starting");

	_PyRuntime[40 / 8] = (unsigned long)interpreter;
	interpreter[0] = endless ? (unsigned long)interpreter : 0;
	interpreter[16 / 8] = (unsigned long)(endless ? thread : newest);
	set_state(thread, endless ? thread : NULL, id);
	set_state(newest, thread, starting ? id : 1);
	thread[56 / 8] = (unsigned long)calls;
	calls[8 / 8] = (unsigned long)frame;
	frame[32 / 8] = (unsigned long)code;
	frame[48 / 8] = astray ? 0x10 : loop ? (unsigned long)frame : 0;
	memset(code, 0xff, sizeof(code));
	stop("before");
	if (!endless && !starting)
		newest[8 / 8] = newest[16 / 8] = 0;
	takes();
	if (endless)
		thread[160 / 8] = 0; /* from now on the thread has no state, and the list of them has no end */
	else
		set_state(newest, thread, starting ? id : 1);
	takes_more();
	stop("after");
	return 0;
}
