/* SPDX-License-Identifier: MIT */
/* The tables of one process, in the memory of the program's maps. */
#define _GNU_SOURCE
#include "unwind_tables.h"
#include "support.h"
#include "unwind.h"
#include "unwind_rows.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOW_BYTES ((1u << UNWIND_CHUNK_BITS) - 1)

struct unwind_tables {
	struct unwind_block *rows;
	struct unwind_chunk *chunks;
	struct unwind_rule *rules;
	struct unwind_module *modules;
	struct unwind_control *control;
	void *mapped[UNWIND_MAPS];
	size_t sizes[UNWIND_MAPS];
	struct unwind_capacity capacity, used;
};

void unwind_map_layouts(struct unwind_map_layout *layouts, const struct unwind_capacity *capacity)
{
	layouts[UNWIND_ROWS] = (struct unwind_map_layout){
		"unwind_rows", sizeof(struct unwind_block), capacity->rows / UNWIND_BLOCK_ROWS + 1,
	};
	layouts[UNWIND_CHUNKS] = (struct unwind_map_layout){
		"unwind_chunks", sizeof(struct unwind_chunk), capacity->chunks + 1,
	};
	layouts[UNWIND_RULES] = (struct unwind_map_layout){
		"unwind_rules", sizeof(struct unwind_rule), capacity->rules + 1,
	};
	layouts[UNWIND_MODULES] = (struct unwind_map_layout){
		"unwind_modules", sizeof(struct unwind_module), 2 * UNWIND_MAX_MODULES,
	};
	layouts[UNWIND_CONTROL] = (struct unwind_map_layout){"unwind_control", sizeof(struct unwind_control), 1};
}

int unwind_tables_open(struct unwind_tables **result, const int *fds, const struct unwind_capacity *capacity)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct unwind_tables *tables = calloc(1, sizeof(*tables));
	struct unwind_map_layout layouts[UNWIND_MAPS];

	if (!tables)
		return trace_fail(-ENOMEM, "no memory for the unwind tables");
	unwind_map_layouts(layouts, capacity);
	for (int i = 0; i < UNWIND_MAPS; i++) {
		size_t size = (layouts[i].value_size * layouts[i].entries + page - 1) / page * page;
		void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, fds ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS,
				fds ? fds[i] : -1, 0);

		if (at == MAP_FAILED) {
			int error = -errno;

			unwind_tables_close(tables);
			return trace_fail(error, "the map '%s' cannot be written", layouts[i].name);
		}
		tables->mapped[i] = at;
		tables->sizes[i] = size;
	}
	tables->rows = tables->mapped[UNWIND_ROWS];
	tables->chunks = tables->mapped[UNWIND_CHUNKS];
	tables->rules = tables->mapped[UNWIND_RULES];
	tables->modules = tables->mapped[UNWIND_MODULES];
	tables->control = tables->mapped[UNWIND_CONTROL];
	tables->capacity = *capacity;
	*result = tables;
	return 0;
}

void unwind_tables_close(struct unwind_tables *tables)
{
	if (!tables)
		return;
	for (int i = 0; i < UNWIND_MAPS; i++)
		if (tables->mapped[i])
			munmap(tables->mapped[i], tables->sizes[i]);
	free(tables);
}

static int same(const struct unwind_rule *a, const struct unwind_rule *b)
{
	return a->kind == b->kind && a->cfa == b->cfa && a->ra == b->ra && a->fp == b->fp;
}

static int by_rule(const void *left, const void *right, void *context)
{
	const struct unwind_rule *rules = context, *a = &rules[*(const uint32_t *)left], *b = &rules[*(const uint32_t *)right];

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->cfa != b->cfa)
		return a->cfa < b->cfa ? -1 : 1;
	if (a->ra != b->ra)
		return a->ra < b->ra ? -1 : 1;
	return a->fp < b->fp ? -1 : a->fp > b->fp;
}

/* `numbers`: this object's rules as the process numbers them. New ones are written, and taken by the caller. */
static int number_rules(struct unwind_tables *tables, const struct unwind_rows *rows, uint32_t *numbers, uint32_t *n_rules)
{
	struct unwind_rule *rules = tables->rules;
	uint32_t known = tables->used.rules, *sorted = malloc((known + 1) * sizeof(*sorted));

	if (!sorted)
		return -ENOMEM;
	for (uint32_t i = 0; i < known; i++)
		sorted[i] = i;
	qsort_r(sorted, known, sizeof(*sorted), by_rule, rules);
	*n_rules = known;
	for (size_t i = 0; i < rows->n_rules; i++) {
		uint32_t low = 0, high = known;

		if (*n_rules == tables->capacity.rules)
			break;
		rules[*n_rules] = rows->rules[i]; /* where it will be if it is new: the comparison needs it there */
		while (low < high) {
			uint32_t middle = (low + high) / 2;

			if (by_rule(&sorted[middle], n_rules, rules) < 0)
				low = middle + 1;
			else
				high = middle;
		}
		if (low < known && same(&rules[sorted[low]], &rows->rules[i]))
			numbers[i] = sorted[low];
		else
			numbers[i] = (*n_rules)++;
	}
	free(sorted);
	return *n_rules < tables->capacity.rules ? 0 : -ENOSPC;
}

