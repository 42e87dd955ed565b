/* SPDX-License-Identifier: MIT */
/*
 * Loads the heap tracing program into the kernel, attaches it to one process and reads its maps.
 *
 * Every function that can fail returns 0 or a negative errno value, and leaves what libbpf and the kernel said in
 * trace_error().
 */
#ifndef LOADER_H
#define LOADER_H

#include <stddef.h>
#include <stdint.h>

struct heap_trace;

struct heap_trace_options {
	uint32_t max_blocks;  /* live heap blocks that can be tracked at a time */
	uint32_t max_stacks;  /* different call stacks */
	uint64_t min_bytes;   /* smaller blocks are left out */
	int allow_session;    /* 0: separate entry and return programs even where the kernel has sessions */
};

struct heap_trace_probe {
	uint64_t offset;   /* of the probed instruction, in bytes from the start of the file */
	uint32_t function; /* enum heap_function */
	int has_return;    /* the return is probed as well */
};

int heap_trace_open(struct heap_trace **trace, const void *object, size_t size,
		    const struct heap_trace_options *options);

/* Attaches to `path` for the process `pid` alone, all probes or none. May be repeated for further files. */
int heap_trace_attach(struct heap_trace *trace, int pid, const char *path, const struct heap_trace_probe *probes,
		      size_t count);

/* 1 where one session program serves entry and return, 0 where two programs do. Known after the first attach. */
int heap_trace_uses_session(const struct heap_trace *trace);

/*
 * Each sets the arrays and `count`; record i is keys[i] and values[i]. The arrays belong to the trace and live until
 * the same function is called again or the trace is closed.
 */
int heap_trace_read_stacks(struct heap_trace *trace, const uint64_t **hashes, const struct heap_stack **stacks,
			   size_t *count);
int heap_trace_read_blocks(struct heap_trace *trace, const uint64_t **addresses, const struct heap_block **blocks,
			   size_t *count);

/* Takes every mapping event out of the ring, in the order in which the kernel saw them. */
int heap_trace_read_mappings(struct heap_trace *trace, const struct heap_mapping **events, size_t *count);

/* `counts` has HEAP_LOST_KINDS places. */
int heap_trace_read_lost(struct heap_trace *trace, uint64_t *counts);

void heap_trace_close(struct heap_trace *trace);

#endif
