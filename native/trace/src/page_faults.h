/* SPDX-License-Identifier: MIT */
/* What the page fault sampler and its loader share. */
#ifndef PAGE_FAULTS_H
#define PAGE_FAULTS_H

/* As many as the kernel takes by frame pointers. */
#define FAULT_MAX_FRAMES 127

/* Samples are counted by process and stack. */
struct fault_key {
	unsigned long long stack; /* hash of the stack; 0 where none could be taken */
	unsigned int pid;
	unsigned int padding;
};

/* A user stack at a page fault: the faulting instruction first, then return addresses. */
struct fault_stack {
	unsigned int depth;
	unsigned int ending; /* enum heap_ending */
	/* The word at the stack pointer: the return address, where the faulting function has no frame of its own, as
	 * memset and its like have not. The frame pointers then lead past the function that called it. 0 of a stack that was
	 * walked by unwind tables, which do not. */
	unsigned long long top;
	unsigned long long frames[FAULT_MAX_FRAMES];
};

#endif
