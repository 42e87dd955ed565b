/* SPDX-License-Identifier: MIT */
/* Sizes the maps of a program that includes unwind.bpf.h, and opens its tables. Errors as in loader.h. */
#ifndef UNWIND_LOADER_H
#define UNWIND_LOADER_H

#include "unwind_tables.h"

struct bpf_object;

struct unwind_options {
	uint32_t mode;      /* enum unwind_mode */
	uint32_t memo_sets; /* a power of two, or 0 for no memo */
	struct unwind_capacity capacity;
};

/* Before the object is loaded. */
int unwind_set_options(struct bpf_object *object, const struct unwind_options *options);

/* After it was loaded: its tables, empty. They are not to be used once the object is closed. */
int unwind_open_tables(struct unwind_tables **tables, struct bpf_object *object, const struct unwind_options *options);

/* `counts` has UNWIND_COUNTS places. */
int unwind_read_counts(struct bpf_object *object, uint64_t *counts);

#endif
