/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Exact heap accounting of one process: bytes outstanding by the stack that took them.
 *
 * Three rules make it exact where tools with one slot per thread are not:
 *
 *  - The outermost call wins. malloc of 128 KiB and more calls mmap inside libc, realloc calls mremap, reallocarray
 *    jumps to realloc. Whatever an allocator calls on the same thread before it returns is its own business.
 *  - The size is kept from the entry, the stack is taken at the return: at the entry the caller has no frame yet, and
 *    unwinding by frame pointers would miss it.
 *  - A block leaves the books before its memory can be given out again: at the entry of free, realloc and munmap, not
 *    at their return, when another thread may already own the address.
 *
 * This is the algorithm and its maps. It is included by an eBPF program, after the kernel's types and libbpf's helpers
 * (from linux/bpf.h or from vmlinux.h, as the program likes), and asks nobody who is calling: the program sees to it
 * that only the processes that it is meant for come here.
 */
#ifndef HEAP_ACCOUNT_BPF_H
#define HEAP_ACCOUNT_BPF_H

#include "heap_trace.h"

#define MAX_ERRNO 4095
#define MAP_FAILED_FROM ((__u64)-MAX_ERRNO)
#define PROT_NONE 0
#define MREMAP_DONTUNMAP 4

/* Well below the smallest block for which glibc makes a mapping of its own: 128 KiB, unless mallopt lowers it. */
#define SMALLEST_MAPPED (64 * 1024)

/* For a session program: 0 asks the kernel for the return of this call, 1 saves that trap. */
#define WANT_RETURN 0
#define SKIP_RETURN 1

/* Set by the loader before the program is verified: constants to the verifier, which drops the branches they rule out. */
const volatile struct heap_settings settings SEC(".rodata.settings") = {};

struct task_struct;

/*
 * What a program decides before it includes this. The loader of one process's tracer sets the sizes itself, and needs
 * none of the rest.
 */
#ifndef HEAP_MAX_BLOCKS
#define HEAP_MAX_BLOCKS 1
#endif
#ifndef HEAP_MAX_STACKS
#define HEAP_MAX_STACKS 1
#endif
#ifndef HEAP_STACKS_FLAGS
#define HEAP_STACKS_FLAGS BPF_F_NO_PREALLOC
#endif

/* A program that counts several processes names the current one by HEAP_PROCESS(): addresses are each one's own. */
#ifdef HEAP_PROCESS
typedef struct {
	__u64 process;
	__u64 address;
} heap_key;
#define HEAP_KEY(of) {.process = HEAP_PROCESS(), .address = (of)}
#else
typedef __u64 heap_key;
#define HEAP_PROCESS() 0
#define HEAP_KEY(of) (of)
#endif

/* Called when a stack is seen first, while `scratch` holds it. */
#ifndef HEAP_ON_NEW_STACK
#define HEAP_ON_NEW_STACK(ctx, hash)
#endif

/* The allocator call that a thread is in: from its outermost entry to its return. */
struct call {
	__u64 sp;      /* stack pointer at the entry, where the return address lies on x86 */
	__u64 bytes;
	__u64 pointer; /* posix_memalign's result, the old block of realloc, the old range of mremap and munmap */
	__u32 function;
	__u32 flag;            /* realloc: `old` is set; mmap: the mapping is only a reservation */
	struct heap_block old; /* realloc: the old block, out of the books until the outcome is known */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, HEAP_MAX_BLOCKS);
	__type(key, heap_key);
	__type(value, struct heap_block);
} blocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, HEAP_STACKS_FLAGS);
	__uint(max_entries, HEAP_MAX_STACKS);
	__type(key, __u64);
	__type(value, struct heap_stack);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct heap_stack);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HEAP_LOST_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

#ifndef HEAP_WITHOUT_MAPPINGS
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} mappings SEC(".maps");
#endif

