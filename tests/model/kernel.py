"""A made-up kernel: the pending returns of one thread, and the rules by which it drops those that it takes for dead.

A return address is replaced by that of a trampoline. After kernel/events/uprobes.c and arch/x86/kernel/uprobes.c:
prepare_uretprobe, cleanup_return_instances, handle_trampoline, arch_uretprobe_is_alive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

WORD = 8
MEMORY_START = 0x100000
TRAMPOLINE = 0x7FFF_FFFF_E000


class Memory(Protocol):
    """The thread's memory, by words."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class KilledError(Exception):
    """The kernel sent SIGILL: a return to the trampoline that it knows nothing of."""


@dataclass
class Instance:
    """A pending return: `chained` where the return address was the trampoline's already."""

    stack: int
    original: int
    probe: int
    chained: bool


@dataclass
class Kernel:
    """Uprobes' bookkeeping of one thread."""

    instances: list[Instance] = field(default_factory=list)

    def prepare_return(self, memory: Memory, sp: int, probe: int) -> None:
        """Replace the return address at `sp`."""
        original = word(memory, sp)
        chained = original == TRAMPOLINE
        while self.instances:
            top = self.instances[-1]
            if sp <= top.stack if chained else sp < top.stack:
                break
            self.instances.pop()
        if chained and not self.instances:
            return  # the kernel warns, and leaves it
        store(memory, sp, TRAMPOLINE)
        self.instances.append(Instance(sp, original, probe, chained))

    def trampoline(self, sp: int, returned: Callable[[int], None]) -> None:
        """The thread has returned to the trampoline, with its stack pointer at `sp`."""
        while True:
            if not self.instances:
                raise KilledError
            chain = []
            while self.instances:
                instance = self.instances.pop()
                chain.append(instance)
                if not instance.chained:
                    break
            if not self.instances or sp <= self.instances[-1].stack:
                for instance in chain:
                    returned(instance.probe)
                return


def word(memory: Memory, address: int) -> int:
    return int(memory[(address - MEMORY_START) // WORD])


def store(memory: Memory, address: int, value: int) -> None:
    memory[(address - MEMORY_START) // WORD] = value
