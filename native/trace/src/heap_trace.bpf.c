// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The heap tracer's programs: what is attached where. The accounting itself is in heap_account.bpf.h.
 *
 * The probes are opened for one process, so nothing here filters by pid. A child of fork has memory of its own, and the
 * kernel removes the probes from it. A child of vfork shares its parent's until it execs, and may not allocate: where it
 * does, the pair of programs counts it, and a session, which the kernel keeps to the process's own threads, does not. For
 * a process that goes on sharing, a session is attached once more.
 */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define HEAP_GLOBAL_FUNCTIONS
#include "heap_cookie.h"
#include "python_frames.bpf.h"
#include "unwind.bpf.h"

/* A probe on a function's `ret` finds the return address on the stack still. */
#define AT_EXIT(ctx) (HEAP_COOKIE_KIND(bpf_get_attach_cookie(ctx)) == HEAP_EXIT)
#define HEAP_TAKE_STACK(ctx, into)                                                                       \
	with_python_frames(unwind.mode == UNWIND_OFF ? take_stack_by_frame_pointers(ctx, into)           \
						     : unwind_stack(ctx, into, AT_EXIT(ctx)),            \
			   into)
#include "heap_account.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;

/*
 * uprobe programs can be preempted, and then the per-CPU scratch, and the kernel's own per-CPU buffer behind
 * bpf_get_stack, can be wanted by another thread before they are read. Newer kernels let a program rule that out. On older
 * ones that were booted with preempt=full each such thread has a room of its own: see claim_scratch.
 */
#define UNDISTURBED(call)                          \
	({                                         \
		if (settings.preempt_control)      \
			bpf_preempt_disable();     \
		int result = call;                 \
		if (settings.preempt_control)      \
			bpf_preempt_enable();      \
		result;                            \
	})

static __always_inline int begin_or_exit(struct pt_regs *ctx, __u64 cookie)
{
	if (settings.count_nothing)
		return HEAP_COOKIE_KIND(cookie) == HEAP_FREE ? SKIP_RETURN : WANT_RETURN;
	if (HEAP_COOKIE_KIND(cookie) != HEAP_EXIT)
		return UNDISTURBED(enter(ctx, cookie));
	UNDISTURBED(leave(ctx, cookie));
	return SKIP_RETURN;
}

/*
 * Kernels from 6.13: one program for both ends of a call, and no trap at the return of a call that needs none. Which
 * end this is shows in the instruction pointer. There is a kfunc that tells, but its signature differs by kernel.
 */
SEC("uprobe")
int heap_session(struct pt_regs *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx);

	if (PT_REGS_IP(ctx) == bpf_get_func_ip(ctx))
		return begin_or_exit(ctx, cookie);
	return settings.count_nothing ? 0 : UNDISTURBED(leave(ctx, cookie));
}

SEC("uprobe")
int heap_entry(struct pt_regs *ctx)
{
	begin_or_exit(ctx, bpf_get_attach_cookie(ctx));
	return 0;
}

/* The signals that the kernel ends a process with when a probe of it goes wrong. */
#define SIGILL 4
#define SIGTRAP 5

struct sigaction___heap {
	void *sa_handler;
} __attribute__((preserve_access_index));

struct k_sigaction___heap {
	struct sigaction___heap sa;
} __attribute__((preserve_access_index));

/* The signal that ended the process, where it is one of those two. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} fatal_signal SEC(".maps");

/* signal_deliver(signal, info, action): a thread that has made a traced call is one of the traced process. */
SEC("raw_tp/signal_deliver")
int heap_signal(struct bpf_raw_tracepoint_args *ctx)
{
	const __u64 number = ctx->args[0];
	const struct k_sigaction___heap *action = (const void *)ctx->args[2];
	const __u32 zero = 0;

	if ((number == SIGILL || number == SIGTRAP) && !BPF_CORE_READ(action, sa.sa_handler) &&
	    bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0))
		bpf_map_update_elem(&fatal_signal, &zero, &number, BPF_ANY);
	return 0;
}

SEC("uretprobe")
int heap_return(struct pt_regs *ctx)
{
	return settings.count_nothing ? 0 : UNDISTURBED(leave(ctx, bpf_get_attach_cookie(ctx)));
}