static __always_inline void lose(__u32 kind)
{
	__u64 *count = bpf_map_lookup_elem(&lost, &kind);

	if (count)
		__sync_fetch_and_add(count, 1);
}

/*
 * The hash under which the current user stack is kept, with its record made on first sight. A 64-bit hash, and not
 * bpf_get_stackid: that keeps one stack per bucket of a small table and drops or confuses the ones that collide.
 */
static __always_inline __u64 current_stack(struct pt_regs *ctx)
{
	__u32 zero = 0;
	struct heap_stack *stack = bpf_map_lookup_elem(&scratch, &zero);

	if (!stack)
		return HEAP_UNKNOWN_STACK;
	long bytes = bpf_get_stack(ctx, stack->frames, sizeof(stack->frames), BPF_F_USER_STACK);
	if (bytes < (long)sizeof(__u64)) {
		lose(HEAP_LOST_STACK);
		return HEAP_UNKNOWN_STACK;
	}
	stack->depth = (__u64)bytes / sizeof(__u64);

	__u64 hash = stack->depth + (HEAP_PROCESS() << 8);
	for (__u32 i = 0; i < HEAP_MAX_FRAMES; i++) {
		if (i >= stack->depth)
			break;
		hash = (hash ^ stack->frames[i]) * 0x9E3779B97F4A7C15ULL; /* 2^64 / golden ratio: odd, well mixed */
		hash ^= hash >> 32;
	}
	if (hash == HEAP_UNKNOWN_STACK)
		hash = 1;
	if (bpf_map_lookup_elem(&stacks, &hash))
		return hash;

	stack->allocations = stack->allocated_bytes = stack->frees = stack->freed_bytes = 0;
	/* Another thread may have been first: then its record stands, which is as good. */
	bpf_map_update_elem(&stacks, &hash, stack, BPF_NOEXIST);
	if (bpf_map_lookup_elem(&stacks, &hash)) {
		HEAP_ON_NEW_STACK(ctx, hash);
		return hash;
	}
	lose(HEAP_LOST_STACKS);
	return HEAP_UNKNOWN_STACK;
}

static __always_inline void count_free(const struct heap_block *block)
{
	__u64 hash = block->stack;
	struct heap_stack *stack = bpf_map_lookup_elem(&stacks, &hash);

	if (stack) {
		__sync_fetch_and_add(&stack->frees, 1);
		__sync_fetch_and_add(&stack->freed_bytes, block->bytes);
	}
}

static __always_inline void remember(struct pt_regs *ctx, __u64 address, __u64 bytes)
{
	struct heap_block block = {.bytes = bytes, .time_ns = bpf_ktime_get_ns()};
	heap_key key = HEAP_KEY(address);

	block.stack = current_stack(ctx);
	struct heap_stack *stack = bpf_map_lookup_elem(&stacks, &block.stack);
	if (!stack)
		return; /* cannot be: the unknown stack is there from the start */

	long error = bpf_map_update_elem(&blocks, &key, &block, BPF_NOEXIST);
	if (error) {
		struct heap_block *stale = bpf_map_lookup_elem(&blocks, &key);

		if (!stale) {
			lose(HEAP_LOST_BLOCKS);
			return;
		}
		lose(HEAP_LOST_FREE);
		count_free(stale);
		*stale = block; /* this thread owns the address: nobody else writes the record */
	}
	__sync_fetch_and_add(&stack->allocations, 1);
	__sync_fetch_and_add(&stack->allocated_bytes, bytes);
}

static __always_inline void forget(__u64 address)
{
	heap_key key = HEAP_KEY(address);
	struct heap_block *block = bpf_map_lookup_elem(&blocks, &key);

	if (block) { /* else it is older than the trace */
		count_free(block);
		bpf_map_delete_elem(&blocks, &key);
	}
}

