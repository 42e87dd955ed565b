// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * memleak: bytes outstanding by call stack and process, for Inspektor Gadget v0.49 and newer.
 *
 * The accounting is native/trace's (heap_account.bpf.h). What is Inspektor Gadget's stands here: which processes count,
 * and what it reads. It reads a map once a second and empties it, while the counts have to stay. So a timer puts absolute
 * copies of all records that are worth reporting into that map, twice a second.
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

#define FUNCTION_NAME 64
#define FILE_NAME 40
#define MAX_ROWS 1024
#define REPORT_EVERY_NS 400000000ULL

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

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* A stack is reported from the moment on at which it has this much outstanding: that bounds the rows and the metrics. */
const volatile __u64 min_outstanding = 64 * 1024;
GADGET_PARAM(min_outstanding);

/* Who took the blocks of a stack, and where. */
struct owner {
	struct gadget_process proc;
	struct gadget_user_stack ustack;
	char function[FUNCTION_NAME];
	__u64 first_ns;
	__u64 reported;
};

struct row_key {
	__u64 stack; /* 63 bits: metrics know signed numbers only */
};

struct row {
	struct gadget_process proc;
	struct gadget_user_stack ustack;
	char function[FUNCTION_NAME];
	gadget_bytes outstanding_raw;
	__u64 blocks;
	__u64 allocations;
	__u64 frees;
	__u64 leak_percent;
	gadget_duration age_raw;
	__u64 untracked;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HEAP_MAX_STACKS);
	__type(key, __u64);
	__type(value, struct owner);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ROWS);
	__type(key, struct row_key);
	__type(value, struct row);
} report SEC(".maps");

GADGET_MAPITER(memleak, report);

/* Both are too large for the eBPF stack. The probes fill the one, the timer that interrupts them fills the other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owner);
} new_owner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct row);
} new_row SEC(".maps");

__u64 reported_ns = 0;

/* --- a new stack: whose it is, and in which file its caller lies --- */

struct place {
	char file[FILE_NAME];
	__u64 offset;
};

static long find_place(struct task_struct *task, struct vm_area_struct *vma, struct place *place)
{
	struct file *file = BPF_CORE_READ(vma, vm_file);

	(void)task;
	if (file) {
		bpf_probe_read_kernel_str(place->file, sizeof(place->file),
					  BPF_CORE_READ(file, f_path.dentry, d_name.name));
		/* In the file, and so the same in every process and after a restart. Pages are taken to have 4 KiB. */
		place->offset += (BPF_CORE_READ(vma, vm_pgoff) << 12) - BPF_CORE_READ(vma, vm_start);
	}
	return 0;
}

static __noinline void describe_stack(struct pt_regs *ctx, const struct heap_frames *stack)
{
	__u32 zero = 0;
	struct owner *owner = bpf_map_lookup_elem(&new_owner, &zero);
	struct place place = {};
	__u64 hash;

	if (!owner || !stack)
		return;
	hash = stack->hash;
	gadget_process_populate(&owner->proc);
	gadget_get_user_stack(ctx, &owner->ustack);
	place.offset = stack->frames[0];
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_find_vma)) /* kernel 5.17 */
		bpf_find_vma(bpf_get_current_task_btf(), place.offset, find_place, &place, 0);
	/* As memleak-lab names a function whose name it does not know. addr2line takes the number. */
	BPF_SNPRINTF(owner->function, sizeof(owner->function), "%s+0x%llx", place.file, place.offset);
	owner->first_ns = bpf_ktime_get_ns();
	owner->reported = 0;
	bpf_map_update_elem(&owners, &hash, owner, BPF_NOEXIST);
}

/* --- the report --- */

static __always_inline __u64 count_untracked(void)
{
	__u32 blocks = HEAP_LOST_BLOCKS, thread = HEAP_LOST_THREAD;
	__u64 *full = bpf_map_lookup_elem(&lost, &blocks), *threads = bpf_map_lookup_elem(&lost, &thread);

	return (full ? *full : 0) + (threads ? *threads : 0);
}

static long report_stack(struct bpf_map *map, __u64 *hash, struct heap_counters *stack, void *unused)
{
	__u32 zero = 0;
	struct row *row = bpf_map_lookup_elem(&new_row, &zero);
	struct owner *owner = bpf_map_lookup_elem(&owners, hash);
	struct row_key key = {.stack = *hash >> 1};

	(void)map;
	(void)unused;
	if (!row || !owner)
		return 0;
	row->outstanding_raw = stack->allocated_bytes - stack->freed_bytes;
	/* What was reported once is reported on, or a metric would keep its last value for ever. */
	if (!owner->reported && row->outstanding_raw < min_outstanding)
		return 0;
	owner->reported = 1;
	row->proc = owner->proc;
	row->ustack = owner->ustack;
	__builtin_memcpy(row->function, owner->function, sizeof(row->function));
	row->allocations = stack->allocations;
	row->frees = stack->frees;
	row->blocks = row->allocations - row->frees;
	row->leak_percent = row->allocations ? row->blocks * 100 / row->allocations : 0;
	row->age_raw = bpf_ktime_get_ns() - owner->first_ns;
	row->untracked = count_untracked();
	bpf_map_update_elem(&report, &key, row, BPF_ANY);
	return 0;
}

/* The record of the allocations whose stack could not be taken or kept: of no process in particular. */
static const struct heap_counters no_counts;

static const struct owner nobody = {.function = "[no stack was kept]"};

static __always_inline void keep_unknown_stack(void)
{
	const __u64 unknown = HEAP_UNKNOWN_STACK;

	bpf_map_update_elem(&counters, &unknown, &no_counts, BPF_NOEXIST);
	bpf_map_update_elem(&owners, &unknown, &nobody, BPF_NOEXIST);
}

SEC("perf_event/reporter")
int heap_report(struct bpf_perf_event_data *ctx)
{
	const __u64 now = bpf_ktime_get_ns(), last = reported_ns;

	(void)ctx;
	/* It fires on every processor, and one of them is enough. */
	if (now - last < REPORT_EVERY_NS || __sync_val_compare_and_swap(&reported_ns, last, now) != last)
		return 0;
	keep_unknown_stack();
	bpf_for_each_map_elem(&counters, report_stack, 0, 0);
	return 0;
}

/* --- the end of a process: its addresses mean nothing any more --- */

struct ending {
	__u64 process;
	__u64 counted;
};

static long forget_stack(struct bpf_map *map, __u64 *hash, struct owner *owner, struct ending *ending)
{
	if (owner->proc.pid == ending->process) {
		__u64 ended = *hash;

		bpf_map_delete_elem(&counters, &ended);
		bpf_map_delete_elem(map, &ended);
		ending->counted = 1; /* not a sum, whose every value the verifier would follow */
	}
	return 0;
}

static long forget_block(struct bpf_map *map, heap_key *key, struct heap_block *block, struct ending *ending)
{
	heap_key ended = *key;

	(void)block;
	if (ended.process == ending->process)
		bpf_map_delete_elem(map, &ended);
	return 0;
}

static __noinline int forget_process(void)
{
	struct ending ending = {.process = HEAP_PROCESS()};

	bpf_for_each_map_elem(&owners, forget_stack, &ending, 0);
	if (ending.counted)
		bpf_for_each_map_elem(&blocks, forget_block, &ending, 0);
	return 0;
}

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
