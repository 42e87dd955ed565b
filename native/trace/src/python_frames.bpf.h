/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Walks the frames of Python functions that the current thread runs, for a process that is a CPython.
 *
 * A thread's state is found by the thread's id in the interpreters' lists, and remembered: the interpreter's own ways
 * to it, a thread-local variable or a key of the C library, lie elsewhere for each C library and processor, and the
 * first is empty while a thread has released the interpreter's lock.
 */
#ifndef PYTHON_FRAMES_BPF_H
#define PYTHON_FRAMES_BPF_H

#include <bpf/bpf_core_read.h>

#include "heap_hash.bpf.h"
#include "heap_trace.h"
#include "python_frames.h"

/* Set by the loader before the program is verified. */
const volatile struct python_settings python SEC(".rodata.python") = {};

#define PYTHON_MAX_THREADS 4096 /* looked at for one thread's state */
#define PYTHON_MAX_SEARCHES 16  /* through a list that other threads change meanwhile */
#define PYTHON_TAG 7ULL         /* from 3.14 on, pointers to objects have marks in the lowest bits */
#define PYTHON_OWNED_BY_C 3     /* and above: such a frame is no function's, but says that C called the one before it */

struct upid___python {
	int nr;
} __attribute__((preserve_access_index));

struct pid___python {
	unsigned int level;
	struct upid___python numbers[1];
} __attribute__((preserve_access_index));

struct task_struct___python {
	struct pid___python *thread_pid;
} __attribute__((preserve_access_index));

/* What is known of a thread. */
struct python_thread {
	__u64 id;     /* in its own namespace, as the interpreter knows it */
	__u64 state;  /* 0: it has none */
	/* The state of the newest thread when that was found out, and what it said: another one may be this thread's. */
	__u64 newest, newest_id, newest_next;
	__u64 hidden; /* none was found, and not every one was looked at */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct python_thread);
} python_threads SEC(".maps");

struct python_walk {
	__u64 interpreter;
	__u64 at;       /* the state, or the frame, that is looked at */
	__u64 previous; /* the state before it in the list; 0: it is the first */
	__u64 id;
	__u64 found;
	__u64 searches; /* left to do */
	__u64 broken;   /* nothing was found, and the list was being changed */
	__u64 idle;     /* there is a state that runs nothing: it can become this thread's, and the list stays as it is */
	__u64 hash;
	__u64 word;
	__u64 frame[PYTHON_FRAME_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HEAP_ROOMS);
	__type(key, __u32);
	__type(value, struct python_walk);
} python_walks SEC(".maps");

struct python_step {
	struct python_walk *walk;
	struct heap_frames *out;
};

/* The word at an address, 0 where it cannot be read. */
static __always_inline __u64 python_word(struct python_walk *walk, __u64 at)
{
	return bpf_probe_read_user(&walk->word, sizeof(walk->word), (void *)at) ? 0 : walk->word;
}

