"""Call stacks of several processes, by their names: the same code lies at other addresses in each of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from heap_trace import Ending, Older, SizeClass

from diagnosis.target.common_memory import apart
from diagnosis.target.stack import SymbolizedStack
from diagnosis.trace.counts import Counts
from diagnosis.trace.snapshot import Snapshot, Survivors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from heap_trace import Lost, MappingKind

    from diagnosis.target.python_code import PythonStack
    from diagnosis.target.symbols import Symbolizer
    from diagnosis.trace.mapped import MappedRange
    from diagnosis.trace.tracer import Tracer


# Different stacks that have names of their own: as many as are counted apart in one process. Code that was compiled at
# run time is called otherwise in each worker, and a server can recycle those for days.
MAX_NAMED = 1 << 18
NAMELESS = SymbolizedStack((), broken=True, depth=0)


class NamedStacks:
    """Gives each different stack a number, which stands for it in every process.

    ``untold`` stacks came when there were `MAX_NAMED`: they have the number of one without a name.
    """

    def __init__(self) -> None:
        self._numbers: dict[SymbolizedStack, int] = {}
        self._stacks: list[SymbolizedStack] = []
        self._located: dict[tuple[object, Ending, PythonStack | None], int] = {}
        self.untold = 0
        self._lock = Lock()  # of the first two, and of the number

    def number(self, stack: SymbolizedStack) -> int:
        """A stack's number, from 1 on."""
        with self._lock:
            if len(self._stacks) >= MAX_NAMED and stack not in self._numbers:
                self.untold += stack != NAMELESS
                stack = NAMELESS
            if stack not in self._numbers:
                self._stacks.append(stack)
                self._numbers[stack] = len(self._stacks)
            return self._numbers[stack]

    def number_in(
        self,
        symbolizer: Symbolizer,
        addresses: Sequence[int],
        ending: Ending = Ending.UNKNOWN,
        python: PythonStack | None = None,
    ) -> int:
        """The number of a process's stack. What lies in the same places of the same files is named once for all."""
        places = symbolizer.locate(addresses) if addresses else None
        key = places, ending, python
        number = self._located.get(key) if places else None
        if number is None:
            number = self.number(symbolizer.symbolize(addresses, ending, python))
            if places and len(self._located) < MAX_NAMED:
                self._located[key] = number
        return number

    def stack(self, number: int) -> SymbolizedStack:
        """The stack that has a number."""
        return self._stacks[number - 1]


class NamedTracer:
    """One process of several: its tracer and symbolizer, read by the numbers of named stacks.

    ``since`` is when it came, in seconds of the monotonic clock: nothing was counted before. 0: it was there at
    first. What one that came later frees of older blocks it has inherited: its parent has them still.
    """

    def __init__(self, tracer: Tracer, symbolizer: Symbolizer, names: NamedStacks, since: float = 0.0) -> None:
        self.tracer, self.symbolizer = tracer, symbolizer
        self._names = names
        self._known: dict[int, int] = {}
        self._since = since

    def _number(self, stack: int) -> int:
        number = self._known.get(stack)
        if number is None:
            frames = self.tracer.frames(stack)
            number = self._names.number_in(
                self.symbolizer, frames, self.tracer.ending(stack), self.tracer.python(stack)
            )
            if frames:  # else they may come later
                self._known[stack] = number
        return number

    def _numbered(self, counts: Mapping[int, Counts]) -> dict[int, Counts]:
        found: defaultdict[int, Counts] = defaultdict(Counts)
        for stack, each in counts.items():
            number = self._number(stack)
            found[number] = found[number] + each
        return found

    def snapshot(self) -> Snapshot:
        """What every stack of this process had taken and given back."""
        taken = self.tracer.snapshot()
        apart = {kind: self._numbered(counts) for kind, counts in taken.apart.items()}
        if self._since and taken.older:
            taken = replace(taken, older=Older(), older_sizes=())
        return replace(taken, counts=self._numbered(taken.counts), apart=apart)

    def survivors(self, since: Snapshot) -> dict[int, Survivors]:
        """What lives of the blocks that were taken after a snapshot: of one that came later, since it came."""
        fresh = self._since > since.seconds
        found = self.tracer.survivors(replace(since, seconds=self._since) if fresh else since)
        if fresh:
            found = {stack: replace(each, fresh_bytes=each.third_bytes) for stack, each in found.items()}
        return merge_survivors({self._number(stack): each} for stack, each in found.items())

    def older(self) -> dict[int, Older]:
        """Frees of blocks from before the trace, by the function that freed them."""
        if self._since:
            return {}
        return merge_older(
            {self._names.number_in(self.symbolizer, (address,) if address else ()): found}
            for address, found in self.tracer.older().items()
        )

    def ranges(self) -> list[MappedRange]:
        """What was mapped under the trace and still is: at addresses that are `apart`."""
        pid = self.tracer.process.pid
        return [
            replace(each, start=apart(each.start, pid), end=apart(each.end, pid), stack=self._number(each.stack))
            for each in self.tracer.ranges()
        ]


