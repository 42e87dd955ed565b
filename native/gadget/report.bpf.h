/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * What Inspektor Gadget reads: one row for each stack that has enough outstanding, copied from the counts by a timer.
 *
 * Included by program.bpf.c, after owners.bpf.h.
 */
#ifndef REPORT_BPF_H
#define REPORT_BPF_H

#define MAX_ROWS 1024
#define REPORT_EVERY_NS 400000000ULL

/* A stack is reported from the moment on at which it has this much outstanding: that bounds the rows and the metrics. */
const volatile __u64 min_outstanding = 64 * 1024;
GADGET_PARAM(min_outstanding);

struct row_key {
	__u64 stack; /* 63 bits: metrics know signed numbers only */
};

struct row {
	struct gadget_process proc;
	struct gadget_user_stack ustack;
	char function[FUNCTION_NAME];
	gadget_bytes outstanding_raw;
	__u64 blocks;
	__u64 allocations;
	__u64 frees;
	__u64 leak_percent;
	gadget_duration age_raw;
	__u64 untracked;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ROWS);
	__type(key, struct row_key);
	__type(value, struct row);
} report SEC(".maps");

GADGET_MAPITER(memleak, report);

/* Too large for the eBPF stack. The timer fills it; the probes that it interrupts have new_owner. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct row);
} new_row SEC(".maps");

/* The same for processes that end, whose end the timer interrupts. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct row);
} last_row SEC(".maps");

__u64 reported_ns = 0;

/* --- the end of a process: a metric would keep its last value for ever, so the last one is that nothing is held --- */

static void begin_last_row(const struct owner *owner)
{
	__u32 zero = 0;
	struct row *row = bpf_map_lookup_elem(&last_row, &zero);

	if (!row)
		return;
	row->proc = owner->proc;
	row->ustack = owner->ustack;
	__builtin_memcpy(row->function, owner->function, sizeof(row->function));
}

/* Its numbers are all 0: nothing else is ever written to them. */
static void end_last_row(__u64 hash)
{
	__u32 zero = 0;
	struct row *row = bpf_map_lookup_elem(&last_row, &zero);
	struct row_key key = {.stack = hash >> 1};

	if (row)
		bpf_map_update_elem(&report, &key, row, BPF_ANY);
}

/* --- while it runs --- */

static __always_inline __u64 count_untracked(void)
{
	__u32 blocks = HEAP_LOST_BLOCKS, thread = HEAP_LOST_THREAD;
	__u64 *full = bpf_map_lookup_elem(&lost, &blocks), *threads = bpf_map_lookup_elem(&lost, &thread);

	return (full ? *full : 0) + (threads ? *threads : 0);
}

static long report_stack(struct bpf_map *map, __u64 *hash, struct heap_counters *stack, void *unused)
{
	__u32 zero = 0;
	struct row *row = bpf_map_lookup_elem(&new_row, &zero);
	struct owner *owner = bpf_map_lookup_elem(&owners, hash);
	struct row_key key = {.stack = *hash >> 1};

	(void)map;
	(void)unused;
	if (!row || !owner)
		return 0;
	row->outstanding_raw = stack->allocated_bytes - stack->freed_bytes;
	/* What was reported once is reported on, or a metric would keep its last value for ever. */
	if (!owner->reported && row->outstanding_raw < min_outstanding)
		return 0;
	owner->reported = 1;
	row->proc = owner->proc;
	row->ustack = owner->ustack;
	__builtin_memcpy(row->function, owner->function, sizeof(row->function));
	row->allocations = stack->allocations;
	row->frees = stack->frees;
	row->blocks = row->allocations - row->frees;
	row->leak_percent = row->allocations ? row->blocks * 100 / row->allocations : 0;
	row->age_raw = bpf_ktime_get_ns() - owner->first_ns;
	row->untracked = count_untracked();
	bpf_map_update_elem(&report, &key, row, BPF_ANY);
	/* Forgotten meanwhile, on another processor: this row would be the last one. */
	if (!bpf_map_lookup_elem(&owners, hash)) {
		row->outstanding_raw = row->blocks = row->leak_percent = 0;
		bpf_map_update_elem(&report, &key, row, BPF_ANY);
	}
	return 0;
}

/* The record of the allocations whose stack could not be taken or kept: of no process in particular. */
static const struct heap_counters no_counts;

static const struct owner nobody = {.function = "[no stack was kept]"};

static __always_inline void keep_unknown_stack(void)
{
	const __u64 unknown = HEAP_UNKNOWN_STACK;

	bpf_map_update_elem(&counters, &unknown, &no_counts, BPF_NOEXIST);
	bpf_map_update_elem(&owners, &unknown, &nobody, BPF_NOEXIST);
}

SEC("perf_event/reporter")
int heap_report(struct bpf_perf_event_data *ctx)
{
	const __u64 now = bpf_ktime_get_ns(), last = reported_ns;

	(void)ctx;
	/* It fires on every processor, and one of them is enough. */
	if (now - last < REPORT_EVERY_NS || __sync_val_compare_and_swap(&reported_ns, last, now) != last)
		return 0;
	keep_unknown_stack();
	bpf_for_each_map_elem(&counters, report_stack, 0, 0);
	return 0;
}

#endif
