"""Reads a saved report. Whoever wrote the file can have written anything: each value is checked before it is used."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from diagnosis.base.errors import LabError
from diagnosis.base.files import read_regular
from diagnosis.base.text import safe_text
from diagnosis.base.units import MIB
from diagnosis.output.document import SCHEMA, Capture, Origin
from diagnosis.report.account import Account, Part
from diagnosis.report.report import Report, ResidentMemory, StackReport, Target
from diagnosis.report.summary import Verdict
from diagnosis.report.timeline import TimelinePoint
from diagnosis.report.verdict import Answer
from diagnosis.target.symbols import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["read_capture", "read_document", "reason_of"]

MAX_BYTES = 256 * MIB
# Lists, objects and the values in them: a report of 65,536 stacks of 30 frames has 16 million.
MAX_VALUES = 24_000_000
# In characters: of a name, a path, a paragraph.
MAX_TEXT = 16_384
# Of a count, or of bytes: more than a machine can address.
MAX_NUMBER = 1 << 60
# Of a list in a list: a stack's frames, a window's notes.
MAX_ITEMS = 1 << 20
MAX_OPTIONS = 256

REMEDY = "write one with: memleak-lab trace --save FILE.json ..."
NEWER = "update memleak-lab, or read it with the one that wrote it"

T = TypeVar("T")


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file: of a limited size and depth, without NaN or infinity. Its values are not checked.

    Raises:
        LabError: it cannot be read, or is none.
    """
    try:
        return _parsed(read_regular(path, MAX_BYTES))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise LabError(f"{path} is no report: {reason_of(error)}", REMEDY) from error


def read_capture(path: Path) -> Capture:
    """A report that was saved.

    Raises:
        LabError: the file cannot be read, is no report, or is one of another version.
    """
    document = read_document(path)
    found = document.get("schema")
    if not isinstance(found, str):
        raise LabError(f"{path} is no report: it has no 'schema'", REMEDY)
    if found != SCHEMA:
        raise LabError(f"{path} is {found!r}, and this version reads {SCHEMA!r}", NEWER if _is_later(found) else REMEDY)
    try:
        return _capture(document)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise LabError(f"{path} is no report: {reason_of(error)}", REMEDY) from error


def _is_later(schema: str) -> bool:
    """Whether a report is of a version that came after this one."""
    kind, _, number = SCHEMA.rpartition("/")
    its_kind, _, its_number = schema.rpartition("/")
    return its_kind == kind and its_number.isascii() and its_number.isdecimal() and int(its_number[:9]) > int(number)


def reason_of(error: Exception) -> str:
    """What is wrong with a file, for who knows JSON and not Python."""
    match error:
        case OSError():
            return error.strerror or str(error)
        case RecursionError():
            return "its lists and objects are nested too deeply"
        case UnicodeDecodeError():
            return f"it is no text: byte {error.start} is no {error.encoding.upper()}"
        case json.JSONDecodeError():
            return _no_json(error)
        case KeyError():
            return f"it has no {error}"
        case _:
            return str(error)


def _no_json(error: json.JSONDecodeError) -> str:
    if not error.doc.strip():
        return "it is empty"
    place = f"line {error.lineno}, column {error.colno}"
    if error.msg.startswith("Unterminated") or error.pos >= len(error.doc.rstrip()):
        return f"it is cut off at {place}"
    return f"it is no JSON at {place}: {error.msg}"


def _parsed(data: bytes) -> dict[str, Any]:
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES:,} values")
    document = json.loads(data, parse_constant=_no_constant)
    if not isinstance(document, dict):
        raise TypeError("it is no JSON object")
    return document


def _capture(document: Mapping[str, Any]) -> Capture:
    verdict = {name: value for name, value in _object(document["verdict"]).items() if name != "leak"}
    window_seconds = _number(document["window_seconds"])
    if window_seconds <= 0:
        raise ValueError(f"window_seconds is {window_seconds:g}: it must be above 0")
    return Capture(
        Report(
            target=_made(Target, document["target"]),
            window_seconds=window_seconds,
            readings=_integer(document["readings"]),
            stacks=_several(document["stacks"], _stack),
            truth=_made(ResidentMemory, document["truth"]),
            account=None if document["account"] is None else _account(document["account"]),
            lost=_counts(document["lost"]),
            notes=_several(document["notes"], _text),
            verdict=_made(Verdict, verdict, answer=lambda value: Answer(_text(value))),
            # Reports of earlier versions have none.
            timeline=_several(document.get("timeline", []), lambda point: _made(TimelinePoint, point)),
        ),
        _origin(document),
    )


