/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "forks.h"
#include "forks_loader.h"
#include "support.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>

struct fork_trace {
	struct bpf_object *object;
	struct bpf_link *links[2];
	struct ring_buffer *ring;
	struct bytes told;
};

static int map_fd(const struct fork_trace *trace, const char *name)
{
	return bpf_object__find_map_fd_by_name(trace->object, name);
}

static int attach(struct fork_trace *trace, int i, const char *program, const char *tracepoint)
{
	trace->links[i] = bpf_program__attach_raw_tracepoint(bpf_object__find_program_by_name(trace->object, program),
							      tracepoint);
	int error = libbpf_get_error(trace->links[i]);

	if (error)
		trace->links[i] = NULL;
	return error ? trace_fail(error, "the tracepoint '%s' cannot be watched", tracepoint) : 0;
}

static int load(struct fork_trace *trace, const void *bytes, size_t size)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "forks");

	trace->object = bpf_object__open_mem(bytes, size, &options);
	int error = libbpf_get_error(trace->object);
	if (error) {
		trace->object = NULL;
		return trace_fail(error, "the eBPF object cannot be read");
	}
	error = bpf_object__load(trace->object);
	if (error)
		return trace_fail(error, "the kernel refuses the eBPF program");
	trace->ring = ring_buffer__new(map_fd(trace, "forked_processes"), bytes_append, &trace->told, NULL);
	return trace->ring ? 0 : trace_fail(-errno, "the ring of forks cannot be opened");
}

int fork_trace_open(struct fork_trace **result, const void *object, size_t size)
{
	struct fork_trace *trace = calloc(1, sizeof(*trace));

	trace_begin();
	if (!trace)
		return trace_fail(-ENOMEM, "no memory for following forks");
	int error = load(trace, object, size);
	if (!error)
		error = attach(trace, 0, "fork_happened", "sched_process_fork");
	if (!error)
		error = attach(trace, 1, "task_gone", "sched_process_free");
	if (error) {
		fork_trace_close(trace);
		return error;
	}
	*result = trace;
	return 0;
}

int fork_trace_follow(struct fork_trace *trace, uint32_t pid)
{
	const uint8_t yes = 1;

	trace_begin();
	return bpf_map_update_elem(map_fd(trace, "followed"), &pid, &yes, BPF_ANY)
		       ? trace_fail(-errno, "the map 'followed' cannot be written")
		       : 0;
}

int fork_trace_read(struct fork_trace *trace, int milliseconds, const struct forked **started, size_t *count)
{
	trace_begin();
	trace->told.size = 0;
	int error = ring_buffer__poll(trace->ring, milliseconds);

	*started = (const struct forked *)trace->told.data;
	*count = trace->told.size / sizeof(struct forked);
	return error < 0 && error != -EINTR ? trace_fail(error, "the ring of forks cannot be read") : 0;
}

int fork_trace_read_untold(struct fork_trace *trace, uint64_t *count)
{
	const uint32_t zero = 0;

	return bpf_map_lookup_elem(map_fd(trace, "untold"), &zero, count)
		       ? trace_fail(-errno, "the map 'untold' cannot be read")
		       : 0;
}

void fork_trace_close(struct fork_trace *trace)
{
	if (!trace)
		return;
	for (int i = 0; i < 2; i++)
		bpf_link__destroy(trace->links[i]);
	ring_buffer__free(trace->ring);
	bpf_object__close(trace->object);
	free(trace->told.data);
	free(trace);
}
