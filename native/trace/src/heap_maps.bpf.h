/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The maps of the accounting, and what a program decides about them before it includes heap_account.bpf.h.
 */
#ifndef HEAP_MAPS_BPF_H
#define HEAP_MAPS_BPF_H

#include "heap_trace.h"

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

#include "heap_kernel.bpf.h"


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

/* What one thread at a time works with on a processor: see claim_scratch. */
struct heap_scratch {
	struct heap_frames frames;
	__u64 users;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HEAP_ROOMS);
	__type(key, __u32);
	__type(value, struct heap_scratch);
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

/*
 * A room of this processor's, until release_scratch; 0 where other threads have them all. Only where preemption cannot be
 * forbidden is there more than one: a thread that was preempted goes on in its room later, and what came in between must
 * not touch it. That so many threads are preempted within a walk at once, on one processor, was not seen.
 */
static __always_inline struct heap_scratch *claim_scratch(void)
{
	for (__u32 room = 0; room < HEAP_ROOMS; room++) {
		const __u32 key = room;
		struct heap_scratch *own = bpf_map_lookup_elem(&scratch, &key);

		if (!own || settings.preempt_control)
			return own;
		__sync_fetch_and_add(&own->users, 1);
		if (*(volatile __u64 *)&own->users == 1) {
			own->frames.room = room;
			return own;
		}
		__sync_fetch_and_add(&own->users, -1);
	}
	return 0;
}

static __always_inline void release_scratch(struct heap_scratch *own)
{
	if (!settings.preempt_control)
		__sync_fetch_and_add(&own->users, -1);
}

#endif
