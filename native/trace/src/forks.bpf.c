// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Tells of every process that a followed one starts, at once: one that lives for a millisecond is seen as well. /proc,
 * which is looked at ten times a second, does not show it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "forks.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Only what is read here; libbpf finds each field where the running kernel has it. */
struct task_struct___forks {
	int pid;
	int tgid;
} __attribute__((preserve_access_index));

/* The followed processes, until they are gone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FORKS_MAX_FOLLOWED);
	__type(key, __u32);
	__type(value, __u8);
} followed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} forked_processes SEC(".maps");

/* Of forks that found no room in the ring, or whose own forks will not be told of: there was none among the followed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} untold SEC(".maps");

/* sched_process_fork(parent, child): also for new threads, which are none of our business. */
SEC("raw_tp/sched_process_fork")
int fork_happened(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct___forks *task = (const void *)ctx->args[1];
	struct forked told = {.pid = (__u32)BPF_CORE_READ(task, tgid), .parent = bpf_get_current_pid_tgid() >> 32};
	const __u32 zero = 0;
	const __u8 yes = 1;

	if ((__u32)BPF_CORE_READ(task, pid) != told.pid || !bpf_map_lookup_elem(&followed, &told.parent))
		return 0;
	long missed = bpf_map_update_elem(&followed, &told.pid, &yes, BPF_ANY);

	if (bpf_ringbuf_output(&forked_processes, &told, sizeof(told), 0) || missed) {
		__u64 *count = bpf_map_lookup_elem(&untold, &zero);

		if (count)
			__sync_fetch_and_add(count, 1);
	}
	return 0;
}

/* sched_process_free(task): a process's first thread goes last, when its number becomes free. */
SEC("raw_tp/sched_process_free")
int task_gone(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct___forks *task = (const void *)ctx->args[0];
	const __u32 pid = (__u32)BPF_CORE_READ(task, pid);

	bpf_map_delete_elem(&followed, &pid);
	return 0;
}
