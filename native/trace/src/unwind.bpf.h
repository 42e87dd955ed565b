/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Walks user stacks by unwind tables: code needs no frame pointers for it.
 *
 * Included by an eBPF program after the kernel's types and libbpf's helpers. The loader fills `unwind_rows`,
 * `unwind_chunks`, `unwind_rules` and `unwind_modules`, and sets their sizes: see unwind_tables.h.
 *
 * A walk is a bpf_loop. All that it holds lies in a map, not on the program's stack: then the verifier sees the same state
 * before each frame, and is done after two.
 */
#ifndef UNWIND_BPF_H
#define UNWIND_BPF_H

#include <bpf/bpf_core_read.h>

#include "unwind.h"

/* Set by the loader before the program is verified. */
const volatile struct unwind_settings unwind SEC(".rodata.unwind") = {};

#define UNWIND_SLICE_WORDS 512 /* of stack, read at once: half a walk's time went into single words */
#define UNWIND_PAGE 4096
#define UNWIND_MAX_PENDING 64 /* as many return probes may be pending on one thread: the kernel's own limit */

#ifdef __TARGET_ARCH_arm64
#define UNWIND_ADDRESS(value) ((value) & 0x0000ffffffffffffULL) /* without a pointer authentication code */
#define UNWIND_LOADS_IN_ORDER(walk) __sync_fetch_and_add(&(walk)->barrier, 1)
/* struct rt_sigframe: siginfo (128 bytes), then ucontext with its sigcontext at 176: fault address, x0 to x30, sp, pc. */
#define UNWIND_SIGNAL_REGISTERS (128 + 176 + 8)
#define UNWIND_SIGNAL_FP 29
#define UNWIND_SIGNAL_LR 30
#define UNWIND_SIGNAL_SP 31
#define UNWIND_SIGNAL_PC 32
#else
#define UNWIND_ADDRESS(value) (value)
#define UNWIND_LOADS_IN_ORDER(walk) __asm__ volatile("" ::: "memory")
/* struct rt_sigframe without its return address: ucontext, with its sigcontext at 40: r8 to r15, rdi, rsi, rbp, ... */
#define UNWIND_SIGNAL_REGISTERS 40
#define UNWIND_SIGNAL_FP 10
#define UNWIND_SIGNAL_SP 15
#define UNWIND_SIGNAL_PC 16
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

/* One walk: this processor's. */
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
	__uint(max_entries, 1);
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

/*
 * --- tables ---
 *
 * Both searches halve what is left by the same amount whichever way they go: the verifier then follows one way only.
 */

/* Sets walk->module to where an address is. */
static __always_inline int find_module(struct unwind_walk *walk, __u64 address)
{
	__u32 low = 0, left = walk->modules;

	for (__u32 i = 0; i < 13 && left; i++) { /* the first module that ends beyond: UNWIND_MAX_MODULES are 2^12 */
		__u32 half = (left + 1) >> 1, at = (low + half - 1) * 2 + walk->half;
		struct unwind_module *module = bpf_map_lookup_elem(&unwind_modules, &at);

		if (!module)
			return -1;
		if (module->end <= address)
			low += half;
		left -= half;
	}
	__u32 at = low * 2 + walk->half;
	struct unwind_module *found = low < walk->modules ? bpf_map_lookup_elem(&unwind_modules, &at) : 0;

	if (!found || address < found->start)
		return -1;
	walk->module = *found;
	return 0;
}

static __always_inline __u32 row_at(__u32 i)
{
	__u32 at = i / UNWIND_BLOCK_ROWS;
	struct unwind_block *block = bpf_map_lookup_elem(&unwind_rows, &at);

	return block ? block->rows[i & (UNWIND_BLOCK_ROWS - 1)] : 0;
}

