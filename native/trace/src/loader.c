/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "heap_trace.h"
#include "loader.h"
#include "support.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_EVENTS 1024

struct heap_trace {
	struct bpf_object *object;
	struct bpf_program *session, *entry, *exit;
	struct ring_buffer *ring;
	struct bpf_link **links;
	int *link_fds; /* of links that this libbpf has no type for */
	size_t n_links, n_link_fds;
	int uses_session;
	struct records stacks, blocks;
	struct heap_mapping *events;
	size_t n_events, events_capacity;
};

/* --- open --- */

static int kernel_has_kfunc(const char *name)
{
	struct btf *kernel = btf__load_vmlinux_btf();
	int id = libbpf_get_error(kernel) ? -1 : btf__find_by_name_kind(kernel, name, BTF_KIND_FUNC);

	if (!libbpf_get_error(kernel))
		btf__free(kernel);
	return id > 0;
}

static int set_constants(struct bpf_object *object, const struct heap_trace_options *options)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata.settings");
	size_t size = 0;
	struct heap_settings *settings = map ? bpf_map__initial_value(map, &size) : NULL;

	if (!settings || size != sizeof(*settings))
		return -EINVAL;
	settings->min_bytes = options->min_bytes;
	settings->preempt_control = (unsigned long long)kernel_has_kfunc("bpf_preempt_disable");
	return 0;
}

static int add_event(void *context, void *data, size_t size)
{
	struct heap_trace *trace = context;

	(void)size;
	if (trace->n_events == trace->events_capacity) {
		size_t capacity = trace->events_capacity ? trace->events_capacity * 2 : FIRST_EVENTS;
		struct heap_mapping *events = realloc(trace->events, capacity * sizeof(*events));

		if (!events)
			return -ENOMEM;
		trace->events = events;
		trace->events_capacity = capacity;
	}
	memcpy(&trace->events[trace->n_events++], data, sizeof(struct heap_mapping));
	return 0;
}

/* The session program is not loaded with the others where the kernel does not know its attach type. */
static int load(struct heap_trace *trace, const void *bytes, size_t size, const struct heap_trace_options *options,
		int session)
{
	LIBBPF_OPTS(bpf_object_open_opts, open_options, .object_name = "heap_trace");
	int error;

	trace->object = bpf_object__open_mem(bytes, size, &open_options);
	error = libbpf_get_error(trace->object);
	if (error) {
		trace->object = NULL;
		return trace_fail(error, "the eBPF object cannot be read");
	}
	trace->session = bpf_object__find_program_by_name(trace->object, "heap_session");
	trace->entry = bpf_object__find_program_by_name(trace->object, "heap_entry");
	trace->exit = bpf_object__find_program_by_name(trace->object, "heap_return");
	bpf_program__set_autoload(trace->session, session);
	bpf_program__set_autoload(trace->entry, !session);
	bpf_program__set_autoload(trace->exit, !session);
	if (session)
		bpf_program__set_expected_attach_type(trace->session, (enum bpf_attach_type)57 /* BPF_TRACE_UPROBE_SESSION */);
	error = set_constants(trace->object, options);
	if (error)
		return trace_fail(error, "the eBPF object has no settings");
	bpf_map__set_max_entries(bpf_object__find_map_by_name(trace->object, "blocks"), options->max_blocks);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(trace->object, "stacks"), options->max_stacks + 1);
	error = bpf_object__load(trace->object);
	return error ? trace_fail(error, "the kernel refuses the eBPF program") : 0;
}

static int map_fd(const struct heap_trace *trace, const char *name)
{
	return bpf_object__find_map_fd_by_name(trace->object, name);
}

static void unload(struct heap_trace *trace)
{
	bpf_object__close(trace->object);
	trace->object = NULL;
}

int heap_trace_open(struct heap_trace **result, const void *object, size_t size,
		    const struct heap_trace_options *options)
{
	const uint64_t unknown = HEAP_UNKNOWN_STACK;
	struct heap_stack nothing = {0};
	struct heap_trace *trace = calloc(1, sizeof(*trace));
	int error = -ENOMEM;

	if (!trace)
		return trace_fail(error, "no memory for the tracer");
	trace_begin();
	trace->uses_session = options->allow_session;
	error = trace->uses_session ? load(trace, object, size, options, 1) : -EINVAL;
	if (error == -EINVAL) { /* no sessions: two programs do it on every kernel */
		unload(trace);
		trace->uses_session = 0;
		error = load(trace, object, size, options, 0);
	}
	if (!error) {
		error = bpf_map_update_elem(map_fd(trace, "stacks"), &unknown, &nothing, BPF_ANY) ? -errno : 0;
		if (error)
			trace_fail(error, "the stack map cannot be written");
	}
	if (!error) {
		trace->ring = ring_buffer__new(map_fd(trace, "mappings"), add_event, trace, NULL);
		error = trace->ring ? 0 : -errno;
		if (error)
			trace_fail(error, "the ring of mapping events cannot be opened");
	}
	if (error) {
		heap_trace_close(trace);
		return error;
	}
	*result = trace;
	return 0;
}

/* --- attach --- */

/* bpf(BPF_LINK_CREATE) for uprobe_multi, as of kernel 6.13: Debian 12's libbpf and headers do not know it yet. */
struct link_create_uprobe_multi {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t count, multi_flags, pid;
};