def _origin(document: Mapping[str, Any]) -> Origin:
    names = (_object(document["tool"])["version"], *(document[name] for name in ("kernel", "machine", "host")))
    version, kernel, machine, host = map(_text, names)
    started = datetime.fromisoformat(_text(document["started"])).timestamp()
    datetime.fromtimestamp(started, UTC)  # it can be written again: the last hours of the year 9999 cannot
    options = {_text(name): _option(value) for name, value in _object(document["options"], MAX_OPTIONS).items()}
    return Origin(version, kernel, machine, host, started, options)


def _stack(found: object) -> StackReport:
    frames: Callable[[object], object] = lambda value: _several(value, lambda each: _made(Frame, each))  # noqa: E731
    return _made(StackReport, found, frames=frames)


def _account(found: object) -> Account:
    parts: Callable[[object], object] = lambda value: _several(value, lambda each: _made(Part, each))  # noqa: E731
    return _made(Account, found, kinds=parts, anonymous=parts)


# --- values ---


def _made(kind: type[T], found: object, **own: Callable[[object], object]) -> T:
    """A dataclass of the fields of a JSON object, each checked by what the class says of it, or by a check of its own.

    Raises:
        TypeError: a field is missing, or there is one that the class does not have.
        ValueError: a value is of the wrong kind.
    """
    checks = {each.name: own.get(each.name) or _CHECKS[str(each.type)] for each in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in _object(found).items():
        if name not in checks:
            raise TypeError(f"{kind.__name__} has no {safe_text(name)!r}")
        try:
            values[name] = checks[name](value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: {error}") from error
    for each in fields(kind):  # type: ignore[arg-type]
        if each.name not in values and each.default is MISSING and each.default_factory is MISSING:
            raise TypeError(f"{kind.__name__} lacks {each.name!r}")
    return kind(**values)


def _several(found: object, check: Callable[[object], T]) -> tuple[T, ...]:
    if not isinstance(found, list) or len(found) > MAX_ITEMS:
        raise ValueError(f"it must be a list of at most {MAX_ITEMS:,}")
    return tuple(map(check, found))


def _object(found: object, limit: int = MAX_ITEMS) -> dict[str, Any]:
    if not isinstance(found, dict) or len(found) > limit:
        raise ValueError(f"it must be an object of at most {limit:,} values")
    return found


def _counts(found: object) -> dict[str, int]:
    return {_text(name): _integer(value) for name, value in _object(found, MAX_OPTIONS).items()}


def _integer(found: object) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or abs(found) > MAX_NUMBER:
        raise ValueError("it must be a whole number of at most 60 bits")
    return found


def _number(found: object) -> float:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise TypeError("it must be a number")
    if isinstance(found, float) and not math.isfinite(found):  # which takes no int of hundreds of digits
        raise ValueError("it must be a finite number")
    if abs(found) > MAX_NUMBER:
        raise ValueError(f"it must be within {MAX_NUMBER:.0e} of 0")
    return float(found)


def _flag(found: object) -> bool:
    if not isinstance(found, bool):
        raise TypeError("it must be true or false")
    return found


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError("it must be a text")
    return safe_text(found, MAX_TEXT)


def _option(found: object) -> object:
    """The value of an option of the command that made the report."""
    if found is None or isinstance(found, bool):
        return found
    return _number(found) if isinstance(found, float) else _integer(found) if isinstance(found, int) else _text(found)


def _no_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number of JSON")


_CHECKS: Mapping[str, Callable[[object], object]] = {
    "int": _integer,
    "float": _number,
    "bool": _flag,
    "str": _text,
    "float | None": lambda found: None if found is None else _number(found),
}
