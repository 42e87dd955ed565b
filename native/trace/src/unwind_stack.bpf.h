/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Reads words of the user stack in slices, and keeps for the memo which of them the frames depend on. */
#ifndef UNWIND_STACK_BPF_H
#define UNWIND_STACK_BPF_H

#include "unwind_maps.bpf.h"

/* Reads as much as there is from an address on: near the top of a stack that is less than a slice. */
static __always_inline int read_slice(struct unwind_walk *walk, __u64 at)
{
	walk->slice_at = at;
	walk->slice_bytes = sizeof(walk->slice);
	if (!bpf_probe_read_user(walk->slice, sizeof(walk->slice), (void *)at))
		return 0;
	__u32 left = UNWIND_PAGE - (at & (UNWIND_PAGE - 1));

	left &= UNWIND_PAGE - 1; /* a whole page is what has just failed */
	walk->slice_bytes = left & ~7u;
	if (left >= sizeof(__u64) && !bpf_probe_read_user(walk->slice, left, (void *)at))
		return 0;
	walk->slice_bytes = 0;
	return -1;
}

/* What cannot be read now, as it is in swap, can be later: such a walk is not remembered. */
static __always_inline int read_word(struct unwind_walk *walk, __u64 at, __u64 *value)
{
	__u64 offset = at - walk->slice_at;

	if (offset & 7) {
		if (bpf_probe_read_user(&walk->word, sizeof(walk->word), (void *)at)) {
			walk->forgets = 1;
			return -1;
		}
		*value = walk->word;
		return 0;
	}
	if (offset >= walk->slice_bytes) {
		if (read_slice(walk, at)) {
			walk->forgets = 1;
			return -1;
		}
		offset = 0;
	}
	*value = walk->slice[(offset / sizeof(__u64)) & (UNWIND_SLICE_WORDS - 1)];
	return 0;
}

/* Remembers that the frames depend on a word. */
static __always_inline void depend_on(struct unwind_walk *walk, __u64 at, __u64 value, __u32 is_frame)
{
	__u64 offset = (at - walk->entry_sp) / sizeof(__u64);
	__u32 i = walk->memo.words;

	if (i >= UNWIND_MEMO_WORDS || offset >= UNWIND_MEMO_IS_FRAME || (at & 7)) {
		walk->forgets = 1;
		return;
	}
	walk->memo.values[i] = value;
	walk->memo.offsets[i] = (__u16)(offset | is_frame);
	walk->memo.words = i + 1;
	if (offset < UNWIND_SLICE_WORDS && walk->memo.span <= offset)
		walk->memo.span = (__u32)offset + 1;
}

/* The frame pointer is about to be used: its value decides the frames, from wherever it came. */
static __always_inline void depend_on_fp(struct unwind_walk *walk)
{
	if (walk->checked_fp)
		return;
	walk->checked_fp = 1;
	if (walk->fp_at)
		depend_on(walk, walk->fp_at, walk->fp_value, 0);
	else
		walk->memo.uses_fp = 1;
}

#endif
