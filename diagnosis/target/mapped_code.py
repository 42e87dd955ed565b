"""Which mapping an address of code is in: now, or before it was unmapped."""

from __future__ import annotations

import bisect
import time
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diagnosis.target.mapping import Mapping
    from diagnosis.target.process import Process

# Of a program that maps and unmaps code all the time, the ones unmapped last.
MAX_UNMAPPED = 4096

# Seconds that reading the mappings anew may take in all for addresses where none is known, and the share of the time
# after that: of 100,000 mappings one reading takes a tenth of a second, and an astray stack has an address a frame.
FREE_SECONDS = 1.0
SHARE = 0.1


class SeenCode:
    """Where code is or was mapped, as ranges of addresses. One thread adds to it; any may ask."""

    def __init__(self) -> None:
        # Replaced as a whole: who asks meanwhile has the ranges from before.
        self._ranges: tuple[list[int], list[int]] = [], []

    def __len__(self) -> int:
        return len(self._ranges[0])

    def add(self, mappings: Iterable[Mapping]) -> None:
        """Add what is mapped. Ranges that touch are one: a compiler at run time maps its code anew all the time."""
        starts: list[int] = []
        ends: list[int] = []
        added = [(mapping.start, mapping.end) for mapping in mappings]
        for start, end in sorted((*zip(*self._ranges, strict=True), *added)):
            if ends and start <= ends[-1]:
                ends[-1] = max(ends[-1], end)
            else:
                starts.append(start)
                ends.append(end)
        self._ranges = starts, ends

    def holds(self, address: int) -> bool:
        """True where code is or was mapped at an address."""
        starts, ends = self._ranges
        at = bisect.bisect_right(starts, address) - 1
        return at >= 0 and address < ends[at]


class MappedCode:
    """The executable mappings of a process, as they were last read, and some of those before.

    Args:
        process: whose.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._current: list[Mapping] = []
        self._starts: list[int] = []
        self._unmapped: dict[Mapping, None] = {}
        self._unmapped_files: tuple[Mapping, ...] = ()
        self._began = time.monotonic()
        self._spent = 0.0

    @property
    def current(self) -> tuple[Mapping, ...]:
        """What was mapped when it was last read."""
        return tuple(self._current)

    def refresh(self) -> list[Mapping]:
        """Read what is mapped now; returns what was not before. Nothing, where the process has ended."""
        began = time.monotonic()
        try:
            mappings = list(self._process.code_maps())
        except LabError:
            return []  # what was read before is still of use
        before = set(self._current)
        new = [mapping for mapping in mappings if mapping not in before]
        for mapping in self._current if new or len(mappings) != len(before) else ():
            self._unmapped[mapping] = None
        for mapping in mappings:
            self._unmapped.pop(mapping, None)
        while len(self._unmapped) > MAX_UNMAPPED:
            del self._unmapped[next(iter(self._unmapped))]
        self._unmapped_files = tuple(mapping for mapping in self._unmapped if mapping.path.startswith("/"))
        self._current, self._starts = mappings, [mapping.start for mapping in mappings]
        self._spent += time.monotonic() - began
        return new

    @property
    def may_refresh(self) -> bool:
        """False while reading the mappings for unknown addresses would take too large a share of the time."""
        return self._spent < FREE_SECONDS + SHARE * (time.monotonic() - self._began)

    def find(self, address: int) -> Mapping | None:
        """The newest mapping at an address: an older one there has been unmapped since."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at >= 0 and address < self._current[at].end:
            return self._current[at]
        return next((one for one in reversed(self._unmapped) if one.start <= address < one.end), None)

    def others(self, address: int) -> tuple[str, ...]:
        """The names of other files than the newest that were mapped at an address, as far as was seen."""
        if not self._unmapped_files or (found := self.find(address)) is None:
            return ()
        there = (one for one in self._unmapped_files if one.start <= address < one.end and one.file != found.file)
        return tuple(dict.fromkeys(one.name for one in there))
