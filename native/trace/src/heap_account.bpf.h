/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Exact heap accounting of one process: bytes outstanding by the stack that took them.
 *
 * Three rules make it exact where tools with one slot per thread are not:
 *
 *  - The outermost call counts. malloc of 128 KiB and more calls mmap inside libc, realloc calls mremap, reallocarray
 *    jumps to realloc. heap_call.h tells an allocator's own calls from the program's.
 *  - The size is kept from the entry, the stack is taken at the return: at the entry the caller has no frame yet, and
 *    unwinding by frame pointers would miss it.
 *  - A block is removed from the table before its memory can be given out again: at the entry of free, realloc and
 *    munmap, not at their return, when another thread may already own the address.
 *
 * This is the algorithm and its maps. It is included by an eBPF program, after the kernel's types and libbpf's helpers
 * (from linux/bpf.h or from vmlinux.h, as the program likes). It does not filter by pid: the program sees to it that
 * only the processes that it is meant for come here.
 */
#ifndef HEAP_ACCOUNT_BPF_H
#define HEAP_ACCOUNT_BPF_H

#include <bpf/bpf_core_read.h>

#include "heap_cookie.h"
#include "heap_trace.h"

#define MAX_ERRNO 4095
#define MAP_FAILED_FROM ((__u64)-MAX_ERRNO)
#define PROT_NONE 0
#define MAP_SHARED 0x01
#define MAP_ANONYMOUS 0x20 /* on x86 and on arm64 */
#define MREMAP_DONTUNMAP 4

/* glibc's chunk header: the size in bytes, and flags in its low three bits. */
#define CHUNK_FLAGS 7
#define CHUNK_IS_MAPPED 2
#define CHUNK_OVERHEAD 8 /* of a chunk; twice that where it is a mapping of its own */

/* For a session program: 0 asks the kernel for the return of this call, 1 saves that trap. */
#define WANT_RETURN 0
#define SKIP_RETURN 1

/* Set by the loader before the program is verified: constants to the verifier, which drops the branches they rule out. */
const volatile struct heap_settings settings SEC(".rodata.settings") = {};

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
#ifndef HEAP_MAX_OLDER
#define HEAP_MAX_OLDER 4096
#endif
#ifndef HEAP_COUNTERS_FLAGS
#define HEAP_COUNTERS_FLAGS BPF_F_NO_PREALLOC
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

/* Takes the current user stack: fills depth, ending and frames of `into`, and returns the number of frames. */
#ifndef HEAP_TAKE_STACK
#define HEAP_TAKE_STACK(ctx, into) take_stack_by_frame_pointers(ctx, into)
#endif

/*
 * What happens to a stack that is seen first: its frames go to user space through a ring, where a stack takes 8 bytes a
 * frame. A program without a user space of its own defines HEAP_ON_NEW_STACK(ctx, frames) instead.
 */
#ifndef HEAP_ON_NEW_STACK
#define HEAP_PUBLISHES_STACKS
#endif

/* --- what heap_call.h asks of the kernel --- */

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
static __noinline int on_same_stack(__u64 low, __u64 high)
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

static __noinline int in_allocator_code(__u64 address)
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

/* --- the maps --- */

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct heap_calls);
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
	__uint(map_flags, HEAP_COUNTERS_FLAGS);
	__uint(max_entries, HEAP_MAX_STACKS);
	__type(key, __u64);
	__type(value, struct heap_counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct heap_frames);
} scratch SEC(".maps");

#ifndef HEAP_WITHOUT_OLDER
/* By the address that the freeing call returns to; under 0 what found no room. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, HEAP_MAX_OLDER);
	__type(key, __u64);
	__type(value, struct heap_older);
} older SEC(".maps");

/* The same by size class. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HEAP_SIZE_CLASSES);
	__type(key, __u32);
	__type(value, struct heap_size_class);
} older_sizes SEC(".maps");
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HEAP_LOST_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* Probed calls of each processor, counted only where settings.count_calls asks for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} probed_calls SEC(".maps");

#ifdef HEAP_PUBLISHES_STACKS
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} frames SEC(".maps");
#endif

#ifndef HEAP_WITHOUT_MAPPINGS
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} mappings SEC(".maps");
#endif

static __always_inline void lose_many(__u32 kind, __u64 events)
{
	__u64 *count = bpf_map_lookup_elem(&lost, &kind);

	if (count && events)
		__sync_fetch_and_add(count, events);
}

static __always_inline void lose(__u32 kind)
{
	lose_many(kind, 1);
}

/* --- stacks --- */

