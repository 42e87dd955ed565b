// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Samples page faults with their user stacks: where memory becomes resident, and by whose code.
 *
 * Faults inside the kernel count too, under the stack that called it: a buffer that read(2) fills becomes resident there.
 *
 * It runs once for every so many faults of a processor, which costs nothing that could be measured, and asks nothing
 * of the processes that it watches. Faults are not growth: what is mapped, touched and given back again faults as well.
 */
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "page_faults.h"

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
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* Programs of perf events run with preemption off: the scratch is this processor's alone. */
static __always_inline __u64 current_stack(struct bpf_perf_event_data *ctx)
{
	__u32 zero = 0;
	struct fault_stack *stack = bpf_map_lookup_elem(&scratch, &zero);

	if (!stack)
		return 0;
	long bytes = bpf_get_stack(ctx, stack->frames, sizeof(stack->frames), BPF_F_USER_STACK);
	if (bytes < (long)sizeof(__u64))
		return 0;
	stack->depth = (__u64)bytes / sizeof(__u64);
	stack->top = 0;
	bpf_probe_read_user(&stack->top, sizeof(stack->top), (void *)PT_REGS_SP(&ctx->regs));

	__u64 hash = stack->depth;
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

SEC("perf_event")
int page_fault(struct bpf_perf_event_data *ctx)
{
	struct fault_key key = {.pid = (__u32)(bpf_get_current_pid_tgid() >> 32)};
	const __u64 one = 1;
	__u32 zero = 0;

	/* The others are counted as well, without their stacks: what one sample stands for is known from all of them. */
	if (only_pid && key.pid != only_pid)
		key.pid = 0;
	else
		key.stack = current_stack(ctx);
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
