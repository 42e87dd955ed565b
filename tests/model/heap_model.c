/* The state machine of native/trace/src/heap_call.h in user space, on a made-up thread's memory. */
#include <stdint.h>
#include <string.h>

#include "heap_cookie.h"
#include "heap_trace.h"

#define MEMORY_START 0x100000ULL
#define MEMORY_WORDS 8192

/* The simulation writes into these. */
uint64_t memory[MEMORY_WORDS];
uint64_t own_stack_start, own_stack_end;
uint64_t allocators[2][2]; /* start and end of the code of two objects */
uint64_t lost_returns, lost_nested, lost_declined;

struct heap_pending;
static int read_word(uint64_t address, uint64_t *word);
static int same_stack(uint64_t low, uint64_t high);
static int allocator_code(uint64_t address);
static void abandon(const struct heap_pending *pending);

#define HEAP_READ_WORD(address, word) read_word(address, (uint64_t *)(word))
#define HEAP_ALLOCATOR_CODE(address) allocator_code(address)
#define HEAP_SAME_STACK(low, high) same_stack(low, high)
#define HEAP_ABANDON(pending) abandon(pending)
#define HEAP_RETURN_SLOTS 1
#include "heap_call.h"

static struct heap_calls calls;

static int read_word(uint64_t address, uint64_t *word)
{
	if (address < MEMORY_START || address >= MEMORY_START + 8 * MEMORY_WORDS)
		return -1;
	*word = memory[(address - MEMORY_START) / 8];
	return 0;
}

static int same_stack(uint64_t low, uint64_t high)
{
	return own_stack_start <= low && low <= high && high < own_stack_end;
}

static int allocator_code(uint64_t address)
{
	for (int i = 0; i < 2; i++)
		if (address >= allocators[i][0] && address < allocators[i][1])
			return 1;
	return 0;
}

static void abandon(const struct heap_pending *pending)
{
	lost_returns++;
	if (pending->nested >= HEAP_MAX_NESTED)
		lost_nested += pending->nested;
}

void model_reset(void)
{
	memset(memory, 0, sizeof(memory));
	memset(&calls, 0, sizeof(calls));
	lost_returns = lost_nested = lost_declined = 0;
}

/* An entry into an allocating function; `call` is the simulation's number of it. Returns 1 where its return is wanted. */
int model_enter(uint64_t sp, uint64_t return_address, uint64_t trampoline, uint32_t probe, uint64_t call, int exit_probed)
{
	const struct heap_entry entry = {.sp = sp, .return_address = return_address, .trampoline = trampoline,
					 .probe = probe, .hijacks = !exit_probed};
	struct heap_pending *pending = 0;

	switch (heap_enter(&calls, &entry, &pending)) {
	case HEAP_NESTED:
		return 0;
	case HEAP_DECLINED:
		lost_declined++;
		return 0;
	case HEAP_OUTERMOST:
		break;
	}
	pending->cookie = HEAP_COOKIE(HEAP_ALLOCATE, probe, 1, 0, 0, exit_probed ? HEAP_EXIT_PROBED : 0);
	pending->bytes = call;
	return !exit_probed;
}

/* A return; gives the number of the call that it ends, 0 where none counts. */
uint64_t model_leave(uint64_t sp, uint32_t probe, int hijacked)
{
	const struct heap_pending *pending = heap_finish(&calls, sp, probe, hijacked);

	return pending ? pending->bytes : 0;
}

uint32_t model_depth(void)
{
	return calls.depth;
}
