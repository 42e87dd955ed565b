"""Programs that print the return addresses above them, and the stacks that become of these."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.target.debug_files import DebugFiles
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from tests.support.programs import answer, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.target.symbols import SymbolizedStack

# Prints the return addresses above itself, innermost first, and waits for a line.
WALK = """
#include <stdio.h>
void walk(int frames)
{
	void **frame = __builtin_frame_address(0);
	for (; frames; frames--, frame = frame[0])
		printf("%p\\n", frame[1]);
	fflush(stdout);
	for (int c = 0; c != '\\n' && c != EOF; c = getchar())
		;
}
"""
HEADER = "#define KEEP __attribute__((noinline))\nvoid walk(int frames);\n"
CHAIN = """
static KEEP void inner(void) { walk(3); } // in inner
static KEEP void middle(void) { inner(); } // in middle
int main(void) { middle(); return 0; } // in main
"""


def line_of(source: str, words: str) -> int:
    """Where in the compiled text these words are."""
    return next(number for number, line in enumerate(source.splitlines(), 1) if words in line)


@contextlib.contextmanager
def walked(program: Path, frames: int = 3) -> Iterator[tuple[Process, list[int]]]:
    """A running program that has printed this many return addresses."""
    with running(program) as process:
        yield Process(process.pid), [int(answer(process), 16) for _ in range(frames)]


def symbolize(program: Path, frames: int = 3, debug_files: DebugFiles | None = None) -> SymbolizedStack:
    with walked(program, frames) as (process, addresses), Symbolizer(process, debug_files) as symbolizer:
        return symbolizer.symbolize(addresses)


NO_DEBUG_FILES = DebugFiles(Path("/none"), environ={})
