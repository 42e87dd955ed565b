/* SPDX-License-Identifier: MIT */
/* The rows of an object file's call frame information, sorted by address. */
#define _GNU_SOURCE
#include "unwind_rows.h"
#include "support.h"
#include "unwind.h"
#include "unwind_parser.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Compilers align functions by 16 bytes: a smaller gap is padding, which is never called from, and needs no row. */
#define PADDING 15

static int by_start(const void *left, const void *right)
{
	const struct unwind_function *a = left, *b = right;

	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static void put(struct unwind_rows *rows, uint32_t address, uint32_t rule)
{
	if (rows->n_rows && rows->rows[rows->n_rows - 1].address == address)
		rows->n_rows--;
	if (!rows->n_rows || rows->rows[rows->n_rows - 1].rule != rule)
		rows->rows[rows->n_rows++] = (struct unwind_row){address, rule};
}

/* Rule 0 is UNWIND_NONE, and holds from address 0 on. Of two functions at one place, the later one in the text is taken. */
static int sort_rows(struct unwind_parser *parser)
{
	struct unwind_rows *rows = parser->rows, sorted = {0};

	sorted.rows = reallocarray(NULL, rows->n_rows + parser->n_functions + 1, sizeof(*sorted.rows));
	if (!sorted.rows)
		return -ENOMEM;
	if (parser->n_functions)
		qsort(parser->functions, parser->n_functions, sizeof(*parser->functions), by_start);
	put(&sorted, 0, 0);
	for (size_t i = 0; i < parser->n_functions; i++) {
		const struct unwind_function *function = &parser->functions[i];
		uint64_t next = i + 1 < parser->n_functions ? function[1].start : UINT64_MAX;

		for (size_t j = function->first; j < function->first + function->count; j++)
			if (rows->rows[j].address < next)
				put(&sorted, rows->rows[j].address, rows->rows[j].rule);
		if (function->end < next && next - function->end > PADDING)
			put(&sorted, (uint32_t)function->end, 0);
	}
	free(rows->rows);
	rows->rows = sorted.rows;
	rows->n_rows = sorted.n_rows;
	return 0;
}

/* The last row at or before an address: the first one is at 0. */
static size_t find(const struct unwind_rows *rows, uint64_t address)
{
	size_t low = 0, high = rows->n_rows;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (rows->rows[middle].address <= address)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Gives a rule to all of a range that has no row. */
static int fill_gaps(struct unwind_rows *rows, const struct unwind_range *range, uint32_t number)
{
	/* Only the first and the last gap can be cut. */
	struct unwind_row *made = reallocarray(NULL, rows->n_rows + 2, sizeof(*made));

	if (!made)
		return -ENOMEM;
	struct unwind_rows result = {.rows = made};
	for (size_t i = 0; i < rows->n_rows; i++) {
		const struct unwind_row *row = &rows->rows[i];
		uint64_t next = i + 1 < rows->n_rows ? row[1].address : UINT64_MAX;

		if (row->rule || next <= range->start || row->address >= range->end) {
			put(&result, row->address, row->rule);
			continue;
		}
		if (row->address < range->start)
			put(&result, row->address, 0);
		put(&result, row->address < range->start ? (uint32_t)range->start : row->address, number);
		if (next > range->end)
			put(&result, (uint32_t)range->end, 0);
	}
	free(rows->rows);
	rows->rows = result.rows;
	rows->n_rows = result.n_rows;
	return 0;
}

static int apply_range(struct unwind_parser *parser, const struct unwind_range *range)
{
	struct unwind_rows *rows = parser->rows;
	struct unwind_rule rule = {.kind = range->kind};
	uint64_t end = range->end;
	uint32_t number;

	if (rule.kind == UNWIND_FP) { /* a frame record, of the caller's frame pointer and the return address */
		rule.cfa = range->cfa;
		rule.ra = -(int)sizeof(uint64_t);
		rule.fp = 2 * rule.ra;
	} else if (rule.kind == UNWIND_GO_CALLS_C) {
		rule.cfa = range->cfa;
	}
	if (range->start >= end || end > UINT32_MAX)
		return 0;
	size_t from = find(rows, range->start);
	/* One function, which has to have none: an entry point. */
	if (range->fills_gap && rule.kind != UNWIND_FP) {
		if (rows->rows[from].rule)
			return 0;
		if (from + 1 < rows->n_rows && rows->rows[from + 1].address < end)
			end = rows->rows[from + 1].address;
	}
	int error = unwind_rule_number(parser, &rule, &number);
	if (error)
		return error;
	if (range->fills_gap && rule.kind == UNWIND_FP)
		return fill_gaps(rows, range, number);
	size_t to = find(rows, end);
	uint32_t after = rows->rows[to].rule;
	struct unwind_row *made = reallocarray(NULL, rows->n_rows + 2, sizeof(*made));

	if (!made)
		return -ENOMEM;
	struct unwind_rows result = {.rows = made};
	for (size_t i = 0; i <= from; i++)
		put(&result, rows->rows[i].address, rows->rows[i].rule);
	put(&result, (uint32_t)range->start, number);
	put(&result, (uint32_t)end, after);
	for (size_t i = to + 1; i < rows->n_rows; i++)
		put(&result, rows->rows[i].address, rows->rows[i].rule);
	free(rows->rows);
	rows->rows = result.rows;
	rows->n_rows = result.n_rows;
	return 0;
}

int unwind_rows_parse(struct unwind_rows **result, const char *text, size_t size, const struct unwind_range *ranges,
		      size_t n_ranges)
{
	const struct unwind_rule none = {.kind = UNWIND_NONE};
	struct unwind_parser parser = {.rows = calloc(1, sizeof(struct unwind_rows))};
	uint32_t number;
	int error = parser.rows ? unwind_rule_number(&parser, &none, &number) : -ENOMEM;

	if (!error)
		error = unwind_read_text(&parser, text, size);
	if (!error)
		error = sort_rows(&parser);
	for (size_t i = 0; i < n_ranges && !error; i++)
		error = apply_range(&parser, &ranges[i]);
	free(parser.functions);
	free(parser.hashed);
	if (error) {
		unwind_rows_free(parser.rows);
		return trace_fail(error, "the call frame information cannot be used");
	}
	*result = parser.rows;
	return 0;
}

size_t unwind_rows_packed_size(const struct unwind_rows *rows)
{
	return rows->n_rows * sizeof(*rows->rows) + rows->n_rules * sizeof(*rows->rules);
}

void unwind_rows_pack(const struct unwind_rows *rows, char *bytes)
{
	memcpy(bytes, rows->rows, rows->n_rows * sizeof(*rows->rows));
	memcpy(bytes + rows->n_rows * sizeof(*rows->rows), rows->rules, rows->n_rules * sizeof(*rows->rules));
}

/* What the table of a process and the walk by it rely on: rule 0 is none, and holds before and behind all code. */
static int are_sound(const struct unwind_rows *rows)
{
	const struct unwind_rule *none = &rows->rules[0];

	if (none->kind != UNWIND_NONE || none->cfa || none->ra || none->fp)
		return 0;
	if (rows->rows[0].address || rows->rows[0].rule || rows->rows[rows->n_rows - 1].rule)
		return 0;
	for (size_t i = 0; i < rows->n_rows; i++)
		if (rows->rows[i].rule >= rows->n_rules || (i && rows->rows[i].address <= rows->rows[i - 1].address))
			return 0;
	for (size_t i = 0; i < rows->n_rules; i++)
		if (rows->rules[i].kind < UNWIND_NONE || rows->rules[i].kind > UNWIND_OTHER)
			return 0;
	return 1;
}

int unwind_rows_unpack(struct unwind_rows **result, const char *bytes, size_t size, size_t n_rows)
{
	struct unwind_rows *rows = calloc(1, sizeof(*rows));

	if (!rows)
		return trace_fail(-ENOMEM, "no memory for unwind rows");
	if (!n_rows || n_rows > size / sizeof(*rows->rows))
		goto unsound;
	size_t of_rows = n_rows * sizeof(*rows->rows), of_rules = size - of_rows;

	if (!of_rules || of_rules % sizeof(*rows->rules) || of_rules / sizeof(*rows->rules) > UNWIND_MAX_RULES)
		goto unsound;
	rows->n_rows = n_rows;
	rows->n_rules = of_rules / sizeof(*rows->rules);
	rows->rows = malloc(of_rows);
	rows->rules = malloc(of_rules);
	if (!rows->rows || !rows->rules) {
		unwind_rows_free(rows);
		return trace_fail(-ENOMEM, "no memory for %zu unwind rows", n_rows);
	}
	memcpy(rows->rows, bytes, of_rows);
	memcpy(rows->rules, bytes + of_rows, of_rules);
	if (!are_sound(rows))
		goto unsound;
	*result = rows;
	return 0;
unsound:
	unwind_rows_free(rows);
	return trace_fail(-EINVAL, "these are no unwind rows");
}

void unwind_rows_free(struct unwind_rows *rows)
{
	if (!rows)
		return;
	free(rows->rows);
	free(rows->rules);
	free(rows);
}

size_t unwind_rows_count(const struct unwind_rows *rows)
{
	return rows->n_rows;
}

size_t unwind_rows_chunks(const struct unwind_rows *rows)
{
	/* The last row is the end of the last function. */
	return rows->n_rows > 1 ? (rows->rows[rows->n_rows - 1].address >> UNWIND_CHUNK_BITS) + 1 : 0;
}

struct unwind_rule unwind_rows_find(const struct unwind_rows *rows, uint64_t address)
{
	return rows->rules[rows->rows[find(rows, address)].rule];
}

int unwind_rows_get(const struct unwind_rows *rows, size_t i, uint32_t *address, struct unwind_rule *rule)
{
	if (i >= rows->n_rows)
		return 0;
	*address = rows->rows[i].address;
	*rule = rows->rules[rows->rows[i].rule];
	return 1;
}
