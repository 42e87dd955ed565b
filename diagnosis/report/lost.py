"""What a report does not know: every kind is counted, and said in a line with its remedy. Nothing is silently zero."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from heap_trace import KERNEL_FRAMES, MAX_FRAMES, Lost
from heap_trace import Ending as StackEnding

from diagnosis.trace.window import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from diagnosis.target.symbols import SymbolizedStack
    from diagnosis.trace.counts import Counts
    from diagnosis.trace.window import Window

_REMEDIES = {
    Lost.THREAD: "calls were not seen: the kernel had no memory for a thread's state. Free memory, and trace again",
    Lost.RETURN: "calls never returned to their probe: their blocks are missing. Is another tracer at work?",
    Lost.NESTED: "calls may be missing: they were taken for parts of a call that had never returned. Trace again",
    Lost.DECLINED: "calls on a signal's or coroutine's stack are missing: to trace them could have ended the process",
    Lost.READ: "blocks are missing, or not counted to their end: what says so could not be read. Trace again",
    Lost.BLOCKS: "blocks are counted, but not their frees: the table is full. Raise --max-blocks, or use --min-size",
    Lost.FREE: "blocks were handed out again without a free that was seen: they count as freed",
    Lost.STACK: "blocks are counted without their stack, which could not be taken",
    Lost.STACKS: "blocks are counted without their stack: the stack map is full. Trace for a shorter time",
    Lost.FRAMES: "times a stack's frames could not be handed over: it may be shown without them",
    Lost.OLDER: "frees of blocks from before the trace are counted without their function: the table is full",
    Lost.DISCARDED: "heaps were destroyed with their blocks (mi_heap_destroy): these blocks count as outstanding",
    Lost.MAPPING: "mmap or munmap calls are missing: the ring was full. Trace for a shorter time",
}

_COUNTED = (Lost.FREE, Lost.STACK, Lost.STACKS, Lost.FRAMES, Lost.OLDER)

# These are missing from the numbers; all other kinds are missing from the stacks only.
UNCOUNTED = tuple(kind.name.lower() for kind in Lost if kind not in _COUNTED)

SHOWN_FILES = 10

DEEP = "deep_stack"
BROKEN = "broken_stack"

# Stacks that unwind tables did not lead to their thread's start, by how they ended. BROKEN: frame pointers did not.
_CUT_SHORT = {
    StackEnding.NO_TABLE: "at code that says nothing of its frames (generated at run time, or written in assembler)",
    StackEnding.UNREADABLE: "at a place that is no frame: the stack was being switched, or is not intact",
    StackEnding.NOT_LOADED: "at code that was loaded just before, or of which the tables had no room",
    StackEnding.PROBED: "at a return address that another tracer's probe has replaced",
}

EXIT = "exit"
EXEC = "exec"
CHILD = "child"
NAMES = "names"


def count_lost(
    window: Window,
    changes: Mapping[int, Counts],
    symbolized: Mapping[int, SymbolizedStack],
    names: Mapping[str, str],
) -> dict[str, int]:
    """How many of each kind. Stacks that are cut short count once for each allocation under them.

    Args:
        window: what was measured.
        changes: what each stack did in it.
        symbolized: the stacks, with names.
        names: the files whose names are missing, and why: see `Symbolizer.lost_names`.
    """
    return {
        **{kind.name.lower(): count for kind, count in window.lost.items()},
        **count_cut_short([(symbolized[stack], counts.allocations) for stack, counts in changes.items()]),
        EXIT: int(window.ending is Ending.EXITED),
        EXEC: int(window.ending is Ending.EXECED),
        CHILD: len(window.children),
        NAMES: len(names),
    }


def count_cut_short(stacks: Iterable[tuple[SymbolizedStack, int]]) -> dict[str, int]:
    """How much is under stacks that are not whole, by kind, from each stack and what is under it."""
    counted = tuple(stacks)

    def under(wanted: Callable[[SymbolizedStack], bool]) -> int:
        return sum(count for stack, count in counted if wanted(stack))

    return {
        DEEP: under(lambda stack: stack.too_deep),
        BROKEN: under(lambda stack: stack.cut_short and stack.ending is StackEnding.UNKNOWN),
        **{
            cut_short(ending): under(lambda stack, ending=ending: stack.ending is ending)  # type: ignore[misc]
            for ending in _CUT_SHORT
        },
    }


def cut_short(ending: StackEnding) -> str:
    """The name under which stacks are counted that ended so: "no_table_stack"."""
    return f"{ending.name.lower()}_stack"


def explain_names(names: Mapping[str, str]) -> Iterator[str]:
    """A line for each file whose names, or whose lines, are missing, up to `SHOWN_FILES`."""
    for file, reason in itertools.islice(names.items(), SHOWN_FILES):
        yield f"Names or lines of {file} are missing: {reason}. The numbers are not touched by it."
    if len(names) > SHOWN_FILES:
        yield f"Names or lines of {len(names) - SHOWN_FILES:,} more files are missing."


def explain_lost(lost: Mapping[str, int], window: Window, names: Mapping[str, str]) -> Iterator[str]:
    """A line for each kind that is not zero."""
    for kind, remedy in _REMEDIES.items():
        if count := lost[kind.name.lower()]:
            yield f"{count:,} {remedy}."
    kept = f"{MAX_FRAMES}; by frame pointers {KERNEL_FRAMES}"
    yield from explain_cut_short(lost, "allocations", kept)
    yield from _explain_ending(lost, window)
    yield from explain_names(names)


def explain_cut_short(lost: Mapping[str, int], what: str, kept: str) -> Iterator[str]:
    """A line for each kind of stack that is not whole: of what it is the stack, and how many frames are kept."""
    if count := lost[DEEP]:
        yield f"{count:,} {what} have deeper stacks than the frames that are kept ({kept}): the outermost are missing."
    if count := lost[BROKEN]:
        yield (
            f"{count:,} {what} have stacks that are cut short: code in between was built without frame pointers."
            f" Trace it with --unwind auto, or build it with -fno-omit-frame-pointer."
        )
    for ending, where in _CUT_SHORT.items():
        if count := lost[cut_short(ending)]:
            yield f"{count:,} {what} have stacks that are cut short {where}."


def _explain_ending(lost: Mapping[str, int], window: Window) -> Iterator[str]:
    """What came of the process and of its probes meanwhile."""
    if lost[EXIT]:
        by = f" by {window.fatal_signal}, which a probe can have caused" if window.fatal_signal else ""
        yield f"The process ended during the window{by}: the numbers are of the time before."
    if lost[EXEC]:
        yield "The process became another program (exec): the numbers are of the time before. Trace it again."
    if window.detached:
        yield f"The probes were detached after {window.seconds:.1f} s: {window.detached}. The numbers are of that time."
    if window.children:
        pids = ", ".join(map(str, window.children))
        yield f"Child processes have heaps of their own, which are not in these numbers ({pids}). Add --children."
