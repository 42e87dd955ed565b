/* SPDX-License-Identifier: MIT */
/* Attaches the loaded program to functions of files for one process, and detaches it. */
#define _GNU_SOURCE
#include "loader_internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel waits for a grace period at each uprobe that it removes: many at a time take no longer than one. */
#define DETACHING_THREADS 32

/* bpf(BPF_LINK_CREATE) for uprobe_multi, as of kernel 6.13: Debian 12's libbpf and headers do not know it yet. */
struct link_create_uprobe_multi {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t count, multi_flags, pid;
};

int heap_trace_add_code(struct heap_trace *trace, const struct heap_code *range)
{
	int error = 0;

	trace_begin();
	pthread_mutex_lock(&trace->attachments);
	if (trace->n_code_ranges == HEAP_MAX_CODE_RANGES)
		error = trace_fail(-E2BIG, "allocators in more than %d ranges of code", HEAP_MAX_CODE_RANGES);
	else if (bpf_map_update_elem(heap_trace_map_fd(trace, "allocator_code"), &trace->n_code_ranges, range, BPF_ANY))
		error = trace_fail(-errno, "the map 'allocator_code' cannot be written");
	else
		trace->n_code_ranges++;
	pthread_mutex_unlock(&trace->attachments);
	return error;
}

/* A probe's cookie, with a number of its own; 0 where there are no numbers left. */
static uint64_t number_probe(struct heap_trace *trace, const struct heap_trace_probe *probe)
{
	if (probe->kind == HEAP_EXIT)
		return HEAP_COOKIE(HEAP_EXIT, 0, 0, 0, 0, 0);
	if (trace->n_probes == HEAP_MAX_PROBES)
		return 0;
	return HEAP_COOKIE(probe->kind, ++trace->n_probes, probe->size, probe->count, probe->pointer, probe->flags);
}

static int attach_session(struct heap_trace *trace, int pid, const char *path, const struct heap_trace_probe *probes,
			  const uint64_t *cookies, size_t count)
{
	uint64_t offsets[count];
	union {
		struct link_create_uprobe_multi link;
		char padding[sizeof(union bpf_attr)];
	} attribute = {0};

	for (size_t i = 0; i < count; i++)
		offsets[i] = probes[i].offset;
	attribute.link = (struct link_create_uprobe_multi){
		.prog_fd = (uint32_t)bpf_program__fd(trace->session),
		.attach_type = SESSION_ATTACH_TYPE,
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
		      uint64_t offset, uint64_t cookie, int at_return)
{
	LIBBPF_OPTS(bpf_uprobe_opts, options, .bpf_cookie = cookie, .retprobe = at_return);
	struct bpf_link **links = realloc(trace->links, (trace->n_links + 1) * sizeof(struct bpf_link *));

	if (!links)
		return trace_fail(-ENOMEM, "no memory for a link");
	trace->links = links;
	struct bpf_link *link = bpf_program__attach_uprobe_opts(program, pid, path, offset, &options);
	int error = libbpf_get_error(link);
	if (error)
		return trace_fail(error, "the probe at %s+0x%llx cannot be attached", path, (unsigned long long)offset);
	trace->links[trace->n_links++] = link;
	return 0;
}

static int has_return(const struct heap_trace_probe *probe)
{
	return probe->kind != HEAP_FREE && probe->kind != HEAP_EXIT && !(probe->flags & HEAP_EXIT_PROBED);
}

static int attach_pair(struct heap_trace *trace, int pid, const char *path, const struct heap_trace_probe *probes,
		       const uint64_t *cookies, size_t count)
{
	const size_t links_before = trace->n_links;
	int error = 0;

	/* Returns first: an entry is then never counted without its return in place. */
	for (size_t i = 0; i < count && !error; i++)
		if (has_return(&probes[i]))
			error = attach_one(trace, trace->exit, pid, path, probes[i].offset, cookies[i], 1);
	for (size_t i = 0; i < count && !error; i++)
		error = attach_one(trace, trace->entry, pid, path, probes[i].offset, cookies[i], 0);
	while (error && trace->n_links > links_before)
		bpf_link__destroy(trace->links[--trace->n_links]);
	return error;
}

int heap_trace_attach(struct heap_trace *trace, int pid, const char *path, const struct heap_trace_probe *probes,
		      size_t count)
{
	int error = 0;

	trace_begin();
	if (!count)
		return trace_fail(-EINVAL, "no probes for %s", path);
	uint64_t cookies[count];
	pthread_mutex_lock(&trace->attachments);
	for (size_t i = 0; i < count && !error; i++) {
		cookies[i] = number_probe(trace, &probes[i]);
		if (!cookies[i])
			error = trace_fail(-E2BIG, "more than %d probes in one process", HEAP_MAX_PROBES);
	}
	if (!error && trace->detached)
		error = trace_fail(-ECANCELED, "the probes of this trace were detached");
	if (!error)
		error = (trace->uses_session ? attach_session : attach_pair)(trace, pid, path, probes, cookies, count);
	pthread_mutex_unlock(&trace->attachments);
	return error;
}

/* --- detach --- */

struct detaching {
	struct heap_trace *trace;
	size_t next;
};

static void *detach_links(void *argument)
{
	struct detaching *work = argument;

	for (;;) {
		size_t i = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);

		if (i >= work->trace->n_links)
			return NULL;
		bpf_link__destroy(work->trace->links[i]);
	}
}

void heap_trace_detach(struct heap_trace *trace)
{
	struct detaching work = {.trace = trace};
	pthread_t threads[DETACHING_THREADS];
	int started = 0;

	pthread_mutex_lock(&trace->attachments);
	for (size_t i = 0; i < trace->n_link_fds; i++)
		close(trace->link_fds[i]);
	while (started < DETACHING_THREADS && (size_t)started + 1 < trace->n_links &&
	       !pthread_create(&threads[started], NULL, detach_links, &work))
		started++;
	detach_links(&work);
	while (started)
		pthread_join(threads[--started], NULL);
	trace->n_links = trace->n_link_fds = 0;
	trace->detached = 1;
	pthread_mutex_unlock(&trace->attachments);
}
