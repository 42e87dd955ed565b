/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* One step of a walk: from a frame to the one that called it. */
#ifndef UNWIND_FRAME_BPF_H
#define UNWIND_FRAME_BPF_H

#include "unwind_lookup.bpf.h"
#include "unwind_return_probes.bpf.h"
#include "unwind_stack.bpf.h"

#ifdef __TARGET_ARCH_arm64
/* struct rt_sigframe: siginfo (128 bytes), then ucontext with its sigcontext at 176: fault address, x0 to x30, sp, pc. */
#define UNWIND_SIGNAL_REGISTERS (128 + 176 + 8)
#define UNWIND_SIGNAL_FP 29
#define UNWIND_SIGNAL_LR 30
#define UNWIND_SIGNAL_SP 31
#define UNWIND_SIGNAL_PC 32
#else
/* struct rt_sigframe without its return address: ucontext, with its sigcontext at 40: r8 to r15, rdi, rsi, rbp, ... */
#define UNWIND_SIGNAL_REGISTERS 40
#define UNWIND_SIGNAL_FP 10
#define UNWIND_SIGNAL_SP 15
#define UNWIND_SIGNAL_PC 16
#endif

static __always_inline int unwind_end(struct heap_frames *out, __u32 how)
{
	out->ending = how;
	return 1;
}

/* One word further out: a return address, and the frame that it belongs to. */
static __always_inline int go_out(struct unwind_walk *walk, struct heap_frames *out, __u64 cfa, __u64 slot)
{
	__u64 address;

	if (read_word(walk, slot, &address))
		return unwind_end(out, HEAP_END_UNREADABLE);
	address = UNWIND_ADDRESS(address);
	depend_on(walk, slot, address, address ? UNWIND_MEMO_IS_FRAME : 0);
	if (!address)
		return unwind_end(out, HEAP_END_START);
	walk->pc = address;
	walk->sp = cfa;
	walk->exact = 0;
	walk->pc_at = slot;
	return 0;
}

static __always_inline int by_frame_pointer(struct unwind_walk *walk, struct heap_frames *out)
{
	__u64 at = walk->fp;

	depend_on_fp(walk);
	if (at < walk->sp || (at & 7) || read_word(walk, at, &walk->fp))
		return unwind_end(out, HEAP_END_NO_TABLE);
	walk->fp_at = at;
	walk->fp_value = walk->fp;
	walk->checked_fp = 0;
	return go_out(walk, out, at + 2 * sizeof(__u64), at + sizeof(__u64));
}

static __always_inline int out_of_signal(struct unwind_walk *walk, struct heap_frames *out)
{
	__u64 at = walk->sp + UNWIND_SIGNAL_REGISTERS, pc, sp;

	if (read_word(walk, at + UNWIND_SIGNAL_PC * sizeof(__u64), &pc) ||
	    read_word(walk, at + UNWIND_SIGNAL_SP * sizeof(__u64), &sp) ||
	    read_word(walk, at + UNWIND_SIGNAL_FP * sizeof(__u64), &walk->fp))
		return unwind_end(out, HEAP_END_UNREADABLE);
	depend_on(walk, at + UNWIND_SIGNAL_SP * sizeof(__u64), sp, 0);
	depend_on(walk, at + UNWIND_SIGNAL_PC * sizeof(__u64), pc, UNWIND_MEMO_IS_FRAME);
	walk->fp_at = at + UNWIND_SIGNAL_FP * sizeof(__u64);
	walk->fp_value = walk->fp;
	walk->checked_fp = 0;
	walk->pc = pc;
	walk->sp = sp;
	walk->exact = 1;
	return 0;
}

/*
 * GCC aligns a frame anew like this: lea 8(%rsp), %r10; and $-64, %rsp; push -8(%r10); push %rbp; mov %rsp, %rbp; push %r10.
 * The two places of the return address have to agree.
 */
static __always_inline int out_of_realigned(struct unwind_walk *walk, struct heap_frames *out)
{
	const __u64 at = walk->fp;
	__u64 cfa, address, copy;

	depend_on_fp(walk);
	if (at < walk->sp || (at & 7) || read_word(walk, at - sizeof(__u64), &cfa) || cfa <= at ||
	    read_word(walk, at + sizeof(__u64), &copy) || read_word(walk, cfa - sizeof(__u64), &address) ||
	    address != copy || read_word(walk, at, &walk->fp))
		return unwind_end(out, HEAP_END_NO_TABLE);
	depend_on(walk, at - sizeof(__u64), cfa, 0);
	depend_on(walk, at + sizeof(__u64), copy, 0);
	walk->fp_at = at;
	walk->fp_value = walk->fp;
	walk->checked_fp = 0;
	return go_out(walk, out, cfa, cfa - sizeof(__u64));
}