/* The rule in force at an address of walk->module, which has a table. */
static __always_inline struct unwind_rule *find_rule(struct unwind_walk *walk, __u64 address)
{
	__u64 in_object = address - walk->module.bias, number = in_object >> UNWIND_CHUNK_BITS;

	if (number >= walk->module.chunks)
		return 0;
	__u32 at = walk->module.first_chunk + (__u32)number;
	struct unwind_chunk *chunk = bpf_map_lookup_elem(&unwind_chunks, &at);
	if (!chunk)
		return 0;

	__u32 byte = in_object & ((1 << UNWIND_CHUNK_BITS) - 1);
	__u32 low = chunk->first, left = chunk->count;
	for (__u32 i = 0; i < 9 && left; i++) { /* the first row that begins beyond */
		__u32 half = (left + 1) >> 1;

		if ((row_at(low + half - 1) & ((1 << UNWIND_RULE_SHIFT) - 1)) <= byte)
			low += half;
		left -= half;
	}
	__u32 rule = row_at(low - 1) >> UNWIND_RULE_SHIFT; /* each object begins with a row of its own at 0 */
	return bpf_map_lookup_elem(&unwind_rules, &rule);
}

/* --- the stack --- */

/* Reads as much as there is from an address on: near the top of a stack that is less than a slice. */
static __always_inline int read_slice(struct unwind_walk *walk, __u64 at)
{
	walk->slice_at = at;
	walk->slice_bytes = sizeof(walk->slice);
	if (!bpf_probe_read_user(walk->slice, sizeof(walk->slice), (void *)at))
		return 0;
	__u32 left = UNWIND_PAGE - (at & (UNWIND_PAGE - 1));

	left &= UNWIND_PAGE - 1; /* a whole page is what has just failed */
	walk->slice_bytes = left & ~7u;
	if (left >= sizeof(__u64) && !bpf_probe_read_user(walk->slice, left, (void *)at))
		return 0;
	walk->slice_bytes = 0;
	return -1;
}

static __always_inline int read_word(struct unwind_walk *walk, __u64 at, __u64 *value)
{
	__u64 offset = at - walk->slice_at;

	if (offset & 7) {
		if (bpf_probe_read_user(&walk->word, sizeof(walk->word), (void *)at))
			return -1;
		*value = walk->word;
		return 0;
	}
	if (offset >= walk->slice_bytes) {
		if (read_slice(walk, at))
			return -1;
		offset = 0;
	}
	*value = walk->slice[(offset / sizeof(__u64)) & (UNWIND_SLICE_WORDS - 1)];
	return 0;
}

/* Remembers that the frames depend on a word. */
static __always_inline void depend_on(struct unwind_walk *walk, __u64 at, __u64 value, __u32 is_frame)
{
	__u64 offset = (at - walk->entry_sp) / sizeof(__u64);
	__u32 i = walk->memo.words;

	if (i >= UNWIND_MEMO_WORDS || offset >= UNWIND_MEMO_IS_FRAME || (at & 7)) {
		walk->forgets = 1;
		return;
	}
	walk->memo.values[i] = value;
	walk->memo.offsets[i] = (__u16)(offset | is_frame);
	walk->memo.words = i + 1;
	if (offset < UNWIND_SLICE_WORDS && walk->memo.span <= offset)
		walk->memo.span = (__u32)offset + 1;
}

/* The frame pointer is about to be used: its value decides the frames, from wherever it came. */
static __always_inline void depend_on_fp(struct unwind_walk *walk)
{
	if (walk->checked_fp)
		return;
	walk->checked_fp = 1;
	if (walk->fp_at)
		depend_on(walk, walk->fp_at, walk->fp_value, 0);
	else
		walk->memo.uses_fp = 1;
}

/* --- return addresses that a pending return probe has replaced --- */

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

/* --- the walk --- */

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

/* --- the memo --- */

