/* SPDX-License-Identifier: MIT */
/*
 * A search index: a log of postings, each of a word in a version of a document. The log is kept in segments, of which the
 * newest grows. Documents are edited all the time, and each edit puts the document into the index again.
 */
#include "service.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_PER_SECOND 20
#define EDITS_PER_ROUND 5
#define DOCUMENTS 256
#define WORDS_PER_DOCUMENT 16
#define POSTINGS_PER_SEGMENT 256
#define POSTINGS_PER_STEP 16

struct posting {
	uint32_t document, version;
	char excerpt[56];
};

struct segment {
	struct segment *older;
	size_t used, size;
	int is_superseded;
	struct posting postings[];
};

static struct segment *newest;
static uint32_t versions[DOCUMENTS];

static size_t segment_bytes(size_t size)
{
	return sizeof(struct segment) + size * sizeof(struct posting);
}

/* Room for one posting more: in the newest segment, which may move, or in another where that is full. */
KEEP_FRAME static struct posting *postings_append(void)
{
	struct segment *segment = newest && newest->used < POSTINGS_PER_SEGMENT ? newest : NULL;
	const size_t size = segment ? segment->size : 0;

	if (!segment || segment->used == size) {
		segment = realloc(segment, segment_bytes(size + POSTINGS_PER_STEP));
		if (!segment)
			service_out_of_memory();
		if (size)
			ledger_freed(segment_bytes(size));
		else
			*segment = (struct segment){.older = newest};
		ledger_taken(segment_bytes(size + POSTINGS_PER_STEP));
		segment->size = size + POSTINGS_PER_STEP;
		newest = segment;
	}
	KEEP_CALL();
	return &segment->postings[segment->used++];
}

KEEP_FRAME static void index_add(uint32_t document, uint32_t version)
{
	versions[document] = version;
	for (int word = 0; word < WORDS_PER_DOCUMENT; word++) {
		struct posting *posting = postings_append();

		posting->document = document;
		posting->version = version;
		memset(posting->excerpt, 'e', sizeof(posting->excerpt));
	}
	KEEP_CALL();
}

/* True where nothing in a full segment is of a newest version any more: it remains so. */
static int is_superseded(struct segment *segment)
{
	if (segment->is_superseded || segment->used < POSTINGS_PER_SEGMENT)
		return segment->is_superseded;
	for (size_t i = 0; i < segment->used; i++)
		if (segment->postings[i].version == versions[segment->postings[i].document])
			return 0;
	segment->is_superseded = 1;
	return 1;
}

int main(int argc, char **argv)
{
	service_open(argc, argv);
	for (uint32_t edits = 0;;) {
		service_wait(ROUNDS_PER_SECOND);
		for (int i = 0; i < EDITS_PER_ROUND; i++, edits++)
			index_add(edits % DOCUMENTS, 1 + edits / DOCUMENTS);
		size_t bytes = 0, blocks = 0;
		for (struct segment *segment = newest; segment; segment = segment->older) {
			if (!is_superseded(segment)) {
				bytes += segment_bytes(segment->size);
				blocks++;
			}
		}
		service_done(bytes, blocks, edits > DOCUMENTS);
	}
}
