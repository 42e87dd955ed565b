/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "heap_trace.h"
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BATCH 1024

/* The records of one map, as read last. */
struct records {
	uint64_t *keys;
	char *values;
	size_t capacity;
};

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

/* --- errors: what failed, why, and what libbpf said of it --- */

static __thread char error_text[4096], libbpf_text[2048];

static int keep_libbpf_text(enum libbpf_print_level level, const char *format, va_list arguments)
{
	size_t used = strlen(libbpf_text);

	if (level == LIBBPF_WARN && used < sizeof(libbpf_text) - 1)
		vsnprintf(libbpf_text + used, sizeof(libbpf_text) - used, format, arguments);
	return 0;
}

static int fail(int error, const char *format, ...)
{
	va_list arguments;
	int used;

	va_start(arguments, format);
	used = vsnprintf(error_text, sizeof(error_text), format, arguments);
	va_end(arguments);
	if (used >= 0 && (size_t)used < sizeof(error_text))
		snprintf(error_text + used, sizeof(error_text) - (size_t)used, ": %s%s%s", strerror(-error),
			 libbpf_text[0] ? "\n" : "", libbpf_text);
	libbpf_text[0] = '\0';
	return error;
}

const char *heap_trace_error(void)
{
	return error_text;
}

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
		size_t capacity = trace->events_capacity ? trace->events_capacity * 2 : BATCH;
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
		return fail(error, "the eBPF object cannot be read");
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
		return fail(error, "the eBPF object has no settings");
	bpf_map__set_max_entries(bpf_object__find_map_by_name(trace->object, "blocks"), options->max_blocks);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(trace->object, "stacks"), options->max_stacks + 1);
	error = bpf_object__load(trace->object);
	return error ? fail(error, "the kernel refuses the eBPF program") : 0;
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
		return fail(error, "no memory for the tracer");
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(keep_libbpf_text);
	libbpf_text[0] = error_text[0] = '\0';
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
			fail(error, "the stack map cannot be written");
	}
	if (!error) {
		trace->ring = ring_buffer__new(map_fd(trace, "mappings"), add_event, trace, NULL);
		error = trace->ring ? 0 : -errno;
		if (error)
			fail(error, "the ring of mapping events cannot be opened");
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
		return fail(-ENOMEM, "no memory for a link");
	trace->link_fds = fds;
	int fd = (int)syscall(__NR_bpf, BPF_LINK_CREATE, &attribute, sizeof(attribute));
	if (fd < 0)
		return fail(-errno, "the probes cannot be attached to %s", path);
	trace->link_fds[trace->n_link_fds++] = fd;
	return 0;
}

static int attach_one(struct heap_trace *trace, struct bpf_program *program, int pid, const char *path,
		      const struct heap_trace_probe *probe, int at_return)
{
	LIBBPF_OPTS(bpf_uprobe_opts, options, .bpf_cookie = probe->function, .retprobe = at_return);
	struct bpf_link **links = realloc(trace->links, (trace->n_links + 1) * sizeof(struct bpf_link *));

	if (!links)
		return fail(-ENOMEM, "no memory for a link");
	trace->links = links;
	struct bpf_link *link = bpf_program__attach_uprobe_opts(program, pid, path, probe->offset, &options);
	int error = libbpf_get_error(link);
	if (error)
		return fail(error, "the probe at %s+0x%llx cannot be attached", path, (unsigned long long)probe->offset);
	trace->links[trace->n_links++] = link;
	return 0;
}

int heap_trace_attach(struct heap_trace *trace, int pid, const char *path, const struct heap_trace_probe *probes,
		      size_t count)
{
	const size_t links_before = trace->n_links;
	int error = 0;

	libbpf_text[0] = '\0';
	if (!count)
		return fail(-EINVAL, "no probes for %s", path);
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

static int grow(struct records *records, size_t value_size, size_t capacity)
{
	if (records->capacity >= capacity)
		return 0;
	uint64_t *keys = realloc(records->keys, capacity * sizeof(*keys));
	if (keys)
		records->keys = keys;
	char *values = realloc(records->values, capacity * value_size);
	if (values)
		records->values = values;
	if (!keys || !values)
		return -ENOMEM;
	records->capacity = capacity;
	return 0;
}

static int read_map(struct heap_trace *trace, const char *name, struct records *records, size_t value_size, size_t *count)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	const int fd = map_fd(trace, name);
	uint64_t position; /* the kernel's own cursor: a bucket's number */
	void *from = NULL;
	size_t have = 0, room = BATCH;

	for (;;) {
		int error = grow(records, value_size, have + room);
		if (error)
			return fail(error, "no memory to read the map '%s'", name);
		uint32_t n = (uint32_t)room;
		error = bpf_map_lookup_batch(fd, from, &position, records->keys + have, records->values + have * value_size,
					     &n, &options);
		if (error == -ENOSPC) { /* one bucket holds more than there is room for: nothing was read */
			room *= 2;
			continue;
		}
		if (error && error != -ENOENT)
			return fail(error, "the map '%s' cannot be read", name);
		have += n;
		if (error) /* ENOENT: that was the last bucket */
			break;
		from = &position;
	}
	*count = have;
	return 0;
}

int heap_trace_read_stacks(struct heap_trace *trace, const uint64_t **hashes, const struct heap_stack **stacks, size_t *count)
{
	int error = read_map(trace, "stacks", &trace->stacks, sizeof(struct heap_stack), count);

	*hashes = trace->stacks.keys;
	*stacks = (const struct heap_stack *)trace->stacks.values;
	return error;
}

int heap_trace_read_blocks(struct heap_trace *trace, const uint64_t **addresses, const struct heap_block **blocks,
			   size_t *count)
{
	int error = read_map(trace, "blocks", &trace->blocks, sizeof(struct heap_block), count);

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
	return error < 0 ? fail(error, "the ring of mapping events cannot be read") : 0;
}

int heap_trace_read_lost(struct heap_trace *trace, uint64_t *counts)
{
	for (uint32_t kind = 0; kind < HEAP_LOST_KINDS; kind++) {
		int error = bpf_map_lookup_elem(map_fd(trace, "lost"), &kind, &counts[kind]);

		if (error)
			return fail(error, "the map 'lost' cannot be read");
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
	free(trace->stacks.keys);
	free(trace->stacks.values);
	free(trace->blocks.keys);
	free(trace->blocks.values);
	free(trace->events);
	free(trace);
}
