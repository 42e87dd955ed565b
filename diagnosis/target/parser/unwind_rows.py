"""The unwind rows of an object file: made in the parser, whose answer is rows and no text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heap_trace.unwind import Code, ObjectRows, RuleKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.target.parser.facts import UnwindFacts

# How far the entry code of a program goes that has no call frame information. It is a dozen instructions.
ENTRY_BYTES = 48

# Rows have addresses of 32 bits.
MAX_ADDRESS = 1 << 32


def make_rows(text: bytes, facts: UnwindFacts) -> ObjectRows:
    """The rows of call frame information as symbolic writes it, and of what that says nothing of.

    Raises:
        TraceError: there is too much code, or too many different rules.
    """
    return ObjectRows(text, [*_returned_to(facts), *_entry(facts)])


def _entry(facts: UnwindFacts) -> Iterator[Code]:
    start = facts.entry - facts.base
    if 0 < start < MAX_ADDRESS:
        yield Code(start, start + ENTRY_BYTES, RuleKind.START, fills_gap=True)


def _returned_to(facts: UnwindFacts) -> Iterator[Code]:
    for code in facts.returned_to:
        start = code.address - facts.base
        if 0 < start < MAX_ADDRESS:
            # A return address is looked up by the byte before it.
            yield Code(start - 1, start + code.size, RuleKind.SIGNAL if code.is_signal else RuleKind.START)
