/* SPDX-License-Identifier: MIT */
/* The text of an object file's call frame information becomes rows, sorted by address. */
#define _GNU_SOURCE
#include "unwind_rows.h"
#include "support.h"
#include "unwind.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Compilers align functions by 16 bytes: a smaller gap is padding, which is never called from, and needs no row. */
#define PADDING 15

/* One function's (or one part's) rows in the order of the text, before all are sorted. */
struct function {
	uint64_t start, end;
	size_t first, count, order;
};

struct parser {
	struct unwind_rows *rows; /* the text's, then sorted */
	size_t capacity;
	struct function *functions;
	size_t n_functions, functions_capacity;
	uint32_t *hashed; /* rule numbers + 1, by the rule's hash */
	size_t n_hashed;
	/* of the function that is being read */
	struct unwind_rule state;
};

static void *grown(void *array, size_t *capacity, size_t count, size_t size)
{
	if (count < *capacity)
		return array;
	size_t more = *capacity ? *capacity * 2 : 1024;
	void *bigger = reallocarray(array, more, size);

	if (bigger)
		*capacity = more;
	return bigger;
}

/* --- rules --- */

static uint32_t hash_of(const struct unwind_rule *rule)
{
	uint64_t hash = (uint32_t)rule->kind;

	hash = (hash ^ (uint32_t)rule->cfa) * 0x9E3779B97F4A7C15ULL;
	hash = (hash ^ (hash >> 32) ^ (uint32_t)rule->ra) * 0x9E3779B97F4A7C15ULL;
	hash = (hash ^ (hash >> 32) ^ (uint32_t)rule->fp) * 0x9E3779B97F4A7C15ULL;
	return (uint32_t)(hash >> 32);
}

static int same(const struct unwind_rule *a, const struct unwind_rule *b)
{
	return a->kind == b->kind && a->cfa == b->cfa && a->ra == b->ra && a->fp == b->fp;
}

static void enter_hashed(struct parser *parser, uint32_t number)
{
	size_t at = hash_of(&parser->rows->rules[number]) & (parser->n_hashed - 1);

	while (parser->hashed[at])
		at = (at + 1) & (parser->n_hashed - 1);
	parser->hashed[at] = number + 1;
}

/* The number of a rule, as few objects have more than a thousand different ones. */
static int number_of(struct parser *parser, const struct unwind_rule *rule, uint32_t *number)
{
	struct unwind_rows *rows = parser->rows;

	if (rows->n_rules * 2 >= parser->n_hashed) {
		size_t n = parser->n_hashed ? parser->n_hashed * 2 : 1024;
		uint32_t *hashed = calloc(n, sizeof(*hashed));
		struct unwind_rule *rules = reallocarray(rows->rules, n / 2 + 1, sizeof(*rules));

		if (rules)
			rows->rules = rules;
		if (!hashed || !rules) {
			free(hashed);
			return -ENOMEM;
		}
		free(parser->hashed);
		parser->hashed = hashed;
		parser->n_hashed = n;
		for (uint32_t i = 0; i < rows->n_rules; i++)
			enter_hashed(parser, i);
	}
	for (size_t at = hash_of(rule) & (parser->n_hashed - 1); parser->hashed[at]; at = (at + 1) & (parser->n_hashed - 1))
		if (same(&rows->rules[parser->hashed[at] - 1], rule)) {
			*number = parser->hashed[at] - 1;
			return 0;
		}
	if (rows->n_rules == UNWIND_MAX_RULES)
		return -E2BIG;
	*number = (uint32_t)rows->n_rules;
	rows->rules[rows->n_rules++] = *rule;
	enter_hashed(parser, *number);
	return 0;
}

/* What holds where the registers are as the text has said so far. */
static struct unwind_rule effective(struct unwind_rule rule)
{
	if (rule.kind == UNWIND_SP && rule.fp != UNWIND_UNSAVED && -rule.fp > rule.cfa)
		rule.fp = UNWIND_UNSAVED; /* popped */
	if (rule.kind != UNWIND_SP && rule.kind != UNWIND_FP)
		rule.cfa = rule.ra = rule.fp = 0;
	return rule;
}

