/* SPDX-License-Identifier: MIT */
/* Shows the frames of a camera to viewers: each frame is in shared memory of its own, which a viewer can map too. */
#define _GNU_SOURCE
#include "service.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRAMES_PER_SECOND 10
#define FRAMES_SHOWN 8
#define FRAME_BYTES ((size_t)64 * 1024)

struct frame {
	int file; /* the viewers have it too */
	char *pixels;
};

static struct frame shown[FRAMES_SHOWN];

KEEP_FRAME static void frame_share(struct frame *frame, uint64_t number)
{
	frame->file = memfd_create("frame", MFD_CLOEXEC);
	if (frame->file < 0 || ftruncate(frame->file, (off_t)FRAME_BYTES))
		service_out_of_memory();
	frame->pixels = mmap(NULL, FRAME_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, frame->file, 0);
	if (frame->pixels == MAP_FAILED)
		service_out_of_memory();
	ledger_taken(FRAME_BYTES);
	memset(frame->pixels, (int)(number | 1), FRAME_BYTES);
	KEEP_CALL();
}

KEEP_FRAME static void frame_retire(struct frame *frame)
{
	if (!frame->pixels)
		return;
	close(frame->file);
	frame->pixels = NULL;
	KEEP_CALL();
}

KEEP_FRAME static void camera_show(uint64_t number)
{
	struct frame *oldest = &shown[number % FRAMES_SHOWN];

	frame_retire(oldest);
	frame_share(oldest, number);
	KEEP_CALL();
}

int main(int argc, char **argv)
{
	service_open(argc, argv);
	for (uint64_t number = 0;; number++) {
		service_wait(FRAMES_PER_SECOND);
		camera_show(number);
		const size_t current = number < FRAMES_SHOWN ? number + 1 : FRAMES_SHOWN;
		service_done(current * FRAME_BYTES, current, current == FRAMES_SHOWN);
	}
}
