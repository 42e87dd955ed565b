/* SPDX-License-Identifier: MIT */
/*
 * What the eBPF programs, their loader and the user-space model share: the layout of map values, and of probe cookies.
 */
#ifndef HEAP_TRACE_H
#define HEAP_TRACE_H

/* The frames kept of one stack. Longer ones are cut at the outer end. */
#ifndef HEAP_MAX_FRAMES
#define HEAP_MAX_FRAMES 512
#endif

/* The frames kept of one stack of Python functions, those between C and Python counted as well. */
#ifndef HEAP_MAX_PYTHON
#define HEAP_MAX_PYTHON 256
#endif

/* So many threads at a time can be in a walk on one processor, where the kernel preempts one for the other. */
#define HEAP_ROOMS 4

/* What bpf_get_stack gives at most: the kernel's default limit. */
#define HEAP_KERNEL_FRAMES 127

/* The record of every allocation whose stack could not be taken or kept. */
#define HEAP_UNKNOWN_STACK 0

/* What a probed function does. */
enum heap_kind {
	HEAP_NONE = 0,
	HEAP_ALLOCATE,   /* returns a new block, or stores it: malloc, calloc, posix_memalign, operator new */
	HEAP_REALLOCATE, /* returns a new block in place of an old one: realloc, reallocarray, rallocx */
	HEAP_FREE,       /* frees a block: free, operator delete, sdallocx */
	HEAP_RESIZE,     /* changes a block's size where it is, and returns the size: xallocx */
	HEAP_MMAP,       /* (address, length, protection, flags, file, ...) */
	HEAP_MREMAP,     /* (old, old length, new length, flags, ...) */
	HEAP_MUNMAP,     /* (address, length) */
	HEAP_DISCARD,    /* frees blocks that it does not name: mi_heap_destroy */
	HEAP_EXIT,       /* a `ret` of a function that has no return probe */
};

#define HEAP_MAX_PROBES 65535
#define HEAP_MAX_CODE_RANGES 64

/* A range of addresses in which an allocator's code is mapped. */
struct heap_code {
	unsigned long long start;
	unsigned long long end;
};

/* Every event that was not counted, or not counted in full, by its reason. */
enum heap_lost {
	HEAP_LOST_THREAD,    /* no memory for the state of a thread: its call was not seen */
	HEAP_LOST_RETURN,    /* a call that never returned to its probe */
	HEAP_LOST_NESTED,    /* calls taken for such a call's own before that was known */
	HEAP_LOST_DECLINED,  /* a call whose return could not be asked for: that could have ended the process */
	HEAP_LOST_READ,      /* the block that posix_memalign stored, or the end of a copied string, could not be read */
	HEAP_LOST_BLOCKS,    /* the table of blocks is full: counted, but its free will not be known */
	HEAP_LOST_FREE,      /* a block handed out again whose free was not seen */
	HEAP_LOST_STACK,     /* counted, but under the unknown stack: no stack could be taken */
	HEAP_LOST_STACKS,    /* counted, but under the unknown stack: the table of stacks is full */
	HEAP_LOST_FRAMES,    /* times that a stack's frames could not be handed over yet: the ring was full */
	HEAP_LOST_MAPPING,   /* the ring of mapping events was full */
	HEAP_LOST_OLDER,     /* frees of older blocks whose function was not kept: the table is full */
	HEAP_LOST_DISCARDED, /* calls that freed blocks which they do not name: those stay in the table */
	HEAP_LOST_KINDS,
};

/* What the loader decides before the program is verified. */
struct heap_settings {
	unsigned long long min_bytes;       /* smaller blocks are left out */
	unsigned long long count_nothing;   /* 1: for measuring what the probes alone cost */
	unsigned long long count_calls;     /* 1: every probed call is counted, for a limit on their rate */
	unsigned long long preempt_control; /* 1 where the kernel lets this program forbid preemption (6.15 and newer) */
};

