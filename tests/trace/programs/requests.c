/* A thread for each request, which keeps a block of the size that the C library takes for each thread's own cache. */
#include <pthread.h>

#include "program.h"

#define REQUESTS 40

SITE void request_keeps(void)
{
	keep(malloc(640));
}

static void *request(void *unused)
{
	request_keeps();
	return unused;
}

static void serve(int requests)
{
	for (int i = 0; i < requests; i++) {
		pthread_t thread;

		MUST(!pthread_create(&thread, NULL, request, NULL));
		MUST(!pthread_join(thread, NULL));
	}
}

/* Its stream is older, and the C library frees it. */
SITE void closes_older(FILE *stream)
{
	MUST(!fclose(stream));
}

int main(void)
{
	FILE *stream = fopen("/dev/null", "r");

	serve(1);
	stop("ready");
	serve(REQUESTS);
	closes_older(stream);
	stop("done");
	return 0;
}
