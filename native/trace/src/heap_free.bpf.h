/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Frees, and what becomes of the old block of a realloc. A free has no return to wait for: what it frees inside is told
 * by the stack.
 */
#ifndef HEAP_FREE_BPF_H
#define HEAP_FREE_BPF_H

#include "heap_blocks.bpf.h"

#define HEAP_OLD_FREED 2 /* a pending realloc's flag: it has freed the old block */

/* The old block of a realloc that failed, or whose end was not seen, is where it was. */
static __always_inline void restore_block(const struct heap_pending *pending)
{
	heap_key key = HEAP_KEY(pending->pointer);
	struct heap_block block = pending->old;

	if (pending->flag == HEAP_OLD_FREED)
		count_free(&block);
	else if (pending->flag && bpf_map_update_elem(&blocks, &key, &block, BPF_NOEXIST))
		lose(HEAP_LOST_BLOCKS);
}

static __always_inline void abandon(struct heap_pending *pending)
{
	/* Every `ret` of such a function is probed: an exception has left it, and there is no block. */
	if (!(pending->cookie & HEAP_EXIT_PROBED))
		lose(HEAP_LOST_RETURN);
	/* Only such a call can have had others than its own among them, where the stack shows which calls are over. */
	if (!HEAP_RETURN_SLOTS || pending->nested >= HEAP_MAX_NESTED)
		lose_many(HEAP_LOST_NESTED, pending->nested);
	if (HEAP_COOKIE_KIND(pending->cookie) == HEAP_REALLOCATE)
		restore_block(pending);
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

/* Remembers a free by a function that may free other blocks inside. It is not followed to its return. */
static __always_inline void heap_begin_free(struct heap_calls *calls, const struct heap_entry *entry, __u64 cookie)
{
	calls->free_sp = entry->sp;
	calls->free_return_address = entry->return_address;
	calls->free_probe = entry->probe;
	calls->free_encloses = !!(cookie & HEAP_ENCLOSES);
}

/*
 * True where a free is by the one before it: deeper, by an allocator's code or inside of what the user has named, or jumped
 * to by another function.
 */
static __always_inline int heap_inside_free(const struct heap_calls *calls, const struct heap_entry *entry)
{
	unsigned long long word = 0;

	if (!calls->free_sp || entry->probe == calls->free_probe || entry->sp > calls->free_sp)
		return 0;
	if (entry->sp == calls->free_sp)
		return entry->return_address == calls->free_return_address;
	if (!calls->free_encloses && !HEAP_ALLOCATOR_CODE(entry->return_address))
		return 0;
	return !HEAP_RETURN_SLOTS || (!HEAP_READ_WORD(calls->free_sp, &word) && word == calls->free_return_address);
}

#ifndef HEAP_WITHOUT_OLDER
/* A function of the C library that frees a thread's cache, about its calls of free. */
#define THREAD_END_BYTES 256

/* Where the C library frees the cache of a thread that ends; 0 until one has ended. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} thread_end SEC(".maps");

/* So many lists of a thread's cache are looked at. */
#define CACHE_LISTS 16

/*
 * True for the cache itself, which glibc takes without a call of malloc. Its lists are empty by then, and come last.
 * Usable sizes of glibc to 2.29, to 2.41, and since.
 */
static __always_inline int is_thread_cache(__u64 address, __u64 usable, __u64 return_address)
{
	const __u64 at = address + usable - sizeof(__u64) * (1 + CACHE_LISTS);
	struct heap_scratch *room;
	__u64 used = 0;

	if ((usable != 584 && usable != 648 && usable != 760) || !HEAP_ALLOCATOR_CODE(return_address))
		return 0;
	/* Not on the stack: with the walk below it that has the 512 bytes of old kernels only. */
	room = claim_scratch();
	if (!room)
		return 0;
	if (bpf_probe_read_user(room->frames.frames, sizeof(__u64) * CACHE_LISTS, (const void *)at))
		used = 1;
	else
		for (__u32 i = 0; i < CACHE_LISTS; i++)
			used |= room->frames.frames[i];
	release_scratch(room);
	return !used;
}

/*
 * True where glibc empties the cache of a thread that ends: the program has freed these blocks before, and they are freed
 * once more. Which code does so is known when a first thread has ended.
 */
static __always_inline int empties_thread_cache(__u64 address, __u64 usable, __u64 return_address)
{
	const __u32 zero = 0;
	__u64 *at = bpf_map_lookup_elem(&thread_end, &zero);

	if (!at || !usable)
		return 0;
	if (*at && return_address - *at + THREAD_END_BYTES < 2 * THREAD_END_BYTES)
		return 1;
	if (!is_thread_cache(address, usable, return_address))
		return 0;
	*at = return_address;
	return 1;
}
#endif

static __always_inline void begin_free(struct pt_regs *ctx, struct heap_calls *thread, struct heap_entry *entry,
				       __u64 address, __u64 cookie)
{
	const enum heap_verdict verdict = heap_judge_entry(thread, entry);
	struct heap_pending *pending = heap_pending_at(thread, thread->depth);
	struct heap_block block;
	int known;

	if (!address)
		return;
	/* Also where it is an allocator's own call: a block in the table is one that the program was given. */
	known = take_block(address, &block);
	if (known)
		count_free(&block);
	if (verdict == HEAP_NESTED) {
		/* A reallocf that fails frees the block. One that succeeds has moved it. */
		if (pending && HEAP_COOKIE_KIND(pending->cookie) == HEAP_REALLOCATE && pending->flag &&
		    pending->pointer == address)
			pending->flag = HEAP_OLD_FREED;
		return;
	}
#ifndef HEAP_WITHOUT_OLDER
	/* glibc's frees nothing inside. Of others what is inside is none of the program's calls. */
	if (known && cookie & HEAP_CHUNK_HEADER)
		return;
	if (!entry->return_address)
		entry->return_address = return_address(ctx);
	if (heap_inside_free(thread, entry))
		return;
	if (!known) {
		const __u64 usable = usable_bytes(address, cookie);

		if (!empties_thread_cache(address, usable, entry->return_address))
			count_older(usable, entry->return_address, 0);
	}
	if (!(cookie & HEAP_CHUNK_HEADER))
		heap_begin_free(thread, entry, cookie);
#endif
}

#endif
