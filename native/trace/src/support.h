/* SPDX-License-Identifier: MIT */
/* What every loader here needs: errors in libbpf's own words, and whole maps read at once. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <stddef.h>
#include <stdint.h>

/* Call it before anything that can fail: forgets earlier errors, and listens to libbpf. */
void trace_begin(void);

/* Keeps "what: why", with what libbpf said of it, and returns `error`, a negative errno value. */
int trace_fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The text of the last failure on this thread: "" where there was none. Valid until the next call that fails. */
const char *trace_error(void);

/* 1 on kernels older than MAJOR.MINOR. */
int kernel_before(int major, int minor);

/* The records of one hash map, as read last: key i belongs to value i. */
struct records {
	void *keys;
	void *values;
	size_t capacity;
};

/*
 * Reads about `room` further records into `records` from its start, more where one bucket of the kernel's holds more.
 * `begun` is 0 before the first call; it and `position` are the callee's own. Returns 1 while there is more, 0 at the
 * end, or a negative errno value.
 */
int records_read_some(struct records *records, int fd, size_t key_size, size_t value_size, size_t room,
		      uint64_t *position, int *begun, size_t *count);
int records_read(struct records *records, int fd, const char *name, size_t key_size, size_t value_size, size_t *count);
void records_free(struct records *records);

/* What comes out of a ring. A callback of libbpf's: `context` are the bytes, which `data` is added to. */
struct bytes {
	unsigned char *data;
	size_t size, capacity;
};

int bytes_append(void *context, void *data, size_t size);

#endif
