"""The SDK's models as a schema: every field of a decoded dashboard against the type that the SDK declares for it."""

from __future__ import annotations

import enum
import types
import typing
from typing import TYPE_CHECKING, Any, TypeAlias

from grafana_foundation_sdk.cog import variants

if TYPE_CHECKING:
    from collections.abc import Iterator

Hint: TypeAlias = Any


def errors(value: object, hint: Hint, where: str) -> Iterator[str]:
    """Every place where a value is not what its type hint says."""
    origin: Any = typing.get_origin(hint)
    if hint is object or hint is Any:
        return
    if origin in {typing.Union, types.UnionType}:
        yield from _one_of(value, typing.get_args(hint), where)
    elif origin is typing.Literal:
        yield from _expect(value in typing.get_args(hint), value, where, f"one of {typing.get_args(hint)}")
    elif origin in {list, dict}:
        yield from _collection(value, origin, typing.get_args(hint)[-1], where)
    elif hasattr(hint, "from_json") or hint is variants.Dataquery:
        yield from _model(value, hint, where)
    else:
        yield from _plain(value, hint, where)


def _expect(right: bool, value: object, where: str, wanted: str) -> Iterator[str]:
    if not right:
        yield f"{where} is {value!r} and not {wanted}"


def _one_of(value: object, hints: tuple[Hint, ...], where: str) -> Iterator[str]:
    found = [list(errors(value, hint, where)) for hint in hints]
    if all(found):
        yield found[0][0]


def _collection(value: object, kind: type, hint: Hint, where: str) -> Iterator[str]:
    yield from _expect(isinstance(value, kind), value, where, f"a {kind.__name__}")
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from errors(item, hint, f"{where}[{at}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from errors(item, hint, f"{where}.{key}")


def _model(value: object, hint: Hint, where: str) -> Iterator[str]:
    # The SDK leaves a few nested models undecoded.
    decoded = hint.from_json(value) if isinstance(value, dict) else value
    yield from _expect(isinstance(decoded, hint), value, where, f"a {hint.__name__}")
    if isinstance(decoded, hint):
        for name, field in typing.get_type_hints(type(decoded)).items():
            yield from errors(getattr(decoded, name), field, f"{where}.{name}")


def _plain(value: object, hint: type, where: str) -> Iterator[str]:
    if issubclass(hint, enum.Enum):
        right = value in [member.value for member in hint]
    elif hint is float:
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif hint is str:
        right = isinstance(value, str)
    else:
        right = type(value) is hint
    yield from _expect(right, value, where, f"a {hint.__name__}")
