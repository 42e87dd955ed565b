/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Finds the return addresses that pending return probes have replaced on the stack. */
#ifndef UNWIND_RETURN_PROBES_BPF_H
#define UNWIND_RETURN_PROBES_BPF_H

#include <bpf/bpf_core_read.h>

#include "unwind_maps.bpf.h"

#define UNWIND_MAX_PENDING 64 /* as many return probes may be pending on one thread: the kernel's own limit */

struct return_instance___unwind {
	unsigned long stack;
	unsigned long orig_ret_vaddr;
	struct return_instance___unwind *next;
} __attribute__((preserve_access_index));

struct uprobe_task___unwind {
	struct return_instance___unwind *return_instances;
} __attribute__((preserve_access_index));

struct xol_area___unwind {
	unsigned long vaddr;
} __attribute__((preserve_access_index));

struct uprobes_state___unwind {
	struct xol_area___unwind *xol_area;
} __attribute__((preserve_access_index));

struct mm_struct___unwind {
	struct uprobes_state___unwind uprobes_state;
} __attribute__((preserve_access_index));

struct task_struct___unwind {
	struct uprobe_task___unwind *utask;
	struct mm_struct___unwind *mm;
} __attribute__((preserve_access_index));

/*
 * The kernel keeps what it replaced, newest call first, and keeps the first caller's address where several probes are on
 * one call. On x86 each says where on the stack its address lies.
 */
static int look_at_pending(__u32 i, void *context)
{
	struct unwind_walk *walk = ((struct unwind_step *)context)->walk;
	struct return_instance___unwind *instance = (void *)walk->pending;

	(void)i;
	if (!instance)
		return 1;
	if (BPF_CORE_READ(instance, stack) == walk->pc_at) {
		walk->replaced = BPF_CORE_READ(instance, orig_ret_vaddr);
		return 1;
	}
	walk->pending = (__u64)BPF_CORE_READ(instance, next);
	return 0;
}

#define UNWIND_READ_KERNEL(walk, from, field) \
	(bpf_core_read(&(walk)->word, sizeof((walk)->word), &(from)->field) ? 0 : (void *)(walk)->word)

/* Sets walk->pc to what a return probe has replaced. 0 where it is the address of none; -1 where that is not known. */
static __always_inline int restore_address(struct unwind_step *step)
{
	struct unwind_walk *walk = step->walk;
	struct task_struct___unwind *task = (void *)bpf_get_current_task();
	struct mm_struct___unwind *mm = UNWIND_READ_KERNEL(walk, task, mm);
	struct xol_area___unwind *area = UNWIND_READ_KERNEL(walk, mm, uprobes_state.xol_area);
	__u64 probed = area ? (__u64)UNWIND_READ_KERNEL(walk, area, vaddr) : 0;

	if (!probed || walk->pc - probed >= UNWIND_PAGE)
		return 0;
	struct uprobe_task___unwind *utask = UNWIND_READ_KERNEL(walk, task, utask);

	walk->replaced = 0;
	walk->pending = (__u64)UNWIND_READ_KERNEL(walk, utask, return_instances);
	bpf_loop(UNWIND_MAX_PENDING, look_at_pending, step, 0);
	if (!walk->replaced)
		return -1;
	walk->pc = UNWIND_ADDRESS(walk->replaced);
	walk->restored++;
	return 1;
}

#endif
