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
 *   HEAP_ALLOCATOR_CODE(address)     1 where an address is in the code of an object that has an allocator, or may be
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
#define HEAP_FUNCTION static inline /* of a part with loops: see heap_hash.bpf.h */
#endif

/* Calls that one thread can be in at once: one, and one more for each signal handler or hook that interrupts it. */
#define HEAP_MAX_PENDING 4 /* a power of two */

/* After one more than that: so many entries pass before a call by an allocator's code is the program's again. */
#define HEAP_WARY_ENTRIES 256

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
	unsigned long long bytes;
	unsigned long long pointer; /* where the result is stored, the old block, or the old range */
	unsigned int nested;        /* calls of its own so far, none of which counts */
	unsigned int interrupting;  /* calls by code outside of the allocators meanwhile, which count */
	unsigned int hijacked;      /* its return address was replaced by the trampoline's */
	unsigned int declined;      /* it does not count, and is here only to tell its own calls */
	unsigned int flag;          /* REALLOCATE: `old` is set; MMAP: which kind of mapping */
	struct heap_block old;      /* REALLOCATE: the old block, out of the table until the outcome is known */
};

struct heap_calls {
	unsigned int depth;
	unsigned int wary; /* there was no room for a call: what it calls must not count either */
	unsigned int unasked;  /* calls since `maybe_pending_sp` was set whose return was not asked for because of it */
	unsigned long long maybe_pending_sp; /* of a call that was given up, and whose return probe may be pending still */
	unsigned long long free_sp; /* of the last free by a function that may free other blocks inside */
	unsigned long long free_return_address;
	unsigned int free_probe;
	unsigned int free_encloses;
	struct heap_pending pending[HEAP_MAX_PENDING];
};

/* An entry into a probed function, as the probe finds it. */
struct heap_entry {
	unsigned long long sp;
	unsigned long long return_address;
	unsigned long long trampoline; /* 0 where it is not known, or there is none yet */
	unsigned int probe;
	unsigned int hijacks; /* a return probe will replace its return address, if its return is asked for */
};

enum heap_verdict {
	HEAP_OUTERMOST, /* the program's own call */
	HEAP_NESTED,    /* an allocator's own call: it does not count */
	HEAP_DECLINED,  /* the program's own, whose return must not be asked for, or is one more than can be followed */
};

static HEAP_INLINE struct heap_pending *heap_pending_at(struct heap_calls *calls, unsigned int depth)
{
	if (!depth || depth > HEAP_MAX_PENDING)
		return 0;
	return &calls->pending[(depth - 1) & (HEAP_MAX_PENDING - 1)];
}

/* True where the word at a pending call's return address is no longer what it has to be while the call runs. */
static HEAP_INLINE int heap_overwritten(const struct heap_pending *pending, unsigned long long trampoline)
{
	unsigned long long word = 0, expected = pending->hijacked ? trampoline : pending->return_address;

	if (!HEAP_RETURN_SLOTS || !expected)
		return 0;
	return HEAP_READ_WORD(pending->sp, &word) || word != expected;
}

enum heap_relation { HEAP_ABANDONED, HEAP_INSIDE, HEAP_INTERRUPTING };

/* How an entry relates to the innermost pending call of its thread. */
static HEAP_INLINE enum heap_relation heap_relation(const struct heap_pending *pending, const struct heap_entry *entry)
{
	/* A function that was jumped to returns to where the pending one would have: to the trampoline. */
	if (entry->trampoline && entry->return_address == entry->trampoline)
		return HEAP_INSIDE;
	/*
	 * On another stack, above. The word tells nothing here: the trampoline that a return comes to pushes registers over
	 * it before it enters the kernel (from 6.11 on), and a signal can come in between. So the return is taken for
	 * pending, until so many calls were made meanwhile that no handler can have made them.
	 */
	if (entry->sp > pending->sp && pending->hijacked && !HEAP_SAME_STACK(pending->sp, entry->sp))
		return pending->interrupting < HEAP_MAX_NESTED || !heap_overwritten(pending, entry->trampoline)
			       ? HEAP_INTERRUPTING
			       : HEAP_ABANDONED;
	if (heap_overwritten(pending, entry->trampoline))
		return HEAP_ABANDONED;
	if (entry->sp == pending->sp) {
		/* What a hijacked call jumps to was told above. Else only another function can have been jumped to. */
		if (pending->hijacked && entry->trampoline)
			return HEAP_ABANDONED;
		return entry->probe == HEAP_COOKIE_PROBE(pending->cookie) ? HEAP_ABANDONED : HEAP_INSIDE;
	}
	if (entry->sp < pending->sp) { /* stacks grow down: deeper */
		if (pending->cookie & HEAP_ENCLOSES || HEAP_ALLOCATOR_CODE(entry->return_address))
			return pending->nested < HEAP_MAX_NESTED ? HEAP_INSIDE : HEAP_ABANDONED;
	} else if (HEAP_SAME_STACK(pending->sp, entry->sp)) { /* further out: the pending call was left by a longjmp */
		return HEAP_ABANDONED;
	}
	/*
	 * Code outside of the allocators runs while the call is pending, as far as its word on the stack tells: a signal
	 * handler, a hook, or another stack.
	 */
	return pending->interrupting < HEAP_MAX_INTERRUPTING ? HEAP_INTERRUPTING : HEAP_ABANDONED;
}

/* Forgets the pending call at a depth: it will not return. */
HEAP_FUNCTION int heap_leave_behind(struct heap_calls *calls, unsigned int depth)
{
	struct heap_pending *pending = calls ? heap_pending_at(calls, depth) : 0;

	if (!pending)
		return 0;
	if (!pending->declined)
		HEAP_ABANDON(pending);
	if (pending->hijacked && (!calls->maybe_pending_sp || pending->sp < calls->maybe_pending_sp)) {
		calls->maybe_pending_sp = pending->sp;
		calls->unasked = 0;
	}
	for (unsigned int i = 1; i < HEAP_MAX_PENDING; i++)
		if (i >= depth && i < calls->depth)
			calls->pending[i - 1] = calls->pending[i];
	calls->depth--;
	return 0;
}

