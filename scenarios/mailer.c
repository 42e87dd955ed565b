/* SPDX-License-Identifier: MIT */
/* Sends mail: each in a thread of its own, so that a slow server holds up no other mail. */
#define _GNU_SOURCE
#include "service.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <string.h>

#define MAILS_PER_SECOND 2
#define STACK_BYTES ((size_t)256 * 1024)
#define BODY_BYTES ((size_t)160 * 1024)

static pthread_attr_t attributes;
static sem_t sent;
static __thread char body[BODY_BYTES]; /* each thread's own: a part of its stack's mapping */

static void *mail_send(void *unused)
{
	memset(body, 'b', sizeof(body));
	__asm__ volatile("" ::"r"(body) : "memory"); /* the body is sent */
	sem_post(&sent);
	return unused;
}

KEEP_FRAME static void mail_start(void)
{
	pthread_t thread;

	if (pthread_create(&thread, &attributes, mail_send, NULL))
		service_out_of_memory();
	ledger_taken(STACK_BYTES); /* until the thread is joined, or ends detached */
	KEEP_CALL();
}

int main(int argc, char **argv)
{
	service_open(argc, argv);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	sem_init(&sent, 0, 0);
	for (;;) {
		service_wait(MAILS_PER_SECOND);
		mail_start();
		while (sem_wait(&sent))
			;
		service_done(0, 0, 1);
	}
}