def merge_snapshots(seconds: float, snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sums of what several processes did."""
    counts: defaultdict[int, Counts] = defaultdict(Counts)
    apart: defaultdict[MappingKind, defaultdict[int, Counts]] = defaultdict(lambda: defaultdict(Counts))
    older: Older | None = None
    sizes: tuple[SizeClass, ...] = ()
    untracked = untracked_bytes = 0
    for snapshot in snapshots:
        _add(counts, snapshot.counts)
        for kind, of_kind in snapshot.apart.items():
            _add(apart[kind], of_kind)
        if snapshot.older is not None:
            older = _older_sum(older or Older(), snapshot.older)
        sizes = _size_sums(sizes, snapshot.older_sizes)
        untracked += snapshot.untracked[0]
        untracked_bytes += snapshot.untracked[1]
    return Snapshot(seconds, counts, older, sizes, (untracked, untracked_bytes), apart)


def merge_survivors(found: Iterable[Mapping[int, Survivors]]) -> dict[int, Survivors]:
    """The sums of several processes' survivors, by stack."""
    merged: dict[int, Survivors] = {}
    for survivors in found:
        for stack, each in survivors.items():
            merged[stack] = _survivors_sum(merged[stack], each) if stack in merged else each
    return merged


def merge_older(found: Iterable[Mapping[int, Older]]) -> dict[int, Older]:
    """The sums of several processes' frees of older blocks."""
    merged: dict[int, Older] = {}
    for older in found:
        for key, each in older.items():
            merged[key] = _older_sum(merged.get(key, Older()), each)
    return merged


def merge_lost(found: Iterable[Mapping[Lost, int]]) -> dict[Lost, int]:
    """The sums of what several processes lost."""
    merged: defaultdict[Lost, int] = defaultdict(int)
    for lost in found:
        for kind, count in lost.items():
            merged[kind] += count
    return dict(merged)


def _add(sums: defaultdict[int, Counts], counts: Mapping[int, Counts]) -> None:
    for stack, each in counts.items():
        sums[stack] = sums[stack] + each


def _older_sum(one: Older, other: Older) -> Older:
    return Older(one.frees + other.frees, one.bytes + other.bytes, one.unsized + other.unsized)


def _size_sums(one: tuple[SizeClass, ...], other: tuple[SizeClass, ...]) -> tuple[SizeClass, ...]:
    if not one or not other:
        return one or other
    return tuple(SizeClass(a.frees + b.frees, a.bytes + b.bytes) for a, b in zip(one, other, strict=True))


def _survivors_sum(one: Survivors, other: Survivors) -> Survivors:
    return Survivors(
        one.blocks + other.blocks,
        one.bytes + other.bytes,
        max(one.oldest_seconds, other.oldest_seconds),
        tuple(a + b for a, b in zip(one.third_blocks, other.third_blocks, strict=True)),
        tuple(a + b for a, b in zip(one.third_bytes, other.third_bytes, strict=True)),
        tuple(a + b for a, b in zip(one.fresh_bytes, other.fresh_bytes, strict=True)),
    )
