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
#include <sys/utsname.h>

#define BATCH 4096
#define FIRST_BYTES 65536

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

int kernel_before(int major, int minor)
{
	struct utsname name;
	int own_major = 0, own_minor = 0;

	if (uname(&name) || sscanf(name.release, "%d.%d", &own_major, &own_minor) != 2)
		return 0;
	return own_major < major || (own_major == major && own_minor < minor);
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

static int read_batch(struct records *records, size_t have, int fd, size_t key_size, size_t value_size, size_t room,
		      uint64_t *position, int *begun, size_t *count)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);

	*count = 0;
	for (;; room *= 2) {
		uint32_t n = (uint32_t)room;
		int error = grow(records, key_size, value_size, have + room);

		if (error)
			return error;
		error = bpf_map_lookup_batch(fd, *begun ? position : NULL, position,
					     (char *)records->keys + have * key_size,
					     (char *)records->values + have * value_size, &n, &options);
		if (error == -ENOSPC) /* one bucket holds more than there is room for: nothing was read */
			continue;
		if (error && error != -ENOENT)
			return error;
		*begun = 1;
		*count = n;
		return !error; /* ENOENT: that was the last bucket */
	}
}

int records_read_some(struct records *records, int fd, size_t key_size, size_t value_size, size_t room,
		      uint64_t *position, int *begun, size_t *count)
{
	return read_batch(records, 0, fd, key_size, value_size, room, position, begun, count);
}

int records_read(struct records *records, int fd, const char *name, size_t key_size, size_t value_size, size_t *count)
{
	uint64_t position; /* the kernel's own cursor: a bucket's number */
	int begun = 0, more = 1;

	*count = 0;
	while (more > 0) {
		size_t read;

		more = read_batch(records, *count, fd, key_size, value_size, BATCH, &position, &begun, &read);
		*count += read;
	}
	return more ? trace_fail(more, "the map '%s' cannot be read", name) : 0;
}

void records_free(struct records *records)
{
	free(records->keys);
	free(records->values);
}

int bytes_append(void *context, void *data, size_t size)
{
	struct bytes *bytes = context;

	if (bytes->size + size > bytes->capacity) {
		size_t capacity = bytes->capacity ? bytes->capacity * 2 : FIRST_BYTES;
		unsigned char *grown = realloc(bytes->data, capacity);

		if (!grown)
			return -ENOMEM;
		bytes->data = grown;
		bytes->capacity = capacity;
	}
	memcpy(bytes->data + bytes->size, data, size);
	bytes->size += size;
	return 0;
}
