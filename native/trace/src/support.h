/* SPDX-License-Identifier: MIT */
/* What every loader here needs: errors in libbpf's own words, and whole maps read at once. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <stddef.h>

/* Call it before anything that can fail: forgets earlier errors, and listens to libbpf. */
void trace_begin(void);

/* Keeps "what: why", with what libbpf said of it, and returns `error`, a negative errno value. */
int trace_fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The text of the last failure on this thread: "" where there was none. Valid until the next call that fails. */
const char *trace_error(void);

/* The records of one hash map, as read last: key i belongs to value i. */
struct records {
	void *keys;
	void *values;
	size_t capacity;
};

int records_read(struct records *records, int fd, const char *name, size_t key_size, size_t value_size, size_t *count);
void records_free(struct records *records);

#endif
