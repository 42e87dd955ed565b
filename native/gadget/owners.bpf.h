/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Whose a stack is: the process that took its blocks, its frames as Inspektor Gadget prints them, and the place in a file
 * that stands for the function.
 *
 * An owner is kept when its stack is first seen, and forgotten when its process ends. Included by program.bpf.c, after
 * heap_account.bpf.h and Inspektor Gadget's headers.
 */
#ifndef OWNERS_BPF_H
#define OWNERS_BPF_H

#define FUNCTION_NAME 64
#define FILE_NAME 40

/* Who took the blocks of a stack, and where. */
struct owner {
	struct gadget_process proc;
	struct gadget_user_stack ustack;
	char function[FUNCTION_NAME];
	__u64 first_ns;
	__u64 reported;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HEAP_MAX_STACKS);
	__type(key, __u64);
	__type(value, struct owner);
} owners SEC(".maps");

/* Too large for the eBPF stack. The probes fill it; the timer that interrupts them has new_row. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owner);
} new_owner SEC(".maps");

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

/* --- the end of a process: its addresses mean nothing any more --- */

struct ending {
	__u64 process;
	__u64 counted;
};

static void begin_last_row(const struct owner *owner);
static void end_last_row(__u64 hash);

static long forget_stack(struct bpf_map *map, __u64 *hash, struct owner *owner, struct ending *ending)
{
	if (owner->proc.pid == ending->process) {
		__u64 ended = *hash, reported = owner->reported;

		if (reported)
			begin_last_row(owner);
		bpf_map_delete_elem(&counters, &ended);
		bpf_map_delete_elem(map, &ended);
		if (reported)
			end_last_row(ended);
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

#endif
