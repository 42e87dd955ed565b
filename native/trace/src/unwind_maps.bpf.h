/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* The maps of an unwinding program, its settings, and the state of one walk. */
#ifndef UNWIND_MAPS_BPF_H
#define UNWIND_MAPS_BPF_H

#include "unwind.h"

/* Set by the loader before the program is verified. */
const volatile struct unwind_settings unwind SEC(".rodata.unwind") = {};

#define UNWIND_SLICE_WORDS 512 /* of stack, read at once: half a walk's time went into single words */
#define UNWIND_PAGE 4096

#ifdef __TARGET_ARCH_arm64
#define UNWIND_ADDRESS(value) ((value) & 0x0000ffffffffffffULL) /* without a pointer authentication code */
#else
#define UNWIND_ADDRESS(value) (value)
#endif

/* All but the sizes of these four is the loader's to set. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unwind_block);
} unwind_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unwind_chunk);
} unwind_chunks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unwind_rule);
} unwind_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unwind_module);
} unwind_modules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unwind_control);
} unwind_control SEC(".maps");

/* An array and not the kernel's LRU map, which may give an entry to another key while it is being read. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, UNWIND_MEMO_WAYS);
	__type(key, __u32);
	__type(value, struct unwind_memo);
} unwind_memos SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, UNWIND_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} unwind_counts SEC(".maps");

/* One walk: this processor's, in the room that its heap_frames name. */
struct unwind_walk {
	__u64 pc, sp, fp;
	__u64 pc_at; /* where pc was read from */
	__u32 exact; /* pc is an instruction and no return address: a signal interrupted it */
	__u32 half;  /* of the modules */
	__u32 modules;
	__u32 restored;
	struct unwind_module module; /* where the last frame was: the next is often there too */
	__u64 entry_sp;
	__u64 fp_at, fp_value; /* where fp was read from: 0 where it is the register's own. Checked only if it is used. */
	__u32 checked_fp;
	__u32 forgets; /* too much was read, or too far away, to remember it */
	__u32 next_way;
	__u32 slice_bytes;
	__u64 slice_at;
	__u64 barrier;
	__u64 word;          /* that was read last: the program's own stack is short */
	__u64 entry_pc, entry_fp;
	__u64 pending, replaced; /* a return probe's record, and the address that it has replaced */
	__u32 first_memo;    /* of this walk's place */
	__u32 recalled;      /* by the memo */
	__u64 slice[UNWIND_SLICE_WORDS];
	struct unwind_memo memo; /* of what this walk has read */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HEAP_ROOMS);
	__type(key, __u32);
	__type(value, struct unwind_walk);
} unwind_walks SEC(".maps");

struct unwind_step {
	struct unwind_walk *walk;
	struct heap_frames *out;
};

static __always_inline void unwind_count(__u32 kind, __u32 by)
{
	__u64 *count = bpf_map_lookup_elem(&unwind_counts, &kind);

	if (count)
		*count += by;
}

#endif
