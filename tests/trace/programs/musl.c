/* Memory that the C library's own functions take for the program, also on a thread. */
#include "program.h"

#include <pthread.h>

#define TIMES 5

SITE void in_strdup(void)
{
	keep(strdup("twelve bytes"));
}

SITE void in_asprintf(int i)
{
	char *made;

	MUST(asprintf(&made, "order %d", i) > 0);
	keep(made);
}

SITE void in_fopen(void)
{
	MUST(keep(fopen("/dev/null", "r")));
}

SITE void in_setenv(int i)
{
	char name[20];

	snprintf(name, sizeof(name), "NAME_%d", i);
	MUST(!setenv(name, "value", 1));
}

SITE void in_thread(void)
{
	keep(malloc(100));
}

SITE void *thread(void *unused)
{
	in_thread();
	return unused;
}

int main(void)
{
	pthread_t started;

	stop("ready");
	for (int i = 0; i < TIMES; i++) {
		in_strdup();
		in_asprintf(i);
		in_fopen();
		in_setenv(i);
	}
	MUST(!pthread_create(&started, NULL, thread, NULL));
	MUST(!pthread_join(started, NULL));
	stop("done");
	return 0;
}
