"""What symbolic reads of a file: its symbols and lines, and its call frame information."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError
from symbolic._lowlevel import ffi
from symbolic.debuginfo import Archive
from symbolic.exceptions import SymbolicError

from diagnosis.target.parser.elf import copy_sections
from diagnosis.target.parser.moved_code import RUNS_PYTHON, moved_parts
from diagnosis.target.parser.protocol import MAX_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from symbolic.symcache import SymCache

# In characters: templates nest, and the start of a name tells most.
MAX_MANGLED = 16_384
MAX_NAME = 4_096
MAX_INLINED = 64

SYMBOL_SECTIONS = (".symtab", ".strtab", ".shstrtab", ".dyn", ".hash", ".gnu.hash", ".note", ".gnu_debuglink")
DEBUG_SECTIONS = (".debug_", ".zdebug_", ".gnu_debugdata")
UNWIND_SECTIONS = (".eh_frame", ".debug_frame")

# One name, file and line.
Place = tuple[str, str, int]


class Symbols:
    """The symbols of one object, most telling first.

    Args:
        descriptors: of separate debug information, if there is such, then of the object itself.
        debug: also lines, and functions put in line.

    Raises:
        SymbolicError, ELFError: the object cannot be read.
    """

    def __init__(self, descriptors: Sequence[int], *, debug: bool) -> None:
        self._caches: list[SymCache] = []
        self.size = 0
        for number, descriptor in enumerate(descriptors, 1):
            try:
                cache = _symcache(descriptor, debug=debug)
            except StopIteration:
                continue  # no symbols to be had here: the frame keeps its module and offset
            except (SymbolicError, ELFError):
                if number == len(descriptors):
                    raise
                continue  # separate debug information that is none
            self._caches.append(cache)
            self.size += len(cache.open_stream().read(MAX_PAYLOAD))  # type: ignore[no-untyped-call]
        self._python = _python_parts(descriptors[-1]) if len(self._caches) == 1 else ()

    def lookup(self, address: int) -> list[Place]:
        """Function, file and line of an address from the object's first segment on, innermost first."""
        for cache in self._caches:
            found = cache.lookup(address)  # type: ignore[no-untyped-call] # symbolic types the rest
            if found:
                return [
                    (_whole(place.symbol or "")[:MAX_MANGLED], (place.full_path or "")[:MAX_NAME], place.line or 0)
                    for place in found[:MAX_INLINED]
                ]
        return [(RUNS_PYTHON, "", 0)] if any(address in part for part in self._python) else []


def frame_information(descriptor: int) -> bytes:
    """All call frame information of a file, in symbolic's text.

    Raises:
        ELFError: it is more than can be answered, or the file is none.
        SymbolicError: it cannot be read.
    """
    memory = ffi.from_buffer("uint8_t[]", copy_sections(descriptor, (*SYMBOL_SECTIONS, *UNWIND_SECTIONS)))
    text = next(Archive.from_bytes(memory).iter_objects()).make_cficache().open_stream().read(MAX_PAYLOAD + 1)
    if len(text) > MAX_PAYLOAD:
        raise ELFError(f"more than {MAX_PAYLOAD:,} bytes of call frame information")
    return bytes(text)


def _python_parts(descriptor: int) -> tuple[range, ...]:
    """Where else than its symbol says the function is that runs Python: a file that cannot be read so has none."""
    try:
        return moved_parts(descriptor, RUNS_PYTHON, lambda: frame_information(descriptor))
    except (SymbolicError, ELFError):
        return ()


def _whole(symbol: str) -> str:
    """The function of a part that the compiler put elsewhere: where all of it has the name of that part, too."""
    return symbol.removesuffix(".cold")


def _symcache(descriptor: int, *, debug: bool) -> SymCache:
    wanted = (*SYMBOL_SECTIONS, *(DEBUG_SECTIONS if debug else ()))
    # symbolic looks into this memory and does not keep it alive: it has to last until the conversion is over.
    memory = ffi.from_buffer("uint8_t[]", copy_sections(descriptor, wanted, () if debug else DEBUG_SECTIONS))
    return next(Archive.from_bytes(memory).iter_objects()).make_symcache()
