/* SPDX-License-Identifier: MIT */
/* Numbers the different rules of an object file: its rows refer to them. */
#define _GNU_SOURCE
#include "unwind_parser.h"

#include <errno.h>
#include <stdlib.h>

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

static void enter_hashed(struct unwind_parser *parser, uint32_t number)
{
	size_t at = hash_of(&parser->rows->rules[number]) & (parser->n_hashed - 1);

	while (parser->hashed[at])
		at = (at + 1) & (parser->n_hashed - 1);
	parser->hashed[at] = number + 1;
}

int unwind_rule_number(struct unwind_parser *parser, const struct unwind_rule *rule, uint32_t *number)
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