/* --- text --- */

struct word {
	const char *text;
	size_t size;
};

static struct word next_word(const char **at, const char *end)
{
	struct word word;

	while (*at < end && **at == ' ')
		++*at;
	word.text = *at;
	while (*at < end && **at != ' ')
		++*at;
	word.size = (size_t)(*at - word.text);
	return word;
}

static int is(struct word word, const char *text)
{
	return word.size == strlen(text) && !memcmp(word.text, text, word.size);
}

static int read_hex(struct word word, uint64_t *value)
{
	*value = 0;
	for (size_t i = 0; i < word.size; i++) {
		char c = word.text[i];
		unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;

		if (digit > 15 || *value >> 60)
			return -EINVAL;
		*value = *value << 4 | digit;
	}
	return word.size ? 0 : -EINVAL;
}

static int read_offset(struct word word, int *value)
{
	long total = 0;
	size_t i = word.size && word.text[0] == '-';
	int negative = i == 1;

	if (i == word.size)
		return -EINVAL;
	for (; i < word.size; i++) {
		if (word.text[i] < '0' || word.text[i] > '9' || total > INT_MAX / 16)
			return -EINVAL;
		total = total * 10 + (word.text[i] - '0');
	}
	*value = (int)(negative ? -total : total);
	return 0;
}

#define MAX_WORDS 5

/* ".cfa -16 + ^": saved at that offset from the CFA */
static int is_slot(const struct word *words, size_t n, int *offset)
{
	return n == 4 && is(words[0], ".cfa") && !read_offset(words[1], offset) && is(words[2], "+") && is(words[3], "^") &&
	       *offset;
}

static void set_rule(struct unwind_rule *state, struct word name, const struct word *words, size_t n)
{
	int offset;

	if (is(name, ".cfa:")) {
		int sp = n && (is(words[0], "$rsp") || is(words[0], "sp"));
		int fp = n && (is(words[0], "$rbp") || is(words[0], "x29"));

		state->kind = UNWIND_OTHER;
		/* What follows are expressions, which are not written: this row stays, and holds once the frame is set up. */
		if (n == 3 && is(words[0], "$r10") && is(words[1], "0"))
			state->kind = UNWIND_REALIGNED;
		if (n == 3 && (sp || fp) && !read_offset(words[1], &offset) && is(words[2], "+")) {
			state->kind = sp ? UNWIND_SP : UNWIND_FP;
			state->cfa = offset;
		}
	} else if (is(name, ".ra:")) {
		state->ra = is_slot(words, n, &offset) ? offset : n == 1 && is(words[0], "x30") ? UNWIND_UNSAVED : INT_MIN;
	} else if (is(name, "$rbp:") || is(name, "x29:")) {
		state->fp = is_slot(words, n, &offset) ? offset : n == 1 && !memcmp(words[0].text, name.text, words[0].size) &&
			    words[0].size + 1 == name.size ? UNWIND_UNSAVED : INT_MIN;
	}
}

