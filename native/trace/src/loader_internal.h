/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the loader share: loader.c opens and closes, attach.c attaches and detaches, readings.c reads,
 * reset.c empties.
 */
#ifndef LOADER_INTERNAL_H
#define LOADER_INTERNAL_H

#include "heap_cookie.h"
#include "heap_trace.h"
#include "loader.h"
#include "support.h"

#include <bpf/libbpf.h>
#include <pthread.h>

#define SESSION_ATTACH_TYPE 57 /* BPF_TRACE_UPROBE_SESSION, of kernel 6.13: Debian 12's headers do not know it */

/* One of a file's links: of a type that this libbpf knows, or a descriptor. */
struct heap_link {
	uint32_t attachment;
	int fd;
	struct bpf_link *link;
};

struct heap_trace {
	struct bpf_object *object;
	struct bpf_program *session, *entry, *exit;
	struct bpf_link *signals;
	struct ring_buffer *mapping_ring, *frame_ring;
	pthread_mutex_t attachments; /* guards what is attached: a watchdog detaches beside whatever else goes on */
	struct heap_link *links;
	size_t n_links;
	uint32_t last_attachment;
	/* By which attachment each number and each place is taken; 0: by none. */
	uint32_t probe_owners[HEAP_MAX_PROBES + 1], code_owners[HEAP_MAX_CODE_RANGES];
	int detached;
	int uses_session;
	struct records counters, older;
	struct records batch; /* of blocks */
	struct heap_survivors *survivors;
	struct bytes mappings, frames;
	struct unwind_tables *tables;
};

int heap_trace_map_fd(const struct heap_trace *trace, const char *name);

int heap_trace_add_catch_alls(struct heap_trace *trace);

/* Opens the two rings: what comes out of them is kept in `mappings` and `frames`. */
int heap_trace_open_rings(struct heap_trace *trace);
void heap_trace_free_readings(struct heap_trace *trace);

#endif
