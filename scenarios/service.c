/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000ULL

/* A service that is forgotten must not take the machine's memory: from here on it works no more. */
#define MOST_LEAKED_BYTES (1ULL << 30)

#define IDLE_KEPT 64

/* The file, as diagnosis/learn/running.py reads it. */
struct idle {
	uint64_t since_ns, until_ns; /* CLOCK_MONOTONIC; until is 0 in the one that lasts */
	uint64_t leaked, blocks;
};

struct ledger {
	_Atomic uint64_t sequence; /* odd while a round changes the counts */
	uint64_t selected;         /* written by who starts the service */
	uint64_t held, leaked, blocks, rounds, settled, n_idle;
	struct idle idle[IDLE_KEPT]; /* a ring: interval i is at i modulo its size */
};

static struct ledger *ledger;
static double speed;
static int64_t held_bytes, held_blocks; /* below 0 where something was freed twice */
static uint64_t due_ns;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

void service_open(int argc, char **argv)
{
	speed = argc == 3 ? atof(argv[1]) : 0;
	int file = speed > 0 ? open(argv[2], O_RDWR | O_CLOEXEC) : -1;
	if (file >= 0)
		ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (!ledger || ledger == MAP_FAILED) {
		perror("usage: service SPEED LEDGER");
		exit(2);
	}
	close(file);
	due_ns = now_ns();
}

int service_has_rude_client(void)
{
	return ledger->selected != 0;
}

void service_wait(unsigned per_second)
{
	/* Deadlines are counted from the start, so that the pace does not drift on a busy machine. */
	due_ns += (uint64_t)((double)NSEC_PER_SEC / (per_second * speed));
	const struct timespec due = {.tv_sec = (time_t)(due_ns / NSEC_PER_SEC), .tv_nsec = (long)(due_ns % NSEC_PER_SEC)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
		;
	while (ledger->leaked >= MOST_LEAKED_BYTES)
		pause();
	if (ledger->n_idle)
		ledger->idle[(ledger->n_idle - 1) % IDLE_KEPT].until_ns = now_ns();
	atomic_fetch_add(&ledger->sequence, 1);
}

static uint64_t not_below_0(int64_t count)
{
	return count > 0 ? (uint64_t)count : 0;
}

void service_done(size_t in_use_bytes, size_t in_use_blocks, int settled)
{
	ledger->held = not_below_0(held_bytes);
	ledger->leaked = not_below_0(held_bytes - (int64_t)in_use_bytes);
	ledger->blocks = not_below_0(held_blocks - (int64_t)in_use_blocks);
	ledger->rounds++;
	ledger->settled = (uint64_t)settled;
	ledger->idle[ledger->n_idle % IDLE_KEPT] = (struct idle){
		.since_ns = now_ns(),
		.leaked = ledger->leaked,
		.blocks = ledger->blocks,
	};
	ledger->n_idle++;
	atomic_fetch_add(&ledger->sequence, 1);
}

void ledger_taken(size_t bytes)
{
	held_bytes += (int64_t)bytes;
	held_blocks++;
}

void ledger_freed(size_t bytes)
{
	held_bytes -= (int64_t)bytes;
	held_blocks--;
}

void service_out_of_memory(void)
{
	fputs("out of memory\n", stderr);
	exit(1);
}
