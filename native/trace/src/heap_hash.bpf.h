/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* The hash of a stack's frames, and how functions are declared that the verifier is to go through once. */
#ifndef HEAP_HASH_BPF_H
#define HEAP_HASH_BPF_H

#include "heap_trace.h"

/*
 * A global function is verified once, and a static one on each path to it. Kernels 6.10 to 6.14 let no global one be
 * called while preemption is off.
 */
#ifdef HEAP_GLOBAL_FUNCTIONS
#define HEAP_FUNCTION __noinline
#else
#define HEAP_FUNCTION static __noinline
#endif

static __always_inline __u64 hash_word(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL; /* 2^64 / golden ratio: odd, well mixed */
	return hash ^ (hash >> 32);
}

/* Goes on with a hash over all frames of a stack. */
HEAP_FUNCTION __u64 hash_frames(const struct heap_frames *stack, __u64 hash)
{
	const __u32 depth = stack ? stack->depth : 0;

	for (__u32 i = 0; i < HEAP_MAX_FRAMES; i++) {
		if (i >= depth)
			break;
		hash = hash_word(hash, stack->frames[i]);
	}
	return hash;
}

#endif
