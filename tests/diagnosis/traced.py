"""A traced process made of numbers: what `measure` and `build_report` ask of a tracer, a process and a symbolizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heap_trace import Ending, Lost

from diagnosis.target.process import Resident
from diagnosis.target.symbols import Frame, SymbolizedStack
from diagnosis.trace.counts import Counts
from diagnosis.trace.snapshot import Snapshot, Survivors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from diagnosis.target.allocator import Allocator
    from diagnosis.trace.mapped import MappedRange

MIB = 1 << 20
BASE = 100 * MIB
MAIN = 1


class Clock:
    """A clock that moves when somebody waits, and a little at each look at it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        self.now += 1e-6
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return True


@dataclass
class MadeProcess:
    """A process that leaks 1 MiB from one look to the next, until it ends or becomes another program."""

    pid: int = 4711
    command: str = "made up"
    looks: int = 0
    programs: Callable[[int], tuple[str, ...]] = lambda _: ("first",)
    started: tuple[int, ...] = ()
    proc: Path = Path("/proc/none")

    def program(self) -> tuple[str, ...]:
        return self.programs(self.looks)

    def alive(self) -> bool:
        return self.program() != ()

    def resident(self) -> Resident:
        return Resident(BASE + self.looks * MIB, self.looks * MIB)

    def children(self) -> tuple[int, ...]:
        return self.started

    def members(self) -> tuple[int, ...]:
        return (self.pid,)


@dataclass
class MadeTracer:
    """Counts one allocation of 1 MiB a look, under stack 1."""

    process: MadeProcess = field(default_factory=MadeProcess)
    clock: Clock = field(default_factory=Clock)
    stacks: Mapping[int, tuple[int, ...]] = field(default_factory=lambda: {1: (0x10, 0x20, MAIN)})
    endings: Mapping[int, Ending] = field(default_factory=dict)
    allocators: tuple[Allocator, ...] = ()
    notes: tuple[str, ...] = ()
    lost_events: dict[Lost, int] = field(default_factory=lambda: dict.fromkeys(Lost, 0))
    asked_since: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        self.process.looks += 1
        return Snapshot(self.clock.monotonic(), {1: Counts(self.process.looks, self.process.looks * MIB, 0, 0)})

    def survivors(self, since: Snapshot) -> dict[int, Survivors]:
        self.asked_since = since
        return {1: Survivors(1, MIB, 3600.0)}

    def ranges(self) -> list[MappedRange]:
        return []

    def lost(self) -> Mapping[Lost, int]:
        return self.lost_events

    detached = ""

    def set_deadline(self, seconds: float) -> None:
        """Nothing keeps a made-up tracer from its turn."""

    def fatal_signal(self) -> str:
        return ""

    def detach(self) -> None:
        """It has no probes."""

    def frames(self, stack: int) -> tuple[int, ...]:
        return self.stacks.get(stack, ())

    def ending(self, stack: int) -> Ending:
        return self.endings.get(stack, Ending.UNKNOWN)

    def python(self, stack: int) -> None:
        """No Python runs in it."""


class MadeSymbolizer:
    """Address 0x10 is function f10 of the module made.so, `MAIN` is main; 0 leads out of the code."""

    refreshed = 0

    def __init__(self, lost: Mapping[str, str] | None = None) -> None:
        self._lost = lost or {}

    def refresh(self) -> None:
        self.refreshed += 1

    def lost_names(self) -> Mapping[str, str]:
        return self._lost

    def symbolize(
        self, addresses: Sequence[int], ending: Ending = Ending.UNKNOWN, python: None = None
    ) -> SymbolizedStack:
        del python
        good = addresses[: addresses.index(0)] if 0 in addresses else addresses
        names = ["main" if address == MAIN else f"f{address:x}" for address in good]
        frames = tuple(
            Frame(name, "made.so", "made.c", address, address) for name, address in zip(names, good, strict=True)
        )
        broken = len(good) < len(addresses) or not addresses
        return SymbolizedStack(frames, broken=broken, depth=len(addresses), ending=ending)
