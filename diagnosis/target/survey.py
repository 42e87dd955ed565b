"""What one mapped file has of a heap: its allocators' functions, each with the instructions that its probe needs.

The parser reads the file. Here its names are told apart, and its answers are checked.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from heap_trace import Kind, Probe

from diagnosis.base.errors import LabError
from diagnosis.base.rights import rights_remedy
from diagnosis.base.text import safe_text
from diagnosis.target.families import FIXED_NAMES, KNOWN, OPERATORS, PREFIXED_ENDS, find_families
from diagnosis.target.mapping import DELETED
from diagnosis.target.objects import open_regular, shared_parser
from diagnosis.target.parser.answers import probes_of, symbols_of
from diagnosis.target.parser.client import ParserError
from diagnosis.target.parser.facts import Wanted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from heap_trace import Signature

    from diagnosis.target.parser.answers import FileSymbols, ProbeAnswer
    from diagnosis.target.parser.client import Parser
    from diagnosis.target.parser.facts import Placement

# Where machine code cannot be read: the libraries whose operators are known to call malloc.
_CPP_LIBRARIES = ("libstdc++.so", "libc++.so", "libc++abi.so")


@dataclass(frozen=True)
class PlacedProbe:
    """One probe and the choice behind it."""

    name: str
    probe: Probe
    placement: Placement


@dataclass(frozen=True)
class Survey:
    """One file: its word size, its allocators by name, the probes for them, and what of them cannot be probed."""

    bits: int
    families: tuple[str, ...] = ()
    probes: tuple[PlacedProbe, ...] = ()
    blind_spots: tuple[str, ...] = ()


def survey(
    path: Path,
    name: str,
    custom: Mapping[str, Signature] | None = None,
    *,
    at_entry: bool = False,
    parser: Parser | None = None,
) -> Survey:
    """Look at one file.

    Args:
        path: what to open.
        name: its path, as it is called in an error.
        custom: functions of an allocator of the program's own, which come before the known ones.
        at_entry: place each probe at its function's first instruction.
        parser: reads it; by default the one that the command shares.

    Raises:
        LabError: the file cannot be read or is no ELF.
    """
    own = custom or {}
    file = name.removesuffix(DELETED).rpartition("/")[2]
    asking = parser or shared_parser()
    try:
        descriptor = open_regular(path)
        try:
            symbols = _symbols(asking, descriptor, own)
            families = find_families(symbols.functions.keys())
            wanted = {each: signature for each, signature in own.items() if each in symbols.functions}
            labels = ["--allocator"] if wanted else []
            for family in families:
                labels.append(family.name)
                for each, signature in family.functions.items():
                    wanted.setdefault(each, signature)
            if not wanted:
                return Survey(symbols.bits)
            functions, spots = _functions(wanted, symbols, file, own)
            answers = _look_at(asking, descriptor, functions, wanted, at_entry=at_entry)
        finally:
            os.close(descriptor)
    except ParserError as error:
        raise LabError(
            f"{safe_text(name)} is no readable ELF file ({safe_text(str(error))})",
            "restart the process from an intact file",
        ) from error
    except OSError as error:
        raise LabError(
            f"{safe_text(name)} cannot be read: {error.strerror}", rights_remedy(error, "restart the process")
        ) from error
    probes = []
    for function, answer in zip(functions, answers, strict=True):
        if answer.placement:
            signature = replace(wanted[function.name], encloses=function.name in own)
            probe = Probe(signature, answer.offset, answer.exits)
            probes.append(PlacedProbe(safe_text(function.name), probe, answer.placement))
        elif answer.missing:
            spots.append(_missed(function.name, file, answer.missing))
    return Survey(symbols.bits, tuple(labels) if probes else (), tuple(probes), tuple(spots))


def _symbols(parser: Parser, descriptor: int, own: Collection[str]) -> FileSymbols:
    fields = {"names": sorted({*FIXED_NAMES, *own}), "ends": sorted(PREFIXED_ENDS), "variables": []}
    return symbols_of(parser.ask("symbols", fields, files=[descriptor]))


def _functions(
    wanted: Mapping[str, Signature], symbols: FileSymbols, file: str, own: Collection[str]
) -> tuple[list[Wanted], list[str]]:
    """One function for each address, as the first of its names, and what is said of those that have no code."""
    functions: dict[int, Wanted] = {}
    spots = []
    for name, signature in wanted.items():
        symbol = symbols.functions[name]
        if symbol.indirect:
            spots.append(_missed(name, file, "which code it is, is chosen when it is loaded"))
            continue
        frees = signature.kind is Kind.FREE
        # An allocator that the user names has blocks of its own, which may be parts of the inner one's. Of others both
        # probes would do no harm where the outermost call counts. But a free has no return, so that the inner one would
        # look like a second one; and an operator new costs a probe at each of its exits.
        may_delegate = name not in own and (frees or signature.throws or name in OPERATORS)
        if may_delegate and symbols.machine != "x64" and name in OPERATORS and file.startswith(_CPP_LIBRARIES):
            continue
        functions.setdefault(
            symbol.address,
            Wanted(
                name,
                symbol.address,
                symbol.size,
                signature.arguments_read,
                frees=frees,
                throws=signature.throws,
                may_delegate=may_delegate,
            ),
        )
    return list(functions.values()), spots


def _look_at(
    parser: Parser,
    descriptor: int,
    functions: Sequence[Wanted],
    wanted: Mapping[str, Signature],
    *,
    at_entry: bool,
) -> list[ProbeAnswer]:
    known = {name: signature.kind is Kind.FREE for name, signature in {**KNOWN, **wanted}.items()}
    fields = {"functions": [asdict(function) for function in functions], "known": known, "at_entry": at_entry}
    return probes_of(parser.ask("probes", fields, files=[descriptor]), len(functions))


def _missed(name: str, file: str, reason: str) -> str:
    return f"{safe_text(name)} of {safe_text(file)} is not traced: {safe_text(reason)}"
