"""Where frames lie in code that nothing describes, read from the machine code of x86-64 without running it.

musl's C library has no call frame information. From each entry the code is followed both ways at every branch, with
what is known there: how far the stack pointer is from the frame's start, what the frame pointer is, and where the
caller's was saved. Where two ways come together and say different things, or an instruction does what is not known
here, nothing is known from there on: then there is no row, and none is wrong.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import capstone

from diagnosis.target.parser.stack_effects import ENTERED, Effect, Frame, after, effect_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# musl's whole C library has 100,000 instructions, and takes a second.
MAX_INSTRUCTIONS = 200_000
_CHUNK_BYTES = 64
_PIECE_BYTES = 1 << 16
_LONGEST_INSTRUCTION = 15
_RELATIVE = (Effect.ADDRESS, Effect.CALL, Effect.UNKNOWN_JUMP)
_PLACE = re.compile(r"(?:qword ptr|r\w+,) \[rip ([+-]) (0x[0-9a-f]+|\d+)\]")
_JUMPS = (Effect.JUMP, Effect.BRANCH)

Interval = tuple[int, int]


class Known(NamedTuple):
    """An instruction's first byte, the one behind it, and the frame before it is executed."""

    start: int
    end: int
    frame: Frame


class TooMuch(Exception):  # noqa: N818 - not an error: such a file has no rows
    """There is more code than is looked through."""


class _Instruction(NamedTuple):
    end: int
    effect: Effect
    argument: int
    target: int | None  # of a jump or call; through a table, where in that; an address that is taken
    goes_on: bool


class Intervals:
    """Addresses in some intervals of them, which are sorted and do not overlap."""

    def __init__(self, intervals: Iterable[Interval]) -> None:
        self._all = sorted(intervals)
        self._starts = [start for start, _ in self._all]

    def __iter__(self) -> Iterator[Interval]:
        return iter(self._all)

    def __contains__(self, address: int) -> bool:
        i = bisect_right(self._starts, address) - 1
        return i >= 0 and address < self._all[i][1]


