/* SPDX-License-Identifier: MIT */
/*
 * A search index: for each word the documents that it occurs in. The documents are edited all the time, and each edit
 * puts the document into the index again.
 */
#include "service.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_PER_SECOND 20
#define EDITS_PER_ROUND 5
#define DOCUMENTS 256
#define WORDS 64
#define WORDS_PER_DOCUMENT 16
#define POSTINGS_PER_STEP 16

struct posting {
	uint32_t document, version;
	char excerpt[56];
};

struct postings {
	struct posting *list;
	size_t used, size;
};

static struct postings words[WORDS];

KEEP_FRAME static void postings_append(struct postings *postings, const struct posting *posting)
{
	if (postings->used == postings->size) {
		const size_t size = postings->size + POSTINGS_PER_STEP;
		struct posting *list = realloc(postings->list, size * sizeof(*list));

		if (!list)
			service_out_of_memory();
		if (postings->list)
			ledger_freed(postings->size * sizeof(*list));
		ledger_taken(size * sizeof(*list));
		postings->list = list;
		postings->size = size;
	}
	postings->list[postings->used++] = *posting;
	KEEP_CALL();
}

/* A document keeps its words. */
static struct postings *word_of(uint32_t document, uint32_t position)
{
	return &words[(document * 2654435761U >> position) % WORDS];
}

KEEP_FRAME static void index_add(uint32_t document, uint32_t version)
{
	struct posting posting = {.document = document, .version = version};

	memset(posting.excerpt, 'e', sizeof(posting.excerpt));
	for (uint32_t position = 0; position < WORDS_PER_DOCUMENT; position++)
		postings_append(word_of(document, position), &posting);
	KEEP_CALL();
}

int main(int argc, char **argv)
{
	size_t needed = 0;

	service_open(argc, argv);
	for (uint32_t document = 0; document < DOCUMENTS; document++)
		index_add(document, 1);
	/* As many documents as now, with as many words: the index needs no more than this later on. */
	for (int word = 0; word < WORDS; word++)
		needed += words[word].size * sizeof(struct posting);
	for (uint32_t edits = 0;;) {
		service_wait(ROUNDS_PER_SECOND);
		for (int i = 0; i < EDITS_PER_ROUND; i++, edits++)
			index_add(edits % DOCUMENTS, 2 + edits / DOCUMENTS);
		service_done(needed, WORDS, 1);
	}
}
