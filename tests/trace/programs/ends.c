/* Ends in the midst of a trace, or becomes another program. The argument says how. */
#include "program.h"

SITE void before(void)
{
	for (int i = 0; i < 5; i++)
		MUST(keep(malloc(1000)));
}

SITE void just_before(void)
{
	MUST(keep(malloc(300)));
}

SITE void after(void)
{
	for (int i = 0; i < 7; i++)
		MUST(keep(malloc(64)));
}

int main(int argc, char **argv)
{
	MUST(argc == 2);
	if (!strcmp(argv[1], "other")) {
		after();
		stop("another program");
		after();
		stop("done");
		return 0;
	}
	stop("ready");
	before();
	stop("allocated");
	just_before();
	if (!strcmp(argv[1], "exec"))
		execl("/proc/self/exe", "ends", "other", (char *)NULL);
	return 0;
}
