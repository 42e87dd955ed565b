/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "support.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 1024

static __thread char error_text[4096], libbpf_text[2048];

static int keep_libbpf_text(enum libbpf_print_level level, const char *format, va_list arguments)
{
	size_t used = strlen(libbpf_text);

	if (level == LIBBPF_WARN && used < sizeof(libbpf_text) - 1)
		vsnprintf(libbpf_text + used, sizeof(libbpf_text) - used, format, arguments);
	return 0;
}

void trace_begin(void)
{
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(keep_libbpf_text);
	libbpf_text[0] = error_text[0] = '\0';
}

int trace_fail(int error, const char *format, ...)
{
	va_list arguments;
	int used;

	va_start(arguments, format);
	used = vsnprintf(error_text, sizeof(error_text), format, arguments);
	va_end(arguments);
	if (used >= 0 && (size_t)used < sizeof(error_text))
		snprintf(error_text + used, sizeof(error_text) - (size_t)used, ": %s%s%s", strerror(-error),
			 libbpf_text[0] ? "\n" : "", libbpf_text);
	libbpf_text[0] = '\0';
	return error;
}

const char *trace_error(void)
{
	return error_text;
}

static int grow(struct records *records, size_t key_size, size_t value_size, size_t capacity)
{
	if (records->capacity >= capacity)
		return 0;
	void *keys = realloc(records->keys, capacity * key_size);
	if (keys)
		records->keys = keys;
	void *values = realloc(records->values, capacity * value_size);
	if (values)
		records->values = values;
	if (!keys || !values)
		return -ENOMEM;
	records->capacity = capacity;
	return 0;
}

int records_read(struct records *records, int fd, const char *name, size_t key_size, size_t value_size, size_t *count)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	uint64_t position; /* the kernel's own cursor: a bucket's number */
	void *from = NULL;
	size_t have = 0, room = BATCH;

	for (;;) {
		int error = grow(records, key_size, value_size, have + room);
		if (error)
			return trace_fail(error, "no memory to read the map '%s'", name);
		uint32_t n = (uint32_t)room;
		error = bpf_map_lookup_batch(fd, from, &position, (char *)records->keys + have * key_size,
					     (char *)records->values + have * value_size, &n, &options);
		if (error == -ENOSPC) { /* one bucket holds more than there is room for: nothing was read */
			room *= 2;
			continue;
		}
		if (error && error != -ENOENT)
			return trace_fail(error, "the map '%s' cannot be read", name);
		have += n;
		if (error) /* ENOENT: that was the last bucket */
			break;
		from = &position;
	}
	*count = have;
	return 0;
}

void records_free(struct records *records)
{
	free(records->keys);
	free(records->values);
}