int unwind_tables_add(struct unwind_tables *tables, const struct unwind_rows *rows, uint32_t *first_chunk, uint32_t *chunks)
{
	const size_t n_chunks = unwind_rows_chunks(rows);
	struct unwind_capacity *used = &tables->used;
	uint32_t *numbers, n_rules;

	*first_chunk = used->chunks;
	*chunks = (uint32_t)n_chunks;
	if (rows->n_rows > tables->capacity.rows - used->rows || n_chunks > tables->capacity.chunks - used->chunks)
		return trace_fail(-ENOSPC, "no room for %zu rows", rows->n_rows);
	numbers = reallocarray(NULL, rows->n_rules, sizeof(*numbers));
	int error = numbers ? number_rules(tables, rows, numbers, &n_rules) : -ENOMEM;
	if (error) {
		free(numbers);
		return trace_fail(error, "no room for %zu rules", rows->n_rules);
	}

	size_t row = 0;
	for (size_t chunk = 0; chunk < n_chunks; chunk++) {
		struct unwind_chunk *place = &tables->chunks[used->chunks + chunk];
		size_t first = row;

		for (; row < rows->n_rows && rows->rows[row].address >> UNWIND_CHUNK_BITS == chunk; row++) {
			uint32_t at = used->rows + (uint32_t)row;

			tables->rows[at / UNWIND_BLOCK_ROWS].rows[at % UNWIND_BLOCK_ROWS] =
				numbers[rows->rows[row].rule] << UNWIND_RULE_SHIFT | (rows->rows[row].address & LOW_BYTES);
		}
		place->first = used->rows + (uint32_t)first;
		place->count = (uint32_t)(row - first);
	}
	free(numbers);
	used->rows += (uint32_t)row;
	used->chunks += (uint32_t)n_chunks;
	used->rules = n_rules;
	return 0;
}

int unwind_tables_set_modules(struct unwind_tables *tables, const struct unwind_module *modules, size_t count)
{
	struct unwind_control *control = tables->control;
	uint32_t next = control->generation + 1, half = next & 1;

	if (count > UNWIND_MAX_MODULES)
		return trace_fail(-E2BIG, "%zu executable mappings: there is room for %d", count, UNWIND_MAX_MODULES);
	for (size_t i = 0; i < count; i++) {
		if (modules[i].start >= modules[i].end || (i && modules[i].start < modules[i - 1].end))
			return trace_fail(-EINVAL, "executable mappings that are not in order");
		tables->modules[i * 2 + half] = modules[i];
	}
	control->counts[half] = (uint32_t)count;
	__atomic_store_n(&control->generation, next, __ATOMIC_RELEASE);
	return 0;
}

void unwind_tables_clear(struct unwind_tables *tables)
{
	/* Twice: a walk that is under way takes it that what it reads may have been written over. */
	for (int i = 0; i < 2; i++)
		unwind_tables_set_modules(tables, NULL, 0);
	tables->used = (struct unwind_capacity){0};
}

int unwind_tables_take_missing(struct unwind_tables *tables)
{
	return (int)__atomic_exchange_n(&tables->control->missing, 0, __ATOMIC_ACQ_REL);
}

int unwind_tables_find(const struct unwind_tables *tables, uint64_t address, struct unwind_rule *rule)
{
	const uint32_t half = tables->control->generation & 1, count = tables->control->counts[half];
	const struct unwind_module *module = NULL;

	*rule = (struct unwind_rule){.kind = UNWIND_NONE};
	for (uint32_t i = 0; i < count && !module; i++)
		if (address >= tables->modules[i * 2 + half].start && address < tables->modules[i * 2 + half].end)
			module = &tables->modules[i * 2 + half];
	if (!module)
		return -1;
	uint64_t in_object = address - module->bias, chunk = in_object >> UNWIND_CHUNK_BITS;
	if (chunk >= module->chunks)
		return 0;
	const struct unwind_chunk *place = &tables->chunks[module->first_chunk + chunk];
	uint32_t row = place->first - 1;

	for (uint32_t i = place->first; i < place->first + place->count; i++)
		if ((tables->rows[i / UNWIND_BLOCK_ROWS].rows[i % UNWIND_BLOCK_ROWS] & LOW_BYTES) <= (in_object & LOW_BYTES))
			row = i;
	*rule = tables->rules[tables->rows[row / UNWIND_BLOCK_ROWS].rows[row % UNWIND_BLOCK_ROWS] >> UNWIND_RULE_SHIFT];
	return 0;
}

void unwind_tables_used(const struct unwind_tables *tables, struct unwind_capacity *used)
{
	*used = tables->used;
}
