"""What the names of a verdict leave open: where the growth divides above the function, and how to get missing names."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from diagnosis.report.site import call_site
from diagnosis.report.wrappers import first_own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from diagnosis.report.report import StackReport
    from diagnosis.report.summary import Verdict
    from diagnosis.target.stack import Frame, SymbolizedStack

# Callers that are named where the growth divides, and the least share that is worth it.
SHOWN_CALLERS = 4
WORTH_A_NAME = 0.02

# As the kernel names mappings that are no file's: of anonymous memory, and of memory that a runtime has named.
MADE_AT_RUN_TIME = ("[anon", "memfd:", "//anon")


def explain_site(verdict: Verdict, stacks: Iterable[StackReport]) -> Iterator[str]:
    """Lines about the function that a verdict names."""
    if not verdict.function:
        return
    ways = [(own, size) for own, size in _ways(verdict, stacks) if size > 0]
    yield from _division(ways)
    innermost = ways[0][0][0] if ways else None
    if innermost and not innermost.function and innermost.module:
        yield _without_names(innermost.module)


def _without_names(module: str) -> str:
    if module.startswith(MADE_AT_RUN_TIME):
        return (
            f"{module} is code that the program made while it ran, as a just-in-time compiler does: no file has its"
            " names. They are read from /tmp/perf-PID.map where the runtime is told to write it."
        )
    return (
        f"{module} has no names: its symbols are stripped. Its distribution's package of debug symbols has them"
        " (Debian: NAME-dbgsym), and so has debuginfod, which is asked where DEBUGINFOD_URLS is set and"
        " debuginfod-find is installed. Build your own without -s and strip."
    )


def name_keeper(verdict: Verdict, stacks: Iterable[StackReport]) -> Verdict:
    """The verdict with the caller that keeps what it takes, where the function and its caller take it for others."""
    ways = [(own, size) for own, size in _ways(verdict, stacks) if [each.name for each in own[1:2]] == [verdict.caller]]
    keeper = _keeper(ways) if verdict.function else ""
    return replace(verdict, summary=f"{verdict.summary} {keeper}") if keeper else verdict


def _ways(verdict: Verdict, stacks: Iterable[StackReport]) -> list[tuple[Sequence[Frame], int]]:
    """The stacks of the function that a verdict names, from that function on, and what each holds."""
    return [
        (own, stack.outstanding_bytes)
        for stack in stacks
        if (own := stack.frames[first_own(stack.frames) :]) and own[0].name == verdict.function
    ]


def say_others(verdict: Verdict, symbolized: Iterable[SymbolizedStack]) -> Verdict:
    """The verdict, with a sentence where other files lay at the addresses of the code that it names.

    A library that was unloaded leaves its addresses to the next: whose call a return address there was is not known.
    """
    found = dict.fromkeys(
        name
        for stack in symbolized
        if stack.others and call_site(stack.frames).function == verdict.function
        for name in stack.others
    )
    if not verdict.function or not found:
        return verdict
    said = f" At its addresses {' and '.join(found)} was mapped as well within the window: the code can be of either."
    return replace(verdict, summary=verdict.summary + said)


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


def _keeper(ways: Sequence[tuple[Sequence[Frame], int]]) -> str:
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
                return f"Of the callers of {node} it is {name} that keeps what it takes: {share}."
            return ""
        depth += 1
    return ""