static int add_row(struct parser *parser, uint64_t address)
{
	struct unwind_rows *rows = parser->rows;
	struct unwind_rule rule = parser->state;
	uint32_t number;
	int error;

	if (rule.ra == INT_MAX)
		rule.kind = UNWIND_START; /* no return address was ever given: it is undefined */
	else if (rule.ra == INT_MIN || rule.fp == INT_MIN)
		rule.kind = UNWIND_OTHER;
	rule = effective(rule);
	error = number_of(parser, &rule, &number);
	if (error)
		return error;
	struct unwind_row *bigger = grown(rows->rows, &parser->capacity, rows->n_rows, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	rows->rows = bigger;
	rows->rows[rows->n_rows++] = (struct unwind_row){(uint32_t)address, number};
	parser->functions[parser->n_functions - 1].count++;
	return 0;
}

static int begin_function(struct parser *parser, uint64_t start, uint64_t size)
{
	if (start + size < start || start + size > UINT32_MAX)
		return -E2BIG;
	struct function *bigger =
		grown(parser->functions, &parser->functions_capacity, parser->n_functions, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	parser->functions = bigger;
	parser->functions[parser->n_functions] = (struct function){
		.start = start, .end = start + size, .first = parser->rows->n_rows, .order = parser->n_functions,
	};
	parser->n_functions++;
	parser->state = (struct unwind_rule){.kind = UNWIND_OTHER, .ra = INT_MAX, .fp = UNWIND_UNSAVED};
	return 0;
}

/* One line that begins with "STACK CFI ". One that does not keep to the grammar is left out. */
static int read_line(struct parser *parser, const char *at, const char *end)
{
	struct word word = next_word(&at, end), name = {0}, words[MAX_WORDS];
	int begins = is(word, "INIT"), error;
	uint64_t address, size = 0;
	size_t n = 0;

	if (begins)
		word = next_word(&at, end);
	if (read_hex(word, &address) || (begins && read_hex(next_word(&at, end), &size)))
		return 0;
	if (begins) {
		error = begin_function(parser, address, size);
		if (error)
			return error;
	}
	if (!parser->n_functions)
		return 0;
	for (word = next_word(&at, end); word.size; word = next_word(&at, end)) {
		if (word.text[word.size - 1] == ':') {
			set_rule(&parser->state, name, words, n);
			name = word;
			n = 0;
		} else if (n < MAX_WORDS) {
			words[n++] = word;
		}
	}
	set_rule(&parser->state, name, words, n);
	const struct function *function = &parser->functions[parser->n_functions - 1];
	size_t last = parser->rows->n_rows;

	if (address < function->start || address >= function->end ||
	    (function->count && address < parser->rows->rows[last - 1].address))
		return 0;
	return add_row(parser, address);
}

static int read_text(struct parser *parser, const char *text, size_t size)
{
	static const char prefix[] = "STACK CFI ";
	const char *end = text + size;

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *line_end = newline ? newline : end;
		int error = 0;

		if (line_end > text && line_end[-1] == '\r')
			line_end--;
		if ((size_t)(line_end - text) > sizeof(prefix) - 1 && !memcmp(text, prefix, sizeof(prefix) - 1))
			error = read_line(parser, text + sizeof(prefix) - 1, line_end);
		if (error)
			return error;
		text = newline ? newline + 1 : end;
	}
	return 0;
}

/* --- rows --- */

static int by_start(const void *left, const void *right)
{
	const struct function *a = left, *b = right;

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
static int sort_rows(struct parser *parser)
{
	struct unwind_rows *rows = parser->rows, sorted = {0};

	sorted.rows = reallocarray(NULL, rows->n_rows + parser->n_functions + 1, sizeof(*sorted.rows));
	if (!sorted.rows)
		return -ENOMEM;
	if (parser->n_functions)
		qsort(parser->functions, parser->n_functions, sizeof(*parser->functions), by_start);
	put(&sorted, 0, 0);
	for (size_t i = 0; i < parser->n_functions; i++) {
		const struct function *function = &parser->functions[i];
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

static int apply_range(struct parser *parser, const struct unwind_range *range)
{
	struct unwind_rows *rows = parser->rows;
	struct unwind_rule rule = {.kind = range->kind};
	uint64_t end = range->end;
	uint32_t number;

	if (range->start >= end || end > UINT32_MAX)
		return 0;
	size_t from = find(rows, range->start);
	if (range->fills_gap) {
		if (rows->rows[from].rule)
			return 0;
		if (from + 1 < rows->n_rows && rows->rows[from + 1].address < end)
			end = rows->rows[from + 1].address;
	}
	int error = number_of(parser, &rule, &number);
	if (error)
		return error;
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
	struct parser parser = {.rows = calloc(1, sizeof(struct unwind_rows))};
	uint32_t number;
	int error = parser.rows ? number_of(&parser, &none, &number) : -ENOMEM;

	if (!error)
		error = read_text(&parser, text, size);
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
