/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "page_faults.h"
#include "page_faults_loader.h"
#include "support.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct fault_trace {
	struct bpf_object *object;
	struct bpf_program *program;
	int *events;              /* one perf event a processor */
	struct bpf_link **links;
	size_t n_events, n_links;
	struct records samples, stacks;
	struct unwind_tables *tables;
};

static int map_fd(const struct fault_trace *trace, const char *name)
{
	return bpf_object__find_map_fd_by_name(trace->object, name);
}

static int load(struct fault_trace *trace, const void *bytes, size_t size, uint32_t pid,
		const struct unwind_options *unwind)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "page_faults");
	size_t have = 0;
	uint32_t *only_pid;

	trace->object = bpf_object__open_mem(bytes, size, &options);
	int error = libbpf_get_error(trace->object);
	if (error) {
		trace->object = NULL;
		return trace_fail(error, "the eBPF object cannot be read");
	}
	struct bpf_map *settings = bpf_object__find_map_by_name(trace->object, ".rodata.settings");
	only_pid = settings ? bpf_map__initial_value(settings, &have) : NULL;
	if (!only_pid || have < sizeof(*only_pid))
		return trace_fail(-EINVAL, "the eBPF object has no settings");
	*only_pid = pid;
	if (kernel_before(6, 1)) /* the programs of perf events may use preallocated maps only */
		bpf_map__set_map_flags(bpf_object__find_map_by_name(trace->object, "stacks"), 0);
	const int unwinds = unwind->mode != UNWIND_OFF;
	struct bpf_program *by_pointers = bpf_object__find_program_by_name(trace->object, "page_fault");
	struct bpf_program *by_tables = bpf_object__find_program_by_name(trace->object, "page_fault_unwound");

	bpf_program__set_autoload(by_pointers, !unwinds);
	bpf_program__set_autoload(by_tables, unwinds);
	trace->program = unwinds ? by_tables : by_pointers;
	error = unwind_set_options(trace->object, unwind);
	if (error)
		return error;
	error = bpf_object__load(trace->object);
	if (error)
		return trace_fail(error, "the kernel refuses the eBPF program");
	return unwinds ? unwind_open_tables(&trace->tables, trace->object, unwind) : 0;
}

static int open_event(struct fault_trace *trace, struct bpf_program *program, int cpu, uint64_t period)
{
	struct perf_event_attr attribute = {
		.size = sizeof(attribute),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_PAGE_FAULTS,
		.sample_period = period,
	};
	int fd = (int)syscall(__NR_perf_event_open, &attribute, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		return errno == ENODEV ? 0 : trace_fail(-errno, "page faults cannot be counted on processor %d", cpu);
	trace->events[trace->n_events++] = fd;
	struct bpf_link *link = bpf_program__attach_perf_event(program, fd);
	int error = libbpf_get_error(link);
	if (error)
		return trace_fail(error, "the sampler cannot be attached on processor %d", cpu);
	trace->links[trace->n_links++] = link;
	return 0;
}

int fault_trace_open(struct fault_trace **result, const void *object, size_t size, uint32_t pid,
		     const struct unwind_options *unwind)
{
	struct fault_trace *trace = calloc(1, sizeof(*trace));

	trace_begin();
	if (!trace)
		return trace_fail(-ENOMEM, "no memory for the sampler");
	int error = unwind->mode == UNWIND_OFF || (pid && !unwind->memo_sets)
			    ? load(trace, object, size, pid, unwind)
			    : trace_fail(-EINVAL, "tables need one process, and no memo: pid %u, memo_sets %u", pid,
					 unwind->memo_sets);
	if (error) {
		fault_trace_close(trace);
		return error;
	}
	*result = trace;
	return 0;
}

struct unwind_tables *fault_trace_tables(const struct fault_trace *trace)
{
	return trace->tables;
}

int fault_trace_attach(struct fault_trace *trace, uint64_t period)
{
	const int processors = libbpf_num_possible_cpus();
	int error = 0;

	trace_begin();
	if (trace->events)
		return trace_fail(-EBUSY, "the sampler is attached already");
	trace->events = calloc((size_t)processors, sizeof(*trace->events));
	trace->links = calloc((size_t)processors, sizeof(struct bpf_link *));
	if (!trace->events || !trace->links)
		return trace_fail(-ENOMEM, "no memory for the sampler");
	for (int cpu = 0; cpu < processors && !error; cpu++)
		error = open_event(trace, trace->program, cpu, period);
	return error;
}

int fault_trace_read_samples(struct fault_trace *trace, const struct fault_key **keys, const uint64_t **counts,
			     size_t *count)
{
	int error = records_read(&trace->samples, map_fd(trace, "samples"), "samples", sizeof(struct fault_key),
				 sizeof(uint64_t), count);

	*keys = trace->samples.keys;
	*counts = trace->samples.values;
	return error;
}

int fault_trace_read_stacks(struct fault_trace *trace, const uint64_t **hashes, const struct fault_stack **stacks,
			    size_t *count)
{
	int error = records_read(&trace->stacks, map_fd(trace, "stacks"), "stacks", sizeof(uint64_t),
				 sizeof(struct fault_stack), count);

	*hashes = trace->stacks.keys;
	*stacks = trace->stacks.values;
	return error;
}

int fault_trace_read_totals(struct fault_trace *trace, uint64_t *faults, uint64_t *lost)
{
	const uint32_t zero = 0;

	*faults = 0;
	for (size_t i = 0; i < trace->n_events; i++) {
		uint64_t value;

		if (read(trace->events[i], &value, sizeof(value)) != sizeof(value))
			return trace_fail(-errno, "the count of page faults cannot be read");
		*faults += value;
	}
	int error = bpf_map_lookup_elem(map_fd(trace, "lost"), &zero, lost);
	return error ? trace_fail(error, "the map 'lost' cannot be read") : 0;
}

void fault_trace_close(struct fault_trace *trace)
{
	if (!trace)
		return;
	/* A link owns its event's descriptor once it is attached. */
	for (size_t i = 0; i < trace->n_links; i++)
		bpf_link__destroy(trace->links[i]);
	for (size_t i = trace->n_links; i < trace->n_events; i++)
		close(trace->events[i]);
	unwind_tables_close(trace->tables);
	bpf_object__close(trace->object);
	records_free(&trace->samples);
	records_free(&trace->stacks);
	free(trace->events);
	free(trace->links);
	free(trace);
}
