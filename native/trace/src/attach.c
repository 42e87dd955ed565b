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

#define ALL_ATTACHMENTS 0

/* bpf(BPF_LINK_CREATE) for uprobe_multi, as of kernel 6.13: Debian 12's libbpf and headers do not know it yet. */
struct link_create_uprobe_multi {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t count, multi_flags, pid;
};

/* Marks a place of the map that is free, and not the end of those in use. */
static const struct heap_code no_code = {1, 1};

static int write_code(struct heap_trace *trace, uint32_t place, const struct heap_code *range)
{
	return bpf_map_update_elem(heap_trace_map_fd(trace, "allocator_code"), &place, range, BPF_ANY)
		       ? trace_fail(-errno, "the map 'allocator_code' cannot be written")
		       : 0;
}

static int add_code(struct heap_trace *trace, uint32_t attachment, const struct heap_code *range)
{
	uint32_t place = 0;

	while (place < HEAP_MAX_CODE_RANGES && trace->code_owners[place])
		place++;
	if (place == HEAP_MAX_CODE_RANGES)
		return trace_fail(-E2BIG, "allocators in more than %d ranges of code", HEAP_MAX_CODE_RANGES);
	int error = write_code(trace, place, range);
	if (!error)
		trace->code_owners[place] = attachment;
	return error;
}

/* A probe's cookie, with a number of its own; 0 where there are no numbers left. */
static uint64_t number_probe(struct heap_trace *trace, uint32_t attachment, const struct heap_trace_probe *probe)
{
	uint32_t number = 1;

	if (probe->kind == HEAP_EXIT)
		return HEAP_COOKIE(HEAP_EXIT, 0, 0, 0, 0, 0);
	while (number <= HEAP_MAX_PROBES && trace->probe_owners[number])
		number++;
	if (number > HEAP_MAX_PROBES)
		return 0;
	trace->probe_owners[number] = attachment;
	return HEAP_COOKIE(probe->kind, number, probe->size, probe->count, probe->pointer, probe->flags);
}

/* Gives back the numbers of a file's probes, and where its code was. */
static void forget(struct heap_trace *trace, uint32_t attachment)
{
	for (uint32_t i = 0; i < HEAP_MAX_CODE_RANGES; i++)
		if (trace->code_owners[i] == attachment && !write_code(trace, i, &no_code))
			trace->code_owners[i] = 0;
	for (uint32_t i = 0; i <= HEAP_MAX_PROBES; i++)
		if (trace->probe_owners[i] == attachment)
			trace->probe_owners[i] = 0;
}

struct detaching {
	struct heap_link *links;
	size_t count, next;
};

static void *destroy_links(void *argument)
{
	struct detaching *work = argument;

	for (;;) {
		size_t i = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);

		if (i >= work->count)
			return NULL;
		if (work->links[i].fd >= 0)
			close(work->links[i].fd);
		bpf_link__destroy(work->links[i].link);
	}
}

/* Detaches the links of one file, or with ALL_ATTACHMENTS all of them. */
static void detach_links_of(struct heap_trace *trace, uint32_t attachment)
{
	pthread_t threads[DETACHING_THREADS];
	int started = 0;
	size_t kept = 0;

	/* Those that stay to the front. */
	for (size_t i = 0; i < trace->n_links && attachment != ALL_ATTACHMENTS; i++)
		if (trace->links[i].attachment != attachment) {
			struct heap_link other = trace->links[kept];

			trace->links[kept++] = trace->links[i];
			trace->links[i] = other;
		}
	struct detaching work = {.links = trace->links + kept, .count = trace->n_links - kept};
	while (started < DETACHING_THREADS && (size_t)started + 1 < work.count &&
	       !pthread_create(&threads[started], NULL, destroy_links, &work))
		started++;
	destroy_links(&work);
	while (started)
		pthread_join(threads[--started], NULL);
	trace->n_links = kept;
}

/* Where the next link goes: it counts once it is attached. */
static struct heap_link *new_link(struct heap_trace *trace, uint32_t attachment)
{
	struct heap_link *links = realloc(trace->links, (trace->n_links + 1) * sizeof(*links));

