/* SPDX-License-Identifier: MIT */
/*
 * What every service here shares: a ledger, which is a file that it maps and in which it counts its own memory, and the
 * pace of its work. A service is started with its speed and the ledger's path. Its work comes in rounds:
 *
 *	service_open(argc, argv);
 *	for (;;) {
 *		service_wait(100);                  // a hundred rounds a second at speed 1
 *		...                                 // takes and frees memory, and counts it
 *		service_done(in_use, blocks, 1);    // what of it the service still needs
 *	}
 *
 * What is held and not in use is what leaked. One thread at a time calls these functions. A change of the source keeps
 * `ledger_taken` and `ledger_freed` beside what they count, or the ledger is wrong from then on.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A function that a profiler shows under its own name, and a call in it that does not become a jump. */
#ifdef __clang__
#define KEEP_FRAME __attribute__((noinline))
#else
#define KEEP_FRAME __attribute__((noinline, noclone))
#endif
#define KEEP_CALL() __asm__ volatile("" ::: "memory")

/* Map the ledger of the command line `service SPEED LEDGER`. Ends the process where there is none. */
void service_open(int argc, char **argv);

/* True in the one of several equal services that a client with bad manners talks to. */
int service_has_rude_client(void);

/* Wait until the next round is due, `per_second` times the speed a second, and begin it. */
void service_wait(unsigned per_second);

/* The round is done: so many bytes in so many blocks are in use. `settled`: from now on every round is like this one. */
void service_done(size_t in_use_bytes, size_t in_use_blocks, int settled);

/* Memory was taken from the allocator or the kernel, or given back. */
void ledger_taken(size_t bytes);
void ledger_freed(size_t bytes);

/* End the process: there is no memory. */
void service_out_of_memory(void) __attribute__((noreturn));