static __always_inline __u32 take_stack_by_frame_pointers(struct pt_regs *ctx, struct heap_frames *into)
{
	long bytes = bpf_get_stack(ctx, into->frames, sizeof(into->frames), BPF_F_USER_STACK);

	into->depth = bytes < (long)sizeof(__u64) ? 0 : (__u64)bytes / sizeof(__u64);
	into->ending = into->depth >= HEAP_KERNEL_FRAMES || into->depth >= HEAP_MAX_FRAMES ? HEAP_END_TOO_DEEP
											    : HEAP_END_UNKNOWN;
	return into->depth;
}

#ifdef HEAP_PUBLISHES_STACKS
#define FRAMES_HEADER __builtin_offsetof(struct heap_frames, frames)

static __always_inline void publish_stack(struct heap_counters *record, struct heap_frames *stack)
{
	__u32 depth = stack->depth;

	if (depth > HEAP_MAX_FRAMES)
		depth = HEAP_MAX_FRAMES;
	/* Another processor may hand the same frames over: the second time says nothing new. */
	if (bpf_ringbuf_output(&frames, stack, FRAMES_HEADER + depth * sizeof(__u64), BPF_RB_NO_WAKEUP))
		lose(HEAP_LOST_FRAMES); /* until the stack is seen again */
	else
		record->published = 1;
}
#endif

/*
 * The counters of the current user stack, and its hash. A 64-bit hash, and not bpf_get_stackid: that keeps one stack per
 * bucket of a small table and drops or confuses the ones that collide.
 */
static __always_inline struct heap_counters *current_stack(struct pt_regs *ctx, const struct heap_pending *call,
							    __u64 *stack_hash)
{
	static const struct heap_counters none;
	__u64 hash = HEAP_UNKNOWN_STACK;
	__u32 zero = 0;
	struct heap_frames *stack = bpf_map_lookup_elem(&scratch, &zero);
	__u32 depth = stack ? HEAP_TAKE_STACK(ctx, stack) : 0;

	*stack_hash = HEAP_UNKNOWN_STACK;
	if (!stack || !depth) {
		lose(HEAP_LOST_STACK);
		return bpf_map_lookup_elem(&counters, &hash);
	}
	/*
	 * At a `ret` the frame pointer is the caller's again, so that a walk along frame pointers goes from the function
	 * itself to the caller's caller. An unwinder that knows better has the caller second.
	 */
	if (call->cookie & HEAP_EXIT_PROBED && (depth < 2 || stack->frames[1] != call->return_address))
		stack->frames[0] = call->return_address;
	hash = depth + ((__u64)stack->ending << 16) + (HEAP_PROCESS() << 20);
	for (__u32 i = 0; i < HEAP_MAX_FRAMES; i++) {
		if (i >= depth)
			break;
		hash = (hash ^ stack->frames[i]) * 0x9E3779B97F4A7C15ULL; /* 2^64 / golden ratio: odd, well mixed */
		hash ^= hash >> 32;
	}
	if (hash == HEAP_UNKNOWN_STACK)
		hash = 1;
	stack->hash = hash;

	struct heap_counters *record = bpf_map_lookup_elem(&counters, &hash);
	if (!record) {
		/* Another thread may be first: then its record stands, which is as good. */
		bpf_map_update_elem(&counters, &hash, &none, BPF_NOEXIST);
		record = bpf_map_lookup_elem(&counters, &hash);
		if (!record) {
			lose(HEAP_LOST_STACKS);
			hash = HEAP_UNKNOWN_STACK;
			return bpf_map_lookup_elem(&counters, &hash);
		}
#ifndef HEAP_PUBLISHES_STACKS
		HEAP_ON_NEW_STACK(ctx, stack);
#endif
	}
#ifdef HEAP_PUBLISHES_STACKS
	if (!record->published)
		publish_stack(record, stack);
#endif
	*stack_hash = hash;
	return record;
}

/* --- blocks --- */

static __always_inline void count_free(const struct heap_block *block)
{
	__u64 hash = block->stack;
	struct heap_counters *stack = bpf_map_lookup_elem(&counters, &hash);

	if (stack) {
		__sync_fetch_and_add(&stack->frees, 1);
		__sync_fetch_and_add(&stack->freed_bytes, block->bytes);
	}
}

