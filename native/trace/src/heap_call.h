/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The allocator calls that one thread is in: which of them count, which are an allocator's own, which will not return.
 *
 * An allocator calls other allocator functions: malloc calls mmap, reallocarray jumps to realloc, a preloaded malloc
 * calls the C library's. Those are its own business, and only the outermost call counts. Nothing but the stack tells
 * them from calls of the program, and a call may also never return: longjmp and exceptions leave it, and another stack
 * (a signal's, a coroutine's) may be in use meanwhile. So each pending call is checked against the word on the stack
 * at which its return address lies: a pending return probe has replaced it by the trampoline's address, and whatever
 * uses the stack afterwards writes over it.
 *
 * This is C without eBPF in it: the eBPF programs include it, and so does the user-space model that the property tests
 * drive. Whoever includes it defines, before:
 *
 *   HEAP_READ_WORD(address, &word)   0 where the word could be read from the thread's memory
 *   HEAP_SAME_STACK(low, high)       1 where it is certain that both addresses are on the thread's own stack, 0 else
 *   HEAP_ABANDON(pending)            a call that will not return is about to be forgotten
 *   HEAP_RETURN_SLOTS                1 where a call leaves its return address at the stack pointer (x86), 0 where it is
 *                                    in a register (arm64): then only stack pointers tell
 */
#ifndef HEAP_CALL_H
#define HEAP_CALL_H

#include "heap_cookie.h"
#include "heap_trace.h"

#ifndef HEAP_INLINE
#define HEAP_INLINE inline __attribute__((always_inline))
#endif

/* Calls that one thread can be in at once: one, and one more for each signal handler or hook that interrupts it. */
#define HEAP_MAX_PENDING 4 /* a power of two */

/*
 * An allocator call makes a handful of calls of its own. So many, and the pending one is taken for abandoned: its word
 * on the stack happens to be intact. One that a signal handler interrupts sees few calls from outside.
 */
#define HEAP_MAX_NESTED 4096
#define HEAP_MAX_INTERRUPTING 64

/* A call whose return is awaited. */
struct heap_pending {
	unsigned long long sp; /* at its entry: on x86 the address of its return address */
	unsigned long long return_address;
	unsigned long long cookie; /* of its probe */
	unsigned long long code_start, code_end; /* of the object that it is in */
	unsigned long long bytes;
	unsigned long long pointer; /* where the result is stored, the old block, or the old range */
	unsigned int nested;        /* calls of its own so far, none of which counts */
	unsigned int interrupting;  /* calls by code outside of the allocators meanwhile, which count */
	unsigned int hijacked;      /* its return address was replaced by the trampoline's */
	unsigned int flag;          /* REALLOCATE: `old` is set; MMAP: which kind of mapping */
	struct heap_block old;      /* REALLOCATE: the old block, out of the table until the outcome is known */
};

struct heap_calls {
	unsigned int depth;
	unsigned int unused;
	struct heap_pending pending[HEAP_MAX_PENDING];
};

/* An entry into a probed function, as the probe finds it. */
struct heap_entry {
	unsigned long long sp;
	unsigned long long return_address;
	unsigned long long trampoline; /* 0 where it is not known, or there is none yet */
	unsigned long long code_start, code_end; /* of the object that was entered */
	unsigned int probe;
};

enum heap_verdict {
	HEAP_OUTERMOST,   /* the program's own call */
	HEAP_NESTED,      /* an allocator's own call: it does not count */
	HEAP_OTHER_STACK, /* the program's own, on another stack than a pending call's, whose return must be left alone */
};

static HEAP_INLINE int heap_within(unsigned long long address, unsigned long long start, unsigned long long end)
{
	return address >= start && address < end;
}

static HEAP_INLINE struct heap_pending *heap_pending_at(struct heap_calls *calls, unsigned int depth)
{
	if (!depth || depth > HEAP_MAX_PENDING)
		return 0;
	return &calls->pending[(depth - 1) & (HEAP_MAX_PENDING - 1)];
}

/* True where the word at a pending call's return address is no longer what it has to be while the call runs. */
static HEAP_INLINE int heap_overwritten(const struct heap_pending *pending, const struct heap_entry *entry)
{
	unsigned long long word = 0, expected = pending->hijacked ? entry->trampoline : pending->return_address;

	if (!HEAP_RETURN_SLOTS || !expected)
		return 0;
	return HEAP_READ_WORD(pending->sp, &word) || word != expected;
}

enum heap_relation { HEAP_ABANDONED, HEAP_INSIDE, HEAP_INTERRUPTING, HEAP_ELSEWHERE };

