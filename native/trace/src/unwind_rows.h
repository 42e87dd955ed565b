/* SPDX-License-Identifier: MIT */
/* The rows of one object file, as unwind_rows.c makes them and unwind_tables.c puts them into the maps. */
#ifndef UNWIND_ROWS_H
#define UNWIND_ROWS_H

#include "unwind.h"
#include "unwind_tables.h"

struct unwind_row {
	uint32_t address;
	uint32_t rule; /* of `rules`; 0 is UNWIND_NONE */
};

struct unwind_rows {
	struct unwind_row *rows; /* by address; the first is at 0 */
	size_t n_rows;
	struct unwind_rule *rules;
	size_t n_rules;
};

#endif
