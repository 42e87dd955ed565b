// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * memleak: bytes outstanding by call stack and process, for Inspektor Gadget v0.49 and newer.
 *
 * The accounting is native/trace's (heap_account.bpf.h). What is Inspektor Gadget's stands here: which processes count,
 * whose a stack is (owners.bpf.h), and what it reads (report.bpf.h). It reads a map once a second and empties it, while
 * the counts have to stay. So a timer puts absolute copies of all records that are worth reporting into that map, twice
 * a second.
 *
 * mmap and munmap are not probed: a mapping can be cut and joined, and following that is work for user space. Blocks that
 * malloc takes from mmap count, like any other.
 */
#include <vmlinux.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include <gadget/common.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/types.h>
#include <gadget/user_stack_map.h>

struct heap_frames;
static void describe_stack(struct pt_regs *ctx, const struct heap_frames *stack);

/* The frames that tell stacks apart here; what is printed comes from Inspektor Gadget's own map, with up to 127. */
#define HEAP_MAX_FRAMES 24
#define HEAP_MAX_PYTHON 0
#define HEAP_MAX_BLOCKS (1 << 18)
#define HEAP_MAX_STACKS (1 << 14)
#define HEAP_COUNTERS_FLAGS 0 /* before 6.1 a timer's program may use preallocated maps only */
#define HEAP_PROCESS() (bpf_get_current_pid_tgid() >> 32)
#define HEAP_ON_NEW_STACK(ctx, stack) describe_stack(ctx, stack)
#define HEAP_WITHOUT_MAPPINGS
#define HEAP_WITHOUT_CODE_RANGES /* of many processes: whatever is deeper is the pending call's own */
#define HEAP_WITHOUT_OLDER /* the return addresses of several processes would be mixed */
#include "heap_account.bpf.h"

#include "owners.bpf.h"
#include "report.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* --- the end of a process --- */

SEC("tracepoint/sched/sched_process_exit")
int heap_exit(void *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	(void)ctx;
	return BPF_CORE_READ(task, signal, live.counter) ? 0 : forget_process();
}

SEC("tracepoint/sched/sched_process_exec")
int heap_exec(void *ctx)
{
	(void)ctx;
	return forget_process();
}

/* --- probes --- */

extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;

/* This value came with kernel 6.10, and so did the two functions. See native/trace/src/heap_trace.bpf.c. */
enum bpf_attach_type___of_6_10 {
	BPF_TRACE_KPROBE_SESSION___of_6_10 = 56,
};

static __always_inline int can_forbid_preemption(void)
{
	return bpf_core_enum_value_exists(enum bpf_attach_type___of_6_10, BPF_TRACE_KPROBE_SESSION___of_6_10);
}

static __noinline int on_entry(struct pt_regs *ctx, __u64 cookie)
{
	if (gadget_should_discard_data_current())
		return 0;
	if (can_forbid_preemption())
		bpf_preempt_disable();
	enter(ctx, cookie);
	if (can_forbid_preemption())
		bpf_preempt_enable();
	return 0;
}

static __noinline int on_return(struct pt_regs *ctx, __u64 cookie)
{
	if (can_forbid_preemption())
		bpf_preempt_disable();
	leave(ctx, cookie);
	if (can_forbid_preemption())
		bpf_preempt_enable();
	return 0;
}

/* Signatures as probe cookies; the numbers tell the probes apart. */
#define ENTRY(name, cookie)                         \
	SEC("uprobe/libc:" #name)                   \
	int enter_##name(struct pt_regs *ctx)       \
	{                                           \
		return on_entry(ctx, cookie);       \
	}

#define BOTH_ENDS(name, cookie)                     \
	ENTRY(name, cookie)                         \
	SEC("uretprobe/libc:" #name)                \
	int leave_##name(struct pt_regs *ctx)       \
	{                                           \
		return on_return(ctx, cookie);      \
	}

BOTH_ENDS(malloc, HEAP_COOKIE(HEAP_ALLOCATE, 1, 1, 0, 0, 0))
BOTH_ENDS(valloc, HEAP_COOKIE(HEAP_ALLOCATE, 2, 1, 0, 0, 0))
BOTH_ENDS(pvalloc, HEAP_COOKIE(HEAP_ALLOCATE, 3, 1, 0, 0, 0))
BOTH_ENDS(calloc, HEAP_COOKIE(HEAP_ALLOCATE, 4, 2, 1, 0, 0))
BOTH_ENDS(realloc, HEAP_COOKIE(HEAP_REALLOCATE, 5, 2, 0, 1, 0))
BOTH_ENDS(reallocarray, HEAP_COOKIE(HEAP_REALLOCATE, 6, 3, 2, 1, 0))
BOTH_ENDS(aligned_alloc, HEAP_COOKIE(HEAP_ALLOCATE, 7, 2, 0, 0, 0))
BOTH_ENDS(memalign, HEAP_COOKIE(HEAP_ALLOCATE, 8, 2, 0, 0, 0))
BOTH_ENDS(posix_memalign, HEAP_COOKIE(HEAP_ALLOCATE, 9, 3, 0, 1, HEAP_STORES_RESULT))
ENTRY(free, HEAP_COOKIE(HEAP_FREE, 10, 0, 0, 1, 0))