/*
 * Judges an entry, and forgets the pending calls that it shows to be abandoned. A call that interrupts the innermost one
 * can still be the own call of one further out: what runs on another stack may be over by now.
 */
HEAP_FUNCTION enum heap_verdict heap_judge_entry(struct heap_calls *calls, const struct heap_entry *entry)
{
	unsigned int depth;

	if (!calls || !entry)
		return HEAP_DECLINED; /* cannot be, and the verifier wants to see it */
	depth = calls->depth;

	for (int i = 0; i < HEAP_MAX_PENDING; i++) {
		struct heap_pending *pending = heap_pending_at(calls, depth);

		if (!pending)
			break;
		switch (heap_relation(pending, entry)) {
		case HEAP_INSIDE:
			pending->nested++;
			return pending->declined ? HEAP_DECLINED : HEAP_NESTED;
		case HEAP_INTERRUPTING:
			pending->interrupting++;
			break;
		case HEAP_ABANDONED:
			heap_leave_behind(calls, depth);
			break;
		}
		depth--;
	}
	return HEAP_OUTERMOST;
}

/*
 * True where to ask for a return could end the process. The kernel takes pending returns at lower addresses for dead and
 * drops them; a call on another stack that does return then comes to a trampoline that the kernel knows nothing of.
 */
static HEAP_INLINE int heap_endangers(struct heap_calls *calls, unsigned long long sp)
{
	/* It has ended for certain where the thread's own stack is in use further out, and in the end by experience. */
	if (calls->maybe_pending_sp &&
	    (calls->unasked >= HEAP_MAX_NESTED || HEAP_SAME_STACK(calls->maybe_pending_sp, sp)))
		calls->maybe_pending_sp = 0;
	if (calls->maybe_pending_sp && calls->maybe_pending_sp < sp) {
		calls->unasked++;
		return 1;
	}
	for (unsigned int i = 0; i < HEAP_MAX_PENDING; i++)
		if (i < calls->depth && calls->pending[i].hijacked && calls->pending[i].sp < sp)
			return 1;
	return 0;
}

/*
 * Judges the entry of a call whose return is to be followed, and makes it pending. Where it counts, `call` is the record
 * of it, to be filled in. One whose return must not be asked for is remembered too, or its own calls would pass for the
 * program's.
 */
static HEAP_INLINE enum heap_verdict heap_enter(struct heap_calls *calls, const struct heap_entry *entry,
						 struct heap_pending **call)
{
	enum heap_verdict verdict = heap_judge_entry(calls, entry);
	struct heap_pending *pending;

	if (verdict != HEAP_OUTERMOST)
		return verdict;
	if (calls->wary) {
		calls->wary--;
		if (HEAP_ALLOCATOR_CODE(entry->return_address))
			return HEAP_DECLINED;
	}
	pending = heap_pending_at(calls, calls->depth + 1);
	if (!pending) {
		calls->wary = HEAP_WARY_ENTRIES;
		return HEAP_DECLINED;
	}
	pending->declined = entry->hijacks && heap_endangers(calls, entry->sp);
	pending->hijacked = entry->hijacks && !pending->declined;
	pending->cookie = HEAP_COOKIE(HEAP_NONE, entry->probe, 0, 0, 0, 0);
	pending->sp = entry->sp;
	pending->return_address = entry->return_address;
	pending->nested = pending->interrupting = pending->flag = 0;
	calls->depth++;
	*call = pending;
	return pending->declined ? HEAP_DECLINED : HEAP_OUTERMOST;
}

/*
 * The depth of the pending call that a return ends: the innermost one that was entered at this stack pointer. What was
 * entered after it will not return, and both are forgotten. 0: there is none.
 */
HEAP_FUNCTION int heap_finish_at(struct heap_calls *calls, unsigned long long sp, unsigned int probe, int hijacked)
{
	struct heap_pending *pending = 0;
	unsigned int depth;

	if (!calls)
		return 0;
	depth = calls->depth;
	if (hijacked && sp == calls->maybe_pending_sp)
		calls->maybe_pending_sp = 0;
	for (int i = 0; i < HEAP_MAX_PENDING; i++) {
		pending = heap_pending_at(calls, depth);
		if (!pending)
			return 0;
		if (pending->sp == sp && (hijacked ? pending->hijacked && HEAP_COOKIE_PROBE(pending->cookie) == probe
						   : !pending->hijacked && !heap_overwritten(pending, 0)))
			break;
		depth--;
	}
	if (!depth)
		return 0; /* it is none of as many as there can be */
	for (int i = 0; i < HEAP_MAX_PENDING; i++) {
		if (calls->depth <= depth)
			break;
		heap_leave_behind(calls, calls->depth);
	}
	calls->depth = depth - 1;
	return (int)depth;
}

/*
 * The pending call that a return ends. 0: a return of a call that does not count, or that was under way when the trace
 * began.
 *
 * `hijacked` says what told of the return: a return probe, or a probe on one of the function's own `ret` instructions,
 * by which another function that it jumped to may return as well.
 */
static HEAP_INLINE struct heap_pending *heap_finish(struct heap_calls *calls, unsigned long long sp, unsigned int probe,
						     int hijacked)
{
	struct heap_pending *pending = heap_pending_at(calls, (unsigned int)heap_finish_at(calls, sp, probe, hijacked));

	return pending && !pending->declined ? pending : 0;
}

#endif
