/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "unwind_loader.h"
#include "support.h"
#include "unwind.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>

int unwind_set_options(struct bpf_object *object, const struct unwind_options *options)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata.unwind");
	size_t size = 0;
	struct unwind_settings *settings = map ? bpf_map__initial_value(map, &size) : NULL;
	struct unwind_map_layout layouts[UNWIND_MAPS];

	if (!settings || size != sizeof(*settings))
		return trace_fail(-EINVAL, "the eBPF object has no settings for unwinding");
	if (options->memo_sets & (options->memo_sets - 1))
		return trace_fail(-EINVAL, "memo_sets is %u: a power of two, or 0", options->memo_sets);
	settings->mode = options->mode;
	settings->memo_sets = options->memo_sets;
	if (options->mode == UNWIND_OFF)
		return 0; /* the verifier drops what would use the maps: they keep the one entry that they are declared with */
	unwind_map_layouts(layouts, &options->capacity);
	for (int i = 0; i < UNWIND_MAPS; i++)
		bpf_map__set_max_entries(bpf_object__find_map_by_name(object, layouts[i].name), layouts[i].entries);
	if (options->memo_sets)
		bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "unwind_memos"),
					 options->memo_sets * UNWIND_MEMO_WAYS);
	return 0;
}

int unwind_open_tables(struct unwind_tables **tables, struct bpf_object *object, const struct unwind_options *options)
{
	struct unwind_map_layout layouts[UNWIND_MAPS];
	int fds[UNWIND_MAPS];

	unwind_map_layouts(layouts, &options->capacity);
	for (int i = 0; i < UNWIND_MAPS; i++)
		fds[i] = bpf_object__find_map_fd_by_name(object, layouts[i].name);
	return unwind_tables_open(tables, fds, &options->capacity);
}

int unwind_read_counts(struct bpf_object *object, uint64_t *counts)
{
	const int processors = libbpf_num_possible_cpus(), fd = bpf_object__find_map_fd_by_name(object, "unwind_counts");
	uint64_t *values = processors > 0 ? calloc((size_t)processors, sizeof(*values)) : NULL;

	if (!values)
		return trace_fail(-ENOMEM, "no memory for the counts of every processor");
	for (uint32_t kind = 0; kind < UNWIND_COUNTS; kind++) {
		if (bpf_map_lookup_elem(fd, &kind, values)) {
			int error = -errno;

			free(values);
			return trace_fail(error, "the map 'unwind_counts' cannot be read");
		}
		counts[kind] = 0;
		for (int i = 0; i < processors; i++)
			counts[kind] += values[i];
	}
	free(values);
	return 0;
}