	if (!links)
		return NULL;
	trace->links = links;
	links[trace->n_links] = (struct heap_link){.attachment = attachment, .fd = -1};
	return &links[trace->n_links];
}

static int attach_session(struct heap_trace *trace, uint32_t attachment, int pid, const char *path, const struct heap_trace_probe *probes,
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
	struct heap_link *link = new_link(trace, attachment);
	if (!link)
		return trace_fail(-ENOMEM, "no memory for a link");
	int fd = (int)syscall(__NR_bpf, BPF_LINK_CREATE, &attribute, sizeof(attribute));
	if (fd < 0)
		return trace_fail(-errno, "the probes cannot be attached to %s", path);
	link->fd = fd;
	trace->n_links++;
	return 0;
}

static int attach_one(struct heap_trace *trace, uint32_t attachment, struct bpf_program *program, int pid, const char *path,
		      uint64_t offset, uint64_t cookie, int at_return)
{
	LIBBPF_OPTS(bpf_uprobe_opts, options, .bpf_cookie = cookie, .retprobe = at_return);
	struct heap_link *place = new_link(trace, attachment);

	if (!place)
		return trace_fail(-ENOMEM, "no memory for a link");
	struct bpf_link *link = bpf_program__attach_uprobe_opts(program, pid, path, offset, &options);
	int error = libbpf_get_error(link);
	if (error)
		return trace_fail(error, "the probe at %s+0x%llx cannot be attached", path, (unsigned long long)offset);
	place->link = link;
	trace->n_links++;
	return 0;
}

static int has_return(const struct heap_trace_probe *probe)
{
	return probe->kind != HEAP_FREE && probe->kind != HEAP_DISCARD && probe->kind != HEAP_EXIT && !(probe->flags & HEAP_EXIT_PROBED);
}

static int attach_pair(struct heap_trace *trace, uint32_t attachment, int pid, const char *path,
		       const struct heap_trace_probe *probes, const uint64_t *cookies, size_t count)
{
	int error = 0;

	/* Returns first: an entry is then never counted without its return in place. */
	for (size_t i = 0; i < count && !error; i++)
		if (has_return(&probes[i]))
			error = attach_one(trace, attachment, trace->exit, pid, path, probes[i].offset, cookies[i], 1);
	for (size_t i = 0; i < count && !error; i++)
		error = attach_one(trace, attachment, trace->entry, pid, path, probes[i].offset, cookies[i], 0);
	return error;
}

int heap_trace_attach(struct heap_trace *trace, int pid, const char *path, const struct heap_trace_file *file,
		      uint32_t *attachment)
{
	int error = 0;

	trace_begin();
	if (!file->n_probes)
		return trace_fail(-EINVAL, "no probes for %s", path);
	uint64_t cookies[file->n_probes];
	pthread_mutex_lock(&trace->attachments);
	*attachment = ++trace->last_attachment;
	if (trace->detached)
		error = trace_fail(-ECANCELED, "the probes of this trace were detached");
	for (size_t i = 0; i < file->n_probes && !error; i++) {
		cookies[i] = number_probe(trace, *attachment, &file->probes[i]);
		if (!cookies[i])
			error = trace_fail(-E2BIG, "more than %d probes in one process", HEAP_MAX_PROBES);
	}
	for (size_t i = 0; i < file->n_code && !error; i++)
		error = add_code(trace, *attachment, &file->code[i]);
	if (!error)
		error = (trace->uses_session ? attach_session : attach_pair)(trace, *attachment, pid, path, file->probes,
									     cookies, file->n_probes);
	if (error) {
		detach_links_of(trace, *attachment);
		forget(trace, *attachment);
	}
	pthread_mutex_unlock(&trace->attachments);
	return error;
}

void heap_trace_detach_file(struct heap_trace *trace, uint32_t attachment)
{
	pthread_mutex_lock(&trace->attachments);
	detach_links_of(trace, attachment);
	forget(trace, attachment);
	pthread_mutex_unlock(&trace->attachments);
}

void heap_trace_detach(struct heap_trace *trace)
{
	pthread_mutex_lock(&trace->attachments);
	detach_links_of(trace, ALL_ATTACHMENTS);
	trace->detached = 1;
	pthread_mutex_unlock(&trace->attachments);
}
