/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Blocks and the stacks that took them: in the table, counted, and handed over.
 */
#ifndef HEAP_BLOCKS_BPF_H
#define HEAP_BLOCKS_BPF_H

#include "heap_cookie.h"
#include "heap_maps.bpf.h"

/* glibc's chunk header: the size in bytes, and flags in its low three bits. */
#define CHUNK_FLAGS 7
#define CHUNK_IS_MAPPED 2
#define CHUNK_OVERHEAD 8 /* of a chunk; twice that where it is a mapping of its own */

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
	__u32 depth = stack->depth, python = stack->python;

	if (depth > HEAP_MAX_FRAMES)
		depth = HEAP_MAX_FRAMES;
	if (python > HEAP_MAX_PYTHON)
		python = HEAP_MAX_PYTHON;
	/* Another processor may hand the same frames over: the second time says nothing new. */
	if (bpf_ringbuf_output(&frames, stack, FRAMES_HEADER + (depth + 2 * python) * sizeof(__u64),
			       BPF_RB_NO_WAKEUP))
		lose(HEAP_LOST_FRAMES); /* until the stack is seen again */
	else
		record->published = 1;
}
#endif

static __always_inline struct heap_counters *unknown_stack(__u64 *stack_hash)
{
	*stack_hash = HEAP_UNKNOWN_STACK;
	return bpf_map_lookup_elem(&counters, stack_hash);
}

/*
 * The counters of the current user stack, and its hash. A 64-bit hash, and not bpf_get_stackid: that keeps one stack per
 * bucket of a small table and drops or confuses the ones that collide.
 */
static __always_inline struct heap_counters *counters_of_stack(struct pt_regs *ctx, const struct heap_pending *call,
								struct heap_frames *stack, __u64 *stack_hash)
{
	static const struct heap_counters none;
	__u64 hash;
	__u32 depth;

	stack->hash = 0; /* what it becomes is that of the frames of another language */
	stack->python = stack->python_ending = 0;
	depth = HEAP_TAKE_STACK(ctx, stack);
	if (!depth) {
		lose(HEAP_LOST_STACK);
		return unknown_stack(stack_hash);
	}
	/*
	 * At a `ret` the frame pointer is the caller's again, so that a walk along frame pointers goes from the function
	 * itself to the caller's caller. An unwinder that knows better has the caller second.
	 */
	if (call->cookie & HEAP_EXIT_PROBED && (depth < 2 || stack->frames[1] != call->return_address))
		stack->frames[0] = call->return_address;
	hash = hash_frames(stack, (depth + ((__u64)stack->ending << 16) + (HEAP_PROCESS() << 20)) ^ stack->hash);
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
			return unknown_stack(stack_hash);
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

/* The same, in this processor's scratch. */
static __always_inline struct heap_counters *current_stack(struct pt_regs *ctx, const struct heap_pending *call,
							    __u64 *stack_hash)
{
	struct heap_scratch *own = claim_scratch();
	struct heap_counters *found;

	if (!own) {
		lose(HEAP_LOST_STACK);
		return unknown_stack(stack_hash);
	}
	found = counters_of_stack(ctx, call, &own->frames, stack_hash);
	release_scratch(own);
	return found;
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

/* The stack that a call took memory under: its counters and its hash. */
struct taken_under {
	struct heap_counters *counters;
	__u64 hash;
};

/* Counts a new block. `born_ns` is its birth where it takes an older one's place. */
static __always_inline void remember(const struct heap_pending *call, __u64 address, const struct taken_under *under,
				     const __u64 *born_ns)
{
	struct heap_block block = {.bytes = call->bytes, .stack = under->hash, .time_ns = bpf_ktime_get_ns()};
	struct heap_counters *stack = under->counters;
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
#define count_older(usable, return_address, replaced_by)
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

/*
 * Counts the free of a block that is older than the trace. With a minimum size, one that may be below it is left out.
 * Where realloc put a new block in its place, `replaced_by` is what took that: whose it was is known then, and its size
 * class says no more.
 */
static __always_inline void count_older(__u64 usable, __u64 return_address, struct heap_counters *replaced_by)
{
	static const struct heap_older none;
	struct heap_size_class *sizes = 0;
	struct heap_older *record;
	__u32 size;

	if (settings.min_bytes && usable < settings.min_bytes)
		return;
	if (replaced_by) {
		__sync_fetch_and_add(&replaced_by->replaced, 1);
		__sync_fetch_and_add(&replaced_by->replaced_bytes, usable);
	} else {
		size = size_class(usable);
		sizes = bpf_map_lookup_elem(&older_sizes, &size);
	}
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

#endif
