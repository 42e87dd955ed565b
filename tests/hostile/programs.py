"""Programs that leak, and that make it hard to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
static __attribute__((noinline, used)) void leak(void)
{
	char *volatile block = malloc(65536);
	for (int i = 0; i < 65536; i += 64)
		block[i] = 1;
	__asm__ volatile("" ::: "memory");
}
static inline void ready(void) { puts("ready"); fflush(stdout); }
"""

LEAKER = _HEAD + "int main(void) { ready(); for (;;) { leak(); usleep(10000); } }\n"

# Maps the first page of each file that it is given as code, and leaks.
MAPPER = (
    _HEAD
    + r"""
int main(int count, char **paths)
{
	for (int i = 1; i < count; i++)
		if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, open(paths[i], O_RDONLY), 0) == MAP_FAILED)
			perror(paths[i]);
	ready();
	for (;;) {
		leak();
		usleep(10000);
	}
}
"""
)

# Loads the library that it is given, and leaks out of its function, which calls back.
PLUGIN_HOST = (
    _HEAD
    + r"""
int main(int count, char **paths)
{
	void *library = count == 2 ? dlopen(paths[1], RTLD_NOW) : NULL;
	if (!library)
		return puts(dlerror());
	void (*tramp)(void (*)(void)) = (void (*)(void (*)(void)))dlsym(library, "tramp");
	ready();
	for (;;) {
		tramp(leak);
		usleep(2000);
	}
}
"""
)
TRAMPOLINE = 'void tramp(void (*f)(void));\nvoid tramp(void (*f)(void)) { f(); __asm__ volatile("" ::: "memory"); }\n'

# As many mappings of code as it is told, every second one of them executable.
MANY_MAPPINGS = (
    _HEAD
    + r"""
int main(int count, char **arguments)
{
	int own = open("/proc/self/exe", O_RDONLY), many = count == 2 ? atoi(arguments[1]) : 0;
	for (int i = 0; i < many; i++)
		mmap(0, 4096, i & 1 ? PROT_READ : PROT_READ | PROT_EXEC, MAP_PRIVATE, own, 0);
	ready();
	for (;;) {
		leak();
		usleep(10000);
	}
}
"""
)

# Maps twenty pieces of code at new addresses and unmaps the ones before, a hundred times a second.
CHURN = (
    _HEAD
    + r"""
int main(void)
{
	int own = open("/proc/self/exe", O_RDONLY);
	char *next = (char *)0x200000000000ul;
	void *mapped[20] = {0};
	ready();
	for (;;) {
		for (int i = 0; i < 20; i++) {
			if (mapped[i])
				munmap(mapped[i], 4096);
			mapped[i] = mmap(next += 8192, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, own, 0);
		}
		leak();
		usleep(10000);
	}
}
"""
)


def leaker_called(symbol: str) -> str:
    """A program whose leaking function has this symbol."""
    return (
        _HEAD.replace("used)) void leak(void)", "unused)) void unused(void)")
        + f"""
void hostile(void) __asm__("{symbol}");
__attribute__((noinline)) void hostile(void)
{{
	char *volatile block = malloc(100000);
	for (int i = 0; i < 100000; i += 64)
		block[i] = 1;
	__asm__ volatile("" ::: "memory");
}}
int main(void) {{ /* name */ ready(); for (;;) {{ hostile(); usleep(10000); }} }}
"""
    )


def renamed(program: Path, name: bytes, other: bytes) -> Path:
    """The program with other bytes, as many, in the place of a symbol's."""
    content = program.read_bytes()
    assert name in content
    assert len(name) == len(other)
    program.write_bytes(content.replace(name, other))
    return program


def deep_inlining(levels: int) -> str:
    """A library in assembler: the debug information of its one function holds inlined calls, one within the other."""
    entries = {
        1: (0x11, True, {0x11: 1, 0x12: 7, 0x03: 8, 0x13: 5}),  # a compile unit: low, high, name, language
        2: (0x2E, True, {0x03: 8, 0x11: 1, 0x12: 7}),  # a function
        3: (0x1D, True, {0x31: 0x13, 0x11: 1, 0x12: 7}),  # an inlined one: of which
    }
    abbreviations = "".join(
        f".uleb128 {code}; .uleb128 {tag}; .byte {int(children)}; "
        + "".join(f".uleb128 {name}; .uleb128 {form}; " for name, form in attributes.items())
        + ".uleb128 0; .uleb128 0\n"
        for code, (tag, children, attributes) in entries.items()
    )
    extent = ".quad tramp\n.quad .Lend - tramp"
    return f"""
.text
.globl tramp
.type tramp, @function
tramp:
push %rbp
mov %rsp, %rbp
call *%rdi
nop
pop %rbp
ret
.Lend:
.size tramp, . - tramp
.section .note.GNU-stack, "", @progbits
.section .debug_abbrev, "", @progbits
{abbreviations}
.uleb128 0
.section .debug_info, "", @progbits
.Lunit: .long .Lunit_end - .Lunit_start
.Lunit_start: .value 4
.long .debug_abbrev
.byte 8
.uleb128 1
{extent}
.string "deep.c"
.value 12
.Lfunction: .uleb128 2
.string "tramp"
{extent}
.rept {levels}
.uleb128 3
.long .Lfunction - .Lunit
{extent}
.endr
.rept {levels + 3}
.byte 0
.endr
.Lunit_end:
"""
