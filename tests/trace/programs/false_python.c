/*
 * Says that it is a Python 3.11, and keeps what an interpreter keeps: lists of threads and of frames that never end. A
 * second argument says what the frames are: "loop" leads back to itself, "astray" into memory that is not mapped.
 */
#include <sys/syscall.h>

#include "program.h"

#define WORDS 64

unsigned long Py_Version = 0x030b02f0;
unsigned long _PyRuntime[WORDS];

static unsigned long interpreter[WORDS], thread[WORDS], calls[WORDS], frame[WORDS], code[WORDS];

SITE void takes(void)
{
	for (int i = 0; i < 1000; i++)
		MUST(keep(malloc(100)));
}

int main(int argc, char **argv)
{
	MUST(argc == 2);
	_PyRuntime[40 / 8] = (unsigned long)interpreter;
	interpreter[0] = (unsigned long)interpreter;
	interpreter[16 / 8] = (unsigned long)thread;
	thread[8 / 8] = (unsigned long)thread;
	thread[56 / 8] = (unsigned long)calls;
	thread[160 / 8] = (unsigned long)syscall(SYS_gettid);
	calls[8 / 8] = (unsigned long)frame;
	frame[32 / 8] = (unsigned long)code;
	frame[48 / 8] = strcmp(argv[1], "loop") ? 0x10 : (unsigned long)frame;
	memset(code, 0xff, sizeof(code));
	stop("before");
	takes();
	thread[160 / 8] = 0; /* from now on the thread has no state, and the list of them has no end */
	takes();
	stop("after");
	return 0;
}
