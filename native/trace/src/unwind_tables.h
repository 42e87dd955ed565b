/* SPDX-License-Identifier: MIT */
/*
 * Unwind tables in user space: made from the text of an object file's call frame information, put into the program's
 * maps, and looked up as the program does. Errors as in loader.h.
 */
#ifndef UNWIND_TABLES_H
#define UNWIND_TABLES_H

#include <stddef.h>
#include <stdint.h>

#include "unwind.h"

/* --- one object file --- */

struct unwind_rows;

/* Code that the text says nothing of, or nothing right. Addresses count from the object's load base, as in the text. */
struct unwind_range {
	uint64_t start, end;
	int kind;      /* enum unwind_kind; UNWIND_FP: every function there keeps the frame pointer */
	int cfa;       /* of UNWIND_FP: the return address and the caller's pointer lie below it; of UNWIND_GO_CALLS_C */
	int fills_gap; /* only where there is no row */
};

/*
 * `text`: lines "STACK CFI INIT address size rules" and "STACK CFI address rules", as Breakpad's symbol files have them
 * and symbolic writes them. A rule that goes away is not written there: the slot of a frame pointer that lies below
 * the stack pointer is one. Any text is safe to parse. -E2BIG: more than 4 GiB of code, or too many different rules.
 */
int unwind_rows_parse(struct unwind_rows **rows, const char *text, size_t size, const struct unwind_range *ranges,
		      size_t n_ranges);
void unwind_rows_free(struct unwind_rows *rows);

/*
 * The same as bytes of fixed size, from one process of this machine to another: the rows by address, then their rules.
 * `unwind_rows_unpack` trusts none of them. -EINVAL: they are not of that size, rows are not in order, the first is not
 * at 0, there is code before the first or behind the last one, or a row or a rule is none that a table can hold.
 */
size_t unwind_rows_packed_size(const struct unwind_rows *rows);
void unwind_rows_pack(const struct unwind_rows *rows, char *bytes);
int unwind_rows_unpack(struct unwind_rows **rows, const char *bytes, size_t size, size_t n_rows);

/* What they will take in the maps. */
size_t unwind_rows_count(const struct unwind_rows *rows);
size_t unwind_rows_chunks(const struct unwind_rows *rows);

/* The rule in force at an address: UNWIND_NONE where there is none. */
struct unwind_rule unwind_rows_find(const struct unwind_rows *rows, uint64_t address);

/* The i-th row. Returns 0 where there is none. */
int unwind_rows_get(const struct unwind_rows *rows, size_t i, uint32_t *address, struct unwind_rule *rule);

/* --- one process --- */

struct unwind_tables;

/* How many of each fit. */
struct unwind_capacity {
	uint32_t rows, chunks, rules;
};

/* The maps that they lie in, in the order of `enum unwind_map`: their names in the program, values and entries. */
enum unwind_map { UNWIND_ROWS, UNWIND_CHUNKS, UNWIND_RULES, UNWIND_MODULES, UNWIND_CONTROL, UNWIND_MAPS };

struct unwind_map_layout {
	const char *name;
	size_t value_size;
	uint32_t entries;
};

void unwind_map_layouts(struct unwind_map_layout *layouts, const struct unwind_capacity *capacity);

/* `fds`: the program's maps; NULL for memory of this process, to look up without a program. */
int unwind_tables_open(struct unwind_tables **tables, const int *fds, const struct unwind_capacity *capacity);
void unwind_tables_close(struct unwind_tables *tables);

/* Puts an object's rows in. Sets `first_chunk` and `chunks` for its modules. -ENOSPC: no room, and nothing is changed. */
int unwind_tables_add(struct unwind_tables *tables, const struct unwind_rows *rows, uint32_t *first_chunk,
		      uint32_t *chunks);

/* The modules from now on, by rising address and without overlaps, all at once. */
int unwind_tables_set_modules(struct unwind_tables *tables, const struct unwind_module *modules, size_t count);

/* Without modules, and with all of the room free. What `unwind_tables_add` has said before holds no longer. */
void unwind_tables_clear(struct unwind_tables *tables);

/* 1 once after the program met code that is in no module. */
int unwind_tables_take_missing(struct unwind_tables *tables);

/* What the program would find for an address in the process. -1: in no module. */
int unwind_tables_find(const struct unwind_tables *tables, uint64_t address, struct unwind_rule *rule);

void unwind_tables_used(const struct unwind_tables *tables, struct unwind_capacity *used);

#endif
