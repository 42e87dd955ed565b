/* SPDX-License-Identifier: MIT */
/*
 * A search index: for each word the documents that it occurs in. The documents are edited all the time, and each edit
 * puts the document into the index again.
 */
#include "service.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EDITS_PER_SECOND 100
#define DOCUMENTS 256
#define WORDS 64
#define WORDS_PER_DOCUMENT 16
#define POSTINGS_PER_STEP 32

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

KEEP_FRAME static void index_add(uint32_t document, uint32_t version)
{
	struct posting posting = {.document = document, .version = version};

	memset(posting.excerpt, 'e', sizeof(posting.excerpt));
	/* A document keeps its words: every fourth one, from its number on. */
	for (uint32_t word = 0; word < WORDS_PER_DOCUMENT; word++) {
		struct postings *postings = &words[(document + word * (WORDS / WORDS_PER_DOCUMENT)) % WORDS];

		postings_append(postings, &posting);
	}
	KEEP_CALL();
}

int main(int argc, char **argv)
{
	/* What the documents need: a posting for each word of each, with the same number for all words. */
	const size_t needed = (size_t)DOCUMENTS * WORDS_PER_DOCUMENT * sizeof(struct posting);

	service_open(argc, argv);
	for (uint32_t document = 0; document < DOCUMENTS; document++)
		index_add(document, 1);
	for (uint32_t edit = 0;; edit++) {
		service_wait(EDITS_PER_SECOND);
		index_add(edit % DOCUMENTS, 2 + edit / DOCUMENTS);
		service_done(needed, WORDS, 1);
	}
}
