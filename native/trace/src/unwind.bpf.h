/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Walks user stacks by unwind tables: code needs no frame pointers for it.
 *
 * Included by an eBPF program after the kernel's types and libbpf's helpers. The loader fills `unwind_rows`,
 * `unwind_chunks`, `unwind_rules` and `unwind_modules`, and sets their sizes: see unwind_tables.h.
 *
 * A walk is a bpf_loop. All that it holds lies in a map, not on the program's stack: then the verifier sees the same state
 * before each frame, and is done after two.
 */
#ifndef UNWIND_BPF_H
#define UNWIND_BPF_H

#include "heap_hash.bpf.h"
#include "unwind_frame.bpf.h"
#include "unwind_maps.bpf.h"
#include "unwind_memo.bpf.h"

static __always_inline __u64 unwind_hash(const struct heap_frames *out)
{
	return hash_frames(out, out->depth + ((__u64)out->ending << 32));
}

/*
 * Sets `out` to the stack that begins in this processor's walk: pc, sp, fp and exact. Returns its depth. The memo takes
 * pc for what it was at first: a program begins all its walks with the same `exact`, or has no memo.
 *
 * A global function: it is verified once, whatever calls it, and by itself. Static, it would be verified anew on each of a
 * hundred paths that lead here. Kernels 6.10 to 6.14 refuse it while preemption is off.
 */
__noinline int unwind_registers(struct heap_frames *out)
{
	__u32 zero = 0, room = out ? out->room : 0;
	struct unwind_walk *walk = bpf_map_lookup_elem(&unwind_walks, &room);
	struct unwind_control *control = bpf_map_lookup_elem(&unwind_control, &zero);

	if (!walk || !control || !out)
		return 0;
	const __u32 generation = *(volatile __u32 *)&control->generation;
	struct unwind_step step = {.walk = walk, .out = out};
	__u64 recalled = 0;

	walk->memo.generation = generation;
	walk->entry_pc = walk->pc;
	walk->entry_fp = walk->fp;
	walk->entry_sp = walk->slice_at = walk->sp;
	walk->slice_bytes = 0;
	if (unwind.memo_sets) {
		__u64 place = (walk->pc ^ (walk->sp >> 3)) * 0x9E3779B97F4A7C15ULL;

		walk->first_memo = ((__u32)(place >> 40) & (unwind.memo_sets - 1)) * UNWIND_MEMO_WAYS;
		walk->recalled = 0;
		out->frames[0] = walk->pc;
		bpf_loop(UNWIND_MEMO_WAYS, unwind_recall_one, &step, 0);
		if (walk->recalled) {
			unwind_count(UNWIND_HITS, 1);
			if (unwind.mode != UNWIND_COMPARE)
				return out->depth;
			recalled = unwind_hash(out);
		}
	}

	walk->half = generation & 1;
	walk->modules = control->counts[walk->half];
	walk->module.start = walk->module.end = 0;
	walk->restored = walk->forgets = 0;
	walk->pc_at = 0;
	walk->fp_at = walk->checked_fp = 0;
	walk->memo.words = walk->memo.span = walk->memo.uses_fp = 0;
	out->depth = 0;

	bpf_loop(HEAP_MAX_FRAMES + 1, unwind_one, &step, 0);
	/* Twice changed meanwhile: the half that was read may have been written. */
	if (*(volatile __u32 *)&control->generation - generation > 1) {
		walk->forgets = 1;
		out->ending = HEAP_END_NOT_LOADED;
	}
	unwind_count(UNWIND_WALKS, 1);
	unwind_count(UNWIND_FRAMES, out->depth);
	if (walk->restored)
		unwind_count(UNWIND_RESTORED, walk->restored);
	if (recalled && recalled != unwind_hash(out))
		unwind_count(UNWIND_MISMATCHES, 1);
	if (unwind.memo_sets && !walk->forgets && !recalled)
		unwind_remember(walk, out->ending);
	return out->depth;
}

/*
 * Sets `out` to the stack of the current thread at a return probe: frames[0] is the address to which the probed call
 * returns, as bpf_get_stack has it. Returns the depth; 0 where there is no stack at all.
 *
 * `at_exit`: the probe is on the `ret` itself, and the return address where that finds it.
 */
static __always_inline __u32 unwind_stack(struct pt_regs *ctx, struct heap_frames *out, int at_exit)
{
	__u32 room = out->room;
	struct unwind_walk *walk = bpf_map_lookup_elem(&unwind_walks, &room);

	if (!walk)
		return 0;
	walk->pc = PT_REGS_IP(ctx);
	walk->sp = PT_REGS_SP(ctx);
	walk->fp = PT_REGS_FP(ctx);
	walk->exact = 0;
	if (at_exit) {
#ifdef __TARGET_ARCH_arm64
		walk->pc = PT_REGS_RET(ctx);
#else
		if (bpf_probe_read_user(&walk->pc, sizeof(walk->pc), (void *)walk->sp))
			return 0;
		walk->sp += sizeof(walk->pc);
#endif
	}
	return (__u32)unwind_registers(out);
}

#endif
