"""What the names of a verdict leave open: where the growth divides above the function, and how to get missing names."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from diagnosis.report.wrappers import first_own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from diagnosis.report.report import StackReport
    from diagnosis.report.summary import Verdict
    from diagnosis.target.symbols import Frame

# Callers that are named where the growth divides, and the least share that is worth it.
SHOWN_CALLERS = 4
WORTH_A_NAME = 0.02


def explain_site(verdict: Verdict, stacks: Iterable[StackReport]) -> Iterator[str]:
    """Lines about the function that a verdict names."""
    if not verdict.function:
        return
    callers = [
        (own, stack.outstanding_bytes)
        for stack in stacks
        if (own := stack.frames[first_own(stack.frames) :]) and own[0].name == verdict.function
    ]
    ways = [(own, size) for own, size in callers if size > 0]
    yield from _division(ways)
    yield from _keeper([(own, size) for own, size in callers if [each.name for each in own[1:2]] == [verdict.caller]])
    innermost = ways[0][0][0] if ways else None
    if innermost and not innermost.function and innermost.module:
        module = innermost.module
        yield (
            f"{module} has no names: its symbols are stripped. Its distribution's package of debug symbols has them"
            " (Debian: NAME-dbgsym), and so has debuginfod, which is asked where DEBUGINFOD_URLS is set and"
            " debuginfod-find is installed. Build your own without -s and strip."
        )


def _division(ways: Sequence[tuple[Sequence[Frame], int]]) -> Iterator[str]:
    """Where the ways that lead to one function part, and by how much each brings."""
    total = sum(size for _, size in ways)
    depth = 1
    while ways:
        callers: defaultdict[str, int] = defaultdict(int)
        for frames, size in ways:
            callers[frames[depth].name if len(frames) > depth else ""] += size
        if len(callers) > 1:
            most = sorted(callers.items(), key=lambda item: -item[1])
            named = [(name, size) for name, size in most if name and size >= WORTH_A_NAME * total][:SHOWN_CALLERS]
            if len(named) > 1:
                shares = ", ".join(f"{size / total:.0%} from {name}" for name, size in named)
                yield f"The bytes of {ways[0][0][0].name} divide at {ways[0][0][depth - 1].name}: {shares}."
            return
        if "" in callers:
            return
        depth += 1


def _keeper(ways: Sequence[tuple[Sequence[Frame], int]]) -> Iterator[str]:
    """Which caller keeps what it takes where the others free theirs: of a pool, or of an allocator of the program's."""
    total = sum(size for _, size in ways)
    depth = 2
    while total and (names := {frames[depth].name if len(frames) > depth else "" for frames, _ in ways}) != {""}:
        if len(names) > 1:
            bytes_of = dict.fromkeys(names, 0)
            for frames, size in ways:
                bytes_of[frames[depth].name if len(frames) > depth else ""] += size
            name, most = max(bytes_of.items(), key=lambda item: item[1])
            node = ways[0][0][depth - 1].name
            # Of a function that calls itself nobody is told from the others.
            if name and name != node and most > (1 - WORTH_A_NAME) * total:
                share = f"{most / total:.0%} of the bytes"
                yield f"Of the callers of {node} it is {name} that keeps what it takes: {share}."
            return
        depth += 1
