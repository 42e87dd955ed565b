/* SPDX-License-Identifier: MIT */
/* Makes a trace of a process that has ended ready for another one: to load the program takes a third of a second. */
#define _GNU_SOURCE
#include "loader_internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_AT_ONCE 16384

static int empty_hash(struct heap_trace *trace, const char *name)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	const struct bpf_map *map = bpf_object__find_map_by_name(trace->object, name);
	uint64_t position;
	int more = 1, begun = 0, error = 0;

	while (more > 0 && !error) {
		size_t read;

		more = records_read_some(&trace->batch, bpf_map__fd(map), bpf_map__key_size(map), bpf_map__value_size(map),
					 KEYS_AT_ONCE, &position, &begun, &read);
		uint32_t count = more < 0 ? 0 : (uint32_t)read;
		if (count)
			error = bpf_map_delete_batch(bpf_map__fd(map), trace->batch.keys, &count, &options);
	}
	error = more < 0 ? more : error;
	return error ? trace_fail(error, "the map '%s' cannot be emptied", name) : 0;
}

/* With a value of each processor's where the kernel keeps one. */
static int zero_array(struct heap_trace *trace, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(trace->object, name);
	const size_t copies = bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_ARRAY ? (size_t)libbpf_num_possible_cpus() : 1;
	void *zeros = calloc(copies, (bpf_map__value_size(map) + 7) / 8 * 8);
	int error = zeros ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < bpf_map__max_entries(map) && !error; i++)
		error = bpf_map_update_elem(bpf_map__fd(map), &i, zeros, BPF_ANY);
	free(zeros);
	return error ? trace_fail(error, "the map '%s' cannot be emptied", name) : 0;
}

static int empty_rings(struct heap_trace *trace)
{
	const struct heap_mapping *events;
	const unsigned char *records;
	size_t size;
	int error = heap_trace_read_mappings(trace, &events, &size);

	return error ? error : heap_trace_read_frames(trace, &records, &size);
}

int heap_trace_reset(struct heap_trace *trace)
{
	static const char *const hashes[] = {"blocks", "counters", "older"};
	static const char *const arrays[] = {"lost", "older_sizes", "thread_end", "fatal_signal", "allocator_code",
					     "probed_calls", "unwind_counts"};
	int error = 0;

	trace_begin();
	heap_trace_detach(trace);
	for (size_t i = 0; i < sizeof(hashes) / sizeof(*hashes) && !error; i++)
		error = empty_hash(trace, hashes[i]);
	for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays) && !error; i++)
		error = zero_array(trace, arrays[i]);
	if (!error)
		error = empty_rings(trace);
	if (!error)
		error = heap_trace_add_catch_alls(trace);
	memset(trace->probe_owners, 0, sizeof(trace->probe_owners));
	memset(trace->code_owners, 0, sizeof(trace->code_owners));
	trace->detached = 0;
	return error;
}