/* Counts a new block. `born_ns` is its birth where it takes an older one's place. */
static __always_inline void remember(struct pt_regs *ctx, const struct heap_pending *call, __u64 address,
				     const __u64 *born_ns)
{
	struct heap_block block = {.bytes = call->bytes, .time_ns = bpf_ktime_get_ns()};
	struct heap_counters *stack = current_stack(ctx, call, &block.stack);
	heap_key key = HEAP_KEY(address);

	if (!stack)
		return; /* cannot be: the unknown stack is there from the start */
	block.born_ns = born_ns ? *born_ns : block.time_ns;
	if (bpf_map_update_elem(&blocks, &key, &block, BPF_NOEXIST)) {
		struct heap_block *stale = bpf_map_lookup_elem(&blocks, &key);

		if (stale) {
			lose(HEAP_LOST_FREE);
			count_free(stale);
			*stale = block; /* this thread owns the address: nobody else writes the record */
		} else {
			lose(HEAP_LOST_BLOCKS);
			__sync_fetch_and_add(&stack->untracked, 1);
			__sync_fetch_and_add(&stack->untracked_bytes, call->bytes);
		}
	}
	__sync_fetch_and_add(&stack->allocations, 1);
	__sync_fetch_and_add(&stack->allocated_bytes, call->bytes);
}

/* Takes a block out of the table; returns 0 where it was not in it. */
static __always_inline int take_block(__u64 address, struct heap_block *taken)
{
	heap_key key = HEAP_KEY(address);
	struct heap_block *block = bpf_map_lookup_elem(&blocks, &key);

	if (!block)
		return 0;
	*taken = *block;
	/* Two threads that free one block are a fault of the program: only one of them takes it. */
	return !bpf_map_delete_elem(&blocks, &key);
}

#ifdef HEAP_WITHOUT_OLDER
#define usable_bytes(address, cookie) 0
#define count_older(usable, return_address)
#else
/* The usable size of a block of glibc's, from its chunk's header; 0 where it is not known. */
static __always_inline __u64 usable_bytes(__u64 address, __u64 cookie)
{
	__u64 header = 0;

	if (!(cookie & HEAP_CHUNK_HEADER) ||
	    bpf_probe_read_user(&header, sizeof(header), (const void *)(address - sizeof(header))))
		return 0;
	__u64 overhead = header & CHUNK_IS_MAPPED ? 2 * CHUNK_OVERHEAD : CHUNK_OVERHEAD;
	__u64 chunk = header & ~(__u64)CHUNK_FLAGS;
	return chunk > overhead && chunk < 1ULL << 47 ? chunk - overhead : 0;
}

static __always_inline __u32 size_class(__u64 bytes)
{
	__u32 log = 0;

	for (__u32 step = 32; step; step >>= 1)
		if (bytes >> log >> step)
			log += step;
	return (log << 2) + (log < 2 ? 0 : (__u32)(bytes >> (log - 2)) & 3);
}

/* Counts the free of a block that is older than the trace. With a minimum size, one that may be below it is left out. */
static __always_inline void count_older(__u64 usable, __u64 return_address)
{
	static const struct heap_older none;
	struct heap_size_class *sizes;
	struct heap_older *record;
	__u32 size;

	if (settings.min_bytes && usable < settings.min_bytes)
		return;
	size = size_class(usable);
	sizes = bpf_map_lookup_elem(&older_sizes, &size);
	if (sizes) {
		__sync_fetch_and_add(&sizes->frees, 1);
		__sync_fetch_and_add(&sizes->bytes, usable);
	}
	record = bpf_map_lookup_elem(&older, &return_address);
	if (!record) {
		bpf_map_update_elem(&older, &return_address, &none, BPF_NOEXIST);
		record = bpf_map_lookup_elem(&older, &return_address);
	}
	if (!record) {
		lose(HEAP_LOST_OLDER);
		return_address = 0;
		record = bpf_map_lookup_elem(&older, &return_address);
	}
	if (!record)
		return;
	__sync_fetch_and_add(&record->frees, 1);
	__sync_fetch_and_add(&record->bytes, usable);
	__sync_fetch_and_add(&record->unsized, usable ? 0 : 1);
}
#endif

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
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}
#endif

/* --- calls --- */

/* The old block of a realloc that failed, or whose end was not seen, is where it was. */
static __always_inline void restore_block(const struct heap_pending *pending)
{
	heap_key key = HEAP_KEY(pending->pointer);
	struct heap_block block = pending->old;

	if (pending->flag && bpf_map_update_elem(&blocks, &key, &block, BPF_NOEXIST))
		lose(HEAP_LOST_BLOCKS);
}

static __always_inline void abandon(struct heap_pending *pending)
{
	/* Every `ret` of such a function is probed: an exception has left it, and there is no block. */
	if (!(pending->cookie & HEAP_EXIT_PROBED))
		lose(HEAP_LOST_RETURN);
	if (pending->nested >= HEAP_MAX_NESTED) /* only such a call can have had others than its own among them */
		lose_many(HEAP_LOST_NESTED, pending->nested);
	if (HEAP_COOKIE_KIND(pending->cookie) == HEAP_REALLOCATE)
		restore_block(pending);
}