class CodeFrames:
    """The frames of one file's code.

    Args:
        read: bytes of the file by address, as many as there are up to a number.
        entries: where functions begin.
        no_return: of them those that never return, and where the table of other files' functions has such a one.
        undescribed: code that has no call frame information. No other code is looked at.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        entries: Iterable[int],
        no_return: Iterable[int],
        undescribed: Intervals,
    ) -> None:
        self._read = read
        self._undescribed = undescribed
        self._disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._decoded: dict[int, _Instruction] = {}
        self._entries = {at for at in entries if at in undescribed}
        self._no_return = set(no_return)
        self._taken: set[int] = set()
        self._calls: dict[int, set[int]] = {}  # of each entry: on whose return its own may hang
        self._frames: dict[int, Frame | None] = {}

    def known(self) -> Iterator[Known]:
        """Every instruction of which the frame is known, by address.

        Raises:
            TooMuch: there is more code than is looked through.
        """
        self._decode_all()
        self._find_entries()
        self._find_who_returns()
        self._follow()
        for address in sorted(self._frames):
            if frame := self._frames[address]:
                yield Known(address, self._decoded[address].end, frame)

    def _find_entries(self) -> None:
        """What is called has an entry, with a name or without one; what has its address taken is mostly one as well."""
        queue, seen = list(self._entries), set(self._entries)
        while queue:
            instruction = self._decode(queue.pop())
            if (
                instruction.effect is Effect.CALL
                and (target := instruction.target) is not None
                and self._is_new(target)
            ):
                self._entries.add(target)
            if (
                instruction.effect is Effect.ADDRESS
                and instruction.target is not None
                and self._is_new(instruction.target)
            ):
                self._taken.add(instruction.target)
            for at in (instruction.target, instruction.end if instruction.goes_on else None):
                if at is not None and at not in seen and self._is_new(at):
                    seen.add(at)
                    queue.append(at)

    def _is_new(self, address: int) -> bool:
        return address in self._undescribed

    def _find_who_returns(self) -> None:
        """Behind a call of a function that never returns there can be anything."""
        unsettled = set(self._entries) - self._no_return
        while unsettled:
            waits = {entry for entry in unsettled if not self._may_return(entry)}
            self._no_return |= waits
            callers = {entry for entry in unsettled - waits if self._calls[entry] & waits}
            if not callers:
                return
            unsettled = callers

    def _may_return(self, entry: int) -> bool:
        queue, seen = [entry], {entry}
        calls = self._calls[entry] = set[int]()
        while queue:
            instruction = self._decode(queue.pop())
            effect = instruction.effect
            if effect is Effect.RETURN or (effect is Effect.UNKNOWN_JUMP and instruction.target not in self._no_return):
                return True
            following = [instruction.end] if instruction.goes_on else []
            if effect is Effect.CALL and instruction.target is not None:
                calls.add(instruction.target)
                if instruction.target in self._no_return:
                    following = []
            elif instruction.target is not None and effect in _JUMPS:
                following.append(instruction.target)
            for at in following:
                if not self._is_new(at):
                    return True  # into another file, or into what is described
                if at not in seen:
                    seen.add(at)
                    queue.append(at)
        return False

    def _follow(self) -> None:
        frames = self._frames
        frames.update(dict.fromkeys(self._entries | self._taken, ENTERED))
        queue, wrong = list(frames), set[int]()
        before: defaultdict[int, list[int]] = defaultdict(list)
        while queue:
            at = queue.pop()
            frame, instruction = frames[at], self._decode(at)
            left = after(frame, instruction.effect, instruction.argument) if frame else None
            if not _is_left(frame) and (instruction.effect is Effect.RETURN or self._jumps_out(instruction)):
                wrong.add(at)
            for to in self._following(instruction):
                before[to].append(at)
                known = to in frames
                met = _together(frames[to], left) if known else left
                if not known or met != frames[to]:
                    frames[to] = met
                    queue.append(to)
        if wrong:
            self._forget(wrong, before)

    def _jumps_out(self, instruction: _Instruction) -> bool:
        """True where it goes to another function's entry, whose return is to this one's caller."""
        return instruction.effect in _JUMPS and instruction.target in self._entries

    def _following(self, instruction: _Instruction) -> Iterator[int]:
        """What can be executed next, of the code that is looked at. Entries are known."""
        if instruction.effect is Effect.CALL and instruction.target in self._no_return:
            return
        ways = (
            instruction.end if instruction.goes_on else None,
            instruction.target if instruction.effect in _JUMPS else None,
        )
        for to in ways:
            if to is not None and to not in self._entries and self._is_new(to):
                yield to

    def _forget(self, wrong: set[int], before: Mapping[int, list[int]]) -> None:
        """Nothing is known of what leads to a return from the middle of a frame, nor of what else follows from that.

        Behind a call that does not return for what it was given there can be another function, which nothing names.
        """
        behind: defaultdict[int, list[int]] = defaultdict(list)
        for to, sources in before.items():
            for at in sources:
                behind[at].append(to)
        leads = self._all_by(before, wrong)
        for at in self._all_by(behind, leads):
            self._frames[at] = None

    @staticmethod
    def _all_by(ways: Mapping[int, list[int]], begins: Iterable[int]) -> set[int]:
        """What can be come to from some instructions, with these."""
        queue, seen = list(begins), set(begins)
        while queue:
            for to in ways.get(queue.pop(), ()):
                if to not in seen:
                    seen.add(to)
                    queue.append(to)
        return seen

    def _decode(self, address: int) -> _Instruction:
        found = self._decoded.get(address)
        if found is None:
            self._decode_from(address, _CHUNK_BYTES)
            found = self._decoded.setdefault(address, _Instruction(address + 1, Effect.NO_CODE, 0, None, goes_on=False))
        return found

    def _decode_from(self, address: int, most: int) -> int:
        """Decode what follows on an address, as far as it was not yet; returns where it was not read on."""
        code = self._read(address, most)
        decoded, at = self._decoded, address
        for at, size, name, operands in self._disassembler.disasm_lite(code, address):
            # An instruction at the end of the piece may be cut off there: it is read again, from its own start.
            if at in decoded or (at != address and at + _LONGEST_INSTRUCTION > address + len(code)):
                return int(at)
            effect, argument, target = effect_of(name, operands)
            if target is None and effect in _RELATIVE and (place := _PLACE.fullmatch(operands)):
                target = at + size + int(place[1] + place[2], 0)
            decoded[at] = _Instruction(at + size, effect, argument, target, effect.goes_on)
        if len(decoded) > MAX_INSTRUCTIONS:
            raise TooMuch
        return max(int(at), address) + 1

    def _decode_all(self) -> None:
        """Decode from one byte to the next what is between: where that is data, what is called there is read anew."""
        for start, end in self._undescribed:
            at = start
            while at < end:
                at = self._decode_from(at, min(_PIECE_BYTES, end - at))


def _is_left(frame: Frame | None) -> bool:
    """True where all is as it was at the entry, or not known."""
    return frame is None or (frame.stack == ENTERED.stack and frame.is_callers)


def _together(one: Frame | None, other: Frame | None) -> Frame | None:
    """What holds on both ways; None where they contradict each other."""
    if one is None or other is None or one.stack != other.stack:
        return None
    pointer = one.pointer if one.pointer == other.pointer else None
    saved = one.saved if one.saved == other.saved else 0
    met = Frame(one.stack, pointer, saved, is_callers=one.is_callers and other.is_callers)
    return met if met.is_useful else None
