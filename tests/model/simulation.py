"""A made-up thread under a made-up kernel: what really happens, beside what the state machine makes of it.

The thread calls allocating functions from program code, functions nest, jump to each other, are interrupted by signal
handlers on either stack, are left by longjmp, and run as coroutines. The kernel is uprobes' part of it (kernel.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tests.model.kernel import MEMORY_START, TRAMPOLINE, WORD, Kernel, KilledError, store, word

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.model.kernel import Memory

OWN_STACK = (MEMORY_START + 0x4000, MEMORY_START + 0x8000)
# A signal's alternate stacks and the coroutines' stacks, below and above the thread's own.
OTHER_STACKS = (
    (MEMORY_START + 0x0000, MEMORY_START + 0x2000),
    (MEMORY_START + 0x2000, MEMORY_START + 0x4000),
    (MEMORY_START + 0x8000, MEMORY_START + 0xA000),
    (MEMORY_START + 0xA000, MEMORY_START + 0xC000),
)
PROGRAM = 0x5000


@dataclass(frozen=True)
class Object:
    """A mapped object's code."""

    start: int
    end: int


LIBC = Object(0x1000, 0x2000)
WRAPPER = Object(0x3000, 0x4000)


@dataclass(frozen=True)
class Function:
    """A probed function: `jumps_to` another one at its end, or calls functions of its own."""

    probe: int
    code: Object
    calls: tuple[int, ...] = ()
    jumps_to: int = 0
    exit_probed: bool = False


FUNCTIONS = {
    each.probe: each
    for each in (
        Function(1, LIBC, calls=(4, 4)),  # malloc: mmap
        Function(2, LIBC, calls=(5,)),  # realloc: mremap
        Function(3, LIBC, jumps_to=2),  # reallocarray
        Function(4, LIBC),  # mmap
        Function(5, LIBC),  # mremap
        Function(6, WRAPPER, calls=(1,)),  # a preloaded malloc
        Function(7, WRAPPER, jumps_to=2),  # a preloaded realloc
        Function(8, WRAPPER, calls=(4,), exit_probed=True),  # an operator new that allocates by itself
        Function(9, WRAPPER, jumps_to=8, exit_probed=True),  # operator new[]
    )
}


class Model(Protocol):
    """heap_model.c."""

    memory: Memory

    def model_enter(  # noqa: PLR0917 - a C function has no names for its arguments
        self, sp: int, return_address: int, trampoline: int, probe: int, call: int, exit_probed: bool, /
    ) -> int: ...

    def model_leave(self, sp: int, probe: int, hijacked: bool, /) -> int: ...


class LongJumpError(Exception):
    """Control goes to an earlier frame."""

    def __init__(self, target: object) -> None:
        super().__init__()
        self.target = target


@dataclass
class Outcome:
    """What really happened, and what was counted."""

    returned: set[int] = field(default_factory=set)  # the program's own calls that came back
    abandoned: set[int] = field(default_factory=set)  # those that did not
    counted: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    killed: bool = False