/* The arguments of a call by their positions, from 1 on. The verifier lets no register be chosen by a number. */
struct arguments {
	__u64 at[8];
};

#define ARGUMENTS(ctx)                                                                                               \
	{                                                                                                            \
		{                                                                                                    \
			0, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx), PT_REGS_PARM4(ctx),           \
				PT_REGS_PARM5(ctx)                                                                   \
		}                                                                                                    \
	}

/* The bytes that a call asks for. Where a product overflows the call fails, and frees nothing, unlike one of 0 bytes. */
static __always_inline __u64 asked_bytes(const struct arguments *arguments, __u64 cookie)
{
	__u64 size = arguments->at[HEAP_COOKIE_SIZE(cookie) & 7];
	__u64 count = HEAP_COOKIE_COUNT(cookie) ? arguments->at[HEAP_COOKIE_COUNT(cookie) & 7] : 1;

	return size * count || !size || !count ? size * count : ~0ULL;
}

static __always_inline __u64 return_address(struct pt_regs *ctx)
{
#ifdef __TARGET_ARCH_x86
	__u64 word = 0;

	bpf_probe_read_user(&word, sizeof(word), (const void *)PT_REGS_SP(ctx));
	return word;
#else
	return PT_REGS_RET(ctx);
#endif
}

static __always_inline enum heap_mapping_kind mapping_kind(const struct arguments *arguments)
{
	if (arguments->at[3] == PROT_NONE)
		return HEAP_RESERVED;
	if (!(arguments->at[4] & MAP_ANONYMOUS))
		return HEAP_FILE_MAPPED;
	return arguments->at[4] & MAP_SHARED ? HEAP_SHARED : HEAP_MAPPED;
}

/* What the entry itself changes: a block that is given back, a range that goes. */
static __always_inline void begin(struct heap_pending *call, const struct arguments *arguments)
{
	switch (HEAP_COOKIE_KIND(call->cookie)) {
	case HEAP_REALLOCATE:
		call->pointer = arguments->at[HEAP_COOKIE_POINTER(call->cookie) & 7];
		call->bytes = asked_bytes(arguments, call->cookie);
		call->flag = call->pointer && take_block(call->pointer, &call->old);
		if (call->pointer && !call->flag)
			call->old.bytes = usable_bytes(call->pointer, call->cookie);
		break;
	case HEAP_ALLOCATE:
	case HEAP_RESIZE:
		call->pointer = arguments->at[HEAP_COOKIE_POINTER(call->cookie) & 7];
		call->bytes = asked_bytes(arguments, call->cookie);
		break;
	case HEAP_MMAP:
		call->bytes = arguments->at[2];
		call->flag = mapping_kind(arguments);
		break;
	case HEAP_MREMAP:
		call->pointer = arguments->at[1];
		call->bytes = arguments->at[3];
		call->flag = HEAP_MAPPED;
		/* With MREMAP_DONTUNMAP the pages go and the old range stays. */
		report_mapping(HEAP_UNMAPPED, call->pointer,
			       arguments->at[4] & MREMAP_DONTUNMAP ? 0 : arguments->at[2], 0);
		break;
	case HEAP_MUNMAP:
		call->pointer = arguments->at[1];
		call->bytes = arguments->at[2];
		report_mapping(HEAP_UNMAPPED, call->pointer, call->bytes, 0);
		break;
	}
}

static __always_inline void count_call(void)
{
	const __u32 zero = 0;
	__u64 *count = settings.count_calls ? bpf_map_lookup_elem(&probed_calls, &zero) : 0;

	if (count)
		++*count;
}

static __always_inline void begin_free(struct heap_calls *thread, const struct heap_entry *entry, __u64 address,
				       __u64 cookie)
{
	const enum heap_verdict verdict = heap_judge_entry(thread, entry);
	struct heap_block block;

	/* Also where it is an allocator's own call: a block in the table is one that the program was given. */
	if (address && take_block(address, &block))
		count_free(&block);
	else if (address && verdict != HEAP_NESTED)
		count_older(usable_bytes(address, cookie), entry->return_address);
}

