/* SPDX-License-Identifier: MIT */
/* The gadget's constants, its filter and its probes, as Inspektor Gadget sets them. */
#define _GNU_SOURCE
#include "load_gadget.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void find_libc(int pid, char *path, size_t size)
{
	char maps[64], line[4352], name[4096];

	snprintf(maps, sizeof(maps), "/proc/%d/maps", pid);
	FILE *file = fopen(maps, "r");
	if (!file)
		die(maps);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%*s %*s %*s %*s %*s %4095s", name) == 1 && strstr(name, "/libc.so.6")) {
			snprintf(path, size, "/proc/%d/root%s", pid, name);
			fclose(file);
			return;
		}
	errno = ENOENT;
	die("no libc.so.6 in the process");
}

/* gadget.yaml: reporter, software, count_sw_cpu_clock, sampler.frequency. */
#define REPORTS_PER_SECOND 2

int is_timer(const struct bpf_program *program)
{
	return !strncmp(bpf_program__section_name(program), "perf_event/", strlen("perf_event/"));
}

static void attach_timer(struct bpf_program *program)
{
	struct perf_event_attr attributes = {
		.size = sizeof(attributes),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_type = PERF_SAMPLE_RAW,
		.sample_freq = REPORTS_PER_SECOND,
		.freq = 1,
	};

	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++) {
		const int event = (int)syscall(__NR_perf_event_open, &attributes, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

		if (event < 0 && errno == ENODEV)
			continue; /* possible, and not online */
		if (event < 0 || libbpf_get_error(bpf_program__attach_perf_event(program, event)))
			die("the timer");
	}
}

void attach(struct bpf_object *object, const char *libc)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object) {
		const char *section = bpf_program__section_name(program), *function = strchr(section, ':');
		struct bpf_link *link;

		if (is_timer(program)) {
			attach_timer(program);
			continue;
		}
		if (function) {
			LIBBPF_OPTS(bpf_uprobe_opts, options, .func_name = function + 1,
				    .retprobe = !strncmp(section, "uretprobe", strlen("uretprobe")));
			link = bpf_program__attach_uprobe_opts(program, -1, libc, 0, &options);
		} else {
			link = bpf_program__attach(program);
		}
		if (libbpf_get_error(link))
			die(section);
	}
}

void filter(struct bpf_object *object, int pid)
{
	char path[64];
	struct stat namespace;
	const __u32 one = 1;

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	if (stat(path, &namespace))
		die(path);
	const __u64 id = namespace.st_ino;
	if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "gadget_mntns_filter_map"), &id, &one, BPF_ANY))
		die("gadget_mntns_filter_map");
}

/* A constant of the object, by its name: what a parameter of the gadget sets. */
void set_constant(struct bpf_object *object, const char *name, __u64 value)
{
	const struct btf *btf = bpf_object__btf(object);
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata");
	const struct btf_type *section = btf__type_by_id(btf, (__u32)btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC));
	size_t size = 0;
	unsigned char *values = map ? (unsigned char *)bpf_map__initial_value(map, &size) : NULL;

	for (int i = 0; values && section && i < btf_vlen(section); i++) {
		const struct btf_var_secinfo *variable = btf_var_secinfos(section) + i;
		const struct btf_type *type = btf__type_by_id(btf, variable->type);

		if (!strcmp(btf__name_by_offset(btf, type->name_off), name)) {
			memcpy(values + variable->offset, &value, variable->size);
			return;
		}
	}
	fprintf(stderr, "load_gadget: the gadget has no constant %s\n", name);
	exit(1);
}
