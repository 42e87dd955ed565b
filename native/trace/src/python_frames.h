/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Where an interpreter of CPython keeps the frames of its own functions: the same for the program and its loader.
 *
 * The interpreter runs a Python function without a native frame of its own. Which one runs is in a list of its frames,
 * innermost first, at the state of the thread.
 */
#ifndef PYTHON_FRAMES_H
#define PYTHON_FRAMES_H

/* The offset of a field that this version does not have. */
#define PYTHON_NOWHERE 65535
#define PYTHON_FRAME_WORDS 16

/* Set before the program is verified. All but `runtime` are offsets in bytes. */
struct python_settings {
	unsigned long long runtime;    /* address of _PyRuntime in the process; 0: it is no Python */
	unsigned int interpreters;     /* in the runtime: the newest interpreter */
	unsigned int next_interpreter; /* in an interpreter */
	unsigned int threads;          /* in an interpreter: the state of its newest thread */
	unsigned int next_thread;      /* in a thread's state */
	unsigned int previous_thread;  /* in a thread's state */
	unsigned int interpreter;      /* in a thread's state */
	unsigned int native_id;        /* in a thread's state: what gettid(2) gives */
	unsigned int current;          /* in a thread's state: the innermost frame, or where `indirect` lies in */
	unsigned int indirect;         /* 3.11, 3.12: the innermost frame, at the address in `current` */
	unsigned int code, previous, instruction, owner; /* in a frame */
	unsigned int entry;            /* 3.11: a flag of the frame that C called; later such frames lie between others */
};

#endif