/*
 * Go runs C on its thread's stack. The goroutine's own can be copied elsewhere while C calls Go again: the frame pointer
 * that C has kept is the old one then, and the runtime goes back by the stack's end and the depth that it has kept. A
 * goroutine begins with its stack's first address and the one behind its last; without one, the depth is the address.
 */
static __always_inline int to_goroutine(struct unwind_walk *walk, struct heap_frames *out, __u64 kept)
{
	__u64 goroutine;

	if (read_word(walk, kept, &walk->fp) || read_word(walk, kept + sizeof(__u64), &goroutine))
		return unwind_end(out, HEAP_END_UNREADABLE);
	if (goroutine) {
		if (bpf_probe_read_user(&walk->word, sizeof(walk->word), (void *)(goroutine + sizeof(__u64))))
			return unwind_end(out, HEAP_END_UNREADABLE);
		walk->fp = walk->word - walk->fp;
		walk->sp = 0;
	}
	walk->forgets = 1; /* what a goroutine holds is no word of this stack */
	walk->checked_fp = 1;
	return by_frame_pointer(walk, out);
}

static __always_inline int find_code(struct unwind_walk *walk, __u64 address)
{
	if (address >= walk->module.start && address < walk->module.end)
		return 0;
	return find_module(walk, address);
}

/* Keeps the frame that the walk has come to, and goes one out. 1 ends the loop. */
static int unwind_one(__u32 i, void *context)
{
	struct unwind_step *step = context;
	struct unwind_walk *walk = step->walk;
	struct heap_frames *out = step->out;
	__u64 address = walk->pc - !walk->exact;

	if (i >= HEAP_MAX_FRAMES)
		return unwind_end(out, HEAP_END_TOO_DEEP);
	if (find_code(walk, address)) {
		int restored = walk->exact ? 0 : restore_address(step);

		if (restored < 0)
			return unwind_end(out, HEAP_END_PROBED);
		walk->forgets = 1;
		address = walk->pc - !walk->exact;
		if (!restored || find_code(walk, address)) {
			struct unwind_control *control;
			__u32 zero = 0;

			out->frames[i] = walk->pc;
			out->depth = i + 1;
			control = bpf_map_lookup_elem(&unwind_control, &zero);
			if (control)
				control->missing = 1;
			return unwind_end(out, HEAP_END_NOT_LOADED);
		}
	}
	out->frames[i] = walk->pc;
	out->depth = i + 1;

	if (!walk->module.chunks) {
		if (walk->module.end_as != HEAP_END_START)
			return unwind_end(out, walk->module.end_as);
		return by_frame_pointer(walk, out);
	}
	struct unwind_rule *rule = find_rule(walk, address);
	if (!rule)
		return unwind_end(out, HEAP_END_NO_TABLE);
	switch (rule->kind) {
	case UNWIND_START:
		return unwind_end(out, HEAP_END_START);
	case UNWIND_SIGNAL:
		return out_of_signal(walk, out);
	case UNWIND_REALIGNED:
		return out_of_realigned(walk, out);
	case UNWIND_SWITCHED:
		walk->sp = 0; /* nothing is known of where the other stack lies */
		return by_frame_pointer(walk, out);
	case UNWIND_GO_CALLS_C:
		return to_goroutine(walk, out, walk->sp + (__s64)rule->cfa);
	case UNWIND_SP:
	case UNWIND_FP:
		break;
	default:
		return unwind_end(out, HEAP_END_NO_TABLE);
	}

	__u64 cfa = walk->sp;
	if (rule->kind == UNWIND_FP) {
		depend_on_fp(walk);
		cfa = walk->fp;
	}
	cfa += (__s64)rule->cfa;
#ifdef __TARGET_ARCH_arm64
	if (cfa < walk->sp) /* a frame may be empty there: the return address is in a register */
#else
	if (cfa <= walk->sp)
#endif
		return unwind_end(out, HEAP_END_UNREADABLE);
	if (rule->fp != UNWIND_UNSAVED) {
		walk->fp_at = cfa + (__s64)rule->fp;
		if (read_word(walk, walk->fp_at, &walk->fp))
			return unwind_end(out, HEAP_END_UNREADABLE);
		walk->fp_value = walk->fp;
		walk->checked_fp = 0;
	}
	if (rule->ra == UNWIND_UNSAVED)
		return unwind_end(out, HEAP_END_NO_TABLE);
	return go_out(walk, out, cfa, cfa + (__s64)rule->ra);
}

#endif
