/* SPDX-License-Identifier: MIT */
/*
 * Loads the heap tracing program into the kernel, attaches it to one process and reads its maps.
 *
 * Every function that can fail returns 0 or a negative errno value, and leaves what libbpf and the kernel said in
 * trace_error(). A trace is used by one thread at a time, except that heap_trace_detach may run beside any reading.
 */
#ifndef LOADER_H
#define LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "python_frames.h"
#include "unwind_loader.h"

struct heap_trace;

struct heap_trace_options {
	uint32_t max_blocks;  /* live heap blocks that can be tracked at a time */
	uint32_t max_stacks;  /* different call stacks */
	uint32_t ring_bytes;  /* of the ring of mapping events, and of that of frames: a power of two */
	uint64_t min_bytes;   /* smaller blocks are left out */
	int count_nothing;    /* 1: the probes fire and nothing else happens, to measure what they cost */
	int count_calls;      /* 1: heap_trace_read_calls tells how many probed calls there were */
	int allow_session;    /* 0: separate entry and return programs even where the kernel has sessions */
	struct unwind_options unwind;
	struct python_settings python; /* all 0: no frames of Python functions */
};

struct heap_trace_probe {
	uint64_t offset;                 /* of the probed instruction, in bytes from the start of the file */
	uint64_t flags;                  /* HEAP_STORES_RESULT, HEAP_EXIT_PROBED, HEAP_CHUNK_HEADER */
	uint32_t kind;                   /* enum heap_kind */
	uint32_t size, count, pointer;   /* positions of arguments, from 1; 0 where there is none */
};

/* The blocks of one stack that still live. By thirds of the time asked about, by birth. */
struct heap_survivors {
	uint64_t stack;
	uint64_t blocks, bytes;
	uint64_t oldest_ns;
	uint64_t third_blocks[3], third_bytes[3];
};

int heap_trace_open(struct heap_trace **trace, const void *object, size_t size,
		    const struct heap_trace_options *options);

/* One file: its probes, and the ranges of addresses at which the process has its code mapped. */
struct heap_trace_file {
	const struct heap_trace_probe *probes;
	size_t n_probes;
	const struct heap_code *code;
	size_t n_code;
};

/*
 * Attaches to `path` for the process `pid` alone, all probes or none. May be repeated for further files. `attachment` is
 * the number for heap_trace_detach_file.
 */
int heap_trace_attach(struct heap_trace *trace, int pid, const char *path, const struct heap_trace_file *file,
		      uint32_t *attachment);

/* Detaches the probes of one file, which the process has unmapped. */
void heap_trace_detach_file(struct heap_trace *trace, uint32_t attachment);

/* The tables of a trace that unwinds, to be filled before it is attached; NULL with UNWIND_OFF. They live as it does. */
struct unwind_tables *heap_trace_tables(const struct heap_trace *trace);

/* `counts` has UNWIND_COUNTS places. */
int heap_trace_read_unwound(struct heap_trace *trace, uint64_t *counts);

/* 1 where one session program serves entry and return, 0 where two programs do. Known after open. */
int heap_trace_uses_session(const struct heap_trace *trace);

/* Detaches every probe. What was counted can still be read; later attaches fail. */
void heap_trace_detach(struct heap_trace *trace);

/*
 * Detaches, and empties all that was counted, for a trace of another process. The one traced before has ended: a thread
 * of it that is in a call would go on counting. The unwind tables keep what was added.
 */
int heap_trace_reset(struct heap_trace *trace);

/*
 * Each sets the arrays and `count`; record i is keys[i] and values[i]. The arrays belong to the trace and live until
 * the same function is called again or the trace is closed.
 */
int heap_trace_read_counters(struct heap_trace *trace, const uint64_t **hashes, const struct heap_counters **counters,
			     size_t *count);
int heap_trace_read_older(struct heap_trace *trace, const uint64_t **callers, const struct heap_older **older,
			  size_t *count);

/* The blocks taken at `since_ns` or later, in ns of CLOCK_MONOTONIC, folded by stack. Thirds of [since_ns, now_ns). */
int heap_trace_read_survivors(struct heap_trace *trace, uint64_t since_ns, uint64_t now_ns,
			      const struct heap_survivors **survivors, size_t *count);

/* Takes every mapping event out of the ring, in the order in which the kernel saw them. */
int heap_trace_read_mappings(struct heap_trace *trace, const struct heap_mapping **events, size_t *count);

/*
 * Takes the frames of new stacks out of the ring: `bytes` of records one behind the other, each a struct heap_frames cut
 * after its last frame.
 */
int heap_trace_read_frames(struct heap_trace *trace, const unsigned char **records, size_t *bytes);

/* `counts` has HEAP_LOST_KINDS places, `sizes` HEAP_SIZE_CLASSES. */
int heap_trace_read_lost(struct heap_trace *trace, uint64_t *counts);
int heap_trace_read_calls(struct heap_trace *trace, uint64_t *calls);

/* SIGILL or SIGTRAP where that ended the process, else 0. */
int heap_trace_read_fatal_signal(struct heap_trace *trace, uint64_t *number);
int heap_trace_read_older_sizes(struct heap_trace *trace, struct heap_size_class *sizes);

void heap_trace_close(struct heap_trace *trace);

#endif
