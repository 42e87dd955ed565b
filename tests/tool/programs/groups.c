/* A server and its three workers, of the kind that its first argument names; says "ready" when they run. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 3, PAGE = 4096, HELD = 96 << 20, MIB = 1 << 20 };

static const char *kind;
static char *held;             /* taken by the server before it forks */
static int file;               /* two pages without a name */
static void *volatile sink;

static int is(const char *name) { return !strcmp(kind, name); }

__attribute__((noinline)) void handle_request(size_t size)
{
    sink = malloc(size);
    memset(sink, 1, size);
    __asm__ volatile("");
}

__attribute__((noinline)) void grow_break(void)
{
    char *more = sbrk(8 * PAGE);
    memset(more, 1, 8 * PAGE);
    __asm__ volatile("");
}

__attribute__((noinline)) void map_by_itself(int flags)
{
    char *more = (char *)syscall(SYS_mmap, NULL, 8 * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    memset(more, 1, 8 * PAGE);
    __asm__ volatile("");
}

__attribute__((noinline)) void map_pool(void)
{
    char *more = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(more, 1, 8 * PAGE);
    __asm__ volatile("");
}

/* A private mapping of a file, which is written to: its pages are the process's. */
__attribute__((noinline)) void patch_file(void)
{
    char *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    at[0] = at[PAGE] = 1;
    __asm__ volatile("");
}

/* A thirtieth of a megabyte of what the server holds, from page `step` on: read, or written to. */
static void touch(int step, int write)
{
    volatile char *at = held + (size_t)step * 8 * PAGE % HELD;
    for (int page = 0; page < 8; page++, at += PAGE) {
        char seen = *at;
        if (write) *at = seen + 1;
    }
}

static void step(int number, int i)
{
    if (is("leak") || is("recycled")) handle_request(3000);
    if (is("healthy") || is("recycled healthy")) { handle_request(3000); free(sink); }
    if (is("break") && number == 0) grow_break();
    if (is("system call") && number == 0) map_by_itself(MAP_PRIVATE);
    if (is("shared system call") && number == 0) map_by_itself(MAP_SHARED);
    if (is("pools")) map_pool();
    if (is("files")) patch_file();
    if (is("written since") || is("recycled, written since")) touch(i, 1);
    if (is("shared, filled") || is("shared, read")) touch(i, is("shared, filled"));
}

static void worker(int number, int steps)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (is("recycled healthy")) { handle_request(5 * MIB); grow_break(); }
    for (int i = 0; i < steps; i++) { step(number, i); usleep(held ? 10000 : 2000); }
    _exit(0);
}

int main(int argc, char **argv)
{
    kind = argc > 1 ? argv[1] : "leak";
    int shared = is("shared, filled") || is("shared, read");
    int flags = shared ? MAP_SHARED : MAP_PRIVATE;
    int steps = strncmp(kind, "recycled", 8) ? 1 << 30 : 350;
    if (shared || strstr(kind, "written since"))
        held = mmap(NULL, HELD, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (held && !is("shared, filled")) memset(held, 1, HELD);
    file = fileno(tmpfile());
    if (ftruncate(file, 2 * PAGE)) return 1;
    for (int i = 0; i < WORKERS; i++)
        if (!fork()) worker(i, steps);
    puts("ready");
    fflush(stdout);
    for (;;) {
        wait(NULL);
        if (!fork()) worker(WORKERS, steps);
    }
}
