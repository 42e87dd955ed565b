/* SPDX-License-Identifier: MIT */
/* The map `report`: its rows by the object's own types, as lines of JSON. */
#define _GNU_SOURCE
#include "load_gadget.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS 1024
#define MAX_FRAMES 127

static const struct btf_type *resolve(const struct btf *btf, __u32 id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);

	while (btf_is_typedef(type) || btf_is_mod(type))
		type = btf__type_by_id(btf, type->type);
	return type;
}

/* The bytes of a member of a structure of the row; `path` is "member" or "member.member". */
static const unsigned char *member(const struct layout *layout, const unsigned char *row, const char *path, size_t *size)
{
	const struct btf_type *type = layout->row;
	char copy[64];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok(copy, "."); name; name = strtok(NULL, ".")) {
		const struct btf_member *members = btf_members(type);
		int found = 0;

		for (int i = 0; i < btf_vlen(type) && !found; i++)
			if (!strcmp(btf__name_by_offset(layout->btf, members[i].name_off), name)) {
				row += btf_member_bit_offset(type, (__u32)i) / 8;
				*size = (size_t)btf__resolve_size(layout->btf, members[i].type);
				type = resolve(layout->btf, members[i].type);
				found = 1;
			}
		if (!found) {
			fprintf(stderr, "load_gadget: a row has no field %s\n", path);
			exit(1);
		}
	}
	return row;
}

static uint64_t number(const struct layout *layout, const unsigned char *row, const char *path)
{
	size_t size = 0;
	const unsigned char *at = member(layout, row, path, &size);
	uint64_t value = 0;

	memcpy(&value, at, size < sizeof(value) ? size : sizeof(value)); /* little-endian, as all that this runs on */
	return value;
}

static void print_frames(int stacks, __u32 id)
{
	__u64 frames[MAX_FRAMES] = {0};

	printf("\"frames\": [");
	if (!bpf_map_lookup_elem(stacks, &id, frames))
		for (int i = 0; i < MAX_FRAMES && frames[i]; i++)
			printf("%s%" PRIu64, i ? ", " : "", (uint64_t)frames[i]);
	printf("]");
}

static void print_row(const struct layout *layout, const unsigned char *row, int stacks)
{
	size_t size = 0;

	printf("{\"comm\": \"%.15s\", \"pid\": %" PRIu64, (const char *)member(layout, row, "proc.comm", &size),
	       number(layout, row, "proc.pid"));
	printf(", \"function\": \"%.63s\"", (const char *)member(layout, row, "function", &size));
	for (const char **name = (const char *[]){"outstanding_raw", "blocks", "allocations", "frees", "leak_percent",
						  "age_raw", "untracked", NULL};
	     *name; name++)
		printf(", \"%s\": %" PRIu64, *name, number(layout, row, *name));
	printf(", ");
	print_frames(stacks, (__u32)number(layout, row, "ustack.stack_id"));
	printf("}");
}

void read_report(struct bpf_object *object, const struct layout *layout)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	const struct bpf_map *report = bpf_object__find_map_by_name(object, "report");
	const size_t value = bpf_map__value_size(report);
	unsigned char *keys = calloc(MAX_ROWS, bpf_map__key_size(report)), *values = calloc(MAX_ROWS, value);
	__u32 count = MAX_ROWS;
	__u64 position;

	if (!keys || !values)
		die("memory for the report");
	/* One call that reads and empties the map: what arrives meanwhile waits for the next reading. */
	if (bpf_map_lookup_and_delete_batch(bpf_map__fd(report), NULL, &position, keys, values, &count, &options) &&
	    errno != ENOENT)
		die("report");
	printf("[");
	for (__u32 i = 0; i < count; i++) {
		printf("%s", i ? ", " : "");
		print_row(layout, values + i * value, bpf_object__find_map_fd_by_name(object, "ig_ustack"));
	}
	printf("]\n");
	fflush(stdout);
	free(keys);
	free(values);
}
