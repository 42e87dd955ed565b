"""An allocator that only its program knows: its functions, as the user names them."""

from __future__ import annotations

from heap_trace import LAST_ARGUMENT, Kind, Signature

EXAMPLE = "alloc=my_alloc:size=2,free=my_free:ptr=1"

_KINDS = {"alloc": Kind.ALLOCATE, "realloc": Kind.REALLOCATE, "free": Kind.FREE}
# Which arguments each kind can have, with the position that stands for one that is not named (0: it is left out).
_ARGUMENTS = {
    "alloc": {"size": 1, "count": 0, "out": 0},
    "realloc": {"ptr": 1, "size": 2, "count": 0},
    "free": {"ptr": 1},
}
_THROWS = "throws"


def parse_allocator(text: str) -> dict[str, Signature]:
    """The functions of an allocator by their symbols.

    Args:
        text: ``KIND=SYMBOL[:ARGUMENT=POSITION]...`` for each function, with commas between them. KIND is alloc, realloc
            or free. An ARGUMENT is size (bytes), count (multiplies them), ptr (the block) or out (where the block is
            stored, as posix_memalign does); its POSITION counts from 1. ``:throws`` says that a C++ exception can leave
            the function.

    Raises:
        ValueError: what is wrong, what is allowed, and an example.
    """
    functions: dict[str, Signature] = {}
    for part in text.split(","):
        kind, equals, rest = part.strip().partition("=")
        symbol, *arguments = rest.split(":")
        if kind not in _KINDS or not equals:
            raise _wrong(f"'{part.strip()}' begins with none of {', '.join(f'{each}=' for each in _KINDS)}")
        if not symbol or any(each.isspace() for each in symbol):
            raise _wrong(f"'{part.strip()}' names no function: a symbol stands there, as nm prints it")
        if symbol in functions:
            raise _wrong(f"{symbol} is named twice")
        functions[symbol] = _signature(kind, symbol, arguments)
    kinds = {signature.kind for signature in functions.values()}
    if not kinds >= {Kind.ALLOCATE, Kind.FREE}:
        missing = "free" if Kind.ALLOCATE in kinds else "alloc"
        raise _wrong(
            f"it has no {missing}=: blocks that are taken and given back by different allocators look like leaks"
        )
    return functions


def _signature(kind: str, symbol: str, arguments: list[str]) -> Signature:
    allowed = _ARGUMENTS[kind]
    positions: dict[str, int] = {}
    throws = False
    for argument in arguments:
        name, equals, number = argument.partition("=")
        if name == _THROWS and not equals and kind != "free":
            throws = True
        elif name not in allowed:
            names = ", ".join(f"{each}=" for each in allowed)
            raise _wrong(f"{symbol}: '{argument}' is no argument of {kind}=, which has {names}")
        elif name in positions:
            raise _wrong(f"{symbol}: {name}= stands there twice")
        elif not number.isdecimal() or not 1 <= int(number) <= LAST_ARGUMENT:
            raise _wrong(f"{symbol}: '{argument}' is no position: they are 1 to {LAST_ARGUMENT}")
        else:
            positions[name] = int(number)
    given = {**{name: at for name, at in allowed.items() if at}, **positions}
    if len(set(given.values())) < len(given):
        told = ", ".join(f"{name}={at}" for name, at in given.items())
        raise _wrong(f"{symbol}: two arguments at one position ({told})")
    return Signature(
        _KINDS[kind],
        size=given.get("size", 0),
        count=given.get("count", 0),
        pointer=given.get("ptr", 0) or given.get("out", 0),
        stores_result="out" in given,
        throws=throws,
    )


def _wrong(reason: str) -> ValueError:
    return ValueError(f"{reason}. For example: --allocator '{EXAMPLE}'")