static __always_inline int enter(struct pt_regs *ctx, __u64 cookie)
{
	struct heap_calls *thread =
		bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct heap_entry entry = {.sp = PT_REGS_SP(ctx), .probe = HEAP_COOKIE_PROBE(cookie),
				   .hijacks = !(cookie & HEAP_EXIT_PROBED)};
	const struct arguments arguments = ARGUMENTS(ctx);
	struct heap_pending *call = 0;

	count_call();
	if (!thread) {
		lose(HEAP_LOST_THREAD);
		return SKIP_RETURN;
	}
	entry.return_address = return_address(ctx);
	if (thread->depth)
		entry.trampoline = trampoline();
	if (HEAP_COOKIE_KIND(cookie) == HEAP_FREE) {
		begin_free(thread, &entry, arguments.at[HEAP_COOKIE_POINTER(cookie) & 7], cookie);
		return SKIP_RETURN; /* nothing is left to learn at its return */
	}
	switch (heap_enter(thread, &entry, &call)) {
	case HEAP_NESTED:
		return SKIP_RETURN;
	case HEAP_DECLINED:
		if (HEAP_COOKIE_KIND(cookie) == HEAP_MUNMAP) /* it hardly ever fails */
			report_mapping(HEAP_UNMAPPED, arguments.at[1], arguments.at[2], 0);
		else
			lose(HEAP_LOST_DECLINED);
		return SKIP_RETURN;
	case HEAP_OUTERMOST:
		break;
	}
	if (!call)
		return SKIP_RETURN; /* cannot be, and the verifier wants to see it */
	call->cookie = cookie;
	begin(call, &arguments);
	return call->hijacked ? WANT_RETURN : SKIP_RETURN;
}

static __always_inline void finish_mapping(struct pt_regs *ctx, const struct heap_pending *call, __u64 result)
{
	__u64 stack = HEAP_UNKNOWN_STACK;

	if (result < MAP_FAILED_FROM) {
		current_stack(ctx, call, &stack);
		report_mapping(call->flag, result, call->bytes, stack);
	} else if (HEAP_COOKIE_KIND(call->cookie) == HEAP_MREMAP) {
		report_mapping(HEAP_RESTORED, call->pointer, 0, 0);
	}
}

/* xallocx gives a block's size after the call: it is what was asked for, or nothing has changed. */
static __always_inline void finish_resizing(struct pt_regs *ctx, const struct heap_pending *call, __u64 result)
{
	struct heap_block block;

	if (result >= call->bytes && take_block(call->pointer, &block)) {
		count_free(&block);
		remember(ctx, call, call->pointer, &block.born_ns);
	}
}

static __always_inline void finish_allocation(struct pt_regs *ctx, const struct heap_pending *call, __u64 result)
{
	const __u64 before_the_trace = 0, *born_ns = 0;

	if (call->cookie & HEAP_STORES_RESULT) {
		if ((__u32)result)
			return;
		if (bpf_probe_read_user(&result, sizeof(result), (const void *)call->pointer)) {
			lose(HEAP_LOST_READ);
			return;
		}
	}
	if (HEAP_COOKIE_KIND(call->cookie) == HEAP_REALLOCATE && call->pointer) {
		/* It frees the old block where it succeeds, and where glibc is asked for nothing: realloc(p, 0). */
		if (!result && call->bytes) {
			restore_block(call);
		} else if (call->flag) {
			born_ns = &call->old.born_ns;
			count_free(&call->old);
		} else {
			/* With a minimum size the old block may as well be a small one of the trace. */
			born_ns = settings.min_bytes ? 0 : &before_the_trace;
			count_older(call->old.bytes, call->return_address);
		}
	}
	if (result && call->bytes >= settings.min_bytes)
		remember(ctx, call, result, born_ns);
}

static __always_inline int leave(struct pt_regs *ctx, __u64 cookie)
{
	const int by_exit = HEAP_COOKIE_KIND(cookie) == HEAP_EXIT;
	struct heap_calls *thread = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
	__u64 result = PT_REGS_RC(ctx), sp = PT_REGS_SP(ctx);

	if (!thread || !thread->depth)
		return 0;
#ifdef __TARGET_ARCH_x86
	if (!by_exit)
		sp -= sizeof(__u64); /* `ret` took the return address off the stack */
#endif
	struct heap_pending *call = heap_finish(thread, sp, HEAP_COOKIE_PROBE(cookie), !by_exit);
	if (!call)
		return 0;
	switch (HEAP_COOKIE_KIND(call->cookie)) {
	case HEAP_ALLOCATE:
	case HEAP_REALLOCATE:
		finish_allocation(ctx, call, result);
		break;
	case HEAP_RESIZE:
		finish_resizing(ctx, call, result);
		break;
	case HEAP_MMAP:
	case HEAP_MREMAP:
		finish_mapping(ctx, call, result);
		break;
	case HEAP_MUNMAP:
		if ((__u32)result)
			report_mapping(HEAP_RESTORED, call->pointer, 0, 0);
		break;
	}
	return 0;
}

#endif
