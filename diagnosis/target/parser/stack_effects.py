"""What instructions of x86-64 do to a frame, by their text: to the stack pointer and to the frame pointer."""

from __future__ import annotations

import re
from enum import Enum
from functools import cache
from typing import NamedTuple

WORD = 8


class Frame(NamedTuple):
    """Where a frame lies, by distances in bytes down from its start, which is the stack pointer before the call.

    Attributes:
        stack: to the stack pointer; None where that was moved by what is not known.
        pointer: to where the frame pointer's register leads; None where it holds something else.
        saved: to where the caller's frame pointer was saved; 0 where it is not.
        is_callers: the register holds the caller's still, or again.
    """

    stack: int | None
    pointer: int | None
    saved: int
    is_callers: bool

    @property
    def is_useful(self) -> bool:
        """True where the frame's start can be told, and the caller's frame pointer."""
        in_frame = self.stack is None or self.saved <= self.stack
        return (self.stack is not None or self.pointer is not None) and (
            self.is_callers or (self.saved > 0 and in_frame)
        )


ENTERED = Frame(WORD, None, 0, is_callers=True)


class Effect(Enum):
    """What an instruction does; the argument, where it takes one, is in bytes."""

    NONE = "none"
    PUSH = "push"
    PUSH_POINTER = "push %rbp"
    POP = "pop"
    POP_POINTER = "pop %rbp"
    MOVE = "the stack pointer moves down by the argument"
    MOVE_FAR = "the stack pointer moves by what is not known"
    SET_STACK = "the stack pointer is the frame pointer + the argument"
    SET_POINTER = "the frame pointer is the stack pointer + the argument"
    SAVE_POINTER = "the frame pointer is saved at the stack pointer + the argument"
    LOAD_POINTER = "the frame pointer is what lies at the stack pointer + the argument"
    CHANGE_POINTER = "the frame pointer's register gets something else"
    LEAVE = "leave"
    CALL = "call"
    ADDRESS = "an address is taken"
    BRANCH = "branch"
    JUMP = "jump"
    UNKNOWN_JUMP = "a jump to where is not known"
    RETURN = "ret"
    END = "nothing comes after it"
    STRANGE = "not known"
    NO_CODE = "no instruction"

    @property
    def goes_on(self) -> bool:
        """True where the next instruction can come after it."""
        return self not in _LAST


_LAST = frozenset({Effect.JUMP, Effect.UNKNOWN_JUMP, Effect.RETURN, Effect.END, Effect.NO_CODE})

_ENDS = frozenset({"hlt", "ud2", "int3"})
_STRANGE = frozenset(
    {"enter", "iretq", "iretd", "iret", "sysret", "sysretq", "sysexit", "retf", "retfq", "popf", "pushf"}
)
# They read their first operand and write none.
_READS = frozenset({"cmp", "test", "bt", "mul", "div", "idiv", "nop", "prefetcht0", "ucomisd", "comisd"})
_STACK_WORDS = re.compile(r"\b(rsp|esp|sp|spl)\b")
_POINTER_WORDS = re.compile(r"\b(rbp|ebp|bp|bpl)\b")
_BY_STACK = re.compile(r"qword ptr \[rsp(?: ([+-]) (0x[0-9a-f]+|\d+))?\]")
_BY_EITHER = re.compile(r"\[(rsp|rbp)(?: ([+-]) (0x[0-9a-f]+|\d+))?\]")
_NUMBER = re.compile(r"-?(0x[0-9a-f]+|\d+)")
_HALF_REGISTERS = re.compile(r"[a-ds][ixp]|r\d+w|word ptr.*|[c-gs]s")

Understood = tuple[Effect, int, int | None]
_NOTHING: Understood = (Effect.NONE, 0, None)
_UNKNOWN: Understood = (Effect.STRANGE, 0, None)


def effect_of(name: str, operands: str) -> Understood:
    """What an instruction does, its argument, and where it leads, by the text of the disassembler."""
    if name == "lea" and "[rip " in operands:
        return Effect.ADDRESS, 0, None
    if "sp" not in operands and "bp" not in operands and name not in _OTHERS and name[0] not in "jn":
        return _NOTHING
    return _effect_of(name.rsplit(" ", 1)[-1], operands)


_OTHERS = frozenset(
    {
        "push", "pop", "pushfq", "popfq", "call", "ret", "leave", "loop", "loope", "loopne", "rep ret", "repz ret",
        "bnd ret", "bnd call", "bnd jmp", *_ENDS, *_STRANGE,
    }
)  # fmt: skip


_BY_NAME = {
    "ret": Effect.RETURN,
    "leave": Effect.LEAVE,
    **dict.fromkeys(_ENDS, Effect.END),
    **dict.fromkeys(_STRANGE, Effect.STRANGE),
}


@cache
def _effect_of(name: str, operands: str) -> Understood:
    if effect := _BY_NAME.get(name):
        return effect, 0, None
    if name == "call" or name.startswith(("j", "loop")):
        return _of_jump(name, operands)
    if name in ("push", "pop", "pushfq", "popfq"):
        return _of_push_or_pop(name, operands)
    first, _, second = operands.partition(", ")
    if first == "rsp":
        return _of_stack_pointer(name, second)
    if first == "rbp":
        return _of_frame_pointer(name, second)
    return _of_others(name, first, second)


def _of_jump(name: str, operands: str) -> Understood:
    target = int(operands, 16) if operands.startswith("0x") else None
    if name in ("call", "jmp"):
        effect = Effect.CALL if name == "call" else Effect.UNKNOWN_JUMP if target is None else Effect.JUMP
        return effect, 0, target
    return Effect.BRANCH, 0, target


