"""Finds the process to trace: which ones of the machine grow, and in which code."""

from __future__ import annotations

import contextlib
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from diagnosis.base.errors import LabError
from diagnosis.faults.growing import GrowingStacks
from diagnosis.faults.growth import GrowthSampler
from diagnosis.report.lost import explain_names
from diagnosis.target.members import own_family
from diagnosis.target.process import PROC, Process
from diagnosis.target.symbols import Symbolizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from diagnosis.faults.growth import TouchedStack

# Less than this in a window is noise: the kernel itself counts resident memory in batches of some dozen pages.
SMALLEST_GROWTH_BYTES = 1 << 20
SHOWN_STACKS = 3

# What is watched live is looked at this often.
LOOK_SECONDS = 1.0


class Growth(NamedTuple):
    """A process that grows, so far. Sizes in bytes."""

    pid: int
    command: str
    held_bytes: int
    growth_bytes: int


@dataclass(frozen=True)
class Grower:
    """A process that grew. Sizes in bytes.

    ``began`` is True where the process began within the window: its growth is then all that it holds.
    """

    pid: int
    command: str
    resident_bytes: int
    growth_bytes: int
    began: bool
    stacks: tuple[TouchedStack, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watch:
    """One watched window: the processes that grew, the ones that grew most first.

    Those that began within the window come after those that were there before: any program takes memory at its start.
    """

    seconds: float
    processes: int
    faults: int
    lost: int
    growers: tuple[Grower, ...]


def all_pids(proc: Path = PROC) -> list[int]:
    """Every process but this one and those that it started."""
    own = own_family(proc)
    return [pid for entry in proc.iterdir() if entry.name.isdecimal() and (pid := int(entry.name)) not in own]


def watch(
    pids: Callable[[], Iterable[int]],
    seconds: float,
    shown: int,
    pause: Callable[[float], bool | None],
    proc: Path = PROC,
    *,
    look: Callable[[Sequence[Growth]], object] | None = None,
) -> Watch:
    """Watch processes for a while.

    Args:
        pids: which ones; asked every second.
        seconds: how long.
        shown: for how many of the processes that grew most the code is looked up.
        pause: waits for a number of seconds; True where the window is to end.
        proc: where procfs is mounted.
        look: called every second with those that grew most so far.

    Raises:
        LabError: page faults cannot be sampled.
    """
    with ExitStack() as stack:
        sampler = GrowthSampler()
        stack.callback(sampler.close)
        own = GrowingStacks(shown, proc)
        stack.callback(own.close)
        before = _resident(pids(), proc)
        began = time.monotonic()
        while (left := began + seconds - time.monotonic()) > 0:
            if pause(min(left, LOOK_SECONDS)):
                break
            growing = _most(before, _resident(pids(), proc), shown, proc)
            if look:
                look(growing)
            if left > LOOK_SECONDS:
                own.look(each.pid for each in growing if each.growth_bytes >= SMALLEST_GROWTH_BYTES)
        window = sampler.read()
        own.read(window)
        after = _resident(pids(), proc)
        took = time.monotonic() - began  # to read a process's tables takes a while
    grown = {pid: size - before.get(pid, 0) for pid, size in after.items()}
    most = sorted(
        (pid for pid, growth in grown.items() if growth >= SMALLEST_GROWTH_BYTES),
        key=lambda pid: (pid not in before, -grown[pid]),
    )
    growers = [_grower(pid, after[pid], grown[pid], own, proc, began=pid not in before) for pid in most[:shown]]
    return Watch(took, len(after), window.totals.faults, window.totals.lost, tuple(filter(None, growers)))


def _resident(pids: Iterable[int], proc: Path) -> dict[int, int]:
    """Bytes that a program holds: anonymous ones, shared ones and swapped ones, and not the files that it reads."""
    found = {}
    for pid in pids:
        try:
            found[pid] = Process(pid, proc).resident().held_bytes
        except LabError:
            continue  # a kernel thread, or it has ended
    return found


def _most(before: Mapping[int, int], after: Mapping[int, int], shown: int, proc: Path) -> list[Growth]:
    """Those that grew most so far."""
    grown = sorted(after, key=lambda pid: before.get(pid, 0) - after[pid])[:shown]
    found = []
    for pid in grown:
        with contextlib.suppress(LabError):  # it has ended meanwhile
            found.append(Growth(pid, Process(pid, proc).command, after[pid], after[pid] - before.get(pid, 0)))
    return [each for each in found if each.growth_bytes > 0]


def _grower(pid: int, resident: int, growth: int, own: GrowingStacks, proc: Path, *, began: bool) -> Grower | None:
    try:
        process = Process(pid, proc)
        with Symbolizer(process) as symbolizer:
            symbolizer.refresh()
            stacks = own.stacks_of(pid, symbolizer)[:SHOWN_STACKS]
            notes = tuple(explain_names(symbolizer.lost_names()))
        return Grower(pid, process.command, resident, growth, began, tuple(stacks), notes)
    except (LabError, FileNotFoundError, ProcessLookupError):
        return None  # it has ended meanwhile
