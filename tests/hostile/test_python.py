"""A process that is no Python and says that it is: its frames, names and tables are its own, and cost it alone."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from heap_trace import Ending, PythonCall, PythonEnding, Stack

from diagnosis.target.python_code import MAX_DECODED, MAX_LINES, MAX_TEXT, UNKNOWN, CodeReader
from diagnosis.target.python_layouts import TABLE
from tests.hostile.running import FORGED, MIB, hostile, report
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.target.process import Process

pytestmark = pytest.mark.timeout(180)

LAYOUT = TABLE[3, 11][1]
CODES = 200
STEP = 256
TEXT_AT, LINES_AT, CODES_AT = 0x1000, 0x8000, 0x20000


class Memory:
    """Memory that a process could have: as many different functions as wanted, all with the longest of everything."""

    def __init__(self) -> None:
        self.file = os.memfd_create("memory")
        text = struct.pack("=QQqqIxxxxQ", 0, 0, MAX_TEXT, 0, 1 << 2 | 1 << 5 | 1 << 6, 0)
        os.pwrite(self.file, text + FORGED.encode("ascii", "replace").ljust(MAX_TEXT, b"x"), TEXT_AT)
        # Each byte is an entry that has no line.
        os.pwrite(self.file, struct.pack("=QQq", 0, 0, MAX_LINES) + b"\xf8" * (MAX_LINES + 64), LINES_AT)
        for number in range(CODES):
            code = bytearray(STEP)
            struct.pack_into("=Q", code, LAYOUT.qualname, TEXT_AT)
            struct.pack_into("=Q", code, LAYOUT.filename, TEXT_AT)
            struct.pack_into("=Q", code, LAYOUT.linetable, LINES_AT)
            struct.pack_into("=i", code, LAYOUT.first_line, -number)
            os.pwrite(self.file, code, CODES_AT + number * STEP)

    def open_memory(self) -> int:
        return os.dup(self.file)


@pytest.fixture
def reader() -> Iterator[CodeReader]:
    memory = Memory()
    reader = CodeReader(cast("Process", memory), LAYOUT)
    yield reader
    reader.close()
    os.close(memory.file)


def stack(code: int, offset: int) -> Stack:
    return Stack(
        (), Ending.START, python=(PythonCall(code, offset, called_by_c=False),), python_ending=PythonEnding.WHOLE
    )


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_tables_of_lines_are_not_kept(reader: CodeReader) -> None:
    """GIVEN 200 functions with the longest tables, THEN they cost a few megabytes; each took seven when it was kept."""
    before = resident()
    for number in range(CODES):
        found = reader.named({1: stack(CODES_AT + number * STEP, LAYOUT.instructions + 2 * MAX_LINES)})
        frame = found[1].frames[0]
        assert frame.function.isprintable()
        assert frame.file.isprintable()
        assert frame.line >= 0
    assert not reader.full
    assert resident() - before < 32 * MIB


def test_what_one_process_has_decoded_is_limited(reader: CodeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[int] = []
    whole = CodeReader._bytes

    def counted(self: CodeReader, at: int) -> bytes:
        tables.append(at)
        return whole(self, at)

    monkeypatch.setattr(CodeReader, "_bytes", counted)
    stacks = {unit: stack(CODES_AT, LAYOUT.instructions + 2 * unit) for unit in range(2 * MAX_DECODED // MAX_LINES)}
    reader.named(stacks)
    assert len(tables) == MAX_DECODED // MAX_LINES
    assert reader.full


def test_functions_beyond_the_limit_have_no_name_and_those_before_it_keep_theirs(
    reader: CodeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diagnosis.target.python_code.MAX_CHARACTERS", 5 * MAX_TEXT)
    found = reader.named({number: stack(CODES_AT + number * STEP, 0) for number in range(CODES)})
    functions = [each.frames[0].function for each in found.values()]
    assert reader.full
    assert functions[0] != UNKNOWN
    assert functions[-1] == UNKNOWN
    again = reader.named({1: stack(CODES_AT, 0), 2: stack(CODES_AT + (CODES - 1) * STEP, 0)})
    assert [each.frames[0].function for each in again.values()] == [functions[0], UNKNOWN]


# Offsets: those of 3.11 in diagnosis/target/python_layouts.py.
FORGER = r"""
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CODES = 1 << 17 };
uint64_t Py_Version = 0x030b0000;
char _PyRuntime[4096] __attribute__((section(".PyRuntime")));
static char interpreter[4096], thread[4096], inner[64], text[8192], table[1 << 17];
static char frames[256][128], (*codes)[256];
static void put(char *at, uint64_t value) { memcpy(at, &value, 8); }

__attribute__((noinline)) void *_PyEval_EvalFrameDefault(int n)
{
	/* A stack of its own each time, its last frame the first one's caller: it has no end. */
	for (int i = 0; i < 256; i++) {
		char *code = codes[(n * 256 + i) % CODES];
		put(frames[i] + 32, (uint64_t)code);
		put(frames[i] + 48, (uint64_t)frames[(i + 1) % 256]);
		put(frames[i] + 56, (uint64_t)code + 60000);
	}
	void *block = malloc(4096);
	__asm__ volatile("" : : "r"(block) : "memory");
	return block;
}

int main(int count, char **words)
{
	(void)count;
	codes = calloc(CODES, 256);
	put(_PyRuntime + 40, (uint64_t)interpreter);
	put(interpreter + 16, (uint64_t)thread);
	put(thread + 8, (uint64_t)thread); /* threads without end */
	put(thread + 16, (uint64_t)interpreter);
	put(thread + 160, syscall(SYS_gettid));
	put(thread + 56, (uint64_t)inner);
	put(inner + 8, (uint64_t)frames[0]);
	put(text + 16, 4096);
	put(text + 32, 1 << 2 | 1 << 5 | 1 << 6);
	memset(text + 48, 'x', 4096);
	memcpy(text + 48, words[1], strlen(words[1]));
	put(table + 16, 1 << 16);
	memset(table + 24, 0xf8, 1 << 16);
	for (int i = 0; i < CODES; i++) {
		put(codes[i] + 128, (uint64_t)text);
		put(codes[i] + 112, (uint64_t)text);
		put(codes[i] + 136, (uint64_t)table);
		put(codes[i] + 72, i);
	}
	puts("ready");
	fflush(stdout);
	for (int n = 0;; n++) {
		_PyEval_EvalFrameDefault(n);
		usleep(1000);
	}
}
"""


@pytest.mark.ebpf
def test_endless_frames_of_functions_with_the_longest_tables_are_traced(folder: Path) -> None:
    """GIVEN 131,072 functions in stacks of 256 that have no end, THEN the trace ends, and no name moves a cursor."""
    forger = compile_c(FORGER, folder / "python3.11", "-rdynamic", "-fno-omit-frame-pointer")
    with hostile(forger, FORGED) as pid:
        found = report(pid)
    assert any(frame["python"] for stack in found["stacks"] for frame in stack["frames"])
