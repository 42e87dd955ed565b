/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "loader_internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#define BLOCKS_AT_ONCE 16384
#define FIRST_SURVIVORS 1024 /* a power of two */

/* --- rings --- */

int heap_trace_open_rings(struct heap_trace *trace)
{
	trace->mapping_ring = ring_buffer__new(heap_trace_map_fd(trace, "mappings"), bytes_append, &trace->mappings, NULL);
	if (trace->mapping_ring)
		trace->frame_ring = ring_buffer__new(heap_trace_map_fd(trace, "frames"), bytes_append, &trace->frames, NULL);
	return trace->frame_ring ? 0 : trace_fail(-errno, "the rings of events cannot be opened");
}

static int drain(struct ring_buffer *ring, struct bytes *bytes, const char *name)
{
	bytes->size = 0;
	int error = ring_buffer__consume(ring);

	return error < 0 ? trace_fail(error, "the ring '%s' cannot be read", name) : 0;
}

int heap_trace_read_mappings(struct heap_trace *trace, const struct heap_mapping **events, size_t *count)
{
	int error = drain(trace->mapping_ring, &trace->mappings, "mappings");

	*events = (const struct heap_mapping *)trace->mappings.data;
	*count = trace->mappings.size / sizeof(struct heap_mapping);
	return error;
}

int heap_trace_read_frames(struct heap_trace *trace, const unsigned char **records, size_t *bytes)
{
	int error = drain(trace->frame_ring, &trace->frames, "frames");

	*records = trace->frames.data;
	*bytes = trace->frames.size;
	return error;
}

/* --- whole maps --- */

int heap_trace_read_counters(struct heap_trace *trace, const uint64_t **hashes, const struct heap_counters **counters,
			     size_t *count)
{
	int error = records_read(&trace->counters, heap_trace_map_fd(trace, "counters"), "counters", sizeof(uint64_t),
				 sizeof(struct heap_counters), count);

	*hashes = trace->counters.keys;
	*counters = (const struct heap_counters *)trace->counters.values;
	return error;
}

int heap_trace_read_older(struct heap_trace *trace, const uint64_t **callers, const struct heap_older **older,
			  size_t *count)
{
	int error = records_read(&trace->older, heap_trace_map_fd(trace, "older"), "older", sizeof(uint64_t),
				 sizeof(struct heap_older), count);

	*callers = trace->older.keys;
	*older = (const struct heap_older *)trace->older.values;
	return error;
}

static int read_array(struct heap_trace *trace, const char *name, void *values, size_t value_size, uint32_t entries)
{
	for (uint32_t i = 0; i < entries; i++) {
		int error = bpf_map_lookup_elem(heap_trace_map_fd(trace, name), &i, (char *)values + i * value_size);

		if (error)
			return trace_fail(error, "the map '%s' cannot be read", name);
	}
	return 0;
}

int heap_trace_read_unwound(struct heap_trace *trace, uint64_t *counts)
{
	return unwind_read_counts(trace->object, counts);
}

int heap_trace_read_lost(struct heap_trace *trace, uint64_t *counts)
{
	return read_array(trace, "lost", counts, sizeof(*counts), HEAP_LOST_KINDS);
}

int heap_trace_read_older_sizes(struct heap_trace *trace, struct heap_size_class *sizes)
{
	return read_array(trace, "older_sizes", sizes, sizeof(*sizes), HEAP_SIZE_CLASSES);
}

int heap_trace_read_fatal_signal(struct heap_trace *trace, uint64_t *number)
{
	return read_array(trace, "fatal_signal", number, sizeof(*number), 1);
}

int heap_trace_read_calls(struct heap_trace *trace, uint64_t *calls)
{
	const int processors = libbpf_num_possible_cpus();
	const uint32_t zero = 0;
	uint64_t counts[processors];
	int error = bpf_map_lookup_elem(heap_trace_map_fd(trace, "probed_calls"), &zero, counts);

	*calls = 0;
	for (int i = 0; i < processors && !error; i++)
		*calls += counts[i];
	return error ? trace_fail(error, "the map 'probed_calls' cannot be read") : 0;
}