static __always_inline int unwind_memo_holds(struct unwind_walk *walk, struct unwind_memo *memo, struct heap_frames *out)
{
	__u32 words = memo->words, bytes = memo->span * sizeof(__u64);

	if (walk->slice_bytes < bytes) {
		bytes &= sizeof(walk->slice) - 1;
		if (!bytes)
			bytes = sizeof(walk->slice);
		if (bpf_probe_read_user(walk->slice, bytes, (void *)walk->entry_sp)) {
			walk->slice_bytes = 0;
			return 0;
		}
		walk->slice_bytes = bytes;
	}
	bytes = walk->slice_bytes;
	out->depth = 1; /* in memory: in a register, the verifier would tell every depth from every other */
	for (__u32 i = 0; i < UNWIND_MEMO_WORDS; i++) {
		__asm__ volatile("" : "+r"(i)); /* one index: clang would count from a place before the map's value */
		if (i >= words)
			break;
		__u32 offset = memo->offsets[i] & ~UNWIND_MEMO_IS_FRAME;
		__u64 value;

		if (offset * sizeof(__u64) < bytes)
			value = walk->slice[offset & (UNWIND_SLICE_WORDS - 1)];
		else if (bpf_probe_read_user(&walk->word, sizeof(walk->word), (void *)(walk->entry_sp + offset * sizeof(__u64))))
			return 0;
		else
			value = walk->word;
		if (memo->offsets[i] & UNWIND_MEMO_IS_FRAME) {
			__u32 depth = out->depth;

			value = UNWIND_ADDRESS(value);
			if (depth >= HEAP_MAX_FRAMES)
				return 0;
			out->frames[depth] = value;
			out->depth = depth + 1;
		}
		if (value != memo->values[i])
			return 0;
	}
	out->ending = memo->ending;
	return 1;
}

static int unwind_recall_one(__u32 i, void *context)
{
	struct unwind_step *step = context;
	struct unwind_walk *walk = step->walk;
	__u32 at = walk->first_memo + i;
	struct unwind_memo *memo = bpf_map_lookup_elem(&unwind_memos, &at);

	if (!memo)
		return 1;
	__u64 sequence = *(volatile __u64 *)&memo->sequence;

	UNWIND_LOADS_IN_ORDER(walk);
	if ((sequence & 1) || memo->pc != walk->pc || memo->sp != walk->sp || memo->generation != walk->memo.generation ||
	    (memo->uses_fp && memo->fp != walk->fp) || !unwind_memo_holds(walk, memo, step->out))
		return 0;
	UNWIND_LOADS_IN_ORDER(walk);
	walk->recalled = *(volatile __u64 *)&memo->sequence == sequence;
	return walk->recalled;
}

static __always_inline void unwind_remember(struct unwind_walk *walk, __u32 ending)
{
	__u32 words = walk->memo.words, at = walk->first_memo + (walk->next_way++ & (UNWIND_MEMO_WAYS - 1));
	struct unwind_memo *memo = bpf_map_lookup_elem(&unwind_memos, &at);

	if (!memo || words > UNWIND_MEMO_WORDS)
		return;
	__u64 sequence = memo->sequence;

	if ((sequence & 1) || __sync_val_compare_and_swap(&memo->sequence, sequence, sequence + 1) != sequence)
		return; /* another processor writes it */
	memo->pc = walk->entry_pc;
	memo->sp = walk->entry_sp;
	memo->fp = walk->entry_fp;
	memo->generation = walk->memo.generation;
	memo->uses_fp = walk->memo.uses_fp;
	memo->ending = ending;
	memo->words = words;
	memo->span = walk->memo.span;
	if (bpf_probe_read_kernel(memo->values, words * sizeof(memo->values[0]), walk->memo.values) ||
	    bpf_probe_read_kernel(memo->offsets, words * sizeof(memo->offsets[0]), walk->memo.offsets))
		memo->pc = 0;
	__sync_fetch_and_add(&memo->sequence, 1);
}

static __always_inline __u64 unwind_hash(const struct heap_frames *out)
{
	__u64 hash = out->depth + ((__u64)out->ending << 32);

	for (__u32 i = 0; i < HEAP_MAX_FRAMES; i++) {
		if (i >= out->depth)
			break;
		hash = (hash ^ out->frames[i]) * 0x9E3779B97F4A7C15ULL; /* 2^64 / golden ratio: odd, well mixed */
		hash ^= hash >> 32;
	}
	return hash;
}

