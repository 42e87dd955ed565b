/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * What heap_call.h asks of the kernel: where return probes lead to, which stack an address is on, whose code it is.
 */
#ifndef HEAP_KERNEL_BPF_H
#define HEAP_KERNEL_BPF_H

#include <bpf/bpf_core_read.h>

#include "heap_hash.bpf.h"
#include "heap_trace.h"

/* Only what is read here; libbpf finds each field where the running kernel has it. */
struct xol_area___heap {
	unsigned long vaddr;
} __attribute__((preserve_access_index));

struct uprobes_state___heap {
	struct xol_area___heap *xol_area;
} __attribute__((preserve_access_index));

struct mm_struct___heap {
	struct uprobes_state___heap uprobes_state;
	unsigned long start_stack;
} __attribute__((preserve_access_index));

struct uw___heap {
	unsigned long tp_value;
} __attribute__((preserve_access_index));

struct thread_struct___heap {
	unsigned long fsbase; /* x86 */
	struct uw___heap uw;  /* arm64 */
} __attribute__((preserve_access_index));

struct task_struct___heap {
	struct mm_struct___heap *mm;
	unsigned long sas_ss_sp;
	unsigned long sas_ss_size;
	struct thread_struct___heap thread;
} __attribute__((preserve_access_index));

struct vm_area_struct___heap {
	unsigned long vm_start;
	unsigned long vm_end;
} __attribute__((preserve_access_index));

/* Kernel 5.17's helper. Its number is the interface; older headers have no name for it. */
#define FIND_VMA 180
static long (*const find_vma)(void *task, __u64 address, void *callback, void *context, __u64 flags) = (void *)FIND_VMA;
enum bpf_func_id___heap {
	BPF_FUNC_find_vma___heap = FIND_VMA,
};

/* Where return probes make a call return to; 0 before the first of them. */
static __always_inline __u64 trampoline(void)
{
	struct task_struct___heap *task = (void *)bpf_get_current_task_btf();
	struct xol_area___heap *area = 0;

	if (bpf_core_field_exists(area->vaddr))
		area = BPF_CORE_READ(task, mm, uprobes_state.xol_area);
	return area ? BPF_CORE_READ(area, vaddr) : 0;
}

/* Below the first thread's stack nothing else is mapped as near as this: mmap keeps 128 MiB from its start at least. */
#define FIRST_STACK_BYTES (64ULL << 20)

struct area {
	__u64 start, end;
};

static long keep_area(void *task, struct vm_area_struct___heap *vma, struct area *area)
{
	(void)task;
	area->start = BPF_CORE_READ(vma, vm_start);
	area->end = BPF_CORE_READ(vma, vm_end);
	return 0;
}

/* The thread pointer: the C libraries keep a thread's own data at the upper end of the stack that they start it on. */
static __always_inline __u64 thread_pointer(struct task_struct___heap *task)
{
#ifdef __TARGET_ARCH_x86
	return BPF_CORE_READ(task, thread.fsbase);
#else
	return BPF_CORE_READ(task, thread.uw.tp_value);
#endif
}

/*
 * Whether `low` and `high` are certainly on the stack that this thread was started on: both in the first thread's, or
 * both below the thread's own data and in the same area of memory, whose lower end is a guard page.
 */
HEAP_FUNCTION int on_same_stack(__u64 low, __u64 high)
{
	struct task_struct___heap *task = (void *)bpf_get_current_task_btf();
	__u64 start = BPF_CORE_READ(task, mm, start_stack), alternate = BPF_CORE_READ(task, sas_ss_sp);
	struct area area = {};

	if (high - alternate < BPF_CORE_READ(task, sas_ss_size) || low - alternate < BPF_CORE_READ(task, sas_ss_size))
		return 0;
	if (low <= high && high < start && start - low < FIRST_STACK_BYTES)
		return 1;
	if (!bpf_core_enum_value_exists(enum bpf_func_id___heap, BPF_FUNC_find_vma___heap))
		return 0;
	start = thread_pointer(task);
	if (find_vma(bpf_get_current_task_btf(), start - 1, keep_area, &area, 0))
		return 0;
	return area.start <= low && low <= high && high < start;
}

#ifdef HEAP_WITHOUT_CODE_RANGES
#define in_allocator_code(address) 1
#else
/* Where the code of the objects that have an allocator is mapped: the loader's. Ends at the first empty range. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HEAP_MAX_CODE_RANGES);
	__type(key, __u32);
	__type(value, struct heap_code);
} allocator_code SEC(".maps");

HEAP_FUNCTION int in_allocator_code(__u64 address)
{
	for (__u32 i = 0; i < HEAP_MAX_CODE_RANGES; i++) {
		__u32 key = i;
		struct heap_code *range = bpf_map_lookup_elem(&allocator_code, &key);

		if (!range || !range->end)
			break;
		if (address >= range->start && address < range->end)
			return 1;
	}
	return 0;
}
#endif

struct heap_pending;
static __always_inline void abandon(struct heap_pending *pending);

#define HEAP_INLINE __always_inline
#define HEAP_READ_WORD(address, word) bpf_probe_read_user(word, sizeof(*(word)), (const void *)(address))
#define HEAP_ALLOCATOR_CODE(address) in_allocator_code(address)
#define HEAP_SAME_STACK(low, high) on_same_stack(low, high)
#define HEAP_ABANDON(pending) abandon(pending)
#ifdef __TARGET_ARCH_x86
#define HEAP_RETURN_SLOTS 1
#else
#define HEAP_RETURN_SLOTS 0
#endif
#include "heap_call.h"

#endif
