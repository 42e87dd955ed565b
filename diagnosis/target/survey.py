"""What one mapped file has of a heap: its allocators' functions, each with the instructions that its probe needs.

All that is read of the file is read here, and what comes out is plain data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from heap_trace import Kind, Probe

from diagnosis.target.families import (
    FIXED_NAMES,
    KNOWN,
    OPERATORS,
    PREFIXED_ENDS,
    find_families,
    same_direction,
)
from diagnosis.target.flow import NO_RETURN, Flow
from diagnosis.target.linkage import Linkage
from diagnosis.target.placement import CODE_BYTES, place

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from heap_trace import Signature

    from diagnosis.target.linkage import Function
    from diagnosis.target.placement import Placement

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
    stream: IO[bytes], name: str, custom: Mapping[str, Signature] | None = None, *, at_entry: bool = False
) -> Survey:
    """Read one ELF file.

    Args:
        stream: the file.
        name: its file name.
        custom: functions of an allocator of the program's own, which come before the known ones.
        at_entry: place each probe at its function's first instruction.

    Raises:
        ELFError: it is no ELF file, or is damaged.
    """
    linkage = Linkage(stream)
    own = custom or {}
    functions = linkage.functions(
        lambda each: each in FIXED_NAMES or each in own or each.endswith(PREFIXED_ENDS) or each in NO_RETURN
    )
    families = find_families(functions.keys())
    wanted = {each: signature for each, signature in own.items() if each in functions}
    labels = ["--allocator"] if wanted else []
    for family in families:
        labels.append(family.name)
        for each, signature in family.functions.items():
            wanted.setdefault(each, signature)
    if not wanted:
        return Survey(linkage.bits)
    surveyor = _Surveyor(linkage, name, functions, wanted, own, at_entry=at_entry)
    probes = surveyor.probes()
    return Survey(linkage.bits, tuple(labels) if probes else (), probes, tuple(surveyor.blind_spots))


class _Surveyor:
    def __init__(
        self,
        linkage: Linkage,
        name: str,
        functions: Mapping[str, Function],
        wanted: Mapping[str, Signature],
        own: Container[str],
        *,
        at_entry: bool,
    ) -> None:
        self._own = own
        self._linkage, self._name, self._functions, self._wanted = linkage, name, functions, wanted
        self._at_entry = at_entry
        self._flow = Flow(linkage, [function.address for each, function in functions.items() if each in NO_RETURN])
        self._by_address: dict[int, Signature] = {}
        for each, signature in wanted.items():
            if not functions[each].indirect:
                self._by_address.setdefault(functions[each].address, signature)
        self.blind_spots: list[str] = []

    def probes(self) -> tuple[PlacedProbe, ...]:
        """One for each address that serves the heap itself."""
        placed: dict[int, PlacedProbe] = {}
        done: set[int] = set()
        for each, signature in self._wanted.items():
            function = self._functions[each]
            if function.indirect:
                self._miss(each, "which code it is, is chosen when it is loaded")
            elif function.address not in done:
                done.add(function.address)
                probe = self._probe(each, signature, function)
                if probe:
                    placed[function.address] = probe
        return tuple(placed.values())

    def _probe(self, name: str, signature: Signature, function: Function) -> PlacedProbe | None:
        code_range = self._linkage.code_range(function.address)
        if code_range is None or self._delegates(name, signature, function.address):
            return None
        exits: tuple[int, ...] = ()
        if signature.throws:
            found = self._exits(name, function.address)
            if found is None:
                return None
            exits = found
        limit = min(CODE_BYTES, function.size) if function.size else CODE_BYTES
        code = self._linkage.read(function.address, limit)
        placement = place(code, self._linkage.machine, arguments=signature.arguments_read, at_entry=self._at_entry)
        offset = self._linkage.offset_of(function.address + placement.delta)
        if offset is None:
            return None
        return PlacedProbe(name, Probe(signature, offset, code_range, exits), placement)

    def _delegates(self, name: str, signature: Signature, address: int) -> bool:
        """True for one that only calls another function of the heap, which is probed in its stead.

        Both would do no harm where the outermost call counts. But a free has no return, so that the inner one would
        look like a second one; and an operator new costs a probe at each of its exits.
        """
        if name in self._own:
            return False  # its block may be a part of the inner one's, behind a header of its own
        if signature.kind is not Kind.FREE and name not in OPERATORS and not signature.throws:
            return False
        if not self._flow.readable:
            return name in OPERATORS and self._name.startswith(_CPP_LIBRARIES)
        return self._flow.ends_in(address, lambda target: target != address and self._serves(target, signature))

    def _serves(self, target: int | str, signature: Signature) -> bool:
        """True where a call leads to a function of the heap that is probed, here or in another file."""
        if isinstance(target, int):
            other = self._by_address.get(target)
        else:
            other = self._wanted.get(target) or KNOWN.get(target)
        return other is not None and same_direction(signature, other)

    def _exits(self, name: str, address: int) -> tuple[int, ...] | None:
        if not self._flow.readable:
            self._miss(name, f"its exits cannot be found in the code of {self._linkage.machine}")
            return None
        exits = self._flow.exits(address)
        offsets = [self._linkage.offset_of(each) for each in exits.addresses]
        if exits.missing or None in offsets:
            self._miss(name, exits.missing or "an exit lies outside its file")
            return None
        return tuple(offset for offset in offsets if offset is not None)

    def _miss(self, name: str, reason: str) -> None:
        self.blind_spots.append(f"{name} of {self._name} is not traced: {reason}")
