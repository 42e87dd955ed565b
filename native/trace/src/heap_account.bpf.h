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

#include "heap_free.bpf.h"

#define MAX_ERRNO 4095
#define MAP_FAILED_FROM ((__u64)-MAX_ERRNO)
#define PROT_NONE 0
#define MAP_SHARED 0x01
#define MAP_ANONYMOUS 0x20 /* on x86 and on arm64 */
#define MREMAP_DONTUNMAP 4

/* For a session program: 0 asks the kernel for the return of this call, 1 saves that trap. */
#define WANT_RETURN 0
#define SKIP_RETURN 1

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
		call->flag = HEAP_MOVED;
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

static __always_inline int enter(struct pt_regs *ctx, __u64 cookie)
{
	struct heap_calls *thread =
		bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct heap_entry entry = {.sp = PT_REGS_SP(ctx), .probe = HEAP_COOKIE_PROBE(cookie),
				   .hijacks = !(cookie & HEAP_EXIT_PROBED)};
	const struct arguments arguments = ARGUMENTS(ctx);
	struct heap_pending *call = 0;

	count_call();
	if (HEAP_COOKIE_KIND(cookie) == HEAP_DISCARD) {
		lose(HEAP_LOST_DISCARDED);
		return SKIP_RETURN;
	}
	if (!thread) {
		lose(HEAP_LOST_THREAD);
		return SKIP_RETURN;
	}
	/* Read where it can matter only: most calls find none pending, and their return probe knows the rest. */
	if (thread->depth || thread->wary || !entry.hijacks || HEAP_COOKIE_KIND(cookie) == HEAP_REALLOCATE)
		entry.return_address = return_address(ctx);
	if (thread->depth)
		entry.trampoline = trampoline();
	if (HEAP_COOKIE_KIND(cookie) == HEAP_FREE) {
		begin_free(ctx, thread, &entry, arguments.at[HEAP_COOKIE_POINTER(cookie) & 7], cookie);
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

static __always_inline int succeeded(const struct heap_pending *call, __u64 result)
{
	switch (HEAP_COOKIE_KIND(call->cookie)) {
	case HEAP_ALLOCATE:
	case HEAP_REALLOCATE:
		return result != 0;
	case HEAP_RESIZE: /* xallocx gives a block's size after the call: it is what was asked for, or nothing has changed */
		return result >= call->bytes;
	case HEAP_MMAP:
	case HEAP_MREMAP:
		return result < MAP_FAILED_FROM;
	}
	return !(__u32)result;
}

static __always_inline void finish_mapping(const struct heap_pending *call, __u64 result, int success, __u64 stack)
{
	if (success)
		report_mapping(call->flag, result, call->bytes, stack);
	else if (HEAP_COOKIE_KIND(call->cookie) == HEAP_MREMAP)
		report_mapping(HEAP_RESTORED, call->pointer, 0, 0);
}

static __always_inline void finish_resizing(const struct heap_pending *call, const struct taken_under *under)
{
	struct heap_block block;

	if (take_block(call->pointer, &block)) {
		count_free(&block);
		remember(call, call->pointer, under, &block.born_ns);
	}
}

/* `under` is 0 where the call took nothing that counts. */
static __always_inline void finish_allocation(const struct heap_pending *call, __u64 result,
					      const struct taken_under *under)
{
	const __u64 before_the_trace = 0, *born_ns = 0;

	if (HEAP_COOKIE_KIND(call->cookie) == HEAP_REALLOCATE && call->pointer) {
		/* It frees the old block where it succeeds, and where glibc is asked for nothing: realloc(p, 0). */
		if (!result && call->bytes && call->flag != HEAP_OLD_FREED) {
			restore_block(call);
		} else if (call->flag) {
			born_ns = &call->old.born_ns;
			count_free(&call->old);
		} else {
			/* With a minimum size the old block may as well be a small one of the trace. */
			born_ns = settings.min_bytes ? 0 : &before_the_trace;
			count_older(call->old.bytes, call->return_address, under ? under->counters : 0);
		}
	}
	if (under)
		remember(call, result, under, born_ns);
}

/* The block that posix_memalign has stored, or 0. */
static __always_inline __u64 stored_result(const struct heap_pending *call, __u64 status)
{
	__u64 block = 0;

	if (!(__u32)status && bpf_probe_read_user(&block, sizeof(block), (const void *)call->pointer))
		lose(HEAP_LOST_READ);
	return block;
}

/* The bytes of a string with its end. Of one that is longer than there is room for, what was read of it. */
static __always_inline __u64 string_bytes(__u64 address)
{
	struct heap_scratch *room = claim_scratch();
	long bytes = 0;

	if (room) {
		bytes = bpf_probe_read_user_str(room->frames.frames, sizeof(room->frames.frames), (const void *)address);
		release_scratch(room);
	}
	if (bytes <= 0 || bytes >= (long)sizeof(room->frames.frames))
		lose(HEAP_LOST_READ);
	return bytes > 0 ? bytes : 0;
}

static __always_inline int leave(struct pt_regs *ctx, __u64 cookie)
{
	const int by_exit = HEAP_COOKIE_KIND(cookie) == HEAP_EXIT;
	struct heap_calls *thread = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
	__u64 result = PT_REGS_RC(ctx), sp = PT_REGS_SP(ctx);
	struct taken_under under = {.hash = HEAP_UNKNOWN_STACK};

	if (!thread || !thread->depth)
		return 0;
#ifdef __TARGET_ARCH_x86
	if (!by_exit)
		sp -= sizeof(__u64); /* `ret` took the return address off the stack */
#endif
	struct heap_pending *call = heap_finish(thread, sp, HEAP_COOKIE_PROBE(cookie), !by_exit);
	if (!call)
		return 0;
	if (call->cookie & HEAP_STORES_RESULT)
		result = stored_result(call, result);
	if (call->cookie & HEAP_COPIES_STRING && result)
		call->bytes = string_bytes(result);

	const __u32 kind = HEAP_COOKIE_KIND(call->cookie);
	const int success = succeeded(call, result), is_mapping = kind == HEAP_MMAP || kind == HEAP_MREMAP;
	const int takes = success && kind != HEAP_MUNMAP && (is_mapping || call->bytes >= settings.min_bytes);

	if (takes) /* in one place: the verifier follows every walk through a stack by itself */
		under.counters = current_stack(ctx, call, &under.hash);
	if (is_mapping)
		finish_mapping(call, result, success, under.hash);
	else if (kind == HEAP_RESIZE && takes)
		finish_resizing(call, &under);
	else if (kind == HEAP_ALLOCATE || kind == HEAP_REALLOCATE)
		finish_allocation(call, result, takes ? &under : 0);
	else if (kind == HEAP_MUNMAP && !success)
		report_mapping(HEAP_RESTORED, call->pointer, 0, 0);
	return 0;
}

#endif