class Thread:
    """Runs one random sequence.

    Args:
        model: the compiled state machine.
        random: what to do.
        session: whether a return can be declined; else every probed entry asks for its return.
    """

    def __init__(self, model: Model, random: Random, *, session: bool) -> None:
        self.model, self.random, self.session = model, random, session
        self.memory = model.memory
        self.kernel = Kernel()
        self.outcome = Outcome()
        self.sp = OWN_STACK[1] - 64 * WORD
        self.steps = 40
        self.calls = 0
        self.frames: list[object] = []
        self.stacks = list(OTHER_STACKS)
        self.in_handler = 0

    def run(self) -> Outcome:
        """The sequence, to its end or the process's."""
        try:
            while self.steps > 0:
                self._frame(depth=0)
        except KilledError:
            self.outcome.killed = True
        return self.outcome

    def _frame(self, depth: int) -> None:
        """A function of the program: it calls, is jumped back to, and returns."""
        mark, sp = object(), self.sp
        self.frames.append(mark)
        try:
            while True:
                try:
                    self._statements(depth)
                except LongJumpError as jump:
                    if jump.target is not mark:
                        raise
                    self.sp = sp
                else:
                    return
                finally:
                    del self.frames[self.frames.index(mark) + 1 :]
        finally:
            self.frames.remove(mark)
            self.sp = sp

    def _statements(self, depth: int) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.steps -= 1
            if self.steps <= 0:
                return
            choice = self.random.random()
            if choice < 0.55:
                self._call(self.random.choice((1, 1, 2, 3, 4, 6, 7, 8, 9)), PROGRAM, own=True)
            elif choice < 0.8 and depth < 6:
                self._call_program(depth)
            elif choice < 0.9 and self.stacks and depth < 6:
                self._on_another_stack(lambda: self._frame(depth + 1))
            elif self.frames and self.random.random() < 0.3:
                raise LongJumpError(self.random.choice(self.frames))

    def _call_program(self, depth: int) -> None:
        """Its locals may lie over earlier words of the stack without writing to them."""
        sp = self.sp
        self.sp -= WORD
        store(self.memory, self.sp, PROGRAM + 16)
        self.sp -= WORD * self.random.choice((0, 1, 2, 5, 20))
        if self.sp < OWN_STACK[0] + 0x800 and OWN_STACK[0] <= self.sp < OWN_STACK[1]:
            self.sp = sp
            return
        try:
            self._frame(depth + 1)
        finally:
            self.sp = sp

    def _on_another_stack(self, run: Callable[[], None]) -> None:
        sp, taken = self.sp, self.random.choice(self.stacks)
        self.stacks.remove(taken)
        self.sp = taken[1] - 16 * WORD
        try:
            run()
        finally:
            self.sp = sp
            self.stacks.append(taken)

    def _call(self, probe: int, code: int, *, own: bool) -> None:
        """Call a probed function from some code, in one of several places. A place calls one function only."""
        return_to = code + probe * 16 + self.random.randint(1, 3)
        self.calls += 1
        number = self.calls if own else 0
        self.sp -= WORD
        store(self.memory, self.sp, return_to)
        entry_sp = self.sp
        try:
            self._function(FUNCTIONS[probe], number)
        except LongJumpError:
            if number:
                self.outcome.abandoned.add(number)
            raise
        if self.sp != entry_sp + WORD:
            self.outcome.wrong.append(f"the simulation's stack is off after call {number}")

    def _function(self, function: Function, number: int) -> None:
        """From its entry to its return. `number` is 0 for a call that an allocator makes."""
        entry_sp = self.sp
        wanted = self.model.model_enter(
            entry_sp,
            word(self.memory, entry_sp),
            TRAMPOLINE,
            function.probe,
            number or 1_000_000 + function.probe,
            function.exit_probed,
        )
        if wanted or not (self.session or function.exit_probed):
            self.kernel.prepare_return(self.memory, entry_sp, function.probe)
        self.sp -= WORD * self.random.choice((0, 3, 8))
        frame_sp = self.sp
        for called in function.calls:
            if self.random.random() < 0.5:
                self._interrupt()
                self._call(called, function.code.start, own=False)
                self.sp = frame_sp
        self._interrupt()
        self.sp = entry_sp
        if function.jumps_to:
            self._function(FUNCTIONS[function.jumps_to], number)
            return
        self._return(entry_sp, number, exit_probed=function.exit_probed)

    def _return(self, entry_sp: int, number: int, *, exit_probed: bool) -> None:
        ended: list[int] = []
        if exit_probed:
            ended.append(self.model.model_leave(entry_sp, 0, False))
        target = word(self.memory, entry_sp)
        self.sp = entry_sp + WORD
        if target == TRAMPOLINE:
            # From 6.11 on the trampoline pushes registers, over the word that was the return address, before it enters
            # the kernel: a signal can come in between.
            store(self.memory, entry_sp, 0)
            self.sp = entry_sp - 2 * WORD
            self._interrupt()
            self.sp = entry_sp + WORD
            self.kernel.trampoline(self.sp, lambda probe: ended.append(self.model.model_leave(entry_sp, probe, True)))
        counted = [each for each in ended if each]
        if number:
            self.outcome.returned.add(number)
        if any(each != number for each in counted) or len(counted) > 1:
            self.outcome.wrong.append(f"call {number} returned and {counted} were counted")
        self.outcome.counted.update(counted)

    def _interrupt(self) -> None:
        """Perhaps a signal's handler, here or on an alternate stack; perhaps it does not come back."""
        if self.in_handler >= 2 or self.random.random() > 0.12 or self.steps <= 0:
            return
        self.in_handler += 1
        try:
            if self.stacks and self.random.random() < 0.5:
                self._on_another_stack(self._handler)
            else:
                sp = self.sp
                self.sp -= 40 * WORD
                try:
                    self._handler()
                finally:
                    self.sp = sp
        finally:
            self.in_handler -= 1

    def _handler(self) -> None:
        for _ in range(self.random.randint(1, 2)):
            self.steps -= 1
            self._call(self.random.choice((4, 4, 1)), PROGRAM + 0x100, own=True)
        if self.frames and self.random.random() < 0.25:
            raise LongJumpError(self.random.choice(self.frames))