def _of_others(name: str, first: str, second: str) -> Understood:
    if name == "mov" and second == "rbp" and (slot := _BY_STACK.fullmatch(first)):
        return Effect.SAVE_POINTER, _signed(slot[1], slot[2]), None
    if name in ("xchg", "xadd", "cmpxchg"):
        return _UNKNOWN
    if _STACK_WORDS.fullmatch(first) and name not in _READS:
        return _UNKNOWN
    if _POINTER_WORDS.fullmatch(first) and name not in _READS:
        return Effect.CHANGE_POINTER, 0, None
    return _NOTHING


def _signed(sign: str | None, number: str | None) -> int:
    value = int(number or "0", 0)
    return -value if sign == "-" else value


def _of_push_or_pop(name: str, operands: str) -> Understood:
    if _HALF_REGISTERS.fullmatch(operands) or (name == "pop" and _STACK_WORDS.search(operands)):
        return _UNKNOWN
    if operands == "rbp":
        return (Effect.PUSH_POINTER if name == "push" else Effect.POP_POINTER), 0, None
    return (Effect.PUSH if name.startswith("push") else Effect.POP), 0, None


def _of_stack_pointer(name: str, second: str) -> Understood:
    if name in _READS:
        return _NOTHING
    if name in ("add", "sub"):
        if not _NUMBER.fullmatch(second):
            return Effect.MOVE_FAR, 0, None
        return Effect.MOVE, int(second, 0) * (1 if name == "sub" else -1), None
    if name == "mov" and second == "rbp":
        return Effect.SET_STACK, 0, None
    if name == "lea" and (place := _BY_EITHER.fullmatch(second)):
        by = _signed(place[2], place[3])
        return (Effect.MOVE, -by, None) if place[1] == "rsp" else (Effect.SET_STACK, by, None)
    # Aligned, or as large as a variable says, or back to what it was: by the frame pointer it can be told all the same.
    return Effect.MOVE_FAR, 0, None


def _of_frame_pointer(name: str, second: str) -> Understood:
    if name in _READS:
        return _NOTHING
    if name == "mov" and second == "rsp":
        return Effect.SET_POINTER, 0, None
    if name == "lea" and (place := _BY_EITHER.fullmatch(second)) and place[1] == "rsp":
        return Effect.SET_POINTER, _signed(place[2], place[3]), None
    if name == "mov" and (slot := _BY_STACK.fullmatch(second)):
        return Effect.LOAD_POINTER, _signed(slot[1], slot[2]), None
    return Effect.CHANGE_POINTER, 0, None


def after(frame: Frame, effect: Effect, argument: int) -> Frame | None:
    """The frame behind an instruction; None where it is not known any more."""
    if effect in _LEAVES_ALONE:
        return frame
    if effect is Effect.STRANGE:
        return None
    changed = (
        _by_pointer(frame, effect, argument) if frame.stack is None else _by_stack(frame, frame.stack, effect, argument)
    )
    if changed is None or not changed.is_useful or (changed.stack is not None and changed.stack < WORD):
        return None
    return changed


_LEAVES_ALONE = frozenset({Effect.NONE, Effect.ADDRESS, Effect.CALL, Effect.BRANCH, Effect.JUMP})


def _by_stack(frame: Frame, stack: int, effect: Effect, argument: int) -> Frame | None:
    """Where the stack pointer's place is known."""
    if effect in (Effect.PUSH, Effect.PUSH_POINTER):
        saves = effect is Effect.PUSH_POINTER and frame.is_callers and not frame.saved
        return frame._replace(stack=stack + WORD, saved=stack + WORD if saves else frame.saved)
    if effect in _POPS:
        if effect is Effect.POP_POINTER:
            frame = frame._replace(pointer=None, is_callers=stack == frame.saved)
        return _gone(frame._replace(stack=stack + (argument if effect is Effect.MOVE else -WORD)))
    if effect is Effect.SET_POINTER:
        return frame._replace(pointer=stack - argument, is_callers=False)
    if effect is Effect.SAVE_POINTER:
        return frame._replace(saved=stack - argument) if frame.is_callers and not frame.saved else frame
    if effect is Effect.LOAD_POINTER:
        return frame._replace(pointer=None, is_callers=stack - argument == frame.saved)
    return _by_pointer(frame, effect, argument)


_POPS = frozenset({Effect.POP, Effect.POP_POINTER, Effect.MOVE})


def _by_pointer(frame: Frame, effect: Effect, argument: int) -> Frame | None:
    """Where it may not be."""
    if effect is Effect.MOVE_FAR:
        return frame._replace(stack=None)
    if effect is Effect.CHANGE_POINTER:
        return frame._replace(pointer=None, is_callers=False)
    if effect is Effect.SET_STACK and frame.pointer is not None:
        return _gone(frame._replace(stack=frame.pointer - argument))
    if effect is Effect.LEAVE and frame.pointer is not None and frame.pointer == frame.saved:
        return _gone(Frame(frame.pointer - WORD, None, frame.saved, is_callers=True))
    if effect in (Effect.PUSH, Effect.PUSH_POINTER, Effect.POP, Effect.MOVE):
        return frame
    return None


def _gone(frame: Frame) -> Frame:
    """What lies below the stack pointer is not read again."""
    return frame._replace(saved=0) if frame.stack is not None and frame.saved > frame.stack else frame
