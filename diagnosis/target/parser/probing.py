"""What a probe on each of an allocator's functions needs to know of its code, read by the parser."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from diagnosis.target.parser.facts import CODE_BYTES
from diagnosis.target.parser.flow import NO_RETURN, Flow
from diagnosis.target.parser.linkage import Linkage
from diagnosis.target.placement import place

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from diagnosis.target.parser.facts import Wanted

# What an object has under such names is a handful; a file that has more is made to.
MAX_FUNCTIONS = 4096


def find_symbols(
    descriptor: int, names: Collection[str], ends: Sequence[str], variables: Collection[str]
) -> dict[str, Any]:
    """The functions of these names, or with these ends to their names, and the variables of these names.

    Raises:
        ELFError: the file is no ELF file.
    """
    linkage = Linkage(descriptor)
    wanted, suffixes = frozenset(names), tuple(ends)
    functions = linkage.functions(lambda name: name in wanted or name.endswith(suffixes))
    return {
        "bits": linkage.bits,
        "machine": linkage.machine,
        "functions": [[name, *symbol] for name, symbol in list(functions.items())[:MAX_FUNCTIONS]],
        "variables": [[name, *symbol] for name, symbol in linkage.variables(frozenset(variables).__contains__).items()],
    }


def look_at_functions(
    descriptor: int, functions: Sequence[Wanted], known: Mapping[str, bool], *, at_entry: bool
) -> list[dict[str, Any]]:
    """For each function where its probe goes, and its exits as file offsets; or why it has none.

    Args:
        descriptor: of the file.
        functions: which.
        known: the names of functions of the heap, wherever they are: True for those that give memory back.
        at_entry: place each probe at its function's first instruction.

    Raises:
        ELFError: the file is no ELF file.
    """
    linkage = Linkage(descriptor)
    no_return = linkage.functions(NO_RETURN.__contains__).values()
    looking = _Looking(linkage, Flow(linkage, [each.address for each in no_return]), functions, known)
    return [looking.at(function, at_entry=at_entry) for function in functions]


class _Looking:
    def __init__(self, linkage: Linkage, flow: Flow, functions: Sequence[Wanted], known: Mapping[str, bool]) -> None:
        self._linkage, self._flow, self._known = linkage, flow, known
        self._frees = {function.address: function.frees for function in reversed(functions)}

    def at(self, function: Wanted, *, at_entry: bool) -> dict[str, Any]:
        if not self._linkage.is_code(function.address):
            return {"skip": "not code"}
        if function.may_delegate and self._delegates(function):
            return {"skip": "delegates"}
        exits: list[int] = []
        if function.throws:
            if not self._flow.readable:
                return {"skip": "hidden", "reason": f"its exits cannot be found in the code of {self._linkage.machine}"}
            found = self._flow.exits(function.address)
            offsets = [self._linkage.offset_of(each) for each in found.addresses]
            exits = [offset for offset in offsets if offset is not None]
            if found.missing or len(exits) < len(offsets):
                return {"skip": "hidden", "reason": found.missing or "an exit lies outside its file"}
        code = self._linkage.read(function.address, min(CODE_BYTES, function.size) if function.size else CODE_BYTES)
        placement = place(code, self._linkage.machine, arguments=function.arguments, at_entry=at_entry)
        offset = self._linkage.offset_of(function.address + placement.delta)
        return {"offset": offset, "exits": exits, "placement": asdict(placement)} if offset else {"skip": "not code"}

    def _delegates(self, function: Wanted) -> bool:
        def is_heap(target: int | str) -> bool:
            frees = self._frees.get(target) if isinstance(target, int) else self._known.get(target)
            return target != function.address and frees is function.frees

        return self._flow.readable and self._flow.ends_in(function.address, is_heap)
