/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The tables' lookup: the module of an address, and the rule in force there.
 *
 * Both searches halve what is left by the same amount whichever way they go: the verifier then follows one way only.
 */
#ifndef UNWIND_LOOKUP_BPF_H
#define UNWIND_LOOKUP_BPF_H

#include "unwind_maps.bpf.h"

/* Sets walk->module to where an address is. */
static __always_inline int find_module(struct unwind_walk *walk, __u64 address)
{
	__u32 low = 0, left = walk->modules;

	for (__u32 i = 0; i < 13 && left; i++) { /* the first module that ends beyond: UNWIND_MAX_MODULES are 2^12 */
		__u32 half = (left + 1) >> 1, at = (low + half - 1) * 2 + walk->half;
		struct unwind_module *module = bpf_map_lookup_elem(&unwind_modules, &at);

		if (!module)
			return -1;
		if (module->end <= address)
			low += half;
		left -= half;
	}
	__u32 at = low * 2 + walk->half;
	struct unwind_module *found = low < walk->modules ? bpf_map_lookup_elem(&unwind_modules, &at) : 0;

	if (!found || address < found->start)
		return -1;
	walk->module = *found;
	return 0;
}

static __always_inline __u32 row_at(__u32 i)
{
	__u32 at = i / UNWIND_BLOCK_ROWS;
	struct unwind_block *block = bpf_map_lookup_elem(&unwind_rows, &at);

	return block ? block->rows[i & (UNWIND_BLOCK_ROWS - 1)] : 0;
}

/* The rule in force at an address of walk->module, which has a table. */
static __always_inline struct unwind_rule *find_rule(struct unwind_walk *walk, __u64 address)
{
	__u64 in_object = address - walk->module.bias, number = in_object >> UNWIND_CHUNK_BITS;

	if (number >= walk->module.chunks)
		return 0;
	__u32 at = walk->module.first_chunk + (__u32)number;
	struct unwind_chunk *chunk = bpf_map_lookup_elem(&unwind_chunks, &at);
	if (!chunk)
		return 0;

	__u32 byte = in_object & ((1 << UNWIND_CHUNK_BITS) - 1);
	__u32 low = chunk->first, left = chunk->count;
	for (__u32 i = 0; i < 9 && left; i++) { /* the first row that begins beyond */
		__u32 half = (left + 1) >> 1;

		if ((row_at(low + half - 1) & ((1 << UNWIND_RULE_SHIFT) - 1)) <= byte)
			low += half;
		left -= half;
	}
	__u32 rule = row_at(low - 1) >> UNWIND_RULE_SHIFT; /* each object begins with a row of its own at 0 */
	return bpf_map_lookup_elem(&unwind_rules, &rule);
}

#endif