/* --- survivors: blocks folded by stack, a batch at a time, in an open hash table that is then made dense --- */

struct folding {
	struct heap_survivors *table;
	size_t capacity, used; /* capacity: a power of two; an entry without blocks is free */
};

static struct heap_survivors *place_of(const struct folding *folding, uint64_t stack)
{
	size_t i = (size_t)(stack ^ stack >> 32) & (folding->capacity - 1);

	while (folding->table[i].blocks && folding->table[i].stack != stack)
		i = (i + 1) & (folding->capacity - 1);
	return &folding->table[i];
}

static int make_room(struct folding *folding)
{
	struct folding larger = {.capacity = folding->capacity * 2, .used = folding->used};

	if (folding->used * 2 < folding->capacity)
		return 0;
	larger.table = calloc(larger.capacity, sizeof(*larger.table));
	if (!larger.table)
		return -ENOMEM;
	for (size_t i = 0; i < folding->capacity; i++)
		if (folding->table[i].blocks)
			*place_of(&larger, folding->table[i].stack) = folding->table[i];
	free(folding->table);
	*folding = larger;
	return 0;
}

static int fold(struct folding *folding, const struct heap_block *block, uint64_t since_ns, uint64_t third_ns)
{
	if (block->time_ns < since_ns)
		return 0;
	int error = make_room(folding);
	if (error)
		return error;
	struct heap_survivors *survivors = place_of(folding, block->stack);
	uint64_t third = block->born_ns <= since_ns ? 0 : (block->born_ns - since_ns) / third_ns;

	if (!survivors->blocks) {
		folding->used++;
		survivors->stack = block->stack;
		survivors->oldest_ns = block->born_ns;
	}
	third = third > 2 ? 2 : third;
	survivors->blocks++;
	survivors->bytes += block->bytes;
	survivors->third_blocks[third]++;
	survivors->third_bytes[third] += block->bytes;
	if (block->born_ns < survivors->oldest_ns)
		survivors->oldest_ns = block->born_ns;
	return 0;
}

static size_t make_dense(struct folding *folding)
{
	size_t dense = 0;

	for (size_t i = 0; i < folding->capacity; i++)
		if (folding->table[i].blocks)
			folding->table[dense++] = folding->table[i];
	return dense;
}

int heap_trace_read_survivors(struct heap_trace *trace, uint64_t since_ns, uint64_t now_ns,
			      const struct heap_survivors **survivors, size_t *count)
{
	struct folding folding = {.capacity = FIRST_SURVIVORS, .table = calloc(FIRST_SURVIVORS, sizeof(*folding.table))};
	const uint64_t third_ns = now_ns > since_ns ? (now_ns - since_ns) / 3 + 1 : 1;
	const int fd = heap_trace_map_fd(trace, "blocks");
	uint64_t position;
	int more = 1, begun = 0, error = folding.table ? 0 : -ENOMEM;

	while (more && !error) {
		size_t read;

		more = records_read_some(&trace->batch, fd, sizeof(uint64_t), sizeof(struct heap_block), BLOCKS_AT_ONCE, &position,
					 &begun, &read);
		error = more < 0 ? more : 0;
		for (size_t i = 0; i < read && !error; i++)
			error = fold(&folding, (const struct heap_block *)trace->batch.values + i, since_ns, third_ns);
	}
	if (error) {
		free(folding.table);
		return trace_fail(error, "the map 'blocks' cannot be read");
	}
	free(trace->survivors);
	trace->survivors = folding.table;
	*count = make_dense(&folding);
	*survivors = trace->survivors;
	return 0;
}

void heap_trace_free_readings(struct heap_trace *trace)
{
	ring_buffer__free(trace->mapping_ring);
	ring_buffer__free(trace->frame_ring);
	records_free(&trace->counters);
	records_free(&trace->older);
	records_free(&trace->batch);
	free(trace->survivors);
	free(trace->mappings.data);
	free(trace->frames.data);
}
