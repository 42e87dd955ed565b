/* SPDX-License-Identifier: MIT */
/* Loads the program with its settings, and closes it. */
#define _GNU_SOURCE
#include "loader_internal.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct btf *kernel_types(void)
{
	struct btf *kernel = btf__load_vmlinux_btf();

	return libbpf_get_error(kernel) ? NULL : kernel;
}

static int has_kfunc(const struct btf *kernel, const char *name)
{
	return kernel && btf__find_by_name_kind(kernel, name, BTF_KIND_FUNC) > 0;
}

/*
 * Kernels before 6.13 load a session program, for they do not look at the attach type then, and refuse it at the attach.
 * So the kernel's types are asked.
 */
static int has_sessions(const struct btf *kernel)
{
	int id = kernel ? btf__find_by_name_kind(kernel, "bpf_attach_type", BTF_KIND_ENUM) : -1;

	if (id < 0)
		return 0;
	const struct btf_type *type = btf__type_by_id(kernel, (uint32_t)id);
	const struct btf_enum *values = btf_enum(type);

	for (int i = 0; i < btf_vlen(type); i++)
		if (!strcmp(btf__name_by_offset(kernel, values[i].name_off), "BPF_TRACE_UPROBE_SESSION"))
			return values[i].val == SESSION_ATTACH_TYPE;
	return 0;
}

/* A struct's member is in the kernel's types. */
static int has_member(const struct btf *kernel, const char *name, const char *member)
{
	int id = kernel ? btf__find_by_name_kind(kernel, name, BTF_KIND_STRUCT) : -1;

	if (id < 0)
		return 0;
	const struct btf_type *type = btf__type_by_id(kernel, (uint32_t)id);

	for (int i = 0; i < btf_vlen(type); i++)
		if (!strcmp(btf__name_by_offset(kernel, btf_members(type)[i].name_off), member))
			return 1;
	return 0;
}

/*
 * Kernels 6.10 to 6.14 let a program forbid preemption, but not call a global function meanwhile, as this one does. From
 * 6.15 on they know of each function whether it may sleep.
 */
static int can_forbid_preemption(const struct btf *kernel)
{
	return has_kfunc(kernel, "bpf_preempt_disable") && has_member(kernel, "bpf_subprog_info", "might_sleep");
}

static int set_constants(struct bpf_object *object, const struct heap_trace_options *options, int preempt_control)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata.settings");
	size_t size = 0;
	struct heap_settings *settings = map ? bpf_map__initial_value(map, &size) : NULL;

	if (!settings || size != sizeof(*settings))
		return -EINVAL;
	settings->min_bytes = options->min_bytes;
	settings->count_nothing = (unsigned long long)options->count_nothing;
	settings->count_calls = (unsigned long long)options->count_calls;
	settings->preempt_control = (unsigned long long)preempt_control;
	return 0;
}

static int set_python(struct bpf_object *object, const struct python_settings *python)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata.python");
	size_t size = 0;
	struct python_settings *settings = map ? bpf_map__initial_value(map, &size) : NULL;

	if (!settings || size != sizeof(*settings))
		return -EINVAL;
	*settings = *python;
	return 0;
}

