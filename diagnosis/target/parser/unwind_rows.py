"""The unwind rows of an object file: made in the parser, whose answer is rows and no text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from heap_trace.unwind import Code, ObjectRows, RuleKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.target.parser.facts import UnwindFacts

# How far the entry code of a program goes that has no call frame information. It is a dozen instructions.
ENTRY_BYTES = 48

# Rows have addresses of 32 bits.
MAX_ADDRESS = 1 << 32


_DESCRIBED = re.compile(rb"^STACK CFI INIT ([0-9a-f]{1,8}) ([0-9a-f]{1,8}) ", re.MULTILINE)


def described_code(text: bytes) -> list[tuple[int, int]]:
    """The code that call frame information describes, by address: where each part begins, and its bytes."""
    return sorted((int(start, 16), int(size, 16)) for start, size in _DESCRIBED.findall(text))


def make_rows(text: bytes, facts: UnwindFacts) -> ObjectRows:
    """The rows of call frame information as symbolic writes it, and of what that says nothing of.

    Raises:
        TraceError: there is too much code, or too many different rules.
    """
    return ObjectRows(text, [*_returned_to(facts), *_entry(text, facts), *_framed(facts), *_go(facts)])


def _entry(text: bytes, facts: UnwindFacts) -> Iterator[Code]:
    start = facts.entry - facts.base
    if not 0 < start < MAX_ADDRESS:
        return
    # Where _start begins with endbr64, its return address is undefined from the second instruction on: in the text a
    # rule that goes away is never written.
    described = re.search(rb"^STACK CFI INIT %x ([0-9a-f]{1,8}) " % start, text, re.MULTILINE)
    if described and (size := int(described[1], 16)):
        yield Code(start, start + size, RuleKind.START)
    else:
        yield Code(start, start + ENTRY_BYTES, RuleKind.START, fills_gap=True)


def _returned_to(facts: UnwindFacts) -> Iterator[Code]:
    for code in facts.returned_to:
        start = code.address - facts.base
        if 0 < start < MAX_ADDRESS:
            # A return address is looked up by the byte before it.
            yield Code(start - 1, start + code.size, RuleKind.SIGNAL if code.is_signal else RuleKind.START)


def _go(facts: UnwindFacts) -> Iterator[Code]:
    for code in facts.go:
        start, end = code.start - facts.base, code.end - facts.base
        if 0 < start < end < MAX_ADDRESS:
            yield replace(code, start=start, end=end)


def _framed(facts: UnwindFacts) -> Iterator[Code]:
    for code in facts.framed:
        start, end = code.start - facts.base, code.end - facts.base
        if 0 < start < end < MAX_ADDRESS:
            yield Code(start, end, RuleKind.FP, fills_gap=True)