#ifdef HEAP_WITHOUT_MAPPINGS
#define report_mapping(kind, address, bytes, stack)
#else
static __always_inline void report_mapping(__u32 kind, __u64 address, __u64 bytes, __u64 stack)
{
	struct heap_mapping *event = bpf_ringbuf_reserve(&mappings, sizeof(*event), 0);

	if (!event) {
		lose(HEAP_LOST_MAPPING);
		return;
	}
	event->address = address;
	event->bytes = bytes;
	event->stack = stack;
	event->time_ns = bpf_ktime_get_ns();
	event->kind = kind;
	event->thread = (__u32)bpf_get_current_pid_tgid();
	bpf_ringbuf_submit(event, 0);
}
#endif

/* Takes the old block of a realloc out of the books, and into the call. */
static __always_inline void hold_old_block(struct call *call, __u64 address)
{
	heap_key key = HEAP_KEY(address);
	struct heap_block *block = address ? bpf_map_lookup_elem(&blocks, &key) : 0;

	call->pointer = address;
	call->flag = block != 0;
	if (block) {
		call->old = *block;
		bpf_map_delete_elem(&blocks, &key);
	}
}

static __always_inline void release_old_block(struct call *call, int freed)
{
	heap_key key = HEAP_KEY(call->pointer);

	if (!call->flag)
		return;
	if (freed)
		count_free(&call->old);
	else if (bpf_map_update_elem(&blocks, &key, &call->old, BPF_NOEXIST))
		lose(HEAP_LOST_BLOCKS);
}

/*
 * Whether a call can be left alone: its block is below the minimum, and comes from the heap. One that may call mmap or
 * mremap is followed to its end, or that call would pass for the outermost one.
 */
static __always_inline int stays_in_heap(struct pt_regs *ctx, const struct call *call, __u32 function)
{
	switch (function) {
	case HEAP_MALLOC:
	case HEAP_CALLOC:
		return call->bytes < SMALLEST_MAPPED;
	case HEAP_REALLOC:
	case HEAP_REALLOCARRAY:
		return call->bytes < SMALLEST_MAPPED && !call->pointer;
	case HEAP_ALIGNED_ALLOC:
		return call->bytes + PT_REGS_PARM1(ctx) < SMALLEST_MAPPED;
	case HEAP_POSIX_MEMALIGN:
		return call->bytes + PT_REGS_PARM2(ctx) < SMALLEST_MAPPED;
	}
	return 0;
}

