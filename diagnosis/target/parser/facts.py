"""What the diagnosis needs of an ELF file: its functions, the ways between offsets and addresses, where probes go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heap_trace.unwind import Code


@dataclass(frozen=True)
class Segment:
    """One segment of the file: where its bytes lie in the file and in the object's own address space."""

    offset: int
    address: int
    size: int
    executable: bool


@dataclass(frozen=True)
class Export:
    """One function of the dynamic symbol table: its address in the object, and its size in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class ElfObject:
    """What the diagnosis needs of one ELF file, read once."""

    machine: str
    bits: int
    segments: tuple[Segment, ...]
    exports: dict[str, Export]
    build_id: str

    @property
    def base(self) -> int:
        """The address of the first segment: 0, except in a program that is linked to a fixed address."""
        return self.segments[0].address if self.segments else 0

    def address_of(self, offset: int) -> int | None:
        """The object's own address of a byte of the file, as symbol tables and DWARF use it."""
        for segment in self.segments:
            if segment.offset <= offset < segment.offset + segment.size:
                return offset - segment.offset + segment.address
        return None

    def offset_of(self, address: int) -> int | None:
        """The inverse of `address_of`: what a uprobe is placed by."""
        segment = self.segment_of(address)
        return address - segment.address + segment.offset if segment else None

    def segment_of(self, address: int) -> Segment | None:
        """The segment that holds one of the object's own addresses."""
        return next((each for each in self.segments if each.address <= address < each.address + each.size), None)


# The whole of an allocator function, so that a jump back to its start is seen; an instruction has at most 15 bytes.
CODE_BYTES = 4096


@dataclass(frozen=True)
class Placement:
    """The chosen instruction: its distance from the function's start in bytes, its text, and why it was chosen."""

    delta: int
    instruction: str
    emulated: bool
    reason: str


@dataclass(frozen=True)
class Wanted:
    """A function that may be probed.

    Attributes:
        name: its symbol.
        address: in the file.
        size: of its code in bytes; 0 where the symbol does not say.
        arguments: how many of its first ones the probe reads.
        frees: it gives memory back.
        throws: an exception may leave it, so that its exits are needed.
        may_delegate: it needs no probe where it ends in another function of the heap.
    """

    name: str
    address: int
    size: int
    arguments: int
    frees: bool
    throws: bool
    may_delegate: bool


@dataclass(frozen=True)
class ReturnedTo:
    """Code that functions return to at its first byte: a signal's trampoline, or where a coroutine ends."""

    address: int
    size: int
    is_signal: bool


@dataclass(frozen=True)
class Framed:
    """Code without call frame information that keeps frame pointers, from its first byte to behind its last."""

    start: int
    end: int


@dataclass(frozen=True)
class UnwindFacts:
    """What unwinding needs of an object beside its call frame information. Addresses are the object's own."""

    segments: tuple[Segment, ...]
    entry: int
    returned_to: tuple[ReturnedTo, ...]
    framed: tuple[Framed, ...] = ()
    go: tuple[Code, ...] = ()

    @property
    def base(self) -> int:
        """The address of the first segment, from which addresses in the text count."""
        return self.segments[0].address