static int attach_session(struct heap_trace *trace, int pid, const char *path, const struct heap_trace_probe *probes,
			  size_t count)
{
	uint64_t offsets[count], cookies[count];
	union {
		struct link_create_uprobe_multi link;
		char padding[sizeof(union bpf_attr)];
	} attribute = {0};

	for (size_t i = 0; i < count; i++) {
		offsets[i] = probes[i].offset;
		cookies[i] = probes[i].function;
	}
	attribute.link = (struct link_create_uprobe_multi){
		.prog_fd = (uint32_t)bpf_program__fd(trace->session),
		.attach_type = 57, /* BPF_TRACE_UPROBE_SESSION */
		.path = (uintptr_t)path,
		.offsets = (uintptr_t)offsets,
		.cookies = (uintptr_t)cookies,
		.count = (uint32_t)count,
		.pid = (uint32_t)pid,
	};
	int *fds = realloc(trace->link_fds, (trace->n_link_fds + 1) * sizeof(*fds));
	if (!fds)
		return trace_fail(-ENOMEM, "no memory for a link");
	trace->link_fds = fds;
	int fd = (int)syscall(__NR_bpf, BPF_LINK_CREATE, &attribute, sizeof(attribute));
	if (fd < 0)
		return trace_fail(-errno, "the probes cannot be attached to %s", path);
	trace->link_fds[trace->n_link_fds++] = fd;
	return 0;
}

static int attach_one(struct heap_trace *trace, struct bpf_program *program, int pid, const char *path,
		      const struct heap_trace_probe *probe, int at_return)
{
	LIBBPF_OPTS(bpf_uprobe_opts, options, .bpf_cookie = probe->function, .retprobe = at_return);
	struct bpf_link **links = realloc(trace->links, (trace->n_links + 1) * sizeof(struct bpf_link *));

	if (!links)
		return trace_fail(-ENOMEM, "no memory for a link");
	trace->links = links;
	struct bpf_link *link = bpf_program__attach_uprobe_opts(program, pid, path, probe->offset, &options);
	int error = libbpf_get_error(link);
	if (error)
		return trace_fail(error, "the probe at %s+0x%llx cannot be attached", path, (unsigned long long)probe->offset);
	trace->links[trace->n_links++] = link;
	return 0;
}

int heap_trace_attach(struct heap_trace *trace, int pid, const char *path, const struct heap_trace_probe *probes,
		      size_t count)
{
	const size_t links_before = trace->n_links;
	int error = 0;

	trace_begin();
	if (!count)
		return trace_fail(-EINVAL, "no probes for %s", path);
	if (trace->uses_session)
		return attach_session(trace, pid, path, probes, count);
	/* Returns first: an entry is then never counted without its return in place. */
	for (size_t i = 0; i < count && !error; i++)
		if (probes[i].has_return)
			error = attach_one(trace, trace->exit, pid, path, &probes[i], 1);
	for (size_t i = 0; i < count && !error; i++)
		error = attach_one(trace, trace->entry, pid, path, &probes[i], 0);
	while (error && trace->n_links > links_before)
		bpf_link__destroy(trace->links[--trace->n_links]);
	return error;
}

int heap_trace_uses_session(const struct heap_trace *trace)
{
	return trace->uses_session;
}

/* --- read --- */

int heap_trace_read_stacks(struct heap_trace *trace, const uint64_t **hashes, const struct heap_stack **stacks, size_t *count)
{
	int error = records_read(&trace->stacks, map_fd(trace, "stacks"), "stacks", sizeof(uint64_t),
				 sizeof(struct heap_stack), count);

	*hashes = trace->stacks.keys;
	*stacks = (const struct heap_stack *)trace->stacks.values;
	return error;
}

int heap_trace_read_blocks(struct heap_trace *trace, const uint64_t **addresses, const struct heap_block **blocks,
			   size_t *count)
{
	int error = records_read(&trace->blocks, map_fd(trace, "blocks"), "blocks", sizeof(uint64_t),
				 sizeof(struct heap_block), count);

	*addresses = trace->blocks.keys;
	*blocks = (const struct heap_block *)trace->blocks.values;
	return error;
}

int heap_trace_read_mappings(struct heap_trace *trace, const struct heap_mapping **events, size_t *count)
{
	trace->n_events = 0;
	int error = ring_buffer__consume(trace->ring);

	*events = trace->events;
	*count = trace->n_events;
	return error < 0 ? trace_fail(error, "the ring of mapping events cannot be read") : 0;
}

int heap_trace_read_lost(struct heap_trace *trace, uint64_t *counts)
{
	for (uint32_t kind = 0; kind < HEAP_LOST_KINDS; kind++) {
		int error = bpf_map_lookup_elem(map_fd(trace, "lost"), &kind, &counts[kind]);

		if (error)
			return trace_fail(error, "the map 'lost' cannot be read");
	}
	return 0;
}

/* --- close --- */

void heap_trace_close(struct heap_trace *trace)
{
	if (!trace)
		return;
	for (size_t i = 0; i < trace->n_link_fds; i++)
		close(trace->link_fds[i]);
	for (size_t i = 0; i < trace->n_links; i++)
		bpf_link__destroy(trace->links[i]);
	ring_buffer__free(trace->ring);
	bpf_object__close(trace->object);
	free(trace->links);
	free(trace->link_fds);
	records_free(&trace->stacks);
	records_free(&trace->blocks);
	free(trace->events);
	free(trace);
}
