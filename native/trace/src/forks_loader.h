/* SPDX-License-Identifier: MIT */
/* Loads the program that follows forks, and reads what it tells. Errors as in loader.h. One thread at a time. */
#ifndef FORKS_LOADER_H
#define FORKS_LOADER_H

#include <stddef.h>
#include <stdint.h>

struct fork_trace;

int fork_trace_open(struct fork_trace **trace, const void *object, size_t size);

/* Tells of what `pid` starts from now on, and of what that starts. */
int fork_trace_follow(struct fork_trace *trace, uint32_t pid);

/*
 * Waits until one was started, or for `milliseconds`; sets what was started since the last call. The array lives until
 * the next call.
 */
int fork_trace_read(struct fork_trace *trace, int milliseconds, const struct forked **started, size_t *count);

/* How many were started that could not be told. */
int fork_trace_read_untold(struct fork_trace *trace, uint64_t *count);

void fork_trace_close(struct fork_trace *trace);

#endif