static __always_inline __u64 python_thread_id(void)
{
	struct task_struct___python *task = (void *)bpf_get_current_task();
	struct pid___python *pid = BPF_CORE_READ(task, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	int number = 0;

	if (level > 32) /* the kernel's own limit of nesting */
		return 0;
	bpf_probe_read_kernel(&number, sizeof(number),
			      (char *)__builtin_preserve_access_index(&pid->numbers[0]) +
				      level * bpf_core_type_size(struct upid___python));
	return (__u64)number;
}

/* The innermost frame of a thread; 0 where it runs none. */
static __always_inline __u64 python_innermost(struct python_walk *walk, __u64 state)
{
	__u64 at = python_word(walk, state + python.current);

	return python.indirect != PYTHON_NOWHERE && at ? python_word(walk, at + python.indirect) : at;
}

static __always_inline void python_first_thread(struct python_walk *walk)
{
	walk->previous = 0;
	walk->at = walk->interpreter ? python_word(walk, walk->interpreter + python.threads) : 0;
}

static __always_inline void python_search(struct python_walk *walk)
{
	walk->interpreter = python_word(walk, python.runtime + python.interpreters);
	python_first_thread(walk);
}

/*
 * Looks at the state that the walk has come to. 1 ends the loop.
 *
 * Nothing keeps other threads from putting states in and out meanwhile. One that was freed, or is not complete yet, does
 * not say that it is of this interpreter; or it has no next one, and then glibc has used the place of the previous one
 * for itself, or it has none because 3.11 puts it in before it has the next one. In both cases the list is looked
 * through again. What is read first is judged by what is read after it.
 */
static int python_look_at_thread(__u32 i, void *context)
{
	struct python_walk *walk = ((struct python_step *)context)->walk;

	(void)i;
	if (!walk->at) {
		walk->interpreter = walk->interpreter ? python_word(walk, walk->interpreter + python.next_interpreter) : 0;
		python_first_thread(walk);
		return !walk->interpreter;
	}
	__u64 next = python_word(walk, walk->at + python.next_thread);
	int own = python_word(walk, walk->at + python.native_id) == walk->id;
	int changed = !next && python_word(walk, walk->at + python.previous_thread) != walk->previous;
	int strange = python_word(walk, walk->at + python.interpreter) != walk->interpreter;
	int idle = !python_innermost(walk, walk->at);

	if (own && !strange) {
		/* Up to 3.11 the state of a thread that is being started has the number of the one that starts it. */
		if (!walk->found || !idle)
			walk->found = walk->at;
		if (!idle)
			return 1;
	}
	walk->idle |= idle;
	changed |= strange;
	if ((changed || (!next && !walk->previous)) && walk->searches) {
		walk->searches--;
		python_search(walk);
		return 0;
	}
	if (changed) {
		walk->broken = !walk->found;
		return 1;
	}
	walk->previous = walk->at;
	walk->at = next;
	return 0;
}

/*
 * True for a state that is in the list of its interpreter: freed memory still says whose state it was. Its neighbour
 * before it leads to it, or the list begins with it.
 */
static __always_inline int python_is_listed(struct python_walk *walk, __u64 state)
{
	__u64 previous = python_word(walk, state + python.previous_thread);
	__u64 from = previous ? previous + python.next_thread :
				python_word(walk, state + python.interpreter) + python.threads;

	return python_word(walk, from) == state;
}

/* The state of the current thread; 0 where it has none, or none was found. */
static __always_inline __u64 python_state(struct python_step *step)
{
	struct python_walk *walk = step->walk;
	struct python_thread *known =
		bpf_task_storage_get(&python_threads, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	walk->broken = !known;
	if (!known)
		return 0;
	if (!known->id)
		known->id = python_thread_id();
	if (known->state && python_word(walk, known->state + python.native_id) == known->id &&
	    python_is_listed(walk, known->state))
		return known->state;
	python_search(walk);

	__u64 newest = walk->at;

	if (!newest)
		return 0;
	__u64 newest_id = python_word(walk, newest + python.native_id);
	__u64 newest_next = python_word(walk, newest + python.next_thread);

	/* Memory that is used again can be the newest thread's once more, or this one's. */
	if (!known->state && known->newest == newest && known->newest_id == newest_id && known->newest_next == newest_next) {
		walk->broken = known->hidden;
		return 0;
	}
	walk->id = known->id;
	walk->found = 0;
	walk->idle = 0;
	walk->searches = PYTHON_MAX_SEARCHES - 1;
	known->hidden = bpf_loop(PYTHON_MAX_THREADS, python_look_at_thread, step, 0) == PYTHON_MAX_THREADS;
	known->state = walk->found;
	known->newest = walk->broken || walk->idle ? 0 : newest;
	known->newest_id = newest_id;
	known->newest_next = newest_next;
	walk->broken |= known->hidden && !walk->found;
	return walk->found;
}

/* Keeps the frame that the walk has come to, and goes one out. 1 ends the loop. */
static int python_one(__u32 i, void *context)
{
	struct python_step *step = context;
	struct python_walk *walk = step->walk;
	struct heap_frames *out = step->out;
	__u32 place = out->depth + 2 * i;

	if (!walk->at) {
		out->python_ending = HEAP_PYTHON_WHOLE;
		return 1;
	}
	if (i >= HEAP_MAX_PYTHON || place >= HEAP_MAX_FRAMES + 2 * HEAP_MAX_PYTHON - 1)
		return 1;
	/* The owner lies behind all else that is asked of a frame. Of the innermost one little more may be mapped. */
	__u32 size = (python.owner & (sizeof(walk->frame) - 8)) + 8;

	if (bpf_probe_read_user(walk->frame, size, (void *)walk->at)) {
		out->python_ending = HEAP_PYTHON_UNREADABLE;
		return 1;
	}
	const unsigned char *bytes = (const unsigned char *)walk->frame;
	__u64 code = walk->frame[(python.code / 8) & (PYTHON_FRAME_WORDS - 1)] & ~PYTHON_TAG;
	__u64 at = (__u32)(walk->frame[(python.instruction / 8) & (PYTHON_FRAME_WORDS - 1)] - code);

	if (python.entry == PYTHON_NOWHERE) {
		if (bytes[python.owner & (sizeof(walk->frame) - 1)] >= PYTHON_OWNED_BY_C) {
			code = 0; /* whatever else is in it says nothing */
			at = HEAP_PYTHON_CALLED_BY_C;
		}
	} else if (bytes[python.entry & (sizeof(walk->frame) - 1)]) {
		at |= HEAP_PYTHON_CALLED_BY_C;
	}
	out->frames[place] = code;
	out->frames[place + 1] = at;
	out->python = i + 1;
	walk->hash = hash_word(hash_word(walk->hash, code), at);
	walk->at = walk->frame[(python.previous / 8) & (PYTHON_FRAME_WORDS - 1)];
	return 0;
}

/* Adds the frames of Python functions to a stack. A global function: verified once, and by itself. */
__noinline int python_frames(struct heap_frames *out)
{
	__u32 room = out ? out->room : 0;
	struct python_walk *walk = bpf_map_lookup_elem(&python_walks, &room);

	if (!walk || !out)
		return 0;
	struct python_step step = {.walk = walk, .out = out};
	__u64 state = python_state(&step);

	if (!state) { /* a thread that runs no Python, as far as could be seen */
		out->python_ending = walk->broken ? HEAP_PYTHON_UNREADABLE : HEAP_PYTHON_NONE;
		out->hash = out->python_ending;
		return 0;
	}
	walk->at = python_innermost(walk, state);
	walk->hash = 0;
	out->python_ending = HEAP_PYTHON_TOO_DEEP;
	bpf_loop(HEAP_MAX_PYTHON + 1, python_one, &step, 0);
	out->hash = walk->hash + out->python_ending;
	return (int)out->python;
}

static __always_inline __u32 with_python_frames(__u32 depth, struct heap_frames *stack)
{
	if (python.runtime && depth)
		python_frames(stack);
	return depth;
}

#endif
