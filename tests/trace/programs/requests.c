/*
 * A thread for each request. It keeps a block of the size that the C library takes for a thread's own cache, and another
 * one of a size that it leaves in that cache.
 */
#include <pthread.h>

#include "program.h"

#define REQUESTS 40

SITE void request_keeps(void)
{
	keep(malloc(640));
	keep(malloc(200));
}

SITE void request_frees(void)
{
	free(keep(malloc(200)));
}

static void *request(void *unused)
{
	request_keeps();
	request_frees();
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
