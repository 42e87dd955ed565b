"""Puts the harness's results between the marks of docs/EBPF_GUIDE.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_BLOCK = re.compile(r"(<!-- begin: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
# Addresses and numbers, with their signs left: a rerun may change these and nothing else.
_NUMBER = re.compile(r"0x[0-9a-f]+|[+-]?\d[\d,.]*")
_SPACES = re.compile(r"[ -]{2,}")


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """The document with each marked block replaced.

    Args:
        text: the document.
        blocks: by the name in the mark ``<!-- begin: NAME -->``.

    Raises:
        LabError: a mark names no block, or a block has no mark.
    """
    marks = {match[2] for match in _BLOCK.finditer(text)}
    if marks != set(blocks):
        raise LabError(
            f"the guide's marks and the results differ: {', '.join(sorted(marks ^ set(blocks)))}",
            "add the mark <!-- begin: NAME --> to docs/EBPF_GUIDE.md, or take it out",
        )
    return _BLOCK.sub(lambda match: f"{match[1]}{blocks[match[2]]}\n{match[3]}", text)


def shape(text: str) -> str:
    """A text without what may differ from run to run: its numbers, and the spaces that align them."""
    return _SPACES.sub(" ", _NUMBER.sub("N", text))


def code(text: str) -> str:
    """Text as it came from a tool."""
    return f"```text\n{text}\n```"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join(
        [
            f"| {' | '.join(head)} |",
            "|" + "---|" * len(head),
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    )