/*
 * Sets `out` to the stack that begins in this processor's walk: pc, sp and fp. Returns its depth.
 *
 * A global function: it is verified once, whatever calls it, and by itself. Static, it would be verified anew on each of a
 * hundred paths that lead here. Kernels 6.10 to 6.14 refuse it while preemption is off.
 */
__noinline int unwind_registers(struct heap_frames *out)
{
	__u32 zero = 0;
	struct unwind_walk *walk = bpf_map_lookup_elem(&unwind_walks, &zero);
	struct unwind_control *control = bpf_map_lookup_elem(&unwind_control, &zero);

	if (!walk || !control || !out)
		return 0;
	const __u32 generation = *(volatile __u32 *)&control->generation;
	struct unwind_step step = {.walk = walk, .out = out};
	__u64 recalled = 0;

	walk->memo.generation = generation;
	walk->entry_pc = walk->pc;
	walk->entry_fp = walk->fp;
	walk->entry_sp = walk->slice_at = walk->sp;
	walk->slice_bytes = 0;
	if (unwind.memo_sets) {
		__u64 place = (walk->pc ^ (walk->sp >> 3)) * 0x9E3779B97F4A7C15ULL;

		walk->first_memo = ((__u32)(place >> 40) & (unwind.memo_sets - 1)) * UNWIND_MEMO_WAYS;
		walk->recalled = 0;
		out->frames[0] = walk->pc;
		bpf_loop(UNWIND_MEMO_WAYS, unwind_recall_one, &step, 0);
		if (walk->recalled) {
			unwind_count(UNWIND_HITS, 1);
			if (unwind.mode != UNWIND_COMPARE)
				return out->depth;
			recalled = unwind_hash(out);
		}
	}

	walk->half = generation & 1;
	walk->modules = control->counts[walk->half];
	walk->module.start = walk->module.end = 0;
	walk->exact = walk->restored = walk->forgets = 0;
	walk->pc_at = 0;
	walk->fp_at = walk->checked_fp = 0;
	walk->memo.words = walk->memo.span = walk->memo.uses_fp = 0;
	out->depth = 0;

	bpf_loop(HEAP_MAX_FRAMES + 1, unwind_one, &step, 0);
	/* Twice changed meanwhile: the half that was read may have been written. */
	if (*(volatile __u32 *)&control->generation - generation > 1) {
		walk->forgets = 1;
		out->ending = HEAP_END_NOT_LOADED;
	}
	unwind_count(UNWIND_WALKS, 1);
	unwind_count(UNWIND_FRAMES, out->depth);
	if (walk->restored)
		unwind_count(UNWIND_RESTORED, walk->restored);
	if (recalled && recalled != unwind_hash(out))
		unwind_count(UNWIND_MISMATCHES, 1);
	if (unwind.memo_sets && !walk->forgets && !recalled)
		unwind_remember(walk, out->ending);
	return out->depth;
}

/*
 * Sets `out` to the stack of the current thread at a return probe: frames[0] is the address to which the probed call
 * returns, as bpf_get_stack has it. Returns the depth; 0 where there is no stack at all.
 *
 * `at_exit`: the probe is on the `ret` itself, and the return address where that finds it.
 */
static __always_inline __u32 unwind_stack(struct pt_regs *ctx, struct heap_frames *out, int at_exit)
{
	__u32 zero = 0;
	struct unwind_walk *walk = bpf_map_lookup_elem(&unwind_walks, &zero);

	if (!walk)
		return 0;
	walk->pc = PT_REGS_IP(ctx);
	walk->sp = PT_REGS_SP(ctx);
	walk->fp = PT_REGS_FP(ctx);
	if (at_exit) {
#ifdef __TARGET_ARCH_arm64
		walk->pc = PT_REGS_RET(ctx);
#else
		if (bpf_probe_read_user(&walk->pc, sizeof(walk->pc), (void *)walk->sp))
			return 0;
		walk->sp += sizeof(walk->pc);
#endif
	}
	return (__u32)unwind_registers(out);
}

#endif
