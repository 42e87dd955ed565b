"""Answers of the parser, checked: each has the shape, the types and the size that a right one has."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, TypeVar

from diagnosis.base.text import safe_text
from diagnosis.target.parser.client import ParserError
from diagnosis.target.parser.facts import ElfObject, Export, Placement, ReturnedTo, Segment, UnwindFacts

if TYPE_CHECKING:
    from diagnosis.target.parser.protocol import Message

MAX_SEGMENTS = 256
MAX_EXPORTS = 1 << 20
MAX_FRAMES = 64
MAX_RETURNED_TO = 64
_BUILD_ID = re.compile(r"(?:[0-9a-f]{2}){2,64}|")
_EXPORT = struct.Struct("<QQ")

T = TypeVar("T")


def _is(kind: type[T], value: Any) -> T:  # noqa: ANN401 - whatever came
    if type(value) is not kind:
        raise ParserError("the parser gave a wrong answer", lost=True)
    return value


def _number(value: Any) -> int:  # noqa: ANN401
    number = _is(int, value)
    if not 0 <= number < 1 << 64:
        raise ParserError("the parser gave a wrong answer", lost=True)
    return number


def _items(value: Any, most: int) -> list[Any]:  # noqa: ANN401
    items = _is(list, value)
    if len(items) > most:
        raise ParserError("the parser gave a wrong answer", lost=True)
    return items


def _text(value: Any, pattern: re.Pattern[str]) -> str:  # noqa: ANN401
    text = _is(str, value)
    if not pattern.fullmatch(text):
        raise ParserError("the parser gave a wrong answer", lost=True)
    return text


def object_of(answer: Message) -> ElfObject:
    """What `read_object` returns.

    Raises:
        ParserError: the answer is none.
    """
    fields = answer.fields
    count = _number(fields.get("count"))
    names = answer.payload[count * _EXPORT.size :].split(b"\0") if count else []
    if count > MAX_EXPORTS or len(names) != count or len(answer.payload) < count * _EXPORT.size:
        raise ParserError("the parser gave a wrong answer", lost=True)
    exports = {}
    numbers = _EXPORT.iter_unpack(answer.payload[: count * _EXPORT.size])
    for encoded, (address, size) in zip(names, numbers, strict=True):
        name = encoded.decode(errors="backslashreplace")
        exports[name] = Export(name, address, size)
    return ElfObject(
        machine=safe_text(_is(str, fields.get("machine"))),
        bits=_number(fields.get("bits")),
        segments=_segments(answer),
        exports=exports,
        build_id=_text(fields.get("build_id"), _BUILD_ID),
    )


def _segments(answer: Message) -> tuple[Segment, ...]:
    return tuple(
        Segment(*(_number(_is(dict, each).get(name)) for name in ("offset", "address", "size")))
        for each in _items(answer.fields.get("segments"), MAX_SEGMENTS)
    )


def unwind_facts_of(answer: Message) -> UnwindFacts:
    """What comes with call frame information, which is the payload: it is text, and read as any text can be.

    Raises:
        ParserError: the answer is none.
    """
    fields = answer.fields
    return UnwindFacts(
        segments=_segments(answer),
        entry=_number(fields.get("entry")),
        returned_to=tuple(
            ReturnedTo(
                _number(_is(dict, each).get("address")), _number(each.get("size")), _is(bool, each.get("is_signal"))
            )
            for each in _items(fields.get("returned_to"), MAX_RETURNED_TO)
        ),
    )


def placement_of(answer: Message, size: int) -> Placement:
    """Where a probe goes in a function of so many bytes of code.

    Raises:
        ParserError: the answer is none.
    """
    fields = answer.fields
    delta = _number(fields.get("delta"))
    if delta >= max(size, 1):
        raise ParserError("the parser gave a wrong answer", lost=True)
    return Placement(
        delta,
        safe_text(_is(str, fields.get("instruction"))),
        emulated=flag_of(answer, "emulated"),
        reason=safe_text(_is(str, fields.get("reason"))),
    )


def places_of(answer: Message, addresses: int) -> list[list[tuple[str, str, int]]] | None:
    """Function, file and line for each address, innermost first; None where the parser has to open the file again.

    Raises:
        ParserError: the answer is none.
    """
    found = answer.fields.get("found")
    if found is None:
        return None
    lists = [_items(each, MAX_FRAMES) for each in _items(found, addresses)]
    if len(lists) != addresses:
        raise ParserError("the parser gave a wrong answer", lost=True)
    return [[_place(each) for each in frames] for frames in lists]


def _place(value: Any) -> tuple[str, str, int]:  # noqa: ANN401
    items = _items(value, 3)
    if len(items) != 3:
        raise ParserError("the parser gave a wrong answer", lost=True)
    return _is(str, items[0]), _is(str, items[1]), _number(items[2])


def names_of(answer: Message, symbols: int) -> list[str]:
    """A name for each symbol.

    Raises:
        ParserError: the answer is none.
    """
    names = [_is(str, each) for each in _items(answer.fields.get("names"), symbols)]
    if len(names) != symbols:
        raise ParserError("the parser gave a wrong answer", lost=True)
    return names


def flag_of(answer: Message, name: str) -> bool:
    """A yes or no.

    Raises:
        ParserError: the answer is none.
    """
    return _is(bool, answer.fields.get(name))
