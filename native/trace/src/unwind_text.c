/* SPDX-License-Identifier: MIT */
/* Reads the text of an object file's call frame information: lines of "STACK CFI ". */
#define _GNU_SOURCE
#include "unwind_parser.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

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

/* What holds where the registers are as the text has said so far. */
static struct unwind_rule effective(struct unwind_rule rule)
{
	if (rule.kind == UNWIND_SP && rule.fp != UNWIND_UNSAVED && -rule.fp > rule.cfa)
		rule.fp = UNWIND_UNSAVED; /* popped */
	if (rule.kind != UNWIND_SP && rule.kind != UNWIND_FP)
		rule.cfa = rule.ra = rule.fp = 0;
	return rule;
}

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

static int add_row(struct unwind_parser *parser, uint64_t address)
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
	error = unwind_rule_number(parser, &rule, &number);
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

static int begin_function(struct unwind_parser *parser, uint64_t start, uint64_t size)
{
	if (start + size < start || start + size > UINT32_MAX)
		return -E2BIG;
	struct unwind_function *bigger =
		grown(parser->functions, &parser->functions_capacity, parser->n_functions, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	parser->functions = bigger;
	parser->functions[parser->n_functions] = (struct unwind_function){
		.start = start, .end = start + size, .first = parser->rows->n_rows, .order = parser->n_functions,
	};
	parser->n_functions++;
	parser->state = (struct unwind_rule){.kind = UNWIND_OTHER, .ra = INT_MAX, .fp = UNWIND_UNSAVED};
	return 0;
}

/* One line that begins with "STACK CFI ". One that does not keep to the grammar is left out. */
static int read_line(struct unwind_parser *parser, const char *at, const char *end)
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
	const struct unwind_function *function = &parser->functions[parser->n_functions - 1];
	size_t last = parser->rows->n_rows;

	if (address < function->start || address >= function->end ||
	    (function->count && address < parser->rows->rows[last - 1].address))
		return 0;
	return add_row(parser, address);
}

int unwind_read_text(struct unwind_parser *parser, const char *text, size_t size)
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
