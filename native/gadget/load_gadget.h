/* SPDX-License-Identifier: MIT */
/* What the parts of load_gadget share. Each function ends the program with a message where it fails. */
#ifndef LOAD_GADGET_H
#define LOAD_GADGET_H

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <stddef.h>

/* Ends the program with errno's message. */
void die(const char *what) __attribute__((noreturn));

/* --- gadget_probes.c --- */

/* The path of the process's libc.so.6, by way of /proc/PID/root. */
void find_libc(int pid, char *path, size_t size);

/* Whether it is the program that fills the report. */
int is_timer(const struct bpf_program *program);

/* Attaches every program: the timer on each processor, the others to libc's functions or to their tracepoints. */
void attach(struct bpf_object *object, const char *libc);

/* Only the processes of this one's mount namespace count. */
void filter(struct bpf_object *object, int pid);

/* A constant of the object, by its name: what a parameter of the gadget sets. */
void set_constant(struct bpf_object *object, const char *name, __u64 value);

/* --- gadget_rows.c --- */

/* How a row lies in memory. */
struct layout {
	const struct btf *btf;
	const struct btf_type *row;
};

/* Prints the rows of the map `report` as one line of JSON, and empties it. */
void read_report(struct bpf_object *object, const struct layout *layout);

#endif
