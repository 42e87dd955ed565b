/* SPDX-License-Identifier: MIT */
/* Loads the page fault sampler, opens its events on every processor, and reads its counts. Errors as in loader.h. */
#ifndef PAGE_FAULTS_LOADER_H
#define PAGE_FAULTS_LOADER_H

#include "unwind_loader.h"

#include <stddef.h>
#include <stdint.h>

struct fault_trace;

/*
 * Loads the program. `pid`: the one process to sample, 0 for all. `unwind`: how stacks are taken, without a memo. Tables
 * are one process's: where `pid` is 0, it is UNWIND_OFF.
 */
int fault_trace_open(struct fault_trace **trace, const void *object, size_t size, uint32_t pid,
		     const struct unwind_options *unwind);

/* The tables, to be filled before the attach; NULL with UNWIND_OFF. They live as the trace does. */
struct unwind_tables *fault_trace_tables(const struct fault_trace *trace);

/* Samples from now on, one for every `period` faults of a processor. Once. */
int fault_trace_attach(struct fault_trace *trace, uint64_t period);

/* Record i is keys[i] and counts[i]. The arrays live until the next call or the close. */
int fault_trace_read_samples(struct fault_trace *trace, const struct fault_key **keys, const uint64_t **counts,
			     size_t *count);
int fault_trace_read_stacks(struct fault_trace *trace, const uint64_t **hashes, const struct fault_stack **stacks,
			    size_t *count);

/* All faults of all processes since the open, counted and not estimated; and the samples that found no room. */
int fault_trace_read_totals(struct fault_trace *trace, uint64_t *faults, uint64_t *lost);

void fault_trace_close(struct fault_trace *trace);

#endif