/* One live heap block, under its address. Times are CLOCK_MONOTONIC. */
struct heap_block {
	unsigned long long bytes;
	unsigned long long stack;   /* hash of the stack that took it */
	unsigned long long time_ns; /* when that was */
	unsigned long long born_ns; /* earlier where realloc moved or resized it; 0: before the trace */
};

/* What one stack did, under its hash. Outstanding bytes are allocated_bytes - freed_bytes. */
struct heap_counters {
	unsigned long long allocations;
	unsigned long long allocated_bytes;
	unsigned long long frees;
	unsigned long long freed_bytes;
	unsigned long long untracked; /* of the allocations: those whose free will not be known */
	unsigned long long untracked_bytes;
	unsigned long long replaced; /* of the allocations: reallocs of a block that is older than the trace */
	unsigned long long replaced_bytes; /* of these older blocks, where their size is known */
	unsigned long long published; /* its frames were handed over */
};

/* How a stack ended. Only the first one is whole. */
enum heap_ending {
	HEAP_END_START,      /* at the code that started the thread */
	HEAP_END_NO_TABLE,   /* in code without a table, or one whose frame the table does not describe by an offset */
	HEAP_END_UNREADABLE, /* a stack address that cannot be read, or that does not lie further out */
	HEAP_END_TOO_DEEP,
	HEAP_END_NOT_LOADED, /* at an address in no table: mapped since they were loaded, without room for it, or no code */
	HEAP_END_PROBED,     /* at a return address that a probe has replaced, and that could not be put back */
	HEAP_END_UNKNOWN,    /* by frame pointers alone: how they end says nothing */
};

/* How the frames of Python functions ended. */
enum heap_python_ending {
	HEAP_PYTHON_NONE, /* no Python, or a thread that runs none */
	HEAP_PYTHON_WHOLE,
	HEAP_PYTHON_UNREADABLE,
	HEAP_PYTHON_TOO_DEEP,
};

/* 1 << 32, above the offset of the instruction: C called this frame. */
#define HEAP_PYTHON_CALLED_BY_C 4294967296

/*
 * The frames of one stack, innermost first: return addresses. After these, two words for each frame of a Python function:
 * the address of its code object, and how far behind that the instruction is, 32 bits and HEAP_PYTHON_CALLED_BY_C. A
 * frame without a code object says that C called the one before it. Handed over once, when the stack is seen first.
 */
struct heap_frames {
	unsigned long long hash;
	unsigned int depth;
	unsigned int ending;        /* enum heap_ending */
	unsigned int python;        /* frames of Python functions */
	unsigned int python_ending; /* enum heap_python_ending */
	unsigned long long frames[HEAP_MAX_FRAMES + 2 * HEAP_MAX_PYTHON];
	unsigned int room;          /* which of the processor's the walk is done in: see claim_scratch */
};

/* Frees of blocks that are older than the trace, under the address that the freeing call returns to. */
struct heap_older {
	unsigned long long frees;
	unsigned long long bytes;   /* as far as the allocator tells: its usable size */
	unsigned long long unsized; /* frees whose bytes are not known */
};

/* The same by size: a class is a quarter of a power of two, (log2 << 2) + the two bits below the highest one. */
#define HEAP_SIZE_CLASSES 256

struct heap_size_class {
	unsigned long long frees;
	unsigned long long bytes;
};

/*
 * Mappings can be cut, moved and joined, which takes an ordered structure to follow. They are rare, so each is one
 * event, in the order in which the kernel saw them, and the arithmetic is done in user space.
 */
enum heap_mapping_kind {
	HEAP_MAPPED,      /* [address, address + bytes) is new, anonymous and private */
	HEAP_SHARED,      /* new, anonymous and shared with children */
	HEAP_RESERVED,    /* new, and cannot be accessed: it replaces what was there, and takes no memory yet */
	HEAP_FILE_MAPPED, /* new, and of a file: it replaces what was there, and is address space only */
	HEAP_UNMAPPED,    /* the range is about to go */
	HEAP_RESTORED,    /* the thread's last HEAP_UNMAPPED failed: the range stayed */
	HEAP_MOVED,       /* the thread's last HEAP_UNMAPPED lies here now, longer or shorter */
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
