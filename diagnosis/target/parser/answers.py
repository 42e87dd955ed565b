"""Answers of the parser, checked: each has the shape, the types and the size that a right one has."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from heap_trace import TraceError
from heap_trace.unwind import ObjectRows

from diagnosis.base.text import safe_text
from diagnosis.target.parser.client import ParserError
from diagnosis.target.parser.facts import CODE_BYTES, ElfObject, Export, Placement, Segment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diagnosis.target.parser.protocol import Message

MAX_SEGMENTS = 256
MAX_EXPORTS = 1 << 20
MAX_FRAMES = 64
MAX_FUNCTIONS = 4096
MAX_EXITS = 5000
_BUILD_ID = re.compile(r"(?:[0-9a-f]{2}){2,64}|")
# Of one file in a folder: it leads nowhere else.
_FILE_NAME = re.compile(r"(?!\.{1,2}\Z)[^/\0]{1,255}|")
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
    return tuple(_segment(_is(dict, each)) for each in _items(answer.fields.get("segments"), MAX_SEGMENTS))


def _segment(fields: dict[str, Any]) -> Segment:
    offset, address, size = (_number(fields.get(name)) for name in ("offset", "address", "size"))
    return Segment(offset, address, size, executable=_is(bool, fields.get("executable")))


def unwind_rows_of(answer: Message) -> tuple[tuple[Segment, ...], ObjectRows | None]:
    """An object's segments, and its unwind rows, which are the payload; None where it has none.

    Raises:
        ParserError: the answer is none.
    """
    count = _number(answer.fields.get("rows"))
    segments = _segments(answer)
    if not count or not segments:
        return segments, None
    try:
        return segments, ObjectRows.unpack(answer.payload, count)
    except TraceError:
        raise ParserError("the parser gave a wrong answer", lost=True) from None


def placement_of(answer: Message, size: int) -> Placement:
    """Where a probe goes in a function of so many bytes of code.

    Raises:
        ParserError: the answer is none.
    """
    return _placement(answer.fields, size)


def _placement(fields: Mapping[str, Any], size: int) -> Placement:
    delta = _number(fields.get("delta"))
    if delta >= max(size, 1):
        raise ParserError("the parser gave a wrong answer", lost=True)
    return Placement(
        delta,
        safe_text(_is(str, fields.get("instruction"))),
        emulated=_is(bool, fields.get("emulated")),
        reason=safe_text(_is(str, fields.get("reason"))),
    )


@dataclass(frozen=True)
class FoundSymbol:
    """A function or variable of a file. An indirect one is chosen when it is loaded."""

    address: int
    size: int
    indirect: bool


@dataclass(frozen=True)
class FileSymbols:
    """What a file defines of the names that were asked for."""

    bits: int
    machine: str
    functions: Mapping[str, FoundSymbol]
    variables: Mapping[str, FoundSymbol]


@dataclass(frozen=True)
class ProbeAnswer:
    """Where one function's probe goes and by which offsets it leaves; no placement where it has none.

    ``missing`` says why, where it should have one.
    """

    offset: int = 0
    exits: tuple[int, ...] = ()
    placement: Placement | None = None
    missing: str = ""


def symbols_of(answer: Message) -> FileSymbols:
    """The symbols of a file.

    Raises:
        ParserError: the answer is none.
    """
    fields = answer.fields
    return FileSymbols(
        bits=_number(fields.get("bits")),
        machine=safe_text(_is(str, fields.get("machine"))),
        functions=_found(fields.get("functions")),
        variables=_found(fields.get("variables")),
    )


def _found(value: Any) -> dict[str, FoundSymbol]:  # noqa: ANN401
    found = {}
    for each in _items(value, MAX_FUNCTIONS):
        items = _items(each, 4)
        if len(items) != 4:
            raise ParserError("the parser gave a wrong answer", lost=True)
        symbol = FoundSymbol(_number(items[1]), _number(items[2]), _is(bool, items[3]))
        found[_is(str, items[0])] = symbol
    return found


def probes_of(answer: Message, functions: int) -> list[ProbeAnswer]:
    """Where the probes of so many functions go.

    Raises:
        ParserError: the answer is none.
    """
    items = [_is(dict, each) for each in _items(answer.fields.get("probes"), functions)]
    if len(items) != functions:
        raise ParserError("the parser gave a wrong answer", lost=True)
    return [_probe(each) for each in items]


def _probe(fields: Mapping[str, Any]) -> ProbeAnswer:
    if "skip" in fields:
        return ProbeAnswer(missing=safe_text(_is(str, fields.get("reason", ""))))
    return ProbeAnswer(
        _number(fields.get("offset")),
        tuple(_number(each) for each in _items(fields.get("exits"), MAX_EXITS)),
        _placement(_is(dict, fields.get("placement")), CODE_BYTES),
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


def debug_link_of(answer: Message) -> tuple[str, int]:
    """The name of one file, and a checksum; "" for no name.

    Raises:
        ParserError: the answer is none.
    """
    return _text(answer.fields.get("name"), _FILE_NAME), _number(answer.fields.get("checksum"))


def flag_of(answer: Message, name: str) -> bool:
    """A yes or no.

    Raises:
        ParserError: the answer is none.
    """
    return _is(bool, answer.fields.get(name))
