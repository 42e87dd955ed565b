/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Unwind tables: what the eBPF program, its loader and the tests share.
 *
 * A table says, for each instruction of an object file, where its frame lies: the canonical frame address (CFA, the
 * stack pointer before the call) from the stack or the frame pointer, and from it where the return address and the
 * caller's frame pointer were saved. Rows of all loaded objects lie in one array, sorted within each object. An index
 * gives the rows of each 256 bytes of code, so that a row needs one byte of address and three for its rule.
 *
 * Addresses of an object count from its load base, the address of its first segment.
 */
#ifndef UNWIND_H
#define UNWIND_H

#include "heap_trace.h"

enum unwind_mode {
	UNWIND_OFF, /* by frame pointers */
	UNWIND_ON,
	UNWIND_COMPARE, /* walk where the memo answers as well, and count where they differ */
};

/* What the loader decides before the program is verified. */
struct unwind_settings {
	unsigned int mode;      /* enum unwind_mode */
	unsigned int memo_sets; /* places of the memo, each with UNWIND_MEMO_WAYS entries: a power of two, or 0 for none */
};

enum unwind_kind {
	UNWIND_NONE,   /* no table here */
	UNWIND_SP,     /* CFA = stack pointer + cfa */
	UNWIND_FP,     /* CFA = frame pointer + cfa */
	UNWIND_START,  /* a thread starts here: no caller */
	UNWIND_SIGNAL, /* the signal trampoline: the interrupted registers lie at the stack pointer */
	UNWIND_REALIGNED, /* x86, by GCC: the CFA was pushed below the frame pointer, a copy of the return address above it */
	UNWIND_SWITCHED, /* as UNWIND_FP, and the frame pointer is that of another stack, which can lie anywhere */
	UNWIND_GO_CALLS_C, /* Go's asmcgocall: at stack pointer + cfa, how deep the goroutine's stack is; then the goroutine */
	UNWIND_OTHER,     /* described, but not by an offset from one of the two registers */
};

/* Not saved: the frame pointer is the caller's still, the return address is in the link register still. */
#define UNWIND_UNSAVED 0

/* Offsets in bytes: cfa from the register, the others from the CFA. */
struct unwind_rule {
	int kind; /* enum unwind_kind */
	int cfa;
	int ra;
	int fp;
};

/* A row: the low byte of the address at which its rule begins, and the rule's number above it. */
#define UNWIND_RULE_SHIFT 8
#define UNWIND_MAX_RULES (1 << 16)

/* Array maps give each value eight bytes at least: rows go by the cache line. */
#define UNWIND_BLOCK_ROWS 16
struct unwind_block {
	unsigned int rows[UNWIND_BLOCK_ROWS];
};

/* The rows that begin in 256 bytes of code. What is in force before the first of them is the row before it. */
#define UNWIND_CHUNK_BITS 8
struct unwind_chunk {
	unsigned int first;
	unsigned int count;
};

/* One executable mapping. */
struct unwind_module {
	unsigned long long start, end; /* addresses in the process */
	unsigned long long bias;       /* address in the process - address in the object */
	unsigned int first_chunk;
	unsigned int chunks; /* 0: no table; `end_as` says what that means */
	unsigned int end_as; /* HEAP_END_START: walk by frame pointers; else how a stack ends here */
	unsigned int padding;
};

/* The modules are written twice over: into the half that is not in use, which then becomes the one that is. */
#define UNWIND_MAX_MODULES 4096
struct unwind_control {
	unsigned int generation; /* rises by one with each change; its lowest bit is the half in use */
	unsigned int counts[2];  /* modules in each half */
	unsigned int missing;    /* set by the program at an address in no module: time to look at the mappings */
};

/* Counted by the program, on each processor. */
enum unwind_count {
	UNWIND_HITS,       /* stacks that the memo knew */
	UNWIND_WALKS,      /* stacks that were walked */
	UNWIND_FRAMES,     /* frames walked */
	UNWIND_MISMATCHES, /* UNWIND_COMPARE: the memo and the walk differ. There must be none. */
	UNWIND_RESTORED,   /* return addresses put back that a probe had replaced */
	UNWIND_COUNTS,
};

/*
 * The memo: what a walk from (pc, sp) read, and the frames that came of it. A walk is a function of what it read, of
 * the tables and of three registers: where all of them are the same, so are the frames.
 */
#define UNWIND_MEMO_WAYS 4
#define UNWIND_MEMO_WORDS 120
#define UNWIND_MEMO_IS_FRAME 0x8000

struct unwind_memo {
	unsigned long long sequence; /* odd while it is being written */
	unsigned long long pc, sp, fp;
	unsigned int generation;
	unsigned int uses_fp; /* the walk used the frame pointer before it had read one from the stack */
	unsigned int ending;
	unsigned int words;
	unsigned int span; /* words of stack that hold all of them, or as many of them as a slice can */
	unsigned int padding;
	unsigned long long values[UNWIND_MEMO_WORDS];
	unsigned short offsets[UNWIND_MEMO_WORDS]; /* from sp, in words; UNWIND_MEMO_IS_FRAME: a return address */
};

#endif
