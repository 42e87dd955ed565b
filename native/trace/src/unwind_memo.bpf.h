/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* The memo: a stack whose words are those of an earlier walk is not walked again. */
#ifndef UNWIND_MEMO_BPF_H
#define UNWIND_MEMO_BPF_H

#include "unwind_maps.bpf.h"

#ifdef __TARGET_ARCH_arm64
/* One whose result is used: without it the addition becomes one that orders nothing. */
#define UNWIND_LOADS_IN_ORDER(walk) (void)__sync_val_compare_and_swap(&(walk)->barrier, 0, 0)
#else
#define UNWIND_LOADS_IN_ORDER(walk) __asm__ volatile("" ::: "memory")
#endif

static __always_inline int unwind_memo_holds(struct unwind_walk *walk, struct unwind_memo *memo, struct heap_frames *out)
{
	__u32 words = memo->words, bytes = memo->span * sizeof(__u64);

	if (walk->slice_bytes < bytes) {
		bytes &= sizeof(walk->slice) - 1;
		if (!bytes)
			bytes = sizeof(walk->slice);
		if (bpf_probe_read_user(walk->slice, bytes, (void *)walk->entry_sp)) {
			walk->slice_bytes = 0;
			return 0;
		}
		walk->slice_bytes = bytes;
	}
	bytes = walk->slice_bytes;
	out->depth = 1; /* in memory: in a register, the verifier would tell every depth from every other */
	for (__u32 i = 0; i < UNWIND_MEMO_WORDS; i++) {
		__asm__ volatile("" : "+r"(i)); /* one index: clang would count from a place before the map's value */
		if (i >= words)
			break;
		__u32 offset = memo->offsets[i] & ~UNWIND_MEMO_IS_FRAME;
		__u64 value;

		if (offset * sizeof(__u64) < bytes)
			value = walk->slice[offset & (UNWIND_SLICE_WORDS - 1)];
		else if (bpf_probe_read_user(&walk->word, sizeof(walk->word), (void *)(walk->entry_sp + offset * sizeof(__u64))))
			return 0;
		else
			value = walk->word;
		if (memo->offsets[i] & UNWIND_MEMO_IS_FRAME) {
			__u32 depth = out->depth;

			value = UNWIND_ADDRESS(value);
			if (depth >= HEAP_MAX_FRAMES)
				return 0;
			out->frames[depth] = value;
			out->depth = depth + 1;
		}
		if (value != memo->values[i])
			return 0;
	}
	out->ending = memo->ending;
	return 1;
}

static int unwind_recall_one(__u32 i, void *context)
{
	struct unwind_step *step = context;
	struct unwind_walk *walk = step->walk;
	__u32 at = walk->first_memo + i;
	struct unwind_memo *memo = bpf_map_lookup_elem(&unwind_memos, &at);

	if (!memo)
		return 1;
	__u64 sequence = *(volatile __u64 *)&memo->sequence;

	UNWIND_LOADS_IN_ORDER(walk);
	if ((sequence & 1) || memo->pc != walk->pc || memo->sp != walk->sp || memo->generation != walk->memo.generation ||
	    (memo->uses_fp && memo->fp != walk->fp) || !unwind_memo_holds(walk, memo, step->out))
		return 0;
	UNWIND_LOADS_IN_ORDER(walk);
	walk->recalled = *(volatile __u64 *)&memo->sequence == sequence;
	return walk->recalled;
}

static __always_inline void unwind_remember(struct unwind_walk *walk, __u32 ending)
{
	__u32 words = walk->memo.words, at = walk->first_memo + (walk->next_way++ & (UNWIND_MEMO_WAYS - 1));
	struct unwind_memo *memo = bpf_map_lookup_elem(&unwind_memos, &at);

	if (!memo || words > UNWIND_MEMO_WORDS)
		return;
	__u64 sequence = memo->sequence;

	if ((sequence & 1) || __sync_val_compare_and_swap(&memo->sequence, sequence, sequence + 1) != sequence)
		return; /* another processor writes it */
	memo->pc = walk->entry_pc;
	memo->sp = walk->entry_sp;
	memo->fp = walk->entry_fp;
	memo->generation = walk->memo.generation;
	memo->uses_fp = walk->memo.uses_fp;
	memo->ending = ending;
	memo->words = words;
	memo->span = walk->memo.span;
	if (bpf_probe_read_kernel(memo->values, words * sizeof(memo->values[0]), walk->memo.values) ||
	    bpf_probe_read_kernel(memo->offsets, words * sizeof(memo->offsets[0]), walk->memo.offsets))
		memo->pc = 0;
	(void)__sync_val_compare_and_swap(&memo->sequence, sequence + 1, sequence + 2); /* after all that is written above */
}

#endif