/* How an entry relates to the innermost pending call of its thread. */
static HEAP_INLINE enum heap_relation heap_relation(const struct heap_pending *pending, const struct heap_entry *entry)
{
	/* A function that was jumped to returns to where the pending one would have: to the trampoline. */
	if (entry->trampoline && entry->return_address == entry->trampoline)
		return HEAP_INSIDE;
	if (heap_overwritten(pending, entry))
		return HEAP_ABANDONED;
	if (entry->sp == pending->sp) {
		/* What a hijacked call jumps to was told above. Else only another function can have been jumped to. */
		if (pending->hijacked && entry->trampoline)
			return HEAP_ABANDONED;
		return entry->probe == HEAP_COOKIE_PROBE(pending->cookie) ? HEAP_ABANDONED : HEAP_INSIDE;
	}
	if (entry->sp < pending->sp) { /* stacks grow down: deeper */
		if (pending->code_start == pending->code_end || /* not known */
		    heap_within(entry->return_address, pending->code_start, pending->code_end) ||
		    heap_within(entry->return_address, entry->code_start, entry->code_end))
			return pending->nested < HEAP_MAX_NESTED ? HEAP_INSIDE : HEAP_ABANDONED;
		return pending->interrupting < HEAP_MAX_INTERRUPTING ? HEAP_INTERRUPTING : HEAP_ABANDONED;
	}
	/*
	 * Above the pending call: it was left by a longjmp and its word on the stack is intact so far, or this is another
	 * stack (a signal's, a coroutine's) and the pending call goes on later. Then a second return probe would make the
	 * kernel drop the pending one's, and the process would die of it when that call returns.
	 */
	if (!pending->hijacked || HEAP_SAME_STACK(pending->sp, entry->sp))
		return HEAP_ABANDONED;
	return HEAP_ELSEWHERE;
}

/* Judges an entry, and forgets the pending calls that it shows to be abandoned. */
static HEAP_INLINE enum heap_verdict heap_judge_entry(struct heap_calls *calls, const struct heap_entry *entry)
{
	for (int i = 0; i < HEAP_MAX_PENDING; i++) {
		struct heap_pending *pending = heap_pending_at(calls, calls->depth);

		if (!pending)
			return HEAP_OUTERMOST;
		switch (heap_relation(pending, entry)) {
		case HEAP_INSIDE:
			pending->nested++;
			return HEAP_NESTED;
		case HEAP_INTERRUPTING:
			pending->interrupting++;
			return HEAP_OUTERMOST;
		case HEAP_ELSEWHERE:
			return HEAP_OTHER_STACK;
		case HEAP_ABANDONED:
			break;
		}
		HEAP_ABANDON(pending);
		calls->depth--;
	}
	return HEAP_OUTERMOST;
}

/* The record for one more pending call, to be filled in; it counts once `calls->depth` is one more. 0: no room. */
static HEAP_INLINE struct heap_pending *heap_next_pending(struct heap_calls *calls, const struct heap_entry *entry)
{
	struct heap_pending *pending = heap_pending_at(calls, calls->depth + 1);

	if (!pending)
		return 0;
	pending->sp = entry->sp;
	pending->return_address = entry->return_address;
	pending->code_start = entry->code_start;
	pending->code_end = entry->code_end;
	pending->nested = pending->interrupting = pending->flag = 0;
	return pending;
}

/*
 * The pending call that a return ends: the innermost one that was entered at this stack pointer. What was entered after
 * it will not return. 0: a return of a call that does not count, or that was under way when the trace began.
 *
 * `hijacked` says what told of the return: a return probe, or a probe on one of the function's own `ret` instructions,
 * by which another function that it jumped to may return as well.
 */
static HEAP_INLINE struct heap_pending *heap_finish(struct heap_calls *calls, unsigned long long sp, unsigned int probe,
						     int hijacked)
{
	unsigned int depth = calls->depth;
	struct heap_pending *pending = 0;

	for (int i = 0; i < HEAP_MAX_PENDING; i++) {
		pending = heap_pending_at(calls, depth);
		if (!pending)
			return 0;
		if (pending->sp == sp && !pending->hijacked == !hijacked &&
		    (!hijacked || HEAP_COOKIE_PROBE(pending->cookie) == probe))
			break;
		depth--;
	}
	for (int i = 0; i < HEAP_MAX_PENDING; i++) {
		struct heap_pending *left = heap_pending_at(calls, calls->depth);

		if (!left || calls->depth <= depth)
			break;
		HEAP_ABANDON(left);
		calls->depth--;
	}
	pending = heap_pending_at(calls, depth);
	if (pending)
		calls->depth = depth - 1;
	return pending;
}

#endif
