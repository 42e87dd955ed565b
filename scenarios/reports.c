/* SPDX-License-Identifier: MIT */
/*
 * Builds a report for each customer, in a thread of the customer's own. A report has two thousand rows; when it is sent
 * they are freed, and only its total is kept. New customers come all the time.
 */
#define _GNU_SOURCE
#include "service.h"

#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define REPORTS_PER_SECOND 2
#define CUSTOMERS 128
#define ROWS 2000
#define ROW_BYTES 1000

struct customer {
	pthread_t thread;
	sem_t asked;
	uint64_t *total; /* of the last report */
};

static struct customer customers[CUSTOMERS];
static sem_t built;

KEEP_FRAME static char *row_read(void)
{
	char *row = malloc(ROW_BYTES);

	if (!row)
		service_out_of_memory();
	ledger_taken(ROW_BYTES);
	memset(row, 'r', ROW_BYTES);
	KEEP_CALL();
	return row;
}

KEEP_FRAME static void report_build(struct customer *customer)
{
	static char *rows[ROWS]; /* one report at a time */
	uint64_t *total;

	for (int i = 0; i < ROWS; i++)
		rows[i] = row_read();
	total = malloc(sizeof(*total));
	if (!total)
		service_out_of_memory();
	ledger_taken(sizeof(*total));
	*total = 0;
	for (int i = 0; i < ROWS; i++) {
		*total += (uint64_t)rows[i][0];
		ledger_freed(ROW_BYTES);
		free(rows[i]);
	}
	if (customer->total) {
		ledger_freed(sizeof(*total));
		free(customer->total);
	}
	customer->total = total;
	KEEP_CALL();
}

static void *customer_serve(void *argument)
{
	struct customer *customer = argument;

	for (;;) {
		while (sem_wait(&customer->asked))
			;
		report_build(customer);
		sem_post(&built);
	}
	return NULL;
}

static void customer_begin(struct customer *customer)
{
	sem_init(&customer->asked, 0, 0);
	if (pthread_create(&customer->thread, NULL, customer_serve, customer))
		service_out_of_memory();
}

int main(int argc, char **argv)
{
	size_t known = 0;

	service_open(argc, argv);
	mallopt(M_ARENA_MAX, CUSTOMERS); /* threads do not wait for each other's malloc */
	sem_init(&built, 0, 0);
	for (size_t report = 0;; report++) {
		struct customer *customer = &customers[report % CUSTOMERS];

		service_wait(REPORTS_PER_SECOND);
		if (known < CUSTOMERS)
			customer_begin(&customers[known++]);
		sem_post(&customer->asked);
		while (sem_wait(&built))
			;
		service_done(known * sizeof(uint64_t), known, 1);
	}
}