static int load(struct heap_trace *trace, const void *bytes, size_t size, const struct heap_trace_options *options)
{
	static const char *const by_room[] = {"scratch", "unwind_walks", "python_walks"};
	LIBBPF_OPTS(bpf_object_open_opts, open_options, .object_name = "heap_trace");
	struct btf *kernel = kernel_types();
	int preempt_control = can_forbid_preemption(kernel);
	int error;

	trace->uses_session = options->allow_session && has_sessions(kernel);
	btf__free(kernel);
	trace->object = bpf_object__open_mem(bytes, size, &open_options);
	error = libbpf_get_error(trace->object);
	if (error) {
		trace->object = NULL;
		return trace_fail(error, "the eBPF object cannot be read");
	}
	trace->session = bpf_object__find_program_by_name(trace->object, "heap_session");
	trace->entry = bpf_object__find_program_by_name(trace->object, "heap_entry");
	trace->exit = bpf_object__find_program_by_name(trace->object, "heap_return");
	bpf_program__set_autoload(trace->session, trace->uses_session);
	bpf_program__set_autoload(trace->entry, !trace->uses_session);
	bpf_program__set_autoload(trace->exit, !trace->uses_session);
	if (trace->uses_session)
		bpf_program__set_expected_attach_type(trace->session, (enum bpf_attach_type)SESSION_ATTACH_TYPE);
	error = set_constants(trace->object, options, preempt_control);
	if (!error)
		error = set_python(trace->object, &options->python);
	if (error)
		return trace_fail(error, "the eBPF object has no settings");
	error = unwind_set_options(trace->object, &options->unwind);
	if (error)
		return error;
	for (size_t i = 0; i < sizeof(by_room) / sizeof(*by_room) && preempt_control; i++)
		bpf_map__set_max_entries(bpf_object__find_map_by_name(trace->object, by_room[i]), 1);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(trace->object, "blocks"), options->max_blocks);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(trace->object, "counters"), options->max_stacks + 1);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(trace->object, "mappings"), options->ring_bytes);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(trace->object, "frames"), options->ring_bytes);
	error = bpf_object__load(trace->object);
	return error ? trace_fail(error, "the kernel refuses the eBPF program") : 0;
}

int heap_trace_map_fd(const struct heap_trace *trace, const char *name)
{
	return bpf_object__find_map_fd_by_name(trace->object, name);
}

/* Not a uprobe, and not detached with them: it costs the process nothing until a signal comes. */
static int attach_to_signals(struct heap_trace *trace)
{
	struct bpf_program *program = bpf_object__find_program_by_name(trace->object, "heap_signal");
	struct bpf_link *link = bpf_program__attach_raw_tracepoint(program, "signal_deliver");
	int error = libbpf_get_error(link);

	if (error)
		return trace_fail(error, "signals cannot be watched");
	trace->signals = link;
	return 0;
}

/* What has no place of its own is counted under the key 0: it has to be there before anything is. */
int heap_trace_add_catch_alls(struct heap_trace *trace)
{
	const uint64_t key = HEAP_UNKNOWN_STACK;
	struct heap_counters no_counters = {0};
	struct heap_older no_older = {0};

	if (bpf_map_update_elem(heap_trace_map_fd(trace, "counters"), &key, &no_counters, BPF_ANY) ||
	    bpf_map_update_elem(heap_trace_map_fd(trace, "older"), &key, &no_older, BPF_ANY))
		return trace_fail(-errno, "the eBPF maps cannot be written");
	return 0;
}

int heap_trace_open(struct heap_trace **result, const void *object, size_t size,
		    const struct heap_trace_options *options)
{
	struct heap_trace *trace = calloc(1, sizeof(*trace));

	if (!trace)
		return trace_fail(-ENOMEM, "no memory for the tracer");
	pthread_mutex_init(&trace->attachments, NULL);
	trace_begin();
	int error = load(trace, object, size, options);
	if (!error)
		error = heap_trace_add_catch_alls(trace);
	if (!error)
		error = attach_to_signals(trace);
	if (!error)
		error = heap_trace_open_rings(trace);
	if (!error && options->unwind.mode != UNWIND_OFF)
		error = unwind_open_tables(&trace->tables, trace->object, &options->unwind);
	if (error) {
		heap_trace_close(trace);
		return error;
	}
	*result = trace;
	return 0;
}

int heap_trace_uses_session(const struct heap_trace *trace)
{
	return trace->uses_session;
}

struct unwind_tables *heap_trace_tables(const struct heap_trace *trace)
{
	return trace->tables;
}

void heap_trace_close(struct heap_trace *trace)
{
	if (!trace)
		return;
	heap_trace_detach(trace);
	bpf_link__destroy(trace->signals);
	heap_trace_free_readings(trace);
	unwind_tables_close(trace->tables);
	bpf_object__close(trace->object);
	pthread_mutex_destroy(&trace->attachments);
	free(trace->links);
	free(trace);
}
