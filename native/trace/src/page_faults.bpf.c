// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Samples page faults with their user stacks: where memory becomes resident, and by whose code.
 *
 * Faults inside the kernel count too, under the stack that called it: a buffer that read(2) fills becomes resident there.
 *
 * It runs once for every so many faults of a processor, which costs a few per cent of these, and asks nothing
 * of the processes that it watches. Faults are not growth: what is mapped, touched and given back again faults as well.
 */
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define HEAP_GLOBAL_FUNCTIONS
#include "page_faults.h"
#include "unwind.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The one process to look into; 0 for all. Set by the loader. */
const volatile unsigned int only_pid SEC(".rodata.settings") = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, struct fault_key);
	__type(value, __u64);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 14);
	__type(key, __u64);
	__type(value, struct fault_stack);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fault_stack);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct heap_frames);
} walked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline int by_frame_pointers(struct bpf_perf_event_data *ctx, struct fault_stack *stack)
{
	long bytes = bpf_get_stack(ctx, stack->frames, sizeof(stack->frames), BPF_F_USER_STACK);
	if (bytes < (long)sizeof(__u64))
		return -1;
	stack->depth = (__u32)bytes / sizeof(__u64);
	stack->ending = HEAP_END_UNKNOWN;
	bpf_probe_read_user(&stack->top, sizeof(stack->top), (void *)PT_REGS_SP(&ctx->regs));
	return 0;
}

/*
 * From the registers with which the thread came into the kernel: those of the event are the kernel's own where a system
 * call touched the page. The kernel lays them out as it publishes them to programs.
 */
static __always_inline int by_tables(struct fault_stack *stack)
{
	__u32 zero = 0;
	struct unwind_walk *walk = bpf_map_lookup_elem(&unwind_walks, &zero);
	struct heap_frames *frames = bpf_map_lookup_elem(&walked, &zero);
	struct pt_regs *regs = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());

	if (!walk || !frames || bpf_probe_read_kernel(&walk->pc, sizeof(walk->pc), (void *)&PT_REGS_IP(regs)) ||
	    bpf_probe_read_kernel(&walk->sp, sizeof(walk->sp), (void *)&PT_REGS_SP(regs)) ||
	    bpf_probe_read_kernel(&walk->fp, sizeof(walk->fp), (void *)&PT_REGS_FP(regs)))
		return -1;
	walk->exact = 1;
	if (unwind_registers(frames) < 1)
		return -1;
	stack->depth = frames->depth;
	stack->ending = frames->ending;
	if (stack->depth > FAULT_MAX_FRAMES) {
		stack->depth = FAULT_MAX_FRAMES;
		stack->ending = HEAP_END_TOO_DEEP;
	}
	for (__u32 i = 0; i < FAULT_MAX_FRAMES; i++) {
		if (i >= stack->depth)
			break;
		stack->frames[i] = frames->frames[i];
	}
	return 0;
}

/* Programs of perf events run with preemption off: the scratch is this processor's alone. */
static __always_inline __u64 current_stack(struct bpf_perf_event_data *ctx, int unwinds)
{
	__u32 zero = 0;
	struct fault_stack *stack = bpf_map_lookup_elem(&scratch, &zero);

	if (!stack)
		return 0;
	stack->top = 0;
	if (unwinds ? by_tables(stack) : by_frame_pointers(ctx, stack))
		return 0;

	__u64 hash = stack->depth + ((__u64)stack->ending << 32);
	for (__u32 i = 0; i < FAULT_MAX_FRAMES; i++) {
		if (i >= stack->depth)
			break;
		hash = (hash ^ stack->frames[i]) * 0x9E3779B97F4A7C15ULL;
		hash ^= hash >> 32;
	}
	hash |= 1; /* 0 stands for no stack */
	bpf_map_update_elem(&stacks, &hash, stack, BPF_NOEXIST);
	return hash;
}

static __always_inline int count_fault(struct bpf_perf_event_data *ctx, int unwinds)
{
	struct fault_key key = {.pid = (__u32)(bpf_get_current_pid_tgid() >> 32)};
	const __u64 one = 1;
	__u32 zero = 0;

	/* The others are counted as well, without their stacks: what one sample stands for is known from all of them. */
	if (only_pid && key.pid != only_pid)
		key.pid = 0;
	else
		key.stack = current_stack(ctx, unwinds);
	__u64 *count = bpf_map_lookup_elem(&samples, &key);
	if (!count && !bpf_map_update_elem(&samples, &key, &one, BPF_NOEXIST))
		return 0;
	if (!count) /* another processor was first, or the map is full */
		count = bpf_map_lookup_elem(&samples, &key);
	if (!count)
		count = bpf_map_lookup_elem(&lost, &zero);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

/* Two programs, of which one is loaded: a kernel that refuses the walk is not asked about it by the other. */
SEC("perf_event")
int page_fault(struct bpf_perf_event_data *ctx)
{
	return count_fault(ctx, 0);
}

SEC("perf_event")
int page_fault_unwound(struct bpf_perf_event_data *ctx)
{
	return count_fault(ctx, 1);
}
