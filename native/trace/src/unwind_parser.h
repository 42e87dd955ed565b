/* SPDX-License-Identifier: MIT */
/* What the parts of the parser of call frame information share: unwind_text.c reads it, unwind_rows.c sorts its rows. */
#ifndef UNWIND_PARSER_H
#define UNWIND_PARSER_H

#include "unwind_rows.h"

/* One function's (or one part's) rows in the order of the text, before all are sorted. */
struct unwind_function {
	uint64_t start, end;
	size_t first, count, order;
};

struct unwind_parser {
	struct unwind_rows *rows; /* the text's, then sorted */
	size_t capacity;
	struct unwind_function *functions;
	size_t n_functions, functions_capacity;
	uint32_t *hashed; /* rule numbers + 1, by the rule's hash */
	size_t n_hashed;
	/* of the function that is being read */
	struct unwind_rule state;
};

/* The number of a rule, as few objects have more than a thousand different ones. Negative errno where there is none. */
int unwind_rule_number(struct unwind_parser *parser, const struct unwind_rule *rule, uint32_t *number);

/* Appends the functions and rows of the text's "STACK CFI " lines, in the order of the text. 0, or a negative errno. */
int unwind_read_text(struct unwind_parser *parser, const char *text, size_t size);

#endif
