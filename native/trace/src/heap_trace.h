/* SPDX-License-Identifier: MIT */
/*
 * What the eBPF program and its loader share: the layout of every map value, and the kinds of traced calls.
 */
#ifndef HEAP_TRACE_H
#define HEAP_TRACE_H

/* PERF_MAX_STACK_DEPTH: the kernel's default limit on the frames of one stack. A program may keep fewer. */
#ifndef HEAP_MAX_FRAMES
#define HEAP_MAX_FRAMES 127
#endif

/* The record of every allocation whose stack could not be taken or kept. */
#define HEAP_UNKNOWN_STACK 0

/* Which function a probe stands on. It is the probe's cookie, and decides where size and pointer are found. */
enum heap_function {
	HEAP_NONE = 0,
	HEAP_MALLOC,         /* malloc, valloc, pvalloc: (size) */
	HEAP_CALLOC,         /* (count, size) */
	HEAP_REALLOC,        /* (old, size) */
	HEAP_REALLOCARRAY,   /* (old, count, size) */
	HEAP_ALIGNED_ALLOC,  /* aligned_alloc, memalign: (alignment, size) */
	HEAP_POSIX_MEMALIGN, /* (&block, alignment, size) */
	HEAP_FREE,           /* (block) */
	HEAP_MMAP,           /* (address, length, ...) */
	HEAP_MREMAP,         /* (old, old length, new length, ...) */
	HEAP_MUNMAP,         /* (address, length) */
};

/* Every event that was not counted, or not counted in full, by its reason. */
enum heap_lost {
	HEAP_LOST_THREAD,    /* no memory for the state of a thread: its call was not seen */
	HEAP_LOST_RETURN,    /* a call that never returned to its probe */
	HEAP_LOST_READ,      /* posix_memalign's result could not be read */
	HEAP_LOST_BLOCKS,    /* the block map is full: an allocation not tracked */
	HEAP_LOST_FREE,      /* a block handed out again whose free was not seen */
	HEAP_LOST_STACK,     /* counted, but under the unknown stack: no stack could be taken */
	HEAP_LOST_STACKS,    /* counted, but under the unknown stack: the stack map is full */
	HEAP_LOST_MAPPING,   /* the ring of mapping events was full */
	HEAP_LOST_KINDS,
};

/* What the loader decides before the program is verified. */
struct heap_settings {
	unsigned long long min_bytes;      /* blocks below this are not looked at */
	unsigned long long preempt_control; /* 1 where the kernel lets a program forbid preemption (6.10 and newer) */
};

/* One live heap block, under its address. */
struct heap_block {
	unsigned long long bytes;
	unsigned long long stack;   /* hash of the stack that took it */
	unsigned long long time_ns; /* CLOCK_MONOTONIC */
};

/* One call stack and what it did, under its hash. Outstanding bytes are allocated_bytes - freed_bytes. */
struct heap_stack {
	unsigned long long allocations;
	unsigned long long allocated_bytes;
	unsigned long long frees;
	unsigned long long freed_bytes;
	unsigned long long depth; /* frames that are set */
	unsigned long long frames[HEAP_MAX_FRAMES];
};

/*
 * Mappings can be cut, moved and joined, which takes an ordered structure to follow. They are rare, so each is one
 * event, in the order in which the kernel saw them, and the arithmetic is done in user space.
 */
enum heap_mapping_kind {
	HEAP_MAPPED,   /* [address, address + bytes) is new */
	HEAP_RESERVED, /* the range is new and cannot be accessed: it replaces what was there, and takes no memory */
	HEAP_UNMAPPED, /* the range is about to go */
	HEAP_RESTORED, /* the thread's last HEAP_UNMAPPED failed: the range stayed */
};

struct heap_mapping {
	unsigned long long address;
	unsigned long long bytes;
	unsigned long long stack;
	unsigned long long time_ns;
	unsigned int kind;
	unsigned int thread;
};

#endif
