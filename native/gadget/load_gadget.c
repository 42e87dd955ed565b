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
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_ROWS 1024
#define MAX_FRAMES 127

static volatile sig_atomic_t stopping;

static void stop(int number)
{
	(void)number;
	stopping = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "load_gadget: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* --- the layout of a row, from the object's own types --- */

struct layout {
	const struct btf *btf;
	const struct btf_type *row;
};

static const struct btf_type *resolve(const struct btf *btf, __u32 id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);

	while (btf_is_typedef(type) || btf_is_mod(type))
		type = btf__type_by_id(btf, type->type);
	return type;
}

/* The bytes of a member of a structure of the row; `path` is "member" or "member.member". */
static const unsigned char *member(const struct layout *layout, const unsigned char *row, const char *path, size_t *size)
{
	const struct btf_type *type = layout->row;
	char copy[64];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok(copy, "."); name; name = strtok(NULL, ".")) {
		const struct btf_member *members = btf_members(type);
		int found = 0;

		for (int i = 0; i < btf_vlen(type) && !found; i++)
			if (!strcmp(btf__name_by_offset(layout->btf, members[i].name_off), name)) {
				row += btf_member_bit_offset(type, (__u32)i) / 8;
				*size = (size_t)btf__resolve_size(layout->btf, members[i].type);
				type = resolve(layout->btf, members[i].type);
				found = 1;
			}
		if (!found) {
			fprintf(stderr, "load_gadget: a row has no field %s\n", path);
			exit(1);
		}
	}
	return row;
}

static uint64_t number(const struct layout *layout, const unsigned char *row, const char *path)
{
	size_t size = 0;
	const unsigned char *at = member(layout, row, path, &size);
	uint64_t value = 0;

	memcpy(&value, at, size < sizeof(value) ? size : sizeof(value)); /* little-endian, as all that this runs on */
	return value;
}

/* --- attaching, as Inspektor Gadget's uprobetracer does --- */

static void find_libc(int pid, char *path, size_t size)
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

static int is_timer(const struct bpf_program *program)
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

static void attach(struct bpf_object *object, const char *libc)
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

static void filter(struct bpf_object *object, int pid)
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
static void set_constant(struct bpf_object *object, const char *name, __u64 value)
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

/* --- reading --- */

static void print_frames(int stacks, __u32 id)
{
	__u64 frames[MAX_FRAMES] = {0};

	printf("\"frames\": [");
	if (!bpf_map_lookup_elem(stacks, &id, frames))
		for (int i = 0; i < MAX_FRAMES && frames[i]; i++)
			printf("%s%" PRIu64, i ? ", " : "", (uint64_t)frames[i]);
	printf("]");
}

static void print_row(const struct layout *layout, const unsigned char *row, int stacks)
{
	size_t size = 0;

	printf("{\"comm\": \"%.15s\", \"pid\": %" PRIu64, (const char *)member(layout, row, "proc.comm", &size),
	       number(layout, row, "proc.pid"));
	printf(", \"function\": \"%.63s\"", (const char *)member(layout, row, "function", &size));
	for (const char **name = (const char *[]){"outstanding_raw", "blocks", "allocations", "frees", "leak_percent",
						  "age_raw", "untracked", NULL};
	     *name; name++)
		printf(", \"%s\": %" PRIu64, *name, number(layout, row, *name));
	printf(", ");
	print_frames(stacks, (__u32)number(layout, row, "ustack.stack_id"));
	printf("}");
}

static void read_report(struct bpf_object *object, const struct layout *layout)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	const struct bpf_map *report = bpf_object__find_map_by_name(object, "report");
	const size_t value = bpf_map__value_size(report);
	unsigned char *keys = calloc(MAX_ROWS, bpf_map__key_size(report)), *values = calloc(MAX_ROWS, value);
	__u32 count = MAX_ROWS;
	__u64 position;

	if (!keys || !values)
		die("memory for the report");
	/* One call that reads and empties the map: what arrives meanwhile waits for the next reading. */
	if (bpf_map_lookup_and_delete_batch(bpf_map__fd(report), NULL, &position, keys, values, &count, &options) &&
	    errno != ENOENT)
		die("report");
	printf("[");
	for (__u32 i = 0; i < count; i++) {
		printf("%s", i ? ", " : "");
		print_row(layout, values + i * value, bpf_object__find_map_fd_by_name(object, "ig_ustack"));
	}
	printf("]\n");
	fflush(stdout);
	free(keys);
	free(values);
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
