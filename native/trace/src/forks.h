/* SPDX-License-Identifier: MIT */
/* What the program that follows forks and its loader share. */
#ifndef FORKS_H
#define FORKS_H

/* A process that one of the followed ones has started: it is followed from then on. By the machine's own numbers. */
struct forked {
	unsigned int pid;
	unsigned int parent;
};

#define FORKS_MAX_FOLLOWED 32768

#endif