static __always_inline int enter(struct pt_regs *ctx, __u32 function)
{
	__u64 sp = PT_REGS_SP(ctx);
	struct call *call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!call) {
		lose(HEAP_LOST_THREAD);
		return SKIP_RETURN;
	}
	if (call->function) {
		/*
		 * Stacks grow down: a call from inside the outer one is below its stack pointer, or at it after a tail call,
		 * which is another function's (memalign's to aligned_alloc is not, here). Otherwise the same function at the
		 * same place is a new call, and the old one's return was missed: its entry was probed before its return.
		 */
		if (sp < call->sp || (sp == call->sp && (function != call->function || function == HEAP_ALIGNED_ALLOC)))
			return SKIP_RETURN;
		lose(HEAP_LOST_RETURN);
		call->function = HEAP_NONE;
	}
	if (function == HEAP_FREE) {
		__u64 address = PT_REGS_PARM1(ctx);

		if (address)
			forget(address);
		return SKIP_RETURN; /* nothing is left to learn at its return */
	}

	call->sp = sp;
	call->flag = 0;
	switch (function) {
	case HEAP_MALLOC:
		call->bytes = PT_REGS_PARM1(ctx);
		break;
	case HEAP_CALLOC:
		call->bytes = PT_REGS_PARM1(ctx) * PT_REGS_PARM2(ctx); /* where this overflows, calloc fails */
		break;
	case HEAP_REALLOC:
		call->bytes = PT_REGS_PARM2(ctx);
		hold_old_block(call, PT_REGS_PARM1(ctx));
		break;
	case HEAP_REALLOCARRAY:
		call->bytes = PT_REGS_PARM2(ctx) * PT_REGS_PARM3(ctx);
		if (!call->bytes && PT_REGS_PARM2(ctx) && PT_REGS_PARM3(ctx))
			call->bytes = ~0ULL; /* 2^64 and its multiples: that fails and frees nothing, unlike 0 bytes */
		hold_old_block(call, PT_REGS_PARM1(ctx));
		break;
	case HEAP_ALIGNED_ALLOC:
		call->bytes = PT_REGS_PARM2(ctx);
		break;
	case HEAP_POSIX_MEMALIGN:
		call->pointer = PT_REGS_PARM1(ctx);
		call->bytes = PT_REGS_PARM3(ctx);
		break;
	case HEAP_MMAP:
		call->bytes = PT_REGS_PARM2(ctx);
		call->flag = PT_REGS_PARM3(ctx) == PROT_NONE;
		break;
	case HEAP_MREMAP:
		call->pointer = PT_REGS_PARM1(ctx);
		call->bytes = PT_REGS_PARM3(ctx);
		/* With MREMAP_DONTUNMAP the pages go and the old range stays. */
		report_mapping(HEAP_UNMAPPED, call->pointer,
			       PT_REGS_PARM4(ctx) & MREMAP_DONTUNMAP ? 0 : PT_REGS_PARM2(ctx), 0);
		break;
	case HEAP_MUNMAP:
		call->pointer = PT_REGS_PARM1(ctx);
		call->bytes = PT_REGS_PARM2(ctx);
		report_mapping(HEAP_UNMAPPED, call->pointer, call->bytes, 0);
		break;
	default:
		return SKIP_RETURN;
	}
	if (call->bytes < settings.min_bytes && stays_in_heap(ctx, call, function))
		return SKIP_RETURN;
	call->function = function;
	return WANT_RETURN;
}

static __always_inline int leave(struct pt_regs *ctx, __u32 function)
{
	struct call *call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
	__u64 result = PT_REGS_RC(ctx), sp = PT_REGS_SP(ctx), address;

#ifdef __TARGET_ARCH_x86
	sp -= sizeof(__u64); /* `ret` took the return address off the stack */
#endif
	/* Not the call that this thread's outermost entry began: a nested one, or one that was under way at the start. */
	if (!call || call->function != function || call->sp != sp)
		return 0;
	call->function = HEAP_NONE;

	switch (function) {
	case HEAP_REALLOC:
	case HEAP_REALLOCARRAY:
		/* It frees the old block where it succeeds, and where glibc is asked for nothing: realloc(p, 0). */
		release_old_block(call, result || !call->bytes);
		break;
	case HEAP_POSIX_MEMALIGN:
		if ((__u32)result)
			return 0;
		if (bpf_probe_read_user(&result, sizeof(result), (void *)call->pointer)) {
			lose(HEAP_LOST_READ);
			return 0;
		}
		break;
	case HEAP_MMAP:
	case HEAP_MREMAP:
		/* Address space without access takes no memory: libc reserves 64 MiB of it for each thread's arena. */
		if (result < MAP_FAILED_FROM && call->flag)
			report_mapping(HEAP_RESERVED, result, call->bytes, 0);
		else if (result < MAP_FAILED_FROM)
			report_mapping(HEAP_MAPPED, result, call->bytes, current_stack(ctx));
		else if (function == HEAP_MREMAP)
			report_mapping(HEAP_RESTORED, call->pointer, 0, 0);
		return 0;
	case HEAP_MUNMAP:
		if ((__u32)result)
			report_mapping(HEAP_RESTORED, call->pointer, 0, 0);
		return 0;
	}
	address = result;
	if (address && call->bytes >= settings.min_bytes)
		remember(ctx, address, call->bytes);
	return 0;
}

#endif
