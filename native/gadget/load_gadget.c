/* SPDX-License-Identifier: MIT */
/*
 * load_gadget [-a] [-m MIN] OBJECT PID: runs the gadget without Inspektor Gadget, for kernels on which that finds no
 * containers, and for tests. It counts one process; with -a, every process of its mount namespace. MIN is the gadget's
 * parameter min-outstanding, in bytes.
 *
 * It does what Inspektor Gadget does: loads the object, filters by the process's mount namespace, opens every probe on
 * the libc file that the process has mapped (for everybody who maps it), and reads the map `report` once a second,
 * emptying it. Each reading is one line of JSON. SIGINT ends it.
 */
#include "load_gadget.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stopping;

static void stop(int number)
{
	(void)number;
	stopping = 1;
}

void die(const char *what)
{
	fprintf(stderr, "load_gadget: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(int argc, char **argv)
{
	char libc[4352];
	const struct timespec second = {.tv_sec = 1};

	const char *min_outstanding = NULL;
	int all = 0;

	for (int option; (option = getopt(argc, argv, "am:")) != -1;) {
		if (option == 'a')
			all = 1;
		else if (option == 'm')
			min_outstanding = optarg;
		else
			optind = argc;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: load_gadget [-a] [-m MIN] OBJECT PID\n");
		return 2;
	}
	const char *file = argv[optind];
	const int pid = atoi(argv[optind + 1]);
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	signal(SIGINT, stop);
	find_libc(pid, libc, sizeof(libc));
	struct bpf_object *object = bpf_object__open(file);
	if (libbpf_get_error(object))
		die(file);
	set_constant(object, "gadget_filter_by_mntns", 1);
	if (!all)
		set_constant(object, "targ_pid", (__u64)pid);
	if (min_outstanding)
		set_constant(object, "min_outstanding", strtoull(min_outstanding, NULL, 10));
	set_constant(object, "collect_ustack", 1);
	/* Inspektor Gadget gives this map its size when build ids are collected. */
	bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "ig_build_id"), 1);
	struct bpf_program *program;
	bpf_object__for_each_program(program, object)
		if (is_timer(program)) /* libbpf knows the section's name without Inspektor Gadget's suffix only */
			bpf_program__set_type(program, BPF_PROG_TYPE_PERF_EVENT);
	if (bpf_object__load(object))
		die("the kernel refuses the gadget");
	filter(object, pid);
	attach(object, libc);
	fprintf(stderr, "load_gadget: counting\n");

	const struct btf *btf = bpf_object__btf(object);
	const int row = btf__find_by_name_kind(btf, "row", BTF_KIND_STRUCT);
	if (row < 0)
		die("the object has no struct row");
	const struct layout layout = {btf, btf__type_by_id(btf, (__u32)row)};
	while (!stopping)
		if (!nanosleep(&second, NULL)) /* cut short, it would read what it has just emptied */
			read_report(object, &layout);
	bpf_object__close(object);
	return 0;
}
