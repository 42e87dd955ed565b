"""Unwind rows of code that has no call frame information, as musl's: as text of the same form."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

from diagnosis.target.parser.code_frames import CodeFrames, Intervals, TooMuch
from diagnosis.target.parser.elf import functions
from diagnosis.target.parser.elf_headers import PT_LOAD, open_elf, read_sections, read_segments
from diagnosis.target.parser.flow import NO_RETURN
from diagnosis.target.parser.linkage import Linkage
from diagnosis.target.parser.unwind_rows import described_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.target.parser.code_frames import Interval, Known
    from diagnosis.target.parser.stack_effects import Frame

# Less than this of a file's code without call frame information is a few functions in assembler, which call nothing.
LEAST_BYTES = 16 << 10
# More is no C library: a program that was stripped of it, as Go's are.
MOST_BYTES = 2 << 20
# Text of more code than a program has that musl is linked into, at about a byte of it for a byte of code.
MOST_TEXT = 16 << 20

# Compilers align functions, and what is called often to 64 bytes.
LEAST_GAP = 64

# A gap that is as short as padding has the rule before it, unless it is given one.
PADDING = 15
NO_RULE = ".cfa: $rax 0 + .ra: .cfa -8 + ^"

SYMBOLS = (".symtab", ".dynsym")


def rows_of_code(descriptor: int, text: bytes) -> bytes:
    """Text for the functions of a file of which its call frame information says nothing; b"" where there are few.

    Raises:
        ELFError: the file is no ELF file, or its symbols are not all in it, or are more than a real one has.
    """
    stream, elf = open_elf(descriptor)
    if elf.get_machine_arch() != "x64" or len(text) > MOST_TEXT:
        return b""
    if any(section.name.endswith(".gopclntab") for section in read_sections(stream, elf)):
        return b""
    segments = read_segments(stream, elf, PT_LOAD)
    base = segments[0].address if segments else 0
    gaps = _gaps([(each.address, each.address + each.size) for each in segments if each.executable], text, base)
    if not LEAST_BYTES <= _size(gaps) <= MOST_BYTES:
        return b""
    named = functions_by_address(descriptor)
    starts = sorted(named)
    # The tables of numbers that libraries for cryptography have in their code are none.
    undescribed = [gap for gap in gaps if bisect_left(starts, gap[0]) != bisect_left(starts, gap[1])]
    if _size(undescribed) < LEAST_BYTES:
        return b""
    try:
        return "\n".join(_lines(list(frames_of(descriptor, named, undescribed).known()), base)).encode()
    except TooMuch:
        return b""


def _size(intervals: list[Interval]) -> int:
    return sum(end - start for start, end in intervals)


def functions_by_address(descriptor: int) -> dict[int, str]:
    """The functions that a file names, of both tables."""
    return {each.address: each.name for table in SYMBOLS for each in functions(descriptor, table) if each.address}


def frames_of(descriptor: int, named: dict[int, str], undescribed: list[Interval]) -> CodeFrames:
    """What can be read from a file's code in some intervals of addresses, from functions with names.

    Raises:
        ELFError: the file is no ELF file, or damaged.
    """
    linkage = Linkage(descriptor)
    no_return = {address for names in (named, linkage.slots) for address, name in names.items() if name in NO_RETURN}
    return CodeFrames(linkage.read, named, no_return, Intervals(undescribed))


def _gaps(code: list[Interval], text: bytes, base: int) -> list[Interval]:
    """The code that the text says nothing of, but for what is padding between functions."""
    described = [(start + base, size) for start, size in described_code(text)]
    gaps: list[Interval] = []
    for start, end in code:
        at = start
        for first, size in described:
            if at < first - LEAST_GAP and first < end:
                gaps.append((at, first))
            if first < end:
                at = max(at, first + size)
        if at < end - LEAST_GAP:
            gaps.append((at, end))
    return gaps


def _lines(known: list[Known], base: int) -> Iterator[str]:
    """One description for each run of instructions with one rule: no rule goes away within it."""
    runs: list[tuple[int, int, str]] = []
    for each in known:
        rule = rule_of(each.frame)
        if runs and runs[-1][1] == each.start and runs[-1][2] == rule:
            runs[-1] = (runs[-1][0], each.end, rule)
        else:
            runs.append((each.start, each.end, rule))
    for (start, end, rule), (following, _, _) in pairwise([*runs, (1 << 64, 0, "")]):
        if end > following:
            continue  # two ways to read the same bytes
        yield f"STACK CFI INIT {start - base:x} {end - start:x} {rule}"
        if (gap := min(following - end, PADDING)) > 0:
            yield f"STACK CFI INIT {end - base:x} {gap:x} {NO_RULE}"


def rule_of(frame: Frame) -> str:
    """A frame in the form of symbolic's text: by the frame pointer where that leads into the frame, as compilers do."""
    start = f"$rsp {frame.stack} +" if frame.pointer is None else f"$rbp {frame.pointer} +"
    saved = f" $rbp: .cfa -{frame.saved} + ^" if frame.saved else ""
    return f".cfa: {start} .ra: .cfa -8 + ^{saved}"
